# pg_upgrade takes a site along: the same rows, history, CRLs, marks and decisions, and afterwards its workers start by
# themselves, compare with the neighbours once, since the cluster is another one, and go on. No worker runs while
# pg_upgrade does.
#
# PG_CONFIG_OLD names an older server that has the extension, too. Without it the server is upgraded to its own version,
# which takes the same way: the schema is dumped and restored, the files of the tables are taken over.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use File::Basename;
use PostgreSQL::Test::Utils;
use Test::More;

my $old_config = $ENV{PG_CONFIG_OLD} || undef;
my @old_path = $old_config ? (install_path => dirname(dirname($old_config))) : ();
# PostgreSQL 18 makes checksums by default, and both have to agree.
my @init = (init => ['--data-checksums']);

my $old = new_site('old', code => 'P01', kind => 'primary', hierarchy => hierarchy_uuid, @old_path, @init);
my $s01 = new_site('s01', code => 'S01', kind => 'secondary', hierarchy => hierarchy_uuid, parent => 'P01');
my $new = new_site('new', start => 0, @init);

note 'from ' . $old->safe_psql('postgres', 'SHOW server_version') . ' to ' . $s01->safe_psql('postgres', 'SHOW server_version');

# ---------- something of everything ----------
my $ca = ca('Root');
my ($good, $revoked, $delta_revoked, $media) = map { leaf($ca, $_) } ('good', 'revoked', 'in the delta', 'boot media');
my $number_2 = crl($ca, number => 2, revoked => [$revoked]);

sub client { return sprintf("'GUID:00000000-0000-0000-0000-%012d'", shift) }

sql($old, $_) foreach (
	"SELECT cmblock.add_site('S01', 'secondary', 'P01')",
	"SELECT cmblock.add_certificate_authority(${\ bytea($ca) })",
	"SELECT cmblock.add_crl_distribution_point('$ca->{sha256}', 'http://127.0.0.1:1/root.crl')",
	(map { "SELECT cmblock.register_client(@{[ client($_) ]}, 'pc$_', hardware_id => 'hw$_')" } 1 .. 5),
	"SELECT cmblock.register_certificate(${\ bytea($good) }, @{[ client(1) ]})",
	"SELECT cmblock.register_certificate(${\ bytea($revoked) }, @{[ client(2) ]})",
	"SELECT cmblock.register_certificate(${\ bytea($delta_revoked) }, @{[ client(3) ]})",
	"SELECT cmblock.register_certificate(${\ bytea($media) }, type => 'boot_media')",
	"SELECT cmblock.import_crl(${\ bytea($number_2) })",
	"SELECT cmblock.import_crl(${\ bytea(crl($ca, number => 3, base => 2, revoked => [$delta_revoked])) })",
	"SELECT cmblock.block_client(@{[ client(4) ]}, 'stolen', 'T-1')",
	"SELECT cmblock.block_client(@{[ client(5) ]})",
	"SELECT cmblock.unblock_client(@{[ client(5) ]}, 'found')",
	"SELECT cmblock.block_certificate('$media->{sha256}', 'lost')",
	"SELECT cmblock.delete_client(@{[ client(5) ]})",
	"CREATE ROLE alice LOGIN",
	"SELECT cmblock.grant_privilege('alice', 'block_changer')",
	'CREATE TABLE own (site cmblock.site_code, client cmblock.smsid PRIMARY KEY, serial cmblock.certificate_serial, revocation cmblock.revocation)',
	"CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON own FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site('site')",
	"INSERT INTO own VALUES ('P01', @{[ client(1) ]}, '00FF', 'good')");
link_sites($old, 'P01', $s01, 'S01');
wait_until($s01, "SELECT count(*) FROM cmblock.client WHERE blocked", 'the neighbour has the block', '1');

# The workers change the state of links and sources, so both servers are compared without them.
my $preload = "shared_preload_libraries = 'cmblock'";

sub without_workers
{
	my ($node) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	return;
}

# All rows of all tables of the extension, every column, change_xid included, and its sequences, of which pg_upgrade
# forgets how many numbers are logged ahead.
sub contents
{
	my ($node) = @_;
	my @relations = split /\n/, sql($node, <<'END');
SELECT r::regclass FROM pg_extension, unnest(extconfig) r WHERE extname = 'cmblock' ORDER BY 1::text
END

	return join '', map {
		my $columns = /_seq$/ ? 'last_value, is_called' : '*';
		"-- $_\n" . sql($node, "SELECT r FROM (SELECT $columns FROM $_) r ORDER BY r::text") . "\n"
	} @relations, 'own';
}

sub decisions
{
	my ($node) = @_;
	my $question = join ' UNION ALL ', map { "SELECT 'client $_', * FROM cmblock.check_access(@{[ client($_) ]})" } 1 .. 6;

	foreach my $certificate ($good, $revoked, $delta_revoked, $media)
	{
		$question .= " UNION ALL SELECT '$certificate->{cn}', * FROM cmblock.check_access(certificate => ${\ bytea($certificate) })";
	}
	return sql($node, "SELECT what, allowed, assurance, reasons FROM ($question) d (what, allowed, reason, reasons, assurance)");
}

without_workers($old);
my $rows = contents($old);
my $decisions = decisions($old);
my $history = sql($old, 'SELECT intact, events, head FROM cmblock.verify_block_history()');
my $types = sql($old, "SELECT typname, oid FROM pg_type WHERE typnamespace = 'cmblock'::regnamespace AND typtype = 'e' ORDER BY 1");
my $highest = sql($old, 'SELECT max(change_xid::text::bigint) FROM cmblock.client');

like($rows, qr/-- cmblock\.crl_scope\n.+/, 'there are marks');
unlike($rows, qr/-- cmblock\.(?!replication_cursor)\w+\n\n/, 'and rows in every table');
like($decisions, qr/^good\|t\|full/m, 'a certificate is accepted');
like($decisions, qr/^$_\|f\|.*certificate_revoked/m, "one is refused: $_") foreach 'revoked', 'in the delta';
like($history, qr/^t\|5\|/, 'the history is intact');

# ---------- pg_upgrade ----------
$old->append_conf('postgresql.conf', $preload);
$old->stop;
my $bin = $new->config_data('--bindir');
my $debug = '-c log_min_messages=debug1';
command_ok(
	[
		"$bin/pg_upgrade", '--no-sync', '--retain', '-U', 'postgres',
		'-d', $old->data_dir, '-D', $new->data_dir,
		'-b', $old->config_data('--bindir'), '-B', $bin,
		'-p', $old->port, '-P', $new->port, '-s', $new->host,
		'-o', $debug, '-O', $debug ],
	'pg_upgrade, the library preloaded in both servers');
my $logs = join '', map { slurp_file($_) } glob($new->data_dir . '/pg_upgrade_output.d/*/log/*.log');
like($logs, qr/registering background worker "logical replication launcher"|DEBUG:/, 'its servers told what they did');
unlike($logs, qr/background worker "cmblock/, 'which was to start none of the workers');

# ---------- what came along ----------
$new->append_conf('postgresql.conf', "shared_preload_libraries = ''\ncmblock.retry_max = '200ms'");
$new->start;
is(contents($new), $rows, 'equal rows');
is(decisions($new), $decisions, 'equal decisions');
is(sql($new, 'SELECT intact, events, head FROM cmblock.verify_block_history()'), $history, 'the same history');
is(sql($new, "SELECT typname, oid FROM pg_type WHERE typnamespace = 'cmblock'::regnamespace AND typtype = 'e' ORDER BY 1"),
	$types, 'enums are the same types, as rows of a user\'s own tables need them');
sql_is($new, q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger WHERE tgname NOT LIKE 'RI%' AND tgrelid IN (SELECT r FROM pg_extension, unnest(extconfig) r)},
	'A', 'every trigger is on, always');
sql_is($new, q{SELECT has_function_privilege('alice', 'cmblock.block_client(cmblock.smsid, text, text)', 'EXECUTE')}, 't', 'privileges are kept');
sql_is($new, "SELECT count(*) FROM pg_depend WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'cmblock') AND deptype = 'e'",
	sql($s01, "SELECT count(*) FROM pg_depend WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'cmblock') AND deptype = 'e'"),
	'all objects belong to the extension');
sql_fails($new, "SELECT cmblock.import_crl(${\ bytea(crl($ca, number => 1)) })", '55000', qr/older/, 'a CRL from before the highest mark is refused');
sql_fails($new, "SELECT cmblock.block_client(@{[ client(1) ]})", '55000', qr/has not compared with its neighbours yet/,
	'changes wait for the comparison with the neighbours');

# ---------- and the site goes on ----------
$new->append_conf('postgresql.conf', $preload);
$new->restart;
foreach my $worker ('launcher', 'replicator', 'refresher')
{
	wait_until($new, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock $worker'", "the $worker starts by itself", '1');
}
wait_until($new, "SELECT cmblock.block_client(@{[ client(1) ]}, 'after the upgrade')", 'when it has compared, a block', 'blocked');
sql_is($new, "SELECT change_xid::text::bigint > $highest FROM cmblock.client WHERE smsid = @{[ client(1) ]}", 't', 'its transaction is a later one than all before');
sql_is($new, 'SELECT intact, events FROM cmblock.verify_block_history()', 't|6', 'the chain goes on');
wait_for_block($s01, '00000000-0000-0000-0000-000000000001', 1, 'and the neighbour has it');
sql_fails($new, "UPDATE own SET site = 'P02'", '55000', qr/assigned/, 'the guard of one\'s own table stands');
wait_until($new, "SELECT state FROM cmblock.replication_status WHERE neighbour = 'S01'", 'the link is well', 'active');

done_testing();
