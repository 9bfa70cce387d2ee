// SPDX-License-Identifier: GPL-2.0
/*
 * A device with a TLB of its own, in software.
 *
 * The device walks the page table of a process on a miss, as an IOMMU does,
 * keeps what it found, and drops it only when its mmu notifier says so.  It
 * never touches memory: a stale translation is counted, not followed.
 *
 * Two things are cached, as in hardware: translations, one for each page that
 * was accessed, whatever the size of the mapping (a device may fracture huge
 * mappings), and pointers to page-table pages (the paging-structure cache).
 * The first are dropped by an invalidation that touches them.  The second only
 * by one that contains all that the table maps, because hardware need not look
 * for table pointers beyond the range it was given.  With shadow_tlb.lenient=1
 * they are dropped, too, by one that touches what the table maps.
 *
 * The oracle looks at two moments.  When a page goes back to the allocator no
 * device may have it in its TLB, neither as a page nor as a page table.  And
 * when an operation has ended nothing in the TLB may allow more than the page
 * table does.
 */

#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/moduleparam.h>
#include <linux/pgtable.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <trace/events/kmem.h>

#include "shadow_tlb.h"

#define SHADOW_TLB_LEVELS	5	/* page, tables of PTEs, PMDs, PUDs, P4Ds */

struct shadow_walk {
	struct {
		unsigned long addr;
		unsigned long size;
		unsigned long pfn;
		bool present;
		bool write;
	} level[SHADOW_TLB_LEVELS];
};

static bool lenient;
module_param(lenient, bool, 0444);
MODULE_PARM_DESC(lenient, "drop a pointer to a page table when a range touches what it maps");

static LIST_HEAD(shadow_tlbs);
static DEFINE_RAW_SPINLOCK(shadow_tlbs_lock);
static DEFINE_MUTEX(shadow_tlbs_mutex);
static unsigned int shadow_tlbs_bound;

static void shadow_walk_found(struct shadow_walk *walk, unsigned int level,
			      unsigned long addr, unsigned long size,
			      unsigned long pfn, bool write)
{
	walk->level[level].addr = addr & ~(size - 1);
	walk->level[level].size = size;
	walk->level[level].pfn = pfn;
	walk->level[level].present = true;
	walk->level[level].write = write;
}

static void shadow_walk_page(struct shadow_walk *walk, unsigned long addr,
			     unsigned long pfn, unsigned long mask, bool write)
{
	pfn += (addr & ~mask) >> PAGE_SHIFT;
	shadow_walk_found(walk, 0, addr, PAGE_SIZE, pfn, write);
}

/*
 * What the mm calls present need not be valid: PROT_NONE, and huge entries that
 * are about to be split.  On riscv, pte_access_permitted() and its siblings grant
 * these, too.
 */
static bool shadow_valid(unsigned long entry)
{
#ifdef CONFIG_RISCV
	return entry & _PAGE_PRESENT;
#else
	return true;
#endif
}

/*
 * Walks the page table the way hardware does, without locks: each entry is read
 * once.  Interrupts are off, so that page-table pages stay for as long as this
 * CPU uses the mm.  The device goes by the top level that drivers give to their
 * hardware, the oracle by that of the CPUs.
 */
static void shadow_walk(struct mm_struct *mm, pgd_t *root, unsigned long addr,
			struct shadow_walk *walk)
{
	pgd_t *pgdp, pgd;
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;
	pte_t *ptep, pte;

	lockdep_assert_irqs_disabled();
	memset(walk, 0, sizeof(*walk));

	pgdp = pgd_offset_pgd(root, addr);
	pgd = READ_ONCE(*pgdp);
	if (pgd_none(pgd) || pgd_bad(pgd))
		return;
	if (!mm_p4d_folded(mm))
		shadow_walk_found(walk, 4, addr, PGDIR_SIZE,
				  page_to_pfn(pgd_page(pgd)), false);

	p4dp = p4d_offset_lockless(pgdp, pgd, addr);
	p4d = READ_ONCE(*p4dp);
	if (p4d_none(p4d) || p4d_bad(p4d))
		return;
	if (!mm_pud_folded(mm))
		shadow_walk_found(walk, 3, addr, P4D_SIZE,
				  page_to_pfn(p4d_page(p4d)), false);

	pudp = pud_offset_lockless(p4dp, p4d, addr);
	pud = READ_ONCE(*pudp);
	if (pud_none(pud) || !pud_present(pud))
		return;
	if (pud_leaf(pud)) {
		if (shadow_valid(pud_val(pud)) &&
		    pud_access_permitted(pud, false))
			shadow_walk_page(walk, addr,
					 page_to_pfn(pud_page(pud)), PUD_MASK,
					 pud_access_permitted(pud, true));
		return;
	}
	if (!mm_pmd_folded(mm))
		shadow_walk_found(walk, 2, addr, PUD_SIZE,
				  page_to_pfn(pud_page(pud)), false);

	pmdp = pmd_offset_lockless(pudp, pud, addr);
	pmd = READ_ONCE(*pmdp);
	if (pmd_none(pmd) || !pmd_present(pmd))
		return;
	if (pmd_leaf(pmd)) {
		if (shadow_valid(pmd_val(pmd)) &&
		    pmd_access_permitted(pmd, false))
			shadow_walk_page(walk, addr, pmd_pfn(pmd), PMD_MASK,
					 pmd_access_permitted(pmd, true));
		return;
	}
	shadow_walk_found(walk, 1, addr, PMD_SIZE,
			  page_to_pfn(pmd_page(pmd)), false);

	ptep = pte_offset_map(&pmd, addr);
#if TREE < 612
	pte = READ_ONCE(*ptep);
#else
	if (!ptep)
		return;
	pte = ptep_get(ptep);
#endif
	if (shadow_valid(pte_val(pte)) && pte_access_permitted(pte, false))
		shadow_walk_page(walk, addr, pte_pfn(pte), PAGE_MASK,
				 pte_access_permitted(pte, true));
	pte_unmap(ptep);
}

static unsigned int shadow_hash(unsigned long key)
{
	return hash_long(key, ilog2(SHADOW_TLB_BUCKETS));
}

static struct shadow_tlb_entry *shadow_find(struct shadow_tlb *dev,
					    unsigned int level,
					    unsigned long addr)
{
	struct shadow_tlb_entry *e;

	hlist_for_each_entry(e, &dev->by_addr[shadow_hash(addr)], by_addr)
		if (e->addr == addr && e->level == level)
			return e;
	return NULL;
}

static void shadow_drop(struct shadow_tlb *dev, struct shadow_tlb_entry *e)
{
	hlist_del(&e->by_addr);
	hlist_del(&e->by_pfn);
	e->valid = false;
	dev->used--;
}

/* A full TLB caches nothing more: fewer findings, none of them wrong. */
static void shadow_insert(struct shadow_tlb *dev, unsigned int level,
			  const struct shadow_walk *walk)
{
	struct shadow_tlb_entry *e;
	unsigned long addr = walk->level[level].addr;

	e = shadow_find(dev, level, addr);
	if (e)
		shadow_drop(dev, e);
	if (dev->used == SHADOW_TLB_ENTRIES)
		return;
	for (e = dev->entries; e->valid; e++)
		;
	e->addr = addr;
	e->level = level;
	e->size = walk->level[level].size;
	e->pfn = walk->level[level].pfn;
	e->write = walk->level[level].write;
	e->freed = false;
	e->valid = true;
	hlist_add_head(&e->by_addr, &dev->by_addr[shadow_hash(addr)]);
	hlist_add_head(&e->by_pfn, &dev->by_pfn[shadow_hash(e->pfn)]);
	dev->used++;
}

/* Does @e allow what the page table does not? */
static bool shadow_differs(const struct shadow_tlb_entry *e,
			   const struct shadow_walk *walk)
{
	unsigned int level = e->level;

	return !walk->level[level].present ||
	       walk->level[level].pfn != e->pfn ||
	       (e->write && !walk->level[level].write);
}

static void shadow_invalidate(struct shadow_tlb *dev, unsigned long start,
			      unsigned long end)
{
	struct shadow_tlb_entry *e;

	for (e = dev->entries; e < dev->entries + SHADOW_TLB_ENTRIES; e++) {
		if (!e->valid)
			continue;
		if (e->level && !lenient) {
			if (start <= e->addr && e->addr + e->size - 1 < end)
				shadow_drop(dev, e);
		} else if (start < e->addr + e->size && e->addr < end) {
			shadow_drop(dev, e);
		}
	}
}

/* How many translations in the range are as the page table has them? */
static unsigned int shadow_unchanged(struct shadow_tlb *dev,
				     unsigned long start, unsigned long end)
{
	struct shadow_tlb_entry *e;
	struct shadow_walk walk;
	unsigned int found = 0;

	if (current->mm != dev->mm)
		return 0;
	for (e = dev->entries; e < dev->entries + SHADOW_TLB_ENTRIES; e++) {
		if (!e->valid || e->level || e->addr < start || e->addr >= end)
			continue;
		shadow_walk(dev->mm, dev->mm->pgd, e->addr, &walk);
		found += !shadow_differs(e, &walk);
	}
	return found;
}

static int shadow_access(struct shadow_tlb *dev, unsigned long addr, bool write)
{
	struct shadow_tlb_entry *e;
	struct shadow_walk walk;
	unsigned int level;
	bool allowed;

	dev->stats.accesses++;
	addr &= PAGE_MASK;
	shadow_walk(dev->mm, dev->pgd, addr, &walk);
	allowed = walk.level[0].present && (!write || walk.level[0].write);

	if (dev->blocked || dev->released) {
		dev->stats.faults += allowed;
		return -EFAULT;
	}
	e = shadow_find(dev, 0, addr);
	if (e && (!write || e->write)) {
		/*
		 * While an operation is under way the entry may be gone from
		 * the page table and the flush still to come.  But once
		 * another page is mapped, or the old one freed, the access
		 * goes to the wrong page.
		 */
		shadow_walk(dev->mm, dev->mm->pgd, addr, &walk);
		if (e->freed ||
		    (walk.level[0].present && walk.level[0].pfn != e->pfn))
			dev->stats.stale_used++;
		return 0;
	}
	if (e && dev->keeps_read_only) {
		dev->stats.faults += allowed;
		return -EFAULT;
	}
	for (level = 1; level < SHADOW_TLB_LEVELS; level++)
		if (walk.level[level].present &&
		    !shadow_find(dev, level, walk.level[level].addr))
			shadow_insert(dev, level, &walk);
	if (!allowed)
		return -EFAULT;
	shadow_insert(dev, 0, &walk);
	return 0;
}

/* The device never stops: it uses its working set whenever it could. */
static void shadow_run(struct shadow_tlb *dev)
{
	unsigned long addr;

	if (current->mm != dev->mm)
		return;
	for (addr = dev->set_start; addr < dev->set_end; addr += PAGE_SIZE)
		shadow_access(dev, addr, false);
}

static struct shadow_tlb *watch_to_shadow(struct mmu_notifier *mn)
{
	return container_of(mn, struct shadow_tlb, watch);
}

static struct shadow_tlb *mn_to_shadow(struct mmu_notifier *mn)
{
	return container_of(mn, struct shadow_tlb, mn);
}

static void shadow_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct shadow_tlb *dev = mn_to_shadow(mn);
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	dev->released = true;
	shadow_invalidate(dev, 0, ULONG_MAX);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
}

static int shadow_start(struct mmu_notifier *mn,
			const struct mmu_notifier_range *range)
{
	struct shadow_tlb *dev = watch_to_shadow(mn);
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	dev->changing++;
	if (dev->policy == SHADOW_TLB_BLOCK)
		dev->blocked++;
	if (dev->policy == SHADOW_TLB_BLOCK ||
	    dev->policy == SHADOW_TLB_FLUSH_START)
		shadow_invalidate(dev, range->start, range->end);
	shadow_run(dev);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return 0;
}

static void shadow_end(struct mmu_notifier *mn,
		       const struct mmu_notifier_range *range)
{
	struct shadow_tlb *dev = watch_to_shadow(mn);
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	dev->changing--;
	shadow_run(dev);
	if (dev->policy == SHADOW_TLB_BLOCK)
		dev->blocked--;
	if (dev->policy == SHADOW_TLB_FLUSH_END)
		shadow_invalidate(dev, range->start, range->end);
	shadow_run(dev);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
}

static void shadow_invalidate_range(struct mmu_notifier *mn,
				    struct mm_struct *mm, unsigned long start,
				    unsigned long end)
{
	struct shadow_tlb *dev = mn_to_shadow(mn);
	struct shadow_tlb_call *call;
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	call = &dev->log[dev->stats.calls++ % SHADOW_TLB_LOG];
	call->start = start;
	call->end = end;
	call->unchanged = shadow_unchanged(dev, start, end);
	call->outside = !dev->changing;
	dev->stats.outside += call->outside;
#if TREE < 612
	if (start >= end || !PAGE_ALIGNED(start) || !PAGE_ALIGNED(end))
		dev->stats.bad_ranges++;
#else
	/* All of the address space ends at ULONG_MAX. */
	if (start >= end || !PAGE_ALIGNED(start) ||
	    (!PAGE_ALIGNED(end) && end != ULONG_MAX))
		dev->stats.bad_ranges++;
#endif
	shadow_invalidate(dev, start, end);
	shadow_run(dev);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
}

static const struct mmu_notifier_ops shadow_watch_ops = {
	.invalidate_range_start = shadow_start,
	.invalidate_range_end = shadow_end,
};

static const struct mmu_notifier_ops shadow_release_ops = {
	.release = shadow_release,
};

static const struct mmu_notifier_ops shadow_range_ops = {
	.release = shadow_release,
	.invalidate_range = shadow_invalidate_range,
};

static void shadow_page_freed(struct shadow_tlb *dev, unsigned long pfn)
{
	struct shadow_tlb_entry *e;

	raw_spin_lock(&dev->lock);
	hlist_for_each_entry(e, &dev->by_pfn[shadow_hash(pfn)], by_pfn) {
		if (e->pfn != pfn || e->freed)
			continue;
		e->freed = true;
		if (e->level)
			dev->stats.freed_tables++;
		else
			dev->stats.freed_pages++;
	}
	raw_spin_unlock(&dev->lock);
}

static void shadow_probe_free(void *data, struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);
	struct shadow_tlb *dev;
	unsigned long flags, i;

	raw_spin_lock_irqsave(&shadow_tlbs_lock, flags);
	list_for_each_entry(dev, &shadow_tlbs, list)
		for (i = 0; i < 1UL << order; i++)
			shadow_page_freed(dev, pfn + i);
	raw_spin_unlock_irqrestore(&shadow_tlbs_lock, flags);
}

static void shadow_probe_free_batched(void *data, struct page *page)
{
	shadow_probe_free(data, page, 0);
}

static int shadow_watch(struct shadow_tlb *dev)
{
	int ret = 0;

	mutex_lock(&shadow_tlbs_mutex);
	if (!shadow_tlbs_bound) {
		ret = register_trace_mm_page_free(shadow_probe_free, NULL);
		if (ret)
			goto out;
		ret = register_trace_mm_page_free_batched(shadow_probe_free_batched,
							  NULL);
		if (ret) {
			unregister_trace_mm_page_free(shadow_probe_free, NULL);
			goto out;
		}
	}
	shadow_tlbs_bound++;
	raw_spin_lock_irq(&shadow_tlbs_lock);
	list_add(&dev->list, &shadow_tlbs);
	raw_spin_unlock_irq(&shadow_tlbs_lock);
out:
	mutex_unlock(&shadow_tlbs_mutex);
	return ret;
}

static void shadow_unwatch(struct shadow_tlb *dev)
{
	mutex_lock(&shadow_tlbs_mutex);
	raw_spin_lock_irq(&shadow_tlbs_lock);
	list_del(&dev->list);
	raw_spin_unlock_irq(&shadow_tlbs_lock);
	if (!--shadow_tlbs_bound) {
		unregister_trace_mm_page_free_batched(shadow_probe_free_batched,
						      NULL);
		unregister_trace_mm_page_free(shadow_probe_free, NULL);
	}
	mutex_unlock(&shadow_tlbs_mutex);
}

/**
 * shadow_tlb_bind - Create a device and attach it to a process
 * @mm: the address space, with a reference to mm_users held
 * @policy: when the device drops translations
 *
 * Context: process context, may sleep; takes @mm's mmap_lock.
 * Return: the device, or an ERR_PTR().
 */
struct shadow_tlb *shadow_tlb_bind(struct mm_struct *mm,
				   enum shadow_tlb_policy policy)
{
	struct shadow_tlb *dev;
	int ret = -ENOMEM;

#if TREE < 703
	dev = kvzalloc(sizeof(*dev), GFP_KERNEL);
#else
	dev = kvzalloc_obj(*dev);
#endif
	if (!dev)
		return ERR_PTR(-ENOMEM);
	raw_spin_lock_init(&dev->lock);
	dev->mm = mm;
	dev->policy = policy;
#if TREE < 612
	dev->pgd = mm_device_pgd(mm);
	if (!dev->pgd)
		goto free;
#else
	dev->pgd = mm->pgd;
#endif
	dev->mn.ops = policy == SHADOW_TLB_INVALIDATE_RANGE ?
		      &shadow_range_ops : &shadow_release_ops;
	dev->watch.ops = &shadow_watch_ops;
	ret = shadow_watch(dev);
	if (ret)
		goto free;
	ret = mmu_notifier_register(&dev->mn, mm);
	if (ret)
		goto unwatch;
	ret = mmu_notifier_register(&dev->watch, mm);
	if (ret)
		goto unregister;
	return dev;

unregister:
	mmu_notifier_unregister(&dev->mn, mm);
unwatch:
	shadow_unwatch(dev);
free:
	kvfree(dev);
	return ERR_PTR(ret);
}

/**
 * shadow_tlb_unbind - Detach a device and free it
 * @dev: the device
 *
 * Context: process context, may sleep.
 */
void shadow_tlb_unbind(struct shadow_tlb *dev)
{
	mmu_notifier_unregister(&dev->watch, dev->mm);
	mmu_notifier_unregister(&dev->mn, dev->mm);
	shadow_unwatch(dev);
	kvfree(dev);
}

/**
 * shadow_tlb_access - The device reads or writes the page at an address
 * @dev: the device
 * @addr: user address
 * @write: true for a write
 *
 * Context: any, on a CPU that uses the device's mm.
 * Return: 0, or -EFAULT when the device would have to ask for the page.
 */
int shadow_tlb_access(struct shadow_tlb *dev, unsigned long addr, bool write)
{
	unsigned long flags;
	int ret;

	raw_spin_lock_irqsave(&dev->lock, flags);
	ret = shadow_access(dev, addr, write);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return ret;
}

/**
 * shadow_tlb_cached - Does the device hold a translation for an address?
 * @dev: the device
 * @addr: user address
 *
 * Context: any.
 * Return: true if the next read is served without a page-table walk.
 */
bool shadow_tlb_cached(struct shadow_tlb *dev, unsigned long addr)
{
	unsigned long flags;
	bool cached;

	raw_spin_lock_irqsave(&dev->lock, flags);
	cached = shadow_find(dev, 0, addr & PAGE_MASK);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return cached;
}

static unsigned int shadow_stale(struct shadow_tlb *dev)
{
	struct shadow_tlb_entry *e;
	struct shadow_walk walk;
	unsigned int stale = 0;

	for (e = dev->entries; e < dev->entries + SHADOW_TLB_ENTRIES; e++) {
		if (!e->valid)
			continue;
		shadow_walk(dev->mm, dev->mm->pgd, e->addr, &walk);
		if (shadow_differs(e, &walk))
			stale++;
	}
	return stale;
}

/**
 * shadow_tlb_stale - Compare all that the device caches with the page table
 * @dev: the device
 *
 * To be called when no operation on the mm is under way.
 *
 * Context: any, on a CPU that uses the device's mm.
 * Return: the number of entries that allow what the page table does not.
 */
unsigned int shadow_tlb_stale(struct shadow_tlb *dev)
{
	unsigned int stale;
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	stale = shadow_stale(dev);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return stale;
}

/**
 * shadow_tlb_run_on - Let the device run on a range all the time
 * @dev: the device
 * @start: first user address of its working set
 * @end: first address after it; equal to @start to stop
 *
 * From now on the device reads the whole range inside each of its notifier
 * callbacks: the worst moment that a device which is not stopped could choose.
 *
 * Context: any.
 */
void shadow_tlb_run_on(struct shadow_tlb *dev, unsigned long start,
		       unsigned long end)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	dev->set_start = start;
	dev->set_end = end;
	shadow_run(dev);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
}

static unsigned int shadow_touch(struct shadow_tlb *dev)
{
	struct shadow_tlb_entry *e;
	struct shadow_walk walk;
	unsigned int stale = 0;

	for (e = dev->entries; e < dev->entries + SHADOW_TLB_ENTRIES; e++) {
		if (!e->valid || e->level)
			continue;
		dev->stats.accesses++;
		shadow_walk(dev->mm, dev->mm->pgd, e->addr, &walk);
		if (e->freed || shadow_differs(e, &walk))
			stale++;
	}
	dev->stats.stale_used += stale;
	return stale;
}

/**
 * shadow_tlb_touch - Let the device use everything it holds, once
 * @dev: the device
 *
 * To be called when no operation on the mm is under way: whatever the device
 * then holds against the page table counts as a stale translation that was
 * used.
 *
 * Context: any, on a CPU that uses the device's mm.
 * Return: the number of stale translations used.
 */
unsigned int shadow_tlb_touch(struct shadow_tlb *dev)
{
	unsigned int stale;
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	stale = shadow_touch(dev);
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return stale;
}

/**
 * shadow_tlb_check - What shadow_tlb_stale() and shadow_tlb_touch() do, if it can
 * @dev: the device
 * @stale: where to put what shadow_tlb_stale() returns
 *
 * Kernel threads and other processes change the page table at any moment.
 * Between invalidate_range_start() and invalidate_range_end(), or until their
 * gather is finished, entries can have changed that have not been flushed yet.
 *
 * Context: any, on a CPU that uses the device's mm.
 * Return: false if an operation on the mm is under way: nothing was done.
 */
bool shadow_tlb_check(struct shadow_tlb *dev, unsigned int *stale)
{
	unsigned long flags;
	bool quiet;

	raw_spin_lock_irqsave(&dev->lock, flags);
	quiet = !dev->changing && !mm_tlb_flush_pending(dev->mm);
	if (quiet) {
		*stale = shadow_stale(dev);
		shadow_touch(dev);
	}
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return quiet;
}

/**
 * shadow_tlb_read_stats - Read the device's counters
 * @dev: the device
 *
 * Context: any.
 * Return: a consistent copy.
 */
struct shadow_tlb_stats shadow_tlb_read_stats(struct shadow_tlb *dev)
{
	struct shadow_tlb_stats stats;
	unsigned long flags;

	raw_spin_lock_irqsave(&dev->lock, flags);
	stats = dev->stats;
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return stats;
}

/**
 * shadow_tlb_held - How much does the device hold?
 * @dev: the device
 *
 * Context: any.
 * Return: the number of translations and page-table pointers.
 */
unsigned int shadow_tlb_held(struct shadow_tlb *dev)
{
	return READ_ONCE(dev->used);
}

/**
 * shadow_tlb_devices - How many devices are there?
 *
 * Context: any.
 * Return: the number of devices in the system that have not been freed.
 */
unsigned int shadow_tlb_devices(void)
{
	return READ_ONCE(shadow_tlbs_bound);
}

/**
 * shadow_tlb_call - Look at one of the calls of invalidate_range()
 * @dev: the device
 * @nr: number of the call, 0 for the first one
 * @call: where to put its range
 *
 * Context: any.
 * Return: false if there was no such call or it is too long ago.
 */
bool shadow_tlb_call(struct shadow_tlb *dev, unsigned long nr,
		     struct shadow_tlb_call *call)
{
	unsigned long flags;
	bool known;

	raw_spin_lock_irqsave(&dev->lock, flags);
	known = nr < dev->stats.calls && dev->stats.calls - nr <= SHADOW_TLB_LOG;
	if (known)
		*call = dev->log[nr % SHADOW_TLB_LOG];
	raw_spin_unlock_irqrestore(&dev->lock, flags);
	return known;
}
