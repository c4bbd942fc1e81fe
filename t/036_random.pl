# A long life in short: six sites register, block, unblock, reassign and delete clients while they and the network between them
# fail in all the ways that 032, 033 and 035 show one by one. What is proved at the end, and meanwhile:
#
# - all sites end with the same rows;
# - whatever was acknowledged to an administrator is there or was followed by something later: in particular no block is lost;
# - a client that was blocked for good is never let in by a site that has acknowledged the block.
#
# CMBLOCK_RANDOM_SECONDS is how long it goes on (12); CMBLOCK_RANDOM_SEED repeats a run as far as processes can be made to.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockProxy;
use CmblockTest;
use IPC::Run;
use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{CMBLOCK_RANDOM_SECONDS} || 12;
my $seed = $ENV{CMBLOCK_RANDOM_SEED} || int(rand(1_000_000_000));
srand($seed);
note("CMBLOCK_RANDOM_SEED=$seed CMBLOCK_RANDOM_SECONDS=$seconds");

my @primaries = qw(P01 P02 P03);
my @links = ([qw(P01 CEN)], [qw(CEN P01)], [qw(P02 CEN)], [qw(CEN P02)], [qw(P03 CEN)], [qw(CEN P03)], [qw(P01 S01)], [qw(P02 S02)]);
my %site = hierarchy('CEN', @primaries, 'S01', 'S02');
my %proxy = map { $_ => proxy($site{$_}) } sort keys %site;

# One operation in a transaction of its own; what it returns is printed only when the commit was acknowledged.
my $operate = <<'END';
CREATE SCHEMA test;
CREATE FUNCTION test.operate(what text, client uuid, site text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	CASE what
		WHEN 'register' THEN PERFORM cmblock.register_client(client::cmblock.smsid, 'pc');
		WHEN 'block' THEN PERFORM cmblock.block_client(client::cmblock.smsid);
		WHEN 'unblock' THEN PERFORM cmblock.unblock_client(client::cmblock.smsid);
		WHEN 'reassign' THEN PERFORM cmblock.reassign_client(client::cmblock.smsid, site::cmblock.site_code);
		WHEN 'delete' THEN PERFORM cmblock.delete_client(client::cmblock.smsid);
	END CASE;
	RETURN (SELECT concat_ws(' ', 'done', what, c.smsid::uuid, c.version, c.blocked, c.assigned_site, c.deleted_at IS NOT NULL, c.origin_site, c.change_xid)
	        FROM cmblock.client c WHERE c.smsid = client::cmblock.smsid);
END $$;
END

for my $code (sort keys %site)
{
	$site{$code}->append_conf('postgresql.conf', "cmblock.batch_rows = 7\ncmblock.peer_timeout = '1s'\ncmblock.connect_timeout = '1s'");
	$site{$code}->reload;
	sql($site{$code}, $operate);
}
for my $link (@links)
{
	my ($from, $to) = @$link;

	sql($site{$from}, "ALTER SERVER ${\ lc $to } OPTIONS (SET host '127.0.0.1', SET port '$proxy{$to}{port}')");
}

# ---------- what is known ----------

# By client: `versions`, what was acknowledged (a hash by version); `last` the highest of them; `tried`, the operations
# whose outcome is unknown; `for_good`, that nobody will unblock it; `at`, where it was last known to be assigned.
my %clients;
my %count = map { $_ => 0 } qw(register block unblock reassign delete refused unknown);
my $next = 0;
my $directory = PostgreSQL::Test::Utils::tempdir;

sub new_client
{
	my $id = sprintf('%08x-%04x-4000-8000-%012x', rand(2**32), rand(2**16), ++$next);

	$clients{$id} = { at => $primaries[ rand @primaries ], versions => {}, last => 0, tried => {}, for_good => rand() < 0.3 };
	return $id;
}

sub pick_operation
{
	my ($site, $mine) = @_;
	my $chance = rand;

	return (register => do { my $id = new_client(); $clients{$id}{at} = $site; $id }) if $chance < 0.25 || !@$mine;
	my $id = $mine->[ rand @$mine ];
	return (block => $id) if $chance < 0.6;
	return (unblock => $id) if $chance < 0.8 && !$clients{$id}{for_good};
	return (reassign => $id, $primaries[ rand @primaries ]) if $chance < 0.95;
	return (delete => $id) if $chance < 0.97;
	return (block => $id);
}

# Begin some operations at a primary site, one after the other, in a session of their own.
sub begin_operations
{
	my ($site) = @_;
	my @mine = grep { $clients{$_}{at} eq $site && $clients{$_}{last} } keys %clients;
	my $batch = { site => $site, operations => [], in => '', out => '', err => '' };

	@mine = (sort @mine)[ map { rand @mine } 1 .. 30 ] if @mine;
	for (1 .. 40)
	{
		my ($what, $id, $to) = pick_operation($site, \@mine);

		push @{ $batch->{operations} }, [ $what, $id ];
		$batch->{in} .= "SELECT test.operate('$what', '$id'" . ($to ? ", '$to'" : '') . ");\n";
	}
	# A file, since psql may end before it has read all.
	my $file = "$directory/$site.sql";

	unlink $file;
	append_to_file($file, $batch->{in});
	$batch->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=terse', '-d', $site{$site}->connstr('postgres'), '-f', $file ],
		'<', \undef, '>', \$batch->{out}, '2>', \$batch->{err}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $batch;
}

# Take down what became of them. psql stops at the first that lost its connection; the errors before are refusals.
sub end_operations
{
	my ($batch) = @_;
	my %done;

	eval { $batch->{run}->finish; 1 } or die "seed $seed: operations at $batch->{site} hang: $@";
	for my $line (split /\n/, $batch->{out})
	{
		my (undef, $what, $id, $version, $blocked, $assigned, $deleted, $origin, $xid) = split / /, $line;
		my $client = $clients{$id};
		my $state = "$blocked $assigned $deleted";

		# An operation that changes nothing is acknowledged with the version that is there already.
		push @{ $client->{contradictions} }, "version $version is $client->{versions}{$version}{state} and $state"
		  if $client->{versions}{$version} && $client->{versions}{$version}{state} ne $state;
		$client->{versions}{$version} = { state => $state, blocked => $blocked, origin => $origin, xid => $xid };
		$client->{last} = $version if $version > $client->{last};
		$client->{at} = $assigned;
		$count{$what}++;
		$done{"$what $id"} = 1;
	}
	my $lost = $batch->{err} =~ /server closed the connection|connection to server|terminating connection|could not (send|receive)/;
	for my $operation (@{ $batch->{operations} })
	{
		my ($what, $id) = @$operation;

		next if $done{"$what $id"};
		$count{ $lost ? 'unknown' : 'refused' }++;
		# Later acknowledgements of the same client show what became of it, so it counts from its highest version.
		$clients{$id}{tried}{$what} = $clients{$id}{last} if $lost;
	}
	return;
}

# ---------- faults ----------

my %paused;
my %bad_network;

sub kill_process
{
	my ($code, $where) = @_;
	my $pid = '';

	$site{$code}->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $where ORDER BY random() LIMIT 1", stdout => \$pid, stderr => \my $ignored);
	return kill 'KILL', $pid if $pid;
	return;
}

sub on_link
{
	my ($function) = @_;
	my ($from, $to) = @{ $links[ rand @links ] };

	$site{$from}->psql('postgres', "SELECT cmblock.$function('$to')", stdout => \my $out, stderr => \my $ignored);
	return [ $from, $to ];
}

my %faults = (
	'kill -9 of a replicator' => sub { kill_process($_[0], "backend_type = 'cmblock replicator'") },
	'kill -9 of a session of a neighbour' => sub { kill_process($_[0], "application_name LIKE 'cmblock replicator % to %'") },
	'kill -9 of the launcher' => sub { kill_process($_[0], "backend_type = 'cmblock launcher'") },
	'kill -9 of the postmaster' => sub { $site{ $_[0] }->kill9; start_again($site{ $_[0] }) },
	'a restart' => sub { $site{ $_[0] }->restart },
	'a stop for a while' => sub { $site{ $_[0] }->stop('immediate'); sleep rand 0.5; start_again($site{ $_[0] }) },
	'a link is paused' => sub { my $link = on_link('pause_link'); $paused{"@$link"} = $link },
	'a link is sent anew' => sub { on_link('reinitialize_link') },
	'the network' => sub { misbehave($proxy{ $_[0] }, $bad_network{ $_[0] } = (qw(cut hole half slow))[ rand 4 ]) },
	'a lock' => sub { $site{ $_[0] }->psql('postgres', 'BEGIN; LOCK TABLE cmblock.client; SELECT pg_sleep(0.3)', stdout => \my $out, stderr => \my $ignored) },
);
my %done;

sub something_fails
{
	my $fault = (sort keys %faults)[ rand keys %faults ];
	my $code = (sort keys %site)[ rand keys %site ];

	note(sprintf '%s at %s', $fault, $code);
	$faults{$fault}->($code);
	$done{$fault}++;
	return;
}

sub repair
{
	for my $code (sort keys %bad_network)
	{
		misbehave($proxy{$code}, 'forward');
	}
	for my $link (values %paused)
	{
		$site{ $link->[0] }->psql('postgres', "SELECT cmblock.resume_link('$link->[1]')", stdout => \my $out, stderr => \my $ignored);
	}
	%bad_network = ();
	%paused = ();
	return;
}

# ---------- decisions ----------

my @let_in;
my $decisions = 0;

# At each neighbour of where a block for good was made: if it has acknowledged that transaction, it must refuse the client, and
# have that version at least. The cursor is read in the same statement, before anything else can arrive.
sub check_decisions
{
	my ($code) = @_;
	my %origin = map { $_->[0] => 1 } grep { $_->[1] eq $code } @links;
	my @blocks;

	for my $id (sort keys %clients)
	{
		my $client = $clients{$id};

		next unless $client->{for_good};
		for my $version (grep { $client->{versions}{$_}{blocked} eq 't' } keys %{ $client->{versions} })
		{
			my $block = $client->{versions}{$version};

			push @blocks, "('$id'::uuid, $version, '$block->{origin}', '$block->{xid}'::xid8)" if $origin{ $block->{origin} };
		}
	}
	return unless @blocks;
	my $list = join ', ', @blocks > 300 ? (shuffle @blocks)[ 0 .. 299 ] : @blocks;
	my $status = $site{$code}->psql('postgres', <<"END", stdout => \my $found, stderr => \my $ignored);
SELECT count(*), coalesce(string_agg(b.id || ' version ' || b.version, ', ') FILTER (WHERE cmblock.is_allowed(b.id::cmblock.smsid) OR coalesce(c.version, 0) < b.version), '')
FROM (VALUES $list) AS b (id, version, origin, xid)
JOIN cmblock.replication_cursor r ON r.neighbour::text = b.origin AND pg_visible_in_snapshot(b.xid, r.snapshot)
LEFT JOIN cmblock.client c ON c.smsid = b.id::cmblock.smsid
END
	return if $status != 0;
	my ($number, $wrong) = split /\|/, $found, 2;
	$decisions += $number;
	push @let_in, "$code: $wrong" if $wrong ne '';
	return;
}

# ---------- life ----------

my $end = time + $seconds;
while (time < $end)
{
	my @batches = map { begin_operations($_) } @primaries;

	something_fails() if rand() < 0.8;
	end_operations($_) for @batches;
	check_decisions($_) for (shuffle sort keys %site)[ 0, 1 ];
	repair() if rand() < 0.4;
}
repair();
note(join ', ', map { "$_: $count{$_}" } sort keys %count);
note(join ', ', map { "$_: $done{$_}" } sort keys %done);

# ---------- the proof ----------
wait_for_equality(\%site, "all sites are equal in the end (seed $seed)");
for my $link (@links)
{
	wait_until($site{ $link->[0] }, "SELECT concat_ws(' ', state, failures, lag_rows) FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = '$link->[1]'",
		"the link from $link->[0] to $link->[1] is well", 'active 0 0');
}
check_decisions($_) for sort keys %site;

my %final;
for my $line (split /\n/, sql($site{S01}, "SELECT concat_ws(' ', smsid::uuid, version, blocked, assigned_site, deleted_at IS NOT NULL, cmblock.is_allowed(smsid)) FROM cmblock.client"))
{
	my ($id, $version, $blocked, $assigned, $deleted, $allowed) = split / /, $line;

	$final{$id} = { version => $version, blocked => $blocked, state => "$blocked $assigned $deleted", allowed => $allowed };
}
my (@lost, @unblocked, @contradictory);
for my $id (sort keys %clients)
{
	my ($client, $is) = ($clients{$id}, $final{$id});
	my $last = $client->{last} or next;
	my $was = $client->{versions}{$last};

	push @contradictory, map { "$id: $_" } @{ $client->{contradictions} // [] };
	if (!$is || $is->{version} < $last || ($is->{version} == $last && $is->{state} ne $was->{state}))
	{
		push @lost, "$id version $last ($was->{state}), now " . ($is ? "$is->{version} ($is->{state})" : 'nothing');
	}
	elsif ($was->{blocked} eq 't' && ($is->{blocked} eq 'f' || $is->{allowed} eq 't') && !defined $client->{tried}{unblock})
	{
		push @unblocked, "$id version $last was blocked, now $is->{version} ($is->{state})";
	}
}
is(join("\n", @lost), '', 'nothing that was acknowledged is lost');
is(join("\n", @unblocked), '', 'no acknowledged block is lost');
is(join("\n", @contradictory), '', 'no version of a client is two');
is(join("\n", @let_in), '', 'no site let a client in after it had acknowledged its block');
cmp_ok($decisions, '>', 50, "$decisions decisions about acknowledged blocks were made");
cmp_ok($count{block}, '>', 100, "$count{block} blocks were made");
for my $code (sort keys %site)
{
	unlike(slurp_file($site{$code}->logfile), qr/PANIC|TRAP|segmentation/i, "$code has not crashed by itself");
	sql_is($site{$code}, "SELECT count(*) FROM cmblock.client WHERE blocked AND cmblock.is_allowed(smsid)", '0', "$code lets no blocked client in");
}

done_testing();
