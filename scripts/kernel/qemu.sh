#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# qemu.sh: prints the name of a qemu-system-x86_64 whose intel-iommu has PASIDs.
#
# That is the one of this machine, if it is new enough. Otherwise it is Debian's, of the suite below,
# with all that it needs, unpacked in build/qemu: it brings its own C library, and starts with that
# library's ld.so. It is downloaded once, 40 MB, from where this machine gets its packages.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/archive.sh
. "$(dirname "$0")/../lib/archive.sh"

suites="trixie trixie-backports"
suite=trixie-backports
home=$STORE/qemu
instead="install a QEMU of which 'qemu-system-x86_64 -device intel-iommu,help' shows svm="

# new_enough QEMU
new_enough() {
	"$1" -device intel-iommu,help 2>/dev/null </dev/null | grep -q '^ *svm='
}

# The programs of the root $1 find nothing of it by themselves.
write_start() { # ROOT, in the end in $home/root
	local ld

	ld=$(cd "$1" && find . -name 'ld-linux*.so.*' -path '*/lib64/*' | head -n 1)
	[ -n "$ld" ] || die "the C library of $suite has no ld.so where it was; $instead"
	cat <<-EOF
	#!/bin/sh
	root=\$(dirname "\$(realpath "\$0")")/root
	export QEMU_MODULE_DIR="\$root/usr/lib/x86_64-linux-gnu/qemu"
	exec "\$root/${ld#./}" --library-path "\$root/usr/lib/x86_64-linux-gnu" "\$root/usr/bin/qemu-system-x86_64" \\
		-L "\$root/usr/share/qemu" -L "\$root/usr/share/seabios" "\$@"
	EOF
}

# All that a machine without any package would need.
download_packages() {
	: >"$dir/installed"
	apt_aside apt-get -o "Dir::State::status=$dir/installed" -o Debug::NoLocking=1 -t "$suite" \
		install --download-only --no-install-recommends --yes qemu-system-x86 >"$dir/log" 2>&1 &
	show_download $!
	wait $! || die "qemu-system-x86 of $suite cannot be downloaded ($(apt_error)); try again, or $instead"
}

unpack() {
	local package

	mkdir "$dir/root"
	for package in "$dir"/cache/archives/*.deb; do
		dpkg-deb -x "$package" "$dir/root" 2>"$dir/log" ||
			die "$(basename "$package") cannot be unpacked ($(tail -n 1 "$dir/log")); is the disk full? free some, and try again"
	done
	write_start "$dir/root" >"$dir/qemu-system-x86_64"
	chmod +x "$dir/qemu-system-x86_64"
	new_enough "$dir/qemu-system-x86_64" || die "qemu-system-x86 of $suite does not run here, or has no svm=; $instead"
}

# It is there whole or not at all.
get() (
	dir=$(mktemp -d "$STORE/qemu.XXXXXX")
	trap 'rm -rf "$dir"' EXIT
	note "downloading qemu-system-x86 of $suite"
	# shellcheck disable=SC2086 # one word per suite
	open_archive "$instead" $suites
	download_packages
	unpack
	mkdir "$dir/done"
	mv "$dir/root" "$dir/qemu-system-x86_64" "$dir/done"
	rm -rf "$home"
	mv "$dir/done" "$home"
)

main() {
	local own

	own=$(command -v qemu-system-x86_64) || own=
	if [ -n "$own" ] && new_enough "$own"; then
		echo "$own"
		return
	fi
	make_build_dir
	exec 5>"$STORE/.lock.qemu"
	wait_for 5 "download of QEMU"
	if ! new_enough "$home/qemu-system-x86_64"; then
		need_commands apt-get apt-cache dpkg-deb
		need_disk 500 "$STORE"
		rm -rf "$STORE"/qemu.??????
		get
	fi
	echo "$home/qemu-system-x86_64"
}

main
