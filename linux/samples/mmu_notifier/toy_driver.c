// SPDX-License-Identifier: GPL-2.0
/*
 * A driver of devices that walk the page table of a process and have TLBs: how
 * it uses mmu_notifier_ops.  Documentation/mm/mmu_notifier.rst explains why, and
 * toy_device.h describes the device.  Here is the life cycle.  toy_queue.c has the
 * commands, toy_requests.c the page requests.
 *
 * A process that opens /dev/mmu_notifier_toy0 lets the device use its memory.
 * pread() and pwrite() make the device read and write, at the address that is
 * given as the offset.
 */

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pgtable.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "toy_driver.h"

struct toy_link *toy_get_link(struct toy *toy, unsigned long pasid)
{
	struct toy_link *link;

	xa_lock(&toy->links);
	link = xa_load(&toy->links, pasid);
	if (link)
		kref_get(&link->ref);
	xa_unlock(&toy->links);
	return link;
}

static void toy_free_link(struct kref *ref)
{
	struct toy_link *link = container_of(ref, struct toy_link, ref);

	mmu_notifier_put(&link->bond->mn);
	kfree(link);
}

void toy_put_link(struct toy_link *link)
{
	kref_put(&link->ref, toy_free_link);
}

/* --- the end of a link --- */

/*
 * Stop, drain, flush: a device that runs sends requests behind the drain, and
 * one that waited for a response loads translations when it has that.
 */
static void toy_stop(struct toy_link *link)
{
	struct toy_bond *bond = link->bond;
	struct toy *toy = link->toy;

	lockdep_assert_held(&bond->mutex);
	/* Exit, close and removal of the device come in any order. */
	if (list_empty(&link->node))
		return;
	WRITE_ONCE(toy->memory->contexts[link->pasid], 0);
	toy_stop_device(link);
	toy_sync(toy, true);
	toy_drain(link);
	toy_flush(link, 0, U64_MAX);
	toy_sync(toy, true);

	write_lock(&bond->lock);
	list_del_init(&link->node);
	write_unlock(&bond->lock);
	/* From now on, the PASID may be somebody else's. */
	xa_erase(&toy->links, link->pasid);
	WRITE_ONCE(link->pasid, 0);
}

static void toy_lock_and_stop(struct toy_link *link)
{
	mutex_lock(&link->bond->mutex);
	toy_stop(link);
	mutex_unlock(&link->bond->mutex);
}

/* --- callbacks --- */

static struct toy_bond *to_bond(struct mmu_notifier *mn)
{
	return container_of(mn, struct toy_bond, mn);
}

/* Under page table locks: this does not sleep, nor allocate with reclaim. */
static void toy_invalidate_range(struct mmu_notifier *mn, struct mm_struct *mm,
				 unsigned long start, unsigned long end)
{
	struct toy_bond *bond = to_bond(mn);
	struct toy_link *link;

	read_lock(&bond->lock);
	/* The devices flush at the same time. */
	list_for_each_entry(link, &bond->links, node)
		toy_flush(link, start, end - 1);
	list_for_each_entry(link, &bond->links, node)
		toy_sync(link->toy, false);
	read_unlock(&bond->lock);
}

/* The process ends: its memory is freed when this returns, without more calls. */
static void toy_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct toy_bond *bond = to_bond(mn);
	struct toy_link *link, *next;

	/* SRCU is held: nobody may unregister, or wait for SRCU, under the mutex. */
	mutex_lock(&bond->mutex);
	list_for_each_entry_safe(link, next, &bond->links, node)
		toy_stop(link);
	mutex_unlock(&bond->mutex);
}

/* The first open() of a process.  mmap_lock is held. */
static struct mmu_notifier *toy_alloc_notifier(struct mm_struct *mm)
{
	struct toy_bond *bond = kzalloc(sizeof(*bond), GFP_KERNEL);

	if (!bond)
		return ERR_PTR(-ENOMEM);
	mutex_init(&bond->mutex);
	rwlock_init(&bond->lock);
	INIT_LIST_HEAD(&bond->links);
	return &bond->mn;
}

/* No callback can be running any more, or it was not registered.  Must not sleep. */
static void toy_free_notifier(struct mmu_notifier *mn)
{
	kfree(to_bond(mn));
}

static const struct mmu_notifier_ops toy_mn_ops = {
	.invalidate_range = toy_invalidate_range,
	.release = toy_release,
	.alloc_notifier = toy_alloc_notifier,
	.free_notifier = toy_free_notifier,
};

/* --- files --- */

/* Callbacks find the link before the device may walk. */
static int toy_start(struct toy_link *link, pgd_t *pgd)
{
	struct toy_bond *bond = link->bond;
	struct toy *toy = link->toy;
	int ret;

	ret = xa_alloc(&toy->links, &link->pasid, link,
		       XA_LIMIT(1, TOY_NR_PASIDS - 1), GFP_KERNEL);
	if (ret)
		return ret;
	write_lock(&bond->lock);
	list_add(&link->node, &bond->links);
	write_unlock(&bond->lock);
	/* The device reads what pgd has when it finds this entry. */
	dma_wmb();
	WRITE_ONCE(toy->memory->contexts[link->pasid],
		   cpu_to_le64(virt_to_phys(pgd) | TOY_VALID));
	return 0;
}

static int toy_open(struct inode *inode, struct file *file)
{
	struct toy *toy = container_of(file->private_data, struct toy, misc);
	struct mm_struct *mm = current->mm;
	struct mmu_notifier *mn;
	struct toy_link *link;
	pgd_t *pgd;
	int ret;

	if (!mm || READ_ONCE(toy->dead))
		return -ENODEV;
#if TREE < 612
	/* On x86, mm->pgd has the kernel's half as well. */
	pgd = mm_device_pgd(mm);
	if (!pgd)
		return -ENOMEM;
#else
	pgd = mm->pgd;
#endif
#if TREE < 703
	link = kzalloc(sizeof(*link), GFP_KERNEL);
#else
	link = kzalloc_obj(*link);
#endif
	if (!link)
		return -ENOMEM;
	kref_init(&link->ref);
	INIT_LIST_HEAD(&link->node);
	link->toy = toy;
	link->portal = toy->hw;
	/* Without a notifier, nobody would flush. */
	mn = mmu_notifier_get(&toy_mn_ops, mm);
	if (IS_ERR(mn)) {
		kfree(link);
		return PTR_ERR(mn);
	}
	link->bond = to_bond(mn);
	ret = toy_start(link, pgd);
	if (ret)
		toy_put_link(link);
	else
		file->private_data = link;
	return ret;
}

/* The process may have ended long ago, and the device be gone. */
static int toy_close(struct inode *inode, struct file *file)
{
	struct toy_link *link = file->private_data;

	/* The last put calls no release(), and does not wait for callbacks. */
	toy_lock_and_stop(link);
	toy_put_link(link);
	return 0;
}

/* fork(), execve() and others bring the file to another address space. */
static ssize_t toy_read(struct file *file, char __user *to, size_t len,
			loff_t *addr)
{
	struct toy_link *link = file->private_data;

	if (current->mm != link->bond->mn.mm)
		return -EPERM;
	return toy_portal_read(link->portal, READ_ONCE(link->pasid), to, len, addr);
}

static ssize_t toy_write(struct file *file, const char __user *from, size_t len,
			 loff_t *addr)
{
	struct toy_link *link = file->private_data;

	if (current->mm != link->bond->mn.mm)
		return -EPERM;
	return toy_portal_write(link->portal, READ_ONCE(link->pasid), from, len, addr);
}

static const struct file_operations toy_fops = {
	.owner = THIS_MODULE,
	.open = toy_open,
	.release = toy_close,
	.read = toy_read,
	.write = toy_write,
};

/* --- devices --- */

static int toy_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct toy *toy;
	int irq, ret;

	irq = platform_get_irq(pdev, 0);
	if (irq < 0)
		return irq;
	toy = devm_kzalloc(dev, sizeof(*toy), GFP_KERNEL);
	if (!toy)
		return -ENOMEM;
	/* On a bus, dma_alloc_coherent(). */
	toy->memory = devm_kzalloc(dev, sizeof(*toy->memory), GFP_KERNEL);
	toy->misc.name = devm_kasprintf(dev, GFP_KERNEL, "mmu_notifier_toy%d",
					pdev->id);
	if (!toy->memory || !toy->misc.name)
		return -ENOMEM;
	toy->dev = dev;
	toy->hw = toy_hw_map(pdev);
	toy->misc.minor = MISC_DYNAMIC_MINOR;
	toy->misc.fops = &toy_fops;
	toy->misc.mode = 0600;
	spin_lock_init(&toy->lock);
	mutex_init(&toy->requests_lock);
	xa_init_flags(&toy->links, XA_FLAGS_ALLOC);
	toy->workqueue = alloc_workqueue("mmu_notifier_toy", WQ_UNBOUND, 0);
	if (!toy->workqueue)
		return -ENOMEM;
	platform_set_drvdata(pdev, toy);
	toy_hw_write(toy->hw, TOY_MEMORY, virt_to_phys(toy->memory));
	toy_hw_write(toy->hw, TOY_CONTROL, TOY_ENABLE);
	ret = request_threaded_irq(irq, NULL, toy_take_requests, IRQF_ONESHOT,
				   toy->misc.name, toy);
	if (ret)
		goto disable;
	/* From here on, everything has to work. */
	ret = misc_register(&toy->misc);
	if (!ret)
		return 0;
	free_irq(irq, toy);
disable:
	toy_disable(toy);
	destroy_workqueue(toy->workqueue);
	return ret;
}

/* Files may be open, and stay so. */
static void toy_unplug(struct platform_device *pdev)
{
	struct toy *toy = platform_get_drvdata(pdev);
	struct toy_link *link;
	unsigned long pasid;

	misc_deregister(&toy->misc);
	xa_for_each(&toy->links, pasid, link) {
		link = toy_get_link(toy, pasid);
		if (!link)
			continue;
		toy_lock_and_stop(link);
		toy_put_link(link);
	}
	toy_disable(toy);
	free_irq(platform_get_irq(pdev, 0), toy);
	destroy_workqueue(toy->workqueue);
}

#if TREE < 612
static int toy_remove(struct platform_device *pdev)
{
	toy_unplug(pdev);
	return 0;
}

#endif
static struct platform_driver toy_platform_driver = {
	.driver.name = "mmu_notifier_toy",
	.probe = toy_probe,
#if TREE < 612
	.remove = toy_remove,
#else
	.remove = toy_unplug,
#endif
};

static int __init toy_init(void)
{
	return platform_driver_register(&toy_platform_driver);
}
module_init(toy_init);

/* No file is open, but a last put may not have freed its bond yet. */
static void __exit toy_exit(void)
{
	platform_driver_unregister(&toy_platform_driver);
	mmu_notifier_synchronize();
}
module_exit(toy_exit);

MODULE_ALIAS("platform:mmu_notifier_toy");
MODULE_DESCRIPTION("Sample driver of devices with secondary TLBs");
MODULE_LICENSE("GPL");
