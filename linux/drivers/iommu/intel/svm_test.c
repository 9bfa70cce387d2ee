// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of SVM with VT-d; part of svm.c.
 *
 * Each case binds a process to a PCI device with iommu_sva_bind_device(),
 * changes the memory of that process with the functions of the VMM, and reads
 * from the invalidation queue of the IOMMU what the driver made of it.  The
 * descriptors are decoded here as the Intel Virtualization Technology for
 * Directed I/O Architecture Specification, section 6.5.2, defines them, and not
 * with the macros of the driver.
 *
 * No emulated device has ATS, PRI and PASID.  QEMU's virtio devices have ATS;
 * for these tests, their configuration space is made to show the other two.
 * QEMU's IOMMU does not show that it snoops page walks, which makes no
 * difference for an emulator.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>
#include <asm/tlb.h>

/* Far from anything else, with page tables of its own. */
#define VT_BASE		ALIGN(TASK_SIZE / 4, P4D_SIZE)

/* The PASIDs begin here, with bits in both bytes; the device has 16 bits. */
#define VT_PASID	0x1234
#define VT_PASID_WIDTH	16
#define VT_PASID_END	BIT(VT_PASID_WIDTH)

/* The domain of all first-level page tables. */
#define VT_DID		1

/* The test devices. */

#define VT_DEVICES	4
#define VT_PRI_CAP	0xf00
#define VT_PASID_CAP	0xf10
#define VT_CAPS_END	0xf18
#define VT_CAPS		((VT_CAPS_END - VT_PRI_CAP) / 4)

struct vt_device {
	struct pci_bus *bus;	/* each has one for itself */
	struct pci_ops *ops;	/* those of the hardware */
	int devcap2;		/* where to find the registers to change */
	int last_cap;
	u32 caps[VT_CAPS];	/* the PRI and the PASID capability */
};

static struct {
	const char *missing;	/* why there are no tests */
	bool off;		/* by the parameter iommu.sva=0 */
	struct intel_iommu *iommu;
	unsigned int svm_flag;	/* what it was */
	unsigned int devices;
	struct vt_device device[VT_DEVICES];
} vt;

static struct vt_device *vt_device(struct pci_bus *bus)
{
	unsigned int i;

	for (i = 0; i < vt.devices; i++)
		if (vt.device[i].bus == bus)
			return &vt.device[i];
	return NULL;
}

static u32 *vt_cap_reg(struct vt_device *dev, unsigned int devfn, int where)
{
	if (devfn || where < VT_PRI_CAP || where >= VT_CAPS_END)
		return NULL;
	return &dev->caps[(where - VT_PRI_CAP) / 4];
}

static int vt_config_read(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 *val)
{
	struct vt_device *dev = vt_device(bus);
	u32 *reg = vt_cap_reg(dev, devfn, where), dword;
	int pos = where & ~3, ret;

	if (devfn || (!reg && pos != dev->last_cap && pos != dev->devcap2))
		return dev->ops->read(bus, devfn, where, size, val);
	if (reg) {
		dword = *reg;
	} else {
		ret = dev->ops->read(bus, devfn, pos, 4, &dword);
		if (ret)
			return ret;
		if (pos == dev->last_cap)
			dword |= VT_PRI_CAP << 20;
		else
			dword |= PCI_EXP_DEVCAP2_EE_PREFIX;
	}
	*val = dword >> (8 * (where & 3)) & GENMASK(8 * size - 1, 0);
	return PCIBIOS_SUCCESSFUL;
}

static int vt_config_write(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 val)
{
	struct vt_device *dev = vt_device(bus);
	u32 *reg = vt_cap_reg(dev, devfn, where);
	int shift = 8 * (where & 3);

	if (!reg)
		return dev->ops->write(bus, devfn, where, size, val);
	if (where == VT_PRI_CAP + PCI_PRI_CTRL ||
	    where == VT_PRI_CAP + PCI_PRI_ALLOC_REQ ||
	    where == VT_PASID_CAP + PCI_PASID_CTRL) {
		*reg &= ~(GENMASK(8 * size - 1, 0) << shift);
		*reg |= val << shift;
	}
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops vt_ops = {
	.read = vt_config_read,
	.write = vt_config_write,
};

static void vt_add_capabilities(struct vt_device *dev, struct pci_dev *pdev)
{
	int pos = PCI_CFG_SPACE_SIZE;
	u32 header;

	while (pos) {
		dev->last_cap = pos;
		pci_read_config_dword(pdev, pos, &header);
		pos = PCI_EXT_CAP_NEXT(header);
	}
	dev->devcap2 = pdev->pcie_cap + PCI_EXP_DEVCAP2;
	memset(dev->caps, 0, sizeof(dev->caps));
	dev->caps[0] = PCI_EXT_CAP_ID_PRI | 1 << 16 | VT_PASID_CAP << 20;
	dev->caps[PCI_PRI_CTRL / 4] = (PCI_PRI_STATUS_STOPPED |
				       PCI_PRI_STATUS_PASID) << 16;
	dev->caps[PCI_PRI_MAX_REQ / 4] = 32;
	dev->caps[(VT_PASID_CAP - VT_PRI_CAP) / 4] = PCI_EXT_CAP_ID_PASID |
						     1 << 16;
	dev->caps[(VT_PASID_CAP - VT_PRI_CAP + PCI_PASID_CAP) / 4] =
		VT_PASID_WIDTH << 8;
}

static void vt_unplug(struct vt_device *dev)
{
	struct pci_dev *pdev, *next;

	pci_lock_rescan_remove();
	list_for_each_entry_safe_reverse(pdev, next, &dev->bus->devices,
					 bus_list)
		pci_stop_and_remove_bus_device(pdev);
	pci_unlock_rescan_remove();
}

static void vt_plug(struct vt_device *dev)
{
	pci_lock_rescan_remove();
	pci_rescan_bus(dev->bus);
	pci_unlock_rescan_remove();
}

/* Take a device away and find it again, with or without disguise. */
static void vt_replug(struct vt_device *dev, bool disguise)
{
	vt_unplug(dev);
	dev->bus->self->eetlp_prefix_path = disguise;
	pci_bus_set_ops(dev->bus, disguise ? &vt_ops : dev->ops);
	vt_plug(dev);
}

/* Does this IOMMU walk the page tables of processes? */
static const char *vt_lacks(struct intel_iommu *iommu)
{
	if (!sm_supported(iommu) || !ecap_flts(iommu->ecap))
		return "no scalable mode with first-level translation";
	if (!pasid_supported(iommu))
		return "the IOMMU has no PASIDs";
	if (!ecap_prs(iommu->ecap) || !ecap_pds(iommu->ecap) || !iommu->prq)
		return "the IOMMU takes no page requests";
	if (!ecap_dev_iotlb_support(iommu->ecap))
		return "the IOMMU has no device TLBs";
	return NULL;
}

static int vt_suite_init(struct kunit_suite *suite)
{
	struct device_domain_info *info;
	struct pci_dev *pdev = NULL;
	struct vt_device *dev;
	unsigned int i;

	vt.missing = "no VT-d with a virtio device with ATS at a root port";
	vt.off = strstr(saved_command_line, "iommu.sva=0");
	for_each_pci_dev(pdev) {
		if (pdev->vendor != PCI_VENDOR_ID_REDHAT_QUMRANET ||
		    !pci_ats_supported(pdev) || pdev->devfn ||
		    !pdev->bus->self || vt.devices == VT_DEVICES ||
		    pci_pcie_type(pdev->bus->self) != PCI_EXP_TYPE_ROOT_PORT ||
		    !device_to_iommu(&pdev->dev, NULL, NULL))
			continue;
		info = dev_iommu_priv_get(&pdev->dev);
		if (!info || (vt.iommu && info->iommu != vt.iommu))
			continue;
		vt.iommu = info->iommu;
		vt.missing = vt_lacks(vt.iommu);
		dev = &vt.device[vt.devices++];
		dev->bus = pdev->bus;
		dev->ops = pdev->bus->ops;
		vt_add_capabilities(dev, pdev);
	}
	if (vt.missing)
		return 0;
	vt.svm_flag = vt.iommu->flags & VTD_FLAG_SVM_CAPABLE;
	vt.iommu->flags |= VTD_FLAG_SVM_CAPABLE;
	for (i = 0; i < vt.devices; i++)
		vt_replug(&vt.device[i], true);
	return 0;
}

static void vt_suite_exit(struct kunit_suite *suite)
{
	unsigned int i;

	if (vt.missing)
		return;
	for (i = 0; i < vt.devices; i++)
		vt_replug(&vt.device[i], false);
	if (!vt.svm_flag)
		vt.iommu->flags &= ~VTD_FLAG_SVM_CAPABLE;
}

/* A process that is forked from the case. */

struct vt_process {
	struct mm_struct *mm;
	struct task_struct *task;
	struct completion ready;
	struct completion leave;
};

static int vt_process_run(void *data)
{
	struct vt_process *proc = data;

	proc->task = get_task_struct(current);
	proc->mm = current->mm;
	complete(&proc->ready);
	wait_for_completion(&proc->leave);
	do_exit(0);
}

static int vt_fork(struct vt_process *proc)
{
	struct kernel_clone_args args = {
		.flags = CLONE_FS | CLONE_FILES | CLONE_UNTRACED,
		.exit_signal = SIGCHLD,
		.fn = vt_process_run,
		.fn_arg = proc,
	};
	pid_t pid;

	init_completion(&proc->ready);
	init_completion(&proc->leave);
	pid = kernel_clone(&args);
	if (pid < 0)
		return pid;
	wait_for_completion(&proc->ready);
	return 0;
}

/* Returns when the process has dropped its memory. */
static void vt_exit_process(struct vt_process *proc)
{
	if (!proc->task)
		return;
	complete(&proc->leave);
	while (!READ_ONCE(proc->task->exit_state))
		usleep_range(100, 200);
	put_task_struct(proc->task);
	proc->task = NULL;
}

/*
 * Descriptors.
 *
 * Bits 11:9 and 3:0 of the first of four quadwords are the type.  All other
 * bits that a descriptor does not define are reserved and zero.
 */

#define VT_IOTLB		0x2
#define VT_DEVICE_TLB		0x3
#define VT_WAIT			0x5
#define VT_PASID_IOTLB		0x6
#define VT_PASID_CACHE		0x7
#define VT_PASID_DEVICE_TLB	0x8

/* Granularity of VT_PASID_IOTLB */
#define VT_ALL_OF_PASID		2
#define VT_PAGES_OF_PASID	3

/* Granularity of VT_PASID_CACHE */
#define VT_ONE_PASID		1

struct vt_cmd {
	unsigned int type;
	u64 raw[4];

	/* 6.5.2.2, 6.5.2.4, 6.5.2.6 */
	u32 pasid;
	u16 did;
	u8 granularity;
	u8 am;
	bool ih;
	u16 sid, pfsid;
	u8 mip;
	bool global;
	u64 start, last;

	/* 6.5.2.8 Invalidation Wait */
	bool interrupt, store, fence, drain;
	u64 address;
	u32 data;

	u64 reserved;
};

static u64 vt_bits(u64 value, unsigned int high, unsigned int low)
{
	return (value & GENMASK_ULL(high, low)) >> low;
}

static void vt_decode_piotlb(struct vt_cmd *cmd, const u64 *raw)
{
	u64 size;

	cmd->granularity = vt_bits(raw[0], 5, 4);
	cmd->did = vt_bits(raw[0], 31, 16);
	cmd->pasid = vt_bits(raw[0], 51, 32);
	cmd->reserved |= vt_bits(raw[0], 8, 6) | vt_bits(raw[0], 15, 12) |
			 vt_bits(raw[0], 63, 52);
	if (cmd->granularity == VT_ALL_OF_PASID) {
		cmd->start = 0;
		cmd->last = U64_MAX;
		cmd->reserved |= raw[1];
		return;
	}
	cmd->am = vt_bits(raw[1], 5, 0);
	cmd->ih = vt_bits(raw[1], 6, 6);
	size = BIT_ULL(PAGE_SHIFT + cmd->am);
	cmd->start = raw[1] & GENMASK_ULL(63, 12);
	cmd->last = cmd->start + size - 1;
	/* More than the IOMMU takes; or not aligned, which it need not take. */
	if (cmd->granularity != VT_PAGES_OF_PASID ||
	    cmd->am > vt_bits(vt.iommu->cap, 53, 48) ||
	    cmd->start & (size - 1))
		cmd->reserved |= BIT_ULL(63);
	cmd->reserved |= vt_bits(raw[1], 11, 7);
}

/*
 * S=0 is a page of 4 KiB.  With S=1, the lowest zero of ADDR[63:12] is the upper
 * bit of the offset.
 */
static void vt_decode_device_tlb(struct vt_cmd *cmd, const u64 *raw)
{
	u64 address = raw[1] & GENMASK_ULL(63, 12);
	unsigned int bits = PAGE_SHIFT;

	cmd->mip = vt_bits(raw[0], 8, 4);
	cmd->sid = vt_bits(raw[0], 31, 16);
	cmd->pasid = vt_bits(raw[0], 51, 32);
	cmd->pfsid = vt_bits(raw[0], 63, 52) << 4 | vt_bits(raw[0], 15, 12);
	cmd->global = vt_bits(raw[1], 0, 0);
	cmd->reserved |= vt_bits(raw[1], 10, 1);
	if (vt_bits(raw[1], 11, 11))
		bits = ffz(address | GENMASK_ULL(11, 0)) + 1;
	if (bits == 64) {
		cmd->start = 0;
		cmd->last = U64_MAX;
		return;
	}
	cmd->start = address & ~(BIT_ULL(bits) - 1);
	cmd->last = cmd->start + BIT_ULL(bits) - 1;
}

static void vt_decode(struct vt_cmd *cmd, const u64 *raw)
{
	memset(cmd, 0, sizeof(*cmd));
	memcpy(cmd->raw, raw, sizeof(cmd->raw));
	cmd->type = vt_bits(raw[0], 11, 9) << 4 | vt_bits(raw[0], 3, 0);
	cmd->reserved = raw[2] | raw[3];
	switch (cmd->type) {
	case VT_PASID_IOTLB:
		vt_decode_piotlb(cmd, raw);
		break;
	case VT_PASID_DEVICE_TLB:
		vt_decode_device_tlb(cmd, raw);
		break;
	case VT_PASID_CACHE:
		cmd->granularity = vt_bits(raw[0], 5, 4);
		cmd->did = vt_bits(raw[0], 31, 16);
		cmd->pasid = vt_bits(raw[0], 51, 32);
		cmd->reserved |= raw[1] | vt_bits(raw[0], 8, 6) |
				 vt_bits(raw[0], 15, 12) |
				 vt_bits(raw[0], 63, 52);
		break;
	case VT_WAIT:
		cmd->interrupt = vt_bits(raw[0], 4, 4);
		cmd->store = vt_bits(raw[0], 5, 5);
		cmd->fence = vt_bits(raw[0], 6, 6);
		cmd->drain = vt_bits(raw[0], 7, 7);
		cmd->data = vt_bits(raw[0], 63, 32);
		cmd->address = raw[1] & ~3ULL;
		cmd->reserved |= vt_bits(raw[0], 8, 8) |
				 vt_bits(raw[0], 31, 12) | (raw[1] & 3);
		break;
	}
}

/* The case. */

struct vt_bond {
	struct pci_dev *pdev;
	struct device_domain_info *info;
	struct iommu_sva *sva;
	bool enabled;		/* the features */
};

struct vt_test {
	struct mm_struct *mm;
	struct vt_process child;
	struct vt_bond bond[VT_DEVICES];
	u32 pasid;

	unsigned int head;	/* where the recording starts */
	unsigned int cmds;
	struct vt_cmd cmd[QI_LENGTH];
};

static struct vt_test *vt_test(struct kunit *test)
{
	return test->priv;
}

static void vt_record(struct kunit *test)
{
	vt_test(test)->head = vt.iommu->qi->free_head;
}

/* Decode the descriptors that have been written since, and begin anew. */
static unsigned int vt_stop(struct kunit *test)
{
	struct q_inval *qi = vt.iommu->qi;
	struct vt_test *ctx = vt_test(test);
	unsigned int pos = ctx->head, tail = READ_ONCE(qi->free_head);

	for (ctx->cmds = 0; pos != tail; pos = (pos + 1) % QI_LENGTH)
		vt_decode(&ctx->cmd[ctx->cmds++],
			  (u64 *)qi->desc + pos * ARRAY_SIZE(ctx->cmd->raw));
	ctx->head = tail;
	return ctx->cmds;
}

static void vt_dump(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	unsigned int i;

	for (i = 0; i < ctx->cmds; i++) {
		struct vt_cmd *cmd = &ctx->cmd[i];

		kunit_info(test, "%3u: type %x: %016llx %016llx\n", i,
			   cmd->type, cmd->raw[0], cmd->raw[1]);
		if (cmd->type == VT_PASID_IOTLB)
			kunit_info(test, "     PASID IOTLB did=%x PASID=%x G=%u IH=%u %llx-%llx\n",
				   cmd->did, cmd->pasid, cmd->granularity,
				   cmd->ih, cmd->start, cmd->last);
		else if (cmd->type == VT_PASID_DEVICE_TLB)
			kunit_info(test, "     PASID device TLB sid=%x PASID=%x MIP=%u %llx-%llx\n",
				   cmd->sid, cmd->pasid, cmd->mip, cmd->start,
				   cmd->last);
	}
}

/* Ranges. */

#define VT_PIECES	32

struct vt_pieces {
	unsigned int nr;
	struct {
		u64 start, last;
	} piece[VT_PIECES];
	u64 start, last;	/* the hull */
};

static bool vt_add_piece(struct vt_pieces *set, const struct vt_cmd *cmd)
{
	if (set->nr == VT_PIECES)
		return false;
	set->start = set->nr ? min(set->start, cmd->start) : cmd->start;
	set->last = set->nr ? max(set->last, cmd->last) : cmd->last;
	set->piece[set->nr].start = cmd->start;
	set->piece[set->nr++].last = cmd->last;
	return true;
}

/* Is each address from @start to @last in one of them? */
static bool vt_covers(const struct vt_pieces *set, u64 start, u64 last)
{
	unsigned int i = 0;

	while (i < set->nr) {
		if (set->piece[i].start > start || set->piece[i].last < start) {
			i++;
			continue;
		}
		if (set->piece[i].last >= last)
			return true;
		start = set->piece[i].last + 1;
		i = 0;
	}
	return false;
}

/* What is recognized in a recording. */
struct vt_flush {
	struct vt_pieces iotlb;
	struct vt_pieces device[VT_DEVICES];
	unsigned int waits;
};

/* Is this a wait that the CPU waits for?  It stores to its own place. */
static bool vt_is_wait(const struct vt_cmd *cmd)
{
	u64 status = virt_to_phys(vt.iommu->qi->desc_status);

	return cmd->type == VT_WAIT && !cmd->reserved && cmd->store &&
	       !cmd->interrupt && cmd->data && cmd->address >= status &&
	       cmd->address < status + QI_LENGTH * sizeof(int);
}

/* Which of the devices that are bound, with ATS, is it? */
static struct vt_bond *vt_bond_of(struct vt_test *ctx, u16 sid)
{
	unsigned int i;

	for (i = 0; i < vt.devices; i++)
		if (ctx->bond[i].sva && ctx->bond[i].info->ats_enabled &&
		    pci_dev_id(ctx->bond[i].pdev) == sid)
			return &ctx->bond[i];
	return NULL;
}

static unsigned int vt_bound(struct vt_test *ctx)
{
	unsigned int i, n = 0;

	for (i = 0; i < vt.devices; i++)
		n += !!ctx->bond[i].sva;
	return n;
}

static unsigned int vt_bound_with_ats(struct vt_test *ctx)
{
	unsigned int i, n = 0;

	for (i = 0; i < vt.devices; i++)
		n += ctx->bond[i].sva && ctx->bond[i].info->ats_enabled;
	return n;
}

/* How many invalidations the device can queue: PCIe, 10.5.1.2; 0 is 32. */
static unsigned int vt_queue_depth(struct vt_bond *bond)
{
	u16 cap;

	pci_read_config_word(bond->pdev, bond->pdev->ats_cap + PCI_ATS_CAP,
			     &cap);
	return cap & 0x1f;
}

/*
 * Is the recording a flush of @pasid, from @start to @last, and nothing else?
 *
 * What the IOTLB has goes before what the devices have, as a device that is
 * flushed first asks again and gets the old translation from the IOTLB; a wait
 * of the CPU is the last command.  No page-table page may be left in the paging
 * structure caches, so the hint that only leaves have changed is not given.
 */
static bool vt_parse_flush(struct vt_test *ctx, u32 pasid, u64 start, u64 last,
			   struct vt_flush *flush)
{
	const struct vt_cmd *cmd = ctx->cmd, *end = cmd + ctx->cmds;
	struct vt_pieces *pieces;
	struct vt_bond *bond;
	unsigned int i;

	memset(flush, 0, sizeof(*flush));
	for (; cmd < end; cmd++) {
		if (vt_is_wait(cmd)) {
			flush->waits++;
			continue;
		}
		if (cmd->reserved || cmd->pasid != pasid)
			return false;
		if (cmd->type == VT_PASID_IOTLB) {
			if (cmd->did != VT_DID || cmd->ih ||
			    !vt_add_piece(&flush->iotlb, cmd))
				return false;
			continue;
		}
		bond = vt_bond_of(ctx, cmd->sid);
		if (cmd->type != VT_PASID_DEVICE_TLB || !bond || cmd->global ||
		    cmd->pfsid || cmd->mip != vt_queue_depth(bond) ||
		    cmd->last < start || cmd->start > last)
			return false;
		pieces = &flush->device[bond - ctx->bond];
		if (!vt_add_piece(pieces, cmd) ||
		    !vt_covers(&flush->iotlb, max(start, cmd->start),
			       min(last, cmd->last)))
			return false;
	}
	if (!ctx->cmds || !vt_is_wait(--cmd) ||
	    !vt_covers(&flush->iotlb, start, last))
		return false;
	for (i = 0; i < vt.devices; i++)
		if (ctx->bond[i].sva && ctx->bond[i].info->ats_enabled &&
		    !vt_covers(&flush->device[i], start, last))
			return false;
	return true;
}

/* Nothing but the two aligned powers of two that the range lies in. */
static bool vt_no_larger(const struct vt_pieces *set, u64 start, u64 len)
{
	u64 size = roundup_pow_of_two(len);

	return set->start >= ALIGN_DOWN(start, size) &&
	       set->last <= ALIGN(start + len, size) - 1;
}

/* Is that more pages than a command for the IOTLB can have? */
static bool vt_too_large(u64 len)
{
	return roundup_pow_of_two(len) > PAGE_SIZE <<
	       vt_bits(vt.iommu->cap, 53, 48);
}

static bool vt_is_flush(struct kunit *test, u64 start, u64 len,
			struct vt_flush *flush)
{
	struct vt_test *ctx = vt_test(test);
	unsigned int i;

	if (!vt_parse_flush(ctx, ctx->pasid, start, start + len - 1, flush))
		return false;
	if (!vt_too_large(len) && !vt_no_larger(&flush->iotlb, start, len))
		return false;
	for (i = 0; i < vt.devices; i++)
		if (flush->device[i].nr &&
		    !vt_no_larger(&flush->device[i], start, len))
			return false;
	return true;
}

/* What was recorded is one flush of all this range, and little else. */
static void vt_expect_flush(struct kunit *test, u64 start, u64 len)
{
	struct vt_flush flush;
	bool good;

	vt_stop(test);
	good = vt_is_flush(test, start, len, &flush);
	KUNIT_EXPECT_TRUE_MSG(test, good, "not a flush of %llx-%llx", start,
			      start + len - 1);
	if (!good)
		vt_dump(test);
}

/* The same, nothing is flushed that is not in it, and the CPU waits once. */
static void vt_expect_exact_flush(struct kunit *test, u64 start, u64 len)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_flush flush;
	unsigned int i;
	bool good;

	vt_stop(test);
	good = vt_is_flush(test, start, len, &flush) &&
	       flush.iotlb.start == start && flush.iotlb.last == start + len - 1;
	for (i = 0; i < vt.devices; i++)
		if (flush.device[i].nr &&
		    (flush.device[i].start != start ||
		     flush.device[i].last != start + len - 1))
			good = false;
	KUNIT_EXPECT_TRUE_MSG(test, good, "not an exact flush of %llx-%llx",
			      start, start + len - 1);
	KUNIT_EXPECT_EQ(test, ctx->cmds - flush.waits,
			vt_bound(ctx) + vt_bound_with_ats(ctx));
	KUNIT_EXPECT_EQ(test, flush.waits,
			vt_bound(ctx) + vt_bound_with_ats(ctx));
	if (!good)
		vt_dump(test);
}

static void vt_expect_no_command(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vt_stop(test), 0U);
	vt_dump(test);
}

/* Binding. */

static int vt_enable(struct vt_bond *bond)
{
	int ret;

	ret = iommu_dev_enable_feature(&bond->pdev->dev, IOMMU_DEV_FEAT_IOPF);
	if (ret)
		return ret;
	ret = iommu_dev_enable_feature(&bond->pdev->dev, IOMMU_DEV_FEAT_SVA);
	if (ret)
		iommu_dev_disable_feature(&bond->pdev->dev,
					  IOMMU_DEV_FEAT_IOPF);
	bond->enabled = !ret;
	return ret;
}

static int vt_bind(struct vt_test *ctx, unsigned int i)
{
	struct vt_bond *bond = &ctx->bond[i];
	struct iommu_sva *sva;

	sva = iommu_sva_bind_device(&bond->pdev->dev, ctx->mm, NULL);
	if (IS_ERR(sva))
		return PTR_ERR(sva);
	bond->sva = sva;
	ctx->pasid = iommu_sva_get_pasid(sva);
	return 0;
}

static void vt_unbind(struct vt_test *ctx, unsigned int i)
{
	struct iommu_sva *sva = ctx->bond[i].sva;

	iommu_sva_unbind_device(sva);
	ctx->bond[i].sva = NULL;
}

/* Operations on the memory of the process. */

static int vt_write(unsigned long addr, unsigned long len)
{
	unsigned long end = addr + len;

	for (; addr < end; addr += PAGE_SIZE)
		if (put_user(1UL, (unsigned long __user *)addr))
			return -EFAULT;
	return 0;
}

static void vt_map(struct kunit *test, unsigned long len)
{
	KUNIT_ASSERT_EQ(test, vm_mmap(NULL, VT_BASE, len,
				      PROT_READ | PROT_WRITE, MAP_PRIVATE |
				      MAP_ANONYMOUS | MAP_FIXED |
				      MAP_NORESERVE, 0), VT_BASE);
	KUNIT_ASSERT_EQ(test, do_madvise(vt_test(test)->mm, VT_BASE, len,
					 MADV_NOHUGEPAGE), 0);
}

static void vt_map_and_write(struct kunit *test, unsigned long len)
{
	vt_map(test, len);
	KUNIT_ASSERT_EQ(test, vt_write(VT_BASE, len), 0);
}

/* What each operation flushes. */

static void vt_munmap(struct kunit *test)
{
	static const unsigned int pages[] = { 1, 2, 4, 64, 512 };
	unsigned long addr = VT_BASE + PMD_SIZE, len;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		len = pages[i] * PAGE_SIZE;
		vt_map_and_write(test, 3 * PMD_SIZE);
		vt_record(test);
		KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
		vt_expect_exact_flush(test, addr, len);
	}
}

static struct kunit_case vt_cases[] = {
	KUNIT_CASE(vt_munmap),
	{ }
};

static int vt_init(struct kunit *test)
{
	struct vt_test *ctx;
	unsigned int i;
	int ret;

	if (vt.missing)
		kunit_skip(test, "%s", vt.missing);
	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	ctx->mm = mm_alloc();
	if (!ctx->mm)
		return -ENOMEM;
	arch_pick_mmap_layout(ctx->mm, &current->signal->rlim[RLIMIT_STACK]);
	ctx->mm->task_size = TASK_SIZE;
	kthread_use_mm(ctx->mm);
	test->priv = ctx;

	ret = iommu_sva_alloc_pasid(ctx->mm, VT_PASID, VT_PASID_END - 1);
	if (ret)
		return ret;
	for (i = 0; i < vt.devices; i++) {
		ctx->bond[i].pdev = pci_get_slot(vt.device[i].bus, 0);
		if (!ctx->bond[i].pdev)
			return -ENODEV;
		ctx->bond[i].info = dev_iommu_priv_get(&ctx->bond[i].pdev->dev);
		ret = vt_enable(&ctx->bond[i]);
		if (ret)
			return ret;
	}
	return vt_bind(ctx, 0);
}

static void vt_exit(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_bond *bond;

	if (!ctx)
		return;
	for (bond = ctx->bond; bond < ctx->bond + vt.devices; bond++) {
		if (bond->sva)
			iommu_sva_unbind_device(bond->sva);
		if (bond->enabled) {
			iommu_dev_disable_feature(&bond->pdev->dev,
						  IOMMU_DEV_FEAT_SVA);
			iommu_dev_disable_feature(&bond->pdev->dev,
						  IOMMU_DEV_FEAT_IOPF);
		}
		pci_dev_put(bond->pdev);
	}
	vt_exit_process(&ctx->child);
	/* A case that gave up took its thread, and the mm with it. */
	if (ctx->mm && current->mm == ctx->mm) {
		kthread_unuse_mm(ctx->mm);
		mmput(ctx->mm);
	}
}

static struct kunit_suite vt_suite = {
	.name = "intel_svm",
	.suite_init = vt_suite_init,
	.suite_exit = vt_suite_exit,
	.init = vt_init,
	.exit = vt_exit,
	.test_cases = vt_cases,
};

kunit_test_suites(&vt_suite);
