#!/bin/bash
# One site with many secondary sites below it: how long until a block is in force at the last of them.
#
#	usage: make -C bench scale, or test/private.sh bash bench/scale.sh [SECONDARIES [CLIENTS [CHANGES]]]
#
# With CSV=FILE the results are added to that file, a line each: bench,variant,metric,value,unit,ratio.
#
# The sender is a cluster, the secondaries are databases of another one on the same machine, so both halves of the work share its
# processors. Times are those of the commits (track_commit_timestamp). fsync is off: in life each secondary site has a disk of its own,
# and 250 that wait for the same one would be all that is measured. Nothing is left behind.
set -euo pipefail

: "${AREA:?is set by test/private.sh}" "${PG_CONFIG:?is set by test/private.sh}"
secondaries=${1:-250} clients=${2:-150000} changes=${3:-100000}
hierarchy=11111111-2222-3333-4444-555555555555
export PGHOST=$AREA/tmp PGUSER=postgres PGDATABASE=postgres PGOPTIONS='-c client_min_messages=error'
codes=$(for ((i = 0; i < secondaries; i++)); do printf 'S%02X\n' "$i"; done)

# say WHAT VALUE UNIT
say()
{
	printf '%-72s %10s %s\n' "$1" "$2" "$3"
	[ -z "${CSV:-}" ] || printf 'scale,%s secondaries,"%s",%s,%s,\n' "$secondaries" "$1" "$2" "$3" >>"$CSV"
}
sender() { psql -XAtq -p 5441 -v ON_ERROR_STOP=1 "$@"; }
receivers() { psql -XAtq -p 5442 -v ON_ERROR_STOP=1 "$@"; }
now() { date +%s.%N; }
since() { awk "BEGIN { printf \"%.2f\", $(now) - $1 }"; }

start()
{
	initdb -D "$AREA/$1" -A trust -N -U postgres --wal-segsize=1 >/dev/null
	printf '%s\n' "port = $2" "shared_preload_libraries = 'cmblock'" "unix_socket_directories = '$PGHOST'" "listen_addresses = ''" \
		'track_commit_timestamp = on' "cmblock.compare_interval = 0" 'max_wal_size = 4GB' 'max_connections = 600' 'autovacuum = off' 'fsync = off' 'max_worker_processes = 32' \
		'shared_buffers = 256MB' "cmblock.peer_timeout = '5s'" "cmblock.connect_timeout = '5s'" >>"$AREA/$1/postgresql.conf"
	pg_ctl -D "$AREA/$1" -l "$AREA/$1.log" -w start >/dev/null
}

# One row a secondary site: in each database the result of a query.
everywhere()
{
	for code in $codes
	do
		printf '\\c %s\n%s;\n' "${code,,}" "$1"
	done | receivers
}

# Wait until a query has this result; then print the seconds since the given moment.
wait_for()
{
	local begun=$1 expected=$2 deadline=$((SECONDS + 600))
	shift 2
	until [ "$("$@")" = "$expected" ]
	do
		[ $SECONDS -lt $deadline ] || { echo "gave up waiting for: $*" >&2; exit 1; }
		sleep 0.1
	done
	since "$begun"
}

waiting() { sender -c "SELECT count(*) FROM cmblock.replication_link WHERE server IS NOT NULL AND (acknowledged IS NULL OR failures > 0)"; }

# Block a client: milliseconds from that commit to those at the secondaries in $codes.
block()
{
	local what=$1 client=$2 begun first median last sites
	begun=$(sender -c "SELECT cmblock.block_client('$client')" -c "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM cmblock.client WHERE smsid::uuid = '$client'" | tail -1)
	sleep 3
	read -r sites first median last < <(everywhere "SELECT round(1000 * (extract(epoch FROM pg_xact_commit_timestamp(xmin)) - $begun), 1) FROM cmblock.client WHERE smsid::uuid = '$client' AND blocked" |
		sort -n | awk '{ t[NR] = $1 } END { print NR, t[1], t[int((NR + 1) / 2)], t[NR] }')
	[ "$sites" = "$(wc -l <<<"$codes")" ] || echo "FAILED: only $sites sites have the block"
	say "$what: at the first of $sites" "$first" ms
	say "$what: at the median" "$median" ms
	say "$what: at the last" "$last" ms
}

replicator() { sender -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'"; }
descriptors() { ls "/proc/$(replicator)/fd" | wc -l; }
private_memory() { awk '/^RssAnon/ { print $2 }' "/proc/$(replicator)/status"; }

make -s -j"${JOBS:-2}" with_llvm=no PG_CONFIG="$PG_CONFIG" install >/dev/null
trap 'for c in sender receivers; do pg_ctl -D "$AREA/$c" -m immediate stop >/dev/null 2>&1 || true; done' EXIT
start sender 5441
start receivers 5442

begun=$(now)
receivers -c 'CREATE ROLE p01_link LOGIN' -c 'CREATE DATABASE first'
receivers -d first -c 'CREATE EXTENSION cmblock'
for code in $codes
do
	echo "CREATE DATABASE ${code,,} TEMPLATE first STRATEGY file_copy;"
done | receivers
for code in $codes
do
	printf "\\\\c %s\nSELECT cmblock.setup_site('%s', 'secondary', '$hierarchy', 'P01'); SELECT cmblock.accept_link('P01', 'p01_link');\n" "${code,,}" "$code"
done | receivers >/dev/null
say "$secondaries databases set up" "$(since "$begun")" s

sender <<END >/dev/null
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P01', 'primary', '$hierarchy');
SELECT cmblock.register_client(('00000000-0000-4000-8000-00000000000' || i)::cmblock.smsid, 'pc') FROM generate_series(1, 9) i;
END
for code in $codes
do
	echo "SELECT cmblock.add_site('$code', 'secondary', 'P01');
	CREATE SERVER ${code,,} FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host '$PGHOST', port '5442', dbname '${code,,}');
	CREATE USER MAPPING FOR postgres SERVER ${code,,} OPTIONS (user 'p01_link');"
done | sender >/dev/null
# One link, and then all, to see what a link costs.
sender -c "SELECT cmblock.link_site(code, lower(code::text)::name) FROM cmblock.site WHERE kind = 'secondary' LIMIT 1" >/dev/null
wait_for "$(now)" 0 waiting >/dev/null
before=("$(descriptors)" "$(private_memory)")
begun=$(now)
sender -c "SELECT cmblock.link_site(code, lower(code::text)::name) FROM cmblock.site WHERE kind = 'secondary' AND NOT EXISTS (SELECT FROM cmblock.replication_link l WHERE l.neighbour = code AND l.server IS NOT NULL)" >/dev/null
say "links made, all $secondaries connected and up to date" "$(wait_for "$begun" 0 waiting)" s
for client in 1 2
do
	block "block $client" "00000000-0000-4000-8000-00000000000$client"
done
say 'descriptors of the replicator for each link' "$(echo "scale = 2; ($(descriptors) - ${before[0]}) / ($secondaries - 1)" | bc)" files
say 'private memory of the replicator for each link' "$(echo "($(private_memory) - ${before[1]}) / ($secondaries - 1)" | bc)" kB
say 'private memory of the replicator' "$(private_memory)" kB

# An administrator blocks a client and waits until every site has said that it refuses it.
for client in 4 5 6
do
	waited=$(sender -c "SELECT cmblock.block_client('00000000-0000-4000-8000-00000000000$client')" \
		-c "SELECT round(1000 * (extract(epoch FROM cmblock.wait_for_enforcement('00000000-0000-4000-8000-00000000000$client', '30 s')) - extract(epoch FROM pg_xact_commit_timestamp(xmin))), 1)
			FROM cmblock.client WHERE smsid::uuid = '00000000-0000-4000-8000-00000000000$client'" | tail -1)
	say "wait_for_enforcement $client: all $secondaries have confirmed, on disk" "$waited" ms
done

# A quarter is dead or hangs, in five ways: they refuse connections; their sessions stop in the middle of everything; nobody listens on
# the port; something listens and says nothing; packets get no answer (the queue of a listener is full).
all_codes=$codes
share=$((secondaries / 20))
some() { sed -n "$(($1 * share + 1)),$((($1 + 1) * share))p" <<<"$all_codes"; }
quoted() { tr A-Z a-z | sed "s/.*/'&'/" | paste -sd,; }
perl -MIO::Socket::INET -e '
	my $mute = IO::Socket::INET->new(Listen => 4096, LocalAddr => "127.0.0.1");
	my $hole = IO::Socket::INET->new(Listen => 0, LocalAddr => "127.0.0.1");
	my $dead = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1");
	my @ports = map { $_->sockport } $mute, $hole, $dead;
	close $dead;
	my @fill = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ports[1], Blocking => 0) } 1 .. 8;
	$| = 1;
	print "@ports\n";
	sleep 900' >"$AREA/ports" &
strange=$!
trap 'kill $strange; for c in sender receivers; do pg_ctl -D "$AREA/$c" -m immediate stop >/dev/null 2>&1 || true; done' EXIT
until [ -s "$AREA/ports" ]; do sleep 0.1; done
read -r mute hole dead <"$AREA/ports"
victims=$(some 0 | quoted)
receivers -c "SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false;', datname) FROM pg_database WHERE datname IN ($victims)" | receivers
receivers -c "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname IN ($victims)" >/dev/null
stopped=$(receivers -c "SELECT pid FROM pg_stat_activity WHERE datname IN ($(some 1 | quoted)) AND application_name LIKE 'cmblock replicator%'")
kill -STOP $stopped
for way in "2 $dead" "3 $mute" "4 $hole"
do
	for code in $(some "${way% *}")
	do
		echo "ALTER SERVER ${code,,} OPTIONS (SET host '127.0.0.1', SET port '${way#* }');"
	done
done | sender
codes=$(tail -n +$((5 * share + 1)) <<<"$all_codes")
for client in 3 7 8
do
	block "a quarter dead or hanging, block $client" "00000000-0000-4000-8000-00000000000$client"
done
kill -CONT $stopped
receivers -c "SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true;', datname) FROM pg_database WHERE datname IN ($victims)" | receivers
for code in $(some 2; some 3; some 4)
do
	echo "ALTER SERVER ${code,,} OPTIONS (SET host '$PGHOST', SET port '5442');"
done | sender
begun=$(now)
sender -c "SELECT count(cmblock.resume_link(neighbour)) FROM cmblock.replication_link" >/dev/null
say 'until that quarter has everything again' "$(wait_for "$begun" 0 waiting)" s
codes=$all_codes

# New clients go to all of them, in full batches, which the connections keep room for.
sender -c "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied)
	SELECT gen_random_uuid()::cmblock.smsid, 'new' || i, 'computer', 'P01', 2, false FROM generate_series(1, 2000) i"
begun=$(now)
lagging() { sender -c "SELECT count(*) FROM cmblock.replication_link, pg_current_snapshot() s WHERE server IS NOT NULL AND EXISTS (SELECT FROM cmblock.client WHERE change_xid >= pg_snapshot_xmin(acknowledged) AND NOT pg_visible_in_snapshot(change_xid, acknowledged))"; }
say "2000 new clients at all $secondaries, confirmed" "$(wait_for "$begun" 0 lagging)" s
say 'private memory of the replicator then, for each link' "$(echo "($(private_memory) - ${before[1]}) / ($secondaries - 1)" | bc)" kB

# The large ones, over one link.
one=$(tail -1 <<<"$codes")
sender -c "SELECT count(cmblock.pause_link(neighbour)) FROM cmblock.replication_link WHERE neighbour <> '$one'" >/dev/null
sender -c "SELECT cmblock.pause_link('$one')" >/dev/null
sender -c "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied)
	SELECT gen_random_uuid()::cmblock.smsid, 'pc' || i, 'computer', 'P01', 2, false FROM generate_series(1, $clients) i"
begun=$(now)
sender -c "SELECT cmblock.resume_link('$one')" >/dev/null
took=$(wait_for "$begun" "$((clients + 2009))" receivers -d "${one,,}" -c 'SELECT count(*) FROM cmblock.client')
say "first synchronisation of $clients clients" "$took" s
say "first synchronisation of $clients clients, rate" "$(echo "$clients / $took" | bc)" rows/s

[ "$changes" -gt 0 ] || exit 0
sender -c "SELECT cmblock.pause_link('$one')" -c 'CREATE TABLE few AS SELECT smsid FROM cmblock.client LIMIT 10000' >/dev/null
for ((i = 0; i < changes / 10000; i++))
do
	echo "SELECT cmblock.block_clients(array_agg(smsid), $( ((i % 2)) && echo false || echo true )) FROM few;"
done | sender >/dev/null
total=$(sender -c 'SELECT sum(version) FROM cmblock.client')
begun=$(now)
sender -c "SELECT cmblock.resume_link('$one')" >/dev/null
say "catching up after $changes changes to 10000 clients" "$(wait_for "$begun" "$total" receivers -d "${one,,}" -c 'SELECT sum(version) FROM cmblock.client')" s
