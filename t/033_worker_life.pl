# The life of the workers: killed, stopped, started, in a database that is dropped, renamed or copied, on a standby that is
# promoted, without the extension. Each while changes are on their way, and each ends with all of them delivered.
use strict;
use warnings;
use FindBin;
use IO::Socket::INET;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my %site = hierarchy('CEN', 'P01');
my ($cen, $p01) = @site{qw(CEN P01)};
my $n = 0;

# So that a round consists of many batches.
for my $node ($cen, $p01)
{
	$node->append_conf('postgresql.conf', 'cmblock.batch_rows = 20');
	$node->reload;
}

# Begin to register many clients at P01: the replicator is busy from now on.
sub make_busy
{
	my ($count) = @_;

	$n += $count // 2000;
	return sql($p01, "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) "
		  . "SELECT gen_random_uuid()::cmblock.smsid, 'pc', 'computer', 'P01', 2, false FROM generate_series(1, ${\ ($count // 2000) })");
}

sub wait_for_all
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($cen, 'SELECT count(*) FROM cmblock.client', $name, $n);
}

make_busy();
wait_for_all('the first clients arrive');

# ---------- killed ----------
my $pid = worker_pid($p01);
make_busy();
sql($p01, "SELECT pg_terminate_backend($pid)");
isnt(worker_pid($p01, $pid), $pid, 'a replicator that is terminated is started again');
wait_for_all('and goes on where it was');

$pid = worker_pid($p01);
make_busy();
kill 'KILL', $pid;
ok($p01->poll_query_until('postgres', 'SELECT true'), 'after kill -9 of the replicator the server recovers');
isnt(worker_pid($p01, $pid), $pid, 'and the replicator is started again');
wait_for_all('and goes on where it was');

my $launcher = sql($p01, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'cmblock launcher'");
sql($p01, "SELECT pg_terminate_backend($launcher)");
wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock launcher' AND pid <> $launcher", 'so is the launcher', '1');
worker_pid($p01);
make_busy();
wait_for_all('the replicator did not mind');

make_busy();
my $receiver = sql($cen, "SELECT pid FROM pg_stat_activity WHERE application_name = 'cmblock replicator P01 to CEN'");
kill 'KILL', $receiver if $receiver;
$cen->poll_query_until('postgres', 'SELECT true');
wait_for_all('kill -9 of the session at the neighbour');

make_busy();
$cen->stop('immediate');
$cen->start;
wait_for_all('a crash of the neighbour');

make_busy();
$p01->stop('immediate');
$p01->start;
wait_for_all('a crash of the sender');
sql_is($cen, "SELECT count(DISTINCT (smsid, version)) FROM cmblock.client", $n, 'all are there once');

# ---------- stopped ----------
for my $what ('busy', 'idle', 'waiting for the lock of a DROP EXTENSION')
{
	my $session;

	make_busy() if $what eq 'busy';
	if ($what =~ /lock/)
	{
		$session = session($p01);
		query($session, 'BEGIN; DROP EXTENSION cmblock CASCADE');
		# Any server that is created wakes the replicator.
		sql($p01, 'CREATE FOREIGN DATA WRAPPER other; CREATE SERVER other FOREIGN DATA WRAPPER other');
		wait_until($p01, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'", 'the replicator waits for a lock');
	}
	my $started = time;

	$p01->stop('fast');
	cmp_ok(time - $started, '<', 5, "a server whose replicator is $what stops at once");
	eval { leave($session) } if $session;
	$p01->start;
}
wait_for_all('stopped and started');

# A replicator that is connecting to somebody who says nothing.
{
	my $mute = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1');

	sql($p01, "ALTER SERVER cen OPTIONS (SET host '127.0.0.1', SET port '${\ $mute->sockport }')");
	wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'", 'the replicator is connecting', '1');
	my $started = time;
	sql($p01, "SELECT pg_terminate_backend(${\ worker_pid($p01) }, 2000)");
	cmp_ok(time - $started, '<', 2.5, 'a replicator that is connecting stops at once');
	sql($p01, "ALTER SERVER cen OPTIONS (SET host '${\ $cen->host }', SET port '${\ $cen->port }')");
	make_busy(1);
	wait_for_all('and goes on');
}

# ---------- databases ----------
sql($p01, "CREATE DATABASE empty");
my $started = time;
make_busy();
sql($p01, "CREATE DATABASE copy TEMPLATE empty");
sql($p01, "DROP DATABASE copy");
cmp_ok(time - $started, '<', 20, 'another database is created and dropped while the replicator is busy');

# A database whose DROP was interrupted takes no connections: nobody tries again and again.
SKIP:
{
	my $invalid = qr/cannot connect to invalid database/;

	sql($p01, "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'empty'");
	skip 'this server has no mark for it', 2 if $p01->psql('empty', 'SELECT 1', stderr => \my $error) == 0;
	my $told = () = slurp_file($p01->logfile) =~ /$invalid/g;
	$p01->restart;
	make_busy(10);
	wait_for_all('the replicator of the other one is there');
	is(() = slurp_file($p01->logfile) =~ /$invalid/g, $told, 'and no worker was started for it');
}
sql($p01, 'DROP DATABASE empty');

# A second site in the same cluster, so that it can be dropped from the first.
sql($p01, 'CREATE DATABASE second');
$p01->safe_psql('second', "CREATE EXTENSION cmblock");
$p01->safe_psql('second', "SELECT cmblock.setup_site('P02', 'primary', '${\ hierarchy_uuid }', 'CEN')");
sql($cen, "SELECT cmblock.add_site('P02', 'primary', 'CEN'); CREATE ROLE p02_link LOGIN; SELECT cmblock.accept_link('P02', 'p02_link')");
sub link_second
{
	my ($database) = @_;

	$p01->safe_psql($database, <<"END");
CREATE SERVER cen FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (${\ server_options($cen) });
CREATE USER MAPPING FOR postgres SERVER cen OPTIONS (user 'p02_link');
SELECT cmblock.link_site('CEN', 'cen');
END
	return wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator' AND datname = '$database'",
		"the database $database has its replicator", '1');
}
link_second('second');
sub register_at_second
{
	my ($database, $count) = @_;

	$n += $count;
	$p01->safe_psql($database, "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) "
		  . "SELECT gen_random_uuid()::cmblock.smsid, 'pc', 'computer', 'P02', 2, false FROM generate_series(1, $count)");
}
register_at_second('second', 100);
wait_for_all('two databases of a cluster send');

sql($p01, 'ALTER DATABASE second RENAME TO third');
pass('a database is renamed under its replicator');
wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator' AND datname = 'third'", 'which comes back', '1');
register_at_second('third', 100);
wait_for_all('and sends');

sql_fails($p01, "CREATE ROLE ordinary LOGIN; SET ROLE ordinary; DROP DATABASE third", '42501', qr/must be owner/, 'who may not drop it');
sql_is($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator' AND datname = 'third'", '1', 'does not stop it either');

my $guest = session($p01, 'third');
query($guest, 'SELECT 1');
sql_fails($p01, 'DROP DATABASE third', '55006', qr/is being accessed by other users/, 'a DROP DATABASE that fails for another reason');
leave($guest);
wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator' AND datname = 'third'", 'gives the replicator back', '1');

register_at_second('third', 1000);
$started = time;
sql($p01, 'DROP DATABASE third');
cmp_ok(time - $started, '<', 6, 'a database is dropped while its replicator is busy');
sql_is($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'", '1', 'the other one is left');
# What the dropped one had delivered stays; P01 has its own clients and, through the central site, those.
wait_until($cen, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cmblock replicator P02 to CEN'", 'its session at the neighbour ends', '0');
my $own = "SELECT count(*) FROM cmblock.client WHERE assigned_site";
$n = sql($cen, "$own = 'P02'") + sql($p01, "$own = 'P01'");
wait_for_all('and sends');
unlike(slurp_file($p01->logfile), qr/FATAL:  database ".*" does not exist|FATAL:  database \d+ does not exist/, 'nobody looks for it any more');

# ---------- the extension ----------
make_busy();
$pid = worker_pid($p01);
my $holder = session($p01);
query($holder, 'BEGIN; DROP EXTENSION cmblock CASCADE');
query($holder, 'ROLLBACK');
leave($holder);
wait_for_all('a DROP EXTENSION that is rolled back');

sql($p01, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'cmblock'");
make_busy(1);
ok($p01->wait_for_log(qr/cmblock replicator is idle: the extension in this database is not of version/), 'another version of the extension is left alone');
sql($p01, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'cmblock'");
sql($p01, "SELECT cmblock.resume_link('CEN')");
wait_for_all('the right one is not');

make_busy();
sql($p01, 'DROP EXTENSION cmblock CASCADE');
wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'", 'DROP EXTENSION ends a busy replicator', '0');
sql($p01, 'CREATE EXTENSION cmblock');
setup_site($p01, code => 'P01', kind => 'primary', hierarchy => hierarchy_uuid, parent => 'CEN');
sql($p01, 'DROP SERVER IF EXISTS cen CASCADE');
link_sites($p01, 'P01', $cen, 'CEN');
# The neighbour has what this database has not: that comes back before anything can be changed.
wait_until($p01, "SELECT (SELECT restored_at IS NULL FROM cmblock.this_site) AND (SELECT compared_at IS NOT NULL FROM cmblock.replication_link WHERE neighbour::text = 'CEN')",
	'a database that was set up anew compares');
$n = sql($cen, 'SELECT count(*) FROM cmblock.client');
sql_is($p01, 'SELECT count(*) FROM cmblock.client', sql($cen, "$own = 'P01'"), 'and gets its clients back');
make_busy(10);
wait_for_all('CREATE EXTENSION and a new link begin again');

# ---------- a standby ----------
$p01->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($p01, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "cmblock.retry_max = '200ms'");
$standby->start;
sql_is($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'cmblock%'", '0', 'a standby has no workers');
sql_is($standby, "SELECT cmblock.replication_worker()", 'no launcher', 'and says so');
sql_fails($standby, "SELECT cmblock.compare_site((SELECT neighbour FROM cmblock.replication_link WHERE server IS NOT NULL LIMIT 1))",
	'55000', qr/this server is a standby/, 'and compares nothing');
make_busy(10);
wait_for_all('the primary goes on');
$p01->wait_for_catchup($standby);
$p01->stop;
$standby->promote;
wait_until($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'", 'promoted, it has', '1');
$n += 5;
sql($standby, "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) "
	  . "SELECT gen_random_uuid()::cmblock.smsid, 'pc', 'computer', 'P01', 2, false FROM generate_series(1, 5)");
wait_for_all('and its changes arrive');
sql_is($cen, "SELECT incarnation LIKE '%.2.%' FROM cmblock.replication_cursor WHERE neighbour::text = 'P01'", 't', 'from another incarnation');

# ---------- a dump restored into a new cluster ----------
# Its transaction numbers are lower than those in the rows, which must be sent all the same.
my $restored = new_site('restored', preload => 1, extension => 0, conf => "cmblock.retry_max = '200ms'\n");
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
sql($standby, 'SELECT pg_current_xact_id() FROM generate_series(1, 3)');
$standby->command_ok([ 'pg_dump', '--no-sync', '-f', $dump, '-d', $standby->connstr('postgres') ], 'pg_dump');
$standby->stop;
sql($restored, 'CREATE ROLE cen_link LOGIN');
run_log([ 'env', 'PGOPTIONS=-c cmblock.restore=on', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $restored->connstr('postgres'), '-f', $dump ]);
my $top = sql($restored, 'SELECT max(change_xid) FROM cmblock.client');
cmp_ok($top, '>', 0, 'the dump is restored');
sql($restored, "SELECT cmblock.resume_link('CEN')");
my $system = sql($restored, 'SELECT system_identifier FROM pg_control_system()');
wait_until($cen, "SELECT incarnation LIKE '$system.%' FROM cmblock.replication_cursor WHERE neighbour = 'P01'", 'it replicates as another incarnation');
sql_is($restored, 'SELECT max(change_xid) < pg_snapshot_xmax(pg_current_snapshot()) FROM cmblock.client', 't', 'and its rows have transaction numbers of its own');

done_testing();
