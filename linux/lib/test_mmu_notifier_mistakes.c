// SPDX-License-Identifier: GPL-2.0
/*
 * Mistakes around mmu_notifier_ops.invalidate_range(), one per case, for whoever
 * wants to see what the kernel says to them.  A case passes when it has made its
 * mistake; the report is in the log.  CONFIG_DEBUG_VM reports bad ranges,
 * CONFIG_DEBUG_ATOMIC_SLEEP and CONFIG_PROVE_LOCKING what a callback must not
 * do.  Both kinds of report come once per boot, and lockdep stops at its first
 * one, so run one case at a time:
 *
 *	test_mmu_notifier_mistakes.make
 *	kunit.filter_glob=secondary_tlb_mistakes.mn_takes_a_mutex
 *
 * Nothing here waits for a lock that is held: the machine goes on.
 */

#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/completion.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* Far from anything else. */
#define TEST_BASE	ALIGN(TASK_SIZE / 4, P4D_SIZE)

static bool make;
module_param(make, bool, 0444);
MODULE_PARM_DESC(make, "Make the mistakes; else all cases are skipped");

static int mn_init(struct kunit *test)
{
	unsigned long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	struct mm_struct *mm;

	if (!make)
		kunit_skip(test, "test_mmu_notifier_mistakes.make is not set");
	mm = mm_alloc();
	if (!mm)
		return -ENOMEM;
	arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	mm->task_size = TASK_SIZE;
	kthread_use_mm(mm);
	test->priv = mm;
	if (vm_mmap(NULL, TEST_BASE, PAGE_SIZE, PROT_READ | PROT_WRITE, flags,
		    0) != TEST_BASE)
		return -ENOMEM;
	/*
	 * The zero page is replaced as any page is by COW, with the page table
	 * lock held.  Nobody listens yet.
	 */
	if (fault_in_readable((char __user *)TEST_BASE, 1) ||
	    put_user(1UL, (unsigned long __user *)TEST_BASE))
		return -EFAULT;
	return 0;
}

static void mn_exit(struct kunit *test)
{
	struct mm_struct *mm = test->priv;

	if (!mm)
		return;
	kthread_unuse_mm(mm);
	mmput(mm);
}

/* A subscriber whose callback makes a mistake. */

struct mn_driver {
	struct mmu_notifier mn;
	void (*mistake)(struct mm_struct *mm);
	unsigned int calls;
};

static void mn_driver_flush(struct mmu_notifier *mn, struct mm_struct *mm,
			    unsigned long start, unsigned long end)
{
	struct mn_driver *driver = container_of(mn, struct mn_driver, mn);

	driver->calls++;
	driver->mistake(mm);
}

static const struct mmu_notifier_ops mn_driver_ops = {
	.invalidate_range = mn_driver_flush,
};

static void mn_callback(struct kunit *test, void (*mistake)(struct mm_struct *))
{
	struct mn_driver driver = {
		.mn.ops = &mn_driver_ops, .mistake = mistake,
	};
	struct mm_struct *mm = test->priv;

	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&driver.mn, mm), 0);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, TEST_BASE, PAGE_SIZE,
					 MADV_DONTNEED), 0);
	KUNIT_EXPECT_EQ(test, driver.calls, 1U);
	mmu_notifier_unregister(&driver.mn, mm);
}

static void mn_do_nothing(struct mm_struct *mm)
{
}

/* Callers that give a range which is none. */

static void mn_announce(struct kunit *test, unsigned long start,
			unsigned long end)
{
	struct mn_driver driver = {
		.mn.ops = &mn_driver_ops, .mistake = mn_do_nothing,
	};
	struct mm_struct *mm = test->priv;

	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&driver.mn, mm), 0);
	mmap_read_lock(mm);
	mmu_notifier_invalidate_range(mm, start, end);
	mmap_read_unlock(mm);
	mmu_notifier_unregister(&driver.mn, mm);
}

static void mn_empty_range(struct kunit *test)
{
	mn_announce(test, TEST_BASE, TEST_BASE);
}

static void mn_inverted_range(struct kunit *test)
{
	mn_announce(test, TEST_BASE + PAGE_SIZE, TEST_BASE);
}

static void mn_unaligned_range(struct kunit *test)
{
	mn_announce(test, TEST_BASE, TEST_BASE + 1);
}

static void mn_kernel_range(struct kunit *test)
{
	mn_announce(test, -2 * PAGE_SIZE, -PAGE_SIZE);
}

/*
 * A driver that takes its mapping away and holds no lock of the mm: somebody
 * registers between the test of the flag and the change, and is not told.
 */

static int mn_pfn_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_flags |= VM_PFNMAP | VM_IO;
	return 0;
}

static const struct file_operations mn_pfn_fops = {
	.mmap = mn_pfn_mmap,
};

static void mn_zaps_without_mmap_lock(struct kunit *test)
{
	unsigned long addr = TEST_BASE + PMD_SIZE;
	struct mm_struct *mm = test->priv;
	struct vm_area_struct *vma;
	struct file *file;

	file = anon_inode_getfile("mn_mistake", &mn_pfn_fops, NULL, O_RDWR);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, vm_mmap(file, addr, PAGE_SIZE, PROT_READ,
				      MAP_SHARED | MAP_FIXED, 0), addr);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	mmap_read_unlock(mm);
	/* Nobody else changes the mapping. */
	zap_vma_ptes(vma, addr, PAGE_SIZE);
	fput(file);
}

/* Callbacks that sleep, or could. */

/* Long enough for the report that comes first to be written. */
static void mn_sleep(struct mm_struct *mm)
{
	schedule_timeout_uninterruptible(HZ);
}

static void mn_sleeps(struct kunit *test)
{
	mn_callback(test, mn_sleep);
}

static void mn_wait(struct mm_struct *mm)
{
	DECLARE_COMPLETION_ONSTACK(done);

	complete(&done);
	wait_for_completion(&done);
}

static void mn_waits_for_completion(struct kunit *test)
{
	mn_callback(test, mn_wait);
}

/* Callbacks that allocate. */

static void mn_alloc(struct mm_struct *mm)
{
	kfree(kmalloc(8, GFP_KERNEL));
}

static void mn_allocates(struct kunit *test)
{
	mn_callback(test, mn_alloc);
}

static void mn_alloc_noio(struct mm_struct *mm)
{
	kfree(kmalloc(8, GFP_NOIO));
}

static void mn_allocates_without_io(struct kunit *test)
{
	mn_callback(test, mn_alloc_noio);
}

/* No mistake: it takes what there is, or nothing. */
static void mn_alloc_atomic(struct mm_struct *mm)
{
	kfree(kmalloc(8, GFP_ATOMIC));
}

static void mn_allocates_as_it_may(struct kunit *test)
{
	mn_callback(test, mn_alloc_atomic);
}

/* Callbacks that take a lock which they must not take. */

static DEFINE_MUTEX(mn_mutex);

static void mn_take_mutex(struct mm_struct *mm)
{
	mutex_lock(&mn_mutex);
	mutex_unlock(&mn_mutex);
}

static void mn_takes_a_mutex(struct kunit *test)
{
	mn_callback(test, mn_take_mutex);
}

static void mn_take_mmap_lock(struct mm_struct *mm)
{
	mmap_read_lock(mm);
	mmap_read_unlock(mm);
}

static void mn_takes_mmap_lock(struct kunit *test)
{
	mn_callback(test, mn_take_mmap_lock);
}

static void mn_take_anon_vma_lock(struct mm_struct *mm)
{
	struct anon_vma *anon_vma = vma_lookup(mm, TEST_BASE)->anon_vma;

	anon_vma_lock_read(anon_vma);
	anon_vma_unlock_read(anon_vma);
}

static void mn_takes_anon_vma_lock(struct kunit *test)
{
	mn_callback(test, mn_take_anon_vma_lock);
}

static struct file *mn_file;

static void mn_take_i_mmap_lock(struct mm_struct *mm)
{
	i_mmap_lock_read(mn_file->f_mapping);
	i_mmap_unlock_read(mn_file->f_mapping);
}

static const struct file_operations mn_fops = { };

static void mn_takes_i_mmap_lock(struct kunit *test)
{
	mn_file = anon_inode_getfile("mn_mistake", &mn_fops, NULL, O_RDWR);
	KUNIT_ASSERT_FALSE(test, IS_ERR(mn_file));
	mn_callback(test, mn_take_i_mmap_lock);
	fput(mn_file);
}

/* A page table that other than the flushed entries are in could be locked. */
static void mn_take_page_table_lock(struct mm_struct *mm)
{
	spinlock_t *ptl;	/* of that page table */
	pte_t *pte;

	pte = pte_offset_map_lock(mm, pmd_off(mm, TEST_BASE), TEST_BASE, &ptl);
	pte_unmap_unlock(pte, ptl);
}

static void mn_takes_page_table_lock(struct kunit *test)
{
	mn_callback(test, mn_take_page_table_lock);
}

static DEFINE_SPINLOCK(mn_lock);

static void mn_take_lock(struct mm_struct *mm)
{
	spin_lock(&mn_lock);
	spin_unlock(&mn_lock);
}

/* No mistake, as long as mn_lock is not held around one of the mm's locks. */
static void mn_takes_a_spinlock(struct kunit *test)
{
	mn_callback(test, mn_take_lock);
}

static void mn_takes_a_lock_held_around_that(struct kunit *test)
{
	spin_lock(&mn_lock);
	mn_take_page_table_lock(test->priv);
	spin_unlock(&mn_lock);
	mn_callback(test, mn_take_lock);
}

static struct kunit_case mn_mistake_cases[] = {
	KUNIT_CASE(mn_empty_range),
	KUNIT_CASE(mn_inverted_range),
	KUNIT_CASE(mn_unaligned_range),
	KUNIT_CASE(mn_kernel_range),
	KUNIT_CASE(mn_zaps_without_mmap_lock),
	KUNIT_CASE(mn_sleeps),
	KUNIT_CASE(mn_waits_for_completion),
	KUNIT_CASE(mn_allocates),
	KUNIT_CASE(mn_allocates_without_io),
	KUNIT_CASE(mn_allocates_as_it_may),
	KUNIT_CASE(mn_takes_a_mutex),
	KUNIT_CASE(mn_takes_mmap_lock),
	KUNIT_CASE(mn_takes_anon_vma_lock),
	KUNIT_CASE(mn_takes_i_mmap_lock),
	KUNIT_CASE(mn_takes_page_table_lock),
	KUNIT_CASE(mn_takes_a_spinlock),
	KUNIT_CASE(mn_takes_a_lock_held_around_that),
	{ }
};

static struct kunit_suite mn_mistake_suite = {
	.name = "secondary_tlb_mistakes",
	.init = mn_init,
	.exit = mn_exit,
	.test_cases = mn_mistake_cases,
};

kunit_test_suites(&mn_mistake_suite);
