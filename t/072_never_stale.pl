# No decision is ever stale: many sessions decide while others block and unblock, in all the ways in which that can be done.
#
# A writer for each of six clients counts in a sequence, which is not a part of transactions: odd from before it begins a
# change until its COMMIT has returned. So while a sequence stands at an even number, nothing has begun to change since the
# last COMMIT returned, and the number says how that came out. A decision for which the sequence is the same even number before it
# began and after it ended has to agree.
#
# CMBLOCK_RANDOM_SECONDS is how long all of it goes on (16); CMBLOCK_RANDOM_SEED repeats a run as far as processes can be made to.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{CMBLOCK_RANDOM_SECONDS} || 16;
my $seed = $ENV{CMBLOCK_RANDOM_SEED} || int(rand(1_000_000_000));
note("CMBLOCK_RANDOM_SEED=$seed CMBLOCK_RANDOM_SECONDS=$seconds");

my $p01 = new_site('p01', code => 'P01', kind => 'primary', conf => 'max_prepared_transactions = 10');
my $root = ca('Root');
my $dir = PostgreSQL::Test::Utils::tempdir();

sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($root) })");
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($root, number => 1)) })");
sql($p01, 'CREATE TABLE certificates (place int PRIMARY KEY, sha256 bytea)');
foreach my $n (0 .. 5)
{
	my $certificate = leaf($root, "pc$n");

	sql($p01, "CREATE SEQUENCE s$n; SELECT setval('s$n', 4)");
	sql($p01, "SELECT cmblock.register_client('0000000$n-0000-0000-0000-000000000000', 'pc$n')");
	sql($p01, "SELECT cmblock.register_certificate(${\ bytea($certificate) }, '0000000$n-0000-0000-0000-000000000000')");
	sql($p01, "INSERT INTO certificates VALUES ($n, '\\x$certificate->{sha256}')");
}

# Decides that many times, in each of the ways in which one can ask, and stops at the first answer that is stale.
sql($p01, <<'END');
CREATE TABLE judged (agreed bigint, changing bigint, from_cache bigint);
CREATE FUNCTION hammer(rounds int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	ids cmblock.smsid[] := (SELECT array_agg(lpad(n::text, 8, '0') || '-0000-0000-0000-000000000000' ORDER BY n) FROM generate_series(0, 5) n);
	sha256s bytea[] := (SELECT array_agg(c.sha256 ORDER BY c.place) FROM certificates c);
	sequences regclass[] := ARRAY['s0', 's1', 's2', 's3', 's4', 's5'];
	agreed bigint := 0;
	changing bigint := 0;
	place int;
	before bigint;
	allowed boolean;
	cached bigint := (SELECT from_cache FROM cmblock.decision_cache());
BEGIN
	FOR i IN 1 .. rounds LOOP
		place := 1 + floor(random() * 6);
		before := pg_sequence_last_value(sequences[place]);
		CASE i % 4
			WHEN 0 THEN allowed := (cmblock.check_access(ids[place], sha256s[place])).allowed;
			WHEN 1 THEN allowed := cmblock.is_allowed(certificate => sha256s[place]);
			ELSE allowed := cmblock.is_allowed(ids[place], sha256s[place]);
		END CASE;
		IF pg_sequence_last_value(sequences[place]) <> before OR before % 2 = 1 THEN
			changing := changing + 1;
		ELSIF allowed = (before / 2 % 2 = 0) THEN
			agreed := agreed + 1;
		ELSE
			RAISE 'stale: client % at % is said to be allowed: %', place - 1, before, allowed;
		END IF;
	END LOOP;
	INSERT INTO judged SELECT agreed, changing, from_cache - cached FROM cmblock.decision_cache();
END $$;
CREATE FUNCTION sha256_of(n bigint) RETURNS cmblock.thumbprint LANGUAGE sql AS 'SELECT encode(sha256, ''hex'')::cmblock.thumbprint FROM certificates WHERE place = n';
END

my $id = "'0000000:client_id-0000-0000-0000-000000000000'";
my $count = "SELECT nextval('s:client_id');\n";

sub bench
{
	my ($name, $script, $sessions, $time) = @_;
	my $log = "$dir/$name.log";

	append_to_file("$dir/$name.sql", $script);
	return IPC::Run::start(
		[ 'pgbench', '-n', '-M', 'simple', "--random-seed=$seed", '-c', $sessions, '-T', $time, '-f', "$dir/$name.sql", $p01->connstr('postgres') ],
		'>', $log, '2>&1', IPC::Run::timeout($time + $PostgreSQL::Test::Utils::timeout_default));
}

# With so many writers, each for a client of its own.
sub stress
{
	my ($name, $writers, $block, $unblock, $least_from_cache) = @_;
	my $time = int($seconds / 5) || 1;
	my @run = (
		bench("$name-writers", "$count$block\n$count$count$unblock\n$count", $writers, $time),
		bench("$name-deciders", 'SELECT hammer(500);', 6, $time));

	sql($p01, 'TRUNCATE judged');

	# Neighbours in the same buckets, and what is rolled back. Not beside those who lock the table: that is a deadlock.
	push @run,
	  bench("$name-others",
		"BEGIN; SAVEPOINT s; SELECT cmblock.block_client($id); ROLLBACK TO s; SELECT cmblock.is_allowed($id); ROLLBACK;\n"
		  . 'SELECT cmblock.is_allowed(gen_random_uuid()::cmblock.smsid);', 2, $time)
	  if $name ne 'unguarded';
	$_->finish foreach @run;
	my $logs = join('', map { slurp_file($_) } glob("$dir/$name-*.log"));
	is($logs =~ /(stale.*|ERROR.*|aborted.*|.*failed transactions: [1-9].*)/ ? $1 : '', '', "$name: no decision was stale");
	my ($agreed, $changing, $cached) =
	  split(/\|/, sql($p01, 'SELECT coalesce(sum(agreed), 0), coalesce(sum(changing), 0), coalesce(sum(from_cache), 0) FROM judged'));
	my $changes = sql($p01, 'SELECT sum(pg_sequence_last_value(oid))::int / 4 FROM pg_class WHERE relname ~ \'^s\d+$\'');
	note("$name: $agreed judged, $changing while it changed, $cached from the cache; $changes changes in all");
	cmp_ok($agreed, '>', 500, "$name: many were judged");
	cmp_ok($cached, '>=', $least_from_cache, "$name: and enough of them came from the cache");
	return;
}

sub prepared
{
	my ($command) = @_;

	return "BEGIN; $command PREPARE TRANSACTION 'p:client_id'; COMMIT PREPARED 'p:client_id';";
}

my $disable = 'ALTER TABLE cmblock.client DISABLE TRIGGER guard, DISABLE TRIGGER history';
my $enable = 'ALTER TABLE cmblock.client ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER history';

sub unguarded
{
	my ($blocked) = @_;

	return "BEGIN; $disable; UPDATE cmblock.client SET blocked = $blocked, block_changed_at = now() WHERE smsid = $id; $enable; COMMIT;";
}

stress('client', 6, "SELECT cmblock.block_client($id);", "SELECT cmblock.unblock_client($id);", 500);
stress('certificate', 6, 'SELECT cmblock.block_certificate(sha256_of(:client_id));', 'SELECT cmblock.unblock_certificate(sha256_of(:client_id));', 500);
stress('bulk', 6, "SELECT * FROM cmblock.block_clients(ARRAY[$id]::cmblock.smsid[]);", "SELECT * FROM cmblock.block_clients(ARRAY[$id]::cmblock.smsid[], false);", 500);
stress('prepared', 3, prepared("SELECT cmblock.block_client($id);"), prepared("SELECT cmblock.unblock_client($id);"), 0);
stress('unguarded', 1, unguarded('true'), unguarded('false'), 0);

done_testing();
