# Where the refresher may fetch from: https, files, proxies, what CA certificates and CRLs name, and never what a client names.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlServer;
use File::Spec::Functions qw(rel2abs);
use IO::Socket::INET;
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# A name server that does not answer, for one name: the resolver's function is replaced in the server's processes.
sub slow_resolver
{
	my $base = rel2abs(PostgreSQL::Test::Utils::tempdir('resolver')) . '/slow';

	CmblockTest::write_file("$base.c", <<'END');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");

	if (node && strcmp(node, "slow.invalid") == 0)
		sleep(600);
	return real(node, service, hints, res);
}
END
	return IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', "$base.so", "$base.c", '-ldl' ]) ? "$base.so" : undef;
}

my $server = CrlServer->new;
my $proxy = CrlServer->new;
my $files = rel2abs(PostgreSQL::Test::Utils::tempdir('crl_files'));
my $resolver = slow_resolver();
my $node;
{
	# Nothing in the environment may lead the worker astray: no proxy is there, and none may be passed by.
	local $ENV{http_proxy} = 'http://127.0.0.1:1';
	local $ENV{ALL_PROXY} = 'http://127.0.0.1:1';
	local $ENV{no_proxy} = '*';

	$node = new_site('p01', extension => 0, conf => <<'END');
cmblock.crl_connect_timeout = '2s'
cmblock.crl_fetch_timeout = '5s'
restart_after_crash = on
log_line_prefix = '%m [%p] %b '
END
	$node->stop;
	local $ENV{LD_PRELOAD} = $resolver if $resolver;
	$node->start;
}
sql($node, 'CREATE EXTENSION cmblock');

sub thumbprint
{
	return "'$_[0]->{sha256}'::cmblock.thumbprint";
}

sub add_ca
{
	return sql($node, "SELECT cmblock.add_certificate_authority(${\ bytea($_[0]) })");
}

sub add_source
{
	my ($ca, $url, $delta) = @_;

	return sql($node, "SELECT cmblock.add_crl_distribution_point(${\ thumbprint($ca) }, '$url', "
		  . ($delta ? 'true' : 'false') . ')');
}

sub becomes
{
	my ($url, $condition, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($node, "SELECT $condition FROM cmblock.crl_status WHERE url = '$url'", $name);
}

sub set
{
	my (%settings) = @_;

	$node->append_conf('postgresql.conf', "cmblock.$_ = '$settings{$_}'") foreach keys %settings;
	$node->reload;
	return;
}

# Wait until somebody listens there.
sub accepts
{
	my ($wanted) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $wanted))
	{
		return 0 if time > $end;
		usleep(50_000);
	}
	return 1;
}

my $worker = "FROM pg_stat_activity WHERE backend_type = 'cmblock refresher'";
my $root = ca('Root');
my $crl = crl($root, number => 1);
add_ca($root);
$server->put('root.crl', slurp_file($crl->{der}));
$proxy->put('root.crl', slurp_file($crl->{der}));

# ---------------------------------------------------------------------------------------------
# Proxies
# ---------------------------------------------------------------------------------------------

my $direct = $server->url('file', 'root.crl');
add_source($root, $direct);
becomes($direct, "state = 'ok'", 'a proxy of the environment is not asked');

set(crl_proxy => "http://127.0.0.1:$proxy->{port}");
my $beyond = 'http://pki.example.invalid/file/root.crl';
add_source($root, $beyond);
becomes($beyond, "state = 'ok'", 'the proxy of the setting is');
is($proxy->requests(qr{^GET http://pki.example.invalid/file/root.crl$}), 1, 'with the whole address');
my $local = $server->url('plain', 'root.crl');
add_source($root, $local);
becomes($local, "state = 'ok'", 'for every host');
is($server->requests(qr{/plain/}), 0, 'whatever no_proxy says');
set(crl_proxy => '');
sql_fails($node, "ALTER SYSTEM SET cmblock.crl_proxy = 'http://user:secret\@proxy:1'", '22023', qr/can be read by everyone/,
	'a proxy with a password is refused');
sql_fails($node, "ALTER SYSTEM SET cmblock.crl_proxy = 'proxy:3128'", '22023', qr/It has to be an address such as/,
	'and one that is no address');
sql_fails($node, "ALTER SYSTEM SET cmblock.crl_file_directory = 'crls'", '22023', qr/It has to be an absolute path/,
	'so is a relative path');

# ---------------------------------------------------------------------------------------------
# https
# ---------------------------------------------------------------------------------------------

my $web_ca = ca('Web CA');
my $web = leaf($web_ca, '127.0.0.1', extensions => [ 'subjectAltName = IP:127.0.0.1', 'extendedKeyUsage = serverAuth' ]);
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $web_dir = PostgreSQL::Test::Utils::tempdir('web');
my $https = "https://127.0.0.1:$port";
my $web_log = '';
CmblockTest::write_file("$web_dir/root.crl", "HTTP/1.0 200 OK\r\n\r\n" . slurp_file($crl->{der}));
CmblockTest::write_file("$web_dir/back", "HTTP/1.0 302 Found\r\nLocation: $direct\r\n\r\n");
my $web_server = IPC::Run::start(
	[ 'openssl', 's_server', '-HTTP', '-quiet', '-accept', "127.0.0.1:$port", '-cert', rel2abs($web->{pem}),
		'-key', rel2abs($web->{key}) ],
	'<', \undef, '>', \$web_log, '2>&1', init => sub { chdir $web_dir or die $! });
END { my $status = $?; $web_server->kill_kill if $web_server; $? = $status; }

ok(accepts($port), 'an https server');
add_source($root, "$https/root.crl");
becomes("$https/root.crl", "state = 'failing' AND last_error ~ 'certificate'", 'a server of an unknown CA is not trusted');
set(crl_tls_ca_file => rel2abs($web_ca->{pem}));
sql($node, 'SELECT cmblock.refresh_crls()');
becomes("$https/root.crl", "state = 'ok'", 'its CA can be named');
add_source($root, "https://localhost:$port/root.crl");
becomes("https://localhost:$port/root.crl", "state = 'failing' AND last_error ~* 'name|match'", 'its name is looked at');
add_source($root, "$https/back");
becomes("$https/back", "state = 'failing' AND last_error ~ 'https address may not lead to an http address'", 'https does not lead back to http');
$server->put('to-https', "$https/root.crl");
my $up = $server->url('redirect', 'to-https');
add_source($root, $up);
becomes($up, "state = 'ok'", 'http may lead to https');
$server->put('to-back', "$https/back");
my $zigzag = $server->url('redirect', 'to-back');
add_source($root, $zigzag);
becomes($zigzag, "state = 'failing' AND last_error ~ 'https address may not lead'", 'but not there and back');
sql($node, 'DELETE FROM cmblock.crl_source');

# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

my $add = 'SELECT cmblock.add_crl_distribution_point(' . thumbprint($root);
sql_fails($node, "$add, 'file://$files/root.crl')", '55000', qr/switched off/, 'no file addresses without a directory');
set(crl_file_directory => $files);
CmblockTest::write_file("$files/root.crl", slurp_file($crl->{der}));
CmblockTest::write_file("$files/a b.crl", slurp_file($crl->{der}));
symlink '/etc/passwd', "$files/link" or die $!;
symlink 'root.crl', "$files/good-link" or die $!;
POSIX::mkfifo("$files/fifo", oct('0644')) or die $!;
mkdir "$files-other" or die $!;
CmblockTest::write_file("$files-other/root.crl", slurp_file($crl->{der}));
my %file = (
	"file://$files/root.crl" => "state = 'ok'",
	"file://$files/a%20b.crl" => "state = 'ok'",
	"file://$files/good-link" => "state = 'ok'",
	"file://$files/link" => "last_error = 'The file is not below cmblock.crl_file_directory.'",
	"file://$files/fifo" => "last_error = 'The address does not lead to a plain file.'",
	"file://$files" => "last_error = 'The file is not below cmblock.crl_file_directory.'",
	"file://$files/" => "last_error = 'The file is not below cmblock.crl_file_directory.'",
	"file://$files-other/root.crl" => "last_error = 'The file is not below cmblock.crl_file_directory.'",
	"file://$files/none" => "last_error = 'There is no such file.'",
	'file:///etc/passwd' => "last_error = 'The file is not below cmblock.crl_file_directory.'");
add_source($root, $_) foreach sort keys %file;
foreach my $url (sort keys %file)
{
	(my $name = $url) =~ s/\Q$files\E/(directory)/;
	becomes($url, $file{$url}, $name);
}
symlink $files, "$files-link" or die $!;
set(crl_file_directory => "$files-link/");
add_source($root, "file://$files-link/root.crl");
becomes("file://$files-link/root.crl", "state = 'ok'", 'the directory may be a link, and end in a slash');
set(crl_file_directory => '');
sql($node, 'SELECT cmblock.refresh_crls()');
becomes("file://$files/root.crl", "last_error ~ 'switched off'", 'the directory can be taken away again');
sql($node, 'DELETE FROM cmblock.crl_source');

# ---------------------------------------------------------------------------------------------
# What CA certificates and CRLs name
# ---------------------------------------------------------------------------------------------

my $issuing = ca('Issuing', issuer => $root, extensions => [
	'basicConstraints = critical, CA:TRUE', 'keyUsage = critical, keyCertSign, cRLSign', 'subjectKeyIdentifier = hash',
	"crlDistributionPoints = URI:$direct, URI:ldap:///CN=Root?certificateRevocationList, URI:file:///etc/passwd",
	'freshestCRL = URI:' . $server->url('file', 'root-delta.crl') ]);
my $named = 'SELECT string_agg(concat_ws(\' \', a.subject, s.delta, s.origin, s.url), E\'\n\' ORDER BY s.delta, s.url) '
  . 'FROM cmblock.crl_source s JOIN cmblock.certificate_authority a ON a.sha256 = s.authority';
my $of_certificate = "CN=Root f ca_certificate $direct\n"
  . "CN=Root f ca_certificate ldap:///CN=Root?certificateRevocationList\n"
  . 'CN=Root t ca_certificate ' . $server->url('file', 'root-delta.crl');
$server->put('root-delta.crl', slurp_file(crl($root, number => 2, base => 1)->{der}));
add_ca($issuing);
wait_until($node, "SELECT count(*) = 3 FROM cmblock.crl_source", 'what the certificate of a CA names is found');
sql_is($node, $named, $of_certificate, 'as sources for its issuer\'s CRLs, and no files');
becomes($direct, "state = 'ok'", 'they are fetched');
becomes($server->url('file', 'root-delta.crl'), "state = 'ok' AND number = 2", 'deltas, too');
sql_is($node, "SELECT state, advice ~ 'over http' FROM cmblock.crl_status WHERE url ~ '^ldap'", 'unsupported|t', 'LDAP is shown as what it is');

my $issuing_url = $server->url('file', 'issuing.crl');
my $issuing_delta_url = $server->url('file', 'issuing-delta.crl');
my $revoked = leaf($issuing, 'revoked');
$server->put('issuing.crl', slurp_file(crl($issuing, number => 10, extensions => ["freshestCRL = URI:$issuing_delta_url"])->{der}));
$server->put('issuing-delta.crl', slurp_file(crl($issuing, number => 11, base => 10, revoked => [$revoked])->{der}));
add_source($issuing, $issuing_url);
becomes($issuing_delta_url, "state = 'ok' AND origin = 'freshest_crl' AND number = 11", 'a full CRL leads to its deltas');
sql_is($node, "SELECT status FROM cmblock.revocation_status(${\ bytea($revoked) })", 'revoked', 'what they revoke is revoked');

sql($node, "SELECT cmblock.remove_crl_distribution_point(${\ thumbprint($root) }, '$direct')");
sql($node, "SELECT cmblock.remove_crl_distribution_point(${\ thumbprint($issuing) }, '$issuing_url')");
sql_is($node, "SELECT count(*) FROM cmblock.crl_status WHERE url = '$issuing_url'", '0', 'a configured source can be removed');
sql_is($node, "SELECT state FROM cmblock.crl_status WHERE url = '$direct'", 'disabled', 'one that a certificate names is switched off');
my $asked = $server->requests(qr{/root.crl});
sql($node, 'SELECT cmblock.refresh_crls()');
becomes($issuing_delta_url, 'last_attempt > last_success - interval \'1 minute\' AND next_attempt IS NOT NULL', 'the others are asked');
is($server->requests(qr{/root.crl}), $asked, 'it is not');
add_source($root, $direct);
becomes($direct, "state = 'ok' AND origin = 'configured'", 'and switched on again');
sql($node, "SELECT cmblock.remove_crl_distribution_point(${\ thumbprint($root) }, '$direct')");
sql_is($node, "SELECT state, origin FROM cmblock.crl_status WHERE url = '$direct'", 'disabled|ca_certificate', 'and off');
sql_fails($node, "SELECT cmblock.remove_crl_distribution_point(${\ thumbprint($root) }, 'http://127.0.0.1/other')", '42704', qr/nothing is fetched/,
	'what is not there cannot be removed');
sql($node, "SELECT cmblock.remove_certificate_authority(${\ thumbprint($issuing) })");
wait_until($node, 'SELECT count(*) = 0 FROM cmblock.crl_source', 'a CA that is taken out of the list takes its sources along');
wait_until($node, "SELECT count(*) = 0 $worker", 'and the process ends');

# ---------------------------------------------------------------------------------------------
# Never what a client's certificate names
# ---------------------------------------------------------------------------------------------

my $client = leaf($root, 'client', extensions => [
	'basicConstraints = CA:FALSE', 'keyUsage = digitalSignature', 'extendedKeyUsage = clientAuth',
	'crlDistributionPoints = URI:' . $server->url('file', 'client.crl'), 'freshestCRL = URI:' . $server->url('file', 'client-delta.crl'),
	'authorityInfoAccess = caIssuers;URI:' . $server->url('file', 'client.cer') . ',OCSP;URI:' . $server->url('file', 'client-ocsp') ]);
setup_site($node, code => 'P01', kind => 'primary');
sql($node, "SELECT cmblock.register_client('GUID:00000000-0000-0000-0000-000000000001', 'client')");
sql($node, "SELECT cmblock.register_certificate(${\ bytea($client) }, 'GUID:00000000-0000-0000-0000-000000000001')");
sql($node, "SELECT cmblock.check_access('GUID:00000000-0000-0000-0000-000000000001', ${\ bytea($client) })");
sql($node, "SELECT cmblock.revocation_status(${\ bytea($client) })");
add_source($root, $direct);
sql($node, 'SELECT cmblock.refresh_crls()');
becomes($direct, "state = 'ok'", 'the refresher has run meanwhile');
is($server->requests(qr/client/), 0, 'what the certificate of a client names was not asked');
sql_is($node, "SELECT count(*) FROM cmblock.crl_source WHERE url ~ 'client'", '0', 'nor is it a source');

# ---------------------------------------------------------------------------------------------
# A CRL that is held back, and let in
# ---------------------------------------------------------------------------------------------

my @many = map { { serial => sprintf('%04X', 0x1000 + $_) } } 1 .. 40;
$server->put('root.crl', slurp_file(crl($root, number => 20, revoked => \@many, this_update => time - 100)->{der}));
sql($node, 'SELECT cmblock.refresh_crls()');
becomes($direct, 'number = 20', 'a CRL with many entries');
$server->put('root.crl', slurp_file(crl($root, number => 21, this_update => time - 50)->{der}));
sql($node, 'SELECT cmblock.refresh_crls()');
becomes($direct, "state = 'held_back' AND rejected <> '' AND number = 20", 'the next one is empty: it is held back');
sql($node, 'SELECT cmblock.refresh_crls()');
becomes($direct, "next_attempt IS NOT NULL AND state = 'held_back' AND rejected !~ 'before'", 'it stays so, with the reason');
sql($node, "SELECT cmblock.accept_crl(sha256) FROM cmblock.crl WHERE state = 'held_back'");
sql_is($node, "SELECT state, number FROM cmblock.crl_status WHERE url = '$direct'", 'ok|21', 'until an administrator lets it in');

# ---------------------------------------------------------------------------------------------
# A name server that does not answer
# ---------------------------------------------------------------------------------------------

SKIP:
{
	skip 'no C compiler', 4 unless $resolver;

	sql($node, 'DELETE FROM cmblock.crl_source');
	add_source($root, 'http://slow.invalid/root.crl');
	wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'slow.invalid'", 'a name is being resolved');
	my $begin = time;
	add_source($root, $direct);
	becomes($direct, "state = 'ok'", 'that holds nobody up');
	cmp_ok(time - $begin, '<', 2, 'not for a moment');
	becomes('http://slow.invalid/root.crl', "last_error ~ 'No connection came about in time'", 'and it is given up in time');
	set(crl_connect_timeout => '60s', crl_fetch_timeout => '60s');
	sql($node, 'SELECT cmblock.refresh_crls()');
	wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'slow.invalid'", 'once more');
	my $pid = sql($node, "SELECT pid $worker");
	$begin = time;
	sql($node, "SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'the process ends');
	cmp_ok(time - $begin, '<', 2, 'within two seconds');
}

# ---------------------------------------------------------------------------------------------
# Crashes and promotion
# ---------------------------------------------------------------------------------------------

sql($node, 'DELETE FROM cmblock.crl_source');
my $hang = $server->url('hang');
add_source($root, $direct);
add_source($root, $hang);
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'hang'", 'busy');
my $victim = sql($node, "SELECT pid $worker");
kill 'KILL', $victim;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $worker AND pid <> $victim AND query ~ 'hang'"),
	'after kill -9 a new process goes on with what was under way');

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) $worker"), '0', 'no refresher on a standby');
like($standby->safe_psql('postgres', "SELECT advice FROM cmblock.crl_status WHERE url = '$hang'"), qr/Nothing is fetched: the refresher does not run \(no launcher\)/,
	'which crl_status says there');
$node->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('postgres', "SELECT count(*) = 1 $worker"), 'it begins with the promotion');
$standby->stop('immediate');
done_testing();
