/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/mmu_subscribers: subscribers for the mm of the process that opened it, what bench.c
 * measures with. They go when the file is closed.
 */
#ifndef _MMU_SUBSCRIBERS_H
#define _MMU_SUBSCRIBERS_H

#include <linux/ioctl.h>
#include <linux/types.h>

enum subscriber_kind {
	/* an interval notifier, as GPU drivers have them */
	SUBSCRIBER_INTERVAL,
	/* invalidate_range_start() and _end(), as KVM has them */
	SUBSCRIBER_WITHOUT_OP,
	/* invalidate_range() and nothing else, as an IOMMU driver; without it in base */
	SUBSCRIBER_WITH_OP,
};

/* @ticks is set: TSC ticks that the registration took. */
struct subscriber_attach {
	__u32 kind;
	__u32 reserved;
	__u64 start;	/* of the interval, bytes */
	__u64 length;	/* of the interval, bytes */
	__u64 ticks;
};

#define SUBSCRIBERS_ATTACH	_IOWR('m', 0, struct subscriber_attach)
/* removes all; the result is the TSC ticks that the last removal took */
#define SUBSCRIBERS_DETACH	_IOR('m', 1, __u64)
/* calls of invalidate_range() in all subscribers of this file */
#define SUBSCRIBERS_CALLS	_IOR('m', 2, __u64)

#endif
