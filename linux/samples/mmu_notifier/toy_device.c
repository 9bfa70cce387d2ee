// SPDX-License-Identifier: GPL-2.0
/*
 * A device with a TLB of its own, in software, so that the driver next to this
 * file has something to drive.  It reads memory of the process that it is bound
 * to, and never writes.
 *
 * Hardware walks the page table by itself.  Software must not: the page table
 * belongs to the mm, which can free it under a walk.  So the stand-in asks for
 * the page with get_user_pages_fast(), which is the walk and, if nothing is
 * mapped, the page request.  It gives the reference back at once, as hardware
 * has none.  From then on a page is only safe to use because invalidate_range()
 * is called before it is freed.
 *
 * A driver that fills a TLB in software, from misses that its device reports,
 * needs just what is here.  The difficulty is a walk that has found the old
 * page while the callback runs: its result must not get into the TLB after the
 * callback has returned.  Hardware takes care of that as part of a flush.  Here,
 * a walk counts only if there was no flush since before it began.
 */

#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "toy_device.h"

static uint walk_delay;
module_param(walk_delay, uint, 0644);
MODULE_PARM_DESC(walk_delay, "microseconds from the end of a walk until it is in the TLB");

struct toy_statistics toy_statistics;

static struct toy_entry *toy_slot(struct toy_context *context,
				  unsigned long addr)
{
	return &context->tlb[(addr >> PAGE_SHIFT) % TOY_ENTRIES];
}

void toy_device_init(struct toy_context *context)
{
	spin_lock_init(&context->lock);
}

void toy_device_start(struct toy_context *context)
{
	spin_lock(&context->lock);
	context->running = true;
	atomic_inc(&toy_statistics.running);
	spin_unlock(&context->lock);
}

/**
 * toy_device_flush - drop what was loaded
 * @context: the context
 * @start: first address
 * @last: last address
 *
 * The lock waits for a read that has found an entry, and for the page that it
 * copies from.
 */
void toy_device_flush(struct toy_context *context, unsigned long start,
		      unsigned long last)
{
	int i;

	spin_lock(&context->lock);
	context->flushes++;
	for (i = 0; i < TOY_ENTRIES; i++) {
		struct toy_entry *entry = &context->tlb[i];

		if (entry->addr >= (start & PAGE_MASK) && entry->addr <= last)
			entry->page = NULL;
	}
	spin_unlock(&context->lock);
}

/* Nothing more is loaded.  It can be called more than once. */
void toy_device_stop(struct toy_context *context)
{
	spin_lock(&context->lock);
	if (context->running)
		atomic_dec(&toy_statistics.running);
	context->running = false;
	spin_unlock(&context->lock);
	toy_device_flush(context, 0, ULONG_MAX);
}

/* Returns 1 if the device has read, 0 if the page is not in the TLB. */
static int toy_lookup(struct toy_context *context, unsigned long addr,
		      void *to, size_t len, unsigned long *flushes)
{
	struct toy_entry *entry = toy_slot(context, addr);
	int ret = 0;

	spin_lock(&context->lock);
	*flushes = context->flushes;
	if (!context->running) {
		ret = -EIO;
	} else if (entry->page && entry->addr == (addr & PAGE_MASK)) {
		memcpy_from_page(to, entry->page, offset_in_page(addr), len);
		atomic_inc(&toy_statistics.reads);
		ret = 1;
	}
	spin_unlock(&context->lock);
	return ret;
}

static void toy_load(struct toy_context *context, unsigned long addr,
		     struct page *page, unsigned long flushes)
{
	struct toy_entry *entry = toy_slot(context, addr);

	spin_lock(&context->lock);
	if (context->running && context->flushes == flushes) {
		entry->addr = addr & PAGE_MASK;
		entry->page = page;
	} else {
		atomic_inc(&toy_statistics.discarded);
	}
	spin_unlock(&context->lock);
}

/**
 * toy_device_read - the device reads memory of its process
 * @context: the context
 * @addr: user address, without a tag
 * @to: where it goes
 * @len: number of bytes, not beyond the page
 *
 * The caller has the mm of the context, and no lock that a page fault takes.
 *
 * Return: 0 if all was read, -EFAULT or what else get_user_pages_fast() says,
 * -EINTR if the process is killed, -EIO if the device is stopped.
 */
int toy_device_read(struct toy_context *context, unsigned long addr, void *to,
		    size_t len)
{
	unsigned long flushes;
	struct page *page;
	int ret;

	while (!(ret = toy_lookup(context, addr, to, len, &flushes))) {
		if (fatal_signal_pending(current))
			return -EINTR;
		atomic_inc(&toy_statistics.walks);
		ret = get_user_pages_fast(addr & PAGE_MASK, 1, 0, &page);
		if (ret != 1)
			return ret < 0 ? ret : -EFAULT;
		if (walk_delay)
			fsleep(walk_delay);
		toy_load(context, addr, page, flushes);
		put_page(page);
		/* Flushes can make it try again as long as they come. */
		cond_resched();
	}
	return 0;
}
