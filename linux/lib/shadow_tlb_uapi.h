/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface of /dev/shadow_tlb, a device with a TLB of its own, in
 * software.  It shares the page table of the process that opens it, until it is
 * closed.  For tests only: nothing of this is stable.
 */
#ifndef _LIB_SHADOW_TLB_UAPI_H
#define _LIB_SHADOW_TLB_UAPI_H

#include <linux/types.h>
#include <linux/ioctl.h>

/* The most that a range can have.  The device may hold less. */
#define SHADOW_TLB_MAX_PAGES	8192

/**
 * struct shadow_tlb_range - user addresses that the device is to use
 * @addr: (in) first address, a multiple of the page size
 * @len: (in) length in bytes, a multiple of the page size, at most
 *	SHADOW_TLB_MAX_PAGES pages
 * @pages: (out) number of pages: see the ioctl
 */
struct shadow_tlb_range {
	__u64 addr;
	__u64 len;
	__u64 pages;
};

/**
 * struct shadow_tlb_report - what the device did and what went wrong
 * @accesses: accesses the device attempted
 * @stale_used: accesses served with a translation that is no longer true
 * @freed_pages: pages freed while the device could still reach them
 * @freed_tables: page-table pages freed while the device could still walk them
 * @calls: calls of invalidate_range()
 * @bad_ranges: those with an empty, inverted or unaligned range
 * @outside: those that are not between invalidate_range_start() and
 *	invalidate_range_end()
 * @held: translations and page-table pointers the device holds
 * @stale: those of them that allow more than the page table does; 0 if the
 *	caller does not have the device's mm, or an operation does not end, see
 *	@compared
 * @compared: 1 if @stale was counted
 * @devices: devices that there are in the system
 * @mm_references: references to the mm struct, one by each subscription
 */
struct shadow_tlb_report {
	__u64 accesses;
	__u64 stale_used;
	__u64 freed_pages;
	__u64 freed_tables;
	__u64 calls;
	__u64 bad_ranges;
	__u64 outside;
	__u64 held;
	__u64 stale;
	__u64 compared;
	__u64 devices;
	__u64 mm_references;
};

/*
 * The device reads or writes each page of a range.  @pages: how many it could
 * without asking for them; it never does ask.  It walks the page table on the
 * caller's CPU: EPERM if the caller does not have the device's mm.
 */
#define SHADOW_TLB_READ		_IOWR(0xF9, 0x00, struct shadow_tlb_range)
#define SHADOW_TLB_WRITE	_IOWR(0xF9, 0x01, struct shadow_tlb_range)

/* @pages: how many pages of a range the device has a translation for. */
#define SHADOW_TLB_CACHED	_IOWR(0xF9, 0x02, struct shadow_tlb_range)

/*
 * From now on the device reads the range inside each of its notifier callbacks;
 * @len is 0 to stop.  EPERM as above.
 */
#define SHADOW_TLB_RUN_ON	_IOW(0xF9, 0x03, struct shadow_tlb_range)

/*
 * Compare all that the device holds with the page table, while no operation on
 * the mm is under way: waits up to a second for those of kernel threads.
 * Without the device's mm: counters only.
 */
#define SHADOW_TLB_REPORT	_IOR(0xF9, 0x04, struct shadow_tlb_report)

#endif /* _LIB_SHADOW_TLB_UAPI_H */
