# shellcheck shell=bash
# The benchmarks of revocation lists and of replication: the part of bench.sh that runs them and puts their figures into the same table.
# Each of them has servers of its own, so that of the decisions is stopped first.

pg_ctl -s -w -D "$data" -m fast stop
read -ra entries <<<"${CRL_ENTRIES:-1000 50000 1000000}"
read -ra replication <<<"${REPLICATION:-50000 50000 100}"

# ---------------------------------------------------------------------------------------------
# Revocation lists, beside OpenSSL
# ---------------------------------------------------------------------------------------------

make -s -C "$bench" PG_CONFIG="$PG_CONFIG" crl_reader_bench >>"$AREA/build.log" 2>&1

# A line of either: what, OpenSSL's figure with its unit, ours with its unit. "-" where there is none.
of_openssl()
{
	local prefix=$1 what=$2 theirs=$3 ours=$4 unit=$5 ratio=''
	[ "$theirs" = - ] || ratio=$(ratio "$theirs" "$ours")
	row "$prefix" "$what" "$ours" "$unit" "${ratio:+OpenSSL}" "$ratio"
}

while IFS='|' read -r size what theirs ours unit
do
	of_openssl crl "$what, $size entries" "$theirs" "$ours" "$unit"
done < <("$bench/crl_reader_bench" "${entries[@]}" | awk '
	/^[0-9]+ entries/ { size = $1 }
	/^  DER to verified/ { print size "|verified and indexed|" $(NF - 4) "|" $(NF - 2) "|ms" }
	/^  octets an entry/ { print size "|memory for an entry|" $(NF - 2) "|" $(NF - 1) "|octets" }
	/^  lookup, listed/ { print size "|look-up of a listed one|" $(NF - 4) "|" $(NF - 2) "|ns" }')

# ---------------------------------------------------------------------------------------------
# Replication, beside PostgreSQL's logical replication
# ---------------------------------------------------------------------------------------------

(
	cd "$bench/.."
	CSV=$AREA/replication.csv bash bench/replication.sh "${replication[@]}"
) >>"$AREA/replication.log" 2>&1
while IFS='|' read -r what ours unit ratio
do
	row replication "$what" "$ours" "$unit" "${ratio:+logical replication, better}" "$ratio"
done < <(sed -nE 's/^replication,cmblock,"([^"]*)",([^,]*),([^,]*),(.*)$/\1|\2|\3|\4/p' "$AREA/replication.csv")
