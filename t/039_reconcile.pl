# A site that is set back to an earlier state: restored from a backup, promoted without its last commits, rolled back with its file system,
# loaded from a dump. Its neighbours know what it has lost: each time it gets everything back, and cannot be changed before.
use strict;
use warnings;
use File::Path;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my %site = hierarchy('CEN', 'P01', 'P02', 'S01');
my ($cen, $p01, $p02, $s01) = @site{qw(CEN P01 P02 S01)};
my $restored = "SELECT restored_at IS NOT NULL FROM cmblock.this_site";
my $recovered = "SELECT string_agg(concat_ws(' ', substr(client::text, 13, 1), action), ',' ORDER BY client, id) FROM cmblock.block_event WHERE actor = 'cmblock'";
my $nothing_to_send = "SELECT bool_and(lag_rows = 0) FROM cmblock.replication_status WHERE flow = 'send'";

sub id
{
	my ($n) = @_;

	return sprintf('%08d-0000-0000-0000-000000000000', $n);
}

# What a site knows, in one line: comparing these lines compares the sites.
my $all = "SELECT string_agg(c::text, E'\\n' ORDER BY smsid) FROM (SELECT smsid, name, assigned_site, blocked, block_reason, version, origin_site, deleted_at FROM cmblock.client) c";

sub all_equal
{
	my ($name, @nodes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($first, @others) = @nodes;

	for my $node (@others)
	{
		my $expected;

		for (1 .. 100)
		{
			$expected = sql($first, $all);
			last if sql($node, $all) eq $expected;
			select(undef, undef, undef, 0.1);
		}
		is(sql($node, $all), $expected, "$name: " . $node->name . ' has the same as ' . $first->name) or return;
	}
	return;
}

# P01 does things that it is going to lose, and everybody learns of them: 1 is blocked, 2 unblocked, 3 new and blocked, 4 given to P02, which
# unblocks it, 5 deleted.
sub do_what_is_lost
{
	my ($node) = @_;

	sql($node, "SELECT cmblock.block_client('${\ id(1) }', 'lost block')");
	sql($node, "SELECT cmblock.unblock_client('${\ id(2) }', 'lost unblock')");
	sql($node, "SELECT cmblock.register_client('${\ id(3) }', 'new'); SELECT cmblock.block_client('${\ id(3) }', 'lost new')");
	sql($node, "SELECT cmblock.reassign_client('${\ id(4) }', 'P02')");
	sql($node, "SELECT cmblock.delete_client('${\ id(5) }')");
	wait_until($p02, "SELECT assigned_site::text FROM cmblock.client WHERE smsid::uuid = '${\ id(4) }'", 'P02 gets its client', 'P02');
	sql($p02, "SELECT cmblock.unblock_client('${\ id(4) }')");
	wait_for_block($node, id(4), 0, 'and P01 learns what it does with it');
	wait_for_block($s01, id(1), 1, 'S01 knows the block');
	wait_for_block($cen, id(3), 1, 'CEN knows the new client');
	return;
}

# A site has been told what it had lost.
sub has_all_back
{
	my ($name, $node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	wait_until($node, $restored, "$name: it has compared", 'f');
	all_equal($name, $cen, $node, $p02, $s01);
	sql_fails($node, "SELECT cmblock.block_client('${\ id(4) }')", '55000', qr/assigned to site P02/, "$name: it does not get back what it gave away");
	sql($node, "SELECT cmblock.register_client('${\ id(9) }', 'pc9'); SELECT cmblock.block_client('${\ id(9) }')");
	wait_for_block($_, id(9), 1, "$name: its changes count") for $cen, $s01, $p02;
	sql($node, "SELECT cmblock.unblock_client('${\ id(9) }')");
	return;
}

# The state that do_what_is_lost begins with, with a history that has nothing recovered in it.
sub begin_again
{
	my ($node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql($p02, "SELECT cmblock.reassign_client('${\ id(4) }', 'P01')");
	wait_until($node, "SELECT assigned_site::text FROM cmblock.client WHERE smsid::uuid = '${\ id(4) }'", 'P01 has its client again', 'P01');
	sql($node, "SELECT cmblock.unblock_client(smsid) FROM cmblock.client WHERE blocked AND assigned_site::text = 'P01'");
	sql($node, "SELECT cmblock.block_client('${\ id($_) }', 'before')") for 2, 4;
	sql($node, "SELECT cmblock.register_client('${\ id(5) }', 'pc5')");
	sql($node, "SET cmblock.restore = on; DELETE FROM cmblock.block_event");
	sql($node, "SET cmblock.restore = on; DELETE FROM cmblock.client WHERE smsid::uuid = '${\ id(3) }'");
	sql($_, "SET cmblock.restore = on; DELETE FROM cmblock.client WHERE smsid::uuid = '${\ id(3) }'") for $cen, $p02, $s01;
	wait_until($node, $nothing_to_send, 'all is sent');
	wait_for_block($_, id(4), 1, 'and through') for $p02, $s01;
	return;
}

# The server of a site gets an older data directory.
sub put_back
{
	my ($node, $from) = @_;

	$node->stop;
	rmtree($node->data_dir);
	PostgreSQL::Test::RecursiveCopy::copypath($from, $node->data_dir);
	chmod 0700, $node->data_dir or die;
	return;
}

# ---------- the beginning ----------
sql($p01, "SELECT cmblock.register_client(('0000000' || n || '-0000-0000-0000-000000000000')::uuid::cmblock.smsid, 'pc' || n) FROM generate_series(1, 6) n");
sql($p01, "SELECT cmblock.block_client('${\ id($_) }', 'before')") for 2, 4;
wait_for_block($s01, id(4), 1, 'the links work');
wait_for_block($p02, id(4), 1, 'all of them');
sql_is($p01, 'SELECT count(*) FROM cmblock.site_run', '1', 'the first start of the server is noted');

# A restart, and a crash, lose nothing and are not taken for it. (A new link is compared once.)
wait_until($p01, "SELECT compared_at IS NOT NULL FROM cmblock.replication_link WHERE neighbour = 'CEN'", 'the new link was compared');
my $compared = sql($p01, "SELECT string_agg(concat_ws(' ', neighbour, compared_at), ', ' ORDER BY neighbour) FROM cmblock.replication_link");
$p01->restart;
sql($p01, "SELECT cmblock.block_client('${\ id(6) }')");
wait_for_block($cen, id(6), 1, 'restarted, it goes on');
sql_is($p01, 'SELECT count(*) FROM cmblock.site_run', '2', 'the restart is noted');
sql_is($p01, "SELECT string_agg(concat_ws(' ', neighbour, compared_at), ', ' ORDER BY neighbour) FROM cmblock.replication_link", $compared, 'nothing was compared');
$p01->stop('immediate');
$p01->start;
sql($p01, "SELECT cmblock.unblock_client('${\ id(6) }')");
wait_for_block($cen, id(6), 0, 'after a crash it goes on as well');
sql_is($p01, "SELECT string_agg(concat_ws(' ', neighbour, compared_at), ', ' ORDER BY neighbour) FROM cmblock.replication_link", $compared, 'again nothing was compared');
unlike(slurp_file($p01->logfile), qr/was restored to an earlier state/, 'and is not taken for restored');

# ---------- restored from an older base backup ----------
# The neighbours cannot be reached at first, so that it is seen what the site does by itself.
$p01->backup('older');
do_what_is_lost($p01);
put_back($p01, $p01->backup_dir . '/older');
# As an administrator does it: to the end of the archive, which is the end of the backup, on a new timeline.
$p01->append_conf('postgresql.conf', "port = ${\ $p01->port }\nrestore_command = 'false'");
append_to_file($p01->data_dir . '/recovery.signal', '');
sql($_, "ALTER ROLE p01_link NOLOGIN") for $cen, $s01;
$p01->start;
$p01->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
wait_until($p01, $restored, 'a restored site notices it by itself');
for my $command ("block_client('${\ id(6) }')", "unblock_client('${\ id(2) }')", "register_client('${\ id(7) }', 'x')", "delete_client('${\ id(6) }')",
	"reassign_client('${\ id(6) }', 'P02')", "block_clients(ARRAY['${\ id(6) }'::cmblock.smsid])")
{
	sql_fails($p01, "SELECT cmblock.$command", '55000', qr/site P01 was restored.*accept_restored_state/s, "refused: $command");
}
sql_fails($p01, "UPDATE cmblock.client SET name = 'x' WHERE smsid::uuid = '${\ id(6) }'", '55000', qr/site P01 was restored/, 'refused: UPDATE');
sql_is($p01, "SELECT cmblock.is_allowed('${\ id(6) }')", 't', 'decisions go on');
sql_like($p01, "SELECT advice FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = 'CEN'", qr/^This site was restored to an earlier state: it takes no changes/, 'the status says it');
sql($_, "ALTER ROLE p01_link LOGIN") for $cen, $s01;
has_all_back('older base backup', $p01);
sql_is($p01, $recovered, '1 recovered,2 recovered,3 recovered,4 recovered,5 recovered', 'what came back is on record');
sql_is($p01, 'SELECT intact FROM cmblock.verify_block_history()', 't', 'in a history that is intact');

# ---------- a standby that is promoted without the last commits ----------
begin_again($p01);
$p01->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($p01, 'base', has_streaming => 1);
$standby->start;
$p01->wait_for_catchup($standby);
# It gets nothing any more. What it replays next is known to its neighbours, and lost.
$standby->append_conf('postgresql.conf', "primary_conninfo = ''");
$standby->reload;
wait_until($standby, 'SELECT count(*) FROM pg_stat_wal_receiver', 'the standby is cut off', '0');
do_what_is_lost($p01);
$p01->stop;
$standby->promote;
sql($cen, "ALTER SERVER p01 OPTIONS (SET host '${\ $standby->host }', SET port '${\ $standby->port }')");
has_all_back('promoted standby', $standby);
like(slurp_file($standby->logfile), qr/LOG:  site P01 was restored to an earlier state.*LOG:  site P01 has compared with its neighbours/s, 'the log has the story');
$p01 = $standby;

# A promotion that loses nothing is another incarnation and nothing more.
begin_again($p01);
$p01->backup('clean');
my $follower = PostgreSQL::Test::Cluster->new('follower');
$follower->init_from_backup($p01, 'clean', has_streaming => 1);
$follower->start;
do_what_is_lost($p01);
wait_until($cen, $nothing_to_send, 'nothing is left to send');
wait_until($p01, $nothing_to_send, 'nor at P01');
$p01->wait_for_catchup($follower);
sql_fails($follower, 'SELECT cmblock.accept_restored_state()', '25006', qr/in a read-only transaction.*standby/s, 'nothing is accepted at a standby');
my $session = session($follower);
query($session, "DO \$\$ BEGIN PERFORM cmblock.accept_restored_state(); EXCEPTION WHEN read_only_sql_transaction THEN NULL; END \$\$");
$p01->stop;
$follower->promote;
sql($cen, "ALTER SERVER p01 OPTIONS (SET host '${\ $follower->host }', SET port '${\ $follower->port }')");
has_all_back('promoted with everything', $follower);
sql_is($follower, $recovered, '', 'nothing had to come back');
query($session, "SELECT cmblock.block_client('${\ id(9) }'); SELECT cmblock.unblock_client('${\ id(9) }')");
leave($session);
$p01 = $follower;

# ---------- the data directory rolled back ----------
# The same cluster, the same timeline: only the neighbours know.
begin_again($p01);
$p01->stop;
$p01->backup_fs_cold('cold');
$p01->start;
do_what_is_lost($p01);
put_back($p01, $p01->backup_dir . '/cold');
sql($_, "ALTER ROLE p01_link NOLOGIN") for $cen, $s01;
$p01->start;
# So many transactions that its own are beyond those that the neighbours have seen.
sql($p01, "DO \$\$ BEGIN FOR i IN 1..300 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END \$\$");
$p01->restart;
sql_is($p01, $restored, 'f', 'a rolled back site cannot know it by itself');
# So it is changed, although others know more: a block, and an unblock of what the others have as blocked.
sql($p01, "SELECT cmblock.block_client('${\ id(6) }', 'after'); SELECT cmblock.block_client('${\ id(1) }', 'after'); SELECT cmblock.unblock_client('${\ id(1) }')");
sql($p01, "SELECT cmblock.unblock_client('${\ id(2) }'); SELECT cmblock.block_client('${\ id(2) }', 'after')");
sql($_, "ALTER ROLE p01_link LOGIN") for $cen, $s01;
has_all_back('rolled back', $p01);
sql_is($p01, "SELECT string_agg(concat_ws(' ', name, blocked, block_reason), ',' ORDER BY name) FROM cmblock.client WHERE name IN ('pc1', 'pc2', 'pc6')",
	'pc1 t lost block,pc2 t after,pc6 t after', 'where both sides changed, blocked wins');
sql_is($p01, $recovered, '1 conflict,3 recovered,4 recovered,5 recovered', 'and it is on record');

# ---------- a dump restored into a new cluster ----------
begin_again($p01);
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$p01->command_ok([ 'pg_dump', '--no-sync', '-f', $dump, '-d', $p01->connstr('postgres') ], 'pg_dump');
do_what_is_lost($p01);
$p01->stop;
sql($_, "ALTER ROLE p01_link NOLOGIN") for $cen, $s01;
my $new = new_site('new', extension => 0, conf => "cmblock.retry_max = '200ms'\n");
sql($new, 'CREATE ROLE cen_link LOGIN');
run_log([ 'env', 'PGOPTIONS=-c cmblock.restore=on', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $new->connstr('postgres'), '-f', $dump ]);
sql($cen, "ALTER SERVER p01 OPTIONS (SET host '${\ $new->host }', SET port '${\ $new->port }')");
sql_fails($new, "SELECT cmblock.block_client('${\ id(6) }')", '55000', qr/site P01 was restored/, 'refused in the new cluster');
sql($_, "ALTER ROLE p01_link LOGIN") for $cen, $s01;
sql($new, "SELECT cmblock.resume_link('CEN')");
has_all_back('dump and restore', $new);
$p01 = $new;

# ---------- lost entirely ----------
begin_again($p01);
do_what_is_lost($p01);
wait_until($p01, $nothing_to_send, 'everything is sent');
$p01->stop;
my $empty = new_site('empty', code => 'P01', kind => 'primary', hierarchy => hierarchy_uuid, parent => 'CEN', conf => "cmblock.retry_max = '200ms'\n");
link_sites($empty, 'P01', $cen, 'CEN');
sql($empty, "CREATE ROLE cen_link LOGIN; SELECT cmblock.accept_link('CEN', 'cen_link')");
sql($cen, "ALTER SERVER p01 OPTIONS (SET host '${\ $empty->host }', SET port '${\ $empty->port }')");
wait_until($empty, $restored, 'a database that was set up anew gets its rows', 'f');
all_equal('set up anew', $cen, $empty, $p02);
$p01 = $empty;

# ---------- an administrator goes on without the neighbours ----------
$p01->backup('accept');
sql($p01, "SELECT cmblock.block_client('${\ id(6) }', 'lost')");
wait_for_block($cen, id(6), 1, 'CEN knows it');
put_back($p01, $p01->backup_dir . '/accept');
$p01->append_conf('postgresql.conf', "port = ${\ $p01->port }\nrestore_command = 'false'");
append_to_file($p01->data_dir . '/recovery.signal', '');
sql($cen, "ALTER ROLE p01_link NOLOGIN");
$p01->start;
$p01->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
sql_fails($p01, "SELECT cmblock.block_client('${\ id(6) }')", '55000', qr/was restored/, 'restored');
sql($p01, 'SELECT cmblock.accept_restored_state()');
sql_is($p01, "SELECT cmblock.block_client('${\ id(1) }', 'accepted')", 'unchanged', 'accepted: it can be changed');
sql($p01, "SELECT cmblock.register_client('${\ id(8) }', 'pc8')");
sql($cen, "ALTER ROLE p01_link LOGIN");
wait_for_block($p01, id(6), 1, 'it gets back what it had lost all the same');
wait_for_block($cen, id(8), 0, 'and keeps what it did');

# ---------- a site that stands alone ----------
# Nobody knows more than its database does: it is not locked up.
my $alone = new_site('alone', code => 'A01', kind => 'primary');
sql($alone, "SELECT cmblock.register_client('${\ id(1) }', 'pc1')");
$alone->command_ok([ 'pg_dump', '--no-sync', '-f', $dump, '-d', $alone->connstr('postgres') ], 'pg_dump of a stand-alone site');
sql($alone, 'CREATE DATABASE again');
run_log([ 'env', 'PGOPTIONS=-c cmblock.restore=on', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $alone->connstr('again'), '-f', $dump ]);
is($alone->safe_psql('again', "SELECT cmblock.block_client('${\ id(1) }')"), 'blocked', 'restored, it can be changed at once');
is($alone->safe_psql('again', "SELECT split_part(incarnation, '.', 3) = (SELECT oid::text FROM pg_database WHERE datname = 'again') FROM cmblock.this_site"), 't', 'as what it is now');

done_testing();
