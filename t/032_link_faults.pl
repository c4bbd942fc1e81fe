# Links under faults: a neighbour that is down, refuses, hangs or comes back as another; back-off and states; catching up.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;

my %site = hierarchy('CEN', 'P01', 'S01');
my ($cen, $p01, $s01) = @site{qw(CEN P01 S01)};
my $pc1 = '11111111-1111-1111-1111-111111111111';

# One column of the status of P01's link to a neighbour, as a query.
sub status
{
	my ($neighbour, $columns) = @_;

	return "SELECT concat_ws(' ', $columns) FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = '$neighbour'";
}

sql($p01, "SELECT cmblock.register_client('$pc1', 'pc1')");
wait_for_block($_, $pc1, 0, 'the links work') for $cen, $s01;

# ---------- a neighbour that is down ----------
my $received = "SELECT rows_received FROM cmblock.replication_cursor WHERE neighbour = 'P01'";
wait_until($p01, status('S01', 'lag_rows'), 'S01 has everything', '0');
my $had = sql($s01, $received);
$s01->stop;
wait_until($p01, status('S01', 'failures > 1, last_error_sqlstate'), 'attempts are made and counted', 't 08001');
sql_like($p01, status('S01', 'last_error'), qr/connection to server .* failed: No such file or directory/, 'and the last error is shown');
sql_is($p01, status('S01', 'next_retry_at - last_error_at < interval \'1 second\', last_error_at > now() - interval \'1 minute\''), 't t', 'with the next attempt');
for (1 .. 5)
{
	sql($p01, "SELECT cmblock.block_client('$pc1')");
	sql($p01, "SELECT cmblock.unblock_client('$pc1')");
}
sql($p01, "SELECT cmblock.block_client('$pc1')");
sql($p01, "SELECT cmblock.register_client(gen_random_uuid()::cmblock.smsid, 'pc' || i) FROM generate_series(1, 50) i");
wait_for_block($cen, $pc1, 1, 'the other link goes on');
sql_is($p01, status('S01', 'lag_rows, lag_seconds > 0'), '51 t', 'each changed row is counted once');

my $notified = session($p01);
query($notified, 'LISTEN cmblock_replication');
# On a busy machine it may have failed before this asks.
wait_until($p01, status('S01', 'state IN (\'degraded\', \'failed\')'), 'after 12 failures the link is degraded', 't');
wait_until($p01, status('S01', 'state'), 'after 24 it has failed', 'failed');
sql_is($p01, status('S01', 'failures >= 24'), 't', 'and is still tried');

$s01->start;
wait_for_block($s01, $pc1, 1, 'it comes back and learns of the block');
wait_until($s01, 'SELECT count(*) FROM cmblock.client', 'and of the rest', '51');
wait_until($p01, status('S01', 'state, failures, lag_rows'), 'the link is active again', 'active 0 0');
sql_is($s01, $received, $had + 51, 'each row came once, in its last state');
query($notified, 'SELECT 1');
like(query($notified, 'SELECT 2'), qr/^2$/m, 'the session that listens goes on');
leave($notified);

my $log = slurp_file($p01->logfile);
is(() = $log =~ /LOG:  replication link from P01 to S01 is degraded/g, 1, 'degraded is logged once');
is(() = $log =~ /LOG:  replication link from P01 to S01 is failed/g, 1, 'failed is logged once');
is(() = $log =~ /LOG:  replication link from P01 to S01 is active again/g, 1, 'active again is logged once');
is(() = $log =~ /could not connect|No such file or directory/g, 2, 'attempts are not');

# ---------- a neighbour that refuses ----------
sql($s01, "CREATE ROLE other LOGIN; SELECT cmblock.accept_link('P01', 'other')");
sql($s01, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cmblock replicator%'");
wait_until($p01, status('S01', 'last_error_sqlstate, failures > 1'), 'the role is not accepted any more', '42501 t');
sql($s01, "SELECT cmblock.grant_privilege('p01_link', 'replication_peer')");
wait_until($p01, status('S01', 'last_error'), 'the link says what is wrong', 'role "p01_link" is not the one accepted for site P01');
sql($s01, "SELECT cmblock.accept_link('P01', 'p01_link')");
wait_until($p01, status('S01', 'failures'), 'accepted again, it works again', '0');

# A row that the neighbour does not take in stops the link, and the link says why.
sql($s01, "SET cmblock.restore = on; UPDATE cmblock.client SET assigned_site = 'S01' WHERE name = 'pc1'");
sql($p01, "SELECT cmblock.unblock_client('$pc1')");
wait_until($p01, status('S01', 'last_error_sqlstate, failures > 1'), 'a row that is refused stops the link', '42501 t');
sql_like($p01, status('S01', 'last_error'), qr/^site P01 has no authority over client GUID:1{8}.*It is assigned to site S01/, 'and the link names row and rule');
wait_for_block($cen, $pc1, 0, 'the other link is unharmed');
sql($s01, "SET cmblock.restore = on; UPDATE cmblock.client SET assigned_site = 'P01' WHERE name = 'pc1'");
wait_for_block($s01, $pc1, 0, 'the row corrected, the link goes on');

# A constraint that somebody added there. The server log has the row; the state of the link, which more people may read, has not.
sql($s01, "ALTER TABLE cmblock.client ADD CONSTRAINT picky CHECK (block_reason <> 'private')");
sql($p01, "SELECT cmblock.block_client('$pc1', 'private')");
wait_until($p01, status('S01', 'last_error_sqlstate, last_error'), 'a constraint stops the link, which does not show the row', '23514 new row for relation "client" violates check constraint "picky"');
sql($s01, 'ALTER TABLE cmblock.client DROP CONSTRAINT picky');
wait_for_block($s01, $pc1, 1, 'without it, the link goes on');
sql($p01, "SELECT cmblock.unblock_client('$pc1')");
wait_for_block($_, $pc1, 0, 'unblocked') for $cen, $s01;

# ---------- a neighbour that waits for a lock, and one that hangs ----------
$p01->append_conf('postgresql.conf', "cmblock.peer_timeout = '1s'\ncmblock.connect_timeout = '1s'");
$p01->reload;
my $locked = session($s01);
query($locked, 'BEGIN; LOCK TABLE cmblock.client IN ACCESS EXCLUSIVE MODE');
sql($s01, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cmblock replicator%'");
sql($p01, "SELECT cmblock.block_client('$pc1')");
wait_until($p01, status('S01', 'last_error_sqlstate IN (\'57014\', \'08006\')'), 'a neighbour that is locked is given up after a while', 't');
wait_for_block($cen, $pc1, 1, 'it does not hold up the others');
query($locked, 'COMMIT');
leave($locked);
wait_for_block($s01, $pc1, 1, 'unlocked, it gets the change');

# A server that accepts the connection and says nothing more.
my $mute = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1');
sql($p01, "ALTER SERVER s01 OPTIONS (SET host '127.0.0.1', SET port '${\ $mute->sockport }')");
wait_until($p01, status('S01', 'last_error_sqlstate, last_error'), 'a neighbour that says nothing is given up', '08001 no connection within 1 s');
sql($p01, "SELECT cmblock.unblock_client('$pc1')");
wait_for_block($cen, $pc1, 0, 'it does not hold up the others');
sql($p01, "ALTER SERVER s01 OPTIONS (SET host '${\ $s01->host }', SET port '${\ $s01->port }')");
wait_for_block($s01, $pc1, 0, 'a corrected server is used at once');

# ---------- servers, mappings, passwords ----------
my $canary = 'c4n4ry-p4ssw0rd';
sql($p01, "ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (ADD password '$canary', SET user 'nobody')");
wait_until($p01, status('S01', 'last_error LIKE \'%role "nobody" does not exist%\''), 'a wrong user', 't');
sql($p01, "DROP USER MAPPING FOR postgres SERVER s01");
wait_until($p01, status('S01', 'last_error_sqlstate'), 'a user mapping that is missing', '42704');
sql_like($p01, status('S01', 'advice'), qr/^A user mapping is missing.*CREATE USER MAPPING FOR postgres SERVER s01/, 'and the advice');
sql($p01, "CREATE ROLE owner LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER cmblock_fdw TO owner; ALTER SERVER s01 OWNER TO owner");
sql($p01, "CREATE USER MAPPING FOR owner SERVER s01 OPTIONS (user 'p01_link')");
wait_until($p01, status('S01', 'last_error_sqlstate, last_error LIKE \'password is required%\''), 'a server of an ordinary user needs a password', '2F003 t');
sql($p01, "ALTER USER MAPPING FOR owner SERVER s01 OPTIONS (ADD password '$canary')");
wait_until($p01, status('S01', 'last_error LIKE \'the neighbour did not ask for a password%\''), 'and the neighbour has to ask for it', 't');
sql($p01, "ALTER SERVER s01 OWNER TO postgres; CREATE USER MAPPING FOR postgres SERVER s01 OPTIONS (user 'p01_link', password '$canary')");
wait_until($p01, status('S01', 'failures'), 'the superuser\'s server works', '0');
sql_is($p01, "SELECT count(*) FROM (SELECT s::text AS t FROM cmblock.replication_status s UNION ALL SELECT l::text FROM cmblock.replication_link l UNION ALL SELECT a::text FROM pg_stat_activity a WHERE pid <> pg_backend_pid()) x WHERE t LIKE '%$canary%'",
	'0', 'the password is in no table, view or activity');
for my $code (sort keys %site)
{
	my $lines = join('', grep { !/STATEMENT:|LOG:  statement:/ } split(/^/, slurp_file($site{$code}->logfile)));
	unlike($lines, qr/$canary/, "nor in a log line of $code");
}

# ---------- the neighbour is another database now ----------
sql($p01, "SELECT cmblock.block_client('$pc1')");
wait_for_block($s01, $pc1, 1, 'all is well');
sql($s01, 'DROP EXTENSION cmblock');
sql($p01, "SELECT cmblock.unblock_client('$pc1')");
wait_until($p01, status('S01', 'failures > 0, last_error'), 'the extension is gone there', 't schema "cmblock" does not exist');
sql($s01, 'CREATE EXTENSION cmblock');
setup_site($s01, code => 'S01', kind => 'secondary', hierarchy => '99999999-2222-3333-4444-555555555555', parent => 'P01');
sql($s01, "SELECT cmblock.accept_link('P01', 'p01_link')");
wait_until($p01, status('S01', 'last_error LIKE \'site P01 belongs to another hierarchy%\''), 'it is back in another hierarchy', 't');
sql($s01, 'DROP EXTENSION cmblock; CREATE EXTENSION cmblock');
setup_site($s01, code => 'S01', kind => 'secondary', hierarchy => hierarchy_uuid, parent => 'P01');
sql($s01, "SELECT cmblock.accept_link('P01', 'p01_link')");
wait_until($s01, 'SELECT count(*) FROM cmblock.client', 'in the right one it gets everything', '51');

done_testing();
