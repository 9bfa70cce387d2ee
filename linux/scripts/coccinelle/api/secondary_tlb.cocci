// SPDX-License-Identifier: GPL-2.0
///
/// Find flushes of the CPU TLB that secondary TLBs (IOMMUs, ATS devices) are
/// not told of.  Each flush of a user mapping is followed, on every path, by
/// mmu_notifier_invalidate_range() or mmu_notifier_invalidate_mm(), is made by
/// a helper or a gather that calls them, or is exempt.  The exemptions are
/// here, and nowhere else.
///
/// Architectures implement the flushes: arch/ is left out.  Their part is in
/// Documentation/mm/mmu_notifier.rst.
///
// Confidence: Moderate
// Comments: Flushes are known by name, so a new one has to be added here.  Nothing
// Comments: checks that the range of a call is right.
// Comments: -D census prints all sites, with tabs: file, line, function,
// Comments: flush, how told (call, helper, gather, callers, exempt, -), reason;
// Comments: and, with all files at once and no --jobs, the exemptions that match
// Comments: nothing: "stale", flush, file, function.  (coccicheck: MODE=census J=1)
// Options: --no-includes --include-headers

virtual report
virtual org
virtual census

@initialize:python@
@@
import linecache, os, re

# These make the call.  Their own flush is a site like any other.
HELPERS = frozenset("""
	ptep_clear_flush pmdp_huge_clear_flush pudp_huge_clear_flush
	pmdp_invalidate pmdp_collapse_flush huge_ptep_clear_flush
""".split())

# These come to tlb_flush_mmu_tlbonly(), which makes the call.
GATHER = frozenset("""
	tlb_flush_mmu tlb_flush_mmu_tlbonly tlb_end_vma tlb_finish_mmu
	tlb_flush_unshared_tables huge_pmd_unshare_flush
""".split())

GRANTS = "only grants: what is cached is true, if less than there is now"
YOUNG = "accessed bit only; clear_flush_young() is for it"
DEFERRED = "deferred work for CPUs; try_to_unmap_one() called before it dropped the page table lock"
KERNEL = "kernel mappings"
CALLERS = "its callers are checked"
NONE = "without CONFIG_MMU_NOTIFIER there is nobody to tell"

# Flush, or "" for all; file; function or macro around it; why no call is needed.
# With "*" for file and function it goes for the body of that function, too.  One
# that matches nothing any more is an error.
EXEMPT = [
	("flush_tlb_kernel_range", "*", "*", KERNEL),
	("ptep_set_access_flags", "*", "*", GRANTS),
	("pmdp_set_access_flags", "*", "*", GRANTS),
	("pudp_set_access_flags", "*", "*", GRANTS),
	("huge_ptep_set_access_flags", "*", "*", GRANTS),
	("flush_tlb_fix_spurious_fault", "*", "*", GRANTS),
	("ptep_clear_flush_young", "*", "*", YOUNG),
	("pmdp_clear_flush_young", "*", "*", YOUNG),
	("ptep_clear_flush_young_notify", "*", "*", YOUNG),
	("pmdp_clear_flush_young_notify", "*", "*", YOUNG),
	("try_to_unmap_flush", "*", "*", DEFERRED),
	("try_to_unmap_flush_dirty", "*", "*", DEFERRED),
	("flush_tlb_batched_pending", "*", "*", DEFERRED),

	("", "include/asm-generic/hugetlb.h", "arch_huge_ptep_clear_flush", CALLERS),
	("", "include/asm-generic/tlb.h", "tlb_flush", CALLERS),
	("", "include/linux/hugetlb.h", "flush_hugetlb_tlb_range", CALLERS),
	("", "include/linux/pgtable.h", "flush_pmd_tlb_range", CALLERS),
	("", "include/linux/pgtable.h", "flush_pud_tlb_range", CALLERS),
	("", "mm/pgtable-generic.c", "arch_pmdp_collapse_flush", CALLERS),
	("", "mm/pgtable-generic.c", "arch_pmdp_huge_clear_flush", CALLERS),
	("", "mm/pgtable-generic.c", "arch_pmdp_invalidate", CALLERS),
	("", "mm/pgtable-generic.c", "arch_ptep_clear_flush", CALLERS),
	("", "mm/rmap.c", "set_tlb_ubc_flush_pending", CALLERS),

	("pmdp_invalidate_ad", "mm/huge_memory.c", "change_huge_pmd",
	 "the gather of its caller makes the call"),
	("arch_ptep_clear_flush", "mm/pgtable-generic.c", "ptep_clear_flush",
	 "after a test that nobody has the callback"),
	("arch_ptep_clear_flush", "include/linux/pgtable.h", "ptep_clear_flush", NONE),
	("arch_pmdp_invalidate", "include/linux/pgtable.h", "pmdp_invalidate", NONE),
	("flush_tlb_all", "drivers/xen/balloon.c", "decrease_reservation", KERNEL),
	("local_flush_tlb_all", "drivers/soc/bcm/brcmstb/pm/pm-mips.c",
	 "brcmstb_pm_s3", "a CPU that sleeps and wakes: no entry has changed"),
]

SRCTREE = os.path.realpath(os.environ.get("srctree") or ".")

sites = []	# (flush, position), of one file
told = set()	# positions of those with a call on every path
matched = set()	# exemptions

def where(p):
	return (p.file, p.line, p.column)

def path(p):
	return os.path.relpath(os.path.realpath(p.file), SRCTREE)

# Coccinelle does not name the macro that a match is in.
def around(p):
	if p.current_element != "something_else":
		return p.current_element
	for line in range(int(p.line), 0, -1):
		macro = re.match(r"\s*#\s*define\s+(\w+)", linecache.getline(p.file, line))
		if macro:
			return macro.group(1)
	return "?"

def exemption(flush, file, function):
	for e in EXEMPT:
		if e[1] == "*":
			if e[0] in (flush, function):
				return e
		elif e[0] in ("", flush) and e[1:3] == (file, function):
			return e
	return None

# How secondary TLBs are told of a flush, and if exempt, by what.
def classify(flush, p):
	e = exemption(flush, path(p), around(p))
	if where(p) in told:
		return "call", None
	if e:
		return "callers" if e[3] == CALLERS else "exempt", e
	if flush in HELPERS:
		return "helper", None
	if flush in GATHER:
		return "gather", None
	return "-", None

# Takes the sites of one file: position, flush, how told, exemption.
def take():
	found = [(p, flush) + classify(flush, p) for flush, p in sites
		 if not path(p).startswith(("arch/", "tools/"))]
	sites.clear()
	return found

# Takes the sites of one file, and yields position and text of what is wrong.
def mistakes():
	found = take()
	used = set(e for _, _, _, e in found)
	files = set(path(p) for p, _, _, _ in found)
	for p, flush, how, _ in found:
		if how == "-":
			yield p, ("WARNING: %s: secondary TLBs are not told on every path; "
				  "call mmu_notifier_invalidate_range() after it, or exempt it "
				  "in secondary_tlb.cocci" % flush)
	for e in EXEMPT:
		if e[1] in files and e not in used:
			yield found[0][0], ("WARNING: nothing in %s() needs the exemption any more; "
					    "remove it from secondary_tlb.cocci" % e[2])

// Flushes that say nothing of their own.
@flush@
identifier f;
position p;
@@
\(\(
flush_tlb_range\|flush_tlb_page\|flush_tlb_mm\|flush_tlb_mm_range\|
flush_pmd_tlb_range\|flush_pud_tlb_range\|flush_hugetlb_tlb_range\|
flush_tlb_all\|tlb_flush\|
local_flush_tlb_range\|local_flush_tlb_page\|local_flush_tlb_mm\|
local_flush_tlb_all\|
arch_tlbbatch_add_mm\|arch_tlbbatch_flush\|set_tlb_ubc_flush_pending\|
arch_ptep_clear_flush\|arch_pmdp_huge_clear_flush\|
arch_pmdp_invalidate\|pmdp_invalidate_ad\|arch_pmdp_collapse_flush\|
arch_huge_ptep_clear_flush
\)\&f@p\)(...)

// Those that do, or need not.
@other@
identifier f;
position p;
@@
\(\(
ptep_clear_flush\|pmdp_huge_clear_flush\|pudp_huge_clear_flush\|
pmdp_invalidate\|pmdp_collapse_flush\|huge_ptep_clear_flush\|
tlb_flush_mmu\|tlb_flush_mmu_tlbonly\|tlb_end_vma\|tlb_finish_mmu\|
tlb_flush_unshared_tables\|huge_pmd_unshare_flush\|
flush_tlb_kernel_range\|flush_tlb_fix_spurious_fault\|
ptep_set_access_flags\|pmdp_set_access_flags\|pudp_set_access_flags\|
huge_ptep_set_access_flags\|
ptep_clear_flush_young\|pmdp_clear_flush_young\|
ptep_clear_flush_young_notify\|pmdp_clear_flush_young_notify\|
try_to_unmap_flush\|try_to_unmap_flush_dirty\|flush_tlb_batched_pending
\)\&f@p\)(...)

// The conditions are those under which there is nothing to tell: an empty range,
// an entry that nobody can have loaded, no subscriber.
@call forall@
identifier flush.f;
position flush.p;
expression mm, start, end;
@@
f@p(...)
... when any
    when strict
(
mmu_notifier_invalidate_range(...);
|
mmu_notifier_invalidate_mm(...);
|
if (start < end) mmu_notifier_invalidate_range(mm, start, end);
|
if (pte_accessible(...)) mmu_notifier_invalidate_range(...);
|
if (mm_has_secondary_tlb(...)) __tlb_invalidate_secondary(...);
|
page_vma_mapped_defer_secondary(...);
|
if (pte_accessible(...)) page_vma_mapped_defer_secondary(...);
)

// What mmu_gather calls has to make the call, too.
@gather@
position p;
@@
__tlb_invalidate_secondary@p(...) { ... }

@gather_call forall@
position gather.p;
@@
__tlb_invalidate_secondary@p(...) {
... when any
    when strict
\(__mmu_notifier_invalidate_range(...);\|__mmu_notifier_invalidate_mm(...);\)
... when any
}

@script:python depends on call@
p << flush.p;
@@
told.add(where(p[0]))

@script:python depends on gather_call@
p << gather.p;
@@
told.add(where(p[0]))

@script:python@
p << flush.p;
f << flush.f;
@@
sites.append((f, p[0]))

@script:python@
p << other.p;
f << other.f;
@@
sites.append((f, p[0]))

@script:python@
p << gather.p;
@@
sites.append(("__tlb_invalidate_secondary", p[0]))

@script:python depends on report@
@@
for p, text in mistakes():
	coccilib.report.print_report(p, text)

@script:python depends on org@
@@
for p, text in mistakes():
	coccilib.org.print_todo(p, text)

@script:python depends on census@
@@
for p, flush, how, e in take():
	matched.add(e)
	print("\t".join((path(p), p.line, around(p), flush, how, e[3] if e else "-")))

@finalize:python depends on census@
@@
for e in EXEMPT:
	if matched and e not in matched:
		print("\t".join(("stale", e[0] or "*", e[1], e[2])))
