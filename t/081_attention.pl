# What tells an administrator that something is wrong: attention, report, site_status, history_check and progress; and what
# pg_monitor may see of it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %site = hierarchy('P01', 'S01');
my ($p01, $s01) = @site{qw(P01 S01)};
my $attention = "SELECT concat_ws('|', severity, topic, subject, problem) FROM cmblock.attention";

sub client
{
	return sprintf('00000000-0000-0000-0000-%012d', shift);
}

# ---------- all is well ----------
sql($p01, "SELECT cmblock.register_client(format('00000000-0000-0000-0000-%s', lpad(n::text, 12, '0'))::cmblock.smsid, 'pc' || n, hardware_id => 'hw' || n) FROM generate_series(1, 60) n");
sql($p01, "SELECT count(*) FROM cmblock.block_clients((SELECT array_agg(smsid) FROM cmblock.client))");
wait_until($p01, "SELECT lag_rows, phase FROM cmblock.replication_status WHERE flow = 'send'", 'the link is idle', '0|idle');
sql_is($p01, $attention, '', 'nothing needs attention');
sql_is($s01, $attention, '', 'nor at the other site');
sql_is($p01, 'SELECT code, kind, parent, standby, version, sites, clients, blocked_clients, certificates, blocked_certificates, last_block_at IS NOT NULL, replicator, refresher FROM cmblock.site_status',
	'P01|primary||f|1.0|2|60|60|0|0|t|running|not running', 'the site in numbers');
my $report = sql($p01, 'SELECT cmblock.report()');
like($report, qr/\ASite P01, a primary site\. cmblock 1\.0 on PostgreSQL .*\n\nNothing needs attention\.\n\nHierarchy +11111111-2222-3333-4444-555555555555, with 2 sites\nClients +60, of which 60 blocked, the last at .*\nCertificates +0, of which 0 blocked by themselves\nDecisions +0 allowed, 0 refused since .*\nHistory +60 events, nothing broken was found; all of it was looked at until .*\n\nLinks\n  P01 sends to S01     active    it has everything, idle\z/, 'the report of a site where all is well');
like(sql($s01, 'SELECT cmblock.report()'), qr/\ASite S01, a secondary site below P01\..*\n  S01 receives from P01 last at /s, 'and of a secondary site');

# ---------- links ----------
sql($p01, "SELECT cmblock.pause_link('S01')");
sql_is($p01, $attention, 'notice|link|P01 to S01|It is paused.', 'a paused link is worth a notice');
sql($p01, "SELECT cmblock.resume_link('S01')");
$s01->stop('fast');
sql($p01, "SELECT cmblock.unblock_client('${\ client(1) }')");
wait_until($p01, "SELECT severity FROM cmblock.attention", 'a link that has failed is critical', 'critical');
sql_like($p01, $attention, qr/^critical\|link\|P01 to S01\|The link has failed\. 1 row waits to be sent\. \d+ attempts in a row have failed: .*/, 'and says what waits and why');
sql_is($p01, 'SELECT advice FROM cmblock.attention', 'Is the server there up, and reachable from here? Blocks reach it as soon as it is.', 'and what to do');
$report = sql($p01, 'SELECT cmblock.report()');
like($report, qr/\n\nNeeds attention \(1\):\n  CRITICAL  link P01 to S01: The link has failed\. .*\n(?: {12}\S.*\n)* {12}Is the server there up/, 'it is in the report, first of all');
ok(!grep({ length > 100 && /\S \S/ } split /\n/, $report =~ s/.*Needs attention//sr =~ s/\n\n.*//sr), 'in lines that fit a terminal');
like($report, qr/\n  P01 sends to S01     failed    1 row waits, waiting to retry/, 'and among the links');
$s01->start;
wait_until($p01, "SELECT count(*) FROM cmblock.attention", 'it goes when the link works again', '0');

sql($p01, "SELECT cmblock.add_site('S02', 'secondary', 'P01')");
sql_is($p01, $attention, 'warning|link|P01 to S02|There is no link: blocks do not reach that site, nor the sites behind it.', 'a neighbour that is not linked');
sql($p01, "SELECT cmblock.retire_site('S02')");
sql_is($p01, $attention, '', 'unless it is retired');
sql($s01, "SELECT cmblock.unlink_site('P01')");
sql_is($s01, $attention, 'warning|link|P01 to S01|Nothing is accepted from there: blocks do not reach this site.', 'a neighbour from which nothing is accepted');
sql($p01, "SELECT cmblock.reinitialize_link('S01')");
wait_until($p01, "SELECT advice FROM cmblock.attention", 'whose site says what to do there',
	"S01 does not accept this link. There, with the role of the user mapping here: SELECT cmblock.accept_link('P01', 'role').");
sql($s01, "SELECT cmblock.accept_link('P01', 'p01_link')");
wait_until($_, "SELECT count(*) FROM cmblock.attention", 'until it is accepted and has sent', '0') for $s01, $p01;
sql($p01, 'DROP USER MAPPING FOR postgres SERVER s01');
sql_like($p01, "SELECT concat_ws('|', severity, topic, subject, problem) || ' ' || advice FROM cmblock.attention", qr/^warning\|link\|P01 to S01\|(?:Nothing can be sent\.|.*attempts? .*failed: .*) A user mapping is missing\. Create it: /, 'what is missing for a link');
sql($p01, "CREATE USER MAPPING FOR postgres SERVER s01 OPTIONS (user 'p01_link')");
wait_until($p01, "SELECT count(*) FROM cmblock.attention", 'until it is there', '0');
sql($p01, "SELECT cmblock.retire_site('S01')");
wait_until($s01, $attention, 'a site that was retired', 'critical|site|S01|This site was retired at '
	  . sql($p01, "SELECT retired_at::timestamptz(0) FROM cmblock.site WHERE code = 'S01'") . ': no other site takes anything from it, or sends it anything.');
sql($p01, "SELECT cmblock.add_site('S01', 'secondary', 'P01')");
wait_until($s01, "SELECT count(*) FROM cmblock.attention", 'and added again', '0');

# ---------- revocation lists and CAs ----------
my $day = 86400;
my $root = ca("A \"root\"");
my $old = ca('Old', not_before => time - 20 * $day, not_after => time + 20 * $day);
sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($_) })") foreach $root, $old;
sql_is($p01, "$attention ORDER BY subject, severity", "critical|crl|CN=A \\\"root\\\"|There is no revocation list.\ncritical|crl|CN=Old|There is no revocation list.\nnotice|authority|CN=Old|The certificate of the CA expires at ${\ sql($p01, q(SELECT not_after FROM cmblock.certificate_authority WHERE subject = 'CN=Old')) }.",
	'a CA without a list, and one that is about to expire');
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($root, number => 1, this_update => time - 10 * $day, next_update => time - $day)) })");
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($old, number => 1, this_update => time - 10 * $day, next_update => time + 3600)) })");
sql_like($p01, "$attention WHERE topic = 'crl' ORDER BY subject", qr/^critical\|crl\|.*root.*\|The revocation list has expired\. It was valid until .*\nwarning\|crl\|CN=Old\|The revocation list ends soon\. It is valid until .*$/, 'a list that has expired, and one that is about to');
sql_is($p01, "SELECT count(*) FROM cmblock.attention WHERE advice IS NULL", '0', 'there is advice for everything');
like(sql($p01, 'SELECT cmblock.report()'), qr/\n\nRevocation lists\n  stale      CN=A \\"root\\" number 1, 0 entries, valid until .*\n  ok         CN=Old number 1/, 'the worst comes first in the report');
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($_, number => 2)) })") foreach $root, $old;
sql_is($p01, "SELECT string_agg(topic, ' ') FROM cmblock.attention", 'authority', 'new lists settle it');
sql($p01, "SELECT cmblock.remove_certificate_authority('$old->{sha256}')");

# ---------- a blocked client that comes back ----------
sql($p01, "SELECT cmblock.register_client('${\ client(900) }', 'other', hardware_id => 'hw7')");
sql_is($p01, $attention, 'warning|rejoin|1 client looks like a blocked one coming back.', 'a suspected rejoin');
sql($p01, "SELECT cmblock.block_client('${\ client(900) }')");
sql_is($p01, $attention, '', 'until it is blocked, too');

# ---------- the history, at a bounded cost ----------
my $check = 'SELECT intact, newest, first_broken, detail FROM cmblock.history_check';
$p01->restart;
sql_is($p01, "SELECT intact, newest, position, round_ended_at IS NULL FROM cmblock.history_check(10)", 't|62|0|t', 'after a start it begins with the last events');
sql_is($p01, "SELECT position, round_ended_at IS NULL FROM cmblock.history_check(10)", "${\ (10 * $_) }|t", "and goes through the old ones: $_") foreach 1 .. 6;
sql_is($p01, "SELECT position, round_ended_at IS NULL FROM cmblock.history_check(10)", '0|f', 'until it has looked at all of them');
sql($p01, "SELECT cmblock.unblock_client('${\ client(2) }')");
sql_is($p01, "SELECT newest, position FROM cmblock.history_check(10)", '63|9', 'new events come first');
sql_fails($p01, 'SELECT cmblock.history_check(0)', '22023', qr/argument "events" must be at least 1/, 'at least one event');

sub tamper
{
	my ($change) = @_;

	return sql($p01, "BEGIN; ALTER TABLE cmblock.block_event DISABLE TRIGGER guard; $change; ALTER TABLE cmblock.block_event ENABLE ALWAYS TRIGGER guard; COMMIT");
}

tamper("UPDATE cmblock.block_event SET actor = 'nobody' WHERE id = 30");
sql($p01, "$check(10)") foreach 1 .. 3;
sql_is($p01, "$check(10)", 'f|63|30|its hash does not fit its contents: a field was changed', 'a changed event is found after as many calls as it takes to get there');
sql_is($p01, "$check(10)", 'f|63|30|its hash does not fit its contents: a field was changed', 'and stays reported');
sql_is($p01, $attention, 'critical|history|event 30|The chain of the block history is broken: its hash does not fit its contents: a field was changed.', 'it needs attention');
tamper("UPDATE cmblock.block_event SET actor = 'postgres' WHERE id = 30");
sql_is($p01, "SELECT intact FROM cmblock.history_check()", 'f', 'also when the trace is removed');
sql_is($p01, 'SELECT intact FROM cmblock.verify_block_history()', 't', 'until somebody verifies all of it');
sql_is($p01, "SELECT intact, round_ended_at IS NOT NULL FROM cmblock.history_check()", 't|t', 'then it is well again');

sql($p01, 'CREATE TABLE kept AS SELECT * FROM cmblock.block_event WHERE id > 60');
tamper('DELETE FROM cmblock.block_event WHERE id > 60');
sql_is($p01, 'SELECT intact, events FROM cmblock.verify_block_history() WHERE false UNION ALL SELECT intact, newest FROM cmblock.history_check()', 'f|63', 'events that were cut off the end are missed');
sql_is($p01, "$check()", 'f|63|63|it was there before, and is gone', 'the chain alone could not tell');
tamper('INSERT INTO cmblock.block_event SELECT * FROM kept');
sql($p01, 'SELECT cmblock.verify_block_history()');
tamper("UPDATE cmblock.block_event SET hash = repeat('x', 32)::bytea WHERE id = 63");
sql_is($p01, "$check()", 'f|63|63|its hash is not the one that it had before', 'nor is the last event replaced unnoticed');
sql_is($p01, 'SELECT intact, first_broken FROM cmblock.verify_block_history()', 'f|63', 'verify_block_history agrees');
tamper("UPDATE cmblock.block_event e SET hash = k.hash FROM kept k WHERE e.id = k.id");
sql($p01, 'SELECT cmblock.verify_block_history()');
sql_is($p01, "BEGIN; SELECT cmblock.block_client('${\ client(2) }'); SET CONSTRAINTS ALL IMMEDIATE; SELECT newest FROM cmblock.history_check(); ROLLBACK; SELECT intact, newest FROM cmblock.history_check()", "blocked\n64\nt|63",
	'events of a transaction that is rolled back are not remembered');
sql_is($p01, "DROP EXTENSION cmblock CASCADE; CREATE EXTENSION cmblock; SELECT intact, newest FROM cmblock.history_check()", 't|0', 'an extension that is created anew has a history of its own');

# ---------- progress ----------
sql($p01, "SELECT cmblock.setup_site('P01', 'primary', '${\ hierarchy_uuid }'); SELECT cmblock.add_certificate_authority(${\ bytea($root) })");
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($root, number => 3)) })");
my $file = PostgreSQL::Test::Utils::tempdir() . '/crl.der';
PostgreSQL::Test::Utils::append_to_file($file, slurp_file(crl($root, number => 4, revoked => [ map { { serial => sprintf('%08X', 0x10000000 + $_) } } 1 .. 3 ])->{der}));
chmod 0644, $file;
my $blocker = session($p01);
query($blocker, 'BEGIN; SELECT FROM cmblock.crl_scope FOR UPDATE');
my $import = session($p01);
my $pid = query($import, 'SELECT pg_backend_pid()');
say($import, "SELECT outcome FROM cmblock.import_crl(pg_read_binary_file('$file'))");
wait_until($p01, "SELECT pid, command, phase, done IS NULL, unit IS NULL, started_at <= phase_started_at FROM cmblock.progress", 'an import shows what it waits for', "$pid|import_crl|waiting for another import|t|t|t");
sql_is($p01, "SELECT query LIKE '%import_crl%', state FROM pg_stat_activity WHERE pid = $pid", 't|active', 'and pg_stat_activity who that is');
query($blocker, 'ROLLBACK');
is(answer($import), 'accepted', 'it goes on');
sql_is($p01, 'SELECT count(*) FROM cmblock.progress', '0', 'and is shown no more when it has ended');
query($blocker, 'BEGIN; SELECT FROM cmblock.crl_scope FOR UPDATE');
PostgreSQL::Test::Utils::append_to_file("$file.5", slurp_file(crl($root, number => 5)->{der}));
chmod 0644, "$file.5";
sql_fails($p01, "SET lock_timeout = '100ms'; SELECT cmblock.import_crl(pg_read_binary_file('$file.5'))", '55P03', qr/lock timeout/, 'an import that fails');
sql_is($p01, 'SELECT count(*) FROM cmblock.progress', '0', 'is shown no more');
sql_is($p01, "SET lock_timeout = '100ms'; DO \$\$ BEGIN PERFORM * FROM cmblock.check_crl(pg_read_binary_file('$file.5')); EXCEPTION WHEN lock_not_available THEN NULL; END \$\$; SELECT count(*) FROM cmblock.progress", '0', 'nor one that fails inside of an exception block');
query($blocker, 'ROLLBACK');
leave($_) foreach $blocker, $import;

# The refresher shows what it takes in.
my $crls = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $crls;
PostgreSQL::Test::Utils::append_to_file("$crls/a.crl", slurp_file(crl($root, number => 6, revoked => [ map { { serial => sprintf('%08X', 0x10000000 + $_) } } 1 .. 4 ])->{der}));
chmod 0644, "$crls/a.crl";
sql($p01, "ALTER SYSTEM SET cmblock.crl_file_directory = '$crls'");
sql($p01, 'SELECT pg_reload_conf()');
wait_until($p01, 'SHOW cmblock.crl_file_directory', 'the refresher may read files', $crls);
$blocker = session($p01);
query($blocker, 'BEGIN; SELECT FROM cmblock.crl_scope FOR UPDATE');
sql($p01, "SELECT cmblock.add_crl_distribution_point('$root->{sha256}', 'file://$crls/a.crl')");
wait_until($p01, "SELECT a.backend_type, a.state, a.query, p.command, p.phase FROM cmblock.progress p JOIN pg_stat_activity a USING (pid)",
	'an import by the refresher', "cmblock refresher|active|taking in the CRL from file://$crls/a.crl|import_crl|waiting for another import");
query($blocker, 'ROLLBACK');
leave($blocker);
wait_until($p01, "SELECT state FROM cmblock.crl_status WHERE url IS NOT NULL", 'which goes on', 'ok');

# ---------- who may look ----------
sql($p01, 'CREATE ROLE watcher; GRANT pg_monitor TO watcher');
for my $relation (qw(this_site site site_status replication_status crl_status crl_cache crl_cache_total decision_statistics progress attention))
{
	sql_ok($p01, "SET ROLE watcher; SELECT * FROM cmblock.$relation", "pg_monitor reads $relation");
}
sql_ok($p01, "SET ROLE watcher; SELECT cmblock.$_", "pg_monitor calls $_") foreach qw(report() history_check() verify_block_history() version());
for my $relation (qw(client certificate block_event blocked_client block_history suspected_rejoin))
{
	sql_fails($p01, "SET ROLE watcher; SELECT * FROM cmblock.$relation", '42501', qr/permission denied/, "pg_monitor does not read $relation");
}

# ---------- without shared_preload_libraries ----------
$p01->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$p01->restart;
sql_is($p01, "SELECT intact, newest FROM cmblock.history_check(); SELECT count(*) FROM cmblock.progress", "t|0\n0", 'history_check works, progress is empty');
sql_like($p01, 'SELECT cmblock.report()', qr/Site P01/, 'and there is a report');
sql($p01, "SELECT cmblock.add_site('S09', 'secondary', 'P01'); CREATE SERVER s09 FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host 'x'); SELECT cmblock.link_site('S09', 's09')");
sql($p01, 'UPDATE cmblock.replication_link SET acknowledged = pg_current_snapshot()');
sql_is($p01, "SELECT bool_and(problem = 'Nothing can be sent.' AND advice LIKE 'Add shared_preload%') FROM cmblock.attention WHERE topic = 'link'", 't', 'nothing is sent, which it says');
sql($p01, "SELECT cmblock.add_crl_distribution_point(cmblock.add_certificate_authority(${\ bytea($root) }, 'off'), 'http://127.0.0.1:1/ca.crl')");
sql_is($p01, "SELECT problem, advice LIKE 'Add shared_preload%' FROM cmblock.attention WHERE topic = 'crl'",
	'No revocation list is fetched: the refresher does not run (not preloaded).|t', 'nor fetched');

done_testing();
