# What replication_status says of a link in each phase, the progress of a first synchronisation, maintenance by pause and
# resume, and the notifications when the state of a link changes.
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
my $client = '00000000-0000-0000-0000-000000000001';

sub status
{
	my ($columns) = @_;

	return "SELECT concat_ws(' ', $columns) FROM cmblock.replication_status WHERE flow = 'send'";
}

# ---------- idle ----------
wait_until($p01, status('phase, rows_under_way, lag_rows'), 'a link with nothing to send is idle', 'idle 0');
sql_is($p01, "SELECT count(*) FROM cmblock.link_phase('X99') WHERE phase IS NULL", '1', 'a site that is not linked has no phase');
sql_is($s01, "SELECT phase IS NULL FROM cmblock.replication_status", 't', 'what is received has no phase here');

# ---------- a first synchronisation ----------
sql($p01, "ALTER SYSTEM SET cmblock.batch_rows = 500; SELECT pg_reload_conf()");
sql($p01, "SELECT cmblock.unlink_site('S01')");
sql($s01, "SELECT cmblock.unlink_site('P01'); SELECT cmblock.accept_link('P01', 'p01_link')");
sql($p01, "SELECT cmblock.register_client(format('00000000-0000-0000-0000-%s', lpad(n::text, 12, '0'))::cmblock.smsid, 'pc' || n) FROM generate_series(1, 5000) n");
my $blocker = session($s01);
query($blocker, 'BEGIN; LOCK TABLE cmblock.client IN EXCLUSIVE MODE');
sql($p01, "SELECT cmblock.link_site('S01', 's01')");
wait_until($p01, status('phase'), 'the first synchronisation begins', 'first synchronisation');
wait_until($p01, status('rows_under_way BETWEEN 500 AND 4999, lag_rows = 5002'), 'its progress: rows sent of those to send', 't t');
query($blocker, 'COMMIT');
leave($blocker);
wait_until($p01, status('phase, lag_rows, rows, batches >= 10, bytes > 500000'), 'then the link is idle, and says how much it took', 'idle 0 5002 t t');

# ---------- sending ----------
my $again = session($s01);
query($again, 'BEGIN; LOCK TABLE cmblock.client IN EXCLUSIVE MODE');
sql($p01, "SELECT cmblock.block_client('$client')");
wait_until($p01, status('phase, rows_under_way'), 'a change that waits for a lock at the neighbour is being sent', 'sending 1');
query($again, 'COMMIT');
leave($again);
wait_for_block($s01, $client, 1, 'it arrives');

# ---------- maintenance ----------
sql($p01, "SELECT cmblock.pause_link('S01')");
wait_until($p01, status('phase, state'), 'a paused link says so', 'paused active');
$s01->stop('fast');
sql($p01, "SELECT cmblock.unblock_client('$client')");
$p01->restart;
wait_until($p01, status('phase, failures, lag_rows, last_error'), 'also after a restart; nothing is tried while the neighbour is down', 'paused 0 1');
$s01->start;
sql_is($s01, "SELECT cmblock.is_allowed('$client')", 'f', 'nothing is sent while it is paused');
sql($p01, "SELECT cmblock.resume_link('S01')");
wait_for_block($s01, $client, 0, 'what was missed comes when it goes on');
wait_until($p01, status('phase, failures, lag_rows'), 'and the link is idle', 'idle 0 0');

# ---------- waiting to retry, and notifications ----------
my $listener = session($p01);
query($listener, 'LISTEN cmblock_replication');
$s01->stop('fast');
wait_until($p01, status("state, failures >= 24, last_error_sqlstate LIKE '08%', last_error_at > now() - interval '1 min', next_retry_at > now() - interval '1 min', last_error IS NOT NULL"),
	'a link that fails again and again has failed, and says why and what comes next', 'failed t t t t t');
wait_until($p01, status('phase'), 'it waits to try again', 'waiting to retry');
my $told = query($listener, 'SELECT 1');
$s01->start;
wait_until($p01, status('state, phase, failures, next_retry_at'), 'and is active when the neighbour is back', 'active idle 0');
$told .= query($listener, 'SELECT 1');
is(join(', ', $told =~ /"cmblock_replication" with payload "(.*?)"/g), 'S01 degraded, S01 failed, S01 active', 'listeners are told of each state');
leave($listener);

# ---------- who may look ----------
sql($p01, "CREATE ROLE watcher; SELECT cmblock.grant_privilege('watcher', 'reader')");
sql_is($p01, "SET ROLE watcher; ${\ status('phase') }", 'idle', 'a reader sees it');

done_testing();
