#!/bin/bash
# Run all tests, inside the area that test/private.sh has made. `make check` calls this; see test/README.md.
#
# Counted are: each build, each assertion of a TAP program, each pg_regress script and isolation spec in each run,
# and that no process is left. A program that dies or breaks its plan counts as a failure.
# TESTS names the few to run: sql/types specs/two_admins t/001_version.pl test/unit/crl_reader_test build
# shellcheck disable=SC2317 # functions that are called through a trap or by name
set -uo pipefail
exec 2>&1 # one stream, in one order

: "${AREA:?is set by test/private.sh}" "${PG_CONFIG:?is set by test/private.sh}"
src=$PWD
pgxs=$("$PG_CONFIG" --pgxs)
test_tools=${pgxs%/makefiles/*}/test
log_lines=60
log_columns=400 # a server that logs statements writes whole batches into a line
passed=0
failed=0
skipped=0

heading()
{
	printf '\n== %s\n' "$*"
}

count()
{
	passed=$((passed + $1))
	failed=$((failed + $2))
	skipped=$((skipped + ${3:-0}))
}

finish()
{
	trap '' TERM INT
	heading "summary, after $SECONDS s"
	[ "$skipped" -eq 0 ] || echo "$skipped skipped"
	# Nothing counted means that nothing was tested, which is no success.
	[ $((passed + failed)) -gt 0 ] || failed=1
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
	exit
}

interrupted()
{
	echo "suites: interrupted, or over the time limit"
	show_logs "$src"/tmp_check/log/regress_log_*
	count 0 1
	finish
}

# The logs are all that remains of a failure, so their ends are printed.
show_logs()
{
	local log
	for log in "$@"
	do
		[ -s "$log" ] || continue
		heading "the end of ${log#"$AREA/"}"
		tail -n "$log_lines" "$log" | cut -c "-$log_columns"
	done
}

# wanted DIRECTORY SUFFIX: the names of the tests to run from a directory
wanted()
{
	local file name
	for file in "$1"/*"$2"
	do
		name=$(basename "$file" "$2")
		case $file in
			sql/cmblock--*) continue ;;
		esac
		[ -e "$file" ] || continue
		if [ -z "$TESTS" ] || [[ " $TESTS " == *" $1/$name "* || " $TESTS " == *" $1/$name$2 "* ]]
		then
			echo "$name"
		fi
	done
}

is_wanted()
{
	[ -z "$TESTS" ] || [[ " $TESTS " == *" $1 "* ]]
}

# build NAME COMMAND...
build()
{
	local name=$1 log="$AREA/build $1.log"
	shift
	if "$@" >"$log" 2>&1 # the log is for the case that it fails
	then
		echo "ok: build with $name"
		count 1 0
	else
		echo "FAILED: build with $name"
		show_logs "$log"
		count 0 1
		return 1
	fi
}

# PostgreSQL's own flags and its pg_config.h are for the compiler it was built with, so clang gets flags of its own,
# and does not complain about gcc's gnu_printf.
build_with_clang()
{
	cp -R "$src" "$AREA/clang" &&
		make -C "$AREA/clang" clean &&
		make -C "$AREA/clang" -j"$JOBS" PG_CONFIG="$PG_CONFIG" CC=clang with_llvm=no WERROR=1 \
			CFLAGS='-O2 -g -Wall -Wno-ignored-attributes -fno-strict-aliasing -fwrapv'
}

# The older server that t/011_pg_upgrade begins with needs the extension, too. Its headers may be too old for the
# compiler, so warnings are no errors here.
build_for_old_server()
{
	cp -R "$src" "$AREA/old" &&
		make -C "$AREA/old" PG_CONFIG="$PG_CONFIG_OLD" clean &&
		make -C "$AREA/old" -j"$JOBS" PG_CONFIG="$PG_CONFIG_OLD" CC=gcc with_llvm=no install
}

# Parsers include no postgres.h: those files are all that a unit test is linked with.
build_unit()
{
	local pure
	mapfile -t pure < <(grep -L '^#include "postgres.h"' src/*.c)
	build "unit test $1" gcc -std=gnu11 -O1 -g -Wall -Wextra -Werror -fno-omit-frame-pointer \
		-fsanitize=address,undefined -fno-sanitize-recover=all -Isrc \
		-o "$AREA/$1" "test/unit/$1.c" "${pure[@]}" -lcrypto
}

# cluster NAME [LINE...]: start a throw-away cluster with these lines in its postgresql.conf
cluster()
{
	local data=$AREA/$1 log=$AREA/$1.log
	shift
	export PGHOST=$AREA/tmp PGPORT=5432 PGUSER=postgres
	initdb -D "$data" -A trust -N -E UTF8 --locale=C -U postgres >"$log.initdb" 2>&1 &&
		printf '%s\n' "unix_socket_directories = '$PGHOST'" "listen_addresses = ''" 'fsync = off' \
			'wal_level = replica' 'max_worker_processes = 32' 'max_prepared_transactions = 10' \
			'log_line_prefix = '\''%m [%p] %q%a '\''' "$@" >>"$data/postgresql.conf" &&
		pg_ctl -D "$data" -l "$log" -w -t 60 start >/dev/null && return
	echo "FAILED: cluster $data does not start"
	show_logs "$log.initdb" "$log"
	count 0 1
	return 1
}

stop_cluster()
{
	pg_ctl -D "$AREA/$1" -m fast -w -t 60 stop >/dev/null && return
	echo "FAILED: cluster $1 does not stop"
	show_logs "$AREA/$1.log"
	count 0 1
	pg_ctl -D "$AREA/$1" -m immediate stop
}

# regress KIND CLUSTER NAME...: run these scripts (KIND REGRESS) or specs (KIND ISOLATION) in a running cluster
regress()
{
	local kind=$1 cluster=$2 other=ISOLATION out ok bad
	shift 2
	[ "$kind" = REGRESS ] || other=REGRESS
	out=$AREA/$kind-$cluster.out
	make -s PG_CONFIG="$PG_CONFIG" installcheck "$kind=$*" "$other=" TAP_TESTS= 2>&1 | tee "$out"

	# PostgreSQL 15 writes "test NAME ... ok", later versions TAP. What is not said to be ok has failed.
	ok=$(grep -cE '^(test )? *[^ ]+ +\.\.\. ok |^ok ' "$out")
	bad=$(($# - ok))
	count "$ok" "$bad"
	if [ "$bad" -gt 0 ]
	then
		show_logs regression.diffs output_iso/regression.diffs "$AREA/$cluster.log"
	fi
	rm -rf regression.diffs output_iso/regression.diffs
}

# tap NAME PROGRAM...: run TAP programs, Perl scripts or executables
tap()
{
	local result=$AREA/tap-$1 numbers
	shift
	echo 0 1 0 >"$result" # until it says otherwise
	perl -I"$test_tools/perl" test/prove.pl "$result" "$@"
	read -ra numbers <"$result"
	count "${numbers[@]}"
}

trap interrupted TERM INT
for test in $TESTS
do
	compgen -G "${test%.*}.*" >/dev/null || [ "$test" = build ] || {
		echo "FAILED: there is no test $test"
		count 0 1
	}
done

# The first undefined behaviour ends the server with a message in its log. (The address sanitizer would have to be there before the
# server is, and PostgreSQL's programs hang with it.)
sanitize=
[ -z "${SANITIZE:-}" ] || sanitize='-O1 -fno-omit-frame-pointer -fsanitize=undefined -fno-sanitize-recover=undefined'

heading 'builds: gcc and clang, warnings are errors'
COPT=$sanitize build gcc make -j"$JOBS" PG_CONFIG="$PG_CONFIG" CC=gcc WERROR=1 install || finish
! is_wanted build || build clang build_with_clang
if [ -n "${PG_CONFIG_OLD:-}" ] && { is_wanted t/011_pg_upgrade || is_wanted t/011_pg_upgrade.pl; }
then
	build "gcc for the older server" build_for_old_server
fi

mapfile -t units < <(wanted test/unit .c)
if [ ${#units[@]} -gt 0 ]
then
	heading 'unit tests, under the address and undefined-behaviour sanitizers'
	programs=()
	for unit in "${units[@]}"
	do
		build_unit "$unit" && programs+=("$AREA/$unit")
	done
	[ ${#programs[@]} -eq 0 ] || tap unit "${programs[@]}"
fi

mapfile -t scripts < <(wanted sql .sql)
mapfile -t specs < <(wanted specs .spec)
if [ ${#scripts[@]} -gt 0 ]
then
	heading 'pg_regress, without shared_preload_libraries'
	cluster plain && regress REGRESS plain "${scripts[@]}" && stop_cluster plain
fi
if [ $((${#scripts[@]} + ${#specs[@]})) -gt 0 ]
then
	heading 'pg_regress and isolation, with shared_preload_libraries'
	if cluster preload "shared_preload_libraries = 'cmblock'"
	then
		[ ${#scripts[@]} -eq 0 ] || regress REGRESS preload "${scripts[@]}"
		[ ${#specs[@]} -eq 0 ] || regress ISOLATION preload "${specs[@]}"
		stop_cluster preload
	fi
fi

mapfile -t programs < <(wanted t .pl)
if [ ${#programs[@]} -gt 0 ]
then
	heading 'TAP tests'
	unset PGHOST PGPORT PGUSER
	export TESTDIR=$src TESTDATADIR=$src/tmp_check TESTLOGDIR=$src/tmp_check/log PG_REGRESS=$test_tools/regress/pg_regress PG_TEST_TIMEOUT_DEFAULT=180
	programs=("${programs[@]/%/.pl}")
	tap tap "${programs[@]/#/t\/}"
fi

heading 'nothing is left running'
left=$(find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$AREA/*" 2>/dev/null)
if [ -z "$left" ]
then
	echo ok
	count 1 0
else
	echo "FAILED:"
	for process in $left
	do
		tr '\0' ' ' <"${process%/exe}/cmdline"
		echo
	done
	count 0 1
fi
finish
