# Nobody holds the refresher up: no session with a lock, no clock that is set back. And what a server or the system may not do.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlServer;
use File::Spec::Functions qw(rel2abs);
use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# For the processes of the server only: a clock that the test sets, a note when the CAs of the system are looked at, and an
# address elsewhere, 192.0.2.1, at which the test's servers are.
my $dir = rel2abs(PostgreSQL::Test::Utils::tempdir('shim'));
CmblockTest::write_file("$dir/shim.c", <<'SHIM');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
static volatile int64_t *seconds;
static __attribute__((constructor)) void begin(void)
{
	const char *path = getenv("SHIM_CLOCK");
	int fd = path ? open(path, O_RDONLY) : -1;
	void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED)
		seconds = map;
}
int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
	int result = real(tv, tz);

	if (seconds)
		tv->tv_sec += *seconds;
	return result;
}
int connect(int fd, const struct sockaddr *address, socklen_t size)
{
	int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	struct sockaddr_in here;

	if (address->sa_family == AF_INET && ((const struct sockaddr_in *) address)->sin_addr.s_addr == htonl(0xc0000201))
	{
		memcpy(&here, address, sizeof(here));
		here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return real(fd, (const struct sockaddr *) &here, sizeof(here));
	}
	return real(fd, address, size);
}
int stat(const char *restrict path, struct stat *restrict info)
{
	int (*real)(const char *, struct stat *) = dlsym(RTLD_NEXT, "stat");
	const char *note = getenv("SHIM_NOTE");

	if (note && strncmp(path, "/etc/ssl/certs/", 15) == 0)
		close(open(note, O_CREAT | O_WRONLY, 0600));
	return real(path, info);
}
SHIM
plan skip_all => 'no C compiler'
  unless IPC::Run::run([ 'cc', '-shared', '-fPIC', '-O', '-o', "$dir/shim.so", "$dir/shim.c", '-ldl' ]);

sub set_clock
{
	open my $fh, '+<:raw', "$dir/clock" or die $!;
	syswrite $fh, pack('q', $_[0]);
	close $fh;
	return;
}
CmblockTest::write_file("$dir/clock", pack('q', 0));

my $server = CrlServer->new;
my $node = new_site('p01', extension => 0, conf => <<'CONF');
cmblock.crl_connect_timeout = '3s'
cmblock.crl_fetch_timeout = '3s'
log_line_prefix = '%m [%p] %b '
CONF
$node->stop;
{
	local $ENV{LD_PRELOAD} = "$dir/shim.so";
	local $ENV{SHIM_CLOCK} = "$dir/clock";
	local $ENV{SHIM_NOTE} = "$dir/note";
	$node->start;
}
sql($node, 'CREATE EXTENSION cmblock');

sub thumbprint
{
	return "'$_[0]->{sha256}'::cmblock.thumbprint";
}

sub add_source
{
	my ($ca, $url) = @_;

	return sql($node, "SELECT cmblock.add_crl_distribution_point(${\ thumbprint($ca) }, '$url')");
}

sub becomes
{
	my ($url, $condition, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($node, "SELECT $condition FROM cmblock.crl_status WHERE url = '$url'", $name);
}

sub put
{
	my ($ca, $file, $number) = @_;

	return $server->put($file, slurp_file(crl($ca, number => $number)->{der}));
}

my $worker = "FROM pg_stat_activity WHERE backend_type = 'cmblock refresher'";
my ($root, $other) = map { ca($_) } qw(Root Other);
sql($node, "SELECT cmblock.add_certificate_authority(${\ bytea($_) })") foreach $root, $other;
my ($of_root, $mirror, $of_other) = ($server->url('file', 'root.crl'), $server->url('plain', 'root.crl'), $server->url('file', 'other.crl'));
put($root, 'root.crl', 1);
put($other, 'other.crl', 1);
add_source($root, $of_root);
add_source($other, $of_other);
becomes($_, "state = 'ok' AND number = 1", 'a CRL') foreach $of_root, $of_other;

# ---------------------------------------------------------------------------------------------
# A session that is idle in a transaction, with a lock
# ---------------------------------------------------------------------------------------------

my $idle = $node->background_psql('postgres');
put($root, 'root.crl', 2);
put($other, 'other.crl', 2);
my $log = -s $node->logfile;
$idle->query_safe("BEGIN; SELECT FROM cmblock.crl_source WHERE url = '$of_root' FOR UPDATE");
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$of_other'");
becomes($of_other, 'number = 2', 'while the row of one source is locked, another is fetched');
$idle->query_safe('COMMIT');

# The row is locked again as soon as its fetch is under way.
sql($node, "UPDATE cmblock.crl_source SET url = '${\ $server->url('hang') }', next_attempt = NULL WHERE url = '$of_root'");
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'hang'", 'a fetch that takes its time');
$idle->query_safe("BEGIN; SELECT FROM cmblock.crl_source WHERE url ~ 'hang' FOR UPDATE");
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'waiting for a lock to take in .*hang'", 'its end cannot be noted: the row is locked');
put($other, 'other.crl', 3);
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$of_other'");
becomes($of_other, 'number = 3', 'the other source does not wait for that');
$idle->query_safe('COMMIT');
wait_until($node, "SELECT failures = 1 FROM cmblock.crl_source WHERE url ~ 'hang'", 'it is noted when the lock is gone');
is(() = slurp_file($node->logfile, $log) =~ /waits for a lock of another session/g, 1, 'the log tells of it, once');

# The series of a CRL
sql($node, "UPDATE cmblock.crl_source SET url = '$of_root' WHERE url ~ 'hang'");
$idle->query_safe("BEGIN; SELECT cmblock.import_crl(${\ bytea(crl($root, number => 3)) })");
sql($node, 'SELECT cmblock.refresh_crls()');
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'waiting for a lock to take in .*root.crl'", 'its series is locked by an import');
put($other, 'other.crl', 4);
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$of_other'");
becomes($of_other, 'number = 4', 'another series does not wait for that');
$idle->query_safe('ROLLBACK');
becomes($of_root, "state = 'ok' AND number = 2", 'when the import is rolled back, the CRL is taken in');

# The other session may want the row as well, which the refresher has: the refresher gives way.
put($root, 'root.crl', 3);
$idle->query_safe("BEGIN; SELECT cmblock.import_crl(${\ bytea(crl($root, number => 4)) })");
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$of_root'");
wait_until($node, "SELECT count(*) = 1 $worker AND wait_event_type = 'Lock'", 'a deadlock in the making');
$idle->query_safe("SELECT FROM cmblock.crl_source WHERE url = '$of_root' FOR UPDATE");
$idle->query_safe('ROLLBACK');
becomes($of_root, "state = 'ok' AND number = 3 AND last_error !~ 'deadlock'", 'and nobody has failed');

# Sources of one series share their next attempt: one that is locked is left out.
add_source($root, $mirror);
becomes($mirror, "state = 'ok'", 'a second source of the series');
$idle->query_safe("BEGIN; UPDATE cmblock.crl_source SET enabled = true WHERE url = '$mirror'");
put($root, 'root.crl', 4);
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$of_root'");
becomes($of_root, 'number = 4', 'who has locked the second can wait for the first without a deadlock');
$idle->query_safe('COMMIT');

# A source that nobody names any more has to go, and is locked.
sql($node, 'ALTER TABLE cmblock.crl_source DISABLE TRIGGER changed');
sql($node, "INSERT INTO cmblock.crl_source (authority, url, delta, origin, next_attempt) "
	  . "VALUES (${\ thumbprint($root) }, 'http://127.0.0.1:1/x', true, 'freshest_crl', 'infinity')");
sql($node, 'ALTER TABLE cmblock.crl_source ENABLE ALWAYS TRIGGER changed');
$idle->query_safe("BEGIN; SELECT FROM cmblock.crl_source WHERE origin = 'freshest_crl' FOR UPDATE");
put($other, 'other.crl', 5);
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$of_other'");
becomes($of_other, 'number = 5', 'the others are fetched meanwhile');
$idle->query_safe('COMMIT');
$idle->quit;
sql($node, "UPDATE cmblock.crl_source SET requested_at = NULL WHERE url = '$of_other'");
wait_until($node, "SELECT count(*) = 0 FROM cmblock.crl_source WHERE origin = 'freshest_crl'", 'it goes when it can');

# ---------------------------------------------------------------------------------------------
# The clock
# ---------------------------------------------------------------------------------------------

sql($node, "DELETE FROM cmblock.crl_source WHERE url = '$mirror'");
set_clock(86400);
sql($node, 'SELECT cmblock.refresh_crls()');
wait_until($node, "SELECT min(last_attempt) > now() - interval '1 hour' AND min(next_attempt) > now() FROM cmblock.crl_source",
	'the clock is a day ahead: all is planned by it');
set_clock(0);
sql($node, "UPDATE cmblock.crl_source SET requested_at = NULL");
wait_until($node, "SELECT max(last_attempt) <= now() AND max(next_attempt) < now() + interval '90 minutes' FROM cmblock.crl_source",
	'when it is right again, the plans of that time do not count');
my $hang = $server->url('hang');
add_source($root, $hang);
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'hang'", 'a server that does not answer');
my $begin = time;
set_clock(-86400);
wait_until($node, "SELECT last_error ~ 'within cmblock.crl_fetch_timeout' FROM cmblock.crl_source WHERE url = '$hang'",
	'is given up, also when the clock was set back meanwhile');
cmp_ok(time - $begin, '<', 30, 'in time');
set_clock(0);
sql($node, "DELETE FROM cmblock.crl_source WHERE url = '$hang'");

# ---------------------------------------------------------------------------------------------
# What a server or the system may not do
# ---------------------------------------------------------------------------------------------

$server->put('to-login', 'http://canary:canary2@127.0.0.1/x');
$server->put('to-ftp', 'ftp://canary:canary2@127.0.0.1/x');
foreach my $file ('to-login', 'to-ftp')
{
	my $url = $server->url('redirect', $file);

	add_source($root, $url);
	becomes($url, "state = 'failing'", "redirected to a place with a password: $file");
	sql_like($node, "SELECT last_error FROM cmblock.crl_source WHERE url = '$url'", qr/127\.0\.0\.1/, 'the place is shown');
}
sql_is($node, "SELECT count(*) FROM cmblock.crl_status WHERE last_error ~ 'canary'", '0', 'and no password');
unlike(slurp_file($node->logfile), qr/The source is .*canary/, 'nor does the log have it');

(my $elsewhere = $server->url('file', 'other.crl')) =~ s/127\.0\.0\.1/192.0.2.1/;
$server->put('to-elsewhere', $elsewhere);
$server->put('to-here', $of_other);
$server->put('to-link', 'http://169.254.169.254/latest');
$server->put('to-mapped', 'http://[::ffff:127.0.0.1]/x');
foreach my $file ('to-elsewhere', 'to-here', 'to-link', 'to-mapped')
{
	(my $url = $server->url('redirect', $file)) =~ s/127\.0\.0\.1/192.0.2.1/;

	add_source($other, $url);
	becomes($url, {
			'to-elsewhere' => "state = 'ok'",
			'to-mapped' => "state = 'failing'"    # whatever this machine knows of IPv6
		}->{$file} // "last_error ~ 'to an address of this machine'", "redirected from elsewhere: $file");
}
$server->put('to-there', $elsewhere);
add_source($other, $server->url('redirect', 'to-there'));
becomes($server->url('redirect', 'to-there'), "state = 'ok'", 'from here to elsewhere is another thing');

my $web = leaf(ca('Web CA'), '127.0.0.1', extensions => [ 'subjectAltName = IP:127.0.0.1', 'extendedKeyUsage = serverAuth' ]);
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $out = '';
my $web_server = IPC::Run::start([ 'openssl', 's_server', '-HTTP', '-quiet', '-accept', "127.0.0.1:$port", '-cert', rel2abs($web->{pem}),
		'-key', rel2abs($web->{key}) ], '<', \undef, '>', \$out, '2>&1');
END { my $status = $?; $web_server->kill_kill if $web_server; $? = $status; }
my $https = "https://127.0.0.1:$port/root.crl";

my $end = time + $PostgreSQL::Test::Utils::timeout_default;

usleep(50_000) until IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) || time > $end;
add_source($root, $https);
becomes($https, "state = 'failing' AND last_error ~ 'certificate'", 'an https server of an unknown CA');
SKIP:
{
	skip 'this libcurl has no directory of CAs', 2 unless unlink "$dir/note";
	$node->append_conf('postgresql.conf', "cmblock.crl_tls_ca_file = '" . rel2abs($root->{pem}) . "'");
	$node->reload;
	sql($node, "SELECT cmblock.refresh_crls(${\ thumbprint($root) })");
	wait_until($node, "SELECT failures >= 2 FROM cmblock.crl_source WHERE url = '$https'", 'it is unknown to a file of CAs as well');
	ok(!-e "$dir/note", 'then the CAs of the system are not asked');
}
$node->stop('fast');
done_testing();
