# Where the password of a link can be found: with a passfile or a service file in that file alone, in no dump and no file
# of the cluster; with a user mapping in what a superuser dumps, as docs/operations.md says. And that pg_dumpall, secrets
# or not, keeps a whole site.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use File::Find;
use PostgreSQL::Test::Utils;
use Test::More;

my %canary = map { ($_ => "c4n4ry-$_-p4ssw0rd") } qw(passfile service mapping);
my $files = PostgreSQL::Test::Utils::tempdir('credentials');

sub write_private
{
	my ($name, $text) = @_;

	write_file("$files/$name", $text);
	chmod 0600, "$files/$name" or die "could not change mode of $name: $!";
	return "$files/$name";
}

# The receiver asks for the password, so that a link that works has found it.
my $s01 = new_site('s01', code => 'S01', kind => 'secondary', hierarchy => hierarchy_uuid, parent => 'P01');
sql($s01, "SET log_statement = 'none'; CREATE ROLE p01_link LOGIN PASSWORD '$canary{passfile}'");
my $trust = slurp_file($s01->data_dir . '/pg_hba.conf');
open my $hba, '>', $s01->data_dir . '/pg_hba.conf' or die $!;
print $hba "host all p01_link all scram-sha-256\n$trust";
close $hba or die $!;
$s01->reload;
sql($s01, "SELECT cmblock.accept_link('P01', 'p01_link')");

my $passfile = write_private('passfile', join(':', '127.0.0.1', $s01->port, 'postgres', 'p01_link', $canary{passfile}) . "\n");
local $ENV{PGSERVICEFILE} = write_private('services', "[s01]\nhost=127.0.0.1\nport=${\ $s01->port }\ndbname=postgres\npassword=$canary{service}\n");
my $p01 = new_site('p01', code => 'P01', kind => 'primary', hierarchy => hierarchy_uuid, conf => "cmblock.retry_max = '200ms'\n");
my $n = 0;

sub new_client { return sprintf '00000000-0000-0000-0000-%012d', ++$n }

# A change reaches the neighbour, in a session that was opened with this password.
sub link_works
{
	my ($how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $client = new_client();

	sql($p01, "SELECT cmblock.register_client('$client', 'pc'), cmblock.block_client('$client')");
	wait_until($s01, "SELECT count(*) FROM cmblock.client WHERE smsid::uuid = '$client' AND blocked", "the link works: $how", '1');
	return;
}

sub new_password
{
	my ($password) = @_;

	sql($s01, "SET log_statement = 'none'; ALTER ROLE p01_link PASSWORD '$password'; "
		  . "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'p01_link'");
	return;
}

sub dump_of
{
	my ($node) = @_;
	my ($dump, $errors) = ('', '');

	IPC::Run::run([ 'pg_dumpall', '-d', $node->connstr('postgres') ], '>', \$dump, '2>', \$errors) or die $errors;
	return $dump;
}

# The files of a cluster in which a text stands, WAL and log included.
sub files_with
{
	my ($node, $text) = @_;
	my @found;

	sql($node, 'CHECKPOINT');
	find(
		{
			no_chdir => 1,
			wanted => sub { push @found, $_ if -f $_ && -r _ && index(slurp_file($_), $text) >= 0 }
		},
		$node->data_dir, $node->logfile);
	return map { s{.*/pgdata/}{}r } @found;
}

# ---------- a passfile ----------
sql($p01, $_) foreach (
	"SELECT cmblock.add_site('S01', 'secondary', 'P01')",
	"CREATE SERVER s01 FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host '127.0.0.1', port '${\ $s01->port }', dbname 'postgres')",
	"CREATE USER MAPPING FOR postgres SERVER s01 OPTIONS (user 'p01_link', passfile '$passfile')",
	"SELECT cmblock.link_site('S01', 's01')");
link_works('passfile');
like(dump_of($p01), qr/CREATE USER MAPPING FOR postgres SERVER s01 OPTIONS \(.*passfile/s, 'pg_dumpall has the user mapping');

# ---------- a service file ----------
new_password($canary{service});
sql($p01, "ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (DROP passfile); ALTER SERVER s01 OPTIONS (DROP host, DROP port, DROP dbname, ADD service 's01')");
link_works('service file');

foreach my $how ('passfile', 'service')
{
	foreach my $node ($p01, $s01)
	{
		my $name = $node->name;

		unlike(dump_of($node), qr/$canary{$how}/, "$how: the password is in no dump of $name");
		is(join(', ', files_with($node, $canary{$how})), '', "$how: and in no file of $name");
	}
}

# ---------- a password in the user mapping ----------
new_password($canary{mapping});
sql($p01, "SET log_statement = 'none'; ALTER USER MAPPING FOR postgres SERVER s01 OPTIONS (ADD password '$canary{mapping}'); "
	  . "ALTER SERVER s01 OPTIONS (DROP service, ADD host '127.0.0.1', ADD port '${\ $s01->port }', ADD dbname 'postgres')");
link_works('user mapping');
my $dump = dump_of($p01);
like($dump, qr/$canary{mapping}/, 'a superuser\'s dump has the password of a user mapping');
isnt(join(', ', files_with($p01, $canary{mapping})), '', 'the files of the catalog have it');
unlike(slurp_file($p01->logfile), qr/$canary{mapping}/, 'the server log has not');
sql($p01, 'CREATE ROLE reader LOGIN');
sql($p01, "SELECT cmblock.grant_privilege('reader', 'reader')");
sql_is($p01, 'SET ROLE reader; SELECT usename, umoptions FROM pg_user_mappings', 'postgres|', 'and a reader sees nothing of it');

# ---------- pg_dumpall keeps a site ----------
sub contents
{
	my ($node) = @_;

	return join '', map { "-- $_\n" . sql($node, "SELECT t FROM cmblock.$_ t ORDER BY t::text") . "\n" } qw(this_site site client certificate block_event);
}

my $copy = new_site('copy', preload => 0, extension => 0);
my $expected = contents($p01);
{
	local $ENV{PGOPTIONS} = '-c cmblock.restore=on';
	my $errors = '';

	IPC::Run::run([ 'psql', '-X', '-q', '-d', $copy->connstr('postgres'), '-f', '-' ], '<', \$dump, '>', \my $out, '2>', \$errors);
	is(join("\n", grep { /ERROR/ && !/role "postgres" already exists/ } split /\n/, $errors), '', 'pg_dumpall, restored');
}
is(contents($copy), $expected, 'equal rows');

done_testing();
