# The cache of CRLs by itself: many sessions that miss at once, builders that fail, are cancelled, terminated or killed, pins,
# eviction, no preloading, a standby, parallel workers, and that no memory is lost.
#
# test/modules/crl_cache plays the users of the cache. Its loader reads table crls, so a lock on that table
# stops a build in its middle.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Cwd qw(abs_path);
use File::Basename;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Built here and loaded by its path, so nothing is installed.
my $source = dirname(abs_path($FindBin::RealBin)) . '/test/modules/crl_cache/Makefile';
my $built = "${PostgreSQL::Test::Utils::tmp_check}/crl_cache_module";
my $library = "$built/crl_cache_test";
mkdir $built;
command_ok(
	[
		'make', '-s', '-C', $built, '-f', $source, 'with_llvm=no', 'PG_CONFIG=' . ($ENV{PG_CONFIG} // 'pg_config')
	],
	'the module is built');

# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------

sub new_server
{
	my ($name, %opt) = @_;
	my $node = new_site(
		$name,
		preload => 0,
		extension => 0,
		conf => ($opt{preload} // 1 ? "shared_preload_libraries = '$library'\n" : '') . ($opt{conf} // ''));

	my %functions = (
		'make_crl(seed int, entries int) RETURNS bytea' => 'test_make_crl',
		'serial(seed int, n int) RETURNS bytea' => 'test_serial',
		'find(sha256 bytea, serial bytea) RETURNS bool' => 'test_find',
		'hold(sha256 bytea, to_the_end bool) RETURNS bool' => 'test_hold',
		'nest(sha256 bytea, other bytea, pins int) RETURNS bool' => 'test_nest',
		'hand_over_hand(sha256 bytea, pins int) RETURNS bool' => 'test_hand_over_hand',
		'preload(der bytea) RETURNS void' => 'test_preload',
		'retire(sha256 bytea) RETURNS void' => 'test_retire',
		'cache(OUT place text, OUT sha256 bytea, OUT state text, OUT issuer text, OUT entries bigint,
			OUT bytes bigint, OUT hits bigint, OUT builds bigint, OUT build_ms float8, OUT pins bigint,
			OUT built_at timestamptz, OUT last_used timestamptz) RETURNS SETOF record' => 'cmblock_crl_cache_entries',
		'totals(OUT place text, OUT size bigint, OUT used bigint, OUT hits bigint, OUT builds bigint,
			OUT build_ms float8, OUT evictions bigint, OUT failed_builds bigint, OUT waits bigint, OUT no_room bigint)
			RETURNS SETOF record' => 'cmblock_crl_cache_totals');
	sql($node, "CREATE FUNCTION $_ AS '$library', '$functions{$_}' LANGUAGE C STRICT PARALLEL SAFE")
	  foreach sort keys %functions;
	sql($node, <<'END');
CREATE TABLE crls (name int PRIMARY KEY, sha256 bytea UNIQUE, der bytea);
ALTER TABLE crls ALTER der SET STORAGE EXTERNAL;
-- Names, so that a session can ask while crls is locked.
CREATE TABLE digests (name int PRIMARY KEY, sha256 bytea);
CREATE FUNCTION put(name int, entries int) RETURNS void LANGUAGE sql AS $$
	WITH new AS (SELECT make_crl(name, entries) AS der), stored AS (
		INSERT INTO crls SELECT name, pg_catalog.sha256(der), der FROM new RETURNING crls.name, crls.sha256)
	INSERT INTO digests SELECT * FROM stored
$$;
CREATE FUNCTION digest(int) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT sha256 FROM digests WHERE name = $1';
-- The CRL of this name lists its entry n.
CREATE FUNCTION lists(name int, n int DEFAULT 0) RETURNS bool LANGUAGE sql PARALLEL SAFE AS 'SELECT find(digest(name), serial(name, n))';
END
	return $node;
}

# A process waits for a lock of the server (it is loading), or for another that is building.
sub waits_for_lock
{
	my ($node, @sessions) = @_;
	return wait_count($node, 'Lock', @sessions);
}

sub waits_for_builder
{
	my ($node, @sessions) = @_;
	return wait_count($node, 'Extension', @sessions);
}

sub wait_count
{
	my ($node, $type, @sessions) = @_;
	my $pids = join(',', map { $_->{pid} } @sessions);

	return "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = '$type' AND pid IN ($pids)";
}

my $nothing_left = q{SELECT count(*) FILTER (WHERE state = 'building'), coalesce(sum(pins), 0) FROM cache()};

# Pages are 4 kB: what is in use is what the rows say, rounded up.
my $all_accounted = q{SELECT used = (SELECT coalesce(sum((bytes + 4095) / 4096 * 4096), 0) FROM cache()
	WHERE place = 'shared' AND state = 'ready') AND used <= size FROM totals() WHERE place = 'shared'};

# ---------------------------------------------------------------------------------------------
# One CRL
# ---------------------------------------------------------------------------------------------

my $node = new_server('cache', conf => "max_parallel_workers_per_gather = 2\nrestart_after_crash = on\n");

sql($node, "SELECT put(1, 1000)");
sql_is($node, 'SELECT lists(1, 0), lists(1, 999), lists(1, 1000)', 't|t|f', 'a CRL answers for its serials');
sql_is($node, q{SELECT place, state, issuer, entries, hits, builds, build_ms > 0, pins, bytes BETWEEN 36 * 1000 AND 40 * 1000
	FROM cache()}, 'shared|ready|CN=Test CA 1|1000|2|1|t|0|t', 'built once, and used twice more');
sql_is($node, q{SELECT lists(1, 1)}, 't', 'another session uses the same');
sql_is($node, q{SELECT hits, builds FROM cache()}, '3|1', 'without building');
sql_is($node, q{SELECT find(sha256('no such CRL'), serial(1, 1)) IS NULL}, 't', 'a loader may have nothing');
sql_is($node, q{SELECT place, hits, builds, failed_builds, used, size FROM totals()},
	"shared|3|1|0|40960|134217728\nlocal|0|0||0|134217728", 'totals');

sql($node, "INSERT INTO digests VALUES (90, sha256('wrong')), (91, sha256('no CRL'))");
sql($node, "INSERT INTO crls SELECT 90, sha256('wrong'), der FROM crls WHERE name = 1");
sql($node, "INSERT INTO crls VALUES (91, sha256('no CRL'), 'no CRL')");
my $first = session($node);
like(ask($first, 'SELECT lists(90) IS NULL'), qr/WARNING:  XX001: CRL .* is damaged.*have the digest.*^t$/ms,
	'what is stored under another digest is not taken');
like(ask($first, 'SELECT lists(91) IS NULL'), qr/WARNING:  XX001: CRL .* is damaged.*^t$/ms, 'nor what is not a CRL');
leave($first);
sql_is($node, $nothing_left, '0|0', 'and nothing half-built is left');

sql($node, 'SELECT preload(make_crl(2, 500))');
sql($node, "INSERT INTO digests SELECT 2, sha256(make_crl(2, 500))");
sql_is($node, 'SELECT lists(2, 499)', 't', 'a CRL that was put in beforehand needs no loader');

sql($node, 'SELECT put(3, 10)');
sql_is($node, 'SELECT nest(digest(3), digest(1), 100)', 't', 'a loader may use the cache, and take many pins');
sql_is($node, $nothing_left, '0|0', 'all are given back');

# ---------------------------------------------------------------------------------------------
# Many miss at once
# ---------------------------------------------------------------------------------------------

sql($node, 'SELECT put(10, 5000)');
my $admin = session($node);
my @many = map { session($node) } 1 .. 20;

ask($admin, 'BEGIN; LOCK TABLE crls IN ACCESS EXCLUSIVE MODE');
say($_, 'SELECT lists(10, 4999)') foreach @many;
$node->poll_query_until('postgres', waits_for_builder($node, @many), '19') or die 'timed out';
sql_is($node, waits_for_lock($node, @many), '1', 'of twenty sessions that miss one loads, the others wait for it');
sql_is($node, 'SELECT lists(1)', 't', 'meanwhile other CRLs are there for all');
sql_is($node, q{SELECT state FROM cache() WHERE sha256 = digest(10)}, 'building', 'and the view says what is being built');
ask($admin, 'COMMIT');
is(join(' ', map { answer($_) } @many), join(' ', ('t') x 20), 'then all have their answer');
sql_is($node, q{SELECT hits, builds FROM cache() WHERE sha256 = digest(10)}, '19|1', 'from one build');

# ---------------------------------------------------------------------------------------------
# Builders that do not finish
# ---------------------------------------------------------------------------------------------

my ($builder, $heir) = @many;
my $failures = sub { sql($node, q{SELECT failed_builds FROM totals() WHERE place = 'shared'}) };

# Each way to end the builder's work while somebody waits for it.
my $name = 20;
foreach my $end (
	[ 'cancelled', sub { sql($node, "SELECT pg_cancel_backend($builder->{pid})") }, qr/57014/ ],
	[ 'timed out', sub { }, qr/57014/, 'SET statement_timeout = 1000' ],
	[ 'terminated', sub { sql($node, "SELECT pg_terminate_backend($builder->{pid})") }, qr/57P01|closed/ ])
{
	my ($how, $act, $error, $before) = @$end;
	my $failed_before = $failures->();

	sql($node, "SELECT put($name, 1000)");
	ask($admin, 'BEGIN; LOCK TABLE crls IN ACCESS EXCLUSIVE MODE');
	ask($builder, $before) if $before;
	say($builder, "SELECT lists($name)");
	$node->poll_query_until('postgres', waits_for_lock($node, $builder), '1') or die 'timed out';
	say($heir, "SELECT lists($name)");
	my $start = time;
	$act->();
	like(answer($builder), $error, "a builder is $how");
	$node->poll_query_until('postgres', waits_for_lock($node, $heir), '1') or die 'timed out';
	cmp_ok(time - $start, '<', 4, 'who waited for it is told at once');
	is($failures->(), $failed_before + 1, 'its build has failed');
	ask($admin, 'COMMIT');
	is(answer($heir), 't', 'and builds instead');
	is(ask($heir, "SELECT place, builds FROM cache() WHERE sha256 = digest($name)"), 'shared|1', 'for all');
	sql_is($node, $nothing_left, '0|0', 'nothing is left of it');
	sql_is($node, $all_accounted, 't', 'nor is any memory lost');
	if ($how eq 'terminated')
	{
		leave($builder);
		$builder = $many[2];
	}
	ask($builder, 'RESET statement_timeout') if $before;
	$name++;
}

# The one who waits has the lock that the builder needs. The deadlock detector does not see that.
sql($node, 'SELECT put(30, 1000)');
ask($admin, 'BEGIN; LOCK TABLE crls IN ACCESS EXCLUSIVE MODE');
say($builder, 'SELECT lists(30)');
$node->poll_query_until('postgres', waits_for_lock($node, $builder), '1') or die 'timed out';
is(ask($admin, 'SELECT lists(30)'), 't', 'who has waited too long builds for himself');
is(ask($admin, q{SELECT place, hits FROM cache() WHERE sha256 = digest(30) ORDER BY 1}), "local|1\nshared|0",
	'in his own memory');
ask($admin, 'COMMIT');
is(answer($builder), 't', 'and the builder goes on');
$node->poll_query_until('postgres', q{SELECT clock_timestamp() > built_at + interval '1 s' FROM cache()
	WHERE sha256 = digest(30)}) or die 'timed out';
ask($admin, 'SELECT lists(30)');
is(ask($admin, q{SELECT place, hits FROM cache() WHERE sha256 = digest(30)}), 'shared|1',
	'a second later he, too, uses the common one');

# ---------------------------------------------------------------------------------------------
# Pins
# ---------------------------------------------------------------------------------------------

my $pins = 'SELECT pins FROM cache() WHERE sha256 = digest(1)';

is(ask($builder, "BEGIN; SELECT hold(digest(1), true), hold(digest(1), true); $pins"), "t|t\n2",
	'pins of a transaction are seen');
my $kb = private_kb($builder);
is(ask($builder, "SELECT hand_over_hand(digest(1), 1000000); $pins"), "t\n2", 'a million pins given back out of turn');
cmp_ok(private_kb($builder) // 0, '<', ($kb // 1) + 512, 'need no more room than two');
is(ask($builder, "COMMIT; $pins"), '0', 'commit releases them');
is(ask($builder, "BEGIN; SELECT hold(digest(1), false); $pins"), "t\n0", 'pins of a statement end with it');
is(ask($builder, "SAVEPOINT s; SELECT hold(digest(1), false) OR true, 1 / 0 IS NULL; ROLLBACK TO s; $pins") =~ s/.*\n//sr,
	'0', 'also by an error in a subtransaction');
like(ask($builder, "SELECT hold(digest(1), true), 1 / 0"), qr/22012/, 'an error in a transaction with a pin');
is(ask($builder, "ROLLBACK; $pins"), '0', 'releases it');
ask($builder, 'BEGIN; SELECT hold(digest(1), true)');
sql_is($node, $pins, '1', 'a session with a pin');
sql($node, "SELECT pg_terminate_backend($builder->{pid})");
ok($node->poll_query_until('postgres', $pins, '0'), 'is terminated, and its pin is gone');
leave($builder);
$builder = $many[3];

# ---------------------------------------------------------------------------------------------
# Parallel workers
# ---------------------------------------------------------------------------------------------

my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0';
my $question = 'SELECT count(*) FROM wanted WHERE find(sha256, serial(10, n))';
sql($node, 'CREATE TABLE wanted AS SELECT digest(10) AS sha256, n FROM generate_series(0, 9999) n; ANALYZE wanted');
sql_like($node, "$parallel; EXPLAIN (ANALYZE, COSTS off, TIMING off) $question", qr/Workers Launched: 2/, 'parallel workers');
sql_is($node, "$parallel; $question", '5000', 'use the cache as well');
sql_is($node, $nothing_left, '0|0', 'and leave no pins');

# ---------------------------------------------------------------------------------------------
# A million entries, many reloads
# ---------------------------------------------------------------------------------------------

sql($node, 'SELECT put(40, 1000000)');
sql_is($node, 'SELECT lists(40, 0), lists(40, 999999), lists(40, 1000000)', 't|t|f', 'a CRL of a million entries');
sql_is($node, 'SELECT entries, bytes <= 40 * entries, place FROM cache() WHERE sha256 = digest(40)',
	'1000000|t|shared', 'takes 40 octets an entry at most');

SKIP:
{
	skip 'needs /proc', 4 unless -r "/proc/$$/status";

	my $reload = sub {
		my ($from, $to) = @_;
		return ask($builder, <<"SQL");
DO \$\$
BEGIN
	FOR i IN $from .. $to LOOP
		TRUNCATE crls, digests;
		PERFORM put(i, 10000 + i * 10);
		IF lists(i, 9999) IS DISTINCT FROM true THEN RAISE 'lost'; END IF;
		COMMIT;
		-- Fewer in a second than the cache holds: what was used in the last second is not evicted.
		PERFORM pg_sleep(0.01);
	END LOOP;
END
\$\$
SQL
	};
	is($reload->(1001, 1030), '', 'thirty reloads');
	my $before = private_kb($builder);
	is($reload->(1031, 1230), '', 'two hundred more');
	my $after = private_kb($builder);
	cmp_ok($after, '<', $before + 512, "the session has not grown: $before kB, $after kB");
	sql_is($node, $all_accounted, 't', 'nor has shared memory lost any');
}

# ---------------------------------------------------------------------------------------------
# kill -9 of a builder, restart
# ---------------------------------------------------------------------------------------------

sql($node, 'SELECT put(50, 1000)');
ask($admin, 'BEGIN; LOCK TABLE crls IN ACCESS EXCLUSIVE MODE');
say($builder, 'SELECT lists(50)');
$node->poll_query_until('postgres', waits_for_lock($node, $builder), '1') or die 'timed out';
# The server goes on answering until it has noticed.
my $log_end = -s $node->logfile;
kill 9, $builder->{pid};
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log_end);
leave($admin, @many);
$node->poll_query_until('postgres', 'SELECT true') or die 'timed out';
sql_is($node, "SELECT used, builds FROM totals() WHERE place = 'shared'", '0|0', 'after kill -9 of a builder the cache is new');
sql_is($node, 'SELECT lists(50)', 't', 'and works');
$node->restart;
sql_is($node, 'SELECT count(*) FROM cache()', '0', 'after a restart it is empty');
sql_is($node, 'SELECT lists(50)', 't', 'and works');

# ---------------------------------------------------------------------------------------------
# A standby
# ---------------------------------------------------------------------------------------------

$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
sql_is($standby, 'SELECT lists(50), lists(50, 1000)', 't|f', 'a hot standby loads and serves CRLs');
sql_is($standby, 'SELECT place, hits, builds FROM cache()', 'shared|1|1', 'from its own shared memory');
$standby->stop;
$node->stop;

# ---------------------------------------------------------------------------------------------
# A small budget
# ---------------------------------------------------------------------------------------------

# 64 pages: six CRLs of a thousand entries, ten pages each.
my $small = new_server('small', conf => 'cmblock.crl_cache_size = 256kB');
my $shared = q{SELECT string_agg(name::text, ',' ORDER BY name) FROM cache() JOIN digests USING (sha256)
	WHERE place = 'shared' AND state = 'ready'};

# What was used within a second is not evicted, and as long a session uses a copy of its own.
sub a_second_passes
{
	sql($small, 'SELECT pg_sleep(1.01)');
	return;
}

sql($small, "SELECT put(n, 1000) FROM generate_series(1, 9) n; SELECT put(10, 10000)");
sql($small, "SELECT lists($_)") foreach 1 .. 6;
sql_is($small, $shared, '1,2,3,4,5,6', 'the cache is full');
my $one = session($small);
is(ask($one, 'SELECT lists(7, 999), lists(7, 1000)'), 't|f', 'while all of it is in use, others are served');
is(ask($one, "SELECT place, builds FROM cache() WHERE sha256 = digest(7)"), 'local|1', 'from the memory of the session');
sql_is($small, $shared, '1,2,3,4,5,6', 'and push nothing out');
sql_is($small, q{SELECT no_room, evictions FROM totals() WHERE place = 'shared'}, '1|0', 'which is counted');
a_second_passes();
is(ask($one, 'SELECT lists(7)'), 't', 'a second later');
is(ask($one, "SELECT place, builds FROM cache() WHERE sha256 = digest(7)"), 'shared|1', 'it is handed over');
sql_is($small, $shared, '2,3,4,5,6,7', 'in the place of the one that was not used for the longest time');
sql_is($small, 'SELECT lists(1)', 't', 'which is loaded again when asked for');

ask($one, 'BEGIN; SELECT hold(digest(2), true), hold(digest(3), true)');
a_second_passes();
sql($small, 'SELECT lists(8)');
a_second_passes();
sql($small, 'SELECT lists(9)');
a_second_passes();
sql($small, "SELECT lists(1), lists(7), lists(8), lists(9)");
sql_is($small, $shared, '1,2,3,7,8,9', 'others come in');
a_second_passes();
sql($small, 'SELECT lists(4)');
sql_is($small, "$shared AND name IN (2, 3, 4)", '2,3,4', 'what is pinned is not evicted, although it is the oldest');
sql($small, 'SELECT retire(digest(4))');
a_second_passes();
sql($small, "SELECT lists(n) FROM unnest('{1,7,8,9}'::int[]) n");
is(ask($one, 'SELECT lists(2), lists(3); COMMIT'), 't|t', 'and stays what it is');
sql_is($small, $all_accounted, 't', 'the budget holds');

sql_is($small, 'SELECT retire(digest(8)); SELECT lists(6)', "\nt", 'a CRL that was replaced');
sql_is($small, $shared, '1,2,3,6,7,9', 'goes at once, although it was used just now');
sql_is($small, 'SELECT retire(digest(8)); SELECT lists(8)', "\nt", 'and is served nevertheless');

like(ask($one, 'SELECT lists(10, 9999)'), qr/WARNING:  53400.*larger than cmblock.crl_cache_size.*^t$/ms,
	'a CRL larger than the cache is served with a warning');
is(ask($one, 'SELECT lists(10, 9999)'), 't', 'once');
sql_is($small, 'SELECT lists(10, 10000)', 'f', 'and to others without one') ;
sql_is($small, q{SELECT state, bytes > 256 * 1024 FROM cache() WHERE sha256 = digest(10)}, 'too large|t',
	'the view says why');
leave($one);
$small->stop;

# ---------------------------------------------------------------------------------------------
# Without preloading
# ---------------------------------------------------------------------------------------------

my $plain = new_server('plain', preload => 0, conf => 'cmblock.crl_cache_size = 256kB');

sql($plain, "SELECT put(n, 1000) FROM generate_series(1, 9) n; SELECT put(10, 10000)");
my $two = session($plain);
is(ask($two, "SELECT lists($_, 999)"), 't', "without preloading CRL $_ is served") foreach 1 .. 8;
is(ask($two, 'SELECT place, used <= size, builds, evictions FROM totals()'), 'local|t|8|2',
	'from the memory of the session, within the budget');
is(ask($two, 'BEGIN; SELECT hold(digest(3), true)'), 't', 'a pin there');
is(ask($two, 'SELECT lists(1), lists(2), lists(4), lists(5), lists(6), lists(7), lists(8), lists(9)'), 't|t|t|t|t|t|t|t',
	'and others');
is(ask($two, 'SELECT pins, hits FROM cache() WHERE sha256 = digest(3)'), '1|2', 'what is pinned stays');
is(ask($two, "COMMIT; $nothing_left"), '0|0', 'until the transaction ends');
like(ask($two, 'SELECT lists(10, 9999)'), qr/WARNING:  53400.*^t$/ms, 'one that is too large is kept nevertheless');
is(ask($two, 'SELECT builds FROM totals(); SELECT lists(9), lists(10, 9999); SELECT builds FROM totals()') =~ s/\nt\|t\n/ /r,
	'17 17', 'beside the others, so that it is built once');
is(ask($two, "SELECT retire(digest(10)); SELECT count(*) FROM cache() WHERE sha256 = digest(10)"), "\n0",
	'until it is replaced');
is(ask($two, 'SELECT preload(make_crl(11, 500)); SELECT count(*) FROM cache() WHERE sha256 = sha256(make_crl(11, 500))'), "\n1",
	'a CRL can be put in beforehand');
$plain->append_conf('postgresql.conf', "cmblock.crl_cache_size = 128kB");
$plain->reload;
until (ask($two, 'SHOW cmblock.crl_cache_size') eq '128kB') { usleep(100_000); }
is(ask($two, 'SELECT lists(1), lists(2), lists(3), lists(4); SELECT used <= size, size FROM totals()'), "t|t|t|t\nt|131072",
	'the budget can be changed at any time');
leave($two);
$plain->stop;

done_testing();
