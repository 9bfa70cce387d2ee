/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module apic_watch tells the program apic_page: read() fills in the counts since
 * the last write(), which takes an unsigned int of these flags.
 */
#ifndef APIC_WATCH_H
#define APIC_WATCH_H

#include <linux/types.h>

/* One line of KVM is left out. */
#define WATCH_DROP_REQUEST	1	/* to reload, when the page is invalidated */
#define WATCH_DROP_RETRY	2	/* and when it was while it was looked up */

/* An invalidation of the page waits until the vCPU has looked it up: */
#define WATCH_HOLD_START	4	/* a few times, or for half a second */
#define WATCH_HOLD_LOOKUP	8	/* and this does not return before _end() */

struct apic_watch {
	__u64 address;		/* in the process, of the page */
	__u64 entries;		/* of the vCPU into the guest */
	__u64 stale;		/* of these, with a page that is not mapped */
	__u64 freed;		/* pages that were in the VMCS last */
	__u64 freed_in_guest;	/* of these, with the vCPU in the guest */
	__u64 requests;		/* to all vCPUs to reload */
	__u64 lookups;		/* of the page, for the VMCS */
	__u64 retries;		/* of these, that ask for another one */

	/* of the last invalidation, from _start() to _end() */
	__u64 start, end;	/* its range */
	__u64 during_entries;
	__u64 during_lookups;
	__u64 during_ns;
};

#endif
