#!/bin/bash
# Run a command beside a PostgreSQL of its own, and leave nothing behind.
#
#   usage: test/private.sh COMMAND [ARGUMENT...]
#
# PostgreSQL finds its files relative to its programs, so a copy of the installed tree is a server of its own:
# the extension is built against the copy and installed into the copy, and what the machine has is never touched.
# The command runs in a copy of the sources (the clone may be unreadable for the user it runs as) with
#
#   AREA        the directory that holds everything; it is removed at the end
#   PG_CONFIG   the pg_config of the private PostgreSQL, whose programs are first in PATH
#   PG_CONFIG_OLD   if it was set: the pg_config of a private copy of that one, from which pg_upgrade is tested
#
# and with a clean environment otherwise. PostgreSQL refuses to run as root, so root runs the command as
# TEST_USER (postgres if not set). However it ends, processes it left are stopped and AREA is removed;
# KEEP=1 keeps both. After TIME_LIMIT seconds (1500) the command is ended.
set -euo pipefail

export PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
umask 022
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd / # the other user may not be able to stay here
keep=${KEEP:-}
area=
child=

fail()
{
	echo "private.sh: $*" >&2
	exit 1
}

as_user()
{
	"${become[@]}" "$@"
}

# The processes that belong to this run: by their program, or by the variable they inherited. Servers overwrite
# their environment with their title, other helpers run programs of the system, so one mark is not enough.
our_processes()
{
	{
		find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$area/*" -printf '%h\n' || true
		grep -lzsxF "AREA=$area" /proc/[0-9]*/environ || true
	} 2>/dev/null | sed -E 's,^/proc/([0-9]+).*,\1,' | sort -u
}

# SIGQUIT is an immediate shutdown: the server removes its shared memory, which SIGKILL would leave behind.
stop_processes()
{
	local signal left
	for signal in QUIT KILL
	do
		for _ in {1..50}
		do
			mapfile -t left < <(our_processes)
			[ ${#left[@]} -gt 0 ] || return 0
			kill -"$signal" "${left[@]}" 2>/dev/null || true
			sleep 0.1
		done
	done
}

clean_up()
{
	local status=$?
	trap '' INT TERM HUP
	if [ -n "$area" ] && [ -n "$keep" ]
	then
		echo "kept: $area"
	elif [ -n "$area" ]
	then
		[ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true
		stop_processes
		rm -rf "$area"
	fi
	exit "$status"
}

bash "$source_dir/test/packages.sh"

pg_config=${PG_CONFIG:-/usr/lib/postgresql/${PG_MAJOR:-15}/bin/pg_config}
for needed in "$pg_config" ${PG_CONFIG_OLD:-}
do
	[ -f "$("$needed" --pgxs)" ] || fail "$needed leads to no PGXS"
done

user=$(id -un)
become=()
if [ "$(id -u)" -eq 0 ]
then
	user=${TEST_USER:-postgres}
	id "$user" >/dev/null 2>&1 || fail "PostgreSQL does not run as root, and there is no user $user: set TEST_USER"
	# not runuser, which stays as a parent and comments on signals
	become=(setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups --)
fi

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Socket paths hold at most 107 bytes, so a long or a closed TMPDIR is not used.
tmp=${TMPDIR:-/tmp}
if [ ${#tmp} -gt 40 ] || ! as_user test -w "$tmp"
then
	tmp=/tmp
fi
area=$(as_user mktemp -d "$(realpath "$tmp")/cmblock.XXXXXX")

as_user mkdir "$area/src" "$area/tmp"
tar -C "$source_dir" -c --exclude-vcs --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude=tmp_check . |
	as_user tar -C "$area/src" -x

# CRLs that nobody here made lie beside the repository, where they are present; so they do in the copy.
vectors=${CMBLOCK_VECTORS:-$source_dir/../shared/crl-vectors}
if [ -d "$vectors" ]
then
	as_user mkdir -p "$area/shared/crl-vectors"
	tar -C "$vectors" -c . | as_user tar -C "$area/shared/crl-vectors" -x
fi

# copy_server PG_CONFIG: copy a PostgreSQL into the area and say where its programs are there.
# They must be copies: a symbolic link would lead the server home.
copy_server()
{
	local what dir
	for what in bindir sharedir pkglibdir includedir includedir-server
	do
		dir=$("$1" "--$what")
		if ! as_user test -e "$area$dir"
		then
			as_user mkdir -p "$area$dir"
			as_user cp -RL "$dir/." "$area$dir"
		fi
	done
	dir=$area$("$1" --bindir)
	as_user "$dir/pg_config" --version >/dev/null || fail "no program can be started below $tmp: set TMPDIR"
	echo "$dir"
}
bin=$(copy_server "$pg_config")
old_config=
[ -z "${PG_CONFIG_OLD:-}" ] || old_config=$(copy_server "$PG_CONFIG_OLD")/pg_config

# Job control gives the command a process group of its own, which can be ended as a whole.
set -m
(
	cd "$area/src"
	exec timeout --kill-after=60 "${TIME_LIMIT:-1500}" "${become[@]}" env -i \
		AREA="$area" PG_CONFIG="$bin/pg_config" PG_CONFIG_OLD="$old_config" PATH="$bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
		HOME="$area" TMPDIR="$area/tmp" LANG=C.UTF-8 USER="$user" LOGNAME="$user" \
		KEEP="$keep" TESTS="${TESTS:-}" JOBS="${JOBS:-2}" SANITIZE="${SANITIZE:-}" \
		CMBLOCK_RANDOM_SECONDS="${CMBLOCK_RANDOM_SECONDS:-}" CMBLOCK_RANDOM_SEED="${CMBLOCK_RANDOM_SEED:-}" "$@"
) </dev/null &
child=$!
set +m
wait "$child"
