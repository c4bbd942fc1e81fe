# Names of hosts: while name servers do not answer, links whose hosts have addresses work. The program that looks names up is replaced by
# one that does what name servers do.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $bin = PostgreSQL::Test::Utils::tempdir();
my $calls = "$bin/calls";

append_to_file("$bin/getent", <<"END");
#!/bin/sh
echo "\$*" >>$calls
case "\$2" in
	slow*) exec sleep 60 ;;
	s01.example) printf '127.0.0.9       STREAM s01.example\\n127.0.0.9       DGRAM\\n127.0.0.1       STREAM\\n127.0.0.1       DGRAM\\n' ;;
	*) exit 2 ;;
esac
END
chmod 0755, "$bin/getent";
$ENV{PATH} = "$bin:$ENV{PATH}";

my %site = hierarchy('CEN', 'P01', 'S01');
my ($cen, $p01, $s01) = @site{qw(CEN P01 S01)};
my $pc1 = '11111111-1111-1111-1111-111111111111';

sub status
{
	my ($columns) = @_;

	return "SELECT concat_ws(' ', $columns) FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = 'S01'";
}

sql($p01, "SELECT cmblock.register_client('$pc1', 'pc1')");
wait_for_block($_, $pc1, 0, 'all is well') for $cen, $s01;
ok(!-e $calls, 'paths and addresses are not looked up');

# ---------- a name ----------
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 's01.example')");
sql($p01, "SELECT cmblock.block_client('$pc1')");
wait_for_block($s01, $pc1, 1, 'a host that has a name');
is(slurp_file($calls), "ahosts s01.example\n", 'which was looked up');
sql_is($s01, "SELECT DISTINCT client_addr FROM pg_stat_activity WHERE application_name = 'cmblock replicator P01 to S01'", '127.0.0.1', 'its second address answered');

# ---------- several hosts ----------
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 'gone.example,s01.example', SET port '1,${\ $s01->port }')");
sql($p01, "SELECT cmblock.unblock_client('$pc1')");
wait_for_block($s01, $pc1, 0, 'of several hosts, one without an address is passed over');

# ---------- no such name ----------
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 'gone.example', SET port '${\ $s01->port }')");
wait_until($p01, status('failures > 1, last_error_sqlstate, last_error'), 'a name that does not exist', 't 08001 could not translate host name "gone.example" to address');

# ---------- name servers that do not answer ----------
$p01->append_conf('postgresql.conf', "cmblock.connect_timeout = '2s'");
$p01->reload;
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 'slow.example')");
$p01->poll_query_until('postgres', "SELECT phase = 'connecting' FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = 'S01'");
for my $blocked (1, 0, 1)
{
	my $begun = time;

	sql($p01, $blocked ? "SELECT cmblock.block_client('$pc1')" : "SELECT cmblock.unblock_client('$pc1')");
	wait_for_block($cen, $pc1, $blocked, 'while names are not resolved, the other link works');
	cmp_ok(time - $begun, '<', 2, 'at once');
}
wait_until($p01, status('last_error_sqlstate, last_error'), 'the attempt is given up', '08001 the host name was not resolved within 2 s');
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 's01.example')");
wait_for_block($s01, $pc1, 1, 'a corrected server is used at once');
wait_until($p01, status('failures'), 'all is well again', '0');

# ---------- the end of the process meanwhile ----------
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 'slow.example')");
$p01->poll_query_until('postgres', "SELECT phase = 'connecting' FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = 'S01'");
my $begun = time;
$p01->stop('fast');
cmp_ok(time - $begun, '<', 5, 'a server stops while names are being looked up');
$p01->start;
sql($p01, "ALTER SERVER s01 OPTIONS (SET host 's01.example')");
wait_until($p01, status('failures, lag_rows'), 'and works again', '0 0');

done_testing();
