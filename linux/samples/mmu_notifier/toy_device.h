/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a driver sees of the toy device.  Of real hardware these would be
 * registers and commands.
 */
#ifndef _SAMPLES_TOY_DEVICE_H
#define _SAMPLES_TOY_DEVICE_H

#include <linux/atomic.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#define TOY_ENTRIES	64

struct page;

struct toy_entry {
	unsigned long addr;
	struct page *page;
};

/**
 * struct toy_context - the state that the device has for one address space
 * @lock: held by the device while it uses what is below
 * @running: the device may walk the page table
 * @flushes: how many flushes there were
 * @tlb: what the device has loaded; it holds no references to pages
 */
struct toy_context {
	spinlock_t lock;	/* for all below */
	bool running;
	unsigned long flushes;
	struct toy_entry tlb[TOY_ENTRIES];
};

/**
 * struct toy_statistics - what all contexts did, and do
 * @running: contexts that may walk a page table
 * @reads: reads of memory
 * @walks: walks for them: translations that were not in the TLB
 * @discarded: walks whose result was thrown away, as there was a flush
 */
struct toy_statistics {
	atomic_t running;
	atomic_t reads;
	atomic_t walks;
	atomic_t discarded;
};

extern struct toy_statistics toy_statistics;

void toy_device_init(struct toy_context *context);
void toy_device_start(struct toy_context *context);
void toy_device_stop(struct toy_context *context);
void toy_device_flush(struct toy_context *context, unsigned long start,
		      unsigned long last);
int toy_device_read(struct toy_context *context, unsigned long addr, void *to,
		    size_t len);

#endif /* _SAMPLES_TOY_DEVICE_H */
