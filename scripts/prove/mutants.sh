#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutants.sh [-t] [GROUP|SITE|MUTATION...]
#
# Does the KUnit suite notice what is wrong? Each mutant is the kernel of the series
# with one fault, put into the binary by mutate.sh; at least one test case has to
# fail. No kernel is built. Groups:
#
# calls   a call of the callback is not made, one place after the other
# ranges  it is made with another range, or late
# order   pages are freed before it, page tables are left out, it comes too early
# gate    the flag of the mm, the list of subscribers, the wait for the last one
# amd     the commands of the AMD IOMMUv2 driver
# vtd     those of the VT-d driver
#
# A site is a function with such a call; it has #1, #2, ... if it has several. The
# verdict: killed by a case; survived; equivalent, as mutants.equivalent explains;
# unbootable, which proves nothing: the kernel did not come to the end of the tests.
# build/report/mutants.tsv gets them all. What was found out is not found out again
# as long as kernel, mutation and way to boot stay.
#
# -t: "ok - mutant ..." lines on stdout instead of the table, for test.sh
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/mutants
kernel=$BUILD/kernels/series/vmlinux
initrd=$BUILD/guest/initrd-$arch.cpio
equivalent=$TREE_DIR/mutants.equivalent
report=$BUILD/report/mutants.tsv
groups="calls ranges order gate amd vtd"
tap=

slow=__mmu_notifier_invalidate_range
gather=__tlb_invalidate_secondary

# --- what there is to do --------------------------------------------------
#
# A plan has a line per mutant, separated by tabs: group, site, place, mutation, suite,
# and the arguments of mutate.sh, without kernel and copy.

plan_line() {
	local IFS=$'\t'

	echo "$*"
}

# hooks PIECE TARGET [FUNCTION]: PIECE=ADDRESS for each transfer to it [from there]
hooks() {
	awk -v piece="$1" -v target="$2" -v from="${3:-}" '
	{ gsub(/\.(part|constprop|isra)\.[0-9]+/, "", $3) }
	$4 == target && (from == "" || index($3, from "+") == 1) {
		print piece "=" $1
	}' "$work/others" "$work/sites"
}

# suite_of SITE SUITE: page requests of AMD IOMMUv2 are a matter of its own suite
suite_of() {
	case $1 in
	do_fault) echo amd ;;
	*) echo "$2" ;;
	esac
}

plan_calls() {
	local address kind place site

	while read -r address kind place _ site; do
		plan_line calls "$site" "$kind at $place" "no call" "$(suite_of "$site" sites)" knock "$address"
	done <"$work/sites"
}

# The gather's own call is late when it comes after the free: see there. What goes
# through mmu_notifier_invalidate_mm() is all of the address space. No end follows the
# handling of a page request.
plan_ranges() {
	local address kind place target site mutation ends

	mapfile -t ends < <(hooks late_end __mmu_notifier_invalidate_range_end)
	while read -r address kind place target site; do
		[ "$target" = $slow ] || continue
		for mutation in empty first last shift late; do
			case $mutation:$site in
			late:$gather* | late:do_fault | late:iopf_handle_* | *:__mmu_notifier_invalidate_mm) ;;
			late:*) plan_line ranges "$site" "$kind at $place" late all hook "late=$address" "${ends[@]}" ;;
			*) plan_line ranges "$site" "$kind at $place" "$mutation" "$(suite_of "$site" all)" hook "$mutation=$address" ;;
			esac
		done
	done <"$work/sites"
}

# Only these three free, after the call, what they have gathered. Which of the calls
# is for page tables, or found another gather, only the gather knows: all of them.
plan_order() {
	local address kind place target site where

	while read -r address kind place target site; do
		case $target:$site in
		"$gather":unmap_page_range* | "$gather":tlb_flush_mmu | "$gather":tlb_finish_mmu)
			plan_line order "$site" "$kind at $place" "pages freed first" all hook "freed_first=$address"
			;;
		"$slow":ptep_clear_all_tlbs)
			mapfile -t where < <(hooks early_ptep_clear_flush ptep_clear_flush)
			plan_line order "$site" "$kind at $place" "too early" all hook "nothing=$address" "${where[@]}"
			;;
		"$slow":pmdp_huge_clear_flush | "$slow":pmdp_invalidate | "$slow":pmdp_collapse_flush)
			mapfile -t where < <(hooks "early_$site" "$site")
			plan_line order "$site" "$kind at $place" "too early" all hook "nothing=$address" "${where[@]}"
			;;
		esac
	done <"$work/sites"
	mapfile -t where < <(hooks no_tables $gather)
	plan_line order $gather "${#where[@]} calls" "no page tables" all hook "${where[@]}"
	mapfile -t where < <(hooks no_nested $gather)
	plan_line order $gather "${#where[@]} calls" "no nested gather" all hook "${where[@]}"
}

# gate SITE MUTATION REGEX INSN
gate() {
	plan_line gate "$1" "instruction" "$2" all insn "$1" "$3" "$4"
}

plan_gate() {
	gate __mmu_notifier_register "flag never set" '<lock (or|bts)' nop
	# shellcheck disable=SC2016 # an operand
	gate __mmu_notifier_register "flag set for everybody" '<cmpq \$0x0,0x[0-9a-f]{2}\(' 'test %rsp, %rsp'
	gate mn_hlist_del "flag cleared too early" '<jne [^>]*> lock (and|btr)' nop
	gate mn_hlist_del "flag never cleared" '<lock (and|btr)' nop
	gate $slow "walk ends after the first" 'jne [0-9a-f]+ <mov \(%rbx\),%rbx> test' 'xor %ebx, %ebx'
	plan_line gate mmu_notifier_synchronize "call of srcu_barrier" "grace period only" all hook \
		"$(hooks grace_period srcu_barrier mmu_notifier_synchronize)"
}

# amd SITE MUTATION PIECE TARGET [FUNCTION [MORE...]]
amd() {
	local where

	mapfile -t where < <(hooks "$3" "$4" "$1")
	plan_line amd "$1" "${#where[@]} calls of $4" "$2" amd hook "${where[@]}" "${@:5}"
}

plan_amd() {
	local queue=__iommu_queue_command_sync wait=iommu_completion_wait range=amd_iommu_flush_range later

	mapfile -t later < <(hooks device_first_wait $wait __flush_pasid)
	amd mn_invalidate_range "wrong PASID" amd_pasid $range
	amd mn_invalidate_range "first page missing" amd_first $range
	amd mn_invalidate_range "last page missing" amd_last $range
	amd mn_invalidate_range "start shifted" amd_shift $range
	amd mn_invalidate_range "always all" amd_all $range
	amd __flush_pasid "no command for the IOMMU" no_iommu $queue
	amd __flush_pasid "no command for devices" no_device $queue
	amd __flush_pasid "one device only" one_device $queue
	amd __flush_pasid "no fence" no_fence $queue
	amd __flush_pasid "fence without F" no_f_bit $queue
	amd __flush_pasid "no wait" no_wait $wait
	amd __flush_pasid "devices first" device_first $queue "${later[@]}"
	amd __flush_pasid "IOMMU: wrong PASID" iommu_pasid $queue
	amd __flush_pasid "IOMMU: one page only" iommu_no_s_bit $queue
	amd __flush_pasid "IOMMU: no guest translation" iommu_no_gn_bit $queue
	amd __flush_pasid "IOMMU: shifted" iommu_shift $queue
	amd __flush_pasid "device: wrong PASID, low" device_pasid_low $queue
	amd __flush_pasid "device: wrong PASID, high" device_pasid_high $queue
	amd __flush_pasid "device: one page only" device_no_s_bit $queue
	amd __flush_pasid "device: no guest translation" device_no_gn_bit $queue
	amd __flush_pasid "device: shifted" device_shift $queue
	amd __flush_pasid "device: wrong queue depth" device_qdep $queue
}

# vtd MUTATION PIECE TARGET
vtd() {
	local where

	mapfile -t where < <(hooks "$2" "$3" intel_flush_svm_range_dev)
	plan_line vtd intel_flush_svm_range_dev "${#where[@]} calls of $3" "$1" vtd hook "${where[@]}"
}

plan_vtd() {
	local iotlb=qi_fill_piotlb device=qi_fill_dev_iotlb_pasid submit=qi_submit_sync

	vtd "IOTLB: wrong PASID, low" vtd_pasid $iotlb
	vtd "IOTLB: wrong PASID, high" vtd_pasid_high $iotlb
	vtd "IOTLB: wrong domain" vtd_domain $iotlb
	vtd "IOTLB: one page only" vtd_first_page $iotlb
	vtd "IOTLB: half of the range" vtd_half $iotlb
	vtd "IOTLB: shifted" vtd_shift $iotlb
	vtd "IOTLB: leaves only" vtd_hint $iotlb
	vtd "IOTLB: always all" vtd_all $iotlb
	vtd "IOTLB: larger than it can be" vtd_no_clamp $iotlb
	vtd "device: wrong one" vtd_device_source $device
	vtd "device: wrong PASID" vtd_device_pasid $device
	vtd "device: wrong queue depth" vtd_device_depth $device
	vtd "device: one page only" vtd_device_first_page $device
	vtd "device: shifted" vtd_device_shift $device
	vtd "no command for the device" vtd_no_device $submit
	vtd "no command for the IOTLB" vtd_no_iotlb $submit
	vtd "last command missing" vtd_no_last $submit
	vtd "no fence" vtd_no_fence $submit
	vtd "device first" vtd_device_before $submit
	vtd "no command" vtd_nothing $submit
	# shellcheck disable=SC2016 # an operand
	plan_line vtd qi_submit_sync "instruction" "no wait" vtd insn qi_submit_sync '<cmp \$0x2,%e..> je' 'cmp %ecx, %ecx'
}

# A function that is not there any more is a group that tests nothing.
make_plan() {
	local group

	find_sites "$kernel" $slow __mmu_notifier_invalidate_mm $gather | atomic "$work/sites"
	"$scripts/prove/mutate.sh" list "$kernel" __mmu_notifier_invalidate_range_end ptep_clear_flush \
		pmdp_huge_clear_flush pmdp_invalidate pmdp_collapse_flush \
		amd_iommu_flush_range __iommu_queue_command_sync iommu_completion_wait srcu_barrier \
		qi_fill_piotlb qi_fill_dev_iotlb_pasid qi_submit_sync | atomic "$work/others"
	[ -s "$work/sites" ] || die "nothing in $(short "$kernel") goes to $slow"
	for group in $groups; do
		"plan_$group"
	done | atomic "$work/all"
}

# choose WORD...: the lines of groups, sites or mutations of these names
choose() {
	local word

	for word; do
		awk -F '\t' -v word="$word" '
		{ site = $2; sub(/#[0-9]+$/, "", site) }
		$1 == word || $2 == word || $4 == word || site == word { found = 1 }
		END { exit !found }' "$work/all" ||
			die "'$word' is neither a group ($groups), nor a site, nor a mutation; $(short "$work/all") has them all"
	done
	awk -F '\t' -v words="$*" '
	BEGIN {
		split(words, list, " ")
		for (i in list)
			wanted[list[i]] = 1
	}
	{ site = $2; sub(/#[0-9]+$/, "", site) }
	words == "" || $1 in wanted || $2 in wanted || $4 in wanted || site in wanted' "$work/all" | atomic "$work/plan"
}

# --- one mutant -----------------------------------------------------------

# How the kernel is booted for a suite: arguments of boot.sh.
boot_arguments() {
	case $1 in
	sites) echo "kunit.filter_glob=mmu_notifier_sites" ;;
	all) echo "srcutree.convert_to_big=1 kunit.filter_glob=mmu_notifier_[as]*" ;; # sites and api
	amd) echo "-a 2 -t 240 iommu=pt kunit.filter_glob=amd_iommu_v2*" ;;
	vtd) echo "-v 2 -t 240 kunit.filter_glob=intel_svm*" ;;
	user) echo "-i $initrd ${selftest_boot[*]} kunit.filter_glob=none" ;; # the selftest
	esac
}

# key LINE: of the result that this mutant had or will have
key() {
	local suite

	suite=$(cut -f 5 <<<"$1")
	{
		echo "$kernel_id"
		[[ $suite = amd || $suite = vtd ]] || sha256sum <"$initrd"
		boot_arguments "$suite"
		cat <<<"$1"
		[[ $1 != *$'\thook\t'* ]] || cat "$scripts/prove/mutants.S"
		sed '/^#/d' "$scripts/kernel/boot.sh"
	} | sha256sum | cut -d ' ' -f 1
}

# killers LOG: the cases that failed
killers() {
	awk -F '\t' '$2 == "fail" { printf "%s%s", n++ ? ", " : "", $3 }' "$1.cases" 2>/dev/null || :
}

# judge LOG STATUS: "VERDICT<tab>why", of a boot that ended with this status. A kernel
# that only complains, and runs all tests to their end, is judged by these. A crash
# proves nothing, but for one that a test provokes: a module is called that is gone.
judge() {
	local log=$1 by

	by=$(killers "$log")
	if [ "$2" = 0 ]; then
		printf 'survived\t\n'
	elif [ "$2" = 1 ] || { [ -n "$by" ] && came_to_its_end "$log"; }; then
		printf 'killed\t%s\n' "$by"
	elif grep -qaF 'RIP: 0010:mmu_notifier_free_rcu' "$log"; then
		printf 'killed\t%s\n' "$(sed -nE 's/^#  RUN  *[^ .]*\.([^ ]*) .*/\1/p' "$log" | tail -n 1)"
	else
		printf 'unbootable\t%s\n' "$(sed -n 's/^error: [^:]*: //p' "$log.says" | sed 's/; the console is in .*//' | head -n 1)"
	fi
}

came_to_its_end() {
	grep -qa 'reboot: Power down' "$1" && ! grep -qaE 'Kernel panic|Oops' "$1"
}

# boot KERNEL LOG SUITE: its verdict
boot() {
	local status=0

	rm -f "$2" "$2.cases"
	# shellcheck disable=SC2046 # several arguments
	"$scripts/kernel/boot.sh" -k "$1" -o "$2" $(boot_arguments "$3") 2>"$2.says" || status=$?
	judge "$2" "$status"
}

# In a process of its own: some run at the same time.
mutant() {
	local number=$1 line group site place mutation suite args result start=$SECONDS
	local log=$work/$1.log copy=$work/$1.vmlinux kept

	line=$(sed -n "${number}p" "$work/plan")
	IFS=$'\t' read -r group site place mutation suite args <<<"$line"
	kept=$work/kept/$(key "$line")
	if [ ! -s "$kept" ]; then
		IFS=$'\t' read -r -a args <<<"$args"
		"$scripts/prove/mutate.sh" "${args[0]}" "$kernel" "$copy" "${args[@]:1}"
		result=$(boot "$copy" "$log" "$suite")
		# A machine with much else to do has panics that are not about the mutant.
		[[ $result != unbootable* ]] || result=$(boot "$copy" "$log" "$suite")
		# What the suites in the kernel do not notice, user space may.
		if [[ $result = survived* && $suite != amd && $suite != vtd ]]; then
			result=$(boot "$copy" "$log" user)
		fi
		rm -f "$copy"
		# What proves nothing is tried again the next time.
		if [[ $result != unbootable* ]]; then
			atomic "$kept" <<<"$result"
		fi
	else
		result=$(cat "$kept")
	fi
	printf '%s\t%s\t%s\t%s\t%s\n' "$group" "$site" "$place" "$mutation" "$result" | atomic "$work/rows/$number"
	note "[$number/$(wc -l <"$work/plan")] $group, $site, $mutation: ${result//$'\t'/ } ($((SECONDS - start)) s)"
}

# --- all ------------------------------------------------------------------

# The reasons: site, mutation or *, reason. Adds the verdict "equivalent", and "stale"
# for what was killed all the same.
explain() {
	awk -F '\t' -v OFS='\t' '
	!rows {
		if (!/^(#|$)/) {
			reason[$1, $2] = $3
			place[$1, $2] = FNR
		}
		next
	}
	{
		entry = ($2 SUBSEP $4) in reason ? $2 SUBSEP $4 : $2 SUBSEP "*"
		if (entry in reason) {
			if ($5 == "survived") {
				$5 = "equivalent"
				$6 = reason[entry]
			} else if ($5 == "killed")
				$5 = "stale"
		}
		print
	}' "$equivalent" rows=1 -
}

# Entries of mutants.equivalent that are no mutant.
unknown_entries() {
	awk -F '\t' '
	NR == FNR { known[$2, $4] = known[$2, "*"] = 1; next }
	!/^(#|$)/ && !(($1, $2) in known) { print $1 ", " $2 }' "$work/all" "$equivalent"
}

table() {
	verdict_table unbootable
	awk -F '\t' '
	$5 == "survived" || $5 == "unbootable" { print $5 ": " $1 ", " $2 " (" $3 "), " $4 ($6 == "" ? "" : ": " $6) }
	$5 == "stale" { print "killed all the same: " $1 ", " $2 " (" $3 "), " $4 ": by " $6 }' <<<"$rows"
}

# For test.sh: a result per line.
tap() {
	awk -F '\t' -v file="$(short "$equivalent")" '
	{ what = "mutant " $2 " (" $3 ($4 == "no call" ? "" : ", " $4) "): " }
	$5 == "killed" { print "ok - " what "killed by " $6 }
	$5 == "survived" { print "not ok - " what "no case fails" }
	$5 == "equivalent" { print "skip - " what $6 }
	$5 == "stale" { print "not ok - " what "killed by " $6 "; take it off " file }
	$5 == "unbootable" { print "not ok - " what $6 }' <<<"$rows"
}

run() {
	local jobs

	jobs=$(nproc)
	rm -rf "$work/rows" "$report"
	mkdir -p "$work/rows" "$work/kept"
	kernel_id=$(sha256sum <"$kernel")
	export kernel_id
	note "$(wc -l <"$work/plan") mutants of $(short "$kernel")"
	seq "$(wc -l <"$work/plan")" | xargs -L 1 -P "$((jobs < 4 ? jobs : 4))" "$scripts/prove/mutants.sh" mutant
}

main() {
	local unknown rows

	need_packages "${kernel_packages[@]}"
	"$scripts/tree/tree.sh"
	"$scripts/kernel/build.sh" series
	"$scripts/kernel/initrd.sh" "$initrd"
	mkdir -p "$work" "${report%/*}"
	only_one mutants
	make_plan
	choose "$@"
	unknown=$(unknown_entries)
	[ -z "$unknown" ] || die "$(short "$equivalent") names what is no mutant: ${unknown//$'\n'/; }"
	run
	rows=$(seq "$(wc -l <"$work/plan")" | sed "s|.*|$work/rows/&|" | xargs -d '\n' cat | explain)
	{
		printf 'group\tsite\tplace\tmutation\tverdict\tkillers\n'
		echo "${rows//$'\t'stale$'\t'/$'\t'killed$'\t'}"
	} | atomic "$report"
	if [ -n "$tap" ]; then
		tap
	else
		table
		echo
		echo "$(short "$report") has them all. This took $(minutes "$SECONDS")."
	fi
	[ "$(count_verdicts survived)$(count_verdicts unbootable)$(count_verdicts stale)" = 000 ]
}

case ${1:-} in
mutant)
	# With 255, xargs ends.
	trap '[ $? = 0 ] || exit 255' EXIT
	mutant "$2"
	exit
	;;
-t) tap=1 && shift ;;
esac
case ${1:-} in
-*) die "usage: mutants.sh [-t] [GROUP|SITE|MUTATION...]; groups are $groups" ;;
esac
main "$@"
