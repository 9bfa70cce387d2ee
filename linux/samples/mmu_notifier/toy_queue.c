// SPDX-License-Identifier: GPL-2.0
/*
 * The commands of the driver: a ring in memory, a doorbell, and a word that the
 * device writes when it is done.
 */

#include <linux/device.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/mmu_notifier.h>
#include <linux/spinlock.h>

#include "toy_driver.h"

/* Far above the slowest flush, far below what is taken for a lockup. */
#define TOY_LIMIT_US	USEC_PER_SEC

/* The answer comes behind what the device has written until then. */
void toy_disable(struct toy *toy)
{
	toy_hw_write(toy->hw, TOY_CONTROL, 0);
	toy_hw_read(toy->hw, TOY_CONTROL);
}

/*
 * With PCI, turn bus mastering off here, for good.  @dead comes last: another
 * CPU that sees it returns from its flush, and frees pages.
 */
static void toy_cut_off(struct toy *toy)
{
	toy_disable(toy);
	if (!xchg(&toy->dead, 1))
		dev_err(toy->dev, "not flushed in time, cut off from memory\n");
}

static bool toy_is_done(struct toy *toy, u32 nr)
{
	return (s32)(le32_to_cpu(READ_ONCE(toy->memory->done)) - nr) >= 0;
}

/* Waits for the first @nr of all commands, unless it has waited in vain before. */
static void toy_wait(struct toy *toy, u32 nr, bool may_sleep)
{
	bool done;

	/* Pairs with xchg() in toy_cut_off(). */
	if (smp_load_acquire(&toy->dead))
		return;
	if (may_sleep)
		read_poll_timeout(toy_is_done, done, done, 50, TOY_LIMIT_US,
				  false, toy, nr);
	else
		read_poll_timeout_atomic(toy_is_done, done, done, 1,
					 TOY_LIMIT_US, false, toy, nr);
	if (!done)
		toy_cut_off(toy);
	/* Who reads a page next finds what the device has written before. */
	dma_rmb();
}

/* Waits for all that was posted. */
void toy_sync(struct toy *toy, bool may_sleep)
{
	toy_wait(toy, READ_ONCE(toy->tail), may_sleep);
}

static struct toy_command toy_command(u32 op, u32 pasid, u64 first, u64 last)
{
	return (struct toy_command) {
		.op = cpu_to_le32(op),
		.pasid = cpu_to_le32(pasid),
		.first = cpu_to_le64(first),
		.last = cpu_to_le64(last),
	};
}

/* Behind the @nr commands goes one that says that they are complete. */
static void toy_post(struct toy *toy, const struct toy_command *commands, u32 nr)
{
	struct toy_command *ring = toy->memory->commands;
	u32 tail, end;

	spin_lock(&toy->lock);
	tail = toy->tail;
	end = tail + nr + 1;
	/* For space, if many CPUs flush, or the device is late. */
	toy_wait(toy, end - TOY_NR_COMMANDS, false);
	if (!READ_ONCE(toy->dead)) {
		while (nr--)
			ring[tail++ % TOY_NR_COMMANDS] = *commands++;
		ring[tail++ % TOY_NR_COMMANDS] =
			toy_command(TOY_COMPLETE | TOY_FENCE, 0, 0, end);
		WRITE_ONCE(toy->tail, tail);
		/*
		 * As with writel(), memory is first: the commands, and the page
		 * table as this CPU, or one whose change it saw, has changed
		 * it.  writel_relaxed() needs wmb() in front of it, and a valid
		 * bit in the command dma_wmb().
		 */
		toy_hw_write(toy->hw, TOY_TAIL, tail);
	}
	spin_unlock(&toy->lock);
}

void toy_flush(struct toy_link *link, u64 first, u64 last)
{
	struct toy_command commands[] = {
		toy_command(TOY_FLUSH_IOTLB, link->pasid, first, last),
		/* Behind the IOTLB, from which the ATC is filled. */
		toy_command(TOY_FLUSH_ATC | TOY_FENCE, link->pasid, first, last),
	};

	toy_post(link->toy, commands, ARRAY_SIZE(commands));
}

/* The device begins nothing for this PASID.  Its context is not valid any more. */
void toy_stop_device(struct toy_link *link)
{
	struct toy_command command = toy_command(TOY_STOP, link->pasid, 0, 0);

	toy_post(link->toy, &command, 1);
}

void toy_respond(struct toy *toy, u16 tag, int error)
{
	struct toy_command command = toy_command(TOY_RESPOND, 0, tag, !!error);

	toy_post(toy, &command, 1);
}
