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
#include <trace/events/printk.h>

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

/* Ranges. */

#define VT_PIECES	32

struct vt_pieces {
	unsigned int nr;
	struct {
		u64 start, last;
	} piece[VT_PIECES];
	u64 start, last;	/* the hull */
};

/* What is recognized in a recording. */
struct vt_flush {
	struct vt_pieces iotlb;
	unsigned int done;	/* of these, before a wait or a fence */
	struct vt_pieces device[VT_DEVICES];
	unsigned int waits;
};

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
	struct vt_flush flush;

	void __iomem *reg;	/* the registers of an IOMMU that is stopped */
	void *memory;		/* what it has instead */
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

/* Is each address from @start to @last in one of the first @nr? */
static bool vt_covers(const struct vt_pieces *set, unsigned int nr, u64 start,
		      u64 last)
{
	unsigned int i = 0;

	while (i < nr) {
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

/* Is this a wait that the CPU waits for?  It stores to its own place. */
static bool vt_is_wait(const struct vt_cmd *cmd)
{
	u64 status = virt_to_phys(vt.iommu->qi->desc_status);

	return cmd->type == VT_WAIT && !cmd->reserved && cmd->store &&
	       !cmd->interrupt && cmd->data && cmd->address >= status &&
	       cmd->address < status + QI_LENGTH * sizeof(int);
}

/* Is this a wait for the IOMMU, and not for the CPU? */
static bool vt_is_fence(const struct vt_cmd *cmd)
{
	return cmd->type == VT_WAIT && !cmd->reserved && cmd->fence &&
	       !cmd->store && !cmd->interrupt && !cmd->drain;
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
 * What the IOTLB has goes before what the devices have, and is gone when theirs
 * is begun with: a device that is flushed first asks again and gets the old
 * translation from the IOTLB.  A wait of the CPU is the last command.  No
 * page-table page may be left in the paging structure caches, so the hint that
 * only leaves have changed is not given.
 */
static bool vt_parse_flush(struct vt_test *ctx, u32 pasid, u64 start, u64 last)
{
	const struct vt_cmd *cmd = ctx->cmd, *end = cmd + ctx->cmds;
	struct vt_flush *flush = &ctx->flush;
	struct vt_pieces *pieces;
	struct vt_bond *bond;
	unsigned int i;

	memset(flush, 0, sizeof(*flush));
	for (; cmd < end; cmd++) {
		if (vt_is_wait(cmd) || vt_is_fence(cmd)) {
			flush->waits += cmd->store;
			flush->done = flush->iotlb.nr;
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
		    !vt_covers(&flush->iotlb, flush->done,
			       max(start, cmd->start), min(last, cmd->last)))
			return false;
	}
	if (!ctx->cmds || !vt_is_wait(--cmd) ||
	    !vt_covers(&flush->iotlb, flush->iotlb.nr, start, last))
		return false;
	for (i = 0; i < vt.devices; i++) {
		pieces = &flush->device[i];
		if (ctx->bond[i].sva && ctx->bond[i].info->ats_enabled &&
		    !vt_covers(pieces, pieces->nr, start, last))
			return false;
	}
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

static bool vt_is_flush(struct vt_test *ctx, u32 pasid, u64 start, u64 len)
{
	struct vt_flush *flush = &ctx->flush;
	unsigned int i;

	if (!vt_parse_flush(ctx, pasid, start, start + len - 1) ||
	    flush->waits != vt_bound(ctx))
		return false;
	if (!vt_too_large(len) && !vt_no_larger(&flush->iotlb, start, len))
		return false;
	for (i = 0; i < vt.devices; i++)
		if (flush->device[i].nr &&
		    !vt_no_larger(&flush->device[i], start, len))
			return false;
	return true;
}

/*
 * What was recorded is one flush of all this range, and little else.  The CPU
 * waits once for each device.
 */
static void vt_expect_flush(struct kunit *test, u64 start, u64 len)
{
	struct vt_test *ctx = vt_test(test);
	bool good;

	vt_stop(test);
	good = vt_is_flush(ctx, ctx->pasid, start, len);
	KUNIT_EXPECT_TRUE_MSG(test, good, "not a flush of %llx-%llx", start,
			      start + len - 1);
	if (!good)
		vt_dump(test);
}

/*
 * The same, and nothing is flushed that is not in it, by one command for each
 * TLB.  Larger ranges than the IOTLB takes are all of the PASID there.
 */
static void vt_expect_exact_flush(struct kunit *test, u64 start, u64 len)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_flush *flush = &ctx->flush;
	u64 last = start + len - 1;
	unsigned int i;
	bool good;

	vt_stop(test);
	good = vt_is_flush(ctx, ctx->pasid, start, len) &&
	       flush->iotlb.nr == vt_bound(ctx);
	if (vt_too_large(len))
		good = good && flush->iotlb.start == 0 &&
		       flush->iotlb.last == U64_MAX;
	else
		good = good && flush->iotlb.start == start &&
		       flush->iotlb.last == last;
	for (i = 0; i < vt.devices; i++)
		if (flush->device[i].nr)
			good = good && flush->device[i].nr == 1 &&
			       flush->device[i].start == start &&
			       flush->device[i].last == last;
	KUNIT_EXPECT_TRUE_MSG(test, good, "not an exact flush of %llx-%llx",
			      start, last);
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

static void vt_disable(struct vt_bond *bond)
{
	if (!bond->enabled)
		return;
	iommu_dev_disable_feature(&bond->pdev->dev, IOMMU_DEV_FEAT_SVA);
	iommu_dev_disable_feature(&bond->pdev->dev, IOMMU_DEV_FEAT_IOPF);
	bond->enabled = false;
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
	struct vt_test *ctx = vt_test(test);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		len = pages[i] * PAGE_SIZE;
		vt_map_and_write(test, 3 * PMD_SIZE);
		vt_record(test);
		KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
		vt_expect_exact_flush(test, addr, len);
		/* IOTLB, fence, device, and the wait. */
		KUNIT_EXPECT_EQ(test, ctx->cmds, 4U);
		KUNIT_EXPECT_EQ(test, ctx->flush.waits, 1U);
	}
}

static void vt_munmap_of_pages_that_are_not_aligned(struct kunit *test)
{
	unsigned long addr, len;

	for (addr = VT_BASE + PAGE_SIZE; addr < VT_BASE + 9 * PAGE_SIZE;
	     addr += PAGE_SIZE) {
		for (len = PAGE_SIZE; len <= 5 * PAGE_SIZE; len += PAGE_SIZE) {
			vt_map_and_write(test, SZ_64K);
			/* The tables stay. */
			KUNIT_ASSERT_EQ(test, vt_write(VT_BASE + SZ_32K +
						       SZ_16K, SZ_16K), 0);
			vt_record(test);
			KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
			vt_expect_flush(test, addr, len);
		}
	}
}

/* The tables go as well: all that they mapped is flushed. */
static void vt_munmap_of_everything(struct kunit *test)
{
	vt_map_and_write(test, 4 * PAGE_SIZE);
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE, 4 * PAGE_SIZE), 0);
	vt_expect_exact_flush(test, VT_BASE, P4D_SIZE);
}

/* More than the IOTLB takes at once; the tables of each GiB go. */
static void vt_munmap_of_4_gib(struct kunit *test)
{
	u64 base = VT_BASE + SZ_4G;
	unsigned int i;

	vt_map(test, 3ULL * SZ_4G);
	for (i = 0; i < 12; i++)
		KUNIT_ASSERT_EQ(test, vt_write(VT_BASE + i * (u64)SZ_1G,
					       PAGE_SIZE), 0);
	KUNIT_ASSERT_TRUE(test, vt_too_large(SZ_4G));
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(base, SZ_4G), 0);
	vt_expect_exact_flush(test, base, SZ_4G);
}

static void vt_madvise_dontneed(struct kunit *test)
{
	unsigned long addr = VT_BASE + 4 * PAGE_SIZE;
	struct mm_struct *mm = vt_test(test)->mm;

	vt_map_and_write(test, PMD_SIZE);
	vt_record(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, 4 * PAGE_SIZE,
					 MADV_DONTNEED), 0);
	vt_expect_exact_flush(test, addr, 4 * PAGE_SIZE);

	/* Nothing is left there. */
	vt_record(test);
	KUNIT_EXPECT_EQ(test, do_madvise(mm, addr, 4 * PAGE_SIZE,
					 MADV_DONTNEED), 0);
	vt_expect_no_command(test);
}

static void vt_make_read_only(struct kunit *test, unsigned long addr,
			      unsigned long len)
{
	struct mm_struct *mm = vt_test(test)->mm;
	struct vm_area_struct *vma, *prev = NULL;
	struct mmu_gather tlb;

	mmap_write_lock(mm);
	vma = find_vma_prev(mm, addr, &prev);
	if (addr > vma->vm_start)
		prev = vma;
	tlb_gather_mmu(&tlb, mm);
	KUNIT_EXPECT_EQ(test, mprotect_fixup(&tlb, vma, &prev, addr, addr + len,
					     vma->vm_flags & ~VM_WRITE), 0);
	tlb_finish_mmu(&tlb);
	mmap_write_unlock(mm);
}

static void vt_mprotect_read_only(struct kunit *test)
{
	unsigned long addr = VT_BASE + 8 * PAGE_SIZE, len = 8 * PAGE_SIZE;

	vt_map_and_write(test, PMD_SIZE);
	vt_record(test);
	vt_make_read_only(test, addr, len);
	vt_expect_exact_flush(test, addr, len);
}

static void vt_fork_and_cow(struct kunit *test)
{
	unsigned long addr = VT_BASE + 5 * PAGE_SIZE;
	struct vt_process *child = &vt_test(test)->child;

	vt_map_and_write(test, PMD_SIZE);
	vt_record(test);
	KUNIT_ASSERT_EQ(test, vt_fork(child), 0);
	vt_expect_exact_flush(test, VT_BASE, PMD_SIZE);

	vt_record(test);
	KUNIT_EXPECT_EQ(test, vt_write(addr, PAGE_SIZE), 0);
	vt_expect_exact_flush(test, addr, PAGE_SIZE);
	vt_exit_process(child);

	/* Neither does the child's exit concern the device, nor this write. */
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vt_write(addr, PAGE_SIZE), 0);
	vt_expect_no_command(test);
}

/* How ranges are encoded. */

/* The callback that the driver has registered for the process. */
static void vt_flush_range(struct kunit *test, u64 start, u64 len)
{
	struct vt_test *ctx = vt_test(test);
	struct intel_svm *svm = pasid_private_find(ctx->pasid);

	vt_record(test);
	svm->notifier.ops->invalidate_range(&svm->notifier, ctx->mm, start,
					    start + len);
}

static void vt_edges_of_the_encoding(struct kunit *test)
{
	static const struct {
		u64 start, len;
		unsigned int pieces;
		u64 size;		/* of each */
	} edge[] = {
		{ 0, SZ_4K, 1, SZ_4K },
		{ SZ_1G + SZ_4K, SZ_4K, 1, SZ_4K },
		/* not aligned */
		{ SZ_1G + SZ_4K, SZ_8K, 2, SZ_8K },
		{ SZ_1G + SZ_4K, 3 * SZ_4K, 1, SZ_16K },
		{ SZ_1G + SZ_8K, 3 * SZ_4K, 2, SZ_16K },
		{ SZ_1G, 15 * SZ_4K, 1, SZ_64K },
		/* 2 MiB */
		{ SZ_1G + SZ_2M, SZ_2M, 1, SZ_2M },
		{ SZ_1G + SZ_2M - SZ_4K, SZ_8K, 2, SZ_8K },
		{ SZ_1G + SZ_2M, SZ_2M + SZ_4K, 2, SZ_4M },
		/* 512 MiB and 1 GiB, the most that QEMU's IOMMU takes */
		{ SZ_1G, SZ_512M - SZ_4K, 1, SZ_512M },
		{ SZ_1G, SZ_512M + SZ_4K, 1, SZ_1G },
		{ SZ_1G, SZ_1G, 1, SZ_1G },
		{ SZ_1G + SZ_2M, SZ_1G, 2, SZ_1G },
		{ SZ_1G, SZ_1G + SZ_4K, 2, SZ_2G },
		{ SZ_2G, SZ_1G + SZ_4K, 1, SZ_2G },
		/* across 4 GiB */
		{ SZ_4G - SZ_4K, SZ_8K, 2, SZ_8K },
		{ SZ_4G, SZ_4G, 1, SZ_4G },
		{ SZ_2G, SZ_4G, 2, SZ_4G },
		/* the top of the user address space, and all of it */
		{ BIT_ULL(47) - SZ_8K, SZ_4K, 1, SZ_4K },
		{ BIT_ULL(46) - SZ_4K, SZ_8K, 2, SZ_8K },
		{ 0, BIT_ULL(47) - SZ_4K, 1, BIT_ULL(47) },
		{ 0, BIT_ULL(47), 1, BIT_ULL(47) },
		{ 0, BIT_ULL(56), 1, BIT_ULL(56) },
		{ 0, BIT_ULL(56) - SZ_4K, 1, BIT_ULL(56) },
	};
	struct vt_test *ctx = vt_test(test);
	struct vt_flush *flush = &ctx->flush;
	unsigned int i;
	bool good;

	for (i = 0; i < ARRAY_SIZE(edge); i++) {
		u64 start = edge[i].start, len = edge[i].len;

		vt_flush_range(test, start, len);
		vt_stop(test);
		good = vt_is_flush(ctx, ctx->pasid, start, len) &&
		       flush->device[0].nr == edge[i].pieces &&
		       flush->device[0].last - flush->device[0].start + 1 ==
		       edge[i].pieces * edge[i].size;
		if (vt_too_large(len))
			good = good && flush->iotlb.nr == 1 &&
			       flush->iotlb.last == U64_MAX;
		else
			good = good && flush->iotlb.nr == edge[i].pieces &&
			       flush->iotlb.start == flush->device[0].start &&
			       flush->iotlb.last == flush->device[0].last;
		KUNIT_EXPECT_TRUE_MSG(test, good, "%llx bytes at %llx", len,
				      start);
		if (!good)
			vt_dump(test);
	}
}

/* An IOMMU that takes other ranges than QEMU's does, down to single pages. */
static void vt_edges_of_other_iommus(struct kunit *test)
{
	u64 cap = vt.iommu->cap;
	unsigned int am;

	for (am = 0; am <= vt_bits(cap, 53, 48); am++) {
		u64 max = (u64)PAGE_SIZE << am;

		vt.iommu->cap &= ~GENMASK_ULL(53, 48);
		vt.iommu->cap |= (u64)am << 48;
		vt_flush_range(test, 2 * max, max);
		vt_expect_exact_flush(test, 2 * max, max);
		vt_flush_range(test, 2 * max, 2 * max);
		vt_expect_exact_flush(test, 2 * max, 2 * max);
		vt_flush_range(test, 2 * max, max + PAGE_SIZE);
		vt_expect_flush(test, 2 * max, max + PAGE_SIZE);
		vt.iommu->cap = cap;
	}
}

/* Every alignment and length that can make a difference, and some large ones. */
static void vt_ranges_of_all_kinds(struct kunit *test)
{
	unsigned int first, pages, i;
	struct rnd_state rnd;
	u64 start, len;

	for (first = 0; first < 32; first++) {
		for (pages = 1; pages <= 40; pages++) {
			vt_flush_range(test, first * SZ_4K, pages * SZ_4K);
			vt_expect_flush(test, first * SZ_4K, pages * SZ_4K);
		}
	}
	prandom_seed_state(&rnd, 6);
	for (i = 0; i < 10000; i++) {
		u32 low = prandom_u32_state(&rnd), high = prandom_u32_state(&rnd);

		/* 0 to 35 bits, of which the first is set */
		len = (u64)high << 32 | prandom_u32_state(&rnd) | BIT_ULL(63);
		len = max(len >> (29 + low % 35), 1ULL) << PAGE_SHIFT;
		start = (u64)low << (PAGE_SHIFT + high % 4);
		vt_flush_range(test, start, len);
		vt_expect_flush(test, start, len);
	}
}

/* Which device, and which PASID. */

static void vt_every_device(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	unsigned int i;

	if (vt.devices < 2)
		kunit_skip(test, "one device only");
	vt_map_and_write(test, PMD_SIZE);
	for (i = 1; i < vt.devices; i++) {
		KUNIT_ASSERT_EQ(test, vt_bind(ctx, i), 0);
		vt_flush_range(test, VT_BASE, SZ_8K);
		vt_expect_exact_flush(test, VT_BASE, SZ_8K);
	}
	/* One without ATS: the IOTLB has what it used. */
	ctx->bond[1].info->ats_enabled = 0;
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE, SZ_4K), 0);
	vt_expect_exact_flush(test, VT_BASE, SZ_4K);
	KUNIT_EXPECT_EQ(test, ctx->flush.device[1].nr, 0U);
	KUNIT_EXPECT_EQ(test, ctx->flush.iotlb.nr, vt.devices);
	ctx->bond[1].info->ats_enabled = 1;

	/* The first goes, the others stay. */
	vt_unbind(ctx, 0);
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + SZ_4K, SZ_4K), 0);
	vt_expect_exact_flush(test, VT_BASE + SZ_4K, SZ_4K);
}

static void vt_device_that_is_flushed_twice(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	unsigned int i, fences = 0, pieces = 0;

	ctx->bond[0].info->dtlb_extra_inval = 1;
	vt_flush_range(test, VT_BASE + SZ_4K, SZ_8K);
	ctx->bond[0].info->dtlb_extra_inval = 0;
	vt_expect_flush(test, VT_BASE + SZ_4K, SZ_8K);
	KUNIT_EXPECT_EQ(test, ctx->flush.device[0].nr, 4U);
	/* The second time begins when the first is over. */
	for (i = 0; i < ctx->cmds; i++) {
		pieces += ctx->cmd[i].type == VT_PASID_DEVICE_TLB;
		if (vt_is_fence(&ctx->cmd[i]))
			KUNIT_EXPECT_EQ(test, pieces, 2 * fences++);
	}
	KUNIT_EXPECT_EQ(test, fences, 2U);
}

/* Two processes, with the first and the last of the PASIDs. */
static void vt_pasid_of_the_process_that_changed(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct mm_struct *mm;
	struct iommu_sva *sva;
	bool good;

	vt_map_and_write(test, PMD_SIZE);
	KUNIT_ASSERT_EQ(test, vt_fork(&ctx->child), 0);
	mm = ctx->child.mm;
	KUNIT_ASSERT_EQ(test, iommu_sva_alloc_pasid(mm, VT_PASID_END - 2,
						    VT_PASID_END - 2), 0);
	sva = iommu_sva_bind_device(&ctx->bond[0].pdev->dev, mm, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(sva));
	KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(sva), VT_PASID_END - 2);

	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + SZ_8K, SZ_4K), 0);
	vt_expect_exact_flush(test, VT_BASE + SZ_8K, SZ_4K);

	vt_record(test);
	kthread_unuse_mm(ctx->mm);
	kthread_use_mm(mm);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + SZ_8K, SZ_4K), 0);
	kthread_unuse_mm(mm);
	kthread_use_mm(ctx->mm);
	vt_stop(test);
	good = vt_is_flush(ctx, VT_PASID_END - 2, VT_BASE + SZ_8K, SZ_4K);
	KUNIT_EXPECT_TRUE(test, good);
	if (!good)
		vt_dump(test);
	iommu_sva_unbind_device(sva);
}

/* The life of a binding. */

/* The entry of a PASID, of eight quadwords, as the IOMMU finds it (9.5, 9.6). */
static const u64 *vt_pasid_entry(struct vt_bond *bond, u32 pasid)
{
	const u64 *dir = bond->info->pasid_table->table;
	u64 entry = dir[pasid >> 6];

	if (!vt_bits(entry, 0, 0))
		return NULL;
	return (u64 *)phys_to_virt(entry & GENMASK_ULL(63, 12)) +
	       (pasid & 0x3f) * 8;
}

static bool vt_is_present(struct vt_bond *bond, u32 pasid)
{
	const u64 *entry = vt_pasid_entry(bond, pasid);

	return entry && vt_bits(entry[0], 0, 0);
}

/* The IOMMU has the page table of the process, and nothing of the kernel. */
static void vt_expect_bound(struct kunit *test, unsigned int i)
{
	struct vt_test *ctx = vt_test(test);
	const u64 *entry = vt_pasid_entry(&ctx->bond[i], ctx->pasid);
	const u64 *table;
	unsigned int n;

	KUNIT_ASSERT_NOT_NULL(test, entry);
	KUNIT_EXPECT_EQ(test, vt_bits(entry[0], 0, 0), 1ULL);
	/* first-level translation; four levels; no supervisor requests */
	KUNIT_EXPECT_EQ(test, vt_bits(entry[0], 8, 6), 1ULL);
	KUNIT_EXPECT_EQ(test, vt_bits(entry[1], 15, 0), (u64)VT_DID);
	KUNIT_EXPECT_EQ(test, vt_bits(entry[2], 3, 2), 0ULL);
	KUNIT_EXPECT_EQ(test, vt_bits(entry[2], 0, 0), 0ULL);

	table = phys_to_virt(entry[2] & GENMASK_ULL(63, 12));
	KUNIT_EXPECT_PTR_EQ(test, table, (u64 *)mm_device_pgd(ctx->mm));
	KUNIT_EXPECT_PTR_NE(test, table, (u64 *)ctx->mm->pgd);
	for (n = PTRS_PER_PGD / 2; n < PTRS_PER_PGD; n++)
		KUNIT_EXPECT_EQ(test, table[n], 0ULL);
	n = pgd_index(VT_BASE);
	KUNIT_EXPECT_EQ(test, table[n] & PTE_PFN_MASK,
			pgd_val(ctx->mm->pgd[n]) & PTE_PFN_MASK);
}

/* A command of this type for all that the PASID has. */
static bool vt_is_all(struct vt_test *ctx, const struct vt_cmd *cmd,
		      unsigned int type)
{
	return cmd->type == type && cmd->pasid == ctx->pasid && !cmd->reserved &&
	       (type == VT_PASID_CACHE ? cmd->granularity == VT_ONE_PASID &&
					 cmd->did == VT_DID :
		cmd->start == 0 && cmd->last == U64_MAX);
}

/*
 * 6.5.3.3: the entry of the PASID, then the IOTLB, then the device, each waited
 * for.  Returns the number of commands.
 */
static unsigned int vt_expect_teardown(struct kunit *test)
{
	static const unsigned int order[] = {
		VT_PASID_CACHE, VT_PASID_IOTLB, VT_PASID_DEVICE_TLB
	};
	struct vt_test *ctx = vt_test(test);
	unsigned int i, n = 2 * ARRAY_SIZE(order);
	bool good;

	good = vt_stop(test) >= n;
	for (i = 0; good && i < n; i += 2)
		good = vt_is_all(ctx, &ctx->cmd[i], order[i / 2]) &&
		       vt_is_wait(&ctx->cmd[i + 1]);
	good = good && ctx->cmd[2].did == VT_DID &&
	       ctx->cmd[4].sid == pci_dev_id(ctx->bond[0].pdev);
	KUNIT_EXPECT_TRUE(test, good);
	if (!good)
		vt_dump(test);
	return n;
}

/* From command @i on, page requests are drained (7.10), and nothing else. */
static void vt_expect_drain(struct kunit *test, unsigned int i)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_cmd *cmd = &ctx->cmd[i];
	bool good;

	good = ctx->cmds == i + 4 && vt_is_fence(&cmd[0]) &&
	       vt_is_all(ctx, &cmd[1], VT_PASID_IOTLB) &&
	       cmd[2].type == VT_PASID_DEVICE_TLB &&
	       cmd[2].pasid == ctx->pasid &&
	       vt_is_wait(&cmd[3]) && cmd[3].drain;
	KUNIT_EXPECT_TRUE(test, good);
	if (!good)
		vt_dump(test);
}

static void vt_bind_and_unbind(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);

	vt_map_and_write(test, PMD_SIZE);
	vt_expect_bound(test, 0);
	KUNIT_EXPECT_TRUE(test, mm_has_secondary_tlb(ctx->mm));
	vt_record(test);
	vt_unbind(ctx, 0);
	vt_expect_drain(test, vt_expect_teardown(test));
	KUNIT_EXPECT_FALSE(test, vt_is_present(&ctx->bond[0], ctx->pasid));
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));

	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE, SZ_4K), 0);
	vt_expect_no_command(test);

	/* What was there is gone: the PASID can be had again. */
	KUNIT_ASSERT_EQ(test, vt_bind(ctx, 0), 0);
	vt_expect_bound(test, 0);
}

static void vt_bind_what_is_bound(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct iommu_sva *sva;

	vt_map_and_write(test, PMD_SIZE);
	vt_record(test);
	sva = iommu_sva_bind_device(&ctx->bond[0].pdev->dev, ctx->mm, NULL);
	KUNIT_EXPECT_PTR_EQ(test, sva, ctx->bond[0].sva);
	vt_expect_no_command(test);
	iommu_sva_unbind_device(sva);
	vt_expect_no_command(test);

	vt_expect_bound(test, 0);
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE, SZ_4K), 0);
	vt_expect_exact_flush(test, VT_BASE, SZ_4K);
}

/* A PASID for the kernel, and anything with iommu.sva=0. */
static void vt_bind_what_is_refused(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct device *dev = &ctx->bond[0].pdev->dev;
	unsigned int flags = SVM_FLAG_SUPERVISOR_MODE;

	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, NULL, &flags)),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, &init_mm,
							    &flags)),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, ctx->mm,
							    &flags)),
			-EOPNOTSUPP);
	if (vt.off) {
		KUNIT_EXPECT_EQ(test, vt_bind(ctx, 0), -EOPNOTSUPP);
		KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));
	}
	KUNIT_EXPECT_EQ(test, vt_is_present(&ctx->bond[0], ctx->pasid),
			!vt.off);
}

/*
 * When the process exits, the device loses it before it loses its memory: one
 * flush of the PASID, and none for what exit_mmap() unmaps.
 */
static void vt_exit_then_unbind(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct mm_struct *mm = ctx->mm;

	vt_map_and_write(test, PMD_SIZE);
	mmgrab(mm);
	kthread_unuse_mm(mm);
	ctx->mm = NULL;
	vt_record(test);
	mmput(mm);
	KUNIT_EXPECT_EQ(test, vt_expect_teardown(test), ctx->cmds);
	KUNIT_EXPECT_FALSE(test, vt_is_present(&ctx->bond[0], ctx->pasid));

	vt_record(test);
	vt_unbind(ctx, 0);
	vt_stop(test);
	vt_expect_drain(test, 0);
	mmdrop(mm);
}

static void vt_unbind_then_exit(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);

	vt_map_and_write(test, PMD_SIZE);
	vt_unbind(ctx, 0);
	kthread_unuse_mm(ctx->mm);
	vt_record(test);
	mmput(ctx->mm);
	ctx->mm = NULL;
	vt_expect_no_command(test);
}

/* The queue, and an IOMMU that does not answer. */

/* Its registers are memory: it is not told what is in the queue. */
static void vt_stop_iommu(struct vt_test *ctx)
{
	memcpy_fromio(ctx->memory, vt.iommu->reg, PAGE_SIZE);
	ctx->reg = vt.iommu->reg;
	vt.iommu->reg = (void __force __iomem *)ctx->memory;
}

/* Now it is, and works off all that is there. */
static void vt_start_iommu(struct vt_test *ctx)
{
	struct q_inval *qi = vt.iommu->qi;
	unsigned long flags;

	if (!ctx->reg)
		return;
	raw_spin_lock_irqsave(&qi->q_lock, flags);
	vt.iommu->reg = ctx->reg;
	writel(qi->free_head << qi_shift(vt.iommu),
	       vt.iommu->reg + DMAR_IQT_REG);
	raw_spin_unlock_irqrestore(&qi->q_lock, flags);
	ctx->reg = NULL;
}

static bool vt_is_master(struct pci_dev *pdev)
{
	u16 cmd;

	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	return cmd & PCI_COMMAND_MASTER;
}

/* The device is removed and found again. */
static void vt_come_back(struct kunit *test, unsigned int i)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_bond *bond = &ctx->bond[i];

	vt_unbind(ctx, i);
	vt_disable(bond);
	pci_dev_put(bond->pdev);
	vt_replug(&vt.device[i], true);
	bond->pdev = pci_get_slot(vt.device[i].bus, 0);
	KUNIT_ASSERT_NOT_NULL(test, bond->pdev);
	bond->info = dev_iommu_priv_get(&bond->pdev->dev);
	KUNIT_EXPECT_FALSE(test, pci_is_quarantined(bond->pdev));
	KUNIT_ASSERT_EQ(test, vt_enable(bond), 0);
}

/*
 * The device has no memory, and no process, until it was removed and found
 * again.  The IOMMU is there again.
 */
static void vt_leave_quarantine(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_bond *bond = &ctx->bond[0];
	struct iommu_sva *sva;

	KUNIT_EXPECT_TRUE(test, pci_is_quarantined(bond->pdev));
	KUNIT_EXPECT_FALSE(test, vt_is_master(bond->pdev));
	pci_set_master(bond->pdev);
	KUNIT_EXPECT_FALSE(test, vt_is_master(bond->pdev));
	sva = iommu_sva_bind_device(&bond->pdev->dev, ctx->mm, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(sva), -EIO);
	if (!IS_ERR(sva))
		iommu_sva_unbind_device(sva);

	vt_come_back(test, 0);
	pci_set_master(bond->pdev);
	KUNIT_EXPECT_TRUE(test, vt_is_master(bond->pdev));
	KUNIT_ASSERT_EQ(test, vt_bind(ctx, 0), 0);
	vt_flush_range(test, VT_BASE, SZ_4K);
	vt_expect_exact_flush(test, VT_BASE, SZ_4K);
}

struct vt_worker {
	struct kunit *test;
	struct intel_svm *svm;
	unsigned long addr;
	unsigned int rounds;
	atomic_t *gate;
	struct completion done;
};

static int vt_flush_thread(void *data)
{
	struct vt_worker *w = data;
	struct mmu_notifier *mn = &w->svm->notifier;

	if (w->gate)
		atomic_dec(w->gate);
	while (w->gate && atomic_read(w->gate))
		cpu_relax();
	while (w->rounds--)
		mn->ops->invalidate_range(mn, w->svm->mm, w->addr,
					  w->addr + SZ_8K);
	kthread_complete_and_exit(&w->done, 0);
}

static int vt_flush_on(struct vt_worker *w, unsigned int cpu)
{
	w->svm = pasid_private_find(vt_test(w->test)->pasid);
	init_completion(&w->done);
	return PTR_ERR_OR_ZERO(kthread_run_on_cpu(vt_flush_thread, w, cpu,
						  "vt_flush/%u"));
}

/* While the IOMMU does not work off its commands, the flush does not return. */
static void vt_returns_after_completion(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_worker w = { .test = test, .addr = VT_BASE, .rounds = 1 };
	int head = vt.iommu->qi->free_head;
	unsigned int here, other;
	bool early;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	here = raw_smp_processor_id();
	other = cpumask_any_but(cpu_online_mask, here);
	set_cpus_allowed_ptr(current, cpumask_of(here));

	vt_record(test);
	vt_stop_iommu(ctx);
	KUNIT_ASSERT_EQ(test, vt_flush_on(&w, other), 0);
	while (READ_ONCE(vt.iommu->qi->free_head) == head &&
	       !completion_done(&w.done))
		cpu_relax();
	mdelay(10);
	early = completion_done(&w.done);
	vt_start_iommu(ctx);
	wait_for_completion(&w.done);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	KUNIT_EXPECT_FALSE(test, early);
	vt_expect_exact_flush(test, VT_BASE, SZ_8K);
}

/* What the driver says. */
static struct {
	const char *device;
	char range[32];
	char pasid[16];
	unsigned int reports;
} vt_said;

static void vt_console(void *ignore, const char *text, size_t len)
{
	if (strnstr(text, "cannot flush", len) &&
	    strnstr(text, vt_said.device, len) &&
	    strnstr(text, vt_said.pasid, len) &&
	    strnstr(text, vt_said.range, len))
		vt_said.reports++;
}

static void vt_listen(struct vt_test *ctx, unsigned long addr,
		      unsigned long len)
{
	memset(&vt_said, 0, sizeof(vt_said));
	vt_said.device = pci_name(ctx->bond[0].pdev);
	snprintf(vt_said.range, sizeof(vt_said.range), "%#lx pages at %#lx:",
		 len >> PAGE_SHIFT, addr);
	snprintf(vt_said.pasid, sizeof(vt_said.pasid), "PASID %u,", ctx->pasid);
	WARN_ON(register_trace_console(vt_console, NULL));
}

static void vt_listen_no_more(void)
{
	if (!vt_said.device)
		return;
	unregister_trace_console(vt_console, NULL);
	tracepoint_synchronize_unregister();
	vt_said.device = NULL;
}

/*
 * Two commands that the IOMMU does not take: this one has no PFSID.  It is
 * reported, all others are executed, and nothing is lost of the queue.  (Reports
 * have a limit, so this is before the case that makes many.)
 */
static void vt_errors_in_the_queue(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct q_inval *qi = vt.iommu->qi;
	u64 begin;

	vt_listen(ctx, VT_BASE + SZ_4K, SZ_8K);
	begin = ktime_get_ns();
	ctx->bond[0].info->pfsid = 1;
	vt_flush_range(test, VT_BASE + SZ_4K, SZ_8K);
	ctx->bond[0].info->pfsid = 0;
	KUNIT_EXPECT_LT(test, ktime_get_ns() - begin, 1ULL * NSEC_PER_SEC);
	KUNIT_EXPECT_EQ(test, vt_said.reports, 1U);
	KUNIT_EXPECT_EQ(test, readl(vt.iommu->reg + DMAR_IQH_REG),
			readl(vt.iommu->reg + DMAR_IQT_REG));
	KUNIT_EXPECT_EQ(test, qi->free_cnt, QI_LENGTH);

	vt_flush_range(test, VT_BASE, SZ_4K);
	vt_expect_exact_flush(test, VT_BASE, SZ_4K);
	KUNIT_EXPECT_EQ(test, vt_said.reports, 1U);
	KUNIT_EXPECT_EQ(test, qi->free_cnt, QI_LENGTH);
	vt_listen_no_more();
	vt_leave_quarantine(test);
}

/*
 * One time limit for all that is flushed until the IOMMU is back.  Then it does
 * what was left in the queue, and no entry of that is lost.
 */
static void vt_completion_never_comes(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct q_inval *qi = vt.iommu->qi;
	unsigned int i, waits = 0;
	u64 begin, first;

	vt_map_and_write(test, PMD_SIZE);
	vt_flush_range(test, VT_BASE, SZ_4K);
	KUNIT_ASSERT_EQ(test, qi->free_cnt, QI_LENGTH);

	vt_listen(ctx, VT_BASE + SZ_4K, SZ_4K);
	vt_record(test);
	vt_stop_iommu(ctx);
	begin = ktime_get_ns();
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + SZ_4K, SZ_4K), 0);
	first = ktime_get_ns() - begin;
	vt_expect_exact_flush(test, VT_BASE + SZ_4K, SZ_4K);
	KUNIT_EXPECT_EQ(test, vt_said.reports, 1U);
	for (i = 2; i < 102; i++) {
		begin = ktime_get_ns();
		KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + i * SZ_4K, SZ_4K), 0);
		waits += ktime_get_ns() - begin >= NSEC_PER_SEC;
	}
	KUNIT_EXPECT_GE(test, first, 1ULL * NSEC_PER_SEC);
	/* None waits again; a machine that is busy may stop for as long, once. */
	KUNIT_EXPECT_LE(test, waits, 1U);
	/* Half of the queue is left for others. */
	KUNIT_EXPECT_LT(test, qi->free_cnt, QI_LENGTH / 2);
	KUNIT_EXPECT_GE(test, qi->free_cnt, QI_LENGTH / 2 - 8);

	vt_start_iommu(ctx);
	vt_listen_no_more();
	vt_listen(ctx, VT_BASE, SZ_4K);
	vt_flush_range(test, VT_BASE, SZ_4K);
	vt_expect_exact_flush(test, VT_BASE, SZ_4K);
	KUNIT_EXPECT_EQ(test, vt_said.reports, 0U);
	KUNIT_EXPECT_EQ(test, qi->free_cnt, QI_LENGTH);
	vt_listen_no_more();
	vt_leave_quarantine(test);
}

/* What nobody waits for any more does not hold up the others. */
static void vt_errors_after_the_limit(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);

	vt_stop_iommu(ctx);
	ctx->bond[0].info->pfsid = 1;
	vt_flush_range(test, VT_BASE + SZ_4K, SZ_8K);
	ctx->bond[0].info->pfsid = 0;
	vt_start_iommu(ctx);
	vt_leave_quarantine(test);
	KUNIT_EXPECT_EQ(test, vt.iommu->qi->free_cnt, QI_LENGTH);
}

/* Each place in the queue is the first of a flush once, and the last. */
static void vt_queue_wraps(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < 2 * QI_LENGTH; i++) {
		vt_flush_range(test, VT_BASE + SZ_4K, i % 3 ? SZ_8K : SZ_4K);
		vt_expect_flush(test, VT_BASE + SZ_4K, i % 3 ? SZ_8K : SZ_4K);
	}
}

/* Flushes of two CPUs do not mix. */
static void vt_two_cpus_at_once(struct kunit *test)
{
	unsigned int i, pos, all, cpus = num_online_cpus(), seen[2] = { };
	const unsigned int each = 4, rounds = 25;
	struct vt_test *ctx = vt_test(test);
	atomic_t gate = ATOMIC_INIT(2);
	struct vt_worker w[2] = { };

	if (cpus < 2)
		kunit_skip(test, "needs two CPUs");
	vt_record(test);
	for (i = 0; i < 2; i++) {
		w[i].test = test;
		w[i].addr = VT_BASE + i * SZ_64K;
		w[i].rounds = rounds;
		w[i].gate = &gate;
		KUNIT_ASSERT_EQ(test, vt_flush_on(&w[i],
						  cpumask_nth(i, cpu_online_mask)),
				0);
	}
	for (i = 0; i < 2; i++)
		wait_for_completion(&w[i].done);
	all = vt_stop(test);
	KUNIT_ASSERT_EQ(test, all, 2 * rounds * each);
	ctx->cmds = each;
	for (pos = 0; pos < all; pos += each) {
		memmove(ctx->cmd, &ctx->cmd[pos], each * sizeof(*ctx->cmd));
		i = ctx->cmd[0].start == w[1].addr;
		KUNIT_EXPECT_TRUE(test, vt_is_flush(ctx, ctx->pasid, w[i].addr,
						    SZ_8K));
		seen[i]++;
	}
	KUNIT_EXPECT_EQ(test, seen[0], rounds);
	KUNIT_EXPECT_EQ(test, seen[1], rounds);
}

static const char *vt_name_in_qemu(const struct vt_cmd *cmd)
{
	switch (cmd->type) {
	case VT_PASID_IOTLB:
		return "p-iotlb";
	case VT_PASID_DEVICE_TLB:
		return "device-piotlb";
	case VT_PASID_CACHE:
		return "pasid-cache";
	case VT_WAIT:
		return "wait";
	default:
		return "none";
	}
}

/*
 * For whoever does not trust the decoder: the same commands as QEMU names them
 * when it executes them, with -trace vtd_inv_desc and others.
 */
static void vt_as_qemu_sees_it(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	unsigned int i, pos;

	vt_map_and_write(test, PMD_SIZE);
	vt_record(test);
	pos = ctx->head;
	KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + SZ_4K, SZ_16K), 0);
	vt_unbind(ctx, 0);
	vt_stop(test);
	for (i = 0; i < ctx->cmds; i++, pos = (pos + 1) % QI_LENGTH) {
		struct vt_cmd *cmd = &ctx->cmd[i];

		kunit_info(test, "cmd\t%u\t%s\t%llx\t%llx\n", pos,
			   vt_name_in_qemu(cmd), cmd->raw[1], cmd->raw[0]);
		if (cmd->type == VT_WAIT && cmd->store)
			kunit_info(test, "cmd\tstores\t%llx\t%x\n",
				   cmd->address, cmd->data);
	}
	KUNIT_EXPECT_GE(test, ctx->cmds, 16U);
}

/*
 * What it costs, as a table.  A device has cached VT_WARM pages; what it has left
 * is of interest as well.
 */

#define VT_WARM		1024

static void vt_timed_row(struct kunit *test, const char *what, u64 changed,
			 u64 ms)
{
	struct vt_test *ctx = vt_test(test);
	unsigned int i, waits = 0, left = VT_WARM, page;
	u64 first = VT_BASE >> PAGE_SHIFT, sum = 0, lost;
	DECLARE_BITMAP(warm, VT_WARM) = { };

	vt_stop(test);
	for (i = 0; i < ctx->cmds; i++) {
		struct vt_cmd *cmd = &ctx->cmd[i];

		waits += cmd->type == VT_WAIT && cmd->store;
		if (cmd->type != VT_PASID_DEVICE_TLB ||
		    cmd->sid != pci_dev_id(ctx->bond[0].pdev))
			continue;
		lost = (cmd->last - cmd->start) >> PAGE_SHIFT;
		sum += min_t(u64, lost + 1, TASK_SIZE_MAX >> PAGE_SHIFT);
		for (page = 0; page < VT_WARM; page++)
			if (first + page >= cmd->start >> PAGE_SHIFT &&
			    first + page <= cmd->last >> PAGE_SHIFT)
				left -= !test_and_set_bit(page, warm);
	}
	kunit_info(test, "row\t%s\t%u\t%u\t%u\t%llu\t%llu\t%u\t%llu\n", what,
		   vt_bound(ctx), ctx->cmds, waits, changed, sum, left, ms);
}

static void vt_row(struct kunit *test, const char *what, u64 changed)
{
	vt_timed_row(test, what, changed, 0);
}

static void vt_munmap_row(struct kunit *test, const char *what,
			  unsigned long addr, unsigned int pages)
{
	vt_map_and_write(test, 3 * PMD_SIZE);
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, pages * PAGE_SIZE), 0);
	vt_row(test, what, pages);
}

static void vt_what_it_costs(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	unsigned long addr = VT_BASE + 4 * PAGE_SIZE;
	unsigned int i;

	for (i = 1; i < vt.devices; i++)
		KUNIT_ASSERT_EQ(test, vt_bind(ctx, i), 0);

	kunit_info(test, "row\toperation\tdevices\tcommands\twaits\tpages changed\tpages flushed\tleft of %u\tms\n",
		   VT_WARM);
	vt_munmap_row(test, "munmap 1", VT_BASE + PMD_SIZE, 1);
	vt_munmap_row(test, "munmap 4", VT_BASE + PMD_SIZE, 4);
	vt_munmap_row(test, "munmap 64", VT_BASE + PMD_SIZE, 64);
	vt_munmap_row(test, "munmap 512", VT_BASE + PMD_SIZE, 512);
	vt_munmap_row(test, "munmap 4, not aligned", addr + PAGE_SIZE, 4);

	vm_munmap(VT_BASE, 3 * PMD_SIZE);
	vt_map_and_write(test, VT_WARM * PAGE_SIZE);
	vt_record(test);
	KUNIT_ASSERT_EQ(test, vt_fork(&ctx->child), 0);
	vt_row(test, "fork", VT_WARM);
	vt_record(test);
	KUNIT_EXPECT_EQ(test, vt_write(addr, PAGE_SIZE), 0);
	vt_row(test, "copy on write", 1);
	vt_exit_process(&ctx->child);

	vt_map_and_write(test, 2 * PMD_SIZE);
	vt_record(test);
	vt_make_read_only(test, addr, 4 * PAGE_SIZE);
	vt_row(test, "mprotect 4", 4);

	vt_map_and_write(test, 2 * PMD_SIZE);
	vt_record(test);
	for (i = 0; i < 16; i += 2)
		KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm, VT_BASE + i * PAGE_SIZE,
						 PAGE_SIZE, MADV_DONTNEED), 0);
	vt_row(test, "MADV_DONTNEED, 8 of 16", 8);
}

/* How long a CPU waits for an IOMMU that has stopped, or goes on after a while. */

#define VT_STOP_MS	5000

struct vt_stop {
	struct delayed_work go_on;
	struct vt_test *ctx;
};

static void vt_go_on(struct work_struct *work)
{
	struct vt_stop *stop = container_of(work, struct vt_stop, go_on.work);

	vt_start_iommu(stop->ctx);
}

static void vt_what_a_stop_costs(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_stop stop = { .ctx = ctx };
	unsigned int i, here;
	u64 begin;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU");
	for (i = 1; i < vt.devices; i++)
		KUNIT_ASSERT_EQ(test, vt_bind(ctx, i), 0);
	vt_map_and_write(test, PMD_SIZE);
	/* Who waits for this IOMMU may keep its CPU to itself. */
	here = get_cpu();
	put_cpu();
	set_cpus_allowed_ptr(current, cpumask_of(here));
	INIT_DELAYED_WORK_ONSTACK(&stop.go_on, vt_go_on);
	vt_stop_iommu(ctx);
	schedule_delayed_work_on(cpumask_any_but(cpu_online_mask, here),
				 &stop.go_on, msecs_to_jiffies(VT_STOP_MS));
	for (i = 0; i < 2; i++) {
		vt_record(test);
		begin = ktime_get_ns();
		KUNIT_EXPECT_EQ(test, vm_munmap(VT_BASE + i * PAGE_SIZE,
						PAGE_SIZE), 0);
		vt_timed_row(test, i ? "munmap 1, the next" :
				       "munmap 1, IOMMU stopped", 1,
			     div_u64(ktime_get_ns() - begin, NSEC_PER_MSEC));
	}
	flush_delayed_work(&stop.go_on);
	destroy_delayed_work_on_stack(&stop.go_on);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	for (i = 0; i < vt.devices; i++)
		if (pci_is_quarantined(ctx->bond[i].pdev))
			vt_come_back(test, i);
}

static struct kunit_case vt_cases[] = {
	KUNIT_CASE(vt_bind_and_unbind),
	KUNIT_CASE(vt_bind_what_is_bound),
	KUNIT_CASE(vt_bind_what_is_refused),
	KUNIT_CASE(vt_munmap),
	KUNIT_CASE(vt_munmap_of_pages_that_are_not_aligned),
	KUNIT_CASE(vt_munmap_of_everything),
	KUNIT_CASE(vt_munmap_of_4_gib),
	KUNIT_CASE(vt_madvise_dontneed),
	KUNIT_CASE(vt_mprotect_read_only),
	KUNIT_CASE(vt_fork_and_cow),
	KUNIT_CASE(vt_edges_of_the_encoding),
	KUNIT_CASE(vt_edges_of_other_iommus),
	KUNIT_CASE(vt_ranges_of_all_kinds),
	KUNIT_CASE(vt_every_device),
	KUNIT_CASE(vt_device_that_is_flushed_twice),
	KUNIT_CASE(vt_pasid_of_the_process_that_changed),
	KUNIT_CASE(vt_exit_then_unbind),
	KUNIT_CASE(vt_unbind_then_exit),
	KUNIT_CASE(vt_returns_after_completion),
	KUNIT_CASE(vt_errors_in_the_queue),
	KUNIT_CASE(vt_completion_never_comes),
	KUNIT_CASE(vt_errors_after_the_limit),
	KUNIT_CASE(vt_queue_wraps),
	KUNIT_CASE(vt_two_cpus_at_once),
	KUNIT_CASE(vt_as_qemu_sees_it),
	KUNIT_CASE(vt_what_it_costs),
	KUNIT_CASE(vt_what_a_stop_costs),
	{ }
};

static int vt_init(struct kunit *test)
{
	struct vt_test *ctx;
	unsigned int i;
	int ret;

	if (vt.missing)
		kunit_skip(test, "%s", vt.missing);
	if (vt.off && strcmp(test->name, "vt_bind_what_is_refused"))
		kunit_skip(test, "iommu.sva=0");
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

	ctx->memory = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	if (!ctx->memory)
		return -ENOMEM;
	ret = iommu_sva_alloc_pasid(ctx->mm, VT_PASID, VT_PASID_END - 1);
	if (ret)
		return ret;
	ctx->pasid = ctx->mm->pasid;
	for (i = 0; i < vt.devices; i++) {
		ctx->bond[i].pdev = pci_get_slot(vt.device[i].bus, 0);
		if (!ctx->bond[i].pdev)
			return -ENODEV;
		ctx->bond[i].info = dev_iommu_priv_get(&ctx->bond[i].pdev->dev);
		ret = vt_enable(&ctx->bond[i]);
		if (ret)
			return ret;
	}
	return vt.off ? 0 : vt_bind(ctx, 0);
}

static void vt_exit(struct kunit *test)
{
	struct vt_test *ctx = vt_test(test);
	struct vt_bond *bond;

	if (!ctx)
		return;
	vt_listen_no_more();
	vt_start_iommu(ctx);
	for (bond = ctx->bond; bond < ctx->bond + vt.devices; bond++) {
		if (bond->sva)
			iommu_sva_unbind_device(bond->sva);
		vt_disable(bond);
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
