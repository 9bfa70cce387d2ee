/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device with a TLB of its own, in software: the oracle for
 * mmu_notifier_ops.invalidate_range().
 */
#ifndef _LIB_SHADOW_TLB_H
#define _LIB_SHADOW_TLB_H

#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/spinlock.h>
#include <linux/types.h>

/**
 * enum shadow_tlb_policy - when the device is told to drop translations
 * @SHADOW_TLB_FLUSH_START: flush in invalidate_range_start() only
 * @SHADOW_TLB_FLUSH_END: flush in invalidate_range_end() only
 * @SHADOW_TLB_BLOCK: flush in invalidate_range_start() and refuse all accesses
 *	until invalidate_range_end()
 * @SHADOW_TLB_INVALIDATE_RANGE: flush in invalidate_range(), block nothing
 * @SHADOW_TLB_NR_POLICIES: number of policies
 *
 * Whatever the policy, the device goes on working inside the callbacks of
 * invalidate_range_start() and invalidate_range_end(), see
 * shadow_tlb_run_on().
 */
enum shadow_tlb_policy {
	SHADOW_TLB_FLUSH_START,
	SHADOW_TLB_FLUSH_END,
	SHADOW_TLB_BLOCK,
	SHADOW_TLB_INVALIDATE_RANGE,
	SHADOW_TLB_NR_POLICIES,
};

/**
 * struct shadow_tlb_stats - what the device did and what went wrong
 * @accesses: accesses the device attempted
 * @faults: accesses refused although the page table allows them
 * @stale_used: accesses served with a translation that is no longer true
 * @freed_pages: pages freed while the device could still reach them
 * @freed_tables: page-table pages freed while the device could still walk them
 * @calls: calls of invalidate_range()
 * @bad_ranges: calls of invalidate_range() with an empty, inverted or
 *	unaligned range
 * @outside: calls that are not between invalidate_range_start() and
 *	invalidate_range_end()
 */
struct shadow_tlb_stats {
	unsigned long accesses;
	unsigned long faults;
	unsigned long stale_used;
	unsigned long freed_pages;
	unsigned long freed_tables;
	unsigned long calls;
	unsigned long bad_ranges;
	unsigned long outside;
};

/* Calls that shadow_tlb_call() can still tell about. */
#define SHADOW_TLB_LOG		64

/**
 * struct shadow_tlb_call - a call of invalidate_range()
 * @start: first address
 * @end: first address after the range
 * @unchanged: translations that it dropped although the page table still had
 *	them: it came too early, or its range was too wide
 * @outside: not between invalidate_range_start() and invalidate_range_end()
 */
struct shadow_tlb_call {
	unsigned long start;
	unsigned long end;
	unsigned int unchanged;
	bool outside;
};

/* One cached translation (@level 0) or one cached page-table pointer. */
struct shadow_tlb_entry {
	struct hlist_node by_addr;
	struct hlist_node by_pfn;
	unsigned long addr;
	unsigned long size;
	unsigned long pfn;
	unsigned int level;
	bool write;
	bool freed;
	bool valid;
};

/* Room for 2048 pages, and for what four page tables map: 8192 of 16 KiB. */
#define SHADOW_TLB_ENTRIES \
	(MAX_PTRS_PER_PTE > 512 ? 4 * MAX_PTRS_PER_PTE : 2048)
#define SHADOW_TLB_BUCKETS	256

struct shadow_tlb {
	struct mmu_notifier mn;
	/* for _start() and _end(), which not every kernel allows in @mn */
	struct mmu_notifier watch;
	struct mm_struct *mm;
	/* where the device begins to walk */
	pgd_t *pgd;
	struct list_head list;
	enum shadow_tlb_policy policy;
	/* Protects everything below; taken in interrupts when pages are freed. */
	raw_spinlock_t lock;
	unsigned int blocked;
	/* operations between invalidate_range_start() and invalidate_range_end() */
	unsigned int changing;
	bool released;
	/* a cached entry that forbids a write is not looked up again */
	bool keeps_read_only;
	unsigned long set_start, set_end;
	struct shadow_tlb_stats stats;
	struct shadow_tlb_call log[SHADOW_TLB_LOG];
	unsigned int used;
	struct hlist_head by_addr[SHADOW_TLB_BUCKETS];
	struct hlist_head by_pfn[SHADOW_TLB_BUCKETS];
	struct shadow_tlb_entry entries[SHADOW_TLB_ENTRIES];
};

struct shadow_tlb *shadow_tlb_bind(struct mm_struct *mm,
				   enum shadow_tlb_policy policy);
void shadow_tlb_unbind(struct shadow_tlb *dev);
int shadow_tlb_access(struct shadow_tlb *dev, unsigned long addr, bool write);
bool shadow_tlb_cached(struct shadow_tlb *dev, unsigned long addr);
unsigned int shadow_tlb_held(struct shadow_tlb *dev);
unsigned int shadow_tlb_devices(void);
unsigned int shadow_tlb_stale(struct shadow_tlb *dev);
void shadow_tlb_run_on(struct shadow_tlb *dev, unsigned long start,
		       unsigned long end);
unsigned int shadow_tlb_touch(struct shadow_tlb *dev);
bool shadow_tlb_check(struct shadow_tlb *dev, unsigned int *stale);
struct shadow_tlb_stats shadow_tlb_read_stats(struct shadow_tlb *dev);
bool shadow_tlb_call(struct shadow_tlb *dev, unsigned long nr,
		     struct shadow_tlb_call *call);

#endif /* _LIB_SHADOW_TLB_H */
