# Faults of network, disk, accounts and certificates in the middle of a round. After each: the link said in words what was wrong,
# the other links went on, and in the end all sites are equal. Those of one process, and of links that never worked, are
# in 032_link_faults and 033_worker_life.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockProxy;
use CmblockTest;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my %site = hierarchy('CEN', 'P01', 'S01');
my ($cen, $p01, $s01) = @site{qw(CEN P01 S01)};
my $proxy = proxy($s01);
my $n = 0;

# Many small batches, and deadlines that do not make the test long.
$p01->append_conf('postgresql.conf', "cmblock.batch_rows = 20\ncmblock.peer_timeout = '1s'\ncmblock.connect_timeout = '1s'");
$p01->reload;
sql($p01, "ALTER SERVER s01 OPTIONS (SET host '127.0.0.1', SET port '$proxy->{port}')");

sub status
{
	my ($columns) = @_;

	return "SELECT concat_ws(' ', $columns) FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = 'S01'";
}

sub register
{
	my ($count) = @_;

	$n += $count;
	return sql($p01, "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) "
		  . "SELECT gen_random_uuid()::cmblock.smsid, 'pc', 'computer', 'P01', 2, false FROM generate_series(1, $count)");
}

# Something goes on that takes seconds, and S01 has had a part of it.
sub be_in_the_middle
{
	misbehave($proxy, 'slow');
	my $had = sql($s01, 'SELECT count(*) FROM cmblock.client');
	register(1000);
	return wait_until($s01, "SELECT count(*) > $had FROM cmblock.client", 'a round is under way');
}

# CEN gets everything although S01 does not.
sub others_go_on
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($cen, 'SELECT count(*) FROM cmblock.client', 'the other link goes on', $n);
}

sub ends_well
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	misbehave($proxy, 'forward');
	wait_for_equality(\%site, "$name: all sites are equal");
	return wait_until($p01, status('state, failures, lag_rows'), "$name: the link is well", 'active 0 0');
}

sub end_sessions_of_the_link
{
	return sql($s01, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'cmblock replicator P01 to S01'");
}

ends_well('at the beginning');

# ---------- the network ----------
be_in_the_middle();
misbehave($proxy, 'cut');
wait_until($p01, status('failures > 1, last_error_sqlstate, last_error LIKE \'%server closed the connection unexpectedly%\''), 'a cut is noticed, and so is that it lasts', 't 08001 t');
others_go_on();
ends_well('a network cut');

be_in_the_middle();
misbehave($proxy, 'hole');
wait_until($p01, status('last_error_sqlstate, last_error'), 'a black hole is noticed', '08006 the neighbour made no progress for 1 s');
wait_until($p01, status('last_error_sqlstate, last_error'), 'and that nobody answers', '08001 no connection within 1 s');
others_go_on();
ends_well('a black hole');

misbehave($proxy, 'half');
wait_until($s01, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cmblock replicator P01 to S01'", 'the session at the neighbour is gone', '0');
sql_is($p01, status('failures'), '0', 'which this side of a half-open connection cannot know');
register(1);
others_go_on();
wait_until($p01, status('last_error_sqlstate IN (\'08006\', \'08001\'), failures > 0'), 'until it has something to send', 't t');
ends_well('a half-open connection');

misbehave($proxy, 'slow');
register(400);
others_go_on();
wait_until($s01, 'SELECT count(*) FROM cmblock.client', 'a slow network takes longer than the deadline of a step', $n);
sql_is($p01, status('failures, last_error_at > now() - interval \'1 second\''), '0 f', 'and is not given up, as it makes progress');
ends_well('a slow network');

# ---------- a disk that is full ----------
# A real one: the system lets the server's files grow no further, in the middle of a block, and writes a part of it.
SKIP:
{
	my ($postmaster) = split /\n/, slurp_file($s01->data_dir . '/postmaster.pid');
	# WAL files must stay below the limit, and the table is to run into it.
	my $limit = 2 * 1024 * 1024 + 4096;
	my $rows = int(($limit - sql($s01, "SELECT pg_relation_size('cmblock.client')")) / 100);

	skip 'there is no prlimit', 6 if system("prlimit --pid $postmaster >/dev/null 2>&1") != 0;
	run_log([ 'prlimit', "--pid=$postmaster", "--fsize=$limit:unlimited" ]);
	end_sessions_of_the_link();
	register($rows);
	wait_until($p01, status('last_error LIKE \'could not extend file%\''), 'a full disk at the neighbour is told', 't');
	# Since PostgreSQL 16 a part that was written is followed by another attempt, and the error of that one has no class.
	sql_like($p01, status('last_error_sqlstate, last_error'),
		qr/^(?:53100 could not extend file "base\/\d+\/\d+": wrote only 4096 of 8192 bytes|XX000 could not extend file "base\/\d+\/\d+": File too large)/,
		'in words');
	others_go_on();
	sql_is($s01, "SELECT count(*) > 0 FROM cmblock.client WHERE NOT cmblock.is_allowed(smsid)", 'f', 'the neighbour decides meanwhile');
	run_log([ 'prlimit', "--pid=$postmaster", '--fsize=unlimited:unlimited' ]);
	end_sessions_of_the_link();
	ends_well('a full disk');
}

# ---------- killed ----------
my $launcher = sql($p01, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'cmblock launcher'");
be_in_the_middle();
kill 'KILL', $launcher;
wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock launcher' AND pid <> $launcher", 'after kill -9 the launcher is started again', '1');
worker_pid($p01);
ends_well('kill -9 of the launcher');

be_in_the_middle();
$s01->kill9;
wait_until($p01, status('failures > 1, last_error_sqlstate'), 'the link says that the neighbour is down', 't 08001');
others_go_on();
start_again($s01);
ends_well('kill -9 of the neighbour\'s postmaster');

be_in_the_middle();
$p01->kill9;
start_again($p01);
ends_well('kill -9 of the sender\'s postmaster');

# Numbers of transactions that a crash lost are used again, so a neighbour must not have heard of them.
my $pc = '22222222-2222-2222-2222-222222222222';
$p01->append_conf('postgresql.conf', "wal_writer_delay = '10s'");
$p01->restart;
sql($p01, "SELECT cmblock.register_client('$pc', 'pc')");
$n++;
wait_for_block($s01, $pc, 0, 'a client is known');
sql($p01, "SET synchronous_commit = off; SELECT cmblock.block_client('$pc')");
wait_for_block($s01, $pc, 1, 'a block that was committed asynchronously arrives');
$p01->kill9;
start_again($p01);
wait_for_block($p01, $pc, 1, 'so a crash of the sender does not lose it any more');
ends_well('asynchronous commits');

# ---------- accounts ----------
sql($s01, 'ALTER ROLE p01_link NOLOGIN');
end_sessions_of_the_link();
wait_until($p01, status('last_error LIKE \'%role "p01_link" is not permitted to log in%\''), 'a role that may not log in any more', 't');
sql($s01, 'ALTER ROLE p01_link LOGIN CONNECTION LIMIT 0');
wait_until($p01, status('last_error LIKE \'%too many connections for role "p01_link"%\''), 'or not so often', 't');
sql($s01, 'ALTER ROLE p01_link CONNECTION LIMIT -1');
ends_well('a role that could not log in');

# Settings that somebody made for the role there, and for the database here, where our own psql asks for others. The first
# statement of a session there, which sets the limits, has to be done within them.
my @settings = ("default_transaction_read_only = on", "default_transaction_isolation = serializable", "statement_timeout = '200ms'",
	"lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'", "idle_session_timeout = '1ms'", "search_path = ''",
	"DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", "bytea_output = 'escape'", "standard_conforming_strings = off",
	"row_security = off", "enable_indexscan = off");
push @settings, "transaction_timeout = '200ms'" if $p01->pg_version >= 17;
{
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'default_transaction_read_only=off', 'default_transaction_isolation=read\\ committed',
	  'DateStyle=ISO', 'TimeZone=UTC', 'bytea_output=hex', map { "$_=0" } map { /^(\w+timeout)/ } @settings;
	sql($s01, "ALTER ROLE p01_link SET $_") foreach @settings;
	sql($p01, "ALTER DATABASE postgres SET $_") foreach @settings;
	my $old = worker_pid($p01);
	sql($p01, "SELECT pg_terminate_backend($old)");
	worker_pid($p01, $old);
	register(100);
	ends_well('hostile settings at both ends');
	sql($s01, 'ALTER ROLE p01_link RESET ALL');
	sql($p01, 'ALTER DATABASE postgres RESET ALL');
}

sql($s01, "SELECT cmblock.revoke_privilege('p01_link', 'replication_peer')");
register(1);
# Of apply_changes, and at the next attempt of open_link.
wait_until($p01, status("last_error_sqlstate, last_error LIKE 'permission denied for function %'"), 'a role without the privilege, in the middle of a session', '42501 t');
wait_until($p01, status('last_error_sqlstate, last_error'), 'and at the next attempt', '42501 permission denied for schema cmblock')
  if sql($s01, "SELECT has_schema_privilege('p01_link', 'cmblock', 'USAGE')") eq 'f';
sql($s01, "SELECT cmblock.grant_privilege('p01_link', 'replication_peer')");
ends_well('a privilege that was revoked');

my $hba = $s01->data_dir . '/pg_hba.conf';
my $trusting = slurp_file($hba);
sub authenticate
{
	my ($lines) = @_;

	unlink $hba;
	append_to_file($hba, "$lines\n$trusting");
	$s01->reload;
	return end_sessions_of_the_link();
}
sql($s01, "ALTER ROLE p01_link PASSWORD 'the old one'");
sql($p01, "ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (ADD password 'the old one')");
authenticate('host all p01_link 127.0.0.1/32 scram-sha-256');
register(1);
ends_well('a password');
sql($s01, "ALTER ROLE p01_link PASSWORD 'the new one'");
end_sessions_of_the_link();
wait_until($p01, status('last_error LIKE \'%password authentication failed for user "p01_link"%\''), 'a password that was changed', 't');
register(1);
others_go_on();
sql($p01, "ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (SET password 'the new one')");
ends_well('the new password');

# ---------- certificates ----------
my $authority = ca('TLS authority');

# Certificates of the neighbour and of this site.
sub pair_of_certificates
{
	my (%opt) = @_;
	my @server = ('basicConstraints = CA:FALSE', 'extendedKeyUsage = serverAuth', 'subjectAltName = IP:127.0.0.1');

	return (leaf($authority, '127.0.0.1', extensions => \@server, %opt), leaf($authority, 'p01_link', %opt));
}
my @good = pair_of_certificates();
my @expired = pair_of_certificates(not_before => time - 86400, not_after => time - 60);

# Who the neighbour is, and who we are, from now on.
sub use_certificates
{
	my ($server, $client) = @_;

	copy($server->{pem}, $s01->data_dir . '/server.crt');
	copy($server->{key}, $s01->data_dir . '/server.key');
	chmod 0600, $s01->data_dir . '/server.key', $client->{key};
	$s01->reload;
	sql($p01, "ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (SET sslcert '$client->{pem}', SET sslkey '$client->{key}')");
	return end_sessions_of_the_link();
}
copy($authority->{pem}, $s01->data_dir . '/root.crt');
copy($good[0]{pem}, $s01->data_dir . '/server.crt');
copy($good[0]{key}, $s01->data_dir . '/server.key');
chmod 0600, $s01->data_dir . '/server.key', map { $_->{key} } @good, @expired;
$s01->append_conf('postgresql.conf', "ssl = on\nssl_ca_file = 'root.crt'");
authenticate('hostssl all p01_link 127.0.0.1/32 cert');
sql($p01, "ALTER SERVER s01 OPTIONS (ADD sslmode 'verify-full', ADD sslrootcert '$authority->{pem}')");
sql($p01, "ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (DROP password, ADD sslcert '$good[1]{pem}', ADD sslkey '$good[1]{key}')");
register(1);
ends_well('certificates');
sql_is($s01, "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND client_dn = '/CN=p01_link'", '1', 'the link is encrypted and known by its certificate');
register(1);
use_certificates($good[0], $expired[1]);
wait_until($p01, status('last_error LIKE \'%SSL error: %certificate expired%\''), 'this site\'s certificate expired', 't');
others_go_on();
use_certificates($expired[0], $good[1]);
wait_until($p01, status('last_error LIKE \'%SSL error: certificate verify failed%\''), 'the neighbour\'s certificate expired', 't');
use_certificates(@good);
ends_well('certificates that were renewed');

# ---------- a peer of another version ----------
# Whatever another version's functions look like, they are not those that are called; 031_apply has the other protocol.
sql($s01, 'ALTER FUNCTION cmblock.open_link RENAME TO open_link_of_another_version');
end_sessions_of_the_link();
register(1);
wait_until($p01, status('last_error_sqlstate, last_error LIKE \'function cmblock.open_link(%) does not exist\''), 'a neighbour of another version', '42883 t');
others_go_on();
sql($s01, 'ALTER FUNCTION cmblock.open_link_of_another_version RENAME TO open_link');
ends_well('both of the same version');

# ---------- in the end ----------
for my $code (qw(CEN P01 S01))
{
	my $log = slurp_file($site{$code}->logfile);

	unlike($log, qr/PANIC|TRAP|segmentation/i, "$code has not crashed by itself");
	is(() = $log =~ /terminated by signal 9/g, $code eq 'P01' ? 1 : 0, 'only who was killed was');
}

done_testing();
