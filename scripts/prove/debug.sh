#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# debug.sh [KERNEL | CASE]...
#
# Kernels that complain: is there a report, and only where there has to be? Each of
# debug   locks, sleeping, pages, page tables, objects: configs/debug.config
# kasan   memory that is used after it was freed, what C does not define: configs/kasan.config
# kcsan   data races: configs/kcsan.config
# is the series with that configuration on top (build/kernels/series-KERNEL), and has to be silent in
# - the suites mmu_notifier_* and the selftest;
# - the suite amd_iommu_v2;
# - a minute of the fuzz, always the same one.
# What is said of stock's code all the same is in trees/TREE/explained.KERNEL, with the reason.
# Then debug is booted once for each case of the suite secondary_tlb_mistakes, wrong uses of the callback:
# caught by the reports that are expected here, no more and no fewer, or missed. Two make no
# mistake: silent.
# One "ok - ..." or "not ok - ..." line each; the last line is "N passed, N failed".
# With arguments, only these kernels, or these cases; without, debug and its cases.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/debug
suite=secondary_tlb_mistakes
passed=0
failed=0

# --- what is expected -----------------------------------------------------
#
# case, what the console has (an extended regular expression), and the first words of
# each report, in order, with "; " between them.

bad_range="WARNING: CPU: "
slept="WARNING: CPU: "
bad_lock="WARNING: CPU: "
atomic_sleep="BUG: sleeping function called from invalid context"
blocking="BUG: scheduling in a non-blocking section"
context="[ BUG: Invalid wait context ]"
circular="WARNING: possible circular locking dependency detected"
recursive="WARNING: possible recursive locking detected"

expected() {
	cat <<-END
	mn_empty_range|mn_announce\+.*: the range (0x[0-9a-f]+)-\1 is empty|$bad_range
	mn_inverted_range|mn_announce\+.*: the range 0x[0-9a-f]+-0x[0-9a-f]+ is empty|$bad_range
	mn_unaligned_range|mn_announce\+.*: the range 0x[0-9a-f]+-0x[0-9a-f]+1 is not page aligned|$bad_range
	mn_kernel_range|mn_announce\+.*: the range 0xf+e000-0xf+f000 is not in user space|$bad_range
	mn_zaps_without_mmap_lock|RIP: 0010:zap_vma_ptes|$bad_lock
	mn_sleeps|mn_driver_flush\+.* has slept|$blocking; $slept
	mn_waits_for_completion|mn_wait\+|$atomic_sleep
	mn_allocates|fs_reclaim.*, at: |$circular; $atomic_sleep
	mn_allocates_without_io|mmu_notifier_invalidate_range.*, at: fs_reclaim_acquire|$recursive; $atomic_sleep
	mn_allocates_as_it_may||
	mn_takes_a_mutex|mn_mutex.*, at: mn_take_mutex\+|$atomic_sleep; $context
	mn_takes_mmap_lock|mmap_lock.*, at: mn_take_mmap_lock\+|$atomic_sleep; $context
	mn_takes_anon_vma_lock|rwsem.*, at: mn_take_anon_vma_lock\+|$atomic_sleep; $context
	mn_takes_i_mmap_lock|i_mmap_rwsem.*, at: mn_take_i_mmap_lock\+|$atomic_sleep; $context
	mn_takes_page_table_lock|ptlock_ptr.*, at: mn_take_page_table_lock\+|$circular
	mn_takes_a_spinlock||
	mn_takes_a_lock_held_around_that|mn_lock.*, at: mn_take_lock\+|$circular
	END
}

# --- results --------------------------------------------------------------

result() { # TEXT COMMAND...
	local text=$1

	shift
	if "$@"; then
		echo "ok - $text"
		passed=$((passed + 1))
	else
		echo "not ok - $text"
		failed=$((failed + 1))
	fi
}

# boot KERNEL LOG ARGUMENT...: the status of boot.sh
boot() {
	local kernel log=$2 status=0 explained arguments

	kernel=$(check_image "$1")
	explained=$(explained_complaints "$1")
	arguments=$(check_arguments "$1")
	shift 2
	rm -f "$log" "$log.cases"
	"$scripts/kernel/boot.sh" -k "$kernel" -o "$log" -t 1800 ${explained:+-w "$explained"} "$@" ${arguments:+"$arguments"} 2>"$log.says" || status=$?
	return "$status"
}

# --- no mistake, no report ------------------------------------------------

quiet() { # KERNEL LOG ARGUMENT...
	boot "$@" && return
	cat "$2.says" >&2
	return 1
}

quiet_fuzz() { # KERNEL
	local log=$work/$1-fuzz.log

	DEBUG=$1 FUZZ_SECONDS=60 SEED=1 UNTIL='' THREADS='' "$scripts/prove/fuzz.sh" >"$log" && return
	cat "$log" >&2
	return 1
}

silent() { # KERNEL
	local initrd=$BUILD/guest/$1-$arch.cpio

	"$scripts/kernel/build.sh" "series-$1"
	"$scripts/kernel/initrd.sh" -k "series-$1" "$initrd"
	result "silent: $1: mmu_notifier_* and the selftest" quiet "$1" "$work/$1-suites.log" -i "$initrd" srcutree.convert_to_big=1 'kunit.filter_glob=mmu_notifier*'
	result "silent: $1: amd_iommu_v2" quiet "$1" "$work/$1-amd.log" -a 2 iommu=pt 'kunit.filter_glob=amd_iommu_v2*'
	result "silent: $1: the fuzz" quiet_fuzz "$1"
}

# --- one mistake at a time ------------------------------------------------

console() {
	sed -E 's/^\[ *[0-9]+\.[0-9]+\] ?//' "$1"
}

# The reports in a console, with "; " between them.
reports() {
	console "$1" | grep -aE '^(\[ )?(WARNING|BUG): ' | awk '{ printf "%s%s", n++ ? "; " : "", $0 }'
}

# same REPORTS EXPECTED: each begins as expected.
same() {
	awk -v found="$1" -v wanted="$2" '
	BEGIN {
		n = split(found, f, "; ")
		same = n == split(wanted, w, "; ")
		for (i = 1; same && i <= n; i++)
			same = index(f[i], w[i]) == 1
		exit !same
	}'
}

# The case was run to its end, whatever the kernel said.
has_run() {
	grep -q "^$suite	pass	$1\(	\|$\)" "$work/$1.log.cases" 2>/dev/null
}

mistake() { # CASE SAYS REPORTS
	local log=$work/$1.log found

	boot debug "$log" "kunit.filter_glob=$suite.$1" test_mmu_notifier_mistakes.make || :
	found=$(reports "$log")
	if ! has_run "$1"; then
		cat "$log.says" >&2
		result "missed: $1 did not run" false
	elif ! same "$found" "$3"; then
		result "missed: $1: ${found:-no report}; expected: ${3:-none}" false
	elif ! console "$log" | grep -aqE -e "$2"; then
		result "missed: $1: no line '$2' in $(short "$log")" false
	elif [ -n "$3" ]; then
		result "caught: $1: $found" true
	else
		result "silent: $1" true
	fi
}

mistakes() { # CASE...
	local name says wanted

	while IFS='|' read -r name says wanted <&3; do
		[ $# = 0 ] || [[ " $* " = *" $name "* ]] || continue
		mistake "$name" "$says" "$wanted"
	done 3< <(expected)
}

is_kernel() {
	[[ " ${check_kernels[*]} " = *" $1 "* ]]
}

kernels=()
cases=()
for name; do
	if is_kernel "$name"; then
		kernels+=("$name")
	elif expected | grep -q "^$name|"; then
		cases+=("$name")
	else
		die "there is no kernel and no case '$name'; debug.sh has ${check_kernels[*]} $(expected | cut -d '|' -f 1 | xargs)"
	fi
done
[ $# != 0 ] || kernels=(debug)
[ "$arch" = x86_64 ] || die "the expected reports are those of x86-64; leave ARCH out"
only_one debug
mkdir -p "$work"
"$scripts/tree/tree.sh"
for name in "${kernels[@]}"; do
	silent "$name"
done
if [ $# = 0 ] || [ ${#cases[@]} != 0 ]; then
	"$scripts/kernel/build.sh" series-debug
	mistakes "${cases[@]}"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
