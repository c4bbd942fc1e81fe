# Decisions on a hot standby: they see a block, a CRL and a change of the trust list as soon as these are replayed, in any
# transaction, and go on after promotion, when the workers start by themselves. And what a session remembers of a
# transaction that it prepared.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $p01 = new_site('p01', code => 'P01', kind => 'primary');
$p01->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($p01, 'copy', has_streaming => 1);
$standby->start;
# COMMIT returns when the standby has replayed it, so nothing below has to wait.
$p01->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply");
$p01->reload;
wait_until($p01, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 'the standby is synchronous', '1');

my $root = ca('Root');
my $known = leaf($root, 'pc1');
my $strange = leaf($root, 'pc2');
my $pc1 = "'11111111-1111-1111-1111-111111111111'";
my $pc2 = "'22222222-2222-2222-2222-222222222222'";
my $add_root = "SELECT cmblock.add_certificate_authority(${\ bytea($root) }, 'off') IS NOT NULL";

sub by_certificate
{
	my ($client, $certificate) = @_;

	return "SELECT concat_ws(' ', allowed, assurance, nullif(array_to_string(reasons, ','), ''), nullif(array_to_string(warnings, ','), ''))"
	  . " FROM cmblock.check_access($client, ${\ bytea($certificate) })";
}

sql($p01, "SELECT cmblock.register_client($pc1, 'pc1'), cmblock.register_client($pc2, 'pc2')");
sql($p01, $add_root);
sql($p01, "SELECT cmblock.register_certificate(${\ bytea($known) }, $pc1)");

# ---------- on the standby ----------
sql_is($standby, 'SELECT pg_is_in_recovery()', 't', 'the standby is one');
sql_is($standby, "SELECT cmblock.is_allowed($pc1)", 't', 'by smsid');
sql_is($standby, by_certificate($pc1, $known), 't full', 'a registered certificate, its chain verified there');
sql_is($standby, by_certificate($pc2, $strange), 't full certificate_unregistered', 'one that is not registered');
sql_is($standby, "SELECT cmblock.is_allowed(certificate => '\\x$known->{sha1}')", 't', 'by SHA-1 thumbprint');
sql_is($standby, "SELECT count(DISTINCT step) FROM cmblock.explain_access($pc1)", '10', 'in words');
sql_fails($standby, "SELECT cmblock.register_certificate(${\ bytea($strange) }, $pc2)",
	'25006', qr/cannot execute register_certificate in a read-only.*HINT:  This server is a standby\. Run the command on the primary/s,
	'registering is for the primary, and the error says so');

# Statements of one session on the standby, between which others run on the primary.
sub session_with
{
	my ($isolation, $query, @changes) = @_;
	my $script = "BEGIN ISOLATION LEVEL $isolation;\n$query;\n";
	my $file = PostgreSQL::Test::Utils::tempdir('changes') . '/change';
	my $n = 0;

	for my $change (@changes)
	{
		my $name = $file . ++$n;
		open my $out, '>', "$name.sql" or die "could not write $name.sql: $!";
		print $out "$change;\n";
		close $out;
		$script .= "\\! psql -XqAt -v ON_ERROR_STOP=1 -d '${\ $p01->connstr('postgres') }' -f $name.sql >$name.log 2>&1\n$query;\n";
	}
	return join(' | ', split(/\n/, $standby->safe_psql('postgres', $script . "COMMIT;\n")));
}

for my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	is( session_with($isolation, "SELECT cmblock.is_allowed($pc1)",
			"SELECT cmblock.block_client($pc1)", "SELECT cmblock.unblock_client($pc1)"),
		't | f | t', "$isolation: a block is seen as soon as it is replayed, and so is its end");
	is( session_with($isolation, by_certificate($pc2, $strange),
			'DELETE FROM cmblock.certificate_authority', $add_root),
		't full certificate_unregistered | f limited certificate_untrusted certificate_unregistered | t full certificate_unregistered',
		"$isolation: so is a change of the trust list");
	is( session_with($isolation, "SELECT cmblock.is_allowed($pc1)", "BEGIN; SELECT cmblock.block_client($pc1); ROLLBACK"),
		't | t', "$isolation: what is rolled back is not");
}

# ---------- two-phase commit ----------
is( sql($p01, <<"END"),
DELETE FROM cmblock.certificate_authority;
${\ by_certificate($pc2, $strange) };
BEGIN;
$add_root;
${\ by_certificate($pc2, $strange) };
PREPARE TRANSACTION 'trust';
${\ by_certificate($pc2, $strange) };
COMMIT PREPARED 'trust';
${\ by_certificate($pc2, $strange) };
BEGIN;
SELECT cmblock.block_client($pc2) IS NOT NULL;
SELECT cmblock.is_allowed($pc2);
PREPARE TRANSACTION 'block';
SELECT cmblock.is_allowed($pc2);
COMMIT PREPARED 'block';
SELECT cmblock.is_allowed($pc2);
END
	join("\n",
		'f limited certificate_untrusted certificate_unregistered', 't', 't full certificate_unregistered',
		'f limited certificate_untrusted certificate_unregistered', 't full certificate_unregistered',
		't', 'f', 't', 'f'),
	'a session forgets what it prepared, until that is committed');
sql_is($standby, "SELECT cmblock.is_allowed($pc2)", 'f', 'and the standby follows');

# ---------- CRLs on the standby ----------
my $issuing = ca('Issuing');
my ($valid, $revoked, $in_delta) = map { leaf($issuing, $_) } ('valid', 'revoked', 'in the delta');

sub by_crl
{
	return "SELECT string_agg(allowed || ' ' || coalesce(reason::text, '-'), ', ' ORDER BY n) FROM (VALUES "
	  . join(', ', map { "($_, ${\ bytea(($valid, $revoked, $in_delta)[$_]) })" } 0 .. 2)
	  . ") v (n, certificate), cmblock.check_access($pc1, v.certificate)";
}

sub take_in
{
	return "SELECT outcome FROM cmblock.import_crl(${\ bytea(crl($issuing, @_)) })";
}

sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($issuing) })");
my $unavailable = 'false crl_unavailable, false crl_unavailable, false crl_unavailable';
sql_is($standby, by_crl(), $unavailable, 'a CA whose CRL is missing');
is(session_with('REPEATABLE READ', by_crl(), take_in(number => 1, revoked => [$revoked]), take_in(number => 2, base => 1, revoked => [$in_delta])),
	"$unavailable | true -, false certificate_revoked, true - | true -, false certificate_revoked, false certificate_revoked",
	'a full CRL and a delta CRL are in force there as soon as they are replayed');
sql_fails($standby, take_in(number => 3), '25006', qr/read-only|recovery/, 'taking one in is for the primary');
$standby->restart;
sql_is($standby, by_crl(), 'true -, false certificate_revoked, false certificate_revoked', 'so after a restart, from its own tables');
wait_until($p01, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 'the standby is synchronous again', '1');

# ---------- promotion ----------
# Both workers have something to do there.
sql($p01, "SELECT cmblock.add_crl_distribution_point('$issuing->{sha256}', 'http://127.0.0.1:1/issuing.crl')");
sql($p01, "SELECT cmblock.add_site('S01', 'secondary', 'P01')");
sql($p01, "CREATE SERVER s01 FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host '127.0.0.1', port '1'); CREATE USER MAPPING FOR postgres SERVER s01 OPTIONS (user 'p01_link')");
sql($p01, "SELECT cmblock.link_site('S01', 's01')");
sql_is($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'cmblock%'", '0', 'a standby has no workers');
sql($p01, "SELECT cmblock.block_client($pc1)");
$p01->stop('immediate');
$standby->promote;
sql_is($standby, "SELECT cmblock.is_allowed($pc1)", 'f', 'a block outlives its server');
sql_fails($standby, "SELECT cmblock.unblock_client($pc1)", '55000', qr/has not compared with its neighbours yet/,
	'it may have lost the last commits, which a neighbour may have');
sql($standby, 'SELECT cmblock.accept_restored_state()');
sql_is($standby, "SELECT cmblock.unblock_client($pc1)", 'unblocked', 'the promoted standby is the site');
sql_is($standby, by_certificate($pc1, $known), 't full', 'and decides');
sql_is($standby, by_crl(), 'true -, false certificate_revoked, false certificate_revoked', 'with the CRLs');
foreach my $worker ('launcher', 'replicator', 'refresher')
{
	wait_until($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock $worker'", "its $worker starts by itself", '1');
}

done_testing();
