// SPDX-License-Identifier: GPL-2.0
///
/// Find flushes of the CPU TLB that secondary TLBs (IOMMUs, devices) do not
/// get, in the architectures that pass their flushes on:
///
/// - A function that gets an mm or a VMA and flushes user mappings, and that
///   can return without mmu_notifier_arch_invalidate_secondary_tlbs().
/// - A function for huge pages that flushes by a function for one small page.
///   A CPU drops all of a huge page then, but secondary TLBs get PAGE_SIZE.
///
/// See Documentation/mm/mmu_notifier.rst.
///
// Confidence: Moderate
// Comments: Low-level flushes are known by name, so a new one has to be added.
// Comments: Whether the range of a call is right is checked for huge pages only.
// Options: --no-includes --include-headers

virtual report
virtual org

@initialize:python@
@@
import os, re

# Those that make the call (of powerpc, the radix MMU), and generic code.
CHECKED = ("arch/arm64/", "arch/powerpc/include/asm/book3s/64/",
	   "arch/powerpc/include/asm/hugetlb.h", "arch/powerpc/mm/book3s64/",
	   "arch/riscv/", "arch/x86/", "include/", "mm/")

CALLERS = "its callers make the call"
EARLIER = "arch_tlbbatch_add_pending() made the call"
ONE_CPU = "one CPU only: text patching, or a kernel without SMP"

# Functions that need no call, and why.
EXEMPT = {
	"_tlbiel_pid_multicast": CALLERS,
	"_tlbiel_va_multicast": CALLERS,
	"_tlbiel_va_range_multicast": CALLERS,
	"flush_tlb_mm_range_cpus": CALLERS,
	"arch_tlbbatch_flush_mm": EARLIER,
	"flush_tlb_batched_pending": EARLIER,
	"exit_lazy_flush_tlb": "a CPU leaves the mm, and no entry has changed",
	"radix__local_flush_all_mm": ONE_CPU,
	"radix__local_flush_tlb_mm": ONE_CPU,
	"radix__local_flush_tlb_page_psize": ONE_CPU,
}

SRCTREE = os.path.realpath(os.environ.get("srctree") or ".")

users = []	# functions that flush and get an mm or a VMA: name, position
told = set()	# positions of those that make the call on every path

def where(p):
	return (p.file, p.line, p.column)

def is_checked(p):
	return os.path.relpath(os.path.realpath(p.file), SRCTREE).startswith(CHECKED)

# Takes the functions of one file, and yields those that can forget the call.
def silent():
	found = [(fn, p) for fn, p in users
		 if is_checked(p) and fn not in EXEMPT and where(p) not in told]
	users.clear()
	return found

def missing(fn):
	return ("WARNING: %s() flushes user mappings, and can return without "
		"mmu_notifier_arch_invalidate_secondary_tlbs()" % fn)

def too_small(p, f):
	return ("WARNING: %s() is for huge pages; %s() passes PAGE_SIZE to "
		"secondary TLBs" % (p.current_element, f))

def is_for_huge_pages(p):
	return is_checked(p) and re.search("huge|^pmdp|^pudp", p.current_element)

@flush@
identifier fn;
position p;
@@
fn@p(...)
{
<+...
\(
inc_mm_tlb_gen\|broadcast_tlb_flush\|flush_tlb_multi\|flush_tlb_func\|
flush_tlb_mm_range_cpus\|arch_tlbbatch_flush_mm\|
__tlbi_user\|__tlbi_level_asid\|__flush_s1_tlb_range_op\|
_tlbie_pid\|_tlbie_va\|_tlbie_va_range\|
_tlbiel_pid\|_tlbiel_va\|_tlbiel_va_range\|
_tlbiel_pid_multicast\|_tlbiel_va_multicast\|_tlbiel_va_range_multicast\|
cpumask_or\|local_flush_tlb_range_asid\|sbi_remote_sfence_vma_asid
\)(...)
...+>
}

@of_mm@
identifier flush.fn, mm;
position flush.p;
@@
fn@p(..., struct mm_struct *mm, ...) { ... }

@of_vma@
identifier flush.fn, vma;
position flush.p;
@@
fn@p(..., struct vm_area_struct *vma, ...) { ... }

// An mm that has never run has nothing to flush.
@no_context@
expression pid;
position never;
@@
if (WARN_ON_ONCE(pid == MMU_NO_CONTEXT)) { return@never; }

// A flush of everything makes the call itself.
@call forall@
identifier flush.fn;
position flush.p, no_context.never;
expression mm, flags;
@@
fn@p(...)
{
... when any
    when strict
(
mmu_notifier_arch_invalidate_secondary_tlbs(...);
|
if (mm) mmu_notifier_arch_invalidate_secondary_tlbs(mm, ...);
|
if (!(flags & TLBF_NONOTIFY)) mmu_notifier_arch_invalidate_secondary_tlbs(...);
|
flush_tlb_mm(...);
|
radix__flush_all_mm(...);
|
return@never;
)
... when any
}

@of_page@
identifier f = {flush_tlb_page, ptep_clear_flush};
position p;
@@
f@p(...)

@script:python depends on call@
p << flush.p;
@@
told.add(where(p[0]))

@script:python depends on of_mm || of_vma@
p << flush.p;
fn << flush.fn;
@@
users.append((fn, p[0]))

@script:python depends on report@
@@
for fn, p in silent():
	coccilib.report.print_report(p, missing(fn))

@script:python depends on org@
@@
for fn, p in silent():
	coccilib.org.print_todo(p, missing(fn))

@script:python depends on report@
p << of_page.p;
f << of_page.f;
@@
if is_for_huge_pages(p[0]):
	coccilib.report.print_report(p[0], too_small(p[0], f))

@script:python depends on org@
p << of_page.p;
f << of_page.f;
@@
if is_for_huge_pages(p[0]):
	coccilib.org.print_todo(p[0], too_small(p[0], f))
