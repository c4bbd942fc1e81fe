#!/bin/bash
# The Debian package, from nothing: it is built in one fresh Debian 12, and installed and tested in others.
#
# `make check-package` calls this. It needs root and debootstrap; without them it says so and nothing is checked.
# The roots are directories below a temporary one. What runs in a root has a process and mount namespace of its own,
# so all of it ends with the command, and nothing of the machine is changed. Packages come from where the machine has its own.
#
#   KEEP=1   keep the directory with the roots and the packages
set -euo pipefail

export PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
umask 022
release=bookworm
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=cmblock
version=$(sed -n '1s/^.*(\(.*\)-.*).*$/\1/p' "$source_dir/debian/changelog")
package=postgresql-15-$name
area=
passed=0

skip()
{
	echo "check-package: skipped, nothing was checked: $*"
	exit 0
}

[ "$(id -u)" -eq 0 ] || skip "it needs root"
command -v debootstrap >/dev/null || skip "it needs debootstrap: apt-get install debootstrap"
mirror=$(apt-cache policy bash | grep -oE 'https?://[^ ]+' | grep -v security | head -n 1 || true)
security=$(apt-cache policy | grep -oE 'https?://[^ ]+' | grep security | head -n 1 || true)
[ -n "$mirror" ] || skip "apt knows no mirror of Debian"

clean_up()
{
	local status=$?
	trap '' INT TERM HUP
	if [ -n "$area" ] && [ -n "${KEEP:-}" ]
	then
		echo "kept: $area"
	elif [ -n "$area" ]
	then
		rm -rf --one-file-system "$area"
	fi
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
area=$(mktemp -d "${TMPDIR:-/tmp}/$name-package.XXXXXX")
chmod 755 "$area"

# in_root ROOT COMMAND...: run this there, as root, and kill what it leaves behind
in_root()
{
	local root=$area/$1
	shift
	# shellcheck disable=SC2016 # the inner shell expands it
	unshare --mount --pid --fork --kill-child --propagation private -- bash -euc '
		root=$1
		shift
		mount -t proc proc "$root/proc"
		mount -t tmpfs tmpfs "$root/dev/shm"
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
			DEBIAN_FRONTEND=noninteractive "$@"' - "$root" "$@" </dev/null
}

# step NAME COMMAND...: what it prints is shown when it fails
step()
{
	local title=$1 log="$area/step.log" start=$SECONDS
	shift
	if "$@" >"$log" 2>&1
	then
		echo "ok: $title ($((SECONDS - start)) s)"
		passed=$((passed + 1))
	else
		tail -n 100 "$log"
		echo "FAILED: $title"
		exit 1
	fi
}

install()
{
	local root=$1
	shift
	in_root "$root" apt-get -q -y install --no-install-recommends "$@"
}

copy_root()
{
	cp -a "$area/base" "$area/$1"
}

# A minimal Debian with the machine's settings for downloading, in which no service is started.
make_base()
{
	debootstrap --variant=minbase --include=ca-certificates "$release" "$area/base" "$mirror"
	apt-config dump | grep '^Acquire::' >"$area/base/etc/apt/apt.conf.d/99machine"
	printf 'deb %s main\n' "$mirror $release" "$mirror $release-updates" ${security:+"$security $release-security"} \
		>"$area/base/etc/apt/sources.list"
	cp -L /etc/resolv.conf "$area/base/etc/"
	printf '#!/bin/sh\nexit 101\n' >"$area/base/usr/sbin/policy-rc.d"
	chmod 755 "$area/base/usr/sbin/policy-rc.d"
	mkdir -p "$area/base/dev/shm"
	in_root base apt-get -q update
	in_root base useradd -m builder
}

# The sources as a release has them: those that git knows, where there is git.
make_source()
{
	local tree=$area/build/home/builder/$name-$version
	mkdir "$tree"
	if git -C "$source_dir" rev-parse >/dev/null 2>&1
	then
		git -C "$source_dir" ls-files -z | tar -C "$source_dir" --null -T - -c | tar -C "$tree" -x
	else
		tar -C "$source_dir" -c --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude=tmp_check . | tar -C "$tree" -x
	fi
	tar -C "${tree%/*}" --exclude="$name-$version/debian" -czf "${tree%/*}/${name}_$version.orig.tar.gz" "$name-$version"
	in_root build chown -R builder: /home/builder
}

build_package()
{
	in_root build apt-get -q -y build-dep --no-install-recommends "/home/builder/$name-$version"
	in_root build runuser -u builder -- sh -c "cd ~builder/$name-$version && dpkg-buildpackage -us -uc -j2"
}

# That the first upload closes a request in Debian's bug tracker is for packages that go to Debian.
lint()
{
	install build lintian
	in_root build runuser -u builder -- sh -c "cd ~builder && lintian --info --fail-on error,warning \
		--suppress-tags initial-upload-closes-no-bugs ${name}_$version-*.changes"
}

# What a user does, and that the package takes everything away again.
install_package()
{
	cp "$area/build/home/builder/$package"_*.deb "$area/user/root/"
	install user postgresql-15 "/root/$(cd "$area/user/root" && echo "$package"_*.deb)"
}

use_package()
{
	cat >"$area/user/root/use.sh" <<'END'
set -eu
client="'4f1d2c3b-0042-4000-8000-00000000a042'"

ask()
{
	runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -c "$1"
}

# expect ANSWER QUERY: within 20 s, for a worker may need a moment to start
expect()
{
	for _ in $(seq 100)
	do
		answer=$(ask "$2")
		[ "$answer" != "$1" ] || return 0
		sleep 0.2
	done
	echo "$2: $answer, not $1"
	return 1
}

cd /
pg_conftool 15 main set shared_preload_libraries cmblock
pg_ctlcluster 15 main start
ask 'CREATE EXTENSION cmblock'
ask "SELECT cmblock.setup_site('P01', 'primary')"
ask "SELECT cmblock.register_client($client, 'LAPTOP-0042')"
expect t "SELECT cmblock.is_allowed($client, transport => 'http')"
ask "SELECT cmblock.block_client($client)"
expect f "SELECT cmblock.is_allowed($client, transport => 'http')"
expect 1 "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock launcher'"
ask 'DROP EXTENSION cmblock'
pg_ctlcluster 15 main stop
END
	in_root user sh /root/use.sh
}

remove_package()
{
	in_root user apt-get -q -y purge "$package"
	! in_root user sh -c 'find / -xdev -path /proc -prune -o -path "*cmblock*" ! -path "/root/*" ! -path "/var/lib/postgresql/*" \
		! -path "/var/cache/*" -print' | grep .
}

# autopkgtest installs what debian/tests/control says, in a root of its own.
run_tests()
{
	install test autopkgtest
	mkdir "$area/test/root/packages"
	cp "$area/build/home/builder/"*.deb "$area/build/home/builder/"*.dsc "$area/build/home/builder/"*.tar.* "$area/test/root/packages/"
	in_root test sh -c 'cd /root/packages && autopkgtest --user builder ./*.deb ./*.dsc -- null'
}

step "a fresh Debian $release" make_base
copy_root build
step 'a source package' make_source
step 'it builds, and passes pg_regress and the isolation tests before it is installed' build_package
step 'lintian is content' lint
copy_root user
step "$package installs on a machine that has nothing" install_package
step 'a site on it refuses a blocked client' use_package
step 'purging it leaves nothing behind' remove_package
copy_root test
step 'autopkgtest: all tests, with the installed package' run_tests
echo "check-package: $passed passed, 0 failed, after $SECONDS s"
