#!/bin/bash
# Build and test with every PostgreSQL within reach. `make check-matrix` calls this; see test/README.md.
#
#   usage: test/matrix.sh
#
# First each server of this machine that has its server headers, then those of other Debian releases: as root, with
# debootstrap, each in a root of its own that is thrown away. There pg_upgrade is tested, too, from the oldest
# version that cmblock supports, which an older release has.
#
# Where the packages come from is not written here: it is the archive that apt of this machine uses for bash.
# What cannot be reached counts as skipped, and the reason is said. Nothing skipped counts as passed.
#
#   MATRIX_VERSIONS   the major versions to account for (15 16 17 18)
#   MATRIX_RELEASES   the Debian releases to make roots of (trixie sid)
#   MATRIX_OLDEST     the release that the older server for pg_upgrade is taken from (bookworm)
#   MATRIX_CACHE      a directory to keep the roots in, with their packages, for the next time; without it nothing is kept
#   PG_CONFIGS        more servers, by their pg_config, beside those in /usr/lib/postgresql and /usr/local/pgsql
#   TESTS, JOBS, TIME_LIMIT and the others go to each `make check`
#
# A root has a namespace of mounts, processes and network of its own, so that nothing of it is left behind, however
# this ends, and its tests meet no other ports than their own. Installing packages needs the network of the machine.
set -uo pipefail

export PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
versions=${MATRIX_VERSIONS:-15 16 17 18}
releases=${MATRIX_RELEASES:-trixie sid}
oldest_release=${MATRIX_OLDEST:-bookworm}
oldest_version=15
root_limit=1200 # seconds to make a root in
check_limit=${TIME_LIMIT:-1500}

work=
child=
passed=0
failed=0
skipped=0
results=()
tested=" " # major versions

heading()
{
	printf '\n==== %s\n' "$*"
}

clean_up()
{
	local status=$?
	trap '' INT TERM HUP
	if [ -n "$child" ]
	then
		kill -TERM -- "-$child" 2>/dev/null
		for _ in {1..300}
		do
			kill -0 -- "-$child" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL -- "-$child" 2>/dev/null
	fi
	# Mounts are in the namespaces of processes that have ended, so nothing of the machine is below.
	[ -z "$work" ] || rm -rf --one-file-system "$work"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# result KIND WHAT TEXT
result()
{
	case $1 in
		passed) passed=$((passed + 1)) ;;
		FAILED) failed=$((failed + 1)) ;;
		skipped) skipped=$((skipped + 1)) ;;
	esac
	results+=("$(printf '%-8s %-42s %s' "$1" "$2" "$3")")
}

# Waiting for a command in the background lets a signal end this at once; its process group can be ended as a whole.
run()
{
	local status
	set -m
	"$@" </dev/null &
	child=$!
	set +m
	wait "$child"
	status=$?
	child=
	return "$status"
}

# check WHAT COMMAND...: run a `make check`, show its output, and count it once
check()
{
	local what=$1 status summary log=$work/check.log tee
	shift
	heading "$what"
	rm -f "$work/pipe"
	mkfifo "$work/pipe"
	tee "$log" <"$work/pipe" &
	tee=$!
	run "$@" >"$work/pipe" 2>&1
	status=$?
	wait "$tee"
	summary=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
	if [ "$status" = 0 ] && [ -n "$summary" ]
	then
		result passed "$what" "$summary"
	else
		result FAILED "$what" "${summary:-it ended with status $status and no summary}"
	fi
}

# ---------- the servers of this machine ----------

# server PG_CONFIG: say its version, if it is one with which an extension can be built
server()
{
	[ -x "$1" ] && [ -e "$("$1" --includedir-server)/postgres.h" ] && [ -e "$("$1" --pgxs)" ] || return 1
	"$1" --version | sed -E 's/^PostgreSQL ([0-9]+(\.[0-9]+|[a-z]+[0-9]+)?).*/\1/'
}

check_this_machine()
{
	local pg_config version seen=" "
	for pg_config in /usr/lib/postgresql/*/bin/pg_config /usr/local/pgsql*/bin/pg_config ${PG_CONFIGS:-}
	do
		version=$(server "$pg_config") || continue
		[[ $seen != *" $(realpath "$pg_config") "* ]] || continue
		seen+="$(realpath "$pg_config") "
		tested+="${version%%[!0-9]*} "
		check "PostgreSQL $version of this machine" env PG_CONFIG="$pg_config" bash "$source_dir/test/private.sh" bash test/suites.sh
	done
}

# ---------- roots ----------

# The archive of this machine, without the one for security updates, which has no whole release.
archive()
{
	apt-cache policy bash 2>/dev/null | sed -nE 's,^ *-?[0-9]+ (https?://[^ ]+) .*,\1,p' | grep -v security | head -n 1
}

# Say why no root can be made, if none can.
no_roots_because()
{
	if [ "$(id -u)" -ne 0 ]
	then
		echo 'only root can make the root of another release'
	elif ! command -v debootstrap >/dev/null
	then
		echo 'debootstrap is not installed'
	elif [ -z "$(archive)" ]
	then
		echo 'apt of this machine names no archive'
	elif ! unshare --mount --pid --fork --net true 2>/dev/null
	then
		echo 'this machine allows no namespaces of mounts, processes and network'
	fi
}

# in_root [--net] ROOT COMMAND...: run a command in a root; with --net, in one with a network of its own
in_root()
{
	local options=(--mount --pid --fork --kill-child)
	[ "$1" != --net ] || { options+=(--net); shift; }
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare "${options[@]}" bash -c '
		root=$1
		shift
		mount -t proc proc "$root/proc" &&
			mount --rbind /dev "$root/dev" &&
			mount -t tmpfs -o mode=1777 shm "$root/dev/shm" || exit 125
		# The first process of a namespace is deaf to signals that it does not ask for; with it, all others end.
		trap "exit 143" TERM INT
		chroot "$root" "$@" <&0 &
		wait "$!"' bash "$@"
}

# What runs in a root: with a clean environment.
clean=(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
	DEBIAN_FRONTEND=noninteractive)

# The version of PostgreSQL that a root's release has.
version_of_release()
{
	in_root "$1" "${clean[@]}" apt-cache depends postgresql 2>/dev/null | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1
}

install_packages()
{
	in_root "$1" "${clean[@]}" PG_MAJOR="$(version_of_release "$1")" OPTIONAL_PACKAGES="${OPTIONAL_PACKAGES:-}" \
		timeout --kill-after=30 "$root_limit" bash -s <"$source_dir/test/packages.sh"
}

# make_root RELEASE DIRECTORY: the root of a release with its packages. What is under way is in $work/why: when it
# fails, that is the reason.
make_root()
{
	local release=$1 root=$2 log=$work/root.log
	echo "release $release cannot be had from the archive of this machine" >"$work/why"
	timeout --kill-after=30 "$root_limit" debootstrap --variant=minbase --include=ca-certificates \
		"$release" "$root" "$(archive)" >"$log" 2>&1 || return 1

	# How this machine reaches the archive is how the root does.
	apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$root/etc/apt/apt.conf.d/90machine"
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	echo "the package lists of $release cannot be fetched" >"$work/why"
	in_root "$root" "${clean[@]}" apt-get -q update >>"$log" 2>&1 || return 1

	echo "the packages of $release cannot be installed" >"$work/why"
	install_packages "$root" >>"$log" 2>&1 || return 1
	# The check says if that one is missing.
	add_oldest_server "$root" >>"$log" 2>&1 || true
}

# The server that pg_upgrade begins with comes from an older release; of its development package only the files are
# taken, since what it depends on is older, too. Without it, pg_upgrade is tested between equal versions.
add_oldest_server()
{
	local root=$1
	echo "deb $(archive) $oldest_release main" >"$root/etc/apt/sources.list.d/oldest.list"
	printf '%s\n' 'Package: *' "Pin: release n=$oldest_release" 'Pin-Priority: 100' >"$root/etc/apt/preferences.d/oldest"
	# shellcheck disable=SC2016 # expanded by the inner shell
	in_root "$root" "${clean[@]}" VERSION="$oldest_version" timeout --kill-after=30 "$root_limit" bash -ec '
		cd "$(mktemp -d)"
		mkdir -p /etc/postgresql-common/createcluster.d
		echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/none.conf
		apt-get -q update
		apt-get -q install -y --no-install-recommends "postgresql-$VERSION"
		apt-get -q download "postgresql-server-dev-$VERSION"
		dpkg -x postgresql-server-dev-*.deb /'
}

# get_root RELEASE DIRECTORY: from the cache, or new
get_root()
{
	local release=$1 root=$2 cached=${MATRIX_CACHE:+$MATRIX_CACHE/$1}
	if [ -n "$cached" ] && [ -d "$cached" ]
	then
		cp -a "$cached" "$root"
		return
	fi
	heading "making a root of $release"
	if ! run make_root "$release" "$root"
	then
		tail -n 5 "$work/root.log"
		return 1
	fi
	if [ -n "$cached" ]
	then
		# under its name when it is whole
		mkdir -p "$MATRIX_CACHE" && rm -rf "$cached.new" && cp -a "$root" "$cached.new" && mv "$cached.new" "$cached"
	fi
	return 0
}

check_release()
{
	local release=$1 root=$work/$1 version vectors old=
	if ! get_root "$release" "$root"
	then
		result skipped "PostgreSQL of $release" "$(cat "$work/why")"
		return
	fi
	version=$(version_of_release "$root")
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	rm -rf "$root/src"
	mkdir -p "$root/src/cmblock" "$root/src/shared"
	tar -C "$source_dir" -c --exclude-vcs --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude=tmp_check . |
		tar -C "$root/src/cmblock" -x
	vectors=${CMBLOCK_VECTORS:-$source_dir/../shared/crl-vectors}
	[ ! -d "$vectors" ] || cp -R "$vectors" "$root/src/shared/crl-vectors"
	[ ! -e "$root/usr/include/postgresql/$oldest_version/server/postgres.h" ] ||
		old=/usr/lib/postgresql/$oldest_version/bin/pg_config

	# A root from the cache may be older than the list of packages. What is missing then, the check says.
	install_packages "$root" || true

	tested+="$version "
	# shellcheck disable=SC2016 # expanded by the inner shell
	check "PostgreSQL $version of $release" in_root --net "$root" "${clean[@]}" \
		PG_MAJOR="$version" PG_CONFIG_OLD="$old" TESTS="${TESTS:-}" JOBS="${JOBS:-2}" TIME_LIMIT="$check_limit" \
		CMBLOCK_RANDOM_SECONDS="${CMBLOCK_RANDOM_SECONDS:-}" CMBLOCK_RANDOM_SEED="${CMBLOCK_RANDOM_SEED:-}" \
		bash -c '
			# The loopback interface of a new network is down; its tools may not be there.
			perl -MSocket -e "socket(S, AF_INET, SOCK_DGRAM, 0) and ioctl(S, 0x8914, \$_ = pack(q(a16s), q(lo), 1)) or die" || exit 1
			cd /src/cmblock && exec make check'
	if [ -z "${TESTS:-}" ] || [[ " $TESTS " == *" t/011_pg_upgrade"* ]]
	then
		if [ -z "$old" ]
		then
			result skipped "pg_upgrade from $oldest_version to $version of $release" "PostgreSQL $oldest_version of $oldest_release cannot be installed there"
		elif grep -qE '^t/011_pg_upgrade\.pl \.+ ok' "$work/check.log" && ! grep -q '^Bailout called' "$work/check.log"
		then
			result passed "pg_upgrade from $oldest_version to $version of $release" 't/011_pg_upgrade'
		else
			result FAILED "pg_upgrade from $oldest_version to $version of $release" 't/011_pg_upgrade'
		fi
	fi
	rm -rf --one-file-system "$root"
}

# ---------- all of them ----------

tmp=${TMPDIR:-/tmp}
work=$(mktemp -d "$(realpath "$tmp")/cmblock-matrix.XXXXXX") || exit 1
chmod 755 "$work"

check_this_machine

own_release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null)
for release in $releases
do
	[ "$release" != "$own_release" ] || continue
	why=$(no_roots_because)
	if [ -z "$why" ]
	then
		check_release "$release"
	else
		result skipped "PostgreSQL of $release" "$why"
	fi
done

for version in $versions
do
	[[ $tested == *" $version "* ]] || result skipped "PostgreSQL $version" 'neither this machine nor a release that was reached has it'
done

heading "matrix, after $SECONDS s"
printf '%s\n' "${results[@]}"
[ "$((passed + failed))" -gt 0 ] || failed=1 # nothing tested is no success
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
