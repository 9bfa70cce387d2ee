// SPDX-License-Identifier: GPL-2.0
/*
 * The page requests of a device (PRI): accesses for which there was no entry in
 * the page table, or one that forbade them.
 */

#include <linux/interrupt.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include "toy_driver.h"

struct toy_fault {
	struct work_struct work;
	struct toy *toy;
	struct toy_link *link;
	struct toy_request request;
};

/*
 * A fault takes mmap_lock, and long.  Others do not wait for it: each has a work
 * item.  Nor does a flush, whose caller can hold mmap_lock: the device executes
 * it although it waits for this response.  There is no FAULT_FLAG_ALLOW_RETRY:
 * it could wait for a thread that closes the file, and that waits for this.
 */
static void toy_handle_fault(struct work_struct *work)
{
	struct toy_fault *fault = container_of(work, struct toy_fault, work);
	unsigned int write = fault->request.write ? FAULT_FLAG_WRITE : 0;
	u64 addr = le64_to_cpu(fault->request.addr);
	struct toy_link *link = fault->link;
	struct mm_struct *mm = link->bond->mn.mm;
	int ret = -EFAULT;

	/* The notifier keeps the struct, not the address space. */
	if (mmget_not_zero(mm)) {
		mmap_read_lock(mm);
		ret = fixup_user_fault(mm, addr, FAULT_FLAG_REMOTE | write, NULL);
		/*
		 * The device may have the entry that forbade the write.  What
		 * is granted is not announced.
		 */
#if TREE < 612
		if (!ret && write)
			mmu_notifier_write_fault_done(mm, addr);
#else
		if (!ret && write) {
			toy_flush(link, addr, addr);
			toy_sync(fault->toy, true);
		}
#endif
		mmap_read_unlock(mm);
		/* Not mmput(): release() would wait for this function. */
		mmput_async(mm);
	}
	toy_respond(fault->toy, le16_to_cpu(fault->request.tag), ret);
	if (atomic_dec_and_test(&link->pending))
		wake_up_var(&link->pending);
	toy_put_link(link);
	kfree(fault);
}

static void toy_take_request(struct toy *toy, const struct toy_request *request)
{
	struct toy_link *link;
	struct toy_fault *fault;

	/* A device may ask with any PASID, at any time. */
	link = toy_get_link(toy, le32_to_cpu(request->pasid));
	fault = link ? kmalloc(sizeof(*fault), GFP_KERNEL) : NULL;
	if (!fault) {
		toy_respond(toy, le16_to_cpu(request->tag), -ENOMEM);
		if (link)
			toy_put_link(link);
		return;
	}
	fault->toy = toy;
	fault->link = link;
	fault->request = *request;
	atomic_inc(&link->pending);
	INIT_WORK(&fault->work, toy_handle_fault);
	queue_work(toy->workqueue, &fault->work);
}

irqreturn_t toy_take_requests(int irq, void *data)
{
	struct toy *toy = data;
	u32 tail;

	mutex_lock(&toy->requests_lock);
	/* As with readl(), memory is read later; else, dma_rmb(). */
	tail = toy_hw_read(toy->hw, TOY_REQUEST_TAIL);
	/* All ones if the device was pulled out. */
	if (tail - toy->head > TOY_NR_REQUESTS)
		tail = toy->head;
	for (; toy->head != tail; toy->head++)
		toy_take_request(toy, &toy->memory->requests[toy->head %
							     TOY_NR_REQUESTS]);
	mutex_unlock(&toy->requests_lock);
	return IRQ_HANDLED;
}

/* The device makes no more requests for this PASID: waits for those it has made. */
void toy_drain(struct toy_link *link)
{
	toy_take_requests(0, link->toy);
	wait_var_event(&link->pending, !atomic_read_acquire(&link->pending));
	/* With a response, the device loads a translation: that comes first. */
	toy_sync(link->toy, true);
}
