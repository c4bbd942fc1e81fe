# The cache of CRLs as import_crl and revocation_status use it: what is taken in is there for all, also for other databases;
# many sessions that need it at once after a restart; damage; and that two hundred imports make nothing grow.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $ca = ca('Root');
my $good = leaf($ca, 'good');
my $bad = leaf($ca, 'bad');
my $node = new_site('site', code => 'P01', kind => 'primary');

my $import = sub { "SELECT (cmblock.import_crl(${\ bytea($_[0]) })).outcome" };
my $status = sub { "SELECT (cmblock.revocation_status(${\ bytea($_[0]) })).status" };
my $in_memory = 'SELECT m.place, m.state, m.entries, m.builds FROM cmblock.crl_cache m JOIN cmblock.crl USING (sha256)';

sql($node, "SELECT cmblock.add_certificate_authority(${\ bytea($ca) })");
my $first = crl($ca, revoked => [$bad], number => 1);
sql_is($node, $import->($first), 'accepted', 'a CRL is taken in');
sql_is($node, $in_memory, 'shared|ready|1|1', 'and indexed before anybody needs it');
sql_is($node, $status->($good), 'good', 'another session asks');
sql_is($node, $status->($bad), 'revoked', 'and another');
sql_is($node, $in_memory, 'shared|ready|1|1', 'which builds nothing');
sql_is($node, "BEGIN; ${\ $import->(crl($ca, revoked => [$good], number => 2)) }; ROLLBACK; ${\ $status->($good) }",
	"accepted\ngood", 'what was rolled back is not in force, wherever it is held');

# The CRLs of a server's databases are the same memory.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION cmblock; SELECT cmblock.add_certificate_authority(${\ bytea($ca) })");
$node->safe_psql('other', $import->($first));
is($node->safe_psql('other', $status->($bad)), 'revoked', 'another database takes in the same CRL');
sql_is($node, "SELECT count(*), sum(builds) FROM cmblock.crl_cache WHERE sha256 = '$first->{sha256}'", '1|1', 'which is in memory once');

# Nothing is in memory after a restart, and twenty need it.
$node->restart;
sql_is($node, $in_memory, '', 'after a restart nothing is in memory');
my @many = map { session($node) } 1 .. 20;
say($_, $status->($bad)) foreach @many;
is(join(' ', map { answer($_) } @many), join(' ', ('revoked') x 20), 'twenty sessions need the CRL at once');
sql_is($node, $in_memory, 'shared|ready|1|1', 'and it is loaded once');
leave(@many);

# Two hundred reloads.
my $loader = session($node);
my $asker = session($node);
my @revoked = map { +{ serial => sprintf('%040x', 0x1000000 + $_) } } 1 .. 400;
my $script = "CREATE TABLE next (number int, crl bytea);\n";
foreach my $number (11 .. 230)
{
	my $crl = crl($ca, revoked => [ $bad, @revoked[ 0 .. 80 + $number ] ], number => $number);
	$script .= "INSERT INTO next VALUES ($number, ${\ bytea($crl) });\n";
}
sql($node, $script);

my $reload = sub {
	my ($from, $to) = @_;
	my $failed = '';

	for (my $number = $from; $number <= $to; $number++)
	{
		my $outcome = ask($loader, "SELECT (cmblock.import_crl(crl)).outcome FROM next WHERE number = $number");
		my $verdict = ask($asker, $status->($bad)) . ' ' . ask($asker, $status->($good));
		$failed .= "$number: $outcome $verdict; " if "$outcome $verdict" ne 'accepted revoked good';
	}
	return $failed;
};
is($reload->(11, 30), '', 'twenty reloads, in force at once in another session');
my @before = map { private_kb($_) } $loader, $asker;
is($reload->(31, 230), '', 'two hundred more');
my @after = map { private_kb($_) } $loader, $asker;
SKIP:
{
	skip 'needs /proc', 2 unless defined $before[0];
	cmp_ok($after[0], '<', $before[0] + 512, "who takes them in has not grown: $before[0] kB, $after[0] kB");
	cmp_ok($after[1], '<', $before[1] + 512, "who asks has not grown: $before[1] kB, $after[1] kB");
}
sql_is($node, 'SELECT count(*), max(number) FROM cmblock.crl', '1|230', 'one CRL is held');
sql_is($node, q{SELECT used <= size, no_room FROM cmblock.crl_cache_total WHERE place = 'shared'}, 't|0', 'within the budget');
leave($loader, $asker);

# A damaged row. What is in memory came from undamaged octets.
sql($node, "UPDATE cmblock.crl SET der = set_byte(der, 100, get_byte(der, 100) # 1)");
sql_is($node, $status->($good), 'good', 'damage to a row does not reach what is in memory');
$node->restart;
sql_is($node, $status->($good), 'unknown', 'a damaged CRL proves nobody good');
my $last = session($node);
like(ask($last, $status->($good)), qr/WARNING:  XX001: CRL .* is damaged/, 'and a warning says why');
leave($last);
$node->stop;

done_testing();
