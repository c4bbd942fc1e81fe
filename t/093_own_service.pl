# The example of a service of one's own, examples/service/decide.c: it compiles without a warning, asks with a pipeline, and
# comes to no decision in time when there is nobody to decide.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockSession ();
use CmblockTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my $dir = PostgreSQL::Test::Utils::tempdir('service');
my $includes = `pg_config --includedir`;
my $messages = '';

chomp $includes;
ok(IPC::Run::run(
		[ $ENV{CC} || 'gcc', '-Wall', '-Wextra', '-Werror', '-o', "$dir/decide", "$FindBin::RealBin/../examples/service/decide.c", "-I$includes", '-lpq' ],
		'>&', \$messages),
	'it compiles') or BAIL_OUT($messages);

my $site = new_site('p01', code => 'P01', kind => 'primary');
my $ca = ca('Device CA');
my @certificate = map { leaf($ca, "pc$_") } 0 .. 1;
my @client = map { "GUID:00000000-0000-4000-8000-00000000000$_" } 0 .. 1;

sql($site, "SELECT cmblock.add_certificate_authority(${\ bytea($ca) }, 'off')");
foreach my $n (0 .. 1)
{
	sql($site, "SELECT cmblock.register_client('$client[$n]', 'pc$n', hardware_id => 'hardware-$n')");
	sql($site, "SELECT cmblock.register_certificate(${\ bytea($certificate[$n]) }, '$client[$n]')");
}
sql($site, "SELECT cmblock.block_client('$client[1]')");
sql($site, "CREATE ROLE management_point LOGIN; SELECT cmblock.grant_privilege('management_point', 'site_system')");

# ---------- the service ----------

my ($in, $out, $errors) = ('', '', '');
my $service;
{
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($site->host, $site->port, 'management_point', 'postgres');
	$service = IPC::Run::start([ "$dir/decide" ], '<', \$in, '>', \$out, '2>', \$errors,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
}

sub answers
{
	my (@questions) = @_;
	$out = '';
	$in .= join("\n", @questions) . "\n\n";
	$service->pump until ($out =~ tr/\n//) >= @questions;
	return join(', ', split /\n/, $out);
}

my $good = "https policy - $certificate[0]{der} -";
my $bad = "https policy - $certificate[1]{der} -";

is(answers($good), 'allowed full', 'a client with its certificate');
is(answers($bad, "http content $client[0] - hardware-0", $good), 'refused client_blocked, allowed limited, allowed full', 'three at a time');
is(answers("https policy nobody - -", "https policy - - -", $good),
	'no decision, refused no_identity, allowed full', 'what is no question does not harm those after it');
like($errors, qr/decide: ERROR: .*"nobody"/, 'and is told of');
is(answers(($good, $bad) x 32), join(', ', ('allowed full', 'refused client_blocked') x 32), 'as many as there is place for');

# ---------- nobody answers ----------

sub in_time
{
	my ($limit, $name) = @_;
	my $start = Time::HiRes::time;

	is(answers($good, $bad), 'no decision, no decision', $name);
	return cmp_ok(Time::HiRes::time - $start, '<', $limit, 'which it knows in time');
}

sql($site, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'management_point'");
is(answers($good), 'allowed full', 'a connection that was ended is made again');
$site->stop('immediate');
in_time(10, 'the server is gone');
$site->start;
is(answers($good, $bad), 'allowed full, refused client_blocked', 'and back');

my $admin = CmblockSession::session($site);
CmblockSession::ask($admin, 'BEGIN; UPDATE cmblock.client SET name = name; LOCK cmblock.client');
in_time(10, 'the server does not get to it');
CmblockSession::ask($admin, 'ROLLBACK');
CmblockSession::leave($admin);
is(answers($good), 'allowed full', 'and does again');

# A server that says nothing at all: its backend is stopped. The postmaster still makes a new one.
my $pid = sql($site, "SELECT pid FROM pg_stat_activity WHERE usename = 'management_point'");
kill 'STOP', $pid;
is(answers($good), 'allowed full', 'a backend that hangs is left for a new one');
kill 'CONT', $pid;

# The server was started when the pipe was there already, and holds its other end, too.
$site->stop;
$service->finish;
is($service->result(0), 0, 'it ends with its input');
done_testing();
