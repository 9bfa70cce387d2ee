/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The toy device as its manual would describe it: an IOMMU and a device with
 * ATS and PRI in one.  It has an IOTLB, which it fills by walks of the page
 * table, and an ATC (address translation cache), which it fills from the IOTLB.
 * There are two, platform devices of the name "mmu_notifier_toy".
 *
 * Commands are executed whatever else the device waits for.  It may execute a
 * command without TOY_FENCE before any of those in front of it.  When a flush
 * is complete, no walk that began before it leads to an access.
 *
 * An access for which there is no translation, or one that forbids a write, is
 * a page request.  It waits until TOY_RESPOND has its tag, and is then tried
 * again.  A translation that forbids a write is reported without another walk.
 * After new requests, there is an interrupt, one for all that are there.  Their
 * addresses have no tags.  As a rule, anonymous memory that was never touched
 * cannot be read, unless it may be written to.
 */
#ifndef _SAMPLES_TOY_DEVICE_H
#define _SAMPLES_TOY_DEVICE_H

#include <linux/bits.h>
#include <linux/types.h>

#define TOY_NR_DEVICES	2
#define TOY_NR_COMMANDS	64	/* in the ring */
#define TOY_NR_REQUESTS	64	/* in the ring; no more can wait for a response */
#define TOY_NR_PASIDS	64

enum toy_register {
	/*
	 * TOY_ENABLE: all counts begin at 0; TOY_MEMORY is set before.
	 * Or 0: no access to memory from when this was read back; who waits
	 * for an access gets an error.
	 */
	TOY_CONTROL,
	TOY_MEMORY,		/* physical address of struct toy_memory */
	TOY_TAIL,		/* doorbell: commands written since TOY_ENABLE */
	TOY_REQUEST_TAIL,	/* page requests written since TOY_ENABLE */
};

#define TOY_ENABLE	BIT(0)

enum toy_op {
	/* Drop what was loaded for @pasid and addresses in [@first, @last]. */
	TOY_FLUSH_IOTLB,
	TOY_FLUSH_ATC,
	/*
	 * Read the context of @pasid, which was kept if it was valid, again.
	 * If it is not valid now, begin no access, and write no more page
	 * requests.  Accesses that wait for a response go on when they have
	 * it, up to the next TOY_FLUSH_IOTLB.
	 */
	TOY_STOP,
	/*
	 * The page request with tag @first was handled, or, if @last, failed.
	 * A tag is one of the device, whatever the PASID.
	 */
	TOY_RESPOND,
	/* Write @last to toy_memory.done. */
	TOY_COMPLETE,

	TOY_FENCE = BIT(15),	/* or'ed to one of these */
};

struct toy_command {
	__le32 op;
	__le32 pasid;
	__le64 first;
	__le64 last;
};

struct toy_request {
	__le32 pasid;
	__le16 tag;
	__le16 write;
	__le64 addr;
};

#define TOY_VALID	BIT_ULL(0)

/**
 * struct toy_memory - what driver and device share
 * @commands: written by the driver, then counted in TOY_TAIL
 * @requests: written by the device, then counted in TOY_REQUEST_TAIL
 * @contexts: for each PASID, the physical address of the page table, and
 *	TOY_VALID
 * @done: written by TOY_COMPLETE
 */
struct toy_memory {
	struct toy_command commands[TOY_NR_COMMANDS];
	struct toy_request requests[TOY_NR_REQUESTS];
	__le64 contexts[TOY_NR_PASIDS];
	__le32 done;
};

struct platform_device;
struct toy_hw;

/* In the place of devm_platform_ioremap_resource(). */
struct toy_hw *toy_hw_map(struct platform_device *pdev);

/* Ordered against memory as readq() and writeq() are. */
u64 toy_hw_read(struct toy_hw *hw, enum toy_register reg);
void toy_hw_write(struct toy_hw *hw, enum toy_register reg, u64 value);

/*
 * What a process does without the driver if the device has a portal (ENQCMD):
 * it has the device copy from or to @addr in its address space, and waits.
 */
ssize_t toy_portal_read(struct toy_hw *hw, u32 pasid, char __user *to,
			size_t len, loff_t *addr);
ssize_t toy_portal_write(struct toy_hw *hw, u32 pasid, const char __user *from,
			 size_t len, loff_t *addr);

#endif /* _SAMPLES_TOY_DEVICE_H */
