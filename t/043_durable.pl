# What is in force at a neighbour before it is on disk there: it is not acknowledged, and after a crash it comes again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %site = hierarchy('P01', 'S01');
my ($p01, $s01) = @site{qw(P01 S01)};
my @pc = map { sprintf '11111111-1111-1111-1111-%012d', $_ } 0 .. 20;
my $lag = "SELECT lag_rows FROM cmblock.replication_status WHERE neighbour = 'S01'";

sql($p01, "SELECT cmblock.register_client('$_', 'pc') FROM (VALUES ('$_')) v") for @pc;
wait_until($p01, $lag, 'S01 has everything', '0');

# ---------- a synchronous standby that does not come ----------
sql($s01, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$s01->reload;
sql($p01, "SELECT cmblock.block_client('$pc[0]', 'stolen')");
wait_for_block($s01, $pc[0], 1, 'the block is in force at once');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc[0]', '1 s')", '55000', qr/not known to be in force at S01/,
	'but S01 does not vouch for it before its standby has it');
sql_is($p01, $lag, '1', 'nor has P01 noted it as acknowledged');
my $open = "SELECT cursor IS NOT NULL FROM cmblock.open_link(1, '${\ hierarchy_uuid }', 'P01', 'S01', 'c.1.1/1-x')";
sql_fails($s01, "SET statement_timeout = '300ms'; SET SESSION AUTHORIZATION p01_link; $open", '57014', qr/a synchronous standby has not received/,
	'nor does S01 name the cursor when it is interrupted');
sql_fails($s01, "SET statement_timeout = '300ms'; SET SESSION AUTHORIZATION p01_link; SELECT cmblock.ask_enforcement(1, '${\ hierarchy_uuid }', 'P01', 'S01', 'c.1.1/1-x', 1, '$pc[0]')",
	'57014', qr/a synchronous standby has not received/, 'or say that it has the block');
sql_is($s01, "SET synchronous_commit = local; SET SESSION AUTHORIZATION p01_link; $open", 't', 'unless it is not to wait for a standby');
sql($s01, 'ALTER SYSTEM RESET synchronous_standby_names');
$s01->reload;
sql_is($p01, "SELECT cmblock.wait_for_enforcement('$pc[0]', '30 s') IS NOT NULL", 't', 'without a standby to wait for it does');
wait_until($p01, $lag, 'and it is acknowledged', '0');

# ---------- crashes of the receiver before its disk has the block ----------
# One change is confirmed, the next ones within a second are not yet. Nothing else brings their WAL to disk so soon.
sql($s01, "ALTER SYSTEM SET wal_writer_delay = '10s'");
$s01->reload;
my $lost = 0;
for my $n (1 .. 3)
{
	my ($first, @later) = @pc[ 5 * $n - 4 .. 5 * $n ];

	sql($p01, "SELECT cmblock.block_client('$first')");
	sql_is($p01, "SELECT cmblock.wait_for_enforcement('$first', '30 s') IS NOT NULL", 't', 'S01 vouches for a block');
	sql($p01, "SELECT cmblock.block_client('$_')") for @later;
	wait_for_block($s01, $later[-1], 1, 'and has taken in more');
	$s01->stop('immediate');
	sql($p01, "SELECT cmblock.pause_link('S01')");
	$s01->start;
	sql_is($s01, "SELECT blocked FROM cmblock.client WHERE smsid::uuid = '$first'", 't', 'what it vouched for outlasts a crash');
	$lost += sql($s01, "SELECT count(*) FROM cmblock.client WHERE NOT blocked AND smsid::uuid = ANY ('{${\ join(',', @later) }}')");
	sql($p01, "SELECT cmblock.resume_link('S01')");
	wait_for_block($s01, $_, 1, 'what the crash took comes again') for @later;
	wait_until($p01, $lag, 'and is acknowledged', '0');
}
note("$lost blocks were lost in crashes");
cmp_ok($lost, '>', 0, 'crashes did take blocks that were not on disk yet');
wait_for_equality(\%site, 'in the end both are equal');

done_testing();
