#!/bin/bash
# cmblock's replication beside PostgreSQL's own logical replication: the same two clusters, the same rows, one after the other.
#
#	usage: make -C bench replication, or test/private.sh bash bench/replication.sh [ROWS [CHANGES [SINGLE]]]
#
# With CSV=FILE the results are added to that file, a line each: bench,variant,metric,value,unit,ratio. The ratio says how many times
# better cmblock is.
#
# The table of logical replication has the columns, constraints and indexes of cmblock.client, but for the one on change_xid,
# which only cmblock's feed needs, and no guard: it pays for less. Each of the two is measured while the other has nothing to do (the
# other's link is paused, the other's subscription disabled). Settings are PostgreSQL's own but for those below.
#
# A single change is late until it is in force at the secondary: from its commit record at the primary to that at the secondary, or, since
# those of logical replication have the primary's time, to the end of the statement there, shortly before its commit.
# Both commit without waiting for the secondary's disk. They take turns, so that whatever else the machine does hits both.
set -euo pipefail

: "${AREA:?is set by test/private.sh}" "${PG_CONFIG:?is set by test/private.sh}"
rows=${1:-200000} changes=${2:-1000000} single=${3:-500}
hierarchy=11111111-2222-3333-4444-555555555555
export PGHOST=$AREA/tmp PGUSER=postgres PGDATABASE=postgres PGOPTIONS='-c client_min_messages=error'

primary() { psql -XAtq -p 5451 -v ON_ERROR_STOP=1 "$@"; }
secondary() { psql -XAtq -p 5452 -v ON_ERROR_STOP=1 "$@"; }
now() { date +%s.%N; }
compute() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }

start()
{
	initdb -D "$AREA/$1" -A trust -N -U postgres >/dev/null
	printf '%s\n' "port = $2" "shared_preload_libraries = 'cmblock'" "unix_socket_directories = '$PGHOST'" "listen_addresses = ''" \
		'track_commit_timestamp = on' 'max_wal_size = 8GB' 'wal_level = logical' 'shared_buffers = 256MB' 'autovacuum = off' \
		"cmblock.retry_max = '1s'" 'checkpoint_timeout = 1h' >>"$AREA/$1/postgresql.conf"
	pg_ctl -D "$AREA/$1" -l "$AREA/$1.log" -w start >/dev/null
}

# The same things, as each of the two calls them.
declare -A table=([cmblock]=cmblock.client [logical]=public.client)
declare -A on=([cmblock]="SELECT cmblock.resume_link('S01')" [logical]='ALTER SUBSCRIPTION sub ENABLE')
declare -A off=([cmblock]="SELECT cmblock.pause_link('S01')" [logical]='ALTER SUBSCRIPTION sub DISABLE')
switch() { if [ "$1" = cmblock ]; then primary -c "$2" >/dev/null; else secondary -c "$2" >/dev/null; fi; }
sum() { "$1" -c "SELECT sum(version) FROM ${table[$2]}"; }
wal() { "$1" -c "SELECT pg_current_wal_insert_lsn() - '0/0'"; }
cpu() { # of all processes of a cluster, in clock ticks, those that ended included
	local total=0 pid
	for pid in $(head -1 "$AREA/$1/postmaster.pid") $(pgrep -P "$(head -1 "$AREA/$1/postmaster.pid")")
	do
		total=$((total + $(awk '{ print $14 + $15 }' "/proc/$pid/stat" 2>/dev/null || echo 0)))
	done
	echo $total
}

# Seconds from a moment until the secondary has what the primary has.
until_equal()
{
	local expected deadline=$((SECONDS + 900))
	expected=$(sum primary "$1")
	until [ "$(sum secondary "$1")" = "$expected" ]
	do
		[ $SECONDS -lt $deadline ] || { echo "gave up waiting for $1" >&2; exit 1; }
		sleep 0.02
	done
	compute "$(now) - $2" 3
}

# Updates of all rows that are meant, written as what both have to write: a new version.
update()
{
	case $1 in
		cmblock) echo "SELECT cmblock.block_clients(ARRAY(SELECT smsid FROM $3), $2)" ;;
		logical) echo "UPDATE public.client SET blocked = $2, block_changed_by = 'postgres', block_changed_at = now(), version = version + 1,
			changed_at = now() WHERE smsid IN (SELECT smsid FROM $3)" ;;
	esac
}

make -s -j"${JOBS:-2}" with_llvm=no PG_CONFIG="$PG_CONFIG" install >/dev/null
trap 'for c in primary secondary; do pg_ctl -D "$AREA/$c" -m immediate stop >/dev/null 2>&1 || true; done' EXIT
start primary 5451
start secondary 5452
secondary >/dev/null <<END
CREATE EXTENSION cmblock; CREATE ROLE p01_link LOGIN;
SELECT cmblock.setup_site('S01', 'secondary', '$hierarchy', 'P01'); SELECT cmblock.accept_link('P01', 'p01_link');
END
primary >/dev/null <<END
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P01', 'primary', '$hierarchy'); SELECT cmblock.add_site('S01', 'secondary', 'P01');
CREATE SERVER s01 FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host '$PGHOST', port '5452');
CREATE USER MAPPING FOR postgres SERVER s01 OPTIONS (user 'p01_link');
INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied)
	SELECT gen_random_uuid()::cmblock.smsid, 'pc' || i, 'computer', 'P01', 2, false FROM generate_series(1, $rows) i;
CREATE TABLE few AS SELECT smsid FROM cmblock.client LIMIT 10000;
END
for side in primary secondary
do
	$side -c 'CREATE TABLE public.client (LIKE cmblock.client INCLUDING ALL)' >/dev/null
	$side -c "SELECT format('DROP INDEX public.%I', indexrelid::regclass) FROM pg_index WHERE indrelid = 'public.client'::regclass AND pg_get_indexdef(indexrelid) LIKE '%change_xid%'" | sed 's/"public\.//; s/public\."*public\./public./; s/"//g' | $side >/dev/null
done
primary -c 'INSERT INTO public.client SELECT * FROM cmblock.client' -c 'CREATE PUBLICATION pub FOR TABLE public.client' >/dev/null
declare -A result
begun=$(now)
primary -c "SELECT cmblock.link_site('S01', 's01')" >/dev/null
result[cmblock.first]=$(until_equal cmblock "$begun")
begun=$(now)
secondary -c "CREATE SUBSCRIPTION sub CONNECTION 'host=$PGHOST port=5451 dbname=postgres user=postgres' PUBLICATION pub" >/dev/null 2>&1
result[logical.first]=$(until_equal logical "$begun")

for what in cmblock logical
do
	other=$([ $what = cmblock ] && echo logical || echo cmblock)
	switch $other "${off[$other]}"
	switch $what "${on[$what]}"

	# A bulk change, in one transaction: from its commit to the end at the secondary. WAL of both ends.
	for side in primary secondary
	do
		$side -c 'VACUUM ANALYZE' -c CHECKPOINT
	done
	before=("$(wal primary)" "$(wal secondary)")
	primary -c "$(update $what true cmblock.client)" >/dev/null
	seconds=$(until_equal $what "$(primary -c "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM ${table[$what]} LIMIT 1")")
	result[$what.bulk]=$(compute "$rows / $seconds" 0)
	result[$what.wal_primary]=$(compute "($(wal primary) - ${before[0]}) / $rows" 0)
	result[$what.wal_secondary]=$(compute "($(wal secondary) - ${before[1]}) / $rows" 0)

	# The secondary misses changes: the same 10,000 rows over and over.
	switch $what "${off[$what]}"
	sleep 1
	for ((i = 0; i < changes / 10000; i++))
	do
		echo "$(update $what "$( ((i % 2)) && echo true || echo false)" few);"
	done | primary >/dev/null
	begun=$(now)
	switch $what "${on[$what]}"
	result[$what.catch_up]=$(until_equal $what "$begun")

	# Nothing happens.
	sleep 3
	before=("$(wal primary)" "$(wal secondary)" "$(cpu primary)" "$(cpu secondary)")
	sleep 20
	result[$what.idle_cpu]=$(compute "($(cpu primary) + $(cpu secondary) - ${before[2]} - ${before[3]}) * 1000 / $(getconf CLK_TCK) / 20" 2)
	result[$what.idle_wal]=$(compute "$(wal primary) + $(wal secondary) - ${before[0]} - ${before[1]}" 0)
done

# Single changes, a transaction each with a short pause, which is what makes latency not throughput: in five turns of each.
to=$(primary -c "SELECT CASE WHEN blocked THEN 'false' ELSE 'true' END FROM cmblock.client WHERE smsid = (SELECT smsid FROM few LIMIT 1)")
primary >/dev/null <<END
CREATE TABLE one AS SELECT row_number() OVER () AS n, smsid FROM (SELECT smsid FROM few LIMIT $((single + 10))) s;
CREATE INDEX ON one (n); VACUUM ANALYZE one; VACUUM cmblock.client; VACUUM public.client;
END
secondary >/dev/null <<'END'
VACUUM cmblock.client; VACUUM public.client;
CREATE UNLOGGED TABLE public.arrived (smsid uuid, at timestamptz);
CREATE FUNCTION public.note_arrival() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO public.arrived VALUES (NEW.smsid::uuid, clock_timestamp()); RETURN NULL; END';
CREATE TRIGGER arrival AFTER UPDATE ON public.client FOR EACH ROW EXECUTE FUNCTION public.note_arrival();
ALTER TABLE public.client ENABLE ALWAYS TRIGGER arrival;
END
some=$((single / 5))
for turn in 0 1 2 3 4
do
	for what in cmblock logical
	do
		other=$([ $what = cmblock ] && echo logical || echo cmblock)
		switch $other "${off[$other]}"
		switch $what "${on[$what]}"
		primary -c "$(update $what "$to" "one WHERE n = $((single + 1 + turn))")" >/dev/null
		until_equal $what "$(now)" >/dev/null
		for ((i = turn * some + 1; i <= (turn + 1) * some; i++))
		do
			echo "$(update $what "$to" "one WHERE n = $i"); SELECT pg_sleep(0.01);"
		done | primary >/dev/null
		until_equal $what "$(now)" >/dev/null
	done
done
ids=$(primary -c "SELECT string_agg(quote_literal(smsid::uuid), ', ') FROM one WHERE n <= $((5 * some))")
for what in cmblock logical
do
	times="SELECT smsid::uuid, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM ${table[$what]} WHERE smsid::uuid IN ($ids)"
	arrivals=$times
	[ $what = cmblock ] || arrivals="SELECT smsid, extract(epoch FROM max(at)) FROM public.arrived WHERE smsid IN ($ids) GROUP BY smsid"
	read -r "result[$what.p50]" "result[$what.p99]" < <(join -t'|' <(primary -c "$times" | sort) <(secondary -c "$arrivals" | sort) |
		awk -F'|' '{ print 1000 * ($3 - $2) }' | sort -n | awk '{ t[NR] = $1 } END { printf "%.2f %.2f\n", t[int((NR + 1) / 2)], t[int(NR * 0.99 + 0.5)] }')
done

line() # name, unit, key, whether more is better
{
	local c=${result[cmblock.$3]} l=${result[logical.$3]} ratio
	ratio=$(awk -v c="$c" -v l="$l" -v more="$4" 'BEGIN { a = more ? c : l; b = more ? l : c; if (b > 0) printf "%.2f", a / b; else printf "-" }')
	printf '%-60s %12s %12s %9s\n' "$1, $2" "$c" "$l" "$ratio"
	[ -z "${CSV:-}" ] || printf 'replication,%s,"%s",%s,%s,%s\n' cmblock "$1" "$c" "$2" "${ratio/-/}" logical "$1" "$l" "$2" '' >>"$CSV"
}
printf '%-60s %12s %12s %9s\n' '' cmblock logical better
line "first synchronisation of $rows rows" s first ''
line "bulk change of $rows rows" rows/s bulk 1
line "single change p50" ms p50 ''
line "single change p99" ms p99 ''
line "catch-up after $changes changes to 10000 rows" s catch_up ''
line 'WAL of a changed row at the sender' octets wal_primary ''
line 'WAL of a changed row at the receiver' octets wal_secondary ''
line 'processor when idle of both clusters' ms/s idle_cpu ''
line 'WAL when idle of both clusters in 20 s' octets idle_wal ''
