#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-sites.sh: the census of CPU TLB flushes finds what is missing. It runs once on
# the files of the series (build/source), which have to be right, and once on a copy of
# those with flushes, in which all is wrong that it has to find.
# shellcheck disable=SC2031 # nothing of the subshell is to last
set -u

# Prints where the files of the series are. Before test-lib.sh hides the real build.
files_of_series() (
	# shellcheck source=scripts/lib/lib.sh
	. "$(dirname "$0")/../lib/lib.sh"
	# shellcheck source=scripts/lib/kernel.sh
	. "$(dirname "$0")/../lib/kernel.sh"
	[ -d "$tree/.git" ] || die "there is no tree yet; run 'make tree'"
	take_source series
	echo "$source"
)

real=$(files_of_series) || exit 1
# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

copy=$work/linux
rule=scripts/coccinelle/api/secondary_tlb.cocci
tsv=$work/build/report/sites.tsv
export BUILD=$work/build

sites() {
	run "$project/scripts/prove/sites.sh" "$@"
}

# --- the tree as it is ----------------------------------------------------

says_nothing() {
	sites check "$1" && [ ! -s "$work/out" ]
}

# row FILE FUNCTION FLUSH TOLD: with a call, a helper, and so on
row() {
	awk -F '\t' -v want="$1 $2 $3 $4" '$1 " " $3 " " $4 " " $5 == want { found = 1 } END { exit !found }' "$tsv"
}

# --- a copy with mistakes -------------------------------------------------

copy_files() {
	mkdir -p "$copy"
	(cd "$real" && sed 1d "$tsv" | cut -f 1 | sort -u |
		xargs -d '\n' cp --parents -t "$copy" "$rule")
}

# edit FILE SED-SCRIPT: which has to change something
edit() {
	cp "$copy/$1" "$work/before"
	sed -i "$2" "$copy/$1"
	if cmp -s "$work/before" "$copy/$1"; then
		echo "not ok - $1 is not what the test expects: $2"
		exit 1
	fi
}

# line_of FILE TEXT: of the first line that has it
line_of() {
	grep -nF -m 1 -e "$2" "$copy/$1" | cut -d : -f 1
}

# without_call FILE FUNCTION: the first call in it is gone
without_call() {
	edit "$1" "/^[a-z].*[ *]$2(/,/^}/{/^\tmmu_notifier_invalidate_range(/,/;\$/d}"
}

add_paths() {
	cat >"$copy/mm/paths.c" <<-'END'
	void no_call(struct vm_area_struct *vma)
	{
		flush_tlb_range(vma, 1, 2);
	}

	void one_of_two_paths(struct vm_area_struct *vma, int x)
	{
		flush_tlb_range(vma, 3, 4);
		if (x)
			mmu_notifier_invalidate_range(vma->vm_mm, 3, 4);
	}

	int error_path(struct vm_area_struct *vma, int x)
	{
		flush_tlb_range(vma, 5, 6);
		if (x)
			return -EINVAL;
		mmu_notifier_invalidate_range(vma->vm_mm, 5, 6);
		return 0;
	}

	void call_comes_first(struct vm_area_struct *vma)
	{
		mmu_notifier_invalidate_range(vma->vm_mm, 7, 8);
		flush_tlb_range(vma, 7, 8);
	}

	void other_range(struct vm_area_struct *vma, int x, int y)
	{
		flush_tlb_range(vma, x, y);
		if (x < y)
			mmu_notifier_invalidate_range(vma->vm_mm, y, x);
	}

	void good_all_paths(struct vm_area_struct *vma, int x)
	{
		flush_tlb_range(vma, 9, 10);
		if (x)
			mmu_notifier_invalidate_range(vma->vm_mm, 9, 10);
		else
			mmu_notifier_invalidate_mm(vma->vm_mm);
	}

	void good_loop(struct vm_area_struct *vma, int x)
	{
		while (x--)
			flush_tlb_range(vma, 11, x);
		mmu_notifier_invalidate_range(vma->vm_mm, 11, 12);
	}

	void good_not_empty(struct vm_area_struct *vma, int x, int y)
	{
		flush_tlb_range(vma, x, y);
		if (x < y)
			mmu_notifier_invalidate_range(vma->vm_mm, x, y);
	}

	void (*pointer)(struct mm_struct *mm) = flush_tlb_mm;

	void new_name(struct mm_struct *mm)
	{
		flush_tlb_quickly(mm);
	}

	/* flush_tlb_mm(mm) in a comment, "flush_tlb_mm(mm)" in a string. */
	const char *text = "flush_tlb_mm(mm)";
	END
}

make_mistakes() {
	add_paths
	without_call mm/mremap.c move_normal_pmd
	without_call mm/pgtable-generic.c pmdp_collapse_flush
	edit mm/ksm.c '/replace_page(/,/^}/s/\tptep_clear_flush(/\tarch_ptep_clear_flush(/'
	edit mm/mmu_gather.c '/^void __tlb_invalidate_secondary/,/^}/{/__mmu_notifier_invalidate_range(/d}'
	edit include/asm-generic/tlb.h '/__tlb_invalidate_secondary(tlb);/d; /if (mm_has_secondary_tlb(tlb->mm))/d'
	edit drivers/xen/balloon.c '/flush_tlb_all();/d'
	edit "$rule" 's/^EXEMPT = \[$/&\n\t("", "mm\/mremap.c", "never_was", KERNEL),/'
}

# --- what is found --------------------------------------------------------

# reports TEXT...: one line of the output has all of it
reports() {
	local lines text

	lines=$(cat "$work/out")
	for text; do
		lines=$(grep -F -e "$text" <<<"$lines") || return 1
	done
	[ "$(wc -l <<<"$lines")" = 1 ]
}

# not_told FILE TEXT FUNCTION FLUSH: the line with TEXT is named
not_told() {
	reports "$1:$(line_of "$1" "$2"): $3(): $4: secondary TLBs are not told"
}

complains() {
	! sites check "$copy" && ! grep -q '^error: ' "$work/out"
}

no_report_of() {
	! grep -qF -e "$1" "$work/out"
}

lines_are() {
	[ "$(wc -l <"$work/out")" = "$1" ]
}

check "the series: all flushes are told or exempt, all exemptions needed" says_nothing "$real"
check "a call of its own is found" row mm/mremap.c move_ptes flush_tlb_range call
check "a helper is found" row mm/ksm.c replace_page ptep_clear_flush helper
check "a gather is found" row mm/mmap.c unmap_region tlb_finish_mmu gather
check "a flush in a header is found" row include/asm-generic/tlb.h tlb_flush_mmu_tlbonly tlb_flush call
check "a flush in a macro is found" row include/linux/pgtable.h flush_tlb_fix_spurious_fault flush_tlb_page exempt

copy_files
make_mistakes
check "with mistakes it fails" complains
check "flush_tlb_range() without a call" not_told mm/paths.c 'vma, 1, 2' no_call flush_tlb_range
check "a call on one of two paths" not_told mm/paths.c 'vma, 3, 4' one_of_two_paths flush_tlb_range
check "no call on an error path" not_told mm/paths.c 'vma, 5, 6' error_path flush_tlb_range
check "a call before the flush" not_told mm/paths.c 'vma, 7, 8' call_comes_first flush_tlb_range
check "a condition on another range" not_told mm/paths.c 'vma, x, y' other_range flush_tlb_range
check "calls on all paths are enough" no_report_of good_
check "move_normal_pmd() without its call" \
	not_told mm/mremap.c 'flush_tlb_range(vma, old_addr, old_addr + PMD_SIZE)' move_normal_pmd flush_tlb_range
check "pmdp_collapse_flush() without its call" \
	not_told mm/pgtable-generic.c 'pmd = arch_pmdp_collapse_flush(' pmdp_collapse_flush arch_pmdp_collapse_flush
check "ptep_clear_flush() that became arch_ptep_clear_flush()" \
	not_told mm/ksm.c arch_ptep_clear_flush replace_page arch_ptep_clear_flush
check "the gather's call on one path only" \
	not_told mm/mmu_gather.c 'void __tlb_invalidate_secondary' __tlb_invalidate_secondary __tlb_invalidate_secondary
check "the gather without its call" \
	not_told include/asm-generic/tlb.h '	tlb_flush(tlb);' tlb_flush_mmu_tlbonly tlb_flush
check "a flush that is not called, but pointed to" \
	reports "mm/paths.c:$(line_of mm/paths.c '= flush_tlb_mm'): flush_tlb_mm: spatch did not see"
check "a name that looks like a flush" \
	reports "mm/paths.c:$(line_of mm/paths.c quickly): flush_tlb_quickly: is this a flush?"
check "an exemption of what never was" reports "nothing matches the exemption" "mm/mremap.c, never_was"
check "an exemption of a flush that is gone" reports "nothing matches the exemption" drivers/xen/balloon.c
check "nothing else is reported" lines_are 14

finish
