// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of mmu_notifier_ops.invalidate_range().
 *
 * Every case owns a user address space, changes it with the real functions of
 * the VMM, and watches a shadow device (shadow_tlb.c) that shares its page
 * table.  There are three suites:
 *
 * mmu_notifier_sites: an operation flushes the CPU TLB; the device must have
 *	lost what changed, have kept what did not, and must not be able to reach
 *	a page that was freed.  Each of these cases fails if the call that it is
 *	about is not made.
 * mmu_notifier_api: registration, the gate, the ranges that subscribers are
 *	given, and the top level of the page table that their hardware is given.
 * mmu_notifier_demo: the same device under four policies, as a table.
 */

#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/memblock.h>
#include <linux/mempolicy.h>
#if TREE >= 703
#include <linux/memremap.h>
#endif
#include <linux/migrate.h>
#if TREE < 612
#include <linux/mm_inline.h>
#endif
#include <linux/mman.h>
#if TREE >= 612
#include <linux/mmu_context.h>
#endif
#include <linux/mmu_notifier.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#if TREE < 703
#include <linux/pfn_t.h>
#endif
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/numa_balancing.h>
#include <linux/sched/signal.h>
#include <linux/sched/sysctl.h>
#include <linux/sched/task.h>
#include <linux/shmem_fs.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/tlb.h>

#include <trace/events/kmem.h>
#if TREE < 612
#include <trace/events/mmu_notifier.h>

#include "../drivers/iommu/iommu-sva-lib.h"
#include "../mm/internal.h"
#else

#include "../mm/internal.h"
#include "../mm/vma_internal.h"
#include "../mm/vma.h"
#endif
#include "shadow_tlb.h"

/* Far from anything else: what is mapped here has page tables of its own. */
#define TEST_BASE	ALIGN(TASK_SIZE / 4, P4D_SIZE)

/*
 * How often a gather flushes that unmaps pages of a VMA and has more to do, which
 * is to free page tables or to make up for another gather: for all of it at once,
 * or at the end of the VMA, too.
 */
#define MN_GATHER_FLUSHES \
	(IS_ENABLED(CONFIG_MMU_GATHER_MERGE_VMAS) ? 1UL : 2UL)

#if TREE < 703
/* Gathers that meet flush where they have looked. */
#define MN_NESTED_IS_EXACT	true
#else
/* Gathers that meet flush where they have looked, unless page sizes matter. */
#define MN_NESTED_IS_EXACT	!IS_ENABLED(CONFIG_MMU_GATHER_PAGE_SIZE)
#endif

struct mn_test {
	struct mm_struct *mm;
	struct shadow_tlb *dev;
};

static struct mn_test *mn_test(struct kunit *test)
{
	return test->priv;
}

/* The end of what is announced when nobody knows what was looked at. */
static unsigned long mn_everything(struct mm_struct *mm)
{
#if TREE < 612
	return ALIGN(mm->task_size, PGDIR_SIZE);
#else
	return ULONG_MAX;
#endif
}

static struct mm_struct *mn_new_mm(void)
{
	struct mm_struct *mm = mm_alloc();

	if (mm) {
		arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
		mm->task_size = TASK_SIZE;
	}
	return mm;
}

static int mn_init(struct kunit *test)
{
	struct mn_test *ctx;

	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	ctx->mm = mn_new_mm();
	if (!ctx->mm)
		return -ENOMEM;
	kthread_use_mm(ctx->mm);
	test->priv = ctx;
	return 0;
}

static int mn_init_bound(struct kunit *test)
{
	struct mn_test *ctx;
	int ret;

	ret = mn_init(test);
	if (ret)
		return ret;
	ctx = mn_test(test);
	ctx->dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
	return PTR_ERR_OR_ZERO(ctx->dev);
}

static void mn_exit(struct kunit *test)
{
	struct mn_test *ctx = mn_test(test);

	if (!ctx)
		return;
	if (!IS_ERR_OR_NULL(ctx->dev))
		shadow_tlb_unbind(ctx->dev);
	/* A case that gave up took its thread, and the mm with it. */
	if (current->mm == ctx->mm) {
		kthread_unuse_mm(ctx->mm);
		mmput(ctx->mm);
	}
}

/* Operations on the mm of the case. */

static unsigned long mn_map_at(unsigned long addr, unsigned long len,
			       unsigned long flags)
{
	return vm_mmap(NULL, addr, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
		       MAP_FIXED | flags, 0);
}

static int mn_write(unsigned long addr, unsigned long len)
{
	unsigned long end = addr + len;

	for (; addr < end; addr += PAGE_SIZE)
		if (put_user(1UL, (unsigned long __user *)addr))
			return -EFAULT;
	return 0;
}

static int mn_read(unsigned long addr, unsigned long len)
{
	return fault_in_readable((const char __user *)addr, len) ? -EFAULT : 0;
}

static struct file *mn_shmem_file(unsigned long len)
{
#if TREE < 703
	return shmem_file_setup("mn_test", len, 0);
#else
	return shmem_file_setup("mn_test", len, EMPTY_VMA_FLAGS);
#endif
}

static int mn_mprotect(struct mm_struct *mm, unsigned long start,
		       unsigned long len, unsigned long set,
		       unsigned long clear)
{
	struct vm_area_struct *vma, *prev = NULL;
#if TREE >= 612
	struct vma_iterator vmi;
#endif
	struct mmu_gather tlb;
	int ret = -ENOMEM;

	mmap_write_lock(mm);
	vma = find_vma_prev(mm, start, &prev);
	if (vma && vma->vm_start <= start) {
		if (start > vma->vm_start)
			prev = vma;
		tlb_gather_mmu(&tlb, mm);
#if TREE < 612
		ret = mprotect_fixup(&tlb, vma, &prev, start, start + len,
				     (vma->vm_flags | set) & ~clear);
#else
		vma_iter_init(&vmi, mm, start);
		vma_find(&vmi, start + len);
		ret = mprotect_fixup(&vmi, &tlb, vma, &prev, start, start + len,
				     (vma->vm_flags | set) & ~clear);
#endif
		tlb_finish_mmu(&tlb);
	}
	mmap_write_unlock(mm);
	return ret;
}

/* What mremap() does, less its argument checks. */
static int mn_mremap(struct mm_struct *mm, unsigned long old,
		     unsigned long len, unsigned long new)
{
	struct vm_area_struct *vma, *new_vma;
	bool need_rmap_locks;
	unsigned long moved = 0;

	mmap_write_lock(mm);
	vma = vma_lookup(mm, old);
#if TREE >= 612
	if (vma)
		vma_start_write(vma);
#endif
#if TREE < 612
#if COPY_VMA_KEEPS_SOURCE
	new_vma = vma ? copy_vma(&vma, new, len, linear_page_index(vma, old),
				 &need_rmap_locks, false) : NULL;
#else
	new_vma = vma ? copy_vma(&vma, new, len, linear_page_index(vma, old),
				 &need_rmap_locks) : NULL;
#endif
#elif TREE < 703
	new_vma = vma ? copy_vma(&vma, new, len, linear_page_index(vma, old),
				 &need_rmap_locks, false) : NULL;
#else
	new_vma = vma ? copy_vma(&vma, new, len, linear_page_index(vma, old),
				 __linear_anon_page_index(vma, old),
				 &need_rmap_locks, false) : NULL;
#endif
	if (new_vma) {
#if TREE >= 703
		PAGETABLE_MOVE(pmc, vma, new_vma, old, new, len);

		pmc.need_rmap_locks = need_rmap_locks;
#endif
		vm_stat_account(mm, new_vma->vm_flags, len >> PAGE_SHIFT);
#if TREE < 612
		moved = move_page_tables(vma, old, new_vma, new, len,
					 need_rmap_locks);
#elif TREE < 703
		moved = move_page_tables(vma, old, new_vma, new, len,
					 need_rmap_locks, false);
#else
		moved = move_page_tables(&pmc);
#endif
	}
	mmap_write_unlock(mm);
	return moved == len ? 0 : -ENOMEM;
}

/*
 * A process that shares its pages with the case, copy on write.  It writes to
 * @len bytes at @addr of its own address space, and sleeps.
 */
struct mn_child {
	struct completion ready;
	struct completion leave;
	struct completion left;
	unsigned long addr, len;
#if TREE < 612
	unsigned long mm_flags;
#endif
	struct mm_struct *mm;
	pid_t pid;
	bool alive;
};

static int mn_child_run(void *data)
{
	struct mn_child *child = data;

	child->mm = current->mm;
#if TREE < 612
	child->mm_flags = current->mm->flags;
#endif
	mn_write(child->addr, child->len);
	complete(&child->ready);
	wait_for_completion(&child->leave);
	complete(&child->left);
	do_exit(0);
}

static int mn_fork(struct mn_child *child)
{
	struct kernel_clone_args args = {
		.flags = CLONE_FS | CLONE_FILES | CLONE_UNTRACED,
		.exit_signal = SIGCHLD,
		.fn = mn_child_run,
		.fn_arg = child,
	};
	pid_t pid;

	init_completion(&child->ready);
	init_completion(&child->leave);
	init_completion(&child->left);
	pid = kernel_clone(&args);
	if (pid < 0)
		return pid;
	wait_for_completion(&child->ready);
	child->pid = pid;
	child->alive = true;
	return 0;
}

static void mn_child_leave(struct mn_child *child)
{
	if (!child->alive)
		return;
	complete(&child->leave);
	wait_for_completion(&child->left);
	child->alive = false;
}

/* What the device does and has. */

static int mn_dev_use(struct kunit *test, unsigned long addr,
		      unsigned long len)
{
	unsigned long end = addr + len;
	int ret = 0;

	for (; addr < end; addr += PAGE_SIZE)
		ret = ret ?: shadow_tlb_access(mn_test(test)->dev, addr, false);
	return ret;
}

static unsigned int mn_dev_has(struct kunit *test, unsigned long addr,
			       unsigned long len)
{
	unsigned long end = addr + len;
	unsigned int cached = 0;

	for (; addr < end; addr += PAGE_SIZE)
		cached += shadow_tlb_cached(mn_test(test)->dev, addr);
	return cached;
}

static unsigned long mn_calls(struct kunit *test)
{
	return shadow_tlb_read_stats(mn_test(test)->dev).calls;
}

/* Calls since @from with exactly this range. */
static unsigned int mn_calls_with(struct kunit *test, unsigned long from,
				  unsigned long start, unsigned long len)
{
	struct shadow_tlb_call call;
	unsigned int found = 0;

	for (; shadow_tlb_call(mn_test(test)->dev, from, &call); from++)
		found += call.start == start && call.end == start + len;
	return found;
}

/* Calls since @from that reach outside a range. */
static unsigned int mn_calls_outside(struct kunit *test, unsigned long from,
				     unsigned long start, unsigned long len)
{
	struct shadow_tlb_call call;
	unsigned int found = 0;

	for (; shadow_tlb_call(mn_test(test)->dev, from, &call); from++)
		found += call.start < start || call.end > start + len;
	return found;
}

#if TREE < 703
/* The calls since @from: one, with exactly this range. */
static void mn_expect_flushed(struct kunit *test, unsigned long from,
			      unsigned long start, unsigned long len)
{
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, from, start, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - from, 1UL);
}
#else
/*
 * The calls since @from, where more may be announced than has changed, and some of
 * it twice.  None of it is left out, as far as it is known what was announced.
 */
static void mn_expect_flushed(struct kunit *test, unsigned long from,
			      unsigned long start, unsigned long len)
{
	unsigned long calls = mn_calls(test) - from, end = start, i, nr;
	struct shadow_tlb_call call;

	KUNIT_EXPECT_GE(test, calls, 1UL);
	if (calls > SHADOW_TLB_LOG)
		return;
	/* In any order: what one call adds, the next one may go on from. */
	for (i = 0; i < calls; i++)
		for (nr = from; shadow_tlb_call(mn_test(test)->dev, nr, &call);
		     nr++)
			if (call.start <= end)
				end = max(end, call.end);
	KUNIT_EXPECT_GE(test, end, start + len);
}
#endif

#if TREE < 612
/*
 * Entries of the device's page table that are not as those of the CPUs.  A walk
 * sets accessed bits.  With PTI, user mappings are not executable for the CPU in
 * the kernel; they are for a device.
 */
static unsigned int mn_top_level_differs(struct mm_struct *mm, pgd_t *pgd)
{
	unsigned int differs = 0;
#ifdef CONFIG_ARCH_HAS_DEVICE_PGD
	unsigned int i;

	for (i = 0; i < PGD_KERNEL_START; i++)
		differs += pgd_val(pgd[i]) & _PAGE_NX ||
			   (pgd_val(pgd[i]) ^ pgd_val(mm->pgd[i])) &
			   ~(_PAGE_NX | _PAGE_ACCESSED);
	for (; i < PTRS_PER_PGD; i++)
		differs += pgd_val(pgd[i]) != 0;
#endif
	return differs;
}
#endif

/* The guarantee, after any operation. */
static void mn_expect_clean(struct kunit *test)
{
	struct shadow_tlb *dev = mn_test(test)->dev;
	struct shadow_tlb_stats stats;

#if TREE >= 612
	/* Page tables are freed by RCU. */
	rcu_barrier();
#endif
	stats = shadow_tlb_read_stats(dev);
	KUNIT_EXPECT_EQ(test, stats.freed_pages, 0UL);
	KUNIT_EXPECT_EQ(test, stats.freed_tables, 0UL);
	KUNIT_EXPECT_EQ(test, stats.bad_ranges, 0UL);
	KUNIT_EXPECT_EQ(test, stats.stale_used, 0UL);
	KUNIT_EXPECT_EQ(test, shadow_tlb_stale(dev), 0U);
	KUNIT_EXPECT_EQ(test, shadow_tlb_touch(dev), 0U);
#if TREE < 612
	KUNIT_EXPECT_EQ(test, mn_top_level_differs(dev->mm, dev->pgd), 0U);
#endif
}

/* Translations that calls since @from dropped before they had changed. */
static unsigned int mn_calls_early(struct kunit *test, unsigned long from)
{
	struct shadow_tlb_call call;
	unsigned int early = 0;

	for (; shadow_tlb_call(mn_test(test)->dev, from, &call); from++)
		early += call.unchanged;
	return early;
}

/*
 * The calls since @from, of operations that flush with the page table lock held:
 * not before the entries changed, and not after invalidate_range_end().
 */
static void mn_expect_in_time(struct kunit *test, unsigned long from)
{
	struct shadow_tlb_call call;
	unsigned int late = 0;

	KUNIT_EXPECT_EQ(test, mn_calls_early(test, from), 0U);
	for (; shadow_tlb_call(mn_test(test)->dev, from, &call); from++)
		late += call.outside;
	KUNIT_EXPECT_EQ(test, late, 0U);
}

/* Map, populate, and let the device load @len bytes at @addr. */
static void mn_prepare(struct kunit *test, unsigned long addr,
		       unsigned long len)
{
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, len, 0), addr);
	KUNIT_ASSERT_EQ(test, mn_write(addr, len), 0);
	/* Otherwise a CPU can keep new pages for the LRU, and they are freed late. */
	lru_add_drain_all();
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, len), 0);
	KUNIT_ASSERT_EQ(test, (unsigned long)mn_dev_has(test, addr, len),
			len >> PAGE_SHIFT);
}

/* The sites. */

static void mn_munmap(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, MN_GATHER_FLUSHES);
	mn_expect_clean(test);
}

static void mn_munmap_of_a_part(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 8 * PAGE_SIZE, calls;
	unsigned long hole = addr + 2 * PAGE_SIZE, hole_len = 3 * PAGE_SIZE;

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(hole, hole_len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, hole, hole_len), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 5U);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, hole, hole_len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

/* More pages than a gather takes: it flushes and frees on the way. */
#define MN_MANY		12000UL

static void mn_munmap_of_many_pages(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = MN_MANY * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	KUNIT_ASSERT_EQ(test, mn_map_at(addr, len, 0), addr);
	do_madvise(mm, addr, len, MADV_NOHUGEPAGE);
	KUNIT_ASSERT_EQ(test, mn_write(addr, len), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, 4 * PAGE_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_GT(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

/*
 * The pages are fewer, but each has a page table, which is gathered, too: with as
 * many others as one page has room for.
 */
static void mn_munmap_of_many_page_tables(struct kunit *test)
{
	unsigned long nr = max(MN_MANY / 2, PAGE_SIZE / 7);
	unsigned long addr = TEST_BASE, len = nr * PMD_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned long i;

	KUNIT_ASSERT_EQ(test, mn_map_at(addr, len, 0), addr);
	do_madvise(mm, addr, len, MADV_NOHUGEPAGE);
	for (i = 0; i < len; i += PMD_SIZE)
		KUNIT_ASSERT_EQ(test, mn_write(addr + i, PAGE_SIZE), 0);
	for (i = 0; i < 4 * PMD_SIZE; i += PMD_SIZE)
		KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr + i, PAGE_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_GT(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

#if TREE < 612 || TREE >= 703
/*
 * One page table is freed, and that beside it stays: the range is that of the
 * freed one, and the pages that were in the other.
 */
static void mn_munmap_beside_a_freed_table(struct kunit *test)
{
	unsigned long edge = TEST_BASE + PMD_SIZE, len = 4 * PAGE_SIZE;
	unsigned long addr = edge - 2 * PAGE_SIZE, calls;

	mn_prepare(test, addr - PAGE_SIZE, PAGE_SIZE + len);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr - PAGE_SIZE, PAGE_SIZE),
			1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr,
					       2 * PAGE_SIZE + PMD_SIZE), 0U);
	mn_expect_clean(test);

	/* The other way round. */
	edge += 4 * PMD_SIZE;
	addr = edge - 2 * PAGE_SIZE;
	mn_prepare(test, addr, len + PAGE_SIZE);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr + len, PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, edge - PMD_SIZE,
					       PMD_SIZE + 2 * PAGE_SIZE), 0U);
	mn_expect_clean(test);
}
#endif

static int mn_pfn_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct page *pages = file->private_data;

	return remap_pfn_range(vma, vma->vm_start, page_to_pfn(pages),
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static const struct file_operations mn_pfn_fops = {
	.mmap = mn_pfn_mmap,
};

/* A mapping as drivers make them is flushed at its end, not with others. */
static void mn_pfn_mapping(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct page *pages;
	struct file *file;

	mn_prepare(test, addr - len, len);
	pages = alloc_pages(GFP_KERNEL | __GFP_ZERO, 2);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	file = anon_inode_getfile("mn_test", &mn_pfn_fops, pages, O_RDWR);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_ASSERT_EQ(test, vm_mmap(file, addr, len, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mprotect(mm, addr, len, 0, VM_WRITE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);

	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	calls = mn_calls(test);
	mmap_read_lock(mm);
#if TREE < 703
	zap_vma_ptes(vma_lookup(mm, addr), addr, len);
#else
	zap_special_vma_range(vma_lookup(mm, addr), addr, len);
#endif
	mmap_read_unlock(mm);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);

	/* Pages of the mapping in front of it must not be freed earlier. */
	KUNIT_EXPECT_EQ(test, vm_munmap(addr - len, 2 * len), 0);
	mn_expect_clean(test);
	fput(file);
	__free_pages(pages, 2);
}

static void mn_madvise_dontneed(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 8 * PAGE_SIZE, calls;
	unsigned long hole = addr + PAGE_SIZE, hole_len = 2 * PAGE_SIZE;

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mn_test(test)->mm, hole, hole_len,
					 MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, hole, hole_len), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 6U);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, hole, hole_len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

/* As drivers do that take pages back, whoever runs. */
static void mn_zap(struct mm_struct *mm, unsigned long addr, unsigned long len)
{
	mmap_read_lock(mm);
#if TREE < 612
	zap_page_range(vma_lookup(mm, addr), addr, len);
#elif TREE < 703
	zap_page_range_single(vma_lookup(mm, addr), addr, len, NULL);
#else
	zap_vma_range(vma_lookup(mm, addr), addr, len);
#endif
	mmap_read_unlock(mm);
}

/* No CPU has anything to flush if the process runs on none. */
static void mn_zap_of_a_process_on_no_cpu(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 6 * PAGE_SIZE;
	struct mm_struct *mm = mn_test(test)->mm, *other = mn_new_mm();
#if TREE >= 703
#ifdef CONFIG_RISCV
	static struct cpumask cpus;
#endif
#endif

	KUNIT_ASSERT_NOT_NULL(test, other);
	mn_prepare(test, addr, len);
	kthread_unuse_mm(mm);
	kthread_use_mm(other);
#if TREE >= 703
#ifdef CONFIG_RISCV
	/* A switch of processes does this on CPUs without ASIDs. */
	cpumask_copy(&cpus, mm_cpumask(mm));
	cpumask_clear(mm_cpumask(mm));
#endif
#endif
	mn_zap(mm, addr, len);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
#if TREE >= 703
#ifdef CONFIG_RISCV
	cpumask_copy(mm_cpumask(mm), &cpus);
	flush_tlb_mm(mm);
#endif
#endif
	kthread_unuse_mm(other);
	mmput(other);
	kthread_use_mm(mm);
	mn_expect_clean(test);
}

static void mn_zap_page_range(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 8 * PAGE_SIZE, calls;
	unsigned long hole = addr + PAGE_SIZE, hole_len = 2 * PAGE_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	mn_zap(mm, hole, hole_len);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, hole, hole_len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 6U);
	mn_expect_clean(test);
}

static void mn_mprotect_down_and_up(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mprotect(mm, addr, len, 0, VM_WRITE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, shadow_tlb_access(mn_test(test)->dev, addr, true),
			-EFAULT);

	/* More rights than before: what the device has is still true. */
	KUNIT_EXPECT_EQ(test, mn_mprotect(mm, addr, len, VM_WRITE, 0), 0);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	KUNIT_EXPECT_EQ(test, shadow_tlb_access(mn_test(test)->dev, addr, true),
			0);
	mn_expect_clean(test);
}

static void mn_fork_write_protects(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mn_child child = { };

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_expect_flushed(test, calls, addr, len);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, shadow_tlb_access(mn_test(test)->dev, addr, true),
			-EFAULT);
	mn_expect_clean(test);
	mn_child_leave(&child);
}

#if defined(CONFIG_MEM_SOFT_DIRTY) && defined(CONFIG_PROC_PAGE_MONITOR)
/* Write a character to a file in /proc/PID. */
static int mn_write_proc(pid_t pid, const char *name, char what)
{
	struct file_system_type *type = get_fs_type("proc");
	unsigned long addr = TEST_BASE + PUD_SIZE;
	struct vfsmount *proc;
	struct file *file;
	loff_t pos = 0;
	char path[32];
	int ret;

	if (!type)
		return -ENODEV;
	proc = kern_mount(type);
	put_filesystem(type);
	if (IS_ERR(proc))
		return PTR_ERR(proc);
	snprintf(path, sizeof(path), "%d/%s", pid, name);
	file = file_open_root_mnt(proc, path, O_WRONLY, 0);
	ret = PTR_ERR_OR_ZERO(file);
	if (!ret) {
		if (mn_map_at(addr, PAGE_SIZE, 0) != addr ||
		    put_user(what, (char __user *)addr))
			ret = -EFAULT;
		else
			ret = vfs_write(file, (char __user *)addr, 1, &pos);
		vm_munmap(addr, PAGE_SIZE);
		fput(file);
		flush_delayed_fput();
	}
	kern_unmount(proc);
	return ret;
}
#endif

/*
 * clear_refs is for processes, and the case is none: its child is.  The child
 * sleeps, so that its page table can be walked from here.
 */
static void mn_soft_dirty_bits_cleared(struct kunit *test)
{
#if defined(CONFIG_MEM_SOFT_DIRTY) && defined(CONFIG_PROC_PAGE_MONITOR)
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE;
	struct mn_test *ctx = mn_test(test);
	struct shadow_tlb *mine = ctx->dev;
	struct mn_child child = { };
#if TREE < 703
	struct mmu_gather outer;
#endif

	/* The child writes, so that its pages are its own, and writable. */
	child.addr = addr;
	child.len = len;
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, len, 0), addr);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	ctx->dev = shadow_tlb_bind(child.mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_write_proc(child.pid, "clear_refs", '4'), 1);
	mn_expect_flushed(test, 0, addr, len);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
#if TREE < 703
	mn_expect_in_time(test, 0);
	/* Nothing was written since: nothing to tell. */
	KUNIT_EXPECT_EQ(test, mn_write_proc(child.pid, "clear_refs", '4'), 1);
	KUNIT_EXPECT_EQ(test, mn_calls(test), 1UL);
	/* Unless somebody has not flushed what he changed. */
	tlb_gather_mmu(&outer, child.mm);
	KUNIT_EXPECT_EQ(test, mn_write_proc(child.pid, "clear_refs", '4'), 1);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, 1, 0,
					    mn_everything(child.mm)), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test), 2UL);
	tlb_finish_mmu(&outer);
#endif
	shadow_tlb_unbind(ctx->dev);
	ctx->dev = mine;
	mn_child_leave(&child);
#else
	kunit_skip(test, "no CONFIG_MEM_SOFT_DIRTY");
#endif
}

/* As DRM drivers do, to see what is written next. */
static void mn_shared_mapping_write_protected(struct kunit *test)
{
#ifdef CONFIG_MAPPING_DIRTY_HELPERS
	unsigned long addr = TEST_BASE, len = 8 * PAGE_SIZE, calls;
	struct file *file = mn_shmem_file(len);
#if TREE < 612
	struct mmu_gather outer;
#endif

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, len, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, wp_shared_mapping_range(file->f_mapping, 2, 3),
			3UL);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr + 2 * PAGE_SIZE,
					    3 * PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 5U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);

#if TREE < 612
	/* There is nothing to do, unless somebody has not flushed yet. */
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, wp_shared_mapping_range(file->f_mapping, 2, 3),
			0UL);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 0UL);
	tlb_gather_mmu(&outer, mn_test(test)->mm);
	KUNIT_EXPECT_EQ(test, wp_shared_mapping_range(file->f_mapping, 2, 3),
			0UL);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr + 2 * PAGE_SIZE,
					    3 * PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	tlb_finish_mmu(&outer);
#endif

	/*
	 * A dirty page is flushed with the page table lock held.  Of several
	 * each can have a call of its own: a task that ought to be scheduled
	 * gives the lock back in between.
	 */
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mn_test(test)->mm, addr, PAGE_SIZE,
					 MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mn_test(test)->mm, addr, len,
					 MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
	fput(file);
#else
	kunit_skip(test, "no CONFIG_MAPPING_DIRTY_HELPERS");
#endif
}

/* As write-back does, to see what is written during it. */
static void mn_shared_page_cleaned(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct file *file = mn_shmem_file(len);
	struct folio *folio;

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, len, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	folio = filemap_lock_folio(file->f_mapping, 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL(folio));
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, folio_mkclean(folio), 1);
	folio_unlock(folio);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr + PAGE_SIZE,
					    PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 3U);
	mn_expect_clean(test);
	fput(file);
}

static void mn_numa_hinting(struct kunit *test)
{
#ifdef CONFIG_NUMA_BALANCING
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	int mode = sysctl_numa_balancing_mode;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare(test, addr, len);
	lru_add_drain_all();
	calls = mn_calls(test);
	/* With one user, pages that are on its node are left alone. */
	mmget(mm);
	set_numabalancing_state(true);
	mmap_read_lock(mm);
	KUNIT_EXPECT_EQ(test, change_prot_numa(vma_lookup(mm, addr), addr,
					       addr + len), 4UL);
	mmap_read_unlock(mm);
	set_numabalancing_state(mode);
	mmput(mm);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
#else
	kunit_skip(test, "no CONFIG_NUMA_BALANCING");
#endif
}

static void mn_cow_after_fork(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mn_child child = { };

	mn_prepare(test, addr, len);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PAGE_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 3U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	mn_child_leave(&child);
}

static void mn_write_fault_on_the_zero_page(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;

	KUNIT_ASSERT_EQ(test, mn_map_at(addr, PAGE_SIZE, 0), addr);
	KUNIT_ASSERT_EQ(test, mn_read(addr, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, PAGE_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PAGE_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

/*
 * Write protection by userfaultfd may leave its flush to a gather that is still
 * open: a page must not be copied with the old entry in a TLB.
 */
static void mn_write_before_a_pending_flush(struct kunit *test)
{
#ifdef CONFIG_HAVE_ARCH_USERFAULTFD_WP
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_child child = { };
	struct mmu_gather outer;
	struct shadow_tlb_call first = { };

	mn_prepare(test, addr, len);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	mmap_write_lock(mm);
#if TREE < 612
	vma_lookup(mm, addr)->vm_flags |= VM_UFFD_WP;
#else
	vm_flags_set(vma_lookup(mm, addr), VM_UFFD_WP);
#endif
	mmap_write_unlock(mm);
	tlb_gather_mmu(&outer, mm);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	/* Before the copy, and when the copy takes the place of the page. */
	shadow_tlb_call(mn_test(test)->dev, calls, &first);
	KUNIT_EXPECT_EQ(test, first.unchanged, 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 2U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 2UL);
	tlb_finish_mmu(&outer);
	mmap_write_lock(mm);
#if TREE < 612
	vma_lookup(mm, addr)->vm_flags &= ~VM_UFFD_WP;
#else
	vm_flags_clear(vma_lookup(mm, addr), VM_UFFD_WP);
#endif
	mmap_write_unlock(mm);
	mn_expect_clean(test);
	mn_child_leave(&child);
#else
	kunit_skip(test, "no write protection by userfaultfd");
#endif
}

static void mn_mremap_of_pages(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	unsigned long to = addr + PMD_SIZE;

	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	KUNIT_ASSERT_EQ(test, mn_mremap(mn_test(test)->mm, addr, len, to), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, to, len), 0);
	mn_expect_clean(test);
}

/* A move of whole page tables: the device has pages and the table itself. */
static void mn_move_table(struct kunit *test, unsigned long size)
{
	unsigned long addr = TEST_BASE, to = addr + 2 * PUD_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	KUNIT_ASSERT_EQ(test, mn_map_at(addr, size, 0), addr);
	/* The alignment is what counts; nobody is to make it huge. */
	do_madvise(mm, addr, size, MADV_NOHUGEPAGE);
	KUNIT_ASSERT_EQ(test, mn_write(addr, 4 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, 4 * PAGE_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_ASSERT_EQ(test, mn_mremap(mm, addr, size, to), 0);
	mn_expect_flushed(test, calls, addr, size);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, 4 * PAGE_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, size), 0);
	mn_expect_clean(test);
}

static void mn_mremap_of_a_page_table(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_HAVE_MOVE_PMD))
		kunit_skip(test, "this architecture moves no page tables");
	mn_move_table(test, PMD_SIZE);
}

static void mn_mremap_of_a_pmd_table(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_HAVE_MOVE_PUD))
		kunit_skip(test, "this architecture moves no PMD tables");
	mn_move_table(test, PUD_SIZE);
}

/*
 * Another CPU zaps what a file is mapped by, while mremap() allocates the first
 * page table for the new place.  That needs i_mmap_rwsem only, which mremap()
 * does not hold there.
 */
struct mn_zapper {
	struct task_struct *mover;
	struct file *file;
	void (*zap)(struct mn_zapper *zapper);
	bool held, zapped;
	struct completion go, done;
};

/* A page-table page is the first zeroed page that mremap() allocates. */
static void mn_hold_mover(void *data, struct page *page, unsigned int order,
			  gfp_t gfp, int migratetype)
{
	unsigned long end = jiffies + 10 * HZ;
	struct mn_zapper *zapper = data;

	if (current != zapper->mover || zapper->held || order ||
	    !(gfp & __GFP_ZERO))
		return;
	zapper->held = true;
	complete(&zapper->go);
	/* What the zapper has done comes before its release. */
	while (!smp_load_acquire(&zapper->zapped) && time_before(jiffies, end))
		cpu_relax();
}

/* The case stays on its CPU.  Returns another one, for a thread of its own. */
static unsigned int mn_stay_on_cpu(void)
{
	unsigned int here = get_cpu();

	put_cpu();
	set_cpus_allowed_ptr(current, cpumask_of(here));
	return here;
}

static unsigned int mn_other_cpu(void)
{
	return cpumask_any_but(cpu_online_mask, mn_stay_on_cpu());
}

static int mn_zapper_run(void *data)
{
	struct mn_zapper *zapper = data;

	wait_for_completion(&zapper->go);
	if (zapper->held)
		zapper->zap(zapper);
	/* The mover acquires it, and sees what was zapped. */
	smp_store_release(&zapper->zapped, true);
	kthread_complete_and_exit(&zapper->done, 0);
}

static void mn_mremap_while_zapped(struct kunit *test, unsigned long addr,
				   unsigned long len, unsigned long to,
				   struct mn_zapper *zapper)
{
	struct mm_struct *mm = mn_test(test)->mm;
	struct task_struct *task;

	if (IS_ENABLED(CONFIG_PPC_BOOK3S_64))
		kunit_skip(test, "a page has several page tables here, and is there");
	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
	init_completion(&zapper->go);
	init_completion(&zapper->done);
	task = kthread_run_on_cpu(mn_zapper_run, zapper, mn_other_cpu(),
				  "mn_zapper/%u");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	KUNIT_EXPECT_EQ(test, register_trace_mm_page_alloc(mn_hold_mover,
							   zapper), 0);
	zapper->mover = current;
	KUNIT_EXPECT_EQ(test, mn_mremap(mm, addr, len, to), 0);
	zapper->mover = NULL;
	unregister_trace_mm_page_alloc(mn_hold_mover, zapper);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_TRUE(test, zapper->held);
	complete(&zapper->go);
	wait_for_completion(&zapper->done);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, 4 * PAGE_SIZE), 0U);
	mn_expect_clean(test);
}

/* The folio of the page that is mapped at an address. */
static struct folio *mn_lock_folio(unsigned long addr)
{
	struct page *page;

	if (get_user_pages_fast(addr, 1, 0, &page) != 1)
		return NULL;
	folio_lock(page_folio(page));
	return page_folio(page);
}

static void mn_unlock_folio(struct folio *folio)
{
	folio_unlock(folio);
	folio_put(folio);
}

/* Transparent huge pages. */

static bool mn_is_thp(struct mm_struct *mm, unsigned long addr)
{
	pmd_t *pmd;

	pmd = pmd_offset(pud_offset(p4d_offset(pgd_offset(mm, addr), addr),
				    addr), addr);
	return pmd_trans_huge(*pmd);
}

/* With 64 KiB pages, a huge one has 512 MiB. */
static void mn_need_thp(struct kunit *test)
{
	if (!has_transparent_hugepage())
		kunit_skip(test, "no transparent huge pages");
	if (PMD_SIZE >> PAGE_SHIFT > totalram_pages() / 16)
		kunit_skip(test, "huge pages are too large for this memory");
}

static void mn_prepare_thp(struct kunit *test, unsigned long addr)
{
	struct mm_struct *mm = mn_test(test)->mm;

	mn_need_thp(test);
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, PMD_SIZE, 0), addr);
	KUNIT_ASSERT_EQ(test, do_madvise(mm, addr, PMD_SIZE, MADV_HUGEPAGE), 0);
	KUNIT_ASSERT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	if (!mn_is_thp(mm, addr))
		kunit_skip(test, "no huge page to be had");
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
}

/* The same memory in small pieces. */
static void mn_split_mapping(struct mm_struct *mm, unsigned long addr)
{
	mmap_read_lock(mm);
#if TREE < 703
	split_huge_pmd_address(vma_lookup(mm, addr), addr, false, NULL);
#else
	split_huge_pmd_address(vma_lookup(mm, addr), addr, false);
#endif
	mmap_read_unlock(mm);
}

static void mn_thp_zap(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;

	mn_prepare_thp(test, addr);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mn_test(test)->mm, addr, PMD_SIZE,
					 MADV_DONTNEED), 0);
	mn_expect_flushed(test, calls, addr, PMD_SIZE);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
}

static void mn_thp_split(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct folio *folio;

	mn_prepare_thp(test, addr);
	lru_add_drain_all();
	folio = mn_lock_folio(addr);
	KUNIT_ASSERT_NOT_NULL(test, folio);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, split_huge_page(&folio->page), 0);
	mn_unlock_folio(folio);
	KUNIT_EXPECT_FALSE(test, mn_is_thp(mm, addr));
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, PMD_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

static void mn_thp_cow_after_fork(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mn_child child = { };

	mn_prepare_thp(test, addr);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PAGE_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	mn_child_leave(&child);
}

static void mn_thp_mremap(struct kunit *test)
{
	unsigned long addr = TEST_BASE, to = addr + PUD_SIZE, calls;

	mn_prepare_thp(test, addr);
	calls = mn_calls(test);
	KUNIT_ASSERT_EQ(test, mn_mremap(mn_test(test)->mm, addr, PMD_SIZE, to),
			0);
	KUNIT_EXPECT_TRUE(test, mn_is_thp(mn_test(test)->mm, to));
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, PMD_SIZE), 0);
}

/* The huge zero page gives way to small ones. */
static void mn_thp_write_to_the_zero_page(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_need_thp(test);
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, PMD_SIZE, 0), addr);
	KUNIT_ASSERT_EQ(test, do_madvise(mm, addr, PMD_SIZE, MADV_HUGEPAGE), 0);
	KUNIT_ASSERT_EQ(test, mn_read(addr, PAGE_SIZE), 0);
	if (!mn_is_thp(mm, addr))
		kunit_skip(test, "no huge zero page to be had");
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

/* Small pages become a huge one: pages and their page table are freed. */
static void mn_thp_collapse(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_need_thp(test);
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, PMD_SIZE, 0), addr);
	KUNIT_ASSERT_EQ(test, do_madvise(mm, addr, PMD_SIZE, MADV_NOHUGEPAGE),
			0);
	KUNIT_ASSERT_EQ(test, mn_write(addr, PMD_SIZE), 0);
	KUNIT_ASSERT_EQ(test, do_madvise(mm, addr, PMD_SIZE, MADV_HUGEPAGE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	calls = mn_calls(test);
	if (do_madvise(mm, addr, PMD_SIZE, MADV_COLLAPSE))
		kunit_skip(test, "no huge page to be had");
	KUNIT_EXPECT_TRUE(test, mn_is_thp(mm, addr));
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

static void mn_thp_soft_dirty_bits_cleared(struct kunit *test)
{
#if defined(CONFIG_MEM_SOFT_DIRTY) && defined(CONFIG_PROC_PAGE_MONITOR)
	struct mn_child child = { .addr = TEST_BASE, .len = PAGE_SIZE };
	struct mn_test *ctx = mn_test(test);
	struct shadow_tlb *mine = ctx->dev;
	unsigned long addr = TEST_BASE;

	if (!has_transparent_hugepage())
		kunit_skip(test, "no transparent huge pages");
	/* Nothing is there yet: the child gets a huge page of its own. */
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, PMD_SIZE, 0), addr);
	KUNIT_ASSERT_EQ(test, do_madvise(ctx->mm, addr, PMD_SIZE,
					 MADV_HUGEPAGE), 0);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	if (!mn_is_thp(child.mm, addr)) {
		mn_child_leave(&child);
		kunit_skip(test, "no huge page to be had");
	}
	ctx->dev = shadow_tlb_bind(child.mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_write_proc(child.pid, "clear_refs", '4'), 1);
	KUNIT_EXPECT_TRUE(test, mn_is_thp(child.mm, addr));
#if TREE < 703
	KUNIT_EXPECT_GE(test, mn_calls_with(test, 0, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, 0, addr, PMD_SIZE), 0U);
#else
	mn_expect_flushed(test, 0, addr, PMD_SIZE);
#endif
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
	shadow_tlb_unbind(ctx->dev);
	ctx->dev = mine;
	mn_child_leave(&child);
#else
	kunit_skip(test, "no CONFIG_MEM_SOFT_DIRTY");
#endif
}

static void mn_thp_mprotect(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned int n = 1;

	/* The generic pmdp_invalidate_ad() flushes, and then the gather does. */
#ifndef __HAVE_ARCH_PMDP_INVALIDATE_AD
	n++;
#endif

	mn_prepare_thp(test, addr);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mprotect(mm, addr, PMD_SIZE, 0, VM_WRITE), 0);
	KUNIT_EXPECT_TRUE(test, mn_is_thp(mm, addr));
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), n);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, (unsigned long)n);
	mn_expect_clean(test);
}

/* No page goes: the accessed or the dirty bit does. */
static void mn_thp_aged(struct kunit *test, int advice, unsigned long n)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare_thp(test, addr);
	lru_add_drain_all();
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, PMD_SIZE, advice), 0);
	KUNIT_EXPECT_TRUE(test, mn_is_thp(mm, addr));
	KUNIT_EXPECT_EQ(test, (unsigned long)mn_calls_with(test, calls, addr,
							   PMD_SIZE), n);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, n);
	mn_expect_clean(test);
}

static void mn_thp_madvise_cold(struct kunit *test)
{
#if TREE < 703
	mn_thp_aged(test, MADV_COLD, 2);
#else
	mn_thp_aged(test, MADV_COLD, 1);
#endif
}

static void mn_thp_madvise_free(struct kunit *test)
{
	mn_thp_aged(test, MADV_FREE, 2);
}

static void mn_thp_of_a_file(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct folio *folio;
	struct file *file;
	int ret;

	mn_need_thp(test);
	file = mn_shmem_file(PMD_SIZE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, PMD_SIZE,
				      PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	/* The mapping keeps it. */
	fput(file);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PMD_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	/* Small pages become a huge one: they go, and their page table. */
	calls = mn_calls(test);
	ret = do_madvise(mm, addr, PMD_SIZE, MADV_COLLAPSE);
	if (ret)
		kunit_skip(test, "no huge page to be had: %d", ret);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, PMD_SIZE),
			0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, mn_read(addr, PAGE_SIZE), 0);
	if (!mn_is_thp(mm, addr))
		kunit_skip(test, "the huge page is not mapped by a PMD");
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	/* Write-back makes it read-only. */
	folio = filemap_lock_folio(file->f_mapping, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL(folio));
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, folio_mkclean(folio), 1);
	folio_unlock(folio);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
	/* A part of it goes, and nothing is left: the file has the pages. */
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	calls = mn_calls(test);
	mn_split_mapping(mm, addr);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_clean(test);
}

static void mn_punch(struct mn_zapper *zapper)
{
	vfs_fallocate(zapper->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      0, PMD_SIZE);
}

/* What was a huge page when mremap() looked is nothing when it moves it. */
static void mn_thp_mremap_while_a_hole_is_punched(struct kunit *test)
{
	unsigned long addr = TEST_BASE, to = addr + 2 * PUD_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_zapper zapper = { .zap = mn_punch };
	pmd_t *pmd;

	mn_need_thp(test);
	zapper.file = mn_shmem_file(PMD_SIZE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(zapper.file));
	KUNIT_EXPECT_EQ(test, vm_mmap(zapper.file, addr, PMD_SIZE,
				      PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	/* The mapping keeps it. */
	fput(zapper.file);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PMD_SIZE), 0);
	if (do_madvise(mm, addr, PMD_SIZE, MADV_COLLAPSE) ||
	    mn_read(addr, PAGE_SIZE) || !mn_is_thp(mm, addr))
		kunit_skip(test, "no huge page to be had");
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	mn_mremap_while_zapped(test, addr, PMD_SIZE, to, &zapper);
	pmd = pmd_offset(pud_offset(p4d_offset(pgd_offset(mm, to), to), to),
			 to);
	KUNIT_EXPECT_TRUE(test, pmd_none(*pmd));
	/* A page table at physical address 0 is not to be freed. */
	if (!pmd_none(*pmd))
		pmd_clear(pmd);
}

/* Huge PUDs: 1 GiB of device memory, as a driver maps it. */

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD
static int mn_pud_mmap(struct file *file, struct vm_area_struct *vma)
{
#if TREE < 612
	vma->vm_flags |= VM_PFNMAP | VM_IO | VM_DONTEXPAND;
#else
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND);
#endif
	return 0;
}

static const struct file_operations mn_pud_fops = {
	.mmap = mn_pud_mmap,
};

/* No memory is there: only the device looks at this page table. */
static void mn_prepare_pud(struct kunit *test, unsigned long addr)
{
	unsigned long pfn = ALIGN(max_pfn, PUD_SIZE >> PAGE_SHIFT);
	struct mm_struct *mm = mn_test(test)->mm;
	struct file *file;
	pud_t *pud = NULL;
	p4d_t *p4d;

	file = anon_inode_getfile("[mn_test]", &mn_pud_fops, NULL, O_RDWR);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, PUD_SIZE,
				      PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	fput(file);
	mmap_read_lock(mm);
	p4d = p4d_alloc(mm, pgd_offset(mm, addr), addr);
	if (p4d)
		pud = pud_alloc(mm, p4d, addr);
	if (pud) {
		struct vm_fault vmf = {
			.vma = vma_lookup(mm, addr),
			.address = addr,
			.pud = pud,
		};

		KUNIT_EXPECT_TRUE(test,
#if TREE < 703
				  vmf_insert_pfn_pud(&vmf, pfn_to_pfn_t(pfn),
						     true) == VM_FAULT_NOPAGE);
#else
				  vmf_insert_pfn_pud(&vmf, pfn, true) ==
				  VM_FAULT_NOPAGE);
#endif
	}
	mmap_read_unlock(mm);
	KUNIT_ASSERT_NOT_NULL(test, pud);
	KUNIT_EXPECT_TRUE(test, pud_trans_huge(*pud));
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, 4 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr + PUD_SIZE - PAGE_SIZE,
					 PAGE_SIZE), 0);
}

/* The mapping goes: who split it fills in what is needed. */
static void mn_huge_pud_split(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct vm_area_struct *vma;
	pud_t *pud;

	mn_prepare_pud(test, addr);
	calls = mn_calls(test);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	pud = pud_offset(p4d_offset(pgd_offset(mm, addr), addr), addr);
	split_huge_pud(vma, pud, addr);
	mmap_read_unlock(mm);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PUD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, 4 * PAGE_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

static void mn_huge_pud_mremap(struct kunit *test)
{
	unsigned long addr = TEST_BASE, to = addr + 2 * PUD_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare_pud(test, addr);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mremap(mm, addr, PUD_SIZE, to), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PUD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, 4 * PAGE_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, to, 4 * PAGE_SIZE), 0);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	KUNIT_EXPECT_EQ(test, vm_munmap(to, PUD_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, to, 4 * PAGE_SIZE), 0U);
	mn_expect_clean(test);
}

static void mn_huge_pud_mprotect(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare_pud(test, addr);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mprotect(mm, addr, PUD_SIZE, 0, VM_WRITE), 0);
	mn_expect_flushed(test, calls, addr, PUD_SIZE);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, 4 * PAGE_SIZE), 0U);
	mn_expect_clean(test);
#if TREE < 703
	mn_expect_in_time(test, calls);
#else
	KUNIT_EXPECT_EQ(test, mn_calls_early(test, calls), 0U);
#endif
}

static void mn_truncate(struct mn_zapper *zapper)
{
	unmap_mapping_range(zapper->file->f_mapping, 0, PUD_SIZE, 1);
}

static void mn_huge_pud_mremap_while_truncated(struct kunit *test)
{
	unsigned long addr = TEST_BASE, to = addr + 2 * P4D_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_zapper zapper = { .zap = mn_truncate };
	pud_t *pud;

	mn_prepare_pud(test, addr);
	/* The mapping keeps it. */
	zapper.file = vma_lookup(mm, addr)->vm_file;
	mn_mremap_while_zapped(test, addr, PUD_SIZE, to, &zapper);
	pud = pud_offset(p4d_offset(pgd_offset(mm, to), to), to);
	KUNIT_EXPECT_TRUE(test, pud_none(*pud));
	/* A page table at physical address 0 is not to be freed. */
	if (!pud_none(*pud))
		pud_clear(pud);
}
#else
static void mn_huge_pud_split(struct kunit *test)
{
	kunit_skip(test, "this architecture has no huge PUDs");
}

static void mn_huge_pud_mremap(struct kunit *test)
{
	kunit_skip(test, "this architecture has no huge PUDs");
}

static void mn_huge_pud_mprotect(struct kunit *test)
{
	kunit_skip(test, "this architecture has no huge PUDs");
}

static void mn_huge_pud_mremap_while_truncated(struct kunit *test)
{
	kunit_skip(test, "this architecture has no huge PUDs");
}
#endif

/* hugetlb. The size is that of default_hugepagesz=. */

#ifdef CONFIG_HUGETLB_PAGE
#define HUGE_SIZE	huge_page_size(&default_hstate)
#else
#define HUGE_SIZE	PMD_SIZE
#endif

static unsigned long mn_prepare_hugetlb(struct kunit *test)
{
	unsigned long addr;

	addr = ksys_mmap_pgoff(0, HUGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (IS_ERR_VALUE(addr))
		kunit_skip(test, "no hugetlb pages: boot with hugepages=8");
	KUNIT_ASSERT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, HUGE_SIZE), 0);
	return addr;
}

static void mn_hugetlb_munmap(struct kunit *test)
{
	unsigned long addr, calls;

	addr = mn_prepare_hugetlb(test);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, HUGE_SIZE), 0);
#if TREE < 703
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, MN_GATHER_FLUSHES);
#else
	/* Page tables have another size, so there may be a flush in between. */
	KUNIT_EXPECT_GE(test, mn_calls(test) - calls, MN_GATHER_FLUSHES);
#endif
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, HUGE_SIZE), 0U);
	mn_expect_clean(test);
}

static void mn_hugetlb_cow_after_fork(struct kunit *test)
{
	struct mn_child child = { };
	unsigned long addr, calls;

	addr = mn_prepare_hugetlb(test);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, HUGE_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, HUGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, HUGE_SIZE), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	mn_child_leave(&child);
}

/*
 * The pool is in use, so the page that is copied is none of it, and goes back to
 * the page allocator with the other process.
 */
static void mn_hugetlb_page_freed_after_cow(struct kunit *test)
{
#ifdef CONFIG_HUGETLB_PAGE
	unsigned long overcommit = default_hstate.nr_overcommit_huge_pages;
	unsigned long addr, pool = default_hstate.free_huge_pages * HUGE_SIZE;
	struct mn_child child = { };
	unsigned int i;

	if (pool) {
		addr = ksys_mmap_pgoff(0, pool, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS |
				       MAP_HUGETLB | MAP_POPULATE, -1, 0);
		KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
		KUNIT_ASSERT_EQ(test, mn_write(addr, pool), 0);
	}
	KUNIT_ASSERT_EQ(test, default_hstate.free_huge_pages, 0UL);
	default_hstate.nr_overcommit_huge_pages = 8;
	addr = mn_prepare_hugetlb(test);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, HUGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, default_hstate.surplus_huge_pages, 2UL);
	mn_child_leave(&child);
	/* Its memory goes some time later. */
	for (i = 0; i < 100 && default_hstate.surplus_huge_pages > 1; i++)
		schedule_timeout_uninterruptible(1);
	KUNIT_EXPECT_EQ(test, default_hstate.surplus_huge_pages, 1UL);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, HUGE_SIZE), 0U);
	mn_expect_clean(test);
	default_hstate.nr_overcommit_huge_pages = overcommit;
#else
	kunit_skip(test, "no hugetlb");
#endif
}

static void mn_hugetlb_mprotect(struct kunit *test)
{
	unsigned long addr, calls;

	addr = mn_prepare_hugetlb(test);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mprotect(mn_test(test)->mm, addr, HUGE_SIZE,
					  0, VM_WRITE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, HUGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

/* Pages that move, and page tables that go. */

/* The pages are on either node; there and back, and all have moved. */
static void mn_migrate_all(struct kunit *test)
{
	nodemask_t from, to;

	nodes_clear(from);
	nodes_clear(to);
	node_set(first_online_node, from);
	node_set(next_online_node(first_online_node), to);
	KUNIT_EXPECT_EQ(test, do_migrate_pages(mn_test(test)->mm, &from, &to,
					       MPOL_MF_MOVE_ALL), 0);
	KUNIT_EXPECT_EQ(test, do_migrate_pages(mn_test(test)->mm, &to, &from,
					       MPOL_MF_MOVE_ALL), 0);
}

static void mn_migrate_to_another_node(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;

	if (num_online_nodes() < 2)
		kunit_skip(test, "one node only");
	mn_prepare(test, addr, len);
	calls = mn_calls(test);
	mn_migrate_all(test);
	KUNIT_EXPECT_GE(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, len), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

static void mn_thp_migrate_to_another_node(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;

	if (num_online_nodes() < 2)
		kunit_skip(test, "one node only");
	mn_prepare_thp(test, addr);
	lru_add_drain_all();
	calls = mn_calls(test);
	mn_migrate_all(test);
	KUNIT_EXPECT_GE(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, PMD_SIZE),
			0U);
	mn_expect_clean(test);
}

static void mn_hugetlb_migrate_to_another_node(struct kunit *test)
{
	unsigned long addr, calls;

	if (num_online_nodes() < 2)
		kunit_skip(test, "one node only");
	addr = mn_prepare_hugetlb(test);
	calls = mn_calls(test);
	mn_migrate_all(test);
	KUNIT_EXPECT_GE(test, mn_calls_with(test, calls, addr, HUGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, HUGE_SIZE),
			0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

/*
 * A hugetlb file that two processes map at the same place: they share the page
 * table.  The device has a pointer to it, which it has to lose when the process
 * leaves the table to the other one.
 */
#ifdef CONFIG_ARCH_WANT_HUGE_PMD_SHARE
#define MN_SHARED	ALIGN(TEST_BASE, PUD_SIZE)

static int mn_map_hugetlb_file(struct file *file)
{
	if (vm_mmap(file, MN_SHARED, PUD_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED | MAP_NORESERVE, 0) != MN_SHARED)
		return -ENOMEM;
	return mn_write(MN_SHARED, PAGE_SIZE);
}

/* Returns the other process's mm, or NULL. */
static struct mm_struct *mn_prepare_shared_table(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm, *other = mn_new_mm();
	struct file *file;
	int ret;

	if (!other)
		return NULL;
#if TREE < 703
	file = hugetlb_file_setup("mn_test", PUD_SIZE, VM_NORESERVE,
				  HUGETLB_ANONHUGE_INODE, HPAGE_SHIFT);
#else
	file = hugetlb_file_setup("mn_test", PUD_SIZE,
				  mk_vma_flags(VMA_NORESERVE_BIT),
				  HUGETLB_ANONHUGE_INODE, HPAGE_SHIFT);
#endif
	ret = PTR_ERR_OR_ZERO(file);
	if (!ret) {
		/* The first to map it is the first that rmap finds. */
		ret = mn_map_hugetlb_file(file);
		kthread_unuse_mm(mm);
		kthread_use_mm(other);
		ret = ret ?: mn_map_hugetlb_file(file);
		kthread_unuse_mm(other);
		kthread_use_mm(mm);
		fput(file);
	}
	if (!ret)
		ret = mn_dev_use(test, MN_SHARED, HPAGE_SIZE);
	if (ret) {
		mmput(other);
		return NULL;
	}
	return other;
}

static pud_t mn_shared_pud(struct mm_struct *mm)
{
	pgd_t *pgd = pgd_offset(mm, MN_SHARED);
	p4d_t *p4d = pgd_present(*pgd) ? p4d_offset(pgd, MN_SHARED) : NULL;

	if (!p4d || !p4d_present(*p4d))
		return __pud(0);
	return *pud_offset(p4d, MN_SHARED);
}

static bool mn_table_is_shared(struct mm_struct *a, struct mm_struct *b)
{
	pud_t pud_a = mn_shared_pud(a), pud_b = mn_shared_pud(b);

	return pud_present(pud_a) && pud_present(pud_b) &&
	       pud_pfn(pud_a) == pud_pfn(pud_b);
}

/* What unshares: the table goes when the other process does. */
static void mn_unshare_table(struct kunit *test, void (*op)(struct kunit *test))
{
	struct mm_struct *mm = mn_test(test)->mm, *other;
	unsigned long calls;

	other = mn_prepare_shared_table(test);
	if (!other)
		kunit_skip(test, "no hugetlb pages: boot with hugepages=8");
	KUNIT_EXPECT_TRUE(test, mn_table_is_shared(mm, other));
	calls = mn_calls(test);
	op(test);
	KUNIT_EXPECT_FALSE(test, mn_table_is_shared(mm, other));
#if TREE < 703
	KUNIT_EXPECT_GE(test, mn_calls_with(test, calls, MN_SHARED, PUD_SIZE),
			1U);
#else
	mn_expect_flushed(test, calls, MN_SHARED, PUD_SIZE);
#endif
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, MN_SHARED, HPAGE_SIZE), 0U);
	mmput(other);
	mn_expect_clean(test);
}

static void mn_munmap_shared(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vm_munmap(MN_SHARED, PUD_SIZE), 0);
}

static void mn_mprotect_shared(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, mn_mprotect(mn_test(test)->mm, MN_SHARED,
					  PUD_SIZE, 0, VM_WRITE), 0);
}

static void mn_migrate_shared(struct kunit *test)
{
	mn_migrate_all(test);
}
#endif

static void mn_hugetlb_shared_table_unmapped(struct kunit *test)
{
#ifdef CONFIG_ARCH_WANT_HUGE_PMD_SHARE
	mn_unshare_table(test, mn_munmap_shared);
#else
	kunit_skip(test, "this architecture shares no page tables");
#endif
}

static void mn_hugetlb_shared_table_protected(struct kunit *test)
{
#ifdef CONFIG_ARCH_WANT_HUGE_PMD_SHARE
	mn_unshare_table(test, mn_mprotect_shared);
#else
	kunit_skip(test, "this architecture shares no page tables");
#endif
}

static void mn_hugetlb_shared_table_migrated(struct kunit *test)
{
#ifdef CONFIG_ARCH_WANT_HUGE_PMD_SHARE
	if (num_online_nodes() < 2)
		kunit_skip(test, "one node only");
	mn_unshare_table(test, mn_migrate_shared);
#else
	kunit_skip(test, "this architecture shares no page tables");
#endif
}

/*
 * Pages that are shared with a child are not exclusive, and are flushed
 * together.  Nobody takes them: they come back.
 */
static void mn_migrate_vma_collects_shared_pages(struct kunit *test)
{
#ifdef CONFIG_DEVICE_MIGRATION
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	unsigned long src[4] = { }, dst[4] = { };
	struct mm_struct *mm = mn_test(test)->mm;
	struct migrate_vma args = {
		.src = src, .dst = dst,
		.start = addr, .end = addr + len,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct mn_child child = { };

	mn_prepare(test, addr, len);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	lru_add_drain_all();
	calls = mn_calls(test);
	mmap_read_lock(mm);
	args.vma = vma_lookup(mm, addr);
	KUNIT_EXPECT_EQ(test, migrate_vma_setup(&args), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, len), 1U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);
	mmap_read_unlock(mm);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	mn_child_leave(&child);
#else
	kunit_skip(test, "no CONFIG_DEVICE_MIGRATION");
#endif
}

/* Pages that one process has move; the zero page gives way to a real one. */
static void mn_migrate_vma_moves_pages(struct kunit *test)
{
#ifdef CONFIG_DEVICE_MIGRATION
	unsigned long addr = TEST_BASE, len = 2 * PAGE_SIZE, calls;
	unsigned long src[2] = { }, dst[2] = { };
	struct mm_struct *mm = mn_test(test)->mm;
	struct migrate_vma args = {
		.src = src, .dst = dst,
		.start = addr, .end = addr + len,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct page *page;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, mn_map_at(addr, len, 0), addr);
	KUNIT_ASSERT_EQ(test, mn_write(addr, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_read(addr + PAGE_SIZE, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, len), 0);
	lru_add_drain_all();
	calls = mn_calls(test);
	mmap_read_lock(mm);
	args.vma = vma_lookup(mm, addr);
	KUNIT_EXPECT_EQ(test, migrate_vma_setup(&args), 0);
	KUNIT_EXPECT_EQ(test, args.cpages, 2UL);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 1U);
	for (i = 0; i < 2; i++) {
		page = alloc_page_vma(GFP_HIGHUSER_MOVABLE, args.vma,
				      addr + i * PAGE_SIZE);
		if (page) {
			clear_highpage(page);
			lock_page(page);
			dst[i] = migrate_pfn(page_to_pfn(page));
		}
	}
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);
	mmap_read_unlock(mm);
	KUNIT_EXPECT_TRUE(test, src[0] & MIGRATE_PFN_MIGRATE);
	KUNIT_EXPECT_TRUE(test, src[1] & MIGRATE_PFN_MIGRATE);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr + PAGE_SIZE,
					    PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
#else
	kunit_skip(test, "no CONFIG_DEVICE_MIGRATION");
#endif
}

#if TREE >= 703
/*
 * A process has pages that it shared with a child, so that they are not exclusive
 * and are flushed together, and then some of a huge page.  To split that, the page
 * table lock is dropped in the middle of the walk.  The split begins with a call of
 * invalidate_range_start(), where the device must have lost what was collected.
 */
#ifdef CONFIG_DEVICE_MIGRATION
#define MN_SPLIT_SMALL	4UL
#define MN_SPLIT_PAGES	8UL

struct mn_split_watch {
	struct mmu_notifier mn;
	struct shadow_tlb *dev;
	unsigned int splits;
	unsigned int stale;
	bool zap;
};

static int mn_watch_split(struct mmu_notifier *mn,
			  const struct mmu_notifier_range *range)
{
	struct mn_split_watch *watch = container_of(mn, struct mn_split_watch,
						    mn);
	unsigned long small = MN_SPLIT_SMALL * PAGE_SIZE;

	/* That of migrate_vma_setup() comes before. */
	if (range->event == MMU_NOTIFY_MIGRATE)
		return 0;
	watch->splits++;
	watch->stale += shadow_tlb_stale(watch->dev);
	if (watch->zap) {
		watch->zap = false;
		/* Then only what was collected is left, and the table goes with it. */
		do_madvise(range->mm, TEST_BASE + small, PMD_SIZE - small,
			   MADV_DONTNEED);
		do_madvise(range->mm, TEST_BASE, PMD_SIZE, MADV_DONTNEED);
	}
	return 0;
}

static const struct mmu_notifier_ops mn_split_watch_ops = {
	.invalidate_range_start = mn_watch_split,
};

static bool mn_is_shared(unsigned long addr)
{
	struct folio *folio = mn_lock_folio(addr);
	bool shared = folio && folio_mapcount(folio) > 1;

	if (folio)
		mn_unlock_folio(folio);
	return shared;
}

/* A child that exits drops its references after its mappings. */
static bool mn_is_held(unsigned long addr)
{
	struct folio *folio = mn_lock_folio(addr);
	bool held = folio && folio_ref_count(folio) > folio_mapcount(folio) + 1;

	if (folio)
		mn_unlock_folio(folio);
	return held;
}

static void mn_migrate_vma_and_split(struct kunit *test, bool zap)
{
	/* Twice as many as are asked for. */
	unsigned long src[2 * MN_SPLIT_PAGES] = { };
	unsigned long dst[2 * MN_SPLIT_PAGES] = { };
	unsigned long addr = TEST_BASE, len = MN_SPLIT_PAGES * PAGE_SIZE;
	unsigned long small = MN_SPLIT_SMALL * PAGE_SIZE;
	struct mn_split_watch watch = {
		.mn.ops = &mn_split_watch_ops,
		.dev = mn_test(test)->dev,
		.zap = zap,
	};
	struct mm_struct *mm = mn_test(test)->mm;
	struct migrate_vma args = {
		.src = src, .dst = dst,
		.start = addr, .end = addr + len,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	unsigned long end = jiffies + 10 * HZ;
	struct mn_child child = { };

	mn_prepare_thp(test, addr);
	mn_split_mapping(mm, addr);
	KUNIT_ASSERT_EQ(test, do_madvise(mm, addr, small, MADV_DONTNEED), 0);
	KUNIT_ASSERT_EQ(test, mn_write(addr, small), 0);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_child_leave(&child);
	while ((mn_is_shared(addr) || mn_is_held(addr + small)) &&
	       time_before(jiffies, end)) {
		msleep(20);
		lru_add_drain_all();
	}
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len),
			(unsigned int)MN_SPLIT_PAGES);
	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, mmu_notifier_register(&watch.mn, mm), 0);
	mmap_read_lock(mm);
	args.vma = vma_lookup(mm, addr);
	KUNIT_EXPECT_EQ(test, migrate_vma_setup(&args), 0);
	KUNIT_EXPECT_GE(test, watch.splits, 1U);
	KUNIT_EXPECT_EQ(test, watch.stale, 0U);
	KUNIT_EXPECT_EQ(test, args.npages, MN_SPLIT_PAGES);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);
	mmap_read_unlock(mm);
	mmu_notifier_unregister(&watch.mn, mm);
	/* The last references of pages that were zapped. */
	lru_add_drain_all();
	mn_expect_clean(test);
}
#else
static void mn_migrate_vma_and_split(struct kunit *test, bool zap)
{
	kunit_skip(test, "no CONFIG_DEVICE_MIGRATION");
}
#endif

static void mn_migrate_vma_splits_a_huge_page(struct kunit *test)
{
	mn_migrate_vma_and_split(test, false);
}

static void mn_migrate_vma_while_zapped(struct kunit *test)
{
	mn_migrate_vma_and_split(test, true);
}
#endif

/* Pages that may be dropped: reclaim needs no swap for them. */
static void mn_give_up(struct kunit *test, unsigned long addr,
		       unsigned long len)
{
	lru_add_drain_all();
	KUNIT_ASSERT_EQ(test, do_madvise(mn_test(test)->mm, addr, len,
					 MADV_FREE), 0);
	lru_add_drain_all();
}

static void mn_prepare_lazyfree(struct kunit *test, unsigned long addr,
				unsigned long len)
{
	mn_prepare(test, addr, len);
	mn_give_up(test, addr, len);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, len), 0);
}

static void mn_prepare_lazyfree_thp(struct kunit *test, unsigned long addr)
{
	mn_prepare_thp(test, addr);
	mn_give_up(test, addr, PMD_SIZE);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
}

/* What rmap does to the folio of the page that is mapped at an address. */

static int mn_op_unmap(struct mm_struct *mm, unsigned long addr,
		       unsigned long len)
{
	struct folio *folio = mn_lock_folio(addr);

	if (!folio)
		return -EFAULT;
	try_to_unmap(folio, 0);
	mn_unlock_folio(folio);
	return 0;
}

static int mn_op_clean(struct mm_struct *mm, unsigned long addr,
		       unsigned long len)
{
	struct folio *folio = mn_lock_folio(addr);
	int ret;

	if (!folio)
		return -EFAULT;
	ret = folio_mkclean(folio);
	mn_unlock_folio(folio);
	return ret == 1 ? 0 : -EINVAL;
}

static int mn_op_migrate(struct mm_struct *mm, unsigned long addr,
			 unsigned long len)
{
	struct folio *folio = mn_lock_folio(addr);

	if (!folio)
		return -EFAULT;
	try_to_migrate(folio, 0);
	remove_migration_ptes(folio, folio, 0);
	mn_unlock_folio(folio);
	return 0;
}

static void mn_reclaim(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	/* A CPU that it left would still have the mm: the flush is deferred. */
	mn_stay_on_cpu();
	mn_prepare_lazyfree(test, addr, len);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, len, MADV_PAGEOUT), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, len), 0U);
	mn_expect_clean(test);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
}

/*
 * A thread that uses the mm on another CPU, so that its flush is a remote one.
 * It writes to a page when it is told to.
 */
struct mn_bystander {
	struct mm_struct *mm;
	unsigned long addr;
	int ret;
	struct completion there;
	struct completion go;
	struct completion done;
};

static int mn_bystander_run(void *data)
{
	struct mn_bystander *by = data;

	kthread_use_mm(by->mm);
	complete(&by->there);
	for (;;) {
		wait_for_completion(&by->go);
		if (!by->addr)
			break;
		by->ret = by->ret ?: mn_write(by->addr, PAGE_SIZE);
		complete(&by->done);
	}
	kthread_unuse_mm(by->mm);
	kthread_complete_and_exit(&by->done, 0);
}

static void mn_bystander_write(struct mn_bystander *by, unsigned long addr)
{
	by->addr = addr;
	complete(&by->go);
	wait_for_completion(&by->done);
}

static void mn_bystander_start(struct kunit *test, struct mn_bystander *by)
{
	struct task_struct *task;

	by->mm = mn_test(test)->mm;
	init_completion(&by->there);
	init_completion(&by->go);
	init_completion(&by->done);
	task = kthread_run_on_cpu(mn_bystander_run, by, mn_other_cpu(),
				  "mn_bystander/%u");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	wait_for_completion(&by->there);
}

static void mn_bystander_leave(struct mn_bystander *by)
{
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	mn_bystander_write(by, 0);
}

static void mn_skip_if_no_flush_is_deferred(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_ARCH_WANT_BATCHED_UNMAP_TLB_FLUSH))
		kunit_skip(test, "this architecture defers no flush");
	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
}

static void mn_reclaim_with_a_deferred_flush(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_bystander by = { };

	mn_skip_if_no_flush_is_deferred(test);
	mn_prepare_lazyfree(test, addr, len);
	mn_bystander_start(test, &by);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, len, MADV_PAGEOUT), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_GE(test, mn_calls(test) - calls, 4UL);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr, len), 0U);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	mn_bystander_leave(&by);
}

#if TREE >= 703
/*
 * Whoever zaps next makes up for the flush of the CPUs that reclaim has deferred.
 * The device was told when the page was unmapped, and keeps the rest.
 */
static void mn_zap_after_a_deferred_flush(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	unsigned long other = addr + PMD_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_bystander by = { };

	mn_skip_if_no_flush_is_deferred(test);
	if (IS_ENABLED(CONFIG_RISCV))
		kunit_skip(test, "devices are flushed with the CPUs here");
	mn_prepare(test, other, len);
	mn_prepare_lazyfree(test, addr, len);
	mn_bystander_start(test, &by);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, len, MADV_PAGEOUT), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, other, PAGE_SIZE, MADV_DONTNEED),
			0);
	KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, other, PAGE_SIZE),
			0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, other, PAGE_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, other, len), 3U);
	mn_expect_clean(test);
	mn_bystander_leave(&by);
}
#endif

/*
 * Reclaim has unmapped a page, and flushes the CPUs after the last one.  In
 * between, another thread writes to the address, and has another page there.
 */
struct mn_reuse {
	struct mmu_notifier mn;
	struct mn_bystander by;
	struct shadow_tlb *dev;
	struct task_struct *reclaimer;
	unsigned int reused;
};

static bool mn_is_mapped(unsigned long addr)
{
	struct page *page;

	if (get_user_pages_fast_only(addr, 1, 0, &page) != 1)
		return false;
	put_page(page);
	return true;
}

static void mn_reuse_end(struct mmu_notifier *mn,
			 const struct mmu_notifier_range *range)
{
	struct mn_reuse *reuse = container_of(mn, struct mn_reuse, mn);

	/* A huge mapping was split first, and is all there. */
	if (current != reuse->reclaimer || mn_is_mapped(range->start))
		return;
	mn_bystander_write(&reuse->by, range->start);
	shadow_tlb_access(reuse->dev, range->start, false);
	reuse->reused++;
}

static const struct mmu_notifier_ops mn_reuse_ops = {
	.invalidate_range_end = mn_reuse_end,
};

/* Returns how often the other thread came in between. */
static unsigned int mn_reuse_reclaimed(struct kunit *test, unsigned long addr,
				       unsigned long len)
{
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_reuse *reuse;

	reuse = kunit_kzalloc(test, sizeof(*reuse), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, reuse);
	reuse->mn.ops = &mn_reuse_ops;
	reuse->dev = mn_test(test)->dev;
	mn_bystander_start(test, &reuse->by);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&reuse->mn, mm), 0);
	reuse->reclaimer = current;
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, len, MADV_PAGEOUT), 0);
	reuse->reclaimer = NULL;
	mn_bystander_leave(&reuse->by);
	mmu_notifier_unregister(&reuse->mn, mm);
	KUNIT_EXPECT_EQ(test, reuse->by.ret, 0);
	mn_expect_clean(test);
	return reuse->reused;
}

static void mn_reclaimed_page_is_written_to(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE;

	mn_skip_if_no_flush_is_deferred(test);
	mn_prepare_lazyfree(test, addr, len);
	KUNIT_EXPECT_EQ(test, mn_reuse_reclaimed(test, addr, len), 4U);
}

/* Its mapping is split, and then goes in small pieces, under one lock. */
static void mn_reclaimed_huge_page(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare_lazyfree_thp(test, addr);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, PMD_SIZE, MADV_PAGEOUT), 0);
	KUNIT_EXPECT_FALSE(test, mn_is_thp(mm, addr));
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	/* Split, and unmapped. */
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 2U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 2UL);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

static void mn_reclaimed_huge_page_is_written_to(struct kunit *test)
{
	unsigned long addr = TEST_BASE;

	mn_skip_if_no_flush_is_deferred(test);
	mn_prepare_lazyfree_thp(test, addr);
	KUNIT_EXPECT_EQ(test, mn_reuse_reclaimed(test, addr, PMD_SIZE), 1U);
}

#if TREE < 703
/*
 * Another page is mapped in the middle of it.  It is flushed as well: a process
 * must not choose how many calls are made with the lock held.
 */
#else
/* Another page is mapped in the middle of it.  It need not be flushed. */
#endif
static void mn_reclaimed_part_of_a_huge_page(struct kunit *test)
{
	unsigned long addr = TEST_BASE, hole = addr + 16 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare_thp(test, addr);
	mn_give_up(test, addr, PMD_SIZE);
	/* Another page there: this splits the mapping, not the huge page. */
	KUNIT_ASSERT_EQ(test, do_madvise(mm, hole, PAGE_SIZE, MADV_DONTNEED),
			0);
	KUNIT_ASSERT_EQ(test, mn_write(hole, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, hole - addr), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, hole + PAGE_SIZE,
					 addr + PMD_SIZE - hole - PAGE_SIZE),
			0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_op_unmap(mm, addr, PMD_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
#if TREE < 703
	mn_expect_flushed(test, calls, addr, PMD_SIZE);
#else
	mn_expect_flushed(test, calls, addr, hole - addr);
	mn_expect_flushed(test, calls, hole + PAGE_SIZE,
			  addr + PMD_SIZE - hole - PAGE_SIZE);
#endif
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, hole, PAGE_SIZE), 0);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

/* Mapped in two page tables: neither lock is dropped without the call. */
static void mn_reclaimed_huge_page_across_page_tables(struct kunit *test)
{
	unsigned long from = TEST_BASE, calls;
	unsigned long to = from + 8 * PMD_SIZE + PMD_SIZE / 2;
	struct mm_struct *mm = mn_test(test)->mm;

	mn_prepare_lazyfree_thp(test, from);
	KUNIT_ASSERT_EQ(test, mn_mremap(mm, from, PMD_SIZE, to), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, to, PMD_SIZE), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_op_unmap(mm, to, PMD_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, to, PMD_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, to, PMD_SIZE / 2), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, to + PMD_SIZE / 2,
					    PMD_SIZE / 2), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 2UL);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
}

#if TREE < 703
/* Migration goes the same way. */
#else
/* Migration goes the same way, and may flush each page. */
#endif
static void mn_migrated_in_small_pieces(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct folio *folio;

	mn_prepare_thp(test, addr);
	mn_split_mapping(mm, addr);
	KUNIT_ASSERT_FALSE(test, mn_is_thp(mm, addr));
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, PMD_SIZE), 0);
	folio = mn_lock_folio(addr);
	KUNIT_ASSERT_NOT_NULL(test, folio);
	calls = mn_calls(test);
	try_to_migrate(folio, 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PMD_SIZE), 0U);
	mn_expect_flushed(test, calls, addr, PMD_SIZE);
	mn_expect_clean(test);
	mn_expect_in_time(test, calls);
	remove_migration_ptes(folio, folio, 0);
	mn_unlock_folio(folio);
	mn_expect_clean(test);
}

/*
 * Where the flush has to come before the page table lock is dropped: without the
 * lock, write-back finds that nobody maps the page any more and cleans it, and
 * the device writes once more; or another page is faulted in.
 */
struct mn_lock_check {
	struct mmu_notifier mn;
	unsigned int calls;
	unsigned int unlocked;
};

static spinlock_t *mn_lock_of(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d = p4d_offset(pgd, addr);
	pud_t *pud;
	pmd_t *pmd;

	if (pgd_none(*pgd) || p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud) || pud_leaf(*pud))
		return NULL;
	pmd = pmd_offset(pud, addr);
	if (!pmd_present(*pmd) || pmd_leaf(*pmd))
		return pmd_lockptr(mm, pmd);
	return pte_lockptr(mm, pmd);
}

static void mn_check_lock(struct mmu_notifier *mn, struct mm_struct *mm,
			  unsigned long start, unsigned long end)
{
	struct mn_lock_check *check = container_of(mn, struct mn_lock_check,
						   mn);
	spinlock_t *ptl = mn_lock_of(mm, start);

	check->calls++;
	if (ptl && !spin_trylock(ptl))
		return;
	check->unlocked++;
	if (ptl)
		spin_unlock(ptl);
}

static const struct mmu_notifier_ops mn_lock_check_ops = {
	.invalidate_range = mn_check_lock,
};

/* The calls of @op, and how many of them had no lock. */
static void mn_expect_locked(struct kunit *test, const char *what,
			     int (*op)(struct mm_struct *mm, unsigned long addr,
				       unsigned long len),
			     unsigned long addr, unsigned long len)
{
	struct mn_lock_check check = { .mn.ops = &mn_lock_check_ops };
	struct mm_struct *mm = mn_test(test)->mm;

	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&check.mn, mm), 0);
	KUNIT_EXPECT_EQ_MSG(test, op(mm, addr, len), 0, "%s", what);
	KUNIT_EXPECT_GE_MSG(test, check.calls, 1U, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, check.unlocked, 0U, "%s: of %u", what,
			    check.calls);
	mmu_notifier_unregister(&check.mn, mm);
	mn_expect_clean(test);
}

static int mn_op_dontneed(struct mm_struct *mm, unsigned long addr,
			  unsigned long len)
{
	return do_madvise(mm, addr, len, MADV_DONTNEED);
}

static int mn_op_move(struct mm_struct *mm, unsigned long addr,
		      unsigned long len)
{
	return mn_mremap(mm, addr, len, addr + PMD_SIZE);
}

static int mn_op_reclaim(struct mm_struct *mm, unsigned long addr,
			 unsigned long len)
{
	return do_madvise(mm, addr, len, MADV_PAGEOUT);
}

static int mn_op_write(struct mm_struct *mm, unsigned long addr,
		       unsigned long len)
{
	return mn_write(addr, len);
}

static void mn_flushed_before_the_lock_is_dropped(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE;
	struct mn_child child = { };
	struct file *file;

#if TREE < 612
	if (!IS_ENABLED(CONFIG_SMP) || !USE_SPLIT_PTE_PTLOCKS)
#else
	if (!IS_ENABLED(CONFIG_SMP) || !IS_ENABLED(CONFIG_SPLIT_PTE_PTLOCKS))
#endif
		kunit_skip(test, "no lock, or one for all");
	file = mn_shmem_file(len);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, len, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	fput(file);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	mn_expect_locked(test, "a page is cleaned", mn_op_clean, addr, len);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	mn_expect_locked(test, "dirty pages are moved", mn_op_move, addr, len);
	addr += PMD_SIZE;
	mn_expect_locked(test, "dirty pages are zapped", mn_op_dontneed, addr,
			 len);

	addr += PMD_SIZE;
	mn_prepare(test, addr, len);
	mn_expect_locked(test, "a page is migrated", mn_op_migrate, addr, len);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_expect_locked(test, "pages are copied", mn_op_write, addr, len);
	mn_child_leave(&child);
	addr += PMD_SIZE;
	mn_prepare_lazyfree(test, addr, len);
	mn_expect_locked(test, "pages are reclaimed", mn_op_reclaim, addr, len);

	/* In two page tables: a lock is dropped in the middle of the walk. */
	addr = TEST_BASE + 8 * PMD_SIZE;
	mn_prepare_lazyfree_thp(test, addr);
	KUNIT_ASSERT_EQ(test, mn_mremap(mn_test(test)->mm, addr, PMD_SIZE,
					addr + 2 * PMD_SIZE + PMD_SIZE / 2), 0);
	addr += 2 * PMD_SIZE + PMD_SIZE / 2;
	mn_expect_locked(test, "a huge page is reclaimed", mn_op_unmap, addr,
			 PMD_SIZE);
}

#if TREE < 612
/*
 * A device that asks for a page by way of the IOMMU.  Nobody waits for the
 * answer.
 */
#ifdef CONFIG_IOMMU_SVA
static int mn_page_request(struct kunit *test, unsigned long addr, u32 perm)
{
	struct mm_struct *mm = mn_test(test)->mm;
	const struct iommu_ops ops = { };
	struct iommu_device iommu = { .ops = &ops };
	struct dev_iommu param = { .iommu_dev = &iommu };
	struct device *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);
	struct iopf_queue *queue = iopf_queue_alloc("mn_test");
	struct iommu_fault fault = {
		.type = IOMMU_FAULT_PAGE_REQ,
		.prm = {
			.flags = IOMMU_FAULT_PAGE_REQUEST_PASID_VALID |
				 IOMMU_FAULT_PAGE_REQUEST_LAST_PAGE,
			.perm = perm,
			.addr = addr,
		},
	};
	int ret = -ENOMEM;

	if (!dev || !queue)
		goto free;
	mutex_init(&param.lock);
	dev->iommu = &param;
	ret = iommu_sva_alloc_pasid(mm, 1, 100);
	fault.prm.pasid = mm->pasid;
	ret = ret ?: iopf_queue_add_device(queue, dev);
	if (ret)
		goto free;
	mutex_lock(&param.lock);
	ret = iommu_queue_iopf(&fault, dev);
	mutex_unlock(&param.lock);
	ret = ret ?: iopf_queue_flush_dev(dev);
	iopf_queue_remove_device(queue, dev);
free:
	iopf_queue_free(queue);
	return ret;
}
#endif

/*
 * Only the right to write is granted, which nobody announces, and the device
 * does not walk again before it reports that it must not write.
 */
static void mn_write_granted_to_a_device(struct kunit *test)
{
#ifdef CONFIG_IOMMU_SVA
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct shadow_tlb *dev = mn_test(test)->dev;
	struct mm_struct *mm = mn_test(test)->mm;
	struct file *file;

	/* Shared and cleaned: read-only, and the next write is granted there. */
	file = mn_shmem_file(len);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, len, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	fput(file);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_op_clean(mm, addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_op_clean(mm, addr + PAGE_SIZE, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, mn_dev_use(test, addr, len), 0);
	dev->keeps_read_only = true;
	KUNIT_EXPECT_EQ(test, shadow_tlb_access(dev, addr, true), -EFAULT);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_page_request(test, addr + 8,
					      IOMMU_FAULT_PERM_READ |
					      IOMMU_FAULT_PERM_WRITE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	KUNIT_EXPECT_EQ(test, shadow_tlb_access(dev, addr, true), 0);
	/* Nothing was granted to who reads: nothing to flush. */
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_page_request(test, addr + PAGE_SIZE,
					      IOMMU_FAULT_PERM_READ), 0);
	KUNIT_EXPECT_EQ(test, mn_calls(test), calls);
	KUNIT_EXPECT_EQ(test, shadow_tlb_access(dev, addr + PAGE_SIZE, true),
			-EFAULT);
	mn_expect_clean(test);
#else
	kunit_skip(test, "no CONFIG_IOMMU_SVA");
#endif
}
#endif

/*
 * Gathers that meet: the outer one is not finished, so it may have changed
 * entries and not flushed them.  The inner one flushes for both.  Secondary TLBs
 * are told of what it looked at, and keep the rest.
 */
enum mn_inner {
	MN_DONTNEED,
	MN_FREE,
	MN_COLD,
	MN_PAGEOUT,
	MN_PROTECT,
	MN_UNMAP,
	MN_NR_INNER
};

static int mn_inner(struct mm_struct *mm, enum mn_inner what,
		    unsigned long addr, unsigned long len)
{
	static const int advice[] = {
		[MN_DONTNEED] = MADV_DONTNEED,
		[MN_FREE] = MADV_FREE,
		[MN_COLD] = MADV_COLD,
		[MN_PAGEOUT] = MADV_PAGEOUT,
	};

	switch (what) {
	case MN_PROTECT:
		return mn_mprotect(mm, addr, len, 0, VM_WRITE);
	case MN_UNMAP:
		return vm_munmap(addr, len);
	default:
		return do_madvise(mm, addr, len, advice[what]);
	}
}

static void mn_gather_zaps(struct kunit *test, struct mmu_gather *tlb,
			   unsigned long addr, unsigned long len)
{
	struct mm_struct *mm = mn_test(test)->mm;

	mmap_read_lock(mm);
#if TREE < 703
	unmap_page_range(tlb, vma_lookup(mm, addr), addr, addr + len, NULL);
#else
	zap_vma_range_batched(tlb, vma_lookup(mm, addr), addr, len, NULL);
#endif
	mmap_read_unlock(mm);
}

#if TREE < 612
/* What holds for the mm when a subscriber is called. */
struct mn_state_check {
	struct mmu_notifier mn;
	u64 flushes;		/* of the CPUs, until the last call */
	unsigned int calls;
	unsigned int early;	/* before the CPUs were flushed */
	unsigned int settled;	/* when no flush was pending any more */
	unsigned int unlocked;	/* without mmap_lock */
};

/* A number that a flush of the CPUs changes. */
static u64 mn_cpu_flushes(struct mm_struct *mm, u64 last)
{
#ifdef CONFIG_X86
	return atomic64_read(&mm->context.tlb_gen);
#else
	return last + 1;
#endif
}

static void mn_check_state(struct mmu_notifier *mn, struct mm_struct *mm,
			   unsigned long start, unsigned long end)
{
	struct mn_state_check *check = container_of(mn, struct mn_state_check,
						    mn);
	u64 flushes = mn_cpu_flushes(mm, check->flushes);

	check->calls++;
	check->early += flushes == check->flushes;
	check->flushes = flushes;
	check->settled += !mm_tlb_flush_pending(mm);
	check->unlocked += !rwsem_is_locked(&mm->mmap_lock);
}

static const struct mmu_notifier_ops mn_state_check_ops = {
	.invalidate_range = mn_check_state,
};

/*
 * A gather is pending until the device has lost what it changed: others that
 * find the entry changed look at that.  And the CPUs are flushed first.
 */
static void mn_flushed_while_it_is_pending(struct kunit *test)
{
	static const enum mn_inner what[] = {
		MN_DONTNEED, MN_PROTECT, MN_UNMAP,
	};
	struct mn_state_check check = { .mn.ops = &mn_state_check_ops };
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&check.mn, mm), 0);
	for (i = 0; i < ARRAY_SIZE(what); i++, addr += PMD_SIZE) {
		mn_prepare(test, addr, len);
		check.flushes = mn_cpu_flushes(mm, 0);
		check.calls = 0;
		KUNIT_EXPECT_EQ(test, mn_inner(mm, what[i], addr, len), 0);
		KUNIT_EXPECT_GE_MSG(test, check.calls, 1U, "operation %u", i);
		KUNIT_EXPECT_EQ_MSG(test, check.settled, 0U, "operation %u", i);
		KUNIT_EXPECT_EQ_MSG(test, check.early, 0U, "operation %u", i);
	}
	mmu_notifier_unregister(&check.mn, mm);
	mn_expect_clean(test);
}

/* Whoever registers holds mmap_lock: no flush is between that and its call. */
static void mn_flushed_before_mmap_lock_is_dropped(struct kunit *test)
{
	struct mn_state_check check = { .mn.ops = &mn_state_check_ops };
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_child child = { };

	mn_prepare(test, addr, len);
	/* One call for all mappings. */
	mn_prepare(test, addr + PMD_SIZE, len);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&check.mn, mm), 0);
	check.flushes = mn_cpu_flushes(mm, 0);
	KUNIT_EXPECT_EQ(test, mn_fork(&child), 0);
	KUNIT_EXPECT_EQ(test, check.calls, 1U);
	KUNIT_EXPECT_EQ(test, check.early, 0U);
	KUNIT_EXPECT_EQ(test, check.unlocked, 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr + PMD_SIZE, len), 0U);
	mn_child_leave(&child);
	mmu_notifier_unregister(&check.mn, mm);
	mn_expect_clean(test);
}
#endif

/* What is zapped already is not there for the inner one, but for the device. */
static void mn_nested_gather_finds_nothing(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned long calls, addr, page;
	struct mmu_gather outer;
	enum mn_inner what;

	for (what = 0; what < MN_NR_INNER; what++) {
		addr = TEST_BASE + what * PMD_SIZE;
		page = addr + PAGE_SIZE;
		mn_prepare(test, addr, 4 * PAGE_SIZE);
		tlb_gather_mmu(&outer, mm);
		mn_gather_zaps(test, &outer, page, PAGE_SIZE);
		calls = mn_calls(test);
		KUNIT_EXPECT_EQ(test, mn_inner(mm, what, page, PAGE_SIZE), 0);
		KUNIT_EXPECT_EQ_MSG(test, mn_dev_has(test, page, PAGE_SIZE), 0U,
				    "operation %d", what);
		if (MN_NESTED_IS_EXACT)
			KUNIT_EXPECT_EQ_MSG(test,
					    mn_calls_outside(test, calls, page,
							     PAGE_SIZE), 0U,
					    "operation %d", what);
		tlb_finish_mmu(&outer);
		if (MN_NESTED_IS_EXACT)
			KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr,
							 4 * PAGE_SIZE), 3U);
		mn_expect_clean(test);
	}
}

/* A flush in the middle is for what the inner one has changed itself. */
static void mn_nested_gather_flushes_in_the_middle(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mmu_gather outer, inner;

	mn_prepare(test, addr, len);
	tlb_gather_mmu(&outer, mm);
	mn_gather_zaps(test, &outer, addr, PAGE_SIZE);
	tlb_gather_mmu(&inner, mm);
	mn_gather_zaps(test, &inner, addr, 3 * PAGE_SIZE);
	tlb_flush_mmu(&inner);
	tlb_finish_mmu(&inner);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, PAGE_SIZE), 0U);
	if (MN_NESTED_IS_EXACT)
		KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 1U);
	tlb_finish_mmu(&outer);
	if (MN_NESTED_IS_EXACT)
		KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 1U);
	mn_expect_clean(test);
}

/* Each way to look at entries says which. */
static void mn_nested_gather_keeps_the_rest(struct kunit *test)
{
	unsigned long addr, page, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mmu_gather outer;
	enum mn_inner what;

	for (what = 0; what < MN_NR_INNER; what++) {
		addr = TEST_BASE + what * PMD_SIZE;
		page = addr + PAGE_SIZE;
		mn_prepare(test, addr, 4 * PAGE_SIZE);
		tlb_gather_mmu(&outer, mm);
		calls = mn_calls(test);
		KUNIT_EXPECT_EQ(test, mn_inner(mm, what, page, PAGE_SIZE), 0);
		if (MN_NESTED_IS_EXACT)
			KUNIT_EXPECT_EQ_MSG(test,
					    mn_calls_outside(test, calls, page,
							     PAGE_SIZE), 0U,
					    "operation %d", what);
		KUNIT_EXPECT_GE(test, mn_calls(test) - calls, 1UL);
		tlb_finish_mmu(&outer);
		if (MN_NESTED_IS_EXACT)
			KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr,
							 4 * PAGE_SIZE), 3U);
		mn_expect_clean(test);
	}
}

/* The topmost page tables map more than there are user addresses. */
static void mn_nested_gather_frees_the_last_tables(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned long len = 4 * PAGE_SIZE, addr = mm->task_size - len;
	struct mmu_gather outer;

	mn_prepare(test, addr, len);
	tlb_gather_mmu(&outer, mm);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	tlb_finish_mmu(&outer);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
}

/* Who does not say what was looked at, has looked at everything. */
static void mn_nested_gather_does_not_say(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 4 * PAGE_SIZE, calls;
	struct mm_struct *mm = mn_test(test)->mm;
	struct mmu_gather outer, inner;

	mn_prepare(test, addr, len);
	tlb_gather_mmu(&outer, mm);
	calls = mn_calls(test);
	tlb_gather_mmu(&inner, mm);
	tlb_finish_mmu(&inner);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, 0, mn_everything(mm)),
			1U);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	tlb_finish_mmu(&outer);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

static void mn_nested_gather_of_hugetlb(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned long addr, small = TEST_BASE, calls;
	struct mmu_gather outer;

	mn_prepare(test, small, PAGE_SIZE);
	addr = mn_prepare_hugetlb(test);
	tlb_gather_mmu(&outer, mm);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, mn_mprotect(mm, addr, HUGE_SIZE, 0, VM_WRITE), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, HUGE_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, HUGE_SIZE, MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, HUGE_SIZE), 0U);
	if (MN_NESTED_IS_EXACT)
		KUNIT_EXPECT_EQ(test, mn_calls_outside(test, calls, addr,
						       HUGE_SIZE), 0U);
	tlb_finish_mmu(&outer);
	if (MN_NESTED_IS_EXACT)
		KUNIT_EXPECT_EQ(test, mn_dev_has(test, small, PAGE_SIZE), 1U);
	mn_expect_clean(test);
}

static void mn_page_tables_freed(struct kunit *test)
{
	unsigned long addr = TEST_BASE + 5 * PAGE_SIZE, calls;

	mn_prepare(test, addr, PAGE_SIZE);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, MN_GATHER_FLUSHES);
#if TREE < 612
	/* It was the only page: up to the top level, the tables go. */
	if (IS_ENABLED(CONFIG_X86))
		KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls,
						    ALIGN_DOWN(addr, PGDIR_SIZE),
						    PGDIR_SIZE), 1U);
#endif
	mn_expect_clean(test);
}

/* The pages went earlier: only the tables are left to be freed. */
static void mn_empty_page_tables_freed(struct kunit *test)
{
	unsigned long addr = TEST_BASE + 5 * PAGE_SIZE, calls;

	mn_prepare(test, addr, PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, do_madvise(mn_test(test)->mm, addr, PAGE_SIZE,
					 MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PAGE_SIZE), -EFAULT);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

/*
 * The same with a device that uses its working set at every moment it can,
 * between invalidate_range_start() and invalidate_range_end(), and again right
 * after each flush.  A call that comes before the page table has changed leaves
 * the old entry in the device; one that comes after a page was freed is late.
 */

static void mn_munmap_while_the_device_runs(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 16 * PAGE_SIZE;

	mn_prepare(test, addr, len);
	shadow_tlb_run_on(mn_test(test)->dev, addr, addr + len);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 0U);
	mn_expect_clean(test);
}

static void mn_dontneed_while_the_device_runs(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 16 * PAGE_SIZE;
	struct mn_test *ctx = mn_test(test);

	mn_prepare(test, addr, len);
	shadow_tlb_run_on(ctx->dev, addr, addr + len);
	KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm, addr, len, MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	mn_expect_clean(test);
}

static void mn_cow_while_the_device_runs(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 16 * PAGE_SIZE;
	struct mn_child child = { };

	mn_prepare(test, addr, len);
	shadow_tlb_run_on(mn_test(test)->dev, addr, addr + len);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, mn_write(addr, len), 0);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, shadow_tlb_read_stats(mn_test(test)->dev).faults,
			0UL);
	mn_child_leave(&child);
}

/* Two CPUs change one mm while the device runs on a third thread. */
struct mn_worker {
	struct mn_test *ctx;
	unsigned long addr;
	unsigned int rounds;
	bool begun;
	int ret;
	struct completion done;
};

#define MN_WORK_PAGES	16

static int mn_work_map(void *data)
{
	struct mn_worker *w = data;
	unsigned long len = MN_WORK_PAGES * PAGE_SIZE;

	kthread_use_mm(w->ctx->mm);
	while (!w->ret && w->rounds--) {
		if (mn_map_at(w->addr, len, 0) != w->addr)
			w->ret = -ENOMEM;
		else
			w->ret = mn_write(w->addr, len) ?: vm_munmap(w->addr, len);
	}
	kthread_unuse_mm(w->ctx->mm);
	kthread_complete_and_exit(&w->done, 0);
}

static int mn_work_dontneed(void *data)
{
	struct mn_worker *w = data;
	unsigned long len = MN_WORK_PAGES * PAGE_SIZE;

	kthread_use_mm(w->ctx->mm);
	if (mn_map_at(w->addr, len, 0) != w->addr)
		w->ret = -ENOMEM;
	while (!w->ret && w->rounds--)
		w->ret = mn_write(w->addr, len) ?:
			 do_madvise(w->ctx->mm, w->addr, len, MADV_DONTNEED);
	kthread_unuse_mm(w->ctx->mm);
	kthread_complete_and_exit(&w->done, 0);
}

static void mn_two_cpus_at_once(struct kunit *test)
{
	int (*const work[])(void *) = { mn_work_map, mn_work_dontneed };
	struct mn_worker w[ARRAY_SIZE(work)] = { };
	struct task_struct *task;
	unsigned long addr;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(work); i++) {
		w[i].ctx = mn_test(test);
		w[i].rounds = 200;
		w[i].addr = TEST_BASE + i * MN_WORK_PAGES * PAGE_SIZE;
		init_completion(&w[i].done);
		task = kthread_run_on_cpu(work[i], &w[i],
					  cpumask_nth(i % num_online_cpus(),
						      cpu_online_mask),
					  "mn_work/%u");
		KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	}
	for (i = 0; i < ARRAY_SIZE(work); i++)
		while (!wait_for_completion_timeout(&w[i].done, 1))
			for (addr = TEST_BASE;
			     addr < TEST_BASE + 2 * MN_WORK_PAGES * PAGE_SIZE;
			     addr += PAGE_SIZE)
				shadow_tlb_access(mn_test(test)->dev, addr,
						  true);
	for (i = 0; i < ARRAY_SIZE(work); i++)
		KUNIT_EXPECT_EQ(test, w[i].ret, 0);
	mn_expect_clean(test);
}

static struct kunit_case mn_site_cases[] = {
	KUNIT_CASE(mn_munmap),
	KUNIT_CASE(mn_munmap_of_a_part),
	KUNIT_CASE(mn_munmap_of_many_pages),
	KUNIT_CASE(mn_munmap_of_many_page_tables),
#if TREE < 612 || TREE >= 703
	KUNIT_CASE(mn_munmap_beside_a_freed_table),
#endif
	KUNIT_CASE(mn_pfn_mapping),
	KUNIT_CASE(mn_madvise_dontneed),
	KUNIT_CASE(mn_zap_of_a_process_on_no_cpu),
	KUNIT_CASE(mn_zap_page_range),
	KUNIT_CASE(mn_mprotect_down_and_up),
	KUNIT_CASE(mn_fork_write_protects),
	KUNIT_CASE(mn_soft_dirty_bits_cleared),
	KUNIT_CASE(mn_shared_mapping_write_protected),
	KUNIT_CASE(mn_shared_page_cleaned),
	KUNIT_CASE(mn_numa_hinting),
	KUNIT_CASE(mn_cow_after_fork),
	KUNIT_CASE(mn_write_fault_on_the_zero_page),
	KUNIT_CASE(mn_write_before_a_pending_flush),
	KUNIT_CASE(mn_mremap_of_pages),
	KUNIT_CASE(mn_mremap_of_a_page_table),
	KUNIT_CASE(mn_mremap_of_a_pmd_table),
	KUNIT_CASE(mn_thp_zap),
	KUNIT_CASE(mn_thp_split),
	KUNIT_CASE(mn_thp_cow_after_fork),
	KUNIT_CASE(mn_thp_mremap),
	KUNIT_CASE(mn_thp_write_to_the_zero_page),
	KUNIT_CASE(mn_thp_collapse),
	KUNIT_CASE(mn_thp_soft_dirty_bits_cleared),
	KUNIT_CASE(mn_thp_mprotect),
	KUNIT_CASE(mn_thp_madvise_cold),
	KUNIT_CASE(mn_thp_madvise_free),
	KUNIT_CASE(mn_thp_of_a_file),
	KUNIT_CASE(mn_thp_mremap_while_a_hole_is_punched),
	KUNIT_CASE(mn_huge_pud_split),
	KUNIT_CASE(mn_huge_pud_mremap),
	KUNIT_CASE(mn_huge_pud_mremap_while_truncated),
	KUNIT_CASE(mn_huge_pud_mprotect),
	KUNIT_CASE(mn_hugetlb_munmap),
	KUNIT_CASE(mn_hugetlb_cow_after_fork),
	KUNIT_CASE(mn_hugetlb_page_freed_after_cow),
	KUNIT_CASE(mn_hugetlb_mprotect),
	KUNIT_CASE(mn_migrate_to_another_node),
	KUNIT_CASE(mn_thp_migrate_to_another_node),
	KUNIT_CASE(mn_hugetlb_migrate_to_another_node),
	KUNIT_CASE(mn_hugetlb_shared_table_unmapped),
	KUNIT_CASE(mn_hugetlb_shared_table_protected),
	KUNIT_CASE(mn_hugetlb_shared_table_migrated),
	KUNIT_CASE(mn_migrate_vma_collects_shared_pages),
	KUNIT_CASE(mn_migrate_vma_moves_pages),
#if TREE >= 703
	KUNIT_CASE(mn_migrate_vma_splits_a_huge_page),
	KUNIT_CASE(mn_migrate_vma_while_zapped),
#endif
	KUNIT_CASE(mn_reclaim),
	KUNIT_CASE(mn_reclaim_with_a_deferred_flush),
#if TREE >= 703
	KUNIT_CASE(mn_zap_after_a_deferred_flush),
#endif
	KUNIT_CASE(mn_reclaimed_page_is_written_to),
	KUNIT_CASE(mn_reclaimed_huge_page),
	KUNIT_CASE(mn_reclaimed_huge_page_is_written_to),
	KUNIT_CASE(mn_reclaimed_part_of_a_huge_page),
	KUNIT_CASE(mn_reclaimed_huge_page_across_page_tables),
	KUNIT_CASE(mn_migrated_in_small_pieces),
	KUNIT_CASE(mn_flushed_before_the_lock_is_dropped),
#if TREE < 612
	KUNIT_CASE(mn_flushed_while_it_is_pending),
	KUNIT_CASE(mn_flushed_before_mmap_lock_is_dropped),
#endif
#if TREE < 612
	KUNIT_CASE(mn_write_granted_to_a_device),
#endif
	KUNIT_CASE(mn_nested_gather_finds_nothing),
	KUNIT_CASE(mn_nested_gather_flushes_in_the_middle),
	KUNIT_CASE(mn_nested_gather_keeps_the_rest),
	KUNIT_CASE(mn_nested_gather_frees_the_last_tables),
	KUNIT_CASE(mn_nested_gather_does_not_say),
	KUNIT_CASE(mn_nested_gather_of_hugetlb),
	KUNIT_CASE(mn_page_tables_freed),
	KUNIT_CASE(mn_empty_page_tables_freed),
	KUNIT_CASE(mn_munmap_while_the_device_runs),
	KUNIT_CASE(mn_dontneed_while_the_device_runs),
	KUNIT_CASE(mn_cow_while_the_device_runs),
	KUNIT_CASE(mn_two_cpus_at_once),
	{ }
};

static struct kunit_suite mn_site_suite = {
	.name = "mmu_notifier_sites",
	.init = mn_init_bound,
	.exit = mn_exit,
	.test_cases = mn_site_cases,
};

/* Registration, the gate, and the ranges. */

struct mn_counter {
	struct mmu_notifier mn;
	unsigned long calls;
	unsigned long start, end;
	bool freed;
};

static void mn_count(struct mmu_notifier *mn, struct mm_struct *mm,
		     unsigned long start, unsigned long end)
{
	struct mn_counter *counter = container_of(mn, struct mn_counter, mn);

	counter->calls++;
	counter->start = start;
	counter->end = end;
}

static const struct mmu_notifier_ops mn_count_ops = {
	.invalidate_range = mn_count,
};

static const struct mmu_notifier_ops mn_no_range_ops = { };

/* One page that somebody may listen to goes, and no page table: one flush. */
static int mn_unmap_one(void)
{
	unsigned long addr = TEST_BASE;

	return mn_write(addr, PAGE_SIZE) ?:
	       do_madvise(current->mm, addr, PAGE_SIZE, MADV_DONTNEED);
}

static int mn_init_mapped(struct kunit *test)
{
	int ret = mn_init(test);

	if (!ret && mn_map_at(TEST_BASE, PAGE_SIZE, 0) != TEST_BASE)
		ret = -ENOMEM;
	return ret;
}

static void mn_register_and_unregister(struct kunit *test)
{
	struct mn_counter counter = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm;

	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&counter.mn, mm), 0);
	KUNIT_EXPECT_EQ(test, counter.calls, 0UL);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, counter.calls, 1UL);
	mmu_notifier_unregister(&counter.mn, mm);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, counter.calls, 1UL);
}

/* Only who is being killed is kept from registering. */
static void mn_register_with_a_signal(struct kunit *test)
{
	struct mn_counter counter = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm;

	allow_signal(SIGUSR1);
	KUNIT_EXPECT_EQ(test, send_sig(SIGUSR1, current, 1), 0);
	KUNIT_EXPECT_TRUE(test, signal_pending(current));
	KUNIT_EXPECT_EQ(test, mmu_notifier_register(&counter.mn, mm), 0);
	flush_signals(current);
	disallow_signal(SIGUSR1);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, counter.calls, 1UL);
	if (!hlist_unhashed(&counter.mn.hlist))
		mmu_notifier_unregister(&counter.mn, mm);
}

static void mn_each_subscriber_once(struct kunit *test)
{
	struct mn_counter a = { .mn.ops = &mn_count_ops };
	struct mn_counter b = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm;

	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&a.mn, mm), 0);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&b.mn, mm), 0);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, a.calls, 1UL);
	KUNIT_EXPECT_EQ(test, b.calls, 1UL);
	mmu_notifier_unregister(&a.mn, mm);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, a.calls, 1UL);
	KUNIT_EXPECT_EQ(test, b.calls, 2UL);
	mmu_notifier_unregister(&b.mn, mm);
}

/* The walk ends at the first subscriber without the callback. */
static void mn_subscribers_without_the_callback(struct kunit *test)
{
	struct mn_counter with[2] = {
		{ .mn.ops = &mn_count_ops }, { .mn.ops = &mn_count_ops },
	};
	struct mn_counter without[2] = {
		{ .mn.ops = &mn_no_range_ops }, { .mn.ops = &mn_no_range_ops },
	};
	struct mm_struct *mm = mn_test(test)->mm;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test,
				mmu_notifier_register(&without[i].mn, mm), 0);
		KUNIT_ASSERT_EQ(test, mmu_notifier_register(&with[i].mn, mm),
				0);
	}
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, with[i].calls, 1UL);
		mmu_notifier_unregister(&without[i].mn, mm);
	}
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, with[i].calls, 2UL);
		mmu_notifier_unregister(&with[i].mn, mm);
	}
}

#if TREE < 612
static bool mn_interval_invalidate(struct mmu_interval_notifier *interval,
				   const struct mmu_notifier_range *range,
				   unsigned long seq)
{
	mmu_interval_set_seq(interval, seq);
	return true;
}

static const struct mmu_interval_notifier_ops mn_interval_ops = {
	.invalidate = mn_interval_invalidate,
};

/* Nobody who does not want the callback opens the gate, or keeps it open. */
static void mn_gate_is_open_for_users_only(struct kunit *test)
{
	struct mn_counter without = { .mn.ops = &mn_no_range_ops };
	struct mn_counter a = { .mn.ops = &mn_count_ops };
	struct mn_counter b = { .mn.ops = &mn_count_ops };
	struct mmu_interval_notifier interval;
	struct mm_struct *mm = mn_test(test)->mm;

	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(mm));
	KUNIT_ASSERT_EQ(test, mmu_interval_notifier_insert(&interval, mm,
							   TEST_BASE, PAGE_SIZE,
							   &mn_interval_ops),
			0);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(mm));
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&without.mn, mm), 0);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(mm));
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&a.mn, mm), 0);
	KUNIT_EXPECT_TRUE(test, mm_has_secondary_tlb(mm));
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&b.mn, mm), 0);
	mmu_notifier_unregister(&a.mn, mm);
	KUNIT_EXPECT_TRUE(test, mm_has_secondary_tlb(mm));
	mmu_notifier_unregister(&without.mn, mm);
	KUNIT_EXPECT_TRUE(test, mm_has_secondary_tlb(mm));
	mmu_notifier_unregister(&b.mn, mm);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(mm));
	mmu_interval_notifier_remove(&interval);
}
#endif

static struct mn_counter mn_got;

static struct mmu_notifier *mn_alloc(struct mm_struct *mm)
{
	mn_got = (struct mn_counter){ };
	return &mn_got.mn;
}

static void mn_free(struct mmu_notifier *mn)
{
	container_of(mn, struct mn_counter, mn)->freed = true;
}

static const struct mmu_notifier_ops mn_get_ops = {
	.invalidate_range = mn_count,
	.alloc_notifier = mn_alloc,
	.free_notifier = mn_free,
};

/* A registration that is given up leaves nothing behind. */
static void mn_register_while_killed(struct kunit *test)
{
	struct mn_counter counter = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm;
	int before = atomic_read(&mm->mm_count);
	const unsigned int many = 64;
	unsigned int i;

	allow_signal(SIGKILL);
	KUNIT_EXPECT_EQ(test, send_sig(SIGKILL, current, 1), 0);
	for (i = 0; i < many; i++) {
		KUNIT_EXPECT_EQ(test, mmu_notifier_register(&counter.mn, mm),
				-EINTR);
		KUNIT_EXPECT_TRUE(test, hlist_unhashed(&counter.mn.hlist));
		KUNIT_EXPECT_PTR_EQ(test, mmu_notifier_get(&mn_get_ops, mm),
				    ERR_PTR(-EINTR));
		KUNIT_EXPECT_TRUE(test, mn_got.freed);
	}
	flush_signals(current);
	disallow_signal(SIGKILL);
	KUNIT_EXPECT_NULL(test, mm->notifier_subscriptions);
	/* CPUs that are idle borrow the mm, but never so often. */
	KUNIT_EXPECT_LT(test, atomic_read(&mm->mm_count), before + (int)many);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, counter.calls, 0UL);

	KUNIT_EXPECT_EQ(test, mmu_notifier_register(&counter.mn, mm), 0);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, counter.calls, 1UL);
	mmu_notifier_unregister(&counter.mn, mm);
}

/* The kind that is freed later, by SRCU. */
static void mn_get_and_put(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	struct mmu_notifier *first, *second;

	first = mmu_notifier_get(&mn_get_ops, mm);
	KUNIT_ASSERT_FALSE(test, IS_ERR(first));
	second = mmu_notifier_get(&mn_get_ops, mm);
	KUNIT_EXPECT_PTR_EQ(test, first, second);
	mmu_notifier_put(second);
#if TREE < 612
	KUNIT_EXPECT_TRUE(test, mm_has_secondary_tlb(mm));
#endif
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, mn_got.calls, 1UL);
	mmu_notifier_put(first);
#if TREE < 612
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(mm));
#endif
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, mn_got.calls, 1UL);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_TRUE(test, mn_got.freed);
}

#if TREE < 612
static struct {
	struct mn_counter got;
	bool returned;
} mn_slow;

static struct mmu_notifier *mn_slow_alloc(struct mm_struct *mm)
{
	mn_slow.got = (struct mn_counter){ };
	return &mn_slow.got.mn;
}

/* Until mmu_notifier_synchronize() has returned, which it must not, or for a while. */
static void mn_slow_free(struct mmu_notifier *mn)
{
	unsigned int i;

	for (i = 0; i < 10000 && !READ_ONCE(mn_slow.returned); i++)
		udelay(5);
	WRITE_ONCE(mn_slow.got.freed, true);
}

static const struct mmu_notifier_ops mn_slow_ops = {
	.alloc_notifier = mn_slow_alloc,
	.free_notifier = mn_slow_free,
};

static long mn_put_here(void *mn)
{
	mmu_notifier_put(mn);
	return 0;
}

/*
 * A grace period is not enough if the CPU that has put a notifier is late to free
 * it.  That CPU has a list of its own with srcutree.convert_to_big=1.  What is put
 * here begins a grace period on this CPU, which then sees to all that follow.
 */
static void mn_synchronize_waits_for_another_cpu(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	struct mmu_notifier *slow, *mn;
	unsigned int i, other;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU");
	other = mn_other_cpu();
	for (i = 0; i < 10; i++) {
		mn_slow.returned = false;
		slow = mmu_notifier_get(&mn_slow_ops, mm);
		KUNIT_ASSERT_FALSE(test, IS_ERR(slow));
		mn = mmu_notifier_get(&mn_get_ops, mm);
		KUNIT_ASSERT_FALSE(test, IS_ERR(mn));
		mmu_notifier_put(mn);
		work_on_cpu(other, mn_put_here, slow);
		mmu_notifier_synchronize();
		KUNIT_EXPECT_TRUE(test, READ_ONCE(mn_slow.got.freed));
		KUNIT_EXPECT_TRUE(test, mn_got.freed);
		WRITE_ONCE(mn_slow.returned, true);
		/* Nothing of this round is left for the next one. */
		while (!READ_ONCE(mn_slow.got.freed))
			schedule_timeout_uninterruptible(1);
	}
	set_cpus_allowed_ptr(current, cpu_possible_mask);
}
#endif

static void mn_exit_with_a_live_subscriber(struct kunit *test)
{
	struct mn_test *ctx = mn_test(test);
	struct mm_struct *mm = ctx->mm;
	unsigned long calls;

	ctx->dev = shadow_tlb_bind(mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	mn_prepare(test, TEST_BASE, 4 * PAGE_SIZE);
	calls = mn_calls(test);
	kthread_unuse_mm(mm);
	mmput(mm);
	/* The struct is still there: the subscriber holds it. */
#if TREE < 612
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(mm));
#endif
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, TEST_BASE, 4 * PAGE_SIZE), 0U);
	KUNIT_EXPECT_EQ(test, mn_calls(test), calls);
	KUNIT_EXPECT_EQ(test, shadow_tlb_read_stats(ctx->dev).freed_pages, 0UL);
	KUNIT_EXPECT_EQ(test, shadow_tlb_read_stats(ctx->dev).freed_tables,
			0UL);
}

static void mn_only_the_mm_that_changed(struct kunit *test)
{
	struct mn_counter mine = { .mn.ops = &mn_count_ops };
	struct mn_counter other = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm, *mm2;

	mm2 = mn_new_mm();
	KUNIT_ASSERT_NOT_NULL(test, mm2);
	KUNIT_EXPECT_EQ(test, mmu_notifier_register(&mine.mn, mm), 0);
	KUNIT_EXPECT_EQ(test, mmu_notifier_register(&other.mn, mm2), 0);
	KUNIT_EXPECT_EQ(test, mn_unmap_one(), 0);
	KUNIT_EXPECT_EQ(test, mine.calls, 1UL);
	KUNIT_EXPECT_EQ(test, other.calls, 0UL);
	mmu_notifier_unregister(&mine.mn, mm);
	mmu_notifier_unregister(&other.mn, mm2);
	mmput(mm2);
}

#if TREE < 612 || TREE >= 703
#if TREE >= 703
/* As many as the event has */
#define MN_TRACE_CALLERS	4
#define MN_ZAP			"unmap_vmas"
#else
#define MN_TRACE_CALLERS	MMU_NOTIFIER_TRACE_CALLERS
#define MN_ZAP			"unmap_page_range"
#endif

/* What the trace event says of the last call for an mm. */
struct mn_event {
	struct mm_struct *mm;
	unsigned long start, end;
	unsigned long callers[MN_TRACE_CALLERS];
	unsigned int subscribers;
	unsigned int events;
#if TREE >= 703
	struct tracepoint *tp;
#endif
};

static void mn_probe(void *data, struct mm_struct *mm, unsigned long start,
		     unsigned long end, unsigned int subscribers,
		     const unsigned long *callers)
{
	struct mn_event *event = data;

	if (event->mm != mm)
		return;
	event->start = start;
	event->end = end;
	event->subscribers = subscribers;
	memcpy(event->callers, callers, sizeof(event->callers));
	event->events++;
}

static bool mn_event_from(const struct mn_event *event, const char *function)
{
	char name[KSYM_NAME_LEN];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(event->callers); i++) {
		snprintf(name, sizeof(name), "%ps", (void *)event->callers[i]);
		if (!strcmp(name, function))
			return true;
	}
	return false;
}

#if TREE >= 703
/* By name: these tests are built for kernels without the event, too. */
static void mn_find_event(struct tracepoint *tp, void *data)
{
	struct tracepoint **found = data;

	if (!strcmp(tp->name, "arch_invalidate_secondary_tlbs"))
		*found = tp;
}

#endif
static int mn_register_probe(struct mn_event *event)
{
#if TREE < 703
	return register_trace_mmu_notifier_invalidate_range(mn_probe, event);
#else
	return tracepoint_probe_register(event->tp, mn_probe, event);
#endif
}

static void mn_unregister_probe(struct mn_event *event)
{
#if TREE < 703
	unregister_trace_mmu_notifier_invalidate_range(mn_probe, event);
#else
	tracepoint_probe_unregister(event->tp, mn_probe, event);
#endif
	tracepoint_synchronize_unregister();
}

static void mn_trace_event(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 3 * PAGE_SIZE;
	struct mn_counter with[2] = {
		{ .mn.ops = &mn_count_ops }, { .mn.ops = &mn_count_ops },
	};
	struct mn_counter without = { .mn.ops = &mn_no_range_ops };
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_event event = { .mm = mm };

#if TREE >= 703
	for_each_kernel_tracepoint(mn_find_event, &event.tp);
	if (!event.tp)
		kunit_skip(test, "this kernel does not trace these calls");
#endif
	KUNIT_ASSERT_EQ(test, mn_map_at(addr, len, 0), addr);
	KUNIT_ASSERT_EQ(test, mn_write(addr, len), 0);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&without.mn, mm), 0);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&with[0].mn, mm), 0);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&with[1].mn, mm), 0);
	KUNIT_ASSERT_EQ(test, mn_register_probe(&event), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr + PAGE_SIZE, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, event.events, 1U);
	KUNIT_EXPECT_EQ(test, event.start, addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, event.end, addr + 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, event.subscribers, 2U);
	/* Some architectures flush at the end of each VMA, the others at last. */
	if (IS_ENABLED(CONFIG_STACKTRACE) && IS_ENABLED(CONFIG_KALLSYMS))
		KUNIT_EXPECT_TRUE(test,
				  mn_event_from(&event, MN_ZAP) ||
				  mn_event_from(&event, "tlb_finish_mmu"));

	mmu_notifier_unregister(&with[0].mn, mm);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, event.events, 2U);
	KUNIT_EXPECT_EQ(test, event.subscribers, 1U);

	mn_unregister_probe(&event);
	mmu_notifier_unregister(&with[1].mn, mm);
	mmu_notifier_unregister(&without.mn, mm);
}
#endif

#if TREE < 612
static void mn_children_have_no_subscribers(struct kunit *test)
{
	struct mn_counter counter = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_child child = { };

	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&counter.mn, mm), 0);
	KUNIT_EXPECT_EQ(test, mn_fork(&child), 0);
	KUNIT_EXPECT_EQ(test, child.mm_flags & BIT(MMF_SECONDARY_TLB), 0UL);
	mn_child_leave(&child);
	mmu_notifier_unregister(&counter.mn, mm);
}
#endif

static void mn_ranges_are_those_that_changed(struct kunit *test)
{
	unsigned long addr = TEST_BASE, len = 16 * PAGE_SIZE, calls;
	struct mn_test *ctx = mn_test(test);
	unsigned int i;

	ctx->dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	mn_prepare(test, addr, len);

	/* One page, at every second place. */
	for (i = 0; i < 16; i += 2) {
		unsigned long page = addr + i * PAGE_SIZE;

		calls = mn_calls(test);
		KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm, page, PAGE_SIZE,
						 MADV_DONTNEED), 0);
		KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, page,
						    PAGE_SIZE), 1U);
	}
	KUNIT_EXPECT_EQ(test, mn_dev_has(test, addr, len), 8U);

	/* Nothing is left there: nothing to announce. */
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm, addr, PAGE_SIZE,
					 MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 0UL);

	/* The whole area is asked for, the outer pages are not mapped. */
	KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm, addr + 15 * PAGE_SIZE,
					 PAGE_SIZE, MADV_DONTNEED), 0);
	calls = mn_calls(test);
	KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm, addr, len, MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr + PAGE_SIZE,
					    13 * PAGE_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

/* The pages stay, but hardware may not bear both sizes at once. */
static void mn_thp_mapping_split(struct kunit *test)
{
	unsigned long addr = TEST_BASE, calls;
	struct mn_test *ctx = mn_test(test);

	ctx->dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	mn_prepare_thp(test, addr);
	calls = mn_calls(test);
	mn_split_mapping(ctx->mm, addr);
	KUNIT_EXPECT_FALSE(test, mn_is_thp(ctx->mm, addr));
	KUNIT_EXPECT_EQ(test, mn_calls_with(test, calls, addr, PMD_SIZE), 1U);
	KUNIT_EXPECT_EQ(test, mn_calls(test) - calls, 1UL);
	mn_expect_clean(test);
}

static void mn_bind_while_the_mm_changes(struct kunit *test)
{
	struct mn_test *ctx = mn_test(test);
	struct mn_worker w = { .ctx = ctx, .addr = TEST_BASE, .rounds = 300 };
	unsigned int i, binds = 0;
	struct task_struct *task;

	init_completion(&w.done);
	task = kthread_run(mn_work_map, &w, "mn_work");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	while (!try_wait_for_completion(&w.done)) {
		struct shadow_tlb_stats stats;
		struct shadow_tlb *dev;

		dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
		KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
		for (i = 0; i < 1000; i++)
			shadow_tlb_access(dev, TEST_BASE + i % MN_WORK_PAGES *
					  PAGE_SIZE, true);
		stats = shadow_tlb_read_stats(dev);
		shadow_tlb_unbind(dev);
		KUNIT_EXPECT_EQ(test, stats.freed_pages, 0UL);
		KUNIT_EXPECT_EQ(test, stats.freed_tables, 0UL);
		KUNIT_EXPECT_EQ(test, stats.bad_ranges, 0UL);
		binds++;
	}
	KUNIT_EXPECT_EQ(test, w.ret, 0);
#if TREE < 612
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));
#endif
	kunit_info(test, "bound %u times\n", binds);
}

/*
 * How long it takes to leave, alone and beside a process whose device answers
 * late: all subscribers wait for all callbacks.  Printed, not judged.
 */

struct mn_neighbour {
	struct mmu_notifier mn;
	struct mm_struct *mm;
	struct completion done;
	unsigned int calls;
	bool stop;
	int ret;
};

static void mn_answer_late(struct mmu_notifier *mn, struct mm_struct *mm,
			   unsigned long start, unsigned long end)
{
	struct mn_neighbour *n = container_of(mn, struct mn_neighbour, mn);

	WRITE_ONCE(n->calls, n->calls + 1);
	mdelay(1);
}

static const struct mmu_notifier_ops mn_late_ops = {
	.invalidate_range = mn_answer_late,
};

static int mn_neighbour_run(void *data)
{
	struct mn_neighbour *n = data;

	kthread_use_mm(n->mm);
	if (mn_map_at(TEST_BASE, PAGE_SIZE, 0) != TEST_BASE)
		n->ret = -ENOMEM;
	while (!n->ret && !READ_ONCE(n->stop)) {
		n->ret = mn_unmap_one();
		cond_resched();
	}
	kthread_unuse_mm(n->mm);
	kthread_complete_and_exit(&n->done, 0);
}

#define MN_LEAVES	20

static void mn_time_to_leave(struct kunit *test, const char *where)
{
	struct mn_counter counter = { .mn.ops = &mn_count_ops };
	struct mm_struct *mm = mn_test(test)->mm;
	u64 start, took, sum = 0, most = 0;
	unsigned int i;

	for (i = 0; i < MN_LEAVES; i++) {
		KUNIT_ASSERT_EQ(test, mmu_notifier_register(&counter.mn, mm),
				0);
		start = ktime_get_ns();
		mmu_notifier_unregister(&counter.mn, mm);
		took = ktime_get_ns() - start;
		sum += took;
		most = max(most, took);
	}
	kunit_info(test, "row\tmmu_notifier_unregister(), %s\tmean %llu us\tmost %llu us\n",
		   where, div_u64(sum, MN_LEAVES * 1000), div_u64(most, 1000));
}

static void mn_leave_beside_a_neighbour(struct kunit *test)
{
	struct mn_neighbour n = { .mn.ops = &mn_late_ops, .mm = mn_new_mm() };
	struct task_struct *task;
	unsigned int other, i;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
	KUNIT_ASSERT_NOT_NULL(test, n.mm);
	mn_time_to_leave(test, "alone");
	other = mn_other_cpu();
	init_completion(&n.done);
	KUNIT_EXPECT_EQ(test, mmu_notifier_register(&n.mn, n.mm), 0);
	task = kthread_run_on_cpu(mn_neighbour_run, &n, other,
				  "mn_neighbour/%u");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	/* Without its calls there is nothing to wait for. */
	for (i = 0; i < 1000 && READ_ONCE(n.calls) < 2; i++)
		schedule_timeout_uninterruptible(1);
	mn_time_to_leave(test, "beside callbacks of 1 ms");
	KUNIT_EXPECT_GT(test, n.calls, 1U);
	WRITE_ONCE(n.stop, true);
	wait_for_completion(&n.done);
	KUNIT_EXPECT_EQ(test, n.ret, 0);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	mmu_notifier_unregister(&n.mn, n.mm);
	mmput(n.mm);
}

/* The page table that hardware is given. */

#if TREE < 612
/*
 * The kernel frees a page table of its own when it maps a huge page where small
 * ones have been.  Nobody tells a device, so it must not have found it.
 */
static void mn_kernel_page_table_replaced(struct kunit *test)
{
#ifdef CONFIG_ARCH_HAS_DEVICE_PGD
	phys_addr_t phys = ALIGN((phys_addr_t)max_pfn << PAGE_SHIFT, PMD_SIZE);
	struct mn_test *ctx = mn_test(test);
	struct shadow_tlb_stats stats;
	struct vm_struct *area;
	unsigned long addr;
	bool huge;

	ctx->dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	/* It is aligned to its size. */
	area = get_vm_area(PMD_SIZE, VM_IOREMAP);
	KUNIT_ASSERT_NOT_NULL(test, area);
	addr = (unsigned long)area->addr;
	KUNIT_EXPECT_EQ(test, ioremap_page_range(addr, addr + PAGE_SIZE, phys,
						 PAGE_KERNEL), 0);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, PAGE_SIZE), -EFAULT);
	KUNIT_EXPECT_EQ(test, shadow_tlb_held(ctx->dev), 0U);
	vunmap_range(addr, addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, ioremap_page_range(addr, addr + PMD_SIZE, phys,
						 PAGE_KERNEL), 0);
	huge = pmd_leaf(*pmd_off_k(addr));
	stats = shadow_tlb_read_stats(ctx->dev);
	KUNIT_EXPECT_EQ(test, stats.freed_tables, 0UL);
	KUNIT_EXPECT_EQ(test, shadow_tlb_stale(ctx->dev), 0U);
	vunmap_range(addr, addr + PMD_SIZE);
	free_vm_area(area);
	if (!huge)
		kunit_skip(test, "the kernel does not map huge pages here");
#else
	kunit_skip(test, "hardware gets the page table of the CPUs");
#endif
}
#endif

#if TREE >= 703
/*
 * A device that walks mm->pgd can walk the page table of the kernel, too.  When
 * memory is removed, the tables that mapped it and its struct pages are freed:
 * after the pointers to them are gone, and after IOMMUs were told, which is the
 * work of a kernel thread.
 */
#if defined(CONFIG_ASYNC_KERNEL_PGTABLE_FREE) && defined(CONFIG_ZONE_DEVICE)
struct mn_kernel_table {
	pud_t *pud;
	unsigned long pfn;
	unsigned int freed;
	unsigned int reachable;
	unsigned int at_once;
};

struct mn_kernel_tables {
	/* of the linear mapping, and of the struct pages */
	struct mn_kernel_table table[2];
};

static void mn_kernel_page_freed(void *data, struct page *page,
				 unsigned int order)
{
	struct mn_kernel_tables *watch = data;
	unsigned long pfn = page_to_pfn(page);
	struct mn_kernel_table *t;
	pud_t pud;

	for (t = watch->table; t < watch->table + 2; t++) {
		if (!t->pud || t->pfn - pfn >= 1UL << order || t->freed)
			continue;
		pud = READ_ONCE(*t->pud);
		t->freed++;
		t->reachable += pud_present(pud) && pud_pfn(pud) == t->pfn;
		t->at_once += !current_work();
	}
}

/* The table of the third level, if there is one, and it maps nothing else. */
static void mn_watch_table(struct mn_kernel_table *t, unsigned long addr,
			   unsigned long len)
{
	pud_t *pud = pud_offset(p4d_offset(pgd_offset_k(addr), addr), addr);
	unsigned int i, used = 0;

	if (pud_none(*pud) || pud_leaf(*pud))
		return;
	for (i = 0; i < PTRS_PER_PMD; i++)
		used += !pmd_none(pud_pgtable(*pud)[i]);
	if (used != DIV_ROUND_UP(len, PMD_SIZE))
		return;
	t->pfn = pud_pfn(*pud);
	t->pud = pud;
}

/* A table that was there at boot is reserved, and the zone does not count it. */
static void mn_table_of_boot(struct mn_kernel_table *t)
{
	struct page *page = pfn_to_page(t->pfn);

	if (!t->pud || PageReserved(page))
		return;
	SetPageReserved(page);
	adjust_managed_page_count(page, -1);
}

static void mn_remove_memory(struct kunit *test, bool boot)
{
	/* On common machines there is nothing, and no top level is added. */
	u64 len = 1UL << PA_SECTION_SHIFT, start = 384ULL << 30;
	unsigned long end = jiffies + 10 * HZ;
	struct mn_kernel_tables watch = { };
	struct dev_pagemap pgmap = {
		.type = MEMORY_DEVICE_GENERIC,
		.range = { .start = start, .end = start + len - 1 },
		.nr_range = 1,
	};
	struct mn_kernel_table *t;
	void *map;

	if (!request_mem_region(start, len, "mn_test"))
		kunit_skip(test, "no room for memory at %#llx", start);
	map = memremap_pages(&pgmap, NUMA_NO_NODE);
	if (IS_ERR(map)) {
		release_mem_region(start, len);
		kunit_skip(test, "no memory to be had at %#llx", start);
	}
	mn_watch_table(&watch.table[0], (unsigned long)map, len);
	mn_watch_table(&watch.table[1],
		       (unsigned long)pfn_to_page(PHYS_PFN(start)),
		       PHYS_PFN(len) * sizeof(struct page));
	for (t = watch.table; boot && t < watch.table + 2; t++)
		mn_table_of_boot(t);
	KUNIT_EXPECT_EQ(test, register_trace_mm_page_free(mn_kernel_page_freed,
							  &watch), 0);
	memunmap_pages(&pgmap);
	for (t = watch.table; t < watch.table + 2; t++)
		while (t->pud && !READ_ONCE(t->freed) &&
		       time_before(jiffies, end))
			msleep(20);
	unregister_trace_mm_page_free(mn_kernel_page_freed, &watch);
	tracepoint_synchronize_unregister();
	release_mem_region(start, len);
	KUNIT_EXPECT_TRUE(test, watch.table[0].pud || watch.table[1].pud);
	for (t = watch.table; t < watch.table + 2; t++) {
		if (!t->pud)
			continue;
		KUNIT_EXPECT_EQ(test, t->freed, 1U);
		KUNIT_EXPECT_EQ(test, t->reachable, 0U);
		KUNIT_EXPECT_EQ(test, t->at_once, 0U);
	}
}
#else
static void mn_remove_memory(struct kunit *test, bool boot)
{
	kunit_skip(test, "IOMMUs do not walk the kernel's page table");
}
#endif

static void mn_memory_removed(struct kunit *test)
{
	mn_remove_memory(test, false);
}

static void mn_memory_of_boot_removed(struct kunit *test)
{
	mn_remove_memory(test, true);
}
#endif

/* Where nothing is mapped in all that an entry of the top level covers. */
static unsigned long mn_top_level_address(unsigned int nr)
{
	return ALIGN(TASK_SIZE / 2, PGDIR_SIZE) + nr * PGDIR_SIZE;
}

static void mn_top_level_changes(struct kunit *test)
{
	unsigned long addr, len = 2 * PAGE_SIZE;
	struct mn_test *ctx = mn_test(test);
	unsigned int i;
	pgd_t *pgd;
	bool empty;

	ctx->dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
#if TREE < 703
	if (IS_ENABLED(CONFIG_X86_5LEVEL))
#else
	if (IS_ENABLED(CONFIG_X86_64))
#endif
		kunit_info(test, "the page table has %u levels\n",
			   mm_p4d_folded(ctx->mm) ? 4 : 5);
	/* Where the top level has two entries, the second one is all there is. */
	for (i = 0; i < 2; i++) {
		addr = mn_top_level_address(i);
		if (addr >= TASK_SIZE)
			break;
		pgd = pgd_offset(ctx->mm, addr);
		empty = pgd_none(*pgd) || p4d_none(*p4d_offset(pgd, addr));
		KUNIT_EXPECT_TRUE(test, empty);
		/* What was not there before. */
		mn_prepare(test, addr, len);
		mn_expect_clean(test);
		/* It goes again, and the device does not find it any more. */
		KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
		KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), -EFAULT);
		KUNIT_EXPECT_EQ(test, shadow_tlb_held(ctx->dev), 0U);
		mn_expect_clean(test);
	}
}

#if TREE < 612
/* A child has a page table of its own for devices, or none. */
static void mn_top_level_of_a_child(struct kunit *test)
{
	unsigned long addr = mn_top_level_address(0), len = 2 * PAGE_SIZE;
	struct mn_test *ctx = mn_test(test);
	struct mn_child child = { .addr = addr, .len = len };
	pgd_t *pgd;

	ctx->dev = shadow_tlb_bind(ctx->mm, SHADOW_TLB_INVALIDATE_RANGE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ctx->dev));
	mn_prepare(test, addr, len);
	KUNIT_ASSERT_EQ(test, mn_fork(&child), 0);
	mn_expect_clean(test);
	pgd = mm_device_pgd(child.mm);
	KUNIT_EXPECT_NOT_NULL(test, pgd);
	KUNIT_EXPECT_PTR_NE(test, pgd, ctx->dev->pgd);
	if (pgd)
		KUNIT_EXPECT_EQ(test, mn_top_level_differs(child.mm, pgd), 0U);
	mn_child_leave(&child);
	mn_expect_clean(test);
	KUNIT_EXPECT_EQ(test, mn_dev_use(test, addr, len), 0);
	mn_expect_clean(test);
}

static int mn_work_top_level(void *data)
{
	struct mn_worker *w = data;
	unsigned int i;

	kthread_use_mm(w->ctx->mm);
	for (i = 0; !w->ret && i < w->rounds; i++) {
		unsigned long addr = mn_top_level_address(i);

		if (mn_map_at(addr, PAGE_SIZE, 0) != addr)
			w->ret = -ENOMEM;
		else
			w->ret = mn_write(addr, PAGE_SIZE);
		if (!w->ret && i % 3)
			w->ret = vm_munmap(addr, PAGE_SIZE);
		WRITE_ONCE(w->begun, true);
	}
	kthread_unuse_mm(w->ctx->mm);
	kthread_complete_and_exit(&w->done, 0);
}

/* The first device comes while the top level changes on another CPU. */
static void mn_top_level_changes_at_the_first_bind(struct kunit *test)
{
	unsigned int i, other, differs = 0;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
	other = mn_other_cpu();
	for (i = 0; i < 500; i++) {
		struct mn_test ctx = { .mm = mn_new_mm() };
		struct mn_worker w = { .ctx = &ctx, .rounds = 32 };
		struct task_struct *task;
		pgd_t *pgd;

		KUNIT_ASSERT_NOT_NULL(test, ctx.mm);
		init_completion(&w.done);
		task = kthread_run_on_cpu(mn_work_top_level, &w, other,
					  "mn_work/%u");
		KUNIT_ASSERT_FALSE(test, IS_ERR(task));
		while (!READ_ONCE(w.begun) && !completion_done(&w.done))
			cpu_relax();
		pgd = mm_device_pgd(ctx.mm);
		wait_for_completion(&w.done);
		KUNIT_EXPECT_EQ(test, w.ret, 0);
		KUNIT_EXPECT_NOT_NULL(test, pgd);
		if (pgd)
			differs += mn_top_level_differs(ctx.mm, pgd);
		mmput(ctx.mm);
	}
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	KUNIT_EXPECT_EQ(test, differs, 0U);
}

/* Whoever asks for the page table of devices. */
struct mn_first {
	struct mm_struct *mm;
	pgd_t *pgd;
	struct completion done;
};

static int mn_work_first(void *data)
{
	struct mn_first *first = data;

	first->pgd = mm_device_pgd(first->mm);
	kthread_complete_and_exit(&first->done, 0);
}

/* Two devices come at once: both have found no page table when one makes it. */
static void mn_top_level_for_two_at_once(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	struct mn_first first[2];
	struct task_struct *task;
	unsigned int i, tries;

	if (!IS_ENABLED(CONFIG_ARCH_HAS_DEVICE_PGD))
		kunit_skip(test, "devices have the page table of the CPUs");
	mmap_write_lock(mm);
	for (i = 0; i < ARRAY_SIZE(first); i++) {
		first[i] = (struct mn_first){ .mm = mm };
		init_completion(&first[i].done);
		task = kthread_create(mn_work_first, &first[i], "mn_first/%u",
				      i);
		KUNIT_ASSERT_FALSE(test, IS_ERR(task));
		get_task_struct(task);
		wake_up_process(task);
		for (tries = 0; tries < 10000 &&
		     READ_ONCE(task->__state) != TASK_UNINTERRUPTIBLE; tries++)
			usleep_range(1000, 2000);
		KUNIT_EXPECT_LT(test, tries, 10000U);
		put_task_struct(task);
	}
	mmap_write_unlock(mm);
	for (i = 0; i < ARRAY_SIZE(first); i++)
		wait_for_completion(&first[i].done);
	KUNIT_EXPECT_NOT_NULL(test, first[0].pgd);
	KUNIT_EXPECT_PTR_EQ(test, first[0].pgd, first[1].pgd);
	KUNIT_EXPECT_PTR_EQ(test, first[0].pgd, mm_device_pgd(mm));
}

/* With a reference of its own, the page shows that the other one has gone. */
static void mn_top_level_is_freed(struct kunit *test)
{
	struct mm_struct *mm;
	struct page *page;
	pgd_t *pgd;

	if (!IS_ENABLED(CONFIG_ARCH_HAS_DEVICE_PGD))
		kunit_skip(test, "devices have the page table of the CPUs");
	mm = mn_new_mm();
	KUNIT_ASSERT_NOT_NULL(test, mm);
	pgd = mm_device_pgd(mm);
	if (!pgd)
		mmput(mm);
	KUNIT_ASSERT_NOT_NULL(test, pgd);
	page = virt_to_page(pgd);
	get_page(page);
	KUNIT_EXPECT_EQ(test, page_count(page), 2);
	mmput(mm);
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	put_page(page);
}
#endif

/* A callback that goes on until it is let go. */
struct mn_stay {
	struct mmu_notifier mn;
	struct mm_struct *mm;
	unsigned long addr;
	bool entered, leave;
	struct completion unmapped, unregistered;
};

static void mn_stays(struct mmu_notifier *mn, struct mm_struct *mm,
		     unsigned long start, unsigned long end)
{
	struct mn_stay *stay = container_of(mn, struct mn_stay, mn);

	WRITE_ONCE(stay->entered, true);
	while (!READ_ONCE(stay->leave))
		cpu_relax();
}

static const struct mmu_notifier_ops mn_stay_ops = {
	.invalidate_range = mn_stays,
};

static int mn_work_unmap(void *data)
{
	struct mn_stay *stay = data;

	kthread_use_mm(stay->mm);
	vm_munmap(stay->addr, PAGE_SIZE);
	kthread_unuse_mm(stay->mm);
	kthread_complete_and_exit(&stay->unmapped, 0);
}

static int mn_work_unregister(void *data)
{
	struct mn_stay *stay = data;

	mmu_notifier_unregister(&stay->mn, stay->mm);
	kthread_complete_and_exit(&stay->unregistered, 0);
}

/* Whoever has unregistered can free what the callback uses. */
static void mn_unregister_waits_for_callbacks(struct kunit *test)
{
	struct mn_stay stay = {
		.mn.ops = &mn_stay_ops,
		.mm = mn_test(test)->mm,
		.addr = TEST_BASE + PUD_SIZE,
	};
	struct task_struct *unmap, *unregister;
	unsigned int tries;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
	init_completion(&stay.unmapped);
	init_completion(&stay.unregistered);
	KUNIT_ASSERT_EQ(test, mn_map_at(stay.addr, PAGE_SIZE, 0), stay.addr);
	KUNIT_ASSERT_EQ(test, mn_write(stay.addr, PAGE_SIZE), 0);
	unmap = kthread_create(mn_work_unmap, &stay, "mn_unmap");
	unregister = kthread_create(mn_work_unregister, &stay, "mn_unregister");
	KUNIT_ASSERT_FALSE(test, IS_ERR(unmap));
	KUNIT_ASSERT_FALSE(test, IS_ERR(unregister));
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&stay.mn, stay.mm), 0);
	wake_up_process(unmap);
	for (tries = 0; tries < 10000 && !READ_ONCE(stay.entered); tries++)
		usleep_range(1000, 2000);
	KUNIT_EXPECT_TRUE(test, stay.entered);
	wake_up_process(unregister);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&stay.unregistered));
	WRITE_ONCE(stay.leave, true);
	wait_for_completion(&stay.unmapped);
	wait_for_completion(&stay.unregistered);
}

static struct kunit_case mn_api_cases[] = {
	KUNIT_CASE(mn_register_and_unregister),
	KUNIT_CASE(mn_register_with_a_signal),
	KUNIT_CASE(mn_unregister_waits_for_callbacks),
	KUNIT_CASE(mn_register_while_killed),
	KUNIT_CASE(mn_each_subscriber_once),
	KUNIT_CASE(mn_subscribers_without_the_callback),
#if TREE < 612
	KUNIT_CASE(mn_gate_is_open_for_users_only),
#endif
	KUNIT_CASE(mn_get_and_put),
#if TREE < 612
	KUNIT_CASE(mn_synchronize_waits_for_another_cpu),
#endif
	KUNIT_CASE(mn_exit_with_a_live_subscriber),
	KUNIT_CASE(mn_only_the_mm_that_changed),
#if TREE < 612 || TREE >= 703
	KUNIT_CASE(mn_trace_event),
#endif
#if TREE < 612
	KUNIT_CASE(mn_children_have_no_subscribers),
#endif
	KUNIT_CASE(mn_ranges_are_those_that_changed),
	KUNIT_CASE(mn_thp_mapping_split),
	KUNIT_CASE(mn_bind_while_the_mm_changes),
	KUNIT_CASE(mn_leave_beside_a_neighbour),
#if TREE < 612
	KUNIT_CASE(mn_kernel_page_table_replaced),
#endif
#if TREE >= 703
	KUNIT_CASE(mn_memory_removed),
	KUNIT_CASE(mn_memory_of_boot_removed),
#endif
	KUNIT_CASE(mn_top_level_changes),
#if TREE < 612
	KUNIT_CASE(mn_top_level_of_a_child),
	KUNIT_CASE(mn_top_level_changes_at_the_first_bind),
	KUNIT_CASE(mn_top_level_for_two_at_once),
	KUNIT_CASE(mn_top_level_is_freed),
#endif
	{ }
};

static struct kunit_suite mn_api_suite = {
	.name = "mmu_notifier_api",
	.init = mn_init_mapped,
	.exit = mn_exit,
	.test_cases = mn_api_cases,
};

/* The demonstration: one device, four policies, the same process. */

static const char * const mn_policy_names[SHADOW_TLB_NR_POLICIES] = {
	[SHADOW_TLB_FLUSH_START] = "flush in invalidate_range_start()",
	[SHADOW_TLB_FLUSH_END] = "flush in invalidate_range_end()",
	[SHADOW_TLB_BLOCK] = "block the device between the two",
	[SHADOW_TLB_INVALIDATE_RANGE] = "flush in invalidate_range()",
};

#define MN_DEMO_ROUNDS	16
#define MN_DEMO_LEN	(16 * PAGE_SIZE)

/* A process maps memory, forks, writes, gives half of it back, and unmaps. */
static int mn_demo_round(struct mm_struct *mm, struct shadow_tlb *dev)
{
	unsigned long addr = TEST_BASE;
	struct mn_child child = { };
	int ret;

	if (mn_map_at(addr, MN_DEMO_LEN, 0) != addr)
		return -ENOMEM;
	ret = mn_write(addr, MN_DEMO_LEN);
	shadow_tlb_run_on(dev, addr, addr + MN_DEMO_LEN);
	shadow_tlb_touch(dev);
	ret = ret ?: mn_fork(&child);
	shadow_tlb_touch(dev);
	ret = ret ?: mn_write(addr, MN_DEMO_LEN);
	shadow_tlb_touch(dev);
	ret = ret ?: do_madvise(mm, addr, MN_DEMO_LEN / 2, MADV_DONTNEED);
	shadow_tlb_touch(dev);
	ret = ret ?: vm_munmap(addr, MN_DEMO_LEN);
	shadow_tlb_touch(dev);
	mn_child_leave(&child);
	return ret;
}

static void mn_four_policies(struct kunit *test)
{
	struct mm_struct *mm = mn_test(test)->mm;
	enum shadow_tlb_policy policy;
	struct shadow_tlb_stats s;
	struct shadow_tlb *dev;
	unsigned int round;

	for (policy = 0; policy < SHADOW_TLB_NR_POLICIES; policy++) {
		dev = shadow_tlb_bind(mm, policy);
		KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
		for (round = 0; round < MN_DEMO_ROUNDS; round++)
			KUNIT_EXPECT_EQ(test, mn_demo_round(mm, dev), 0);
		s = shadow_tlb_read_stats(dev);
		shadow_tlb_unbind(dev);
		kunit_info(test, "row\t%s\t%lu\t%lu\t%lu\t%lu\t%lu\n",
			   mn_policy_names[policy], s.stale_used,
			   s.freed_pages, s.freed_tables, s.faults,
			   s.accesses);
		KUNIT_EXPECT_EQ(test, policy == SHADOW_TLB_INVALIDATE_RANGE,
				!s.stale_used && !s.freed_pages &&
				!s.freed_tables && !s.faults);
	}
}

static struct kunit_case mn_demo_cases[] = {
	KUNIT_CASE(mn_four_policies),
	{ }
};

static struct kunit_suite mn_demo_suite = {
	.name = "mmu_notifier_demo",
	.init = mn_init,
	.exit = mn_exit,
	.test_cases = mn_demo_cases,
};

kunit_test_suites(&mn_site_suite, &mn_api_suite, &mn_demo_suite);
