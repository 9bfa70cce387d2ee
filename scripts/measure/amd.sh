#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# amd.sh: what flushes cost the AMD IOMMUv2 driver, stock against the series, as a table
# and in build/report/amd.tsv.
#
# The same case of the suite amd_iommu_v2 runs in both kernels on QEMU's IOMMU, with 1, 2
# and 4 devices, and decodes the commands that the driver wrote. Stock gets the suite, and
# nothing else: the tag stock-amd of build/linux.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/amd
report=$BUILD/report/amd.tsv
suite=drivers/iommu/amd/iommu_v2_test.c
driver=drivers/iommu/amd/iommu_v2.c
numbers="1 2 4" # of devices
cases=v2_what_it_costs

# --- stock with the suite -------------------------------------------------

# What the suite calls and stock does not have; the case that runs does not.
shim() {
	cat <<-'END'

	#ifdef CONFIG_AMD_IOMMU_V2_KUNIT_TEST
	static bool mm_has_secondary_tlb(struct mm_struct *mm)
	{
		return false;
	}

	static pgd_t *mm_device_pgd(struct mm_struct *mm)
	{
		return mm->pgd;
	}

	static int amd_iommu_flush_range(struct iommu_domain *dom, u32 pasid,
					 u64 address, size_t size)
	{
		return size > PAGE_SIZE ? amd_iommu_flush_tlb(dom, pasid) :
					  amd_iommu_flush_page(dom, pasid, address);
	}

	#include "iommu_v2_test.c"
	#endif
	END
}

# The commit in the series that adds the suite has its Kconfig option, too.
make_tag() {
	local adds

	adds=$(tgit log -1 --format=%H --diff-filter=A base..series -- "$suite")
	[ -n "$adds" ] || die "no commit of the series adds $suite"
	begin_index stock
	tgit diff "$adds^" "$adds" -- drivers/iommu/amd/Kconfig | tgit apply --cached ||
		die "the option of the suite does not fit stock's drivers/iommu/amd/Kconfig"
	tgit show "series:$suite" | index_file "$suite"
	{
		tgit show "stock:$driver"
		shim
	} | index_file "$driver"
	commit_index stock-amd stock "stock with the suite amd_iommu_v2"
}

# --- boots ----------------------------------------------------------------

# run STATE DEVICES: its rows
run() {
	local log=$work/$1.$2.log status=0

	"$scripts/kernel/boot.sh" -k "$(kernel_dir "$1")/vmlinux" -o "$log" -a "$2" -t 240 iommu=pt \
		"kunit.filter_glob=amd_iommu_v2.$cases" || status=$?
	# The case prints; what it checks is for the series.
	[ "$status" -le 1 ] || die "$1 does not run $cases with $2 devices; the message is above"
	sed -nE "s/^.*# $cases: row\t//p" "$log" | awk -F '\t' -v OFS='\t' -v state="$1" '$2 ~ /^[0-9]+$/ { print state, $0 }'
}

rows() {
	local n state

	for n in $numbers; do
		for state in stock-amd series; do
			run "$state" "$n"
		done
	done
}

# --- table ----------------------------------------------------------------

# state, operation, devices, commands, waits, changed, flushed, left -> one line with both
join_states() {
	awk -F '\t' -v OFS='\t' '
	BEGIN {
		print "operation", "devices", "stock_commands", "commands", "stock_waits", "waits", \
			"pages_changed", "stock_pages_flushed", "pages_flushed", "stock_left_of_1024", "left_of_1024"
	}
	$1 == "stock-amd" {
		c[$2, $3] = $4
		w[$2, $3] = $5
		f[$2, $3] = $7
		l[$2, $3] = $8
		next
	}
	($2, $3) in c {
		k = $2 SUBSEP $3
		print $2, $3, c[k], $4, w[k], $5, $6, f[k], $7, l[k], $8
	}'
}

# Pages flushed for each page changed, and what a warm device TLB keeps.
table() {
	awk -F '\t' '
	function per(pages, changed) {
		ratio = pages / changed
		return ratio > 9999 ? "all" : sprintf(ratio == int(ratio) ? "%d" : "%.1f", ratio)
	}
	NR == 1 {
		form = "%-24s %7s  %9s %9s  %9s %9s  %9s %9s\n"
		printf form, "", "", "commands", "waits", "flushed", "per page", "left of", "1024"
		printf form, "operation", "devices", "stock", "ours", "stock", "ours", "stock", "ours"
		next
	}
	{
		printf "%-24s %7d  %9s %9s  %9s %9s  %9s %9s\n", $1, $2, $3 "/" $5, $4 "/" $6, per($8, $7), per($9, $7), $10, $11
	}' "$report"
}

# In which rows the series is the worse one.
worse() {
	awk -F '\t' 'NR > 1 && ($4 > $3 || $6 > $5 || $9 > $8 || $11 < $10) { print "  " $1 ", " $2 " devices" }' "$report"
}

main() {
	only_one amd
	steps 5
	say "packages, kernel source"
	need_packages "${kernel_packages[@]}"
	"$scripts/tree/tree.sh"
	identity || :
	make_tag
	say "kernel of the series"
	"$scripts/kernel/build.sh" series
	say "stock with the suite"
	"$scripts/kernel/build.sh" stock-amd
	say "boots, with $numbers devices"
	mkdir -p "$work" "$BUILD/report"
	rows >"$work/rows"
	join_states <"$work/rows" | atomic "$report"
	say "table"
	echo
	table
	echo
	worse >"$work/worse"
	if [ -s "$work/worse" ]; then
		echo "More than stock in these rows:"
		cat "$work/worse"
	else
		echo "No row has more commands, waits or flushed pages than stock, or less left."
	fi
	echo "$(short "$report") has the table. This took $(minutes "$SECONDS")."
}

[ $# = 0 ] || die "usage: amd.sh"
main
