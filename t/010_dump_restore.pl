# A dump gives back equal rows although the guard stands on the tables: in every format, the whole database or the data
# alone, with the setting that a superuser makes for it, and only with that.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The source is preloaded; what a dump is restored to has the library only when it asks for it, and is another cluster, so
# that its transaction numbers are others.
my $source = new_site('source', code => 'P01', kind => 'primary', hierarchy => '00000000-0000-0000-0000-00000000c0de', parent => 'CEN');
my $target = new_site('target', preload => 0, extension => 0);

# ---------- something of everything ----------
my $ca = ca('Root');
my ($cert1, $cert2, $media) = (leaf($ca, 'client 1'), leaf($ca, 'client 2'), leaf($ca, 'boot media'));

sub client { return sprintf("'GUID:00000000-0000-0000-0000-%012d'", shift) }

$_->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN') foreach $source, $target;
sql($source, <<"END");
SELECT cmblock.grant_privilege('alice', 'block_changer');
SELECT cmblock.add_site('S01', 'secondary', 'P01');
SELECT cmblock.add_site('S02', 'secondary', 'P01');
SELECT cmblock.retire_site('S02');
SET cmblock.restore = on;
INSERT INTO cmblock.site VALUES ('P02', 'primary', 'CEN', NULL, 1, 'CEN', '1', 'somebody', now());
RESET cmblock.restore;
SELECT cmblock.add_certificate_authority(${\ bytea($ca) });
SELECT cmblock.register_client(@{[ client(1) ]}, 'pc1', approval => 1::smallint, hardware_id => 'hw1');
SELECT cmblock.register_client(@{[ client(2) ]}, E'\\u00fcml\\u00e4ut \\\\N \\t tab', 'mac');
SELECT cmblock.register_client(@{[ client(3) ]}, 'phone', 'mobile_device', approval => 0::smallint);
SELECT cmblock.register_client(@{[ client(4) ]}, 'behind a proxy', isv_proxied => true);
SELECT cmblock.register_certificate(${\ bytea($cert1) }, @{[ client(1) ]});
SELECT cmblock.register_certificate(${\ bytea($cert2) }, @{[ client(2) ]});
SELECT cmblock.register_certificate(${\ bytea($media) }, type => 'boot_media');
SELECT cmblock.block_client(@{[ client(1) ]}, E'stolen\\nin a train', 'T-1');
SELECT cmblock.import_crl(${\ bytea(crl($ca, number => 7, revoked => [$cert2])) });
SELECT cmblock.import_crl(${\ bytea(crl($ca, number => 8, base => 7)) });
BEGIN;
SELECT cmblock.add_crl_distribution_point('$ca->{sha256}', 'http://127.0.0.1:1/root.crl');
UPDATE cmblock.crl_source SET enabled = false; -- so that no worker writes to it
COMMIT;
SELECT cmblock.block_client(@{[ client(2) ]}, '');
SELECT cmblock.unblock_client(@{[ client(2) ]}, 'found');
SELECT cmblock.block_certificate('$media->{sha1}', 'lost');
SELECT cmblock.delete_client(@{[ client(1) ]});
SELECT cmblock.reassign_client(@{[ client(3) ]}, 'P02');
CREATE TABLE own (site cmblock.site_code, note text);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON own FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site('site');
INSERT INTO own VALUES ('P01', 'mine');
SET cmblock.restore = on;
INSERT INTO own VALUES ('P02', 'theirs');
END

my @relations = split /\n/, sql($source, "SELECT r::regclass FROM pg_extension, unnest(extconfig) r WHERE extname = 'cmblock'");

# All rows of all tables of the extension as text, change_xid and every other column; of a sequence, where it is.
sub contents
{
	my ($node, $database) = @_;

	return join '', map {
		my $columns = /_seq$/ ? 'last_value, is_called' : '*';
		"-- $_\n" . $node->safe_psql($database, "SELECT t FROM (SELECT $columns FROM $_) t ORDER BY t::text") . "\n"
	} @relations;
}

my $before = contents($source, 'postgres');
my $head = sql($source, 'SELECT head FROM cmblock.verify_block_history()');
like($before, qr/stolen/, 'there is something to dump');
unlike($before, qr/-- cmblock\.(?!replication_|site_run)\w+\n\n/, 'of every table');

# ---------- dumps ----------
my %dump;
foreach my $what ('full', 'data')
{
	foreach my $format ('plain', 'custom', 'directory')
	{
		$dump{"$what $format"} = "$PostgreSQL::Test::Utils::tmp_check/$what.$format";
		command_ok(
			[
				'pg_dump', '-d', $source->connstr('postgres'), "--format=$format", '-f', $dump{"$what $format"},
				$what eq 'data' ? '--data-only' : ()
			],
			"dump: $what, $format");
	}
}

# Restores a dump into a new database and returns exit status and errors.
sub restore
{
	my ($node, $database, $which, %opt) = @_;
	my ($what, $format) = split ' ', $which;
	my ($stdout, $stderr);
	local $ENV{PGOPTIONS} = $opt{mode} // '';

	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
	$node->safe_psql($database, 'CREATE EXTENSION cmblock; CREATE TABLE own (site cmblock.site_code, note text)') if $what eq 'data';
	my @command =
	  $format eq 'plain'
	  ? ('psql', '-X', '-q', '-d', $node->connstr($database), '-f', $dump{$which}, @{ $opt{options} // [] })
	  : ('pg_restore', '-d', $node->connstr($database), @{ $opt{options} // [] }, $dump{$which});
	my $ok = IPC::Run::run(\@command, '>', \$stdout, '2>', \$stderr);

	return ($ok, $stderr);
}

# ---------- with restore mode ----------
my $n = 0;
foreach my $node ($target, $source)
{
	foreach my $which (sort keys %dump)
	{
		my $where = $which . ($node == $source ? ', library preloaded' : '');
		my $database = 'restored' . ++$n;
		my @options = $which =~ /plain/ ? ('-v', 'ON_ERROR_STOP=1') : ('--exit-on-error');

		# in one transaction, or with two jobs
		push @options, $which =~ /directory/ ? '--jobs=2' : '-1';
		my ($ok, $errors) = restore($node, $database, $which, mode => '-c cmblock.restore=on', options => \@options);
		ok($ok && $errors eq '', "restore: $where") or diag($errors);
		is(contents($node, $database), $before, "equal rows: $where");
	}
}

# ---------- and the site goes on from there ----------
sub in_restored
{
	my ($query, $name, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is($target->safe_psql('restored4', $query), $expected, $name);
}

sub refused
{
	my ($node, $database, $query, $regexp, $name, @more) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($stdout, $stderr);

	$node->psql($database, "\\set VERBOSITY verbose\n$query", stdout => \$stdout, stderr => \$stderr, @more);
	return like($stderr, $regexp, $name);
}

is($dump{'full custom'}, (map { $dump{$_} } sort keys %dump)[3], 'restored4 is of the whole database');
in_restored(q{SELECT intact, events, head = '} . $head . q{' FROM cmblock.verify_block_history()}, 'the history is intact', 't|7|t');
in_restored(q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
	WHERE c.relnamespace = 'cmblock'::regnamespace AND NOT tgisinternal}, 'every trigger of the extension is on, always', 'A');
in_restored(q{SELECT has_function_privilege('alice', 'cmblock.block_client(cmblock.smsid, text, text)', 'EXECUTE')}, 'privileges are kept', 't');
in_restored(q{SELECT cmblock.site_code_in('P01'); SHOW cmblock.restore}, 'restore mode is over with the session', "P01\noff");
refused($target, 'restored4', q{UPDATE cmblock.client SET blocked = true WHERE name = 'phone'}, qr/ERROR:  55000: .*only that site can change it/, 'the guard is in force');
refused($target, 'restored4', 'DELETE FROM cmblock.block_event', qr/ERROR:  42501:/, 'for the history, too');
refused($target, 'restored4', q{UPDATE own SET note = 'x'}, qr/ERROR:  55000:/, 'and for a table of one\'s own');
in_restored("SELECT cmblock.unblock_client(@{[ client(1) ]}, 'after the restore')", 'a command works', 'unblocked');
in_restored(
	"SELECT version, change_xid::text = xmin::text FROM cmblock.client WHERE name = 'pc1'", 'the version goes on, the transaction is of here', '4|t');
in_restored('SELECT intact, events FROM cmblock.verify_block_history()', 'the chain goes on', 't|8');

# ---------- without restore mode ----------
$n = 0;
foreach my $which (sort keys %dump)
{
	my ($ok, $errors) = restore($target, 'refused' . ++$n, $which);

	ok($which =~ /plain/ || !$ok, "refused without restore mode: $which");
	like($errors, qr/ERROR:  table cmblock\.block_event is written by cmblock's own commands only\nHINT:  To restore a dump, a superuser sets cmblock\.restore = on/,
		"and says what to do: $which");
	like($errors, qr/ERROR:  this database is not a site yet\n.*\nHINT:  .* To restore a dump, a superuser sets cmblock\.restore = on/, "for clients, too: $which");
	is( $target->safe_psql(
			"refused$n",
			'SELECT (SELECT count(*) FROM cmblock.this_site), (SELECT count(*) FROM cmblock.site), (SELECT count(*) FROM cmblock.client), (SELECT count(*) FROM cmblock.certificate), (SELECT count(*) FROM cmblock.block_event)'
		),
		'0|0|0|0|0',
		"and nothing came in: $which");
}

# ---------- the setting is nothing for others ----------
$_->safe_psql($_ == $target ? 'restored4' : 'postgres',
	'GRANT USAGE ON SCHEMA cmblock TO mallory; GRANT ALL ON ALL TABLES IN SCHEMA cmblock TO mallory') foreach $source, $target;
{
	local $ENV{PGOPTIONS} = '-c cmblock.restore=on';
	my @as_mallory = (extra_params => [ '-U', 'mallory' ]);

	refused($source, 'postgres', 'SELECT 1', qr/permission denied to set parameter "cmblock\.restore"/, 'preloaded: no connection with it', @as_mallory);
	# Not loaded yet, it is a name like any other; when the guard loads the library, it is taken away.
	foreach my $query (
		"DELETE FROM cmblock.block_event",
		"UPDATE cmblock.this_site SET code = 'P02'",
		"INSERT INTO cmblock.site VALUES ('P09', 'primary', 'CEN', NULL, 1, 'CEN', '1', 'x', now())",
		"DELETE FROM cmblock.client",
		"UPDATE cmblock.client SET version = 99, blocked = false WHERE name = 'phone'",
		"TRUNCATE cmblock.client, cmblock.certificate, cmblock.block_event")
	{
		refused($target, 'restored4', $query, qr/ERROR:  (?:42501|55000):/, "not preloaded: refused all the same: $query", @as_mallory);
	}
	refused($target, 'restored4', 'SELECT cmblock.site_code_in(\'P01\'); SET cmblock.restore = on; DELETE FROM cmblock.client',
		qr/ERROR:  42501: permission denied to set parameter/, 'nor later in the session', @as_mallory);
}

done_testing();
