#!/bin/bash
# Make sure that the Debian packages are there which building and testing need.
#
# root gets the missing ones installed; anybody else is told their names, and the exit status is 1.
# PG_CONFIG in the environment means a PostgreSQL of one's own: then no server package is asked for.
# OPTIONAL_PACKAGES names more, which some tests need and are skipped without: root gets them, too; it is no failure when
# they cannot be had.
set -euo pipefail

export PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
pg_major=${PG_MAJOR:-15}

packages=(make gcc libc6-dev clang openssl libssl-dev libpq-dev libcurl4-openssl-dev perl libipc-run-perl)
if [ -z "${PG_CONFIG:-}" ]
then
	packages+=("postgresql-$pg_major" "postgresql-server-dev-$pg_major")
fi

if ! command -v dpkg-query >/dev/null
then
	echo "packages: not a Debian system, so nothing is checked; needed are: ${packages[*]}" >&2
	exit 0
fi

# find_missing PACKAGE...: those that are not installed, in $missing
find_missing()
{
	local package status
	missing=()
	for package in "$@"
	do
		status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || missing+=("$package")
	done
}

read -ra optional <<<"${OPTIONAL_PACKAGES:-}"
find_missing "${optional[@]}"
optional=("${missing[@]}")
find_missing "${packages[@]}"
if [ "$(id -u)" -ne 0 ] && [ ${#optional[@]} -gt 0 ]
then
	echo "packages: tests are skipped without: ${optional[*]}"
	optional=()
fi
[ $((${#missing[@]} + ${#optional[@]})) -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]
then
	echo "packages: missing: ${missing[*]}" >&2
	echo "packages: install them as root with: apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

# Debian's server package creates a cluster "main" and starts it. Nobody asked for that here, so it is told not
# to for as long as this installation takes. A machine that has a cluster, or its own word on this, is not affected.
log=$(mktemp)
no_cluster=/etc/postgresql-common/createcluster.d/cmblock-no-main-cluster.conf
mkdir -p "${no_cluster%/*}"
trap 'rm -f "$log" "$no_cluster"; rmdir --ignore-fail-on-non-empty "${no_cluster%/*}"' EXIT
echo 'create_main_cluster = false' >"$no_cluster"

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)

# install PACKAGE...
install()
{
	echo "packages: installing $*"
	"${apt[@]}" install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1
}

"${apt[@]}" update </dev/null >"$log" 2>&1 || true # what cannot be had is seen when it is installed
if [ ${#missing[@]} -gt 0 ] && ! install "${missing[@]}"
then
	tail -n 40 "$log" >&2
	echo "packages: the installation failed" >&2
	exit 1
fi
if [ ${#optional[@]} -gt 0 ] && ! install "${optional[@]}"
then
	echo "packages: that failed, so their tests are skipped"
fi
