# An idle hierarchy is quiet: nothing is written, no transaction stays open, and processes wake at most once a minute. What
# wakes a process is a system call that returns, so the kernel's count of its context switches tells.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# Seconds to watch. With a wake-up a minute there is at most one in them.
use constant WATCH => 6;

my %site = hierarchy('CEN', 'P01', 'S01');
my $client = '11111111-1111-1111-1111-111111111111';

# What PostgreSQL itself does in between must not be taken for ours.
for my $node (values %site)
{
	$node->append_conf('postgresql.conf', "autovacuum = off\nbgwriter_lru_maxpages = 0\ncheckpoint_timeout = '1h'\nwal_level = minimal\nmax_wal_senders = 0\narchive_mode = off");
	$node->restart;
}
sql($site{P01}, "SELECT cmblock.register_client('$client', 'pc1'), cmblock.block_client('$client')");
wait_for_block($site{$_}, $client, 1, "the block is at $_") for qw(CEN S01);
for my $code (qw(CEN P01))
{
	wait_until($site{$code}, "SELECT bool_and(lag_rows = 0 AND failures = 0) FROM cmblock.replication_status WHERE flow = 'send'", "$code has sent everything");
}

# Ours: launcher, replicator, and the sessions of neighbours.
my $ours = "(backend_type LIKE 'cmblock%' OR application_name LIKE 'cmblock replicator%')";

sub state_of_all
{
	my %state;

	for my $code (sort keys %site)
	{
		$state{"$code WAL"} = sql($site{$code}, 'SELECT pg_current_wal_insert_lsn()');
		for my $line (split /\n/, sql($site{$code}, "SELECT pid, backend_type, application_name FROM pg_stat_activity WHERE $ours"))
		{
			my ($pid, $type, $name) = split /\|/, $line;
			my ($switches) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;

			$state{"$code $type $name $pid"} = $switches;
		}
	}
	return %state;
}

SKIP:
{
	skip 'there is no /proc', 4 unless -r "/proc/$$/status";
	my (%before, %after);

	# The links write down what they achieved, at most a second later.
	for (1 .. 30)
	{
		%before = state_of_all();
		sleep 1.5;
		%after = state_of_all();
		last unless grep { ($before{$_} // '') ne $after{$_} } grep { /WAL/ } keys %after;
	}
	%before = %after;
	sleep WATCH;
	%after = state_of_all();
	is(join(', ', grep { /WAL/ && $before{$_} ne $after{$_} } sort keys %after), '', 'nothing is written anywhere');
	is(join("\n", grep { !/WAL/ && !exists $before{$_} } sort keys %after), '', 'no process or connection is new');
	# A turn of the loop that looks around may switch more than once, waiting for a lock or reading a page.
	is(join("\n", map { "$_: $after{$_} - $before{$_}" } grep { !/WAL/ && exists $before{$_} && $after{$_} - $before{$_} > 4 } sort keys %after),
		'', 'no process wakes again and again');
	cmp_ok(scalar(grep { !/WAL/ && $after{$_} == $before{$_} } keys %after), '>=', (grep { !/WAL/ } keys %after) / 2, 'most do not wake at all');
}
for my $code (sort keys %site)
{
	sql_is($site{$code}, "SELECT count(*) FROM pg_stat_activity WHERE $ours AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)",
		'0', "no transaction is open at $code");
	sql_is($site{$code}, "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE $ours AND locktype NOT IN ('virtualxid')",
		'0', "and no lock is held");
}

done_testing();
