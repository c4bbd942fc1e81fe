# A real site system: Debian's Apache httpd, with the files of examples/apache/, plays a management point and asks
# cmblock for each request. curl is the client. A client that is blocked, or whose certificate is revoked, between two
# requests on one TLS connection gets the second one refused, with the reason. And what the management point does when there is
# no decision: nobody is let in, and it needs no restart afterwards.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockSession;
use CmblockTest;
use File::Copy;
use IPC::Run;
use MIME::Base64;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../examples/apache";
my $modules = '/usr/lib/apache2/modules';
my $timeout = $PostgreSQL::Test::Utils::timeout_default;

foreach my $file ('/usr/sbin/apache2', "$modules/mod_lua.so",
	(map { (glob("/usr/lib/*/lua/5.*/$_.so"))[0] // "$_ for Lua" } qw(luasql/postgres _openssl)), '/usr/bin/curl')
{
	plan skip_all => "$file is missing: install apache2-bin, lua-luaossl, lua-sql-postgres and curl" unless -e $file;
}

# ---------- the site ----------

my $site = new_site('p01', code => 'P01', kind => 'primary');
my $ca = ca('Device CA');
my $unknown_ca = ca('Somebody else');
my %certificate = (
	(map { $_ => leaf($ca, $_) } qw(blocked revoked media other new)),
	self_signed => leaf(undef, 'self_signed'),
	untrusted => leaf($unknown_ca, 'untrusted'));
my %client = map { $_ => "GUID:00000000-0000-4000-8000-00000000000$_" } 1 .. 6;
my %of = (blocked => $client{1}, revoked => $client{2}, other => $client{3}, self_signed => $client{4}, untrusted => $client{5});
my $crl_number = 1;

sub import_crl
{
	my (@revoked) = @_;
	my $list = crl($ca, number => $crl_number++, revoked => [ map { $certificate{$_} } @revoked ]);

	return sql($site, "SELECT outcome FROM cmblock.import_crl(${\ bytea($list) })");
}

sql($site, "SELECT cmblock.add_certificate_authority(${\ bytea($ca) })");
import_crl();
foreach my $name (sort keys %of)
{
	sql($site, "SELECT cmblock.register_client('$of{$name}', '$name')");
	sql($site, "SELECT cmblock.register_certificate(${\ bytea($certificate{$name}) }, '$of{$name}')");
}
sql($site, "SELECT cmblock.register_certificate(${\ bytea($certificate{media}) }, type => 'boot_media')");
sql($site, "CREATE ROLE management_point LOGIN; SELECT cmblock.grant_privilege('management_point', 'site_system')");

# ---------- the management point ----------

my $dir = PostgreSQL::Test::Utils::tempdir('management_point');
my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } qw(https enhanced_http http forwarded);
my $curl_count = 0;
my $httpd_runs;

sub httpd
{
	my (@arguments) = @_;

	local $ENV{PGSERVICEFILE} = "$dir/pg_service.conf";
	# The role of the service is the one that counts.
	local @ENV{qw(PGUSER PGHOST PGPORT)};
	delete @ENV{qw(PGUSER PGHOST PGPORT)};
	return system('/usr/sbin/apache2', '-f', "$dir/httpd.conf", @arguments) == 0;
}

sub prepare_httpd
{
	my $server_ca = ca('Server CA');
	my $server = leaf($server_ca, 'management point', extensions => [ 'subjectAltName = IP:127.0.0.1, DNS:127.0.0.1' ]);
	my $service = slurp_file("$examples/pg_service.conf");

	copy("$examples/$_", "$dir/$_") or die "could not copy $_: $!" foreach qw(management-point.lua management-point.conf application.conf);
	copy($server->{pem}, "$dir/server.pem") or die "could not copy: $!";
	copy($server->{key}, "$dir/server.key") or die "could not copy: $!";
	copy($server_ca->{pem}, "$dir/ca.pem") or die "could not copy: $!";
	$service =~ s/^host=.*$/host=${\ $site->host }/m and $service =~ s/^port=.*$/port=${\ $site->port }/m
	  and $service =~ s/^dbname=.*$/dbname=postgres/m or die 'pg_service.conf is not as it was';
	write_file("$dir/pg_service.conf", $service);
	mkdir "$dir/htdocs" or die "could not make $dir/htdocs: $!";
	write_file("$dir/htdocs/$_", "the $_\n") foreach qw(policy os_deployment registration secret);
	write_file("$dir/httpd.conf", <<"END");
ServerRoot $dir
PidFile $dir/httpd.pid
ServerName 127.0.0.1
ErrorLog $dir/error.log
CustomLog $dir/access.log management_point
DefaultRuntimeDir $dir
KeepAliveTimeout $timeout
StartServers 1
ServerLimit 1
ThreadsPerChild 4
MaxRequestWorkers 4
@{[ map { "LoadModule ${_}_module $modules/mod_$_.so\n" } qw(mpm_event authz_core env headers lua ssl) ]}
Mutex file:$dir
Define MP_DIR $dir
Define MP_ADDRESS 127.0.0.1
Define MP_HTTPS $port{https}
Define MP_ENHANCED_HTTP $port{enhanced_http}
Define MP_HTTP $port{http}
Define MP_FORWARDED $port{forwarded}
Include $dir/management-point.conf
END
	return;
}

END
{
	my $status = $?;

	if ($httpd_runs)
	{
		httpd('-k', 'stop');
		for (1 .. 100)
		{
			last unless -e "$dir/httpd.pid";
			select(undef, undef, undef, 0.05);
		}
	}
	$? = $status;
}

# ---------- curl ----------

# The arguments of a request: a URL, and options
#	certificate => name      the certificate of the TLS connection
#	client => smsid          what the client says that it is
#	header => [...]          more headers
# A request prints a line (to stderr, which is not buffered): the HTTP status, the reason, the assurance, and whether it made a connection (1) or found one open (0).
sub request
{
	my ($transport, $path, %opt) = @_;
	my $scheme = $transport =~ /^http$|^forwarded$/ ? 'http' : 'https';
	my @headers = (@{ $opt{header} // [] }, $opt{client} ? "Client-Id: $opt{client}" : ());
	my $certificate = $opt{certificate} ? $certificate{ $opt{certificate} } : undef;

	return (
		'-sS', '--path-as-is', '--cacert', "$dir/ca.pem", '-m', $timeout,
		'-w', '%{stderr}%{http_code} %header{cmblock-reason} %header{cmblock-assurance} %{num_connects}\n',
		(map { ('-H', $_) } @headers),
		$certificate ? ('--cert', $certificate->{pem}, '--key', $certificate->{key}) : (),
		'-o', "$dir/body." . ++$curl_count,
		"$scheme://127.0.0.1:$port{$transport}$path");
}

sub body
{
	my ($back) = @_;

	my $file = "$dir/body." . ($curl_count - ($back // 0));

	return -e $file ? slurp_file($file) : q{};
}

# One request on a connection of its own.
sub ask_once
{
	my $output = '';

	IPC::Run::run([ 'curl', request(@_) ], '<', \undef, '>', \$output, '2>&1');
	$output =~ s/\s+/ /g;
	return $output =~ s/ 1 $//r;
}

sub asked
{
	my ($name, $expected, @request) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(ask_once(@request), $expected, $name);
}

# Two equal requests of one curl, on one connection, and something that happens in between. curl waits for that by reading
# from a pipe with a name.
sub asked_twice
{
	my ($name, $first, $change, $second, @request) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $pipe = "$dir/pipe." . $curl_count;
	my $output = '';

	mkfifo($pipe, 0600) or die "could not make $pipe: $!";
	my $curl = IPC::Run::start(
		[ 'curl', request(@request), '--next', '-sS', '-o', '/dev/null', "file://$pipe", '--next', request(@request) ],
		'<', \undef, '>', '/dev/null', '2>', \$output, IPC::Run::timeout($timeout));
	$curl->pump until $output =~ /\n/ || !$curl->pumpable;
	is($output =~ s/\s+/ /gr, "$first 1 ", "$name: before");
	like(body(1), qr/^the /, "$name: and it was served");
	$output = '';
	$change->();
	write_file($pipe, 'go on');
	$curl->finish;
	is($output =~ s/\s+/ /gr, "$second 0 ", "$name: after, on the same connection");
	unlike(body(), qr/^the /, "$name: and nothing was served");
	return;
}

# httpd writes its access log when the client has its answer already.
sub written
{
	my ($log, $regexp, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for (1 .. 20 * $timeout)
	{
		last if slurp_file("$dir/$log.log") =~ $regexp;
		select(undef, undef, undef, 0.05);
	}
	return like(slurp_file("$dir/$log.log"), $regexp, $name);
}

# ---------- who is let in ----------

prepare_httpd();
$httpd_runs = httpd('-k', 'start');
ok($httpd_runs, 'httpd starts') or BAIL_OUT(slurp_file("$dir/error.log"));
for (1 .. 100)
{
	last if ask_once('http', '/') eq '403 signature_required';
	select(undef, undef, undef, 0.05);
}

asked('a client with its certificate', '200 full', 'https', '/policy', certificate => 'blocked');
is(body(), "the policy\n", 'it gets what it asked for');
asked('its own id may come with it', '200 full', 'https', '/policy', certificate => 'blocked', client => $client{1});
asked('the id of another may not', '403 certificate_of_another_client', 'https', '/policy', certificate => 'blocked', client => $client{2});
is(body(), "This request is refused: certificate_of_another_client\n", 'the body has the reason, too');
asked('no certificate', '403 certificate_required', 'https', '/policy', client => $client{1});
asked('a CA that nobody trusts', '403 certificate_untrusted', 'https', '/policy', certificate => 'untrusted');
asked('a self-signed certificate', '403 certificate_untrusted', 'https', '/policy', certificate => 'self_signed');
asked('the same where that is enough', '200 limited', 'enhanced_http', '/policy', certificate => 'self_signed');
asked('nobody knows it', '403 certificate_unknown', 'https', '/policy', certificate => 'new');
asked('so it may register', '200 full', 'https', '/registration', certificate => 'new', client => $client{6});
asked('and nothing else', '403 client_unknown', 'https', '/policy', certificate => 'new', client => $client{6});
asked('registration is no way around', '403 client_unknown', 'https', '/registration/%2e%2e//policy', certificate => 'new', client => $client{6});
asked('nothing else is there', '404 no_such_request', 'https', '/secret', certificate => 'blocked');
asked('boot media', '200 full', 'https', '/os_deployment', certificate => 'media');
asked('an id that is none', '400 client_id_malformed', 'https', '/policy', certificate => 'blocked', client => "'; SELECT 1 --");
asked('the hardware id is text', '200 full', 'https', '/policy', certificate => 'blocked', header => ["Client-Hardware-Id: it's \\"]);

# ---------- HTTP, where a self-signed client signs ----------

sub signed
{
	my ($path, $name, %opt) = @_;
	my $client = $opt{client} // $of{$name};
	my $time = time - ($opt{age} // 0);
	my $signature;

	write_file("$dir/signed", 'GET ' . ($opt{path} // $path) . "\n$client\n$time\n");
	IPC::Run::run([ 'openssl', 'dgst', '-sha256', '-sign', $certificate{ $opt{key} // $name }{key}, "$dir/signed" ], '>', \$signature)
	  or die 'openssl cannot sign';
	return (
		'http', $path,
		client => $client,
		header => [
			"Client-Time: $time", "Client-Certificate: ${\ base64($name) }", 'Client-Signature: ' . unpack('H*', $signature)
		]);
}

asked('a self-signed client over HTTP', '200 limited', signed('/policy', 'self_signed'));
is(body(), "the policy\n", 'it gets what it asked for');
asked('an address is signed as it was sent', '200 limited', signed('/%70olicy?for=%41', 'self_signed'));
asked('its id alone is not enough', '403 signature_required', 'http', '/policy', client => $client{4});
asked('nor is a certificate that somebody has copied', '403 signature_invalid', signed('/policy', 'self_signed', key => 'new'));
asked('nor a signature that was made for something else', '403 signature_invalid', signed('/policy', 'self_signed', path => '/content'));
asked('nor one that is too old', '403 signature_of_another_time', signed('/policy', 'self_signed', age => 400));
asked('nor is one for another client', '403 certificate_of_another_client', signed('/policy', 'self_signed', client => $client{3}));
asked('a certificate that is none', '403 signature_invalid', 'http', '/policy', client => $client{4},
	header => [ 'Client-Time: ' . time, 'Client-Certificate: AAAA', 'Client-Signature: 00' ]);

# ---------- what another server forwards ----------

sub forwarded
{
	my ($transport, $certificate, @more) = @_;

	return ('forwarded', '/policy', header => [ "Forwarded-Transport: $transport", $certificate ? "Forwarded-Certificate: $certificate" : (), @more ]);
}

# As $ssl_client_escaped_cert of nginx has it, and as ssl_c_der,base64 of HAProxy.
sub escaped
{
	my ($name) = @_;

	return pem_of($certificate{$name}) =~ s/([^A-Za-z0-9.~_-])/sprintf('%%%02X', ord $1)/ger;
}

sub base64
{
	my ($name) = @_;

	return encode_base64(slurp_file($certificate{$name}{der}), '');
}

asked('a certificate from nginx', '204 full', forwarded('https', escaped('blocked')));
asked('a certificate from HAProxy', '204 full', forwarded('https', base64('blocked')));
asked('self-signed', '403 certificate_untrusted', forwarded('https', base64('self_signed')));
asked('self-signed, where that is enough', '204 limited', forwarded('enhanced_http', escaped('self_signed')));
asked('no certificate', '403 certificate_required', forwarded('https', undef, "Client-Id: $client{1}"));
asked('a client id', '204 limited', forwarded('http', undef, "Client-Id: $client{1}"));
asked('no certificate, but text', '400 certificate_malformed', forwarded('https', "');SELECT"));
asked('no DER in the base64', '403 certificate_malformed', forwarded('https', 'AAAA'));
asked('no transport', '400 transport_unknown', 'forwarded', '/policy');

# ---------- no longer ----------

asked_twice('a client is blocked', '200 full',
	sub { sql($site, "SELECT cmblock.block_client('$client{1}', 'stolen')") },
	'403 client_blocked', 'https', '/policy', certificate => 'blocked');
is(body(), "This request is refused: client_blocked\n", 'the client learns the reason and no more');
written('error', qr/cmblock: refused policy: .*reason: stolen/, 'the log of httpd has it in words');
written('access', qr/ 403 client_blocked request 1 of its connection$/m, 'it was the second request of its connection');
asked('a blocked client cannot register, either', '403 client_blocked', 'https', '/registration', certificate => 'blocked');
sql($site, "SELECT cmblock.unblock_client('$client{1}')");
asked('when the block is lifted, it is let in', '200 full', 'https', '/policy', certificate => 'blocked');
asked_twice('its certificate is revoked', '200 full', sub { import_crl('revoked') },
	'403 certificate_revoked', 'https', '/policy', certificate => 'revoked');
asked_twice('boot media are blocked', '200 full',
	sub { sql($site, "SELECT cmblock.block_certificate('$certificate{media}{sha1}', 'lost in the mail')") },
	'403 certificate_blocked', 'https', '/os_deployment', certificate => 'media');
asked_twice('a client with a self-signed certificate is blocked', '200 limited',
	sub { sql($site, "SELECT cmblock.block_client('$client{4}')") },
	'403 client_blocked', 'enhanced_http', '/policy', certificate => 'self_signed');
asked('the same client over HTTP', '403 client_blocked', signed('/policy', 'self_signed'));
sql($site, "SELECT cmblock.unblock_client('$client{4}')");
asked_twice('a client that signs is blocked', '200 limited',
	sub { sql($site, "SELECT cmblock.block_client('$client{4}')") },
	'403 client_blocked', signed('/policy', 'self_signed'));

# ---------- no decision ----------

my @other = ('https', '/policy', certificate => 'other');
my $eight_answers = join(' ', ('200 full') x 8);

# There are four threads, and it is not said which of them answers.
sub eight_times
{
	return join(' ', map { ask_once(@other) } 1 .. 8);
}

# A thread that could not reach the database does not try for a second.
sub let_in_again
{
	my ($name) = @_;
	my $deadline = time + $timeout;
	my $answers;

	do { $answers = eight_times() } until $answers eq $eight_answers || time > $deadline;
	return is($answers, $eight_answers, $name);
}

asked_twice('the database is stopped', '200 full', sub { $site->stop('fast') }, '503 no_decision', @other);
is(body(), "This request is refused: no_decision\n", 'nothing is served');
asked('not to those who come now, either', '503 no_decision', @other);
$site->start;
let_in_again('when it is back, httpd needs no restart');

# Each thread has a connection now: the server ends all of them.
sql($site, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'management_point'});
is(eight_times(), $eight_answers, 'connections that were ended are made again, and nobody notices');

# Rows that are being changed are not answered from shared memory.
my $admin = session($site);
ask($admin, 'BEGIN; UPDATE cmblock.client SET name = name; LOCK cmblock.client');
asked('a database that does not answer', '503 no_decision', @other);
ask($admin, 'ROLLBACK');
leave($admin);
let_in_again('and when it does again');

sql($site, q{SELECT cmblock.revoke_privilege('management_point', 'site_system')});
asked('a role that may not ask', '503 no_decision', @other);
sql($site, q{SELECT cmblock.grant_privilege('management_point', 'site_system')});
let_in_again('and may ask again');
sql_is($site, q{SELECT string_agg(DISTINCT application_name || ' ' || state, ', ') FROM pg_stat_activity WHERE usename = 'management_point'},
	'management_point idle', 'its connections are open, and keep no transaction');
unlike(slurp_file("$dir/error.log"), qr/management-point\.lua:\d|exit signal/, 'the example itself made no mistake');

done_testing();
