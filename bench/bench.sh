#!/bin/bash
# The benchmarks, side by side in one run: `make bench` calls this beside a PostgreSQL of its own (test/private.sh).
#
# Everything is compared with something measured a moment before or after it on the same server, because times of a
# shared machine mean little and ratios much. Each comparison runs its sides in turn, ROUNDS times, and counts the best of each.
#
#   SECONDS_EACH (1)   how long pgbench runs for one figure
#   ROUNDS (5)
#   SIZES (1000 10000 100000 1000000)   clients for the plot of cost against size; the last is the size of the site
#   CRL_ENTRIES (1000 50000 1000000)    entries of revocation lists
#   REPLICATION (50000 50000 100)       rows, changes and single changes: see replication.sh
#
# The table goes to standard output; results.csv and cost.svg go as a tar archive to descriptor 3.
set -euo pipefail
: "${AREA:?is set by test/private.sh}" "${PG_CONFIG:?is set by test/private.sh}"
each=${SECONDS_EACH:-1}
rounds=${ROUNDS:-5}
read -ra sizes <<<"${SIZES:-1000 10000 100000 1000000}"
out=$AREA/results
data=$AREA/data
export PGHOST=$AREA PGPORT=6543 PGUSER=postgres PGDATABASE=bench PGOPTIONS='-c client_min_messages=error'
bench=$PWD/bench
csv=$out/results.csv
mkdir -p "$out"
echo 'group,what,value,unit,compared_with,ratio,target' >"$csv"

make -s PG_CONFIG="$PG_CONFIG" -j2 >"$AREA/build.log" 2>&1 && make -s PG_CONFIG="$PG_CONFIG" install >>"$AREA/build.log" 2>&1
make -s -C "$bench/module" PG_CONFIG="$PG_CONFIG" install >>"$AREA/build.log" 2>&1
initdb -A trust -N -U postgres -E UTF8 --locale=C -D "$data" >/dev/null
cat >>"$data/postgresql.conf" <<END
shared_preload_libraries = 'cmblock'
cmblock.decision_cache_size = 512MB
listen_addresses = ''
unix_socket_directories = '$AREA'
port = $PGPORT
shared_buffers = 1GB
max_wal_size = 8GB
max_connections = 100
autovacuum = off
jit = off
END
pg_ctl -s -w -D "$data" -l "$AREA/log" start
stop_servers()
{
	local server
	for server in "$data" "$AREA/standby"
	do
		[ ! -e "$server/postmaster.pid" ] || pg_ctl -s -w -D "$server" -m immediate stop || true
	done
}
trap stop_servers EXIT

sql()
{
	psql -XqAt -v ON_ERROR_STOP=1 "$@"
}

# row GROUP WHAT VALUE UNIT [COMPARED-WITH RATIO [TARGET]]
row()
{
	echo "$1,\"$2\",$3,$4,\"${5:-}\",${6:-},${7:-}" >>"$csv"
	printf '%-12s %-50s %10s %-7s %7s  %-32s %s\n' "$1" "$2" "$3" "$4" "${6:-}" "${5:+of $5}" "${7:+($7)}"
}

ratio()
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}

# ---------------------------------------------------------------------------------------------
# pgbench
# ---------------------------------------------------------------------------------------------

# script NAME PIPELINED EXPRESSION: asks it of a random client i of :clients
script()
{
	local n
	{
		[ "$2" = 0 ] || echo '\startpipeline'
		for ((n = 0; n < ($2 ? 100 : 1); n++))
		do
			echo '\set i random(1, :clients)'
			echo "SELECT $3;"
		done
		[ "$2" = 0 ] || echo '\endpipeline'
	} >"$AREA/$1.sql"
}

# Processor time of the server's sessions that have ended, in clock ticks
session_time()
{
	awk '{ print $16 + $17 }' "/proc/$(head -1 "$data/postmaster.pid")/stat"
}

# Statements a second of a script, and microseconds of the server's processor for each; further arguments are for pgbench.
rate()
{
	local name=$1 file=$AREA/$1.sql before result
	shift
	before=$(session_time)
	result=$(pgbench -n -M prepared -T "$each" -D clients="$clients" -f "$file" "$@" 2>>"$AREA/pgbench.log" |
		sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p; s/^tps = \([0-9.]*\).*/\1/p' | tr '\n' ' ')
	# until its sessions have ended
	sleep 0.1
	awk -v result="$result" -v n="$(grep -c '^SELECT' "$file")" -v ticks=$(($(session_time) - before)) -v hz="$(getconf CLK_TCK)" \
		'BEGIN { split(result, r, " "); printf "%d %.2f\n", r[2] * n, ticks * 1e6 / hz / (r[1] * n) }'
}

declare -A best least

# race NAME...: run in turns; the best rate of each in best[NAME], the least processor time of a statement in least[NAME]
race()
{
	local round name r cpu
	for name in "$@"
	do
		best[$name]=0
		least[$name]=1000000
	done
	for ((round = 0; round < rounds; round++))
	do
		for name in "$@"
		do
			# shellcheck disable=SC2086 # options
			read -r r cpu < <(rate "$name" ${options:-})
			[ "$r" -le "${best[$name]}" ] || best[$name]=$r
			least[$name]=$(awk -v a="${least[$name]}" -v b="$cpu" 'BEGIN { print b < a ? b : a }')
		done
	done
}

# ms COMMAND [UNDO]: the shortest of the rounds
ms()
{
	local round best_ms='' t
	for ((round = 0; round < rounds; round++))
	do
		t=$(printf '\\timing on\n%s;\n\\timing off\n%s;\n' "$1" "${2:-}" | psql -XqAt -v ON_ERROR_STOP=1 | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p')
		[ -n "$best_ms" ] && awk -v a="$t" -v b="$best_ms" 'BEGIN { exit !(a >= b) }' || best_ms=$t
	done
	echo "$best_ms"
}

# shellcheck source=/dev/null
source "$bench/decisions.sh"
# shellcheck source=/dev/null
source "$bench/others.sh"
tar -C "$out" -c . >&3
echo
echo "As CSV: bench/results/results.csv; cost against size: bench/results/cost.svg"
