# shellcheck shell=bash
# Decisions: the part of bench.sh that compares them with an empty C function and with what a user would write instead.

# ---------------------------------------------------------------------------------------------
# The site: SIZES' last many clients, each with a certificate, and a CRL
# ---------------------------------------------------------------------------------------------

most=${sizes[-1]}
clients=$most
pki=$AREA/pki
bash "$bench/pki.sh" "$pki" 10000

createdb "$PGDATABASE"
PKI=$pki sql -v most="$most" -f "$bench/site.sql" >/dev/null
sql -v most="$most" -f "$bench/baseline.sql" >/dev/null
sql -c 'VACUUM (ANALYZE, FREEZE)' -c CHECKPOINT >/dev/null
pc=$(base64 -w0 "$pki/pc.der")

# Reads all into the cache, as a site that has been at work for a while has.
warm()
{
	sql -c "SELECT count(cmblock.is_allowed(bench.smsid(i))) FROM generate_series(1, $1) i" \
		-c "SELECT count(cmblock.is_allowed(certificate => bench.thumbprint(i))) FROM generate_series(1, least($1, 100000)) i" >/dev/null
}

for p in 0 1
do
	name=$([ $p = 1 ] && echo p || echo r)
	script "$name-one" $p '1'
	script "$name-nothing" $p 'bench.nothing(bench.smsid(:i))'
	script "$name-nothing-certificate" $p 'bench.nothing(certificate => bench.thumbprint(:i))'
	script "$name-nothing-der" $p "bench.nothing(certificate => decode('$pc', 'base64'))"
	script "$name-nothing-record" $p 'bench.nothing_record(bench.smsid(:i))'
	script "$name-smsid" $p 'cmblock.is_allowed(bench.smsid(:i))'
	script "$name-certificate" $p 'cmblock.is_allowed(certificate => bench.thumbprint(:i))'
	script "$name-der" $p "cmblock.is_allowed(certificate => decode('$pc', 'base64'))"
	script "$name-check" $p 'cmblock.check_access(bench.smsid(:i))'
	script "$name-baseline" $p 'baseline.is_allowed(bench.smsid(:i)::uuid)'
	script "$name-baseline-certificate" $p 'baseline.is_allowed(certificate => bench.thumbprint(:i))'
done

# ---------------------------------------------------------------------------------------------
# One connection
# ---------------------------------------------------------------------------------------------

# compare GROUP PREFIX: all of them, in turns
compare()
{
	local group=$1 p=$2
	race "$p-one" "$p-nothing" "$p-smsid" "$p-baseline" "$p-nothing-certificate" "$p-certificate" "$p-baseline-certificate" \
		"$p-nothing-der" "$p-der" "$p-nothing-record" "$p-check"
	row "$group" 'SELECT 1' "${best[$p-one]}" /s
	row "$group" 'empty C function, smsid' "${best[$p-nothing]}" /s 'SELECT 1' "$(ratio "${best[$p-nothing]}" "${best[$p-one]}")"
	row "$group" 'is_allowed, smsid' "${best[$p-smsid]}" /s 'empty C function' "$(ratio "${best[$p-smsid]}" "${best[$p-nothing]}")" ">= $3"
	row "$group" 'is_allowed, smsid' "${best[$p-smsid]}" /s PL/pgSQL "$(ratio "${best[$p-smsid]}" "${best[$p-baseline]}")" "$4"
	row "$group" 'is_allowed, certificate, CRL' "${best[$p-certificate]}" /s 'empty C function' \
		"$(ratio "${best[$p-certificate]}" "${best[$p-nothing-certificate]}")" ">= $3"
	row "$group" 'is_allowed, certificate, CRL' "${best[$p-certificate]}" /s PL/pgSQL \
		"$(ratio "${best[$p-certificate]}" "${best[$p-baseline-certificate]}")" "$4"
	row "$group" 'is_allowed, DER, CRL' "${best[$p-der]}" /s 'empty C function' "$(ratio "${best[$p-der]}" "${best[$p-nothing-der]}")"
	row "$group" 'check_access, smsid' "${best[$p-check]}" /s 'empty C function, record' \
		"$(ratio "${best[$p-check]}" "${best[$p-nothing-record]}")"

	# What other users of the machine take away does not count here.
	row "$group" 'processor: empty C function, smsid' "${least[$p-nothing]}" us
	row "$group" 'processor: is_allowed, smsid' "${least[$p-smsid]}" us PL/pgSQL "$(ratio "${least[$p-baseline]}" "${least[$p-smsid]}")"
	row "$group" 'processor: empty C function, certificate' "${least[$p-nothing-certificate]}" us
	row "$group" 'processor: is_allowed, certificate, CRL' "${least[$p-certificate]}" us PL/pgSQL \
		"$(ratio "${least[$p-baseline-certificate]}" "${least[$p-certificate]}")"
}

clients=100000
[ "$clients" -le "$most" ] || clients=$most
warm "$clients"
compare pipelined p 0.90 '>= 1.8'
compare 'round trip' r 0.95 ''

# ---------------------------------------------------------------------------------------------
# A table of requests
# ---------------------------------------------------------------------------------------------

warm "$most"
sql -c "CREATE TABLE requests AS SELECT bench.smsid(1 + (random() * ($most - 1))::bigint) AS client FROM generate_series(1, 1000000)" \
	-c 'VACUUM (ANALYZE, FREEZE) requests' -c 'SELECT count(client) FROM requests' >/dev/null
empty=$(ms 'SELECT count(*) FILTER (WHERE bench.nothing(client)) FROM requests')
many=$(ms 'SELECT count(*) FILTER (WHERE cmblock.is_allowed(client)) FROM requests')
plpgsql=$(ms 'SELECT count(*) FILTER (WHERE baseline.is_allowed(client::uuid)) FROM requests')
row set 'empty C function, 1,000,000 rows' "$(ratio "$empty" 1000)" us
row set 'is_allowed, 1,000,000 rows' "$(ratio "$many" 1000)" us '' '' '<= 1'
row set 'PL/pgSQL, 1,000,000 rows' "$(ratio "$plpgsql" 1000)" us is_allowed "$(ratio "$plpgsql" "$many")" '>= 12'

# ---------------------------------------------------------------------------------------------
# Connections
# ---------------------------------------------------------------------------------------------

for n in 2 8 64
do
	options="-c $n -j 2"
	race r-nothing r-smsid r-baseline
	row connections "is_allowed, $n connections" "${best[r-smsid]}" /s 'empty C function' "$(ratio "${best[r-smsid]}" "${best[r-nothing]}")"
	row connections "is_allowed, $n connections" "${best[r-smsid]}" /s PL/pgSQL "$(ratio "${best[r-smsid]}" "${best[r-baseline]}")"
done
options=

# ---------------------------------------------------------------------------------------------
# One change of a block in a hundred statements
# ---------------------------------------------------------------------------------------------

mixed()
{
	{
		echo '\set c random(1, :clients)'
		echo '\set b random(0, 1)'
		echo "SELECT $3;"
		for ((n = 0; n < 99; n++))
		do
			echo '\set i random(1, :clients)'
			echo "SELECT $2;"
		done
	} >"$AREA/$1.sql"
}

mixed m-cmblock 'cmblock.is_allowed(bench.smsid(:i))' "cmblock.block_clients(ARRAY[bench.smsid(:c)], :b = 1)"
mixed m-baseline 'baseline.is_allowed(bench.smsid(:i)::uuid)' 'baseline.block(bench.smsid(:c)::uuid, :b = 1)'
options='-c 8 -j 2'
race m-cmblock m-baseline
options=
row mixed '1 % block changes, 8 connections' "${best[m-cmblock]}" /s PL/pgSQL "$(ratio "${best[m-cmblock]}" "${best[m-baseline]}")"

# ---------------------------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------------------------

# Of clients that are not blocked, and of each once: of one that is, there is nothing to change.
for what in 'cmblock.block_client(bench.smsid(:i))' 'plain.block(bench.smsid(:i), true)' 'baseline.block(bench.smsid(:i)::uuid, true)'
do
	name=b_${what%%.*}
	next="1 + nextval('$name') % :clients"
	sql -c "CREATE SEQUENCE $name" >/dev/null
	echo "SELECT ${what//:i/$next};" >"$AREA/$name.sql"
done
sql -f "$bench/plain.sql" >/dev/null
clients=$most
race b_cmblock b_plain b_baseline
row block 'block_client with its history' "$(ratio 1000000 "${best[b_cmblock]}")" us 'UPDATE of the same row, audit INSERT' \
	"$(ratio "${best[b_plain]}" "${best[b_cmblock]}")" '<= 1.3'
row block 'block_client with its history' "$(ratio 1000000 "${best[b_cmblock]}")" us 'UPDATE and audit INSERT of the baseline' \
	"$(ratio "${best[b_baseline]}" "${best[b_cmblock]}")"

bulk=25000
[ "$bulk" -le "$most" ] || bulk=$most
sql -c "SELECT count(*) FROM cmblock.block_clients((SELECT array_agg(smsid) FROM cmblock.client WHERE blocked), false)" >/dev/null
ids="SELECT array_agg(bench.smsid(i)) FROM generate_series(1, $bulk) i"
on=$(ms "SELECT count(*) FROM cmblock.block_clients(($ids), true)" "SELECT count(*) FROM cmblock.block_clients(($ids), false)")
row block "block_clients, $bulk ids, with history" "$(ratio "$on" 1000)" s '' '' '< 1.5'

# ---------------------------------------------------------------------------------------------
# Registration
# ---------------------------------------------------------------------------------------------

new=150000
sql -c "COPY (SELECT bench.smsid(-i)::uuid, 'NEW' || i, 'computer', 'P01', 'NEWHW' || i, 2, false FROM generate_series(1, $new) i) TO STDOUT" >"$AREA/new.tsv"
began=$(date +%s.%N)
sql -c "COPY cmblock.client (smsid, name, kind, assigned_site, hardware_id, approval, isv_proxied) FROM STDIN" <"$AREA/new.tsv"
copied=$(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }')
sql -c "CREATE TABLE plain_client (LIKE cmblock.client INCLUDING INDEXES INCLUDING CONSTRAINTS)" \
	-c "INSERT INTO plain_client SELECT * FROM cmblock.client" -c CHECKPOINT >/dev/null
sql -c "COPY (SELECT * FROM cmblock.client WHERE name LIKE 'NEW%') TO STDOUT" >"$AREA/rows.tsv"
sql -c "DELETE FROM plain_client WHERE name LIKE 'NEW%'" -c 'VACUUM plain_client' >/dev/null
began=$(date +%s.%N)
sql -c 'COPY plain_client FROM STDIN' <"$AREA/rows.tsv"
plain=$(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }')
row bulk "COPY of $new clients" "$copied" s 'COPY without the guard' "$(ratio "$copied" "$plain")"
one=$(ms "SELECT count(cmblock.register_client(bench.smsid(i), 'PC', hardware_id => 'HW')) FROM generate_series(1, 1000) i")
row bulk 'register_client, one call a client' "$one" us

# ---------------------------------------------------------------------------------------------
# Size
# ---------------------------------------------------------------------------------------------

: >"$AREA/cost"
for clients in "${sizes[@]}"
do
	warm "$clients"
	race p-nothing p-smsid p-baseline
	row size "is_allowed, smsid, $clients clients" "${best[p-smsid]}" /s 'empty C function' "$(ratio "${best[p-smsid]}" "${best[p-nothing]}")"
	echo "$clients ${best[p-nothing]} ${best[p-smsid]} ${best[p-baseline]}" >>"$AREA/cost"
done
row size "cost of $(tail -1 "$AREA/cost" | cut -d' ' -f1) against $(head -1 "$AREA/cost" | cut -d' ' -f1) clients" \
	"$(awk 'NR == 1 { a = $3 } END { printf "%.2f", a / $3 }' "$AREA/cost")" times '' '' '<= 1.25'
bash "$bench/plot.sh" <"$AREA/cost" >"$out/cost.svg"

# ---------------------------------------------------------------------------------------------
# A hot standby
# ---------------------------------------------------------------------------------------------

clients=100000
[ "$clients" -le "$most" ] || clients=$most
pg_basebackup -D "$AREA/standby" -R -c fast
(
	echo "port = $((PGPORT + 1))"
	echo 'hot_standby = on'
) >>"$AREA/standby/postgresql.conf"
pg_ctl -s -w -D "$AREA/standby" -l "$AREA/standby.log" start
# A standby keeps no rows, but it keeps what was found out about signatures.
PGPORT=$((PGPORT + 1)) warm "$clients"
PGPORT=$((PGPORT + 1)) race p-nothing p-smsid p-certificate p-baseline
row standby 'is_allowed, smsid' "${best[p-smsid]}" /s PL/pgSQL "$(ratio "${best[p-smsid]}" "${best[p-baseline]}")"
row standby 'is_allowed, certificate, CRL' "${best[p-certificate]}" /s PL/pgSQL "$(ratio "${best[p-certificate]}" "${best[p-baseline]}")"
pg_ctl -s -w -D "$AREA/standby" -m immediate stop
