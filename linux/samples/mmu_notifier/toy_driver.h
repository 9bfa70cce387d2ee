/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _SAMPLES_TOY_DRIVER_H
#define _SAMPLES_TOY_DRIVER_H

#include <linux/atomic.h>
#include <linux/irqreturn.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>

#include "toy_device.h"

struct workqueue_struct;

/* A device. */
struct toy {
	struct device *dev;
	struct toy_hw *hw;		/* registers */
	struct toy_memory *memory;
	struct miscdevice misc;
	spinlock_t lock;		/* for commands */
	u32 tail;			/* commands posted, ever */
	u32 dead;			/* 1 if it was late once, and is cut off */
	struct xarray links;		/* by PASID */
	struct mutex requests_lock;
	u32 head;			/* page requests taken, ever */
	struct workqueue_struct *workqueue;
};

/* A process whose memory devices use. */
struct toy_bond {
	struct mmu_notifier mn;		/* one for all devices */
	struct mutex mutex;		/* held while a link is stopped */
	rwlock_t lock;			/* read by flushes, until completion */
	struct list_head links;
};

/* A device that uses the memory of a process, for an open file. */
struct toy_link {
	struct kref ref;		/* of the file, and of page requests */
	struct toy *toy;
	struct toy_hw *portal;
	struct toy_bond *bond;
	struct list_head node;		/* empty if it was stopped */
	u32 pasid;			/* 0 if it was stopped */
	atomic_t pending;		/* page requests being handled */
};

/* toy_driver.c */
struct toy_link *toy_get_link(struct toy *toy, unsigned long pasid);
void toy_put_link(struct toy_link *link);

/* toy_queue.c */
void toy_disable(struct toy *toy);
void toy_flush(struct toy_link *link, u64 first, u64 last);
void toy_stop_device(struct toy_link *link);
void toy_respond(struct toy *toy, u16 tag, int error);
void toy_sync(struct toy *toy, bool may_sleep);

/* toy_requests.c */
irqreturn_t toy_take_requests(int irq, void *data);
void toy_drain(struct toy_link *link);

#endif /* _SAMPLES_TOY_DRIVER_H */
