# Decisions are counted by reason, on a standby and in parallel workers too, and refusals are written to the server log: a
# line each, no more in a second than is wanted, and nothing in it that a requester could have made up.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $p01 = new_site('p01', code => 'P01', kind => 'primary');
my $good = '00000000-0000-0000-0000-000000000001';
my $bad = '00000000-0000-0000-0000-000000000002';

sql($p01, "SELECT cmblock.register_client('$good', 'pc1')");
sql($p01, "SELECT cmblock.register_client('$bad', 'pc2', approval => 0::smallint)");
sql($p01, "SELECT cmblock.block_client('$bad', 'a secret reason')");
sql($p01, "CREATE TABLE many AS SELECT '$bad'::cmblock.smsid AS id FROM generate_series(1, 1000)");
sql($p01, 'ALTER TABLE many SET (parallel_workers = 2)');
sql($p01, 'CREATE DATABASE other TEMPLATE template0');

# Of each reason that occurred: how often.
sub counts
{
	my ($columns) = @_;
	$columns //= 'decisions';

	return "SELECT string_agg(concat_ws(' ', reason, $columns), ', ') FROM cmblock.decision_statistics WHERE decisions > 0";
}

# ---------- counting ----------
sql_is($p01, 'SELECT count(*), sum(decisions), count(DISTINCT stats_reset) FROM cmblock.decision_statistics', '18|0|1', 'nothing is counted yet, and every reason has a row');
sql($p01, "SELECT cmblock.is_allowed('$good', transport => 'http')");
sql($p01, "SELECT cmblock.check_access('$good', transport => 'http', request => 'registration')");
sql($p01, "SELECT cmblock.is_allowed('$bad', transport => 'enhanced_http')");
sql($p01, "SELECT cmblock.check_access('00000000-0000-0000-0000-000000000009')");
sql($p01, "SELECT * FROM cmblock.explain_access('$bad')");
sql_is($p01, counts('decisions, http, enhanced_http, https, registrations'),
	'allowed 2 2 0 0 1, client_unknown 1 0 0 1 0, client_blocked 1 0 1 0 0', 'decisions are counted by their first reason; an explanation is none');
sql_is($p01, "SELECT reason, transport, request, decisions FROM cmblock.decision_counts() WHERE decisions > 0 ORDER BY 1, 3",
	"allowed|http|policy|1\nallowed|http|registration|1\nclient_blocked|enhanced_http|policy|1\nclient_unknown|https|policy|1", 'in detail: by transport and kind of request');
sql_is($p01, "BEGIN; SELECT cmblock.is_allowed('$good', transport => 'http'); ROLLBACK; ${\ counts() }",
	"t\nallowed 3, client_unknown 1, client_blocked 1", 'a decision was made, whatever becomes of the transaction');

my $session = session($p01);
query($session, "SELECT cmblock.is_allowed('$good', transport => 'http') FROM generate_series(1, 10)");
sql_is($p01, counts(), 'allowed 13, client_unknown 1, client_blocked 1', 'other sessions see the counts of one that goes on');
leave($session);
sql_is($p01, counts(), 'allowed 13, client_unknown 1, client_blocked 1', 'none is lost when it ends');

my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;';
my $query = "SELECT count(*) FROM many WHERE NOT cmblock.is_allowed(id, transport => 'http')";
sql_like($p01, "$parallel EXPLAIN (ANALYZE, COSTS OFF) $query", qr/Workers Launched: [12]/, 'decisions are made in parallel workers');
sql_is($p01, counts(), 'allowed 13, client_unknown 1, client_blocked 1001', 'and counted there');

# ---------- each database for itself ----------
$p01->safe_psql('other', 'CREATE EXTENSION cmblock');
is($p01->safe_psql('other', 'SELECT cmblock.is_allowed(); ' . counts()), "f\nsite_not_set_up 1", 'another database has counts of its own');
sql_is($p01, counts(), 'allowed 13, client_unknown 1, client_blocked 1001', 'which are not those of this one');

# ---------- reset ----------
$session = session($p01);
query($session, "SELECT cmblock.is_allowed('$good', transport => 'http') FROM generate_series(1, 7)");
sql($p01, 'SELECT cmblock.reset_decision_statistics()');
sql_is($p01, counts(), '', 'after a reset all counts are zero');
sql_is($p01, "SELECT bool_and(stats_reset > now() - interval '1 min' AND stats_reset > pg_postmaster_start_time()) FROM cmblock.decision_statistics", 't', 'and stats_reset says when that was');
query($session, "SELECT cmblock.is_allowed('$good', transport => 'http') FROM generate_series(1, 5)");
sql_is($p01, counts(), 'allowed 5', 'a session that had counted before counts on from there');
leave($session);
sql_is($p01, counts(), 'allowed 5', 'also when it has ended');
is($p01->safe_psql('other', counts()), 'site_not_set_up 1', 'the other database was not reset');

# ---------- many sessions at once ----------
sql($p01, 'SELECT cmblock.reset_decision_statistics()');
$p01->pgbench('--client=8 --jobs=2 --transactions=100 --connect --no-vacuum', 0, [qr{800/800}], [qr/^(?!.*ERROR)/s], 'eight clients that connect again and again',
	{ '038_decide' => "SELECT cmblock.is_allowed('$bad', transport => 'http');\n" });
sql_is($p01, counts(), 'client_blocked 800', 'every one of their decisions is counted');

# ---------- who may read, who may reset ----------
sql($p01, "CREATE ROLE watcher; GRANT pg_monitor TO watcher; CREATE ROLE reader; SELECT cmblock.grant_privilege('reader', 'reader')");
for my $role (qw(watcher reader))
{
	sql_is($p01, "SET ROLE $role; ${\ counts() }", 'client_blocked 800', "$role reads them");
	sql_fails($p01, "SET ROLE $role; SELECT cmblock.reset_decision_statistics()", '42501', qr/permission denied/, "$role does not reset them");
}

# ---------- refusals in the log ----------
sub log_since
{
	my ($node, $offset) = @_;

	return grep { /cmblock refusal:/ } split /\n/, slurp_file($node->logfile, $offset);
}

my $again = "SELECT cmblock.is_allowed('$bad', transport => 'http')";
my $offset = -s $p01->logfile;
sql($p01, $again);
is(scalar log_since($p01, $offset), 0, 'refusals are not logged unless that is asked for');
$p01->append_conf('postgresql.conf', "cmblock.log_refusals = on\ncmblock.log_refusals_rate = 0\nlog_min_error_statement = log\nlog_statement = none");
$p01->reload;
wait_until($p01, 'SHOW cmblock.log_refusals', 'a reload is enough to have them logged', 'on');

$offset = -s $p01->logfile;
sql($p01, "$again; SELECT cmblock.is_allowed('$good', transport => 'http')");
my @lines = log_since($p01, $offset);
is(scalar @lines, 1, 'a line for a refusal, and none for what is allowed');
like($lines[0], qr/LOG:  cmblock refusal: site=P01 reason=client_blocked also=not_approved transport=http request=policy assurance=limited client=GUID:00000000-0000-0000-0000-000000000002 assigned_site=P01 left_out=0$/, 'which has the reasons and who was refused');
unlike(slurp_file($p01->logfile, $offset), qr/STATEMENT|a secret reason/, 'without the statement, and without what an administrator wrote');

my $ca = ca('Root');
my $leaf = leaf($ca, 'pc2');
sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($ca) }, 'off'); SELECT cmblock.register_certificate(${\ bytea($leaf) }, '$bad')");
$offset = -s $p01->logfile;
my ($status, $stdout, $stderr) = $p01->psql('postgres', "SET client_min_messages = debug1; SELECT allowed FROM cmblock.check_access(certificate => ${\ bytea($leaf) }, request => 'content')");
is($stdout, "f", "the client gets the answer");
unlike($stderr, qr{refusal}, "and nothing of the line");
is(join("\n", log_since($p01, $offset)) =~ s/.*refusal: //r,
	"site=P01 reason=client_blocked also=not_approved transport=https request=content assurance=full client=GUID:00000000-0000-0000-0000-000000000002 assigned_site=P01 certificate=$leaf->{sha256} left_out=0",
	'with a certificate: its thumbprint');
unlike(slurp_file($p01->logfile, $offset), qr/\\x30/, 'and not its octets');

$offset = -s $p01->logfile;
sql($p01, qq{SELECT cmblock.is_allowed('$bad', hardware_id => E'a" client=x\\n2026-01-01 LOG:  cmblock refusal: reason=none\\t\\\\' || repeat(U&'\\00E4', 300))});
is(join("\n", log_since($p01, $offset)) =~ s/.*? hardware_id=//r,
	'"a\\" client=x\\n2026-01-01 LOG:  cmblock refusal: reason=none\\t\\\\' . ("\xc3\xa4" x 98) . '" left_out=0',
	'text of the requester is quoted and escaped, and clipped between characters');

# ---------- the rate ----------
$p01->append_conf('postgresql.conf', 'cmblock.log_refusals_rate = 3');
$p01->reload;
wait_until($p01, 'SHOW cmblock.log_refusals_rate', 'the rate is 3 lines a second', '3');
$offset = -s $p01->logfile;
sql($p01, 'SELECT cmblock.reset_decision_statistics()');
my @sessions = map { session($p01) } 1 .. 2;
query($_, "SELECT cmblock.is_allowed('$bad', transport => 'http') FROM generate_series(1, 2000)") foreach @sessions;
leave($_) foreach @sessions;
@lines = log_since($p01, $offset);
my %second = map { /^(\S+ [\d:]+)/ ? ($1 => 1) : () } @lines;
cmp_ok(scalar @lines, '<=', 3 * keys %second, 'all sessions together write no more lines than that');
cmp_ok(scalar @lines, '>=', 3, 'but that many');
# In the next second there is a line again, which tells of the rest.
my ($told, $tries) = (0, 0);
until ($told || $tries++ > 500)
{
	my $written = @lines;
	sql($p01, $again);
	@lines = log_since($p01, $offset);
	$told = @lines > $written;
}
my $left_out = 0;
$left_out += $_ foreach map { /left_out=(\d+)/ } @lines;
is($left_out + @lines, sql($p01, "SELECT decisions FROM cmblock.decision_statistics WHERE reason = 'client_blocked'"), 'and the next line says how many were left out: none is missing');

# ---------- on a standby ----------
$p01->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($p01, 'base', has_streaming => 1);
$standby->start;
$offset = -s $standby->logfile;
sql_is($standby, $again, 'f', 'a standby decides');
sql_is($standby, counts(), 'client_blocked 1', 'and counts');
sql_is($standby, "SELECT cmblock.reset_decision_statistics(); ${\ counts() }", "\n", 'and resets');
is(scalar log_since($standby, $offset), 1, 'and logs');
sql($standby, $again);
$standby->stop('immediate');
$standby->start;
sql_is($standby, "SELECT sum(decisions), bool_and(stats_reset > now() - interval '1 min') FROM cmblock.decision_statistics", '0|t', 'after a crash all begins at zero, and stats_reset says so');
$standby->stop;

# ---------- without shared_preload_libraries ----------
$p01->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$p01->restart;
$offset = -s $p01->logfile;
sql_is($p01, "$again; SELECT count(*) FROM cmblock.decision_statistics", "f\n0", 'without preload there is nothing to count in');
sql_fails($p01, 'SELECT cmblock.reset_decision_statistics()', '55000', qr/not preloaded.*Add cmblock to shared_preload_libraries/s, 'which reset says');
is(scalar log_since($p01, $offset), 1, 'refusals are logged all the same');

done_testing();
