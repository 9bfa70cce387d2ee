// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/shadow_tlb: the shadow device (shadow_tlb.c) for tests in user space.
 *
 * Who opens it has a device on its mm until the last descriptor is closed, also
 * after exit or execve(): the counters can still be read then, by whoever has
 * the descriptor.  The interface is in shadow_tlb_uapi.h.
 */

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "shadow_tlb.h"
#include "shadow_tlb_uapi.h"

/* Milliseconds until operations on the mm must have come to an end. */
#define SHADOW_DEV_PATIENCE	1000

/*
 * The page table is walked without locks, which only works on a CPU that uses
 * the mm.  The device has a reference to mm_count: no other mm can have the
 * same address.
 */
static bool shadow_dev_is_mine(const struct shadow_tlb *dev)
{
	return current->mm == dev->mm;
}

static int shadow_dev_get_range(struct shadow_tlb_range __user *arg,
				struct shadow_tlb_range *range)
{
	if (copy_from_user(range, arg, sizeof(*range)))
		return -EFAULT;
	if (!PAGE_ALIGNED(range->addr) || !PAGE_ALIGNED(range->len) ||
	    range->len > SHADOW_TLB_MAX_PAGES * PAGE_SIZE)
		return -EINVAL;
	if (range->len > TASK_SIZE || range->addr > TASK_SIZE - range->len)
		return -EINVAL;
	return 0;
}

static int shadow_dev_put_pages(struct shadow_tlb_range __user *arg,
				unsigned long pages)
{
	return put_user((__u64)pages, &arg->pages);
}

static int shadow_dev_access(struct shadow_tlb *dev, bool write,
			     struct shadow_tlb_range __user *arg)
{
	struct shadow_tlb_range range;
	unsigned long addr, pages = 0;
	int ret;

	if (!shadow_dev_is_mine(dev))
		return -EPERM;
	ret = shadow_dev_get_range(arg, &range);
	if (ret)
		return ret;
	for (addr = range.addr; addr < range.addr + range.len; addr += PAGE_SIZE) {
		pages += !shadow_tlb_access(dev, addr, write);
		cond_resched();
	}
	return shadow_dev_put_pages(arg, pages);
}

static int shadow_dev_cached(struct shadow_tlb *dev,
			     struct shadow_tlb_range __user *arg)
{
	struct shadow_tlb_range range;
	unsigned long addr, pages = 0;
	int ret;

	ret = shadow_dev_get_range(arg, &range);
	if (ret)
		return ret;
	for (addr = range.addr; addr < range.addr + range.len; addr += PAGE_SIZE) {
		pages += shadow_tlb_cached(dev, addr);
		cond_resched();
	}
	return shadow_dev_put_pages(arg, pages);
}

static int shadow_dev_run_on(struct shadow_tlb *dev,
			     struct shadow_tlb_range __user *arg)
{
	struct shadow_tlb_range range;
	int ret;

	if (!shadow_dev_is_mine(dev))
		return -EPERM;
	ret = shadow_dev_get_range(arg, &range);
	if (!ret)
		shadow_tlb_run_on(dev, range.addr, range.addr + range.len);
	return ret;
}

/*
 * Waits for what kernel threads are about to do: KSM, khugepaged, reclaim,
 * compaction.
 */
static bool shadow_dev_compare(struct shadow_tlb *dev, unsigned int *stale)
{
	int i;

	if (!shadow_dev_is_mine(dev))
		return false;
	for (i = 0; i < SHADOW_DEV_PATIENCE; i++) {
		if (shadow_tlb_check(dev, stale))
			return true;
		fsleep(1000);
	}
	return false;
}

static int shadow_dev_report(struct shadow_tlb *dev,
			     struct shadow_tlb_report __user *arg)
{
	struct shadow_tlb_report report = { };
	struct shadow_tlb_stats stats;
	unsigned int stale = 0;

	report.compared = shadow_dev_compare(dev, &stale);
	report.stale = stale;
	stats = shadow_tlb_read_stats(dev);
	report.accesses = stats.accesses;
	report.stale_used = stats.stale_used;
	report.freed_pages = stats.freed_pages;
	report.freed_tables = stats.freed_tables;
	report.calls = stats.calls;
	report.bad_ranges = stats.bad_ranges;
	report.outside = stats.outside;
	report.held = shadow_tlb_held(dev);
	report.devices = shadow_tlb_devices();
	report.mm_references = atomic_read(&dev->mm->mm_count);
	return copy_to_user(arg, &report, sizeof(report)) ? -EFAULT : 0;
}

static long shadow_dev_ioctl(struct file *file, unsigned int cmd,
			     unsigned long arg)
{
	struct shadow_tlb *dev = file->private_data;
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case SHADOW_TLB_READ:
		return shadow_dev_access(dev, false, argp);
	case SHADOW_TLB_WRITE:
		return shadow_dev_access(dev, true, argp);
	case SHADOW_TLB_CACHED:
		return shadow_dev_cached(dev, argp);
	case SHADOW_TLB_RUN_ON:
		return shadow_dev_run_on(dev, argp);
	case SHADOW_TLB_REPORT:
		return shadow_dev_report(dev, argp);
	default:
		return -ENOTTY;
	}
}

static int shadow_dev_open(struct inode *inode, struct file *file)
{
	struct shadow_tlb *dev;

	if (!current->mm)
		return -EINVAL;
	dev = shadow_tlb_bind(current->mm, SHADOW_TLB_INVALIDATE_RANGE);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	file->private_data = dev;
	return nonseekable_open(inode, file);
}

static int shadow_dev_release(struct inode *inode, struct file *file)
{
	shadow_tlb_unbind(file->private_data);
	return 0;
}

static const struct file_operations shadow_dev_fops = {
	.owner = THIS_MODULE,
	.open = shadow_dev_open,
	.release = shadow_dev_release,
	.unlocked_ioctl = shadow_dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
#if TREE < 612
	.llseek = no_llseek,
#endif
};

static struct miscdevice shadow_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "shadow_tlb",
	.fops = &shadow_dev_fops,
	.mode = 0600,
};

builtin_misc_device(shadow_dev);
