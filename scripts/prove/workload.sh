#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# workload.sh [STRESSOR...]
#
# Does anything but our own tests notice the series? The kernel's mm selftests, as they are in
# stock, run on stock and on the series, in QEMU; then stress-ng's vm stressors on the series (or
# the STRESSORs), 2 workers each for STRESS_SECONDS (5), while a device shares the memory of some of
# them, reads and writes. configs/work.config has what they need. build/report/workload.tsv gets test, verdict
# on stock, on the series. One "ok - ..." or "not ok - ..." line each: a selftest has to have the
# verdict that it has on stock, a stressor to succeed. The last line is "N passed, N failed".
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

here=$scripts/prove/workload
work=$BUILD/workload
report=$BUILD/report/workload.tsv
limit=${LIMIT:-3600} # seconds for a boot
stress_seconds=${STRESS_SECONDS:-5}
programs=(bash stress-ng)

# --- what is in the guest -------------------------------------------------

build_selftests() {
	local log=$work/selftests.log

	export_files stock "$work/source" Makefile Kbuild Kconfig scripts include arch/x86 usr \
		tools/testing/selftests tools/include tools/build tools/scripts tools/arch \
		mm/gup_test.h lib/test_hmm_uapi.h
	rm -rf "$work/install"
	{
		make -C "$work/source" headers_install ARCH=x86_64 INSTALL_HDR_PATH="$work/headers" &&
			make -C "$work/source/tools/testing/selftests" TARGETS=vm INSTALL_PATH="$work/install" \
				KHDR_INCLUDES="-isystem $work/headers/include" install
	} >"$log" 2>&1 8>&- || {
		show_build_errors "$log"
		die "the mm selftests of stock do not build; $(short "$log") has all of it"
	}
}

# copy_libraries ROOT PROGRAM...: what ldd says
copy_libraries() {
	local root=$1 library

	shift
	for library in $(ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/lib.*ld-/ { print $1 }' | sort -u); do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
}

make_root() {
	local root=$1 program

	mkdir -p "$root"/{bin,dev,etc,lib,proc,root,sys,tmp,vm}
	cp "$(command -v busybox)" "$root/bin/busybox"
	cp "$here/init" "$root/init"
	cp -R "$work/install/vm/." "$root/vm"
	for program in "${programs[@]}"; do
		cp "$(command -v "$program")" "$root/bin/"
	done
	export_files series "$work/uapi" lib/shadow_tlb_uapi.h
	gcc -O2 -Wall -fPIC -shared -I "$work/uapi/lib" -o "$root/lib/attach.so" "$here/attach.c" -lpthread
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
	# what run_vmtests.sh calls: sudo -u nobody COMMAND
	printf '#!/bin/sh\nshift 2\nexec su -s /bin/sh nobody -c "$*"\n' >"$root/bin/sudo"
	chmod 755 "$root/bin/sudo"
	# what pthread_cancel() loads
	cp -L "$(gcc -print-file-name=libgcc_s.so.1)" "$root/lib/"
	copy_libraries "$root" "$root"/bin/{bash,stress-ng} "$root"/vm/* "$root/lib/attach.so"
}

# make_initrd STATE: the modules are those of its kernel
make_initrd() {
	rm -rf "$work/root"
	make_root "$work/root"
	cp -R "$(kernel_dir "$1")/modules/." "$work/root"
	(cd "$work/root" && find . -mindepth 1 | cpio -o -H newc --quiet --owner=0:0) >"$work/initrd.cpio"
}

# --- boots ----------------------------------------------------------------

stressors() {
	stress-ng --class 'vm?' 2>&1 | sed -n "s/^class 'vm' stressors: //p" | sed 's/ watchdog//'
}

# boot STATE [VARIABLE=VALUE...]: tests that fail are looked at by whoever calls
boot() {
	local state=$1 status=0

	shift
	make_initrd "$state"
	"$scripts/kernel/boot.sh" -n -k "$(kernel_dir "$state")/vmlinux" -o "$work/$state.log" -i "$work/initrd.cpio" \
		-t "$limit" kunit.filter_glob=none "$@" 2>"$work/$state.says" || status=$?
	[ "$status" -le 1 ] || die "$state: $(sed -n 's/^error: //p' "$work/$state.says" | tail -n 1)"
}

# verdicts SUITE STATE: case, verdict
verdicts() {
	awk -F '\t' -v OFS='\t' -v suite="mmu_notifier_$1" '$1 == suite { print $3, $2 }' "$work/$2.log.cases"
}

# The same test can come twice: it counts by its turn.
compare() {
	awk -F '\t' -v OFS='\t' '
	{ name = $1 (n[FILENAME, $1]++ ? "_" n[FILENAME, $1] : "") }
	NR == FNR { stock[name] = $2; next }
	{ print name, name in stock ? stock[name] : "-", $2; delete stock[name] }
	END { for (name in stock) print name, stock[name], "-" }' "$work/stock.verdicts" "$work/series.verdicts"
}

judge() {
	awk -F '\t' '
	{
		good = $2 == "" ? $3 != "fail" : $2 == $3
		printf "%s - %s: %s\n", good ? "ok" : "not ok", $1, $2 == "" || good ? $3 : $3 ", " $2 " on stock"
		count[good]++
	}
	END {
		printf "%d passed, %d failed\n", count[1], count[0]
		exit count[0] > 0
	}' "$report"
}

prepare() {
	need_packages "${kernel_packages[@]}" bash busybox-static cpio gcc libc6-dev libcap-dev libnuma-dev stress-ng
	need_commands busybox cpio gcc ldd stress-ng
	[ "$arch-$TREE" = x86_64-6.1 ] || die "make workload is for TREE=6.1 on x86_64 only"
	[[ $stress_seconds =~ ^[1-9][0-9]{0,3}$ ]] || die "STRESS_SECONDS=$stress_seconds is no number of seconds"
	mkdir -p "$work" "$(dirname "$report")"
	only_one workload
	"$scripts/tree/tree.sh"
}

# --- all ------------------------------------------------------------------

prepare
chosen="$*"
[ $# != 0 ] || chosen=$(stressors)
[ -n "$chosen" ] || die "stress-ng has no class vm; is it stress-ng of Debian 12?"
for name in $chosen; do
	[[ " $(stressors) " = *" $name "* ]] || die "there is no vm stressor '$name'; stress-ng has $(stressors)"
done
steps 5
say "the kernel of stock"
"$scripts/kernel/build.sh" stock-work
say "the kernel of the series"
"$scripts/kernel/build.sh" series-work
say "the mm selftests of stock"
build_selftests
say "stock"
boot stock-work
say "the series, and stress-ng"
boot series-work STRESSORS="${chosen// /,}" STRESS_SECONDS="$stress_seconds"
verdicts vm stock-work >"$work/stock.verdicts"
verdicts vm series-work >"$work/series.verdicts"
{
	compare
	verdicts stress series-work | awk -F '\t' -v OFS='\t' '{ print $1, "", $2 }'
} | atomic "$report"
judge
