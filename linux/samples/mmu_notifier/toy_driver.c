// SPDX-License-Identifier: GPL-2.0
/*
 * A driver of hardware that shares the page table of a process, and has a TLB
 * of its own: how it uses mmu_notifier_ops.  Documentation/mm/mmu_notifier.rst
 * explains why.
 *
 * Who opens /dev/mmu_notifier_toy binds itself to the device, until the last
 * descriptor is closed.  pread() makes the device read at the address that is
 * given as the offset, and returns what it found there.
 */

#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "toy_device.h"

#define TOY_READ_MAX	64UL

/* A process that the device is bound to. */
struct toy_bond {
	struct mmu_notifier mn;
	struct toy_context context;
	unsigned int opens;		/* protected by toy_mutex */
};

static DEFINE_MUTEX(toy_mutex);
static struct dentry *toy_debugfs;
static atomic_t toy_bonds;
static atomic_t toy_calls;

static struct toy_bond *to_bond(struct mmu_notifier *mn)
{
	return container_of(mn, struct toy_bond, mn);
}

/* Spinlocks of the mm are held: no sleeping, no allocation that reclaims. */
static void toy_invalidate_range(struct mmu_notifier *mn, struct mm_struct *mm,
				 unsigned long start, unsigned long end)
{
	atomic_inc(&toy_calls);
	toy_device_flush(&to_bond(mn)->context, start, end - 1);
}

/* The process ends, and its memory is freed without further calls. */
static void toy_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	toy_device_stop(&to_bond(mn)->context);
}

/* The first open() of a process.  mmap_lock is held. */
static struct mmu_notifier *toy_alloc_notifier(struct mm_struct *mm)
{
	struct toy_bond *bond = kzalloc(sizeof(*bond), GFP_KERNEL);

	if (!bond)
		return ERR_PTR(-ENOMEM);
	toy_device_init(&bond->context);
	atomic_inc(&toy_bonds);
	return &bond->mn;
}

/* No callback can be running any more.  It must not sleep. */
static void toy_free_notifier(struct mmu_notifier *mn)
{
	atomic_dec(&toy_bonds);
	kfree(to_bond(mn));
}

static const struct mmu_notifier_ops toy_mn_ops = {
	.invalidate_range = toy_invalidate_range,
	.release = toy_release,
	.alloc_notifier = toy_alloc_notifier,
	.free_notifier = toy_free_notifier,
};

/* All descriptors of a process share one bond: it has one page table. */
static struct toy_bond *toy_bind(void)
{
	struct mmu_notifier *mn;
	struct toy_bond *bond;

	mutex_lock(&toy_mutex);
	mn = mmu_notifier_get(&toy_mn_ops, current->mm);
	if (IS_ERR(mn)) {
		bond = ERR_CAST(mn);
	} else {
		bond = to_bond(mn);
		/* Callbacks come from now on: only now may it walk. */
		if (!bond->opens++)
			toy_device_start(&bond->context);
	}
	mutex_unlock(&toy_mutex);
	return bond;
}

/* The last put calls no release(): stop the device first. */
static void toy_unbind(struct toy_bond *bond)
{
	mutex_lock(&toy_mutex);
	if (!--bond->opens)
		toy_device_stop(&bond->context);
	mmu_notifier_put(&bond->mn);
	mutex_unlock(&toy_mutex);
}

static int toy_open(struct inode *inode, struct file *file)
{
	struct toy_bond *bond;

	if (!current->mm)
		return -EINVAL;
	bond = toy_bind();
	if (IS_ERR(bond))
		return PTR_ERR(bond);
	file->private_data = bond;
	return 0;
}

/* Also long after the process has ended, if another one has the descriptor. */
static int toy_close(struct inode *inode, struct file *file)
{
	toy_unbind(file->private_data);
	return 0;
}

/*
 * The descriptor can have got to another process, by fork() or otherwise, and
 * to another mm, by execve().
 */
static ssize_t toy_read(struct file *file, char __user *to, size_t count,
			loff_t *offset)
{
	struct toy_bond *bond = file->private_data;
	unsigned long addr = *offset;
	char data[TOY_READ_MAX];
	size_t len;
	int ret;

	if (current->mm != bond->mn.mm)
		return -EPERM;
	if (addr != *offset)
		return -EFAULT;
	/* Callbacks are for addresses without tags, and so is the TLB. */
	addr = untagged_addr(addr);
	len = min3(count, TOY_READ_MAX, PAGE_SIZE - offset_in_page(addr));
	ret = toy_device_read(&bond->context, addr, data, len);
	if (ret)
		return ret;
	if (copy_to_user(to, data, len))
		return -EFAULT;
	*offset += len;
	return len;
}

static const struct file_operations toy_fops = {
	.owner = THIS_MODULE,
	.open = toy_open,
	.release = toy_close,
	.read = toy_read,
};

static struct miscdevice toy_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &toy_fops,
	.mode = 0600,
};

static void toy_show_statistics(void)
{
	toy_debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_atomic_t("bonds", 0400, toy_debugfs, &toy_bonds);
	debugfs_create_atomic_t("calls", 0400, toy_debugfs, &toy_calls);
	debugfs_create_atomic_t("running", 0400, toy_debugfs,
				&toy_statistics.running);
	debugfs_create_atomic_t("reads", 0400, toy_debugfs,
				&toy_statistics.reads);
	debugfs_create_atomic_t("walks", 0400, toy_debugfs,
				&toy_statistics.walks);
	debugfs_create_atomic_t("discarded", 0400, toy_debugfs,
				&toy_statistics.discarded);
}

/* From misc_register() on, everything has to work. */
static int __init toy_init(void)
{
	int ret;

	toy_show_statistics();
	ret = misc_register(&toy_misc);
	if (ret)
		debugfs_remove(toy_debugfs);
	return ret;
}
module_init(toy_init);

/* Nobody has a descriptor, but a last put may not have freed its bond yet. */
static void __exit toy_exit(void)
{
	misc_deregister(&toy_misc);
	debugfs_remove(toy_debugfs);
	mmu_notifier_synchronize();
}
module_exit(toy_exit);

MODULE_DESCRIPTION("Sample driver of a device with a secondary TLB");
MODULE_LICENSE("GPL");
