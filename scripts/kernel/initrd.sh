#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# initrd.sh [-k STATE] [-s | -f | -p PROGRAM.c] [FILE]
#
# Makes FILE, build/guest/initrd.cpio by default, for boot.sh -i: init.c and the
# selftests of the series, linked statically, and the modules that build.sh has made for it, or for STATE. The
# sources of the selftests are those of the branch series in build/linux. With -p,
# PROGRAM.c runs instead of them, without modules; with -f, mmu_notifier_fuzz.c of the series.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

state=series
program=
shell=
pattern='*_test.c'
if [ "${1:-}" = -k ]; then
	state=${2:-}
	[ -n "$state" ] || die "-k needs a state; usage: initrd.sh [-k STATE] [-s | -f | -p PROGRAM.c] [FILE]"
	shift 2
fi
if [ "${1:-}" = -p ]; then
	program=${2:-}
	[ -f "$program" ] || die "there is no program '$program'; usage: initrd.sh [-k STATE] [-s | -f | -p PROGRAM.c] [FILE]"
	shift 2
elif [ "${1:-}" = -s ]; then
	shell=$scripts/kernel/shell
	shift
elif [ "${1:-}" = -f ]; then
	pattern='*_fuzz.c'
	shift
fi
out=$(absolute "${1:-$BUILD/guest/initrd.cpio}")
cc=${cross}gcc
stamp=$out.stamp
modules=$(kernel_dir "$state")/modules
selftests=tools/testing/selftests
sources=(
	"$selftests/mmu_notifier"
	"$selftests/kselftest.h" "$selftests/kselftest_harness.h"
	lib/shadow_tlb_uapi.h lib/test_hmm_uapi.h
)

# What changes when the file has to be made again.
inputs() {
	tgit ls-tree -r refs/heads/series -- "${sources[@]}" | sha256sum
	[ -z "$program" ] || {
		cat "$program"
		find "$(dirname "$program")" -maxdepth 1 -name '*.h' -print0 | sort -z | xargs -0 -r cat
	} | sha256sum
	[ -z "$shell" ] || cat "$shell"/* "$(command -v busybox)" | sha256sum
	echo "$pattern"
	sha256sum <"$scripts/kernel/init.c"
	sha256sum <"$scripts/kernel/initrd.sh"
	[ ! -d "$modules" ] || (cd "$modules" && find . -type f -exec sha256sum {} + | sort)
	"$cc" --version | head -n 1
}

up_to_date() {
	[ -s "$out" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]
}

# compile FROM TO [OPTION...]
compile() {
	local from=$1 to=$2

	shift 2
	"$cc" -static -O2 -Wall -o "$to" "$from" "$@" 2>"$tmp/errors" || {
		head -n 8 "$tmp/errors" >&2
		die "${from##*/} does not compile with $cc; the first messages are above"
	}
}

# Owners and times that are the same for everybody.
pack() {
	find "$1" -exec touch -h -d @0 {} +
	(cd "$1" && find . -mindepth 1 | sort |
		cpio -o -H newc --quiet --reproducible --owner=0:0)
}

take_sources() {
	tgit archive refs/heads/series -- "${sources[@]}" | tar -xf - -C "$tmp/source"
}

take_modules() {
	[ ! -d "$modules" ] || cp -R "$modules/." "$tmp/root"
}

add_program() {
	compile "$scripts/kernel/init.c" "$tmp/root/init"
	compile "$program" "$tmp/root/tests/$(basename "$program" .c)" -lpthread
}

# shellcheck disable=SC2231 # a pattern
add_selftests() {
	local source

	compile "$scripts/kernel/init.c" "$tmp/root/init"
	take_sources
	for source in "$tmp/source/$selftests"/mmu_notifier/$pattern; do
		compile "$source" "$tmp/root/tests/$(basename "$source" .c)" -lpthread
	done
	take_modules
}

add_shell() {
	(cd "$tmp/root" && mkdir bin dev etc proc root sys tmp)
	cp "$(command -v busybox)" "$tmp/root/bin/busybox"
	cp "$shell/init" "$tmp/root/init"
	cp "$shell/profile" "$tmp/root/etc/profile"
	take_sources
	compile "$shell/device.c" "$tmp/root/bin/device" -I "$tmp/source/lib"
	ln -s device "$tmp/root/bin/shadow"
	take_modules
}

make_initrd() {
	if [ -n "$program" ]; then
		add_program
	elif [ -n "$shell" ]; then
		add_shell
	else
		add_selftests
	fi
	pack "$tmp/root" >"$tmp/initrd.cpio"
	atomic "$out" <"$tmp/initrd.cpio"
	atomic "$stamp" <<<"$wanted"
	note "$(short "$out") is ready"
}

need_packages gcc libc6-dev cpio ${shell:+busybox-static}
need_commands "$cc" git cpio tar ${shell:+busybox}
tgit rev-parse -q --verify "refs/heads/series:$selftests/mmu_notifier" >/dev/null 2>&1 ||
	die "$(short "$tree") has no selftest in its branch series; run 'make tree'"
wanted=$(inputs)
if up_to_date; then
	note "$(short "$out") is up to date"
	exit 0
fi
mkdir -p "$(dirname "$out")"
tmp=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/source" "$tmp/root/tests"
make_initrd
