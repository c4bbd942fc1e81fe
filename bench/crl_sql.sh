#!/bin/bash
# Revocation through SQL beside OpenSSL (crl_sql_bench.c), in a throw-away cluster.
#
#	usage: make -C bench sql, or test/private.sh bash bench/crl_sql.sh [ENTRIES...]
#
# Settings are PostgreSQL's own but for those below; nothing is left behind.
set -euo pipefail

: "${AREA:?is set by test/private.sh}" "${PG_CONFIG:?is set by test/private.sh}"
data=$AREA/bench
export PGHOST=$AREA/tmp PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
export RESTART="pg_ctl -D $data -l $AREA/bench.log -w -m fast restart >/dev/null"

make -s -j"${JOBS:-2}" PG_CONFIG="$PG_CONFIG" install
make -s -C bench PG_CONFIG="$PG_CONFIG" crl_sql_bench
initdb -D "$data" -A trust -N -U postgres >/dev/null
printf '%s\n' "shared_preload_libraries = 'cmblock'" "unix_socket_directories = '$PGHOST'" "listen_addresses = ''" \
	'max_wal_size = 4GB' >>"$data/postgresql.conf"
pg_ctl -D "$data" -l "$AREA/bench.log" -w start >/dev/null
trap 'pg_ctl -D "$data" -m fast -w stop >/dev/null' EXIT
bench/crl_sql_bench "$@"
