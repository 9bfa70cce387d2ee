// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the AMD IOMMUv2 driver; part of iommu_v2.c.
 *
 * Each case binds a process to a PASID of a real PCI device, changes the memory
 * of that process with the functions of the VMM, and reads from the command
 * buffer of the IOMMU what the driver made of it.  The commands are decoded
 * here as the AMD I/O Virtualization Technology (IOMMU) Specification, 48882,
 * section 2.4 defines them, and not with the macros of the driver.
 *
 * No emulated device has ATS, PRI and PASID.  QEMU's virtio devices have ATS;
 * for these tests, their configuration space is made to show the other two.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kallsyms.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <linux/pci-ats.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <asm/tlb.h>
#include <trace/events/kmem.h>
#include <trace/events/printk.h>

/* Far from anything else, with page tables of its own. */
#define V2_BASE		ALIGN(TASK_SIZE / 4, P4D_SIZE)

/* Bits in both bytes of the PASID that the command has apart. */
#define V2_PASID	0x123
#define V2_PASIDS	0x200

/* What the driver has allocated, and not yet freed. */

enum { V2_DEVICE_STATE, V2_PASID_STATE, V2_FAULT, V2_KINDS };

static const struct {
	const char *by;
	size_t size;
} v2_kinds[V2_KINDS] = {
	[V2_DEVICE_STATE] = { "amd_iommu_init_device",
			      sizeof(struct device_state) },
	[V2_PASID_STATE] = { "amd_iommu_bind_pasid",
			     sizeof(struct pasid_state) },
	[V2_FAULT] = { "ppr_notifier", sizeof(struct fault) },
};

static struct {
	raw_spinlock_t lock;
	int nr[V2_KINDS];
	struct {
		const void *ptr;
		unsigned int kind;
	} live[64];
} v2_heap = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(v2_heap.lock),
};

static void v2_allocated(void *ignore, unsigned long call_site,
			 const void *ptr, size_t bytes_req, size_t bytes_alloc,
			 gfp_t gfp_flags, int node)
{
	char name[KSYM_NAME_LEN];
	unsigned long flags;
	unsigned int i, kind;

	for (kind = 0; kind < V2_KINDS; kind++)
		if (bytes_req == v2_kinds[kind].size && ptr &&
		    !lookup_symbol_name(call_site, name) &&
		    !strcmp(name, v2_kinds[kind].by))
			break;
	if (kind == V2_KINDS)
		return;
	raw_spin_lock_irqsave(&v2_heap.lock, flags);
	v2_heap.nr[kind]++;
	for (i = 0; i < ARRAY_SIZE(v2_heap.live); i++) {
		if (v2_heap.live[i].ptr)
			continue;
		v2_heap.live[i].kind = kind;
		WRITE_ONCE(v2_heap.live[i].ptr, ptr);
		break;
	}
	raw_spin_unlock_irqrestore(&v2_heap.lock, flags);
}

static void v2_freed(void *ignore, unsigned long call_site, const void *ptr)
{
	unsigned long flags;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(v2_heap.live); i++)
		if (ptr && READ_ONCE(v2_heap.live[i].ptr) == ptr)
			break;
	if (i == ARRAY_SIZE(v2_heap.live))
		return;
	raw_spin_lock_irqsave(&v2_heap.lock, flags);
	v2_heap.nr[v2_heap.live[i].kind]--;
	v2_heap.live[i].ptr = NULL;
	raw_spin_unlock_irqrestore(&v2_heap.lock, flags);
}

/* The test device. */

#define V2_PRI_CAP	0xf00
#define V2_PASID_CAP	0xf10
#define V2_CAPS_END	0xf18
#define V2_CAPS		((V2_CAPS_END - V2_PRI_CAP) / 4)
#define V2_PASID_WIDTH	16

struct v2_function {
	bool present;
	int devsta, devcap2;	/* where to find the registers to change */
	int last_cap;
	u32 caps[V2_CAPS];	/* the PRI and the PASID capability */
	bool stuck;		/* stays a bus master */
	unsigned int pending;	/* how often it says that requests are under way */
};

static struct {
	const char *missing;	/* why there are no tests */
	struct pci_bus *bus;
	struct pci_ops *ops;	/* those of the hardware */
	struct v2_function fn[8];
	unsigned long quarantine;	/* jiffies of the last one, or 0 */
} v2;

static u32 *v2_cap_reg(int devfn, int where)
{
	if (!v2.fn[PCI_FUNC(devfn)].present ||
	    where < V2_PRI_CAP || where >= V2_CAPS_END)
		return NULL;
	return &v2.fn[PCI_FUNC(devfn)].caps[(where - V2_PRI_CAP) / 4];
}

static int v2_config_read(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 *val)
{
	struct v2_function *fn = &v2.fn[PCI_FUNC(devfn)];
	u32 *reg = v2_cap_reg(devfn, where), dword;
	int pos = where & ~3, ret;

	if (!PCI_SLOT(devfn) && fn->pending && where == fn->devsta) {
		if (fn->pending != UINT_MAX)
			fn->pending--;
		ret = v2.ops->read(bus, devfn, where, size, val);
		*val |= PCI_EXP_DEVSTA_TRPND;
		return ret;
	}
	if (PCI_SLOT(devfn) || !fn->present ||
	    (!reg && pos != fn->last_cap && pos != fn->devcap2))
		return v2.ops->read(bus, devfn, where, size, val);
	if (reg) {
		dword = *reg;
	} else {
		ret = v2.ops->read(bus, devfn, pos, 4, &dword);
		if (ret)
			return ret;
		if (pos == fn->last_cap)
			dword |= V2_PRI_CAP << 20;
		else
			dword |= PCI_EXP_DEVCAP2_EE_PREFIX;
	}
	*val = dword >> (8 * (where & 3)) & GENMASK(8 * size - 1, 0);
	return PCIBIOS_SUCCESSFUL;
}

static int v2_config_write(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 val)
{
	u32 *reg = v2_cap_reg(devfn, where);
	int shift = 8 * (where & 3);

	if (PCI_SLOT(devfn) || !reg) {
		if (v2.fn[PCI_FUNC(devfn)].stuck && where == PCI_COMMAND)
			val |= PCI_COMMAND_MASTER;
		return v2.ops->write(bus, devfn, where, size, val);
	}
	if (where == V2_PRI_CAP + PCI_PRI_CTRL ||
	    where == V2_PRI_CAP + PCI_PRI_ALLOC_REQ ||
	    where == V2_PASID_CAP + PCI_PASID_CTRL) {
		*reg &= ~(GENMASK(8 * size - 1, 0) << shift);
		*reg |= val << shift;
	}
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops v2_ops = {
	.read = v2_config_read,
	.write = v2_config_write,
};

static void v2_add_function(struct pci_dev *pdev)
{
	struct v2_function *fn = &v2.fn[PCI_FUNC(pdev->devfn)];
	int pos = PCI_CFG_SPACE_SIZE;
	u32 header;

	while (pos) {
		fn->last_cap = pos;
		pci_read_config_dword(pdev, pos, &header);
		pos = PCI_EXT_CAP_NEXT(header);
	}
	fn->devsta = pdev->pcie_cap + PCI_EXP_DEVSTA;
	fn->devcap2 = pdev->pcie_cap + PCI_EXP_DEVCAP2;
	memset(fn->caps, 0, sizeof(fn->caps));
	fn->caps[0] = PCI_EXT_CAP_ID_PRI | 1 << 16 | V2_PASID_CAP << 20;
	fn->caps[PCI_PRI_CTRL / 4] = (PCI_PRI_STATUS_STOPPED |
				      PCI_PRI_STATUS_PASID) << 16;
	fn->caps[PCI_PRI_MAX_REQ / 4] = 32;
	fn->caps[(V2_PASID_CAP - V2_PRI_CAP) / 4] = PCI_EXT_CAP_ID_PASID |
						    1 << 16;
	fn->caps[(V2_PASID_CAP - V2_PRI_CAP + PCI_PASID_CAP) / 4] =
		V2_PASID_WIDTH << 8;
	fn->present = true;
}

static void v2_unplug(void)
{
	struct pci_dev *pdev, *next;

	pci_lock_rescan_remove();
	list_for_each_entry_safe_reverse(pdev, next, &v2.bus->devices, bus_list)
		pci_stop_and_remove_bus_device(pdev);
	pci_unlock_rescan_remove();
}

static void v2_plug(void)
{
	pci_lock_rescan_remove();
	pci_rescan_bus(v2.bus);
	pci_unlock_rescan_remove();
}

/* Take the devices away and find them again, with or without disguise. */
static void v2_replug(bool disguise)
{
	struct iommu_dev_data *dev_data;
	struct pci_dev *pdev;

	list_for_each_entry(pdev, &v2.bus->devices, bus_list) {
		dev_data = dev_iommu_priv_get(&pdev->dev);
		if (disguise)
			v2_add_function(pdev);
		else
			dev_data->iommu_v2 = false;
	}
	v2_unplug();
	v2.bus->self->eetlp_prefix_path = disguise;
	pci_bus_set_ops(v2.bus, disguise ? &v2_ops : v2.ops);
	v2_plug();
}

static int v2_suite_init(struct kunit_suite *suite)
{
	struct pci_dev *pdev = NULL;

	if (!amd_iommu_v2_supported()) {
		v2.missing = pgtable_l5_enabled() ?
			     "needs page tables of four levels" :
			     "no AMD IOMMU with PPR and GT";
		return 0;
	}
	for_each_pci_dev(pdev) {
		if (pdev->vendor == PCI_VENDOR_ID_REDHAT_QUMRANET &&
		    pci_ats_supported(pdev) && !PCI_SLOT(pdev->devfn) &&
		    dev_iommu_priv_get(&pdev->dev) && pdev->bus->self &&
		    pci_pcie_type(pdev->bus->self) == PCI_EXP_TYPE_ROOT_PORT)
			break;
	}
	if (!pdev) {
		v2.missing = "no virtio device with ATS at a root port";
		return 0;
	}
	v2.bus = pdev->bus;
	v2.ops = v2.bus->ops;
	pci_dev_put(pdev);
	v2_replug(true);
	WARN_ON(register_trace_kmalloc(v2_allocated, NULL));
	WARN_ON(register_trace_kfree(v2_freed, NULL));
	return 0;
}

static void v2_suite_exit(struct kunit_suite *suite)
{
	if (!v2.bus)
		return;
	unregister_trace_kfree(v2_freed, NULL);
	unregister_trace_kmalloc(v2_allocated, NULL);
	tracepoint_synchronize_unregister();
	v2_replug(false);
}

/* The test process. */

struct v2_process {
	struct task_struct *task;
	struct completion ready;
	struct completion leave;
};

static int v2_process_run(void *data)
{
	struct v2_process *proc = data;

	proc->task = get_task_struct(current);
	complete(&proc->ready);
	wait_for_completion(&proc->leave);
	do_exit(0);
}

/* With CLONE_VM it shares the memory of the case, else it has a copy. */
static int v2_fork(struct v2_process *proc, unsigned long flags)
{
	struct kernel_clone_args args = {
		.flags = flags | CLONE_FS | CLONE_FILES | CLONE_UNTRACED,
		.exit_signal = SIGCHLD,
		.fn = v2_process_run,
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
static void v2_exit_process(struct v2_process *proc)
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
 * Commands.
 *
 * Bits 63:60 of the first quadword are the opcode.  All other bits that a
 * command does not define are reserved and zero.
 */

struct v2_cmd {
	unsigned int opcode;
	u64 raw[2];

	/* 2.4.1 COMPLETION_WAIT */
	bool store, interrupt, flush_queue;
	u64 store_address, store_data;

	/* 2.4.3 INVALIDATE_IOMMU_PAGES, 2.4.4 INVALIDATE_IOTLB_PAGES */
	u32 pasid;
	u16 domain;
	u16 device, queue;
	u8 max_pend;
	bool gn, pde;
	u64 start, last;

	/* 2.4.7 COMPLETE_PPR_REQUEST */
	u16 tag;
	u8 response;

	u64 reserved;
};

#define V2_COMPLETION_WAIT		1
#define V2_INVALIDATE_IOMMU_PAGES	3
#define V2_INVALIDATE_IOTLB_PAGES	4
#define V2_COMPLETE_PPR_REQUEST		7

static u64 v2_bits(u64 value, unsigned int high, unsigned int low)
{
	return (value & GENMASK_ULL(high, low)) >> low;
}

/*
 * Table "Example Page Size Encodings": S=0 is a page of 4 KiB.  With S=1 the
 * lowest zero of Address[63:12] is the upper bit of the offset; above bit 51
 * there is no such range, it means everything.
 */
static void v2_decode_range(struct v2_cmd *cmd, u64 address, bool s)
{
	unsigned int bits = PAGE_SHIFT;

	address &= GENMASK_ULL(63, 12);
	if (s)
		bits = ffz(address | GENMASK_ULL(11, 0)) + 1;
	if (bits > 52) {
		cmd->start = 0;
		cmd->last = U64_MAX;
		return;
	}
	cmd->start = address & ~(BIT_ULL(bits) - 1);
	cmd->last = cmd->start + BIT_ULL(bits) - 1;
}

static void v2_decode(struct v2_cmd *cmd, const u64 *raw)
{
	memset(cmd, 0, sizeof(*cmd));
	cmd->raw[0] = raw[0];
	cmd->raw[1] = raw[1];
	cmd->opcode = v2_bits(raw[0], 63, 60);
	switch (cmd->opcode) {
	case V2_COMPLETION_WAIT:
		cmd->store = v2_bits(raw[0], 0, 0);
		cmd->interrupt = v2_bits(raw[0], 1, 1);
		cmd->flush_queue = v2_bits(raw[0], 2, 2);
		cmd->store_address = raw[0] & GENMASK_ULL(51, 3);
		cmd->store_data = raw[1];
		cmd->reserved = v2_bits(raw[0], 59, 52);
		break;
	case V2_INVALIDATE_IOMMU_PAGES:
		cmd->pasid = v2_bits(raw[0], 19, 0);
		cmd->domain = v2_bits(raw[0], 47, 32);
		cmd->pde = v2_bits(raw[1], 1, 1);
		cmd->gn = v2_bits(raw[1], 2, 2);
		v2_decode_range(cmd, raw[1], v2_bits(raw[1], 0, 0));
		cmd->reserved = v2_bits(raw[0], 31, 20) |
				v2_bits(raw[0], 59, 48) |
				v2_bits(raw[1], 11, 3);
		break;
	case V2_INVALIDATE_IOTLB_PAGES:
		cmd->device = v2_bits(raw[0], 15, 0);
		cmd->max_pend = v2_bits(raw[0], 31, 24);
		cmd->queue = v2_bits(raw[0], 47, 32);
		cmd->pasid = v2_bits(raw[0], 59, 56) << 16 |
			     v2_bits(raw[0], 23, 16) << 8 |
			     v2_bits(raw[0], 55, 48);
		cmd->gn = v2_bits(raw[1], 2, 2);
		v2_decode_range(cmd, raw[1], v2_bits(raw[1], 0, 0));
		cmd->reserved = v2_bits(raw[1], 1, 1) | v2_bits(raw[1], 11, 3);
		break;
	case V2_COMPLETE_PPR_REQUEST:
		cmd->device = v2_bits(raw[0], 15, 0);
		cmd->pasid = v2_bits(raw[0], 51, 32);
		cmd->gn = v2_bits(raw[1], 2, 2);
		cmd->tag = v2_bits(raw[1], 41, 32);
		cmd->response = v2_bits(raw[1], 47, 44);
		cmd->reserved = v2_bits(raw[0], 31, 16) |
				v2_bits(raw[0], 59, 52) |
				v2_bits(raw[1], 1, 0) | v2_bits(raw[1], 31, 3) |
				v2_bits(raw[1], 43, 42) |
				v2_bits(raw[1], 63, 48);
		break;
	}
}

/* One flush, as the driver is meant to write it. */

#define V2_MAX_PIECES	3
#define V2_TWO_PIECES	(3 * SZ_4K)	/* from an odd page on */

struct v2_flush {
	u32 pasid;
	unsigned int devices;
	unsigned int pieces;
	struct {
		u64 start, last;
	} piece[V2_MAX_PIECES];
	u64 start, last, sum;	/* of all pieces */
	bool everything;
};

/* What has to be the same before and after. */
struct v2_census {
	int users, grabbed;	/* mm_users and mm_count of the process */
	int references;		/* of PASIDs to the state of the device */
	int domains;		/* identifiers in use */
	int group;		/* another one, if somebody holds the last */
	int removed;		/* references to the device, if it is gone */
	int allocated[V2_KINDS];
};

struct v2_test {
	struct mm_struct *mm;
	struct v2_process proc;
	struct pci_dev *pdev;
	struct iommu_dev_data *dev_data;
	struct protection_domain *domain;
	struct amd_iommu *iommu;
	unsigned int devices;	/* in the group, all with ATS */
	bool device, bound;
	struct mm_struct *grabbed;	/* mm, also after the process */
	struct v2_census before;

	u32 tail;		/* where the recording starts */
	unsigned int cmds;
	struct v2_cmd cmd[CMD_BUFFER_ENTRIES];
};

static struct v2_test *v2_test(struct kunit *test)
{
	return test->priv;
}

static struct amd_iommu *v2_iommu_of(struct pci_dev *pdev)
{
	return container_of(pdev->dev.iommu->iommu_dev, struct amd_iommu,
			    iommu);
}

/* Devices with ATS behind the IOMMU of which commands are recorded. */
static unsigned int v2_devices_behind(struct v2_test *ctx)
{
	struct iommu_dev_data *dev_data;
	unsigned int n = 0;

	list_for_each_entry(dev_data, &ctx->domain->dev_list, list)
		n += dev_data->ats.enabled &&
		     v2_iommu_of(to_pci_dev(dev_data->dev)) == ctx->iommu;
	return n;
}

static void v2_record(struct kunit *test)
{
	v2_test(test)->tail = v2_test(test)->iommu->cmd_buf_tail;
}

/* The number of commands that have been written since. */
static unsigned int v2_written(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	return (READ_ONCE(ctx->iommu->cmd_buf_tail) - ctx->tail) %
	       CMD_BUFFER_SIZE / sizeof(ctx->cmd->raw);
}

/* Decode them, and begin anew. */
static unsigned int v2_stop(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int i, cmds = v2_written(test);
	u32 pos = ctx->tail;

	for (i = 0; i < cmds; i++) {
		v2_decode(&ctx->cmd[i], (u64 *)(ctx->iommu->cmd_buf + pos));
		pos = (pos + sizeof(ctx->cmd->raw)) % CMD_BUFFER_SIZE;
	}
	ctx->cmds = cmds;
	ctx->tail = pos;
	return ctx->cmds;
}

static void v2_dump(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int i;

	for (i = 0; i < ctx->cmds; i++) {
		struct v2_cmd *cmd = &ctx->cmd[i];

		kunit_info(test, "%2u: %016llx %016llx\n", i, cmd->raw[0],
			   cmd->raw[1]);
		if (cmd->opcode == V2_COMPLETION_WAIT)
			kunit_info(test, "    COMPLETION_WAIT S=%u I=%u F=%u address=%llx data=%llx\n",
				   cmd->store, cmd->interrupt,
				   cmd->flush_queue, cmd->store_address,
				   cmd->store_data);
		else if (cmd->opcode == V2_INVALIDATE_IOMMU_PAGES)
			kunit_info(test, "    INVALIDATE_IOMMU_PAGES domain=%x PASID=%x GN=%u PDE=%u %llx-%llx\n",
				   cmd->domain, cmd->pasid, cmd->gn, cmd->pde,
				   cmd->start, cmd->last);
		else if (cmd->opcode == V2_INVALIDATE_IOTLB_PAGES)
			kunit_info(test, "    INVALIDATE_IOTLB_PAGES device=%x queue=%x PASID=%x GN=%u %llx-%llx\n",
				   cmd->device, cmd->queue, cmd->pasid,
				   cmd->gn, cmd->start, cmd->last);
	}
}

/* Is this a COMPLETION_WAIT that holds back what comes after it? */
static bool v2_is_fence(const struct v2_cmd *cmd)
{
	return cmd->opcode == V2_COMPLETION_WAIT && !cmd->reserved &&
	       cmd->flush_queue && !cmd->store && !cmd->interrupt;
}

/* Is this a COMPLETION_WAIT that the CPU waits for, and has it happened? */
static bool v2_is_done(struct v2_test *ctx, const struct v2_cmd *cmd)
{
	return cmd->opcode == V2_COMPLETION_WAIT && !cmd->reserved &&
	       cmd->store && !cmd->interrupt &&
	       cmd->store_address == virt_to_phys((void *)ctx->iommu->cmd_sem) &&
	       (s64)(*ctx->iommu->cmd_sem - cmd->store_data) >= 0;
}

static bool v2_is_iommu_flush(struct v2_test *ctx, const struct v2_cmd *cmd,
			      u32 pasid)
{
	return cmd->opcode == V2_INVALIDATE_IOMMU_PAGES && !cmd->reserved &&
	       cmd->gn && cmd->pde && cmd->pasid == pasid &&
	       cmd->domain == ctx->domain->id;
}

static bool v2_is_device_flush(struct v2_test *ctx, const struct v2_cmd *cmd,
			       u32 pasid, struct iommu_dev_data *dev_data)
{
	return cmd->opcode == V2_INVALIDATE_IOTLB_PAGES && !cmd->reserved &&
	       cmd->gn && cmd->pasid == pasid &&
	       cmd->device == pci_dev_id(to_pci_dev(dev_data->dev)) &&
	       cmd->queue == cmd->device && cmd->max_pend == dev_data->ats.qdep;
}

/* Each piece is a command for every device. */
static unsigned int v2_most_pieces(struct v2_test *ctx)
{
	return ctx->devices > 1 ? 2 : V2_MAX_PIECES;
}

/* Let so many devices of the group have ATS, if there are so many. */
static void v2_with_ats(struct v2_test *ctx, unsigned int n)
{
	struct iommu_dev_data *dev_data;

	ctx->devices = 0;
	list_for_each_entry(dev_data, &ctx->domain->dev_list, list) {
		dev_data->ats.enabled = ctx->devices < n;
		ctx->devices += dev_data->ats.enabled;
	}
}

/* Add a piece; it must not overlap the others. */
static bool v2_add_piece(struct v2_flush *flush, const struct v2_cmd *cmd)
{
	unsigned int i;

	for (i = 0; i < flush->pieces; i++)
		if (cmd->start <= flush->piece[i].last &&
		    cmd->last >= flush->piece[i].start)
			return false;
	if (i == V2_MAX_PIECES)
		return false;
	flush->piece[i].start = cmd->start;
	flush->piece[i].last = cmd->last;
	flush->start = i ? min(flush->start, cmd->start) : cmd->start;
	flush->last = max(flush->last, cmd->last);
	flush->sum += cmd->last - cmd->start + 1;
	flush->everything = cmd->start == 0 && cmd->last == U64_MAX;
	flush->pieces++;
	return true;
}

/*
 * Recognize one flush at command *@pos of the recording and step over it:
 *
 *	INVALIDATE_IOMMU_PAGES, for each piece of the range
 *	COMPLETION_WAIT, F=1
 *	INVALIDATE_IOTLB_PAGES, for each device with ATS and each piece
 *	COMPLETION_WAIT, S=1
 *
 * Why the device cannot be left with what it had: its command is not started
 * before the IOMMU has lost all of it (F bit, 2.4.1), so a device that asks
 * again makes the IOMMU walk the page table; and the last command completes
 * after all that came before it.
 */
static bool v2_parse_flush(struct v2_test *ctx, unsigned int *pos,
			   struct v2_flush *flush)
{
	const struct v2_cmd *cmd = &ctx->cmd[*pos], *end = &ctx->cmd[ctx->cmds];
	struct iommu_dev_data *dev_data;
	unsigned int i;

	memset(flush, 0, sizeof(*flush));
	if (cmd < end)
		flush->pasid = cmd->pasid;
	for (; cmd < end && v2_is_iommu_flush(ctx, cmd, flush->pasid); cmd++)
		if (!v2_add_piece(flush, cmd))
			return false;
	if (!flush->pieces || cmd == end || !v2_is_fence(cmd++))
		return false;
	list_for_each_entry(dev_data, &ctx->domain->dev_list, list) {
		if (!dev_data->ats.enabled ||
		    v2_iommu_of(to_pci_dev(dev_data->dev)) != ctx->iommu)
			continue;
		for (i = 0; i < flush->pieces; i++, cmd++)
			if (cmd >= end ||
			    !v2_is_device_flush(ctx, cmd, flush->pasid,
						dev_data) ||
			    cmd->start != flush->piece[i].start ||
			    cmd->last != flush->piece[i].last)
				return false;
		flush->devices++;
	}
	if (cmd >= end || !v2_is_done(ctx, cmd++))
		return false;
	*pos = cmd - ctx->cmd;
	return true;
}

/* The fewest pages that up to @n commands can flush around these. */
static u64 v2_smallest_sum(u64 first, u64 last, unsigned int n)
{
	u64 middle, best;
	unsigned int i;
	int msb;

	if (first == last)
		return 1;
	msb = fls64(first ^ last) - 1;
	middle = last >> msb << msb;
	best = BIT_ULL(msb + 1);
	for (i = 1; i < n; i++)
		best = min(best, v2_smallest_sum(first, middle - 1, i) +
				 v2_smallest_sum(middle, last, n - i));
	return best;
}

/*
 * What was recorded is one flush of all this range, and nothing else: no
 * command less, none more, and nothing flushed that need not be.
 */
static void v2_expect_flush(struct kunit *test, u32 pasid, u64 start, u64 len)
{
	u64 first = start >> PAGE_SHIFT, last = (start + len - 1) >> PAGE_SHIFT;
	struct v2_test *ctx = v2_test(test);
	struct v2_flush flush;
	unsigned int pos = 0;
	bool good;

	v2_stop(test);
	good = v2_parse_flush(ctx, &pos, &flush) && pos == ctx->cmds &&
	       flush.pasid == pasid &&
	       flush.devices == v2_devices_behind(ctx) &&
	       flush.start >> PAGE_SHIFT <= first &&
	       flush.last >> PAGE_SHIFT >= last &&
	       flush.sum == flush.last - flush.start + 1 &&
	       flush.sum == v2_smallest_sum(first, last,
					    v2_most_pieces(ctx)) << PAGE_SHIFT;
	KUNIT_EXPECT_TRUE_MSG(test, good, "not a flush of %llx-%llx", start,
			      start + len - 1);
	if (!good)
		v2_dump(test);
}

/* The same, and no page is flushed that is not in it. */
static void v2_expect_exact_flush(struct kunit *test, u64 start, u64 len)
{
	KUNIT_EXPECT_EQ(test, v2_smallest_sum(start >> PAGE_SHIFT,
					      (start + len - 1) >> PAGE_SHIFT,
					      v2_most_pieces(v2_test(test))) <<
			     PAGE_SHIFT, len);
	v2_expect_flush(test, V2_PASID, start, len);
}

/* What was recorded is one flush of all that the PASID has. */
static void v2_expect_flush_of_all(struct kunit *test, u32 pasid)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_flush flush;
	unsigned int pos = 0;
	bool good;

	v2_stop(test);
	good = v2_parse_flush(ctx, &pos, &flush) && pos == ctx->cmds &&
	       flush.pasid == pasid && flush.everything &&
	       flush.devices == v2_devices_behind(ctx);
	KUNIT_EXPECT_TRUE(test, good);
	if (!good)
		v2_dump(test);
}

static void v2_expect_no_command(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, v2_stop(test), 0U);
	v2_dump(test);
}

/* The process of the case gets its PASID on the device. */
static int v2_bind(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	int ret;

	ret = amd_iommu_init_device(ctx->pdev, V2_PASIDS);
	if (ret)
		return ret;
	ctx->device = true;
	ctx->domain = ctx->dev_data->domain;
	ctx->devices = ctx->domain->dev_cnt;
	ret = amd_iommu_bind_pasid(ctx->pdev, V2_PASID, ctx->proc.task);
	ctx->bound = !ret;
	return ret;
}

/* Operations on the memory of the process. */

static int v2_write(unsigned long addr, unsigned long len)
{
	unsigned long end = addr + len;

	for (; addr < end; addr += PAGE_SIZE)
		if (put_user(1UL, (unsigned long __user *)addr))
			return -EFAULT;
	return 0;
}

/* Map @len bytes at V2_BASE, in small pages, or in huge ones. */
static void v2_map(struct kunit *test, unsigned long len, int advice)
{
	KUNIT_ASSERT_EQ(test, vm_mmap(NULL, V2_BASE, len,
				      PROT_READ | PROT_WRITE, MAP_PRIVATE |
				      MAP_ANONYMOUS | MAP_FIXED, 0), V2_BASE);
	KUNIT_ASSERT_EQ(test, do_madvise(v2_test(test)->mm, V2_BASE, len,
					 advice), 0);
	KUNIT_ASSERT_EQ(test, v2_write(V2_BASE, len), 0);
}

static void v2_map_small(struct kunit *test, unsigned long len)
{
	v2_map(test, len, MADV_NOHUGEPAGE);
}

static int v2_madvise(struct kunit *test, unsigned long addr,
		      unsigned long len, int advice)
{
	return do_madvise(v2_test(test)->mm, addr, len, advice);
}

static int v2_mprotect(struct kunit *test, unsigned long addr,
		       unsigned long len, unsigned long set,
		       unsigned long clear)
{
	struct mm_struct *mm = v2_test(test)->mm;
	struct vm_area_struct *vma, *prev = NULL;
	struct mmu_gather tlb;
	int ret = -ENOMEM;

	mmap_write_lock(mm);
	vma = find_vma_prev(mm, addr, &prev);
	if (vma && vma->vm_start <= addr) {
		if (addr > vma->vm_start)
			prev = vma;
		tlb_gather_mmu(&tlb, mm);
		ret = mprotect_fixup(&tlb, vma, &prev, addr, addr + len,
				     (vma->vm_flags | set) & ~clear);
		tlb_finish_mmu(&tlb);
	}
	mmap_write_unlock(mm);
	return ret;
}

static bool v2_is_thp(struct mm_struct *mm, unsigned long addr)
{
	pud_t *pud = pud_offset(p4d_offset(pgd_offset(mm, addr), addr), addr);

	return pmd_trans_huge(*pmd_offset(pud, addr));
}

static void v2_split_thp(struct kunit *test, unsigned long addr)
{
	struct mm_struct *mm = v2_test(test)->mm;

	mmap_read_lock(mm);
	split_huge_pmd_address(vma_lookup(mm, addr), addr, false, NULL);
	mmap_read_unlock(mm);
}

static int v2_migrate(struct kunit *test, int from, int to)
{
	nodemask_t a = nodemask_of_node(from), b = nodemask_of_node(to);

	return do_migrate_pages(v2_test(test)->mm, &a, &b, MPOL_MF_MOVE_ALL);
}

/* The entry of a PASID in the GCR3 table, as the IOMMU reads it. */
static u64 v2_gcr3(struct v2_test *ctx, u32 pasid)
{
	u64 *table = ctx->domain->gcr3_tbl;
	int level;

	for (level = ctx->domain->glx; level; level--) {
		u64 entry = table[pasid >> (9 * level) & 0x1ff];

		if (!(entry & GCR3_VALID))
			return 0;
		table = phys_to_virt(entry & PAGE_MASK);
	}
	return table[pasid & 0x1ff];
}

static u64 v2_gcr3_of(struct mm_struct *mm)
{
	return __pa(mm_device_pgd(mm)) | GCR3_VALID;
}

/* The device comes back after it was removed. */
static bool v2_find_again(struct v2_test *ctx)
{
	v2_plug();
	ctx->pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 0));
	if (ctx->pdev)
		ctx->dev_data = dev_iommu_priv_get(&ctx->pdev->dev);
	return ctx->pdev;
}

/* Threads of the case. */

struct v2_worker {
	struct v2_test *ctx;
	struct mm_struct *mm;
	unsigned long addr;
	unsigned int rounds;
	atomic_t *gate;		/* to start with the others */
	int ret;
	struct completion done;
};

static int v2_run_on(int (*fn)(void *), struct v2_worker *w, unsigned int cpu)
{
	init_completion(&w->done);
	return PTR_ERR_OR_ZERO(kthread_run_on_cpu(fn, w, cpu, "v2_work/%u"));
}

/* What is allocated, and who holds what. */

static int v2_references(struct v2_test *ctx)
{
	struct device_state *dev_state;
	int count;

	dev_state = get_device_state(get_pci_sbdf_id(ctx->pdev));
	if (!dev_state)
		return 0;
	count = atomic_read(&dev_state->count) - 1;
	put_device_state(dev_state);
	return count;
}

static int v2_use_another_mm(void *data)
{
	struct v2_worker *w = data;

	kthread_use_mm(w->mm);
	kthread_unuse_mm(w->mm);
	kthread_complete_and_exit(&w->done, 0);
}

/* An idle CPU holds the mm_struct that it had last: let that be another one. */
static void v2_drop_lazy_references(void)
{
	struct mm_struct *other = mm_alloc();
	struct v2_worker w = { .mm = other };
	unsigned int cpu;

	if (!other)
		return;
	for_each_online_cpu(cpu)
		if (!v2_run_on(v2_use_another_mm, &w, cpu))
			wait_for_completion(&w.done);
	mmput(other);
}

/* A thread that ends drops the mm_struct a little later. */
static int v2_settled(const atomic_t *count)
{
	unsigned int tries = 100, same = 0;
	int now, last = atomic_read(count);

	while (same < 4 && --tries) {
		usleep_range(1000, 2000);
		now = atomic_read(count);
		same = now == last ? same + 1 : 0;
		last = now;
	}
	return last;
}

static void v2_count(struct v2_test *ctx, struct v2_census *now)
{
	struct iommu_group *group;
	struct pci_dev *pdev;
	unsigned int kind;

	flush_workqueue(iommu_wq);
	/* The CPU that this thread leaves would be idle, with its mm_struct. */
	migrate_disable();
	v2_drop_lazy_references();
	now->users = atomic_read(&ctx->grabbed->mm_users);
	now->grabbed = v2_settled(&ctx->grabbed->mm_count);
	migrate_enable();
	now->references = v2_references(ctx);
	now->domains = bitmap_weight(amd_iommu_pd_alloc_bitmap, MAX_DOMAIN_ID);
	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 0));
	group = pdev ? iommu_group_get(&pdev->dev) : NULL;
	now->group = group ? iommu_group_id(group) : -1;
	iommu_group_put(group);
	now->removed = pdev == ctx->pdev ? 1 :
		       kref_read(&ctx->pdev->dev.kobj.kref);
	pci_dev_put(pdev);
	for (kind = 0; kind < V2_KINDS; kind++)
		now->allocated[kind] = READ_ONCE(v2_heap.nr[kind]);
}

static void v2_expect_count(struct kunit *test, const struct v2_census *before)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_census now;
	unsigned int kind, tries = 100;

	/* A thread that ends drops the mm_struct a little later. */
	do {
		v2_count(ctx, &now);
	} while (now.grabbed > before->grabbed && --tries);
	KUNIT_EXPECT_EQ(test, now.users, before->users);
	KUNIT_EXPECT_EQ(test, now.grabbed, before->grabbed);
	KUNIT_EXPECT_EQ(test, now.references, before->references);
	KUNIT_EXPECT_EQ(test, now.domains, before->domains);
	KUNIT_EXPECT_EQ(test, now.group, before->group);
	KUNIT_EXPECT_EQ(test, now.removed, before->removed);
	for (kind = 0; kind < V2_KINDS; kind++)
		KUNIT_EXPECT_EQ_MSG(test, now.allocated[kind],
				    before->allocated[kind], "of %s()",
				    v2_kinds[kind].by);
}

/* What each operation flushes. */

static void v2_munmap(struct kunit *test)
{
	static const unsigned int pages[] = { 1, 4, 64, 512 };
	unsigned long addr = V2_BASE + PMD_SIZE, len;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		len = pages[i] * PAGE_SIZE;
		v2_map_small(test, 3 * PMD_SIZE);
		v2_record(test);
		KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
		v2_expect_exact_flush(test, addr, len);
		/* With one device, four commands; the CPU waits for one. */
		KUNIT_EXPECT_EQ(test, v2_test(test)->cmds,
				3 + v2_test(test)->devices);
	}
}

static void v2_munmap_of_pages_that_are_not_aligned(struct kunit *test)
{
	unsigned long addr, len, exact;

	exact = v2_most_pieces(v2_test(test)) == 2 ? 3 * PAGE_SIZE :
						     5 * PAGE_SIZE;
	for (addr = V2_BASE + PAGE_SIZE; addr < V2_BASE + 9 * PAGE_SIZE;
	     addr += PAGE_SIZE) {
		for (len = PAGE_SIZE; len <= exact; len += PAGE_SIZE) {
			v2_map_small(test, PMD_SIZE);
			v2_record(test);
			KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
			v2_expect_exact_flush(test, addr, len);
		}
	}
}

/* The tables go as well: all that they mapped is flushed. */
static void v2_munmap_of_everything(struct kunit *test)
{
	v2_map_small(test, 4 * PAGE_SIZE);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, 4 * PAGE_SIZE), 0);
	v2_expect_exact_flush(test, V2_BASE, PGDIR_SIZE);
}

static void v2_madvise_dontneed(struct kunit *test)
{
	unsigned long addr = V2_BASE + 4 * PAGE_SIZE;

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_madvise(test, addr, 4 * PAGE_SIZE,
					 MADV_DONTNEED), 0);
	v2_expect_exact_flush(test, addr, 4 * PAGE_SIZE);

	/* Nothing is left there. */
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_madvise(test, addr, 4 * PAGE_SIZE,
					 MADV_DONTNEED), 0);
	v2_expect_no_command(test);
}

static void v2_mprotect_read_only(struct kunit *test)
{
	unsigned long addr = V2_BASE + 8 * PAGE_SIZE, len = 8 * PAGE_SIZE;

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_mprotect(test, addr, len, 0, VM_WRITE), 0);
	v2_expect_exact_flush(test, addr, len);
}

static void v2_fork_and_cow(struct kunit *test)
{
	unsigned long addr = V2_BASE + 5 * PAGE_SIZE;
	struct v2_process child = { };

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	v2_expect_exact_flush(test, V2_BASE, PMD_SIZE);

	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_write(addr, PAGE_SIZE), 0);
	v2_expect_exact_flush(test, addr, PAGE_SIZE);
	v2_exit_process(&child);

	/* Neither does the child's exit concern the device, nor this write. */
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_write(addr, PAGE_SIZE), 0);
	v2_expect_no_command(test);
}

static void v2_thp_split(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map(test, PMD_SIZE, MADV_HUGEPAGE);
	if (!v2_is_thp(ctx->mm, V2_BASE))
		kunit_skip(test, "no huge page to be had");
	v2_record(test);
	v2_split_thp(test, V2_BASE);
	KUNIT_EXPECT_FALSE(test, v2_is_thp(ctx->mm, V2_BASE));
	v2_expect_exact_flush(test, V2_BASE, PMD_SIZE);
}

static void v2_thp_zap(struct kunit *test)
{
	v2_map(test, PMD_SIZE, MADV_HUGEPAGE);
	if (!v2_is_thp(v2_test(test)->mm, V2_BASE))
		kunit_skip(test, "no huge page to be had");
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_madvise(test, V2_BASE, PMD_SIZE,
					 MADV_DONTNEED), 0);
	v2_expect_exact_flush(test, V2_BASE, PMD_SIZE);
}

/* How ranges are encoded. */

static int v2_flush_range(struct kunit *test, u64 address, size_t size)
{
	v2_record(test);
	return amd_iommu_flush_range(&v2_test(test)->domain->domain, V2_PASID,
				     address, size);
}

static void v2_edges_of_the_encoding(struct kunit *test)
{
	static const struct {
		u64 address, size;
		unsigned int pieces;
		u64 sum;
	} edge[] = {
		/* one page, whole or a part of it */
		{ 0, SZ_4K, 1, SZ_4K },
		{ SZ_1G + SZ_4K, SZ_4K, 1, SZ_4K },
		{ SZ_1G + 0x123, 1, 1, SZ_4K },
		{ SZ_1G + 0xfff, 2, 1, SZ_8K },
		/* not aligned */
		{ SZ_1G + SZ_4K, SZ_8K, 2, SZ_8K },
		{ SZ_1G + SZ_4K, SZ_16K, 3, SZ_16K },
		{ SZ_1G + SZ_8K, SZ_16K, 2, SZ_16K },
		{ SZ_1G + SZ_4K, 6 * SZ_4K, 3, 7 * SZ_4K },
		{ SZ_1G, 7 * SZ_4K, 3, 7 * SZ_4K },
		{ SZ_1G, 15 * SZ_4K, 1, SZ_64K },
		/* 2 MiB */
		{ SZ_1G + SZ_2M, SZ_2M, 1, SZ_2M },
		{ SZ_1G + SZ_2M - SZ_4K, SZ_8K, 2, SZ_8K },
		{ SZ_1G + SZ_2M + SZ_4K, SZ_2M, 2, SZ_2M + SZ_4K },
		/* 1 GiB */
		{ SZ_1G, SZ_1G, 1, SZ_1G },
		{ SZ_1G + SZ_2M, SZ_1G, 2, SZ_1G + SZ_2M },
		{ SZ_1G, SZ_1G + SZ_4K, 2, SZ_1G + SZ_4K },
		/* across 4 GiB */
		{ SZ_4G - SZ_4K, SZ_8K, 2, SZ_8K },
		{ SZ_4G - SZ_16K, SZ_32K, 2, SZ_32K },
		{ SZ_2G, SZ_4G, 2, SZ_4G },
		/* the top of the user address space */
		{ BIT_ULL(47) - SZ_8K, SZ_4K, 1, SZ_4K },
		{ BIT_ULL(47) - SZ_4K - SZ_8K, SZ_8K, 2, SZ_8K },
		{ BIT_ULL(46) - SZ_4K, SZ_8K, 2, SZ_8K },
		/* all of it, and more than there are page tables for */
		{ 0, BIT_ULL(47) - SZ_4K, 1, BIT_ULL(47) },
		{ 0, BIT_ULL(52), 1, BIT_ULL(52) },
		{ BIT_ULL(52) - SZ_4K, SZ_8K, 1, 0 },
		{ 0, U64_MAX, 1, 0 },
		{ U64_MAX - SZ_4K + 1, SZ_4K, 1, SZ_4K },
	};
	struct v2_test *ctx = v2_test(test);
	struct v2_flush flush;
	unsigned int i, pos;
	bool good;

	v2_with_ats(ctx, 1);
	for (i = 0; i < ARRAY_SIZE(edge); i++) {
		u64 first = edge[i].address;
		u64 last = edge[i].address + edge[i].size - 1;

		KUNIT_EXPECT_EQ(test, v2_flush_range(test, first, edge[i].size), 0);
		v2_stop(test);
		pos = 0;
		good = v2_parse_flush(ctx, &pos, &flush) && pos == ctx->cmds &&
		       flush.start <= first && flush.last >= last &&
		       flush.pieces == edge[i].pieces &&
		       flush.sum == edge[i].sum &&
		       flush.everything == !edge[i].sum;
		KUNIT_EXPECT_TRUE_MSG(test, good, "%llx bytes at %llx",
				      edge[i].size, edge[i].address);
		if (!good)
			v2_dump(test);
	}
	v2_with_ats(ctx, UINT_MAX);
}

/* The rule, with every alignment and length that can make a difference. */
static void v2_ranges_of_all_kinds(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int first, pages, n;
	u64 sum;

	for (n = 1; n <= 2; n++) {
		v2_with_ats(ctx, n);
		for (first = 0; first < 32; first++) {
			for (pages = 1; pages <= 40; pages++) {
				u64 start = first * SZ_4K, len = pages * SZ_4K;

				KUNIT_EXPECT_EQ(test, v2_flush_range(test, start,
								     len), 0);
				v2_expect_flush(test, V2_PASID, start, len);
				sum = v2_smallest_sum(first, first + pages - 1,
						      v2_most_pieces(ctx));
				if (ctx->devices > 1)
					KUNIT_EXPECT_LT(test, sum, 2ULL * pages);
				else
					KUNIT_EXPECT_LT(test, 2 * sum,
							3ULL * pages);
				if (pages <= (ctx->devices > 1 ? 3 : 5))
					KUNIT_EXPECT_EQ(test, sum, (u64)pages);
			}
		}
	}
	v2_with_ats(ctx, UINT_MAX);
}

/* Which device, and which PASID. */

static void v2_every_device_of_the_group(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	if (ctx->devices < 2)
		kunit_skip(test, "one function only");
	KUNIT_EXPECT_EQ(test, v2_flush_range(test, V2_BASE, SZ_4K), 0);
	v2_expect_exact_flush(test, V2_BASE, SZ_4K);
	KUNIT_EXPECT_EQ(test, ctx->cmds, 3 + ctx->devices);
}

static void v2_no_device_without_ats(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	ctx->dev_data->ats.enabled = false;
	ctx->devices--;
	KUNIT_EXPECT_EQ(test, v2_flush_range(test, V2_BASE, SZ_4K), 0);
	v2_expect_exact_flush(test, V2_BASE, SZ_4K);
	KUNIT_EXPECT_EQ(test, ctx->cmds, 3 + ctx->devices);
	ctx->devices++;
	ctx->dev_data->ats.enabled = true;
}

/* The number of requests that the device can queue: from its capability. */
static void v2_queue_depth(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int i, found = 0;
	u16 cap;

	pci_read_config_word(ctx->pdev, ctx->pdev->ats_cap + PCI_ATS_CAP, &cap);
	KUNIT_EXPECT_EQ(test, v2_flush_range(test, V2_BASE, SZ_4K), 0);
	v2_stop(test);
	for (i = 0; i < ctx->cmds; i++) {
		if (ctx->cmd[i].opcode != V2_INVALIDATE_IOTLB_PAGES ||
		    ctx->cmd[i].device != pci_dev_id(ctx->pdev))
			continue;
		/* 0 is 32, PCI Express Base Specification, 10.5.1.2 */
		KUNIT_EXPECT_EQ(test, (int)ctx->cmd[i].max_pend,
				cap & 0x1f ?: 32);
		found++;
	}
	KUNIT_EXPECT_EQ(test, found, 1U);
}

/* A process with two PASIDs, and one with a third. */
static void v2_pasids_of_the_process_that_changed(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	const u32 second = 0x0ff, third = 0x100;
	struct v2_process child = { };
	struct v2_flush flush[2];
	unsigned int pos = 0;

	v2_map_small(test, PMD_SIZE);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, second,
						   ctx->proc.task), 0);
	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, third,
						   child.task), 0);

	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_8K, SZ_4K), 0);
	v2_stop(test);
	KUNIT_EXPECT_TRUE(test, v2_parse_flush(ctx, &pos, &flush[0]));
	KUNIT_EXPECT_TRUE(test, v2_parse_flush(ctx, &pos, &flush[1]));
	KUNIT_EXPECT_EQ(test, pos, ctx->cmds);
	KUNIT_EXPECT_EQ(test, flush[0].pasid + flush[1].pasid,
			V2_PASID + second);
	KUNIT_EXPECT_EQ(test, flush[0].start, V2_BASE + SZ_8K);
	KUNIT_EXPECT_EQ(test, flush[1].start, V2_BASE + SZ_8K);

	v2_record(test);
	v2_exit_process(&child);
	v2_expect_flush_of_all(test, third);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, third), 0ULL);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, second), v2_gcr3_of(ctx->mm));

	amd_iommu_unbind_pasid(ctx->pdev, third);
	amd_iommu_unbind_pasid(ctx->pdev, second);
}

/* An IOMMU that does not work off its commands, and then does. */

static void v2_stop_iommu(struct amd_iommu *iommu)
{
	u64 ctrl = readq(iommu->mmio_base + MMIO_CONTROL_OFFSET);

	writeq(ctrl & ~BIT_ULL(CONTROL_CMDBUF_EN),
	       iommu->mmio_base + MMIO_CONTROL_OFFSET);
}

static void v2_start_iommu(struct amd_iommu *iommu)
{
	u64 ctrl = readq(iommu->mmio_base + MMIO_CONTROL_OFFSET);

	writeq(ctrl | BIT_ULL(CONTROL_CMDBUF_EN),
	       iommu->mmio_base + MMIO_CONTROL_OFFSET);
}

/* What the driver says. */
static struct {
	const char *device;
	char range[32];
	unsigned int reports, timeouts, full, warnings;
	struct amd_iommu *resume;	/* works again from the first "full" on */
} v2_said;

static void v2_console(void *ignore, const char *text, size_t len)
{
	if (strnstr(text, "cannot flush PASID 291,", len) &&
	    strnstr(text, v2_said.device, len) &&
	    strnstr(text, v2_said.range, len))
		v2_said.reports++;
	if (strnstr(text, "Completion-Wait loop timed out", len))
		v2_said.timeouts++;
	if (strnstr(text, "Command buffer timeout", len)) {
		v2_said.full++;
		if (v2_said.resume)
			v2_start_iommu(v2_said.resume);
	}
	if (strnstr(text, "WARNING: CPU", len))
		v2_said.warnings++;
}

static void v2_listen(struct v2_test *ctx, unsigned long addr,
		      unsigned long len)
{
	memset(&v2_said, 0, sizeof(v2_said));
	v2_said.device = pci_name(ctx->pdev);
	snprintf(v2_said.range, sizeof(v2_said.range), "%#lx-%#lx:", addr,
		 addr + len - 1);
	WARN_ON(register_trace_console(v2_console, NULL));
}

/* Reports are limited to some in a time: let the earlier ones be forgotten. */
static void v2_await_reports(void)
{
	unsigned long end = v2.quarantine + DEFAULT_RATELIMIT_INTERVAL + 1;

	if (v2.quarantine && time_before(jiffies, end))
		schedule_timeout_uninterruptible(end - jiffies);
}

static void v2_listen_no_more(void)
{
	unregister_trace_console(v2_console, NULL);
	tracepoint_synchronize_unregister();
	v2_said.device = NULL;
}

/* The life of a PASID. */

/* Leave the memory of the case to the process alone. */
static void v2_give_up_mm(struct v2_test *ctx)
{
	kthread_unuse_mm(ctx->mm);
	mmput(ctx->mm);
	ctx->mm = NULL;
}

static void v2_unbind(struct v2_test *ctx)
{
	ctx->bound = false;
	amd_iommu_unbind_pasid(ctx->pdev, V2_PASID);
}

static void v2_free(struct v2_test *ctx)
{
	ctx->bound = false;
	ctx->device = false;
	amd_iommu_free_device(ctx->pdev);
}

/* The device asks for a page. */
static int v2_fault(struct v2_test *ctx, u32 pasid, u64 address, u16 tag)
{
	struct amd_iommu_fault fault = {
		.address = address,
		.pasid = pasid,
		.sbdf = get_pci_sbdf_id(ctx->pdev),
		.tag = tag | BIT(9),	/* the last of its group */
		.flags = PPR_FAULT_USER | PPR_FAULT_READ | PPR_FAULT_WRITE,
	};

	return ppr_notifier(&ppr_nb, 0, &fault);
}

/* The IOMMU walks as many levels as the CPU: Guest Paging Mode, 183:182. */
static void v2_levels_of_the_page_table(struct kunit *test)
{
	u64 *dte, levels = pgtable_l5_enabled() ? 5 : 4;
	struct v2_test *ctx = v2_test(test);

	dte = ctx->iommu->pci_seg->dev_table[pci_dev_id(ctx->pdev)].data;
	KUNIT_EXPECT_EQ(test, v2_bits(dte[2], 55, 54) + 4, levels);
}

static void v2_bind_and_unbind(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), v2_gcr3_of(ctx->mm));
	KUNIT_EXPECT_TRUE(test, mm_has_secondary_tlb(ctx->mm));
	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	v2_unbind(ctx);
	v2_expect_flush_of_all(test, V2_PASID);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), 0ULL);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));

	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	v2_expect_no_command(test);

	/* What was there is gone: the PASID can be had again. */
	KUNIT_ASSERT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, V2_PASID,
						   ctx->proc.task), 0);
	ctx->bound = true;
	v2_expect_flush_of_all(test, V2_PASID);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), v2_gcr3_of(ctx->mm));
}

/* Nothing is bound, registered, kept or sent. */
static void v2_expect_no_bind(struct kunit *test, u32 pasid,
			      struct task_struct *task, int error)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_census before;

	v2_count(ctx, &before);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, pasid, task),
			error);
	v2_expect_no_command(test);
	v2_expect_count(test, &before);
}

static void v2_bind_what_is_bound(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_expect_no_bind(test, V2_PASID, ctx->proc.task, -ENOMEM);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), v2_gcr3_of(ctx->mm));
}

static void v2_bind_fails(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_process child = { };
	struct pci_dev *pdev;

	/* Out of range, not free, no process, one that has exited. */
	v2_expect_no_bind(test, V2_PASIDS, ctx->proc.task, -EINVAL);
	v2_expect_no_bind(test, V2_PASID, ctx->proc.task, -ENOMEM);
	v2_expect_no_bind(test, V2_PASID + 1, current, -ENOMEM);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	complete(&child.leave);
	while (!READ_ONCE(child.task->exit_state))
		usleep_range(100, 200);
	v2_expect_no_bind(test, V2_PASID + 1, child.task, -ENOMEM);
	put_task_struct(child.task);

	/* Nor if the caller is being killed: mmu_notifier_register() fails. */
	v2_map_small(test, SZ_64K);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	allow_signal(SIGKILL);
	KUNIT_EXPECT_EQ(test, send_sig(SIGKILL, current, 1), 0);
	v2_expect_no_bind(test, V2_PASID + 1, child.task, -EINTR);
	flush_signals(current);
	disallow_signal(SIGKILL);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID + 1), 0ULL);

	/* Whoever comes next, can have it. */
	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, V2_PASID + 1,
						   child.task), 0);
	amd_iommu_unbind_pasid(ctx->pdev, V2_PASID + 1);
	v2_exit_process(&child);

	/* The group has a domain for this already. */
	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	if (pdev) {
		KUNIT_EXPECT_EQ(test, amd_iommu_init_device(pdev, V2_PASIDS),
				-EBUSY);
		pci_dev_put(pdev);
	}

	/* The state of the device is there already, and later it is not. */
	KUNIT_EXPECT_NE(test, amd_iommu_init_device(ctx->pdev, V2_PASIDS), 0);
	KUNIT_EXPECT_EQ(test, amd_iommu_init_device(ctx->pdev, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), v2_gcr3_of(ctx->mm));
	v2_free(ctx);
	v2_expect_no_bind(test, V2_PASID, ctx->proc.task, -EINVAL);
}

#ifdef CONFIG_FAULT_INJECTION_DEBUG_FS
/* A knob of fault injection is a file, and a variable behind it. */
static void *v2_knob(const char *dir, const char *file)
{
	struct dentry *parent = debugfs_lookup(dir, NULL), *dentry;
	void *knob;

	if (!parent)
		return NULL;
	dentry = debugfs_lookup(file, parent);
	dput(parent);
	if (!dentry)
		return NULL;
	knob = d_inode(dentry)->i_private;
	dput(dentry);
	return knob;
}

/* Only the case's own allocations fail, and of these the @nth. */
static void v2_fail(unsigned int nth)
{
	WRITE_ONCE(current->fail_nth, nth);
}

static bool v2_has_failed(void)
{
	bool ret = !READ_ONCE(current->fail_nth);

	WRITE_ONCE(current->fail_nth, 0);
	return ret;
}

/* The first allocation fails, then the second, until there are no more. */
static void v2_every_allocation_fails(struct kunit *test)
{
	int max_glx = amd_iommu_max_glx_val, ret;
	struct v2_test *ctx = v2_test(test);
	struct v2_process child = { };
	const u32 last = PASID_MASK;
	struct v2_census before;
	unsigned int nth, errors;
	bool failed;

	v2_map_small(test, PMD_SIZE);
	v2_free(ctx);
	amd_iommu_max_glx_val = 1;
	v2_count(ctx, &before);
	errors = 0;
	for (nth = 1, failed = true; failed; nth++) {
		v2_fail(nth);
		ret = amd_iommu_init_device(ctx->pdev, last + 1);
		failed = v2_has_failed();
		/* Some of the allocations are of KASAN. */
		if (ret || !IS_ENABLED(CONFIG_KASAN))
			KUNIT_EXPECT_EQ(test, ret, failed ? -ENOMEM : 0);
		errors += !!ret;
		v2_free(ctx);
		v2_expect_count(test, &before);
	}
	/* The state, its table, the domain, a table of GCR3 entries. */
	KUNIT_EXPECT_GE(test, errors, 4U);

	errors = 0;
	for (nth = 1, failed = true; failed; nth++) {
		KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
		KUNIT_ASSERT_EQ(test, amd_iommu_init_device(ctx->pdev, last + 1),
				0);
		ctx->device = true;
		ctx->domain = ctx->dev_data->domain;
		v2_fail(nth);
		ret = amd_iommu_bind_pasid(ctx->pdev, last, child.task);
		failed = v2_has_failed();
		if (ret || !IS_ENABLED(CONFIG_KASAN))
			KUNIT_EXPECT_EQ(test, ret, failed ? -ENOMEM : 0);
		errors += !!ret;
		KUNIT_EXPECT_EQ(test, v2_references(ctx), ret ? 1 : 2);
		KUNIT_EXPECT_EQ(test, mm_has_secondary_tlb(child.task->mm),
				!ret);
		KUNIT_EXPECT_EQ(test, !v2_gcr3(ctx, last), !!ret);

		/* It is as if that had not been tried. */
		if (ret)
			KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, last,
								   child.task),
					0);

		/* A page request that cannot be stored: the device may retry. */
		v2_record(test);
		v2_fail(1);
		KUNIT_EXPECT_NE(test, v2_fault(ctx, last, V2_BASE, 11),
				NOTIFY_OK);
		KUNIT_EXPECT_TRUE(test, v2_has_failed());
		KUNIT_EXPECT_EQ(test, v2_stop(test), 1U);
		KUNIT_EXPECT_EQ(test, ctx->cmd[0].opcode,
				(unsigned int)V2_COMPLETE_PPR_REQUEST);
		KUNIT_EXPECT_EQ(test, ctx->cmd[0].response, 0);
		v2_exit_process(&child);
		v2_free(ctx);
		v2_expect_count(test, &before);
	}
	/* The state, the notifier, two tables. */
	KUNIT_EXPECT_GE(test, errors, 4U);
	amd_iommu_max_glx_val = max_glx;
}

static void v2_no_memory(struct kunit *test)
{
	bool *slab = v2_knob("failslab", "ignore-gfp-wait");
	bool *page = v2_knob("fail_page_alloc", "ignore-gfp-wait");
	u32 *order = v2_knob("fail_page_alloc", "min-order");
	bool slab_was, page_was;
	u32 order_was;

	if (!slab || !page || !order)
		kunit_skip(test, "needs CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC");
	slab_was = *slab;
	page_was = *page;
	order_was = *order;
	*slab = false;
	*page = false;
	*order = 0;
	v2_every_allocation_fails(test);
	*slab = slab_was;
	*page = page_was;
	*order = order_was;
}
#else
static void v2_no_memory(struct kunit *test)
{
	kunit_skip(test, "needs CONFIG_FAULT_INJECTION_DEBUG_FS");
}
#endif

/*
 * When the process exits, the device loses it before it loses its memory: one
 * flush of the PASID, and none for what exit_mmap() unmaps.
 */
static void v2_exit_while_bound(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_give_up_mm(ctx);
	v2_record(test);
	v2_exit_process(&ctx->proc);
	v2_expect_flush_of_all(test, V2_PASID);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), 0ULL);
}

static void v2_exit_then_unbind(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_exit_while_bound(test);
	v2_record(test);
	v2_unbind(ctx);
	v2_expect_no_command(test);
	v2_free(ctx);
	KUNIT_EXPECT_NULL(test, get_device_state(get_pci_sbdf_id(ctx->pdev)));
}

static void v2_exit_then_free(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_exit_while_bound(test);
	v2_free(ctx);
	KUNIT_EXPECT_NULL(test, get_device_state(get_pci_sbdf_id(ctx->pdev)));
}

static void v2_unbind_then_exit(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_unbind(ctx);
	v2_give_up_mm(ctx);
	v2_record(test);
	v2_exit_process(&ctx->proc);
	v2_expect_no_command(test);
}

static void v2_free_while_bound(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_free(ctx);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	v2_expect_no_command(test);
	/* The device is as it was, for the next one. */
	KUNIT_EXPECT_EQ(test, v2_bind(test), 0);
}

static void v2_unbind_while_exiting(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_process child = { };
	u32 pasid;

	v2_map_small(test, SZ_64K);
	for (pasid = 0; pasid < 64; pasid++) {
		KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
		KUNIT_ASSERT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, pasid,
							   child.task), 0);
		complete(&child.leave);
		udelay(pasid * 10);
		amd_iommu_unbind_pasid(ctx->pdev, pasid);
		KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, pasid), 0ULL);
		v2_exit_process(&child);
	}
}

static void v2_unbind_what_is_not_bound(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct device_state *dev_state;
	int count;

	dev_state = get_device_state(get_pci_sbdf_id(ctx->pdev));
	KUNIT_ASSERT_NOT_NULL(test, dev_state);
	count = atomic_read(&dev_state->count);
	amd_iommu_unbind_pasid(ctx->pdev, V2_PASID + 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev_state->count), count);
	atomic_set(&dev_state->count, count);
	amd_iommu_unbind_pasid(ctx->pdev, V2_PASIDS);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev_state->count), count);
	atomic_set(&dev_state->count, count);
	put_device_state(dev_state);
}

/* What a driver does while it is told that a PASID goes. */
static struct {
	struct task_struct *task;
	int ret;
} v2_meddle;

static void v2_meddle_with_it(struct pci_dev *pdev, u32 pasid)
{
	amd_iommu_unbind_pasid(pdev, pasid);
	v2_meddle.ret = amd_iommu_bind_pasid(pdev, pasid, v2_meddle.task);
}

/* Whoever gets the PASID now keeps it. */
static void v2_bind_while_unbinding(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	int count = v2_references(ctx);

	v2_meddle.task = ctx->proc.task;
	amd_iommu_set_invalidate_ctx_cb(ctx->pdev, v2_meddle_with_it);
	v2_unbind(ctx);
	amd_iommu_set_invalidate_ctx_cb(ctx->pdev, NULL);
	if (v2_meddle.ret)
		v2_meddle.ret = amd_iommu_bind_pasid(ctx->pdev, V2_PASID,
						     ctx->proc.task);
	KUNIT_ASSERT_EQ(test, v2_meddle.ret, 0);
	ctx->bound = true;
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), v2_gcr3_of(ctx->mm));
	KUNIT_EXPECT_EQ(test, v2_references(ctx), count);
}

/* The driver of the device is told that a PASID goes, while it is there. */
static struct {
	struct v2_test *ctx;
	unsigned int times;
	struct pci_dev *pdev;
	u32 pasid;
	u64 gcr3;
} v2_told;

static void v2_is_told(struct pci_dev *pdev, u32 pasid)
{
	v2_told.times++;
	v2_told.pdev = pdev;
	v2_told.pasid = pasid;
	v2_told.gcr3 = v2_gcr3(v2_told.ctx, pasid);
}

static void v2_expect_told(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, v2_told.times, 1U);
	KUNIT_EXPECT_PTR_EQ(test, v2_told.pdev, v2_test(test)->pdev);
	KUNIT_EXPECT_EQ(test, v2_told.pasid, (u32)V2_PASID + 1);
	KUNIT_EXPECT_NE(test, v2_told.gcr3, 0ULL);
	memset(&v2_told, 0, sizeof(v2_told));
	v2_told.ctx = v2_test(test);
}

static void v2_driver_is_told(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	const u32 second = V2_PASID + 1;
	struct v2_process child = { };

	memset(&v2_told, 0, sizeof(v2_told));
	v2_told.ctx = ctx;
	v2_unbind(ctx);
	amd_iommu_set_invalidate_ctx_cb(ctx->pdev, v2_is_told);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, second,
						   child.task), 0);
	amd_iommu_unbind_pasid(ctx->pdev, second);
	v2_expect_told(test);

	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, second,
						   child.task), 0);
	v2_exit_process(&child);
	v2_expect_told(test);
	amd_iommu_unbind_pasid(ctx->pdev, second);
	KUNIT_EXPECT_EQ(test, v2_told.times, 0U);

	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, second,
						   ctx->proc.task), 0);
	v2_free(ctx);
	v2_expect_told(test);
}

/*
 * The table of PASIDs and that of GCR3 entries have one level or, as there are
 * PASIDs of 16 bits only, two.  All of it is freed.
 */
static void v2_every_level_of_pasids(struct kunit *test)
{
	const int pasids[] = { SZ_512, SZ_512 + 1, PASID_MASK + 1 };
	struct v2_test *ctx = v2_test(test);
	int max_glx = amd_iommu_max_glx_val;
	long free_before, lost;
	unsigned int i, n;

	v2_free(ctx);
	amd_iommu_max_glx_val = 1;
	for (i = 0; i < ARRAY_SIZE(pasids); i++) {
		u32 last = pasids[i] - 1;

		free_before = global_zone_page_state(NR_FREE_PAGES);
		for (n = 0; n < 256; n++) {
			KUNIT_ASSERT_EQ(test, amd_iommu_init_device(ctx->pdev,
								    pasids[i]),
					0);
			ctx->device = true;
			ctx->domain = ctx->dev_data->domain;
			KUNIT_EXPECT_EQ(test, ctx->domain->glx, (int)(i > 0));
			KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, 0,
								   ctx->proc.task),
					0);
			KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, last,
								   ctx->proc.task),
					0);
			KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, last),
					v2_gcr3_of(ctx->mm));
			amd_iommu_unbind_pasid(ctx->pdev, last);
			KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, last), 0ULL);
			KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, 0),
					v2_gcr3_of(ctx->mm));
			v2_free(ctx);
		}
		lost = free_before - global_zone_page_state(NR_FREE_PAGES);
		/* KASAN keeps what is freed. */
		if (!IS_ENABLED(CONFIG_KASAN))
			KUNIT_EXPECT_LT(test, lost, 192L);
	}
	KUNIT_EXPECT_EQ(test, amd_iommu_init_device(ctx->pdev, PASID_MASK + 2),
			-EINVAL);
	amd_iommu_max_glx_val = max_glx;
}

static int v2_free_thread(void *data)
{
	v2_free(data);
	return 0;
}

/* Somebody who handles a fault has the state of the device, and its tables. */
static void v2_free_while_used(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct device_state *dev_state;
	struct task_struct *task;
	unsigned int i;

	dev_state = get_device_state(get_pci_sbdf_id(ctx->pdev));
	KUNIT_ASSERT_NOT_NULL(test, dev_state);
	task = kthread_create(v2_free_thread, ctx, "v2_free");
	if (!IS_ERR(task)) {
		get_task_struct(task);
		wake_up_process(task);
		for (i = 0; i < 5000 && atomic_read(&dev_state->count) > 1; i++)
			usleep_range(100, 200);
		msleep(50);
		KUNIT_EXPECT_EQ(test, atomic_read(&dev_state->count), 1);
		KUNIT_EXPECT_EQ(test, page_count(virt_to_page(dev_state->states)), 1);
	}
	put_device_state(dev_state);
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	kthread_stop(task);
	put_task_struct(task);
	KUNIT_EXPECT_NULL(test, get_device_state(get_pci_sbdf_id(ctx->pdev)));
}

/* The device is gone; nothing is left to flush, and nothing to fall over. */
static void v2_remove_while_bound(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_listen(ctx, 0, 0);
	v2_unplug();
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	v2_expect_no_command(test);
	v2_unbind(ctx);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));
	v2_free(ctx);
	KUNIT_EXPECT_NULL(test, get_device_state(get_pci_sbdf_id(ctx->pdev)));
	v2_plug();
	v2_listen_no_more();
	KUNIT_EXPECT_EQ(test, v2_said.warnings, 0U);
}

static void v2_remove_then_exit(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_listen(ctx, 0, 0);
	v2_unplug();
	v2_give_up_mm(ctx);
	v2_exit_process(&ctx->proc);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), 0ULL);
	v2_free(ctx);
	KUNIT_EXPECT_NULL(test, get_device_state(get_pci_sbdf_id(ctx->pdev)));
	v2_plug();
	v2_listen_no_more();
	KUNIT_EXPECT_EQ(test, v2_said.warnings, 0U);
}

/* The others of its group go on, in the domain that they had before. */
static void v2_remove_one_of_two(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct iommu_dev_data *other;
	struct pci_dev *pdev;

	if (ctx->devices < 2)
		kunit_skip(test, "one function only");
	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	KUNIT_ASSERT_NOT_NULL(test, pdev);
	other = dev_iommu_priv_get(&pdev->dev);
	KUNIT_EXPECT_PTR_EQ(test, other->domain, ctx->domain);
	v2_listen(ctx, 0, 0);
	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(ctx->pdev);
	pci_unlock_rescan_remove();
	v2_free(ctx);
	KUNIT_EXPECT_PTR_EQ(test, &other->domain->domain,
			    iommu_get_domain_for_dev(&pdev->dev));
	KUNIT_EXPECT_NOT_NULL(test, other->domain);
	KUNIT_EXPECT_PTR_NE(test, other->domain, ctx->domain);
	v2_unplug();
	v2_plug();
	v2_listen_no_more();
	KUNIT_EXPECT_EQ(test, v2_said.warnings, 0U);
	pci_dev_put(pdev);
}

/* Faults of the device. */

/* One of the commands recorded is the response to a fault. */
static void v2_expect_response(struct kunit *test, u16 tag, u8 response)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_cmd *cmd = NULL;
	unsigned int i, found = 0;

	for (i = 0; i < ctx->cmds; i++) {
		if (ctx->cmd[i].opcode != V2_COMPLETE_PPR_REQUEST)
			continue;
		cmd = &ctx->cmd[i];
		found++;
	}
	KUNIT_ASSERT_EQ(test, found, 1U);
	KUNIT_EXPECT_EQ(test, cmd->reserved, 0ULL);
	KUNIT_EXPECT_EQ(test, (u32)cmd->device, (u32)pci_dev_id(ctx->pdev));
	KUNIT_EXPECT_EQ(test, cmd->tag, tag);
	KUNIT_EXPECT_EQ(test, cmd->response, response);
	KUNIT_EXPECT_TRUE(test, cmd->gn);
	KUNIT_EXPECT_EQ(test, cmd->pasid, (u32)V2_PASID);
}

/*
 * The page goes while a fault for it waits for mmap_lock.  The device is told
 * to retry, after its TLB was flushed, and there is a page for it.
 */
static void v2_fault_while_the_page_goes(struct kunit *test)
{
	unsigned long addr = V2_BASE + 3 * PAGE_SIZE;
	struct v2_test *ctx = v2_test(test);
	struct v2_flush flush;
	unsigned int pos = 0;

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	mmap_write_lock(ctx->mm);
	KUNIT_EXPECT_EQ(test, v2_fault(ctx, V2_PASID, addr, 5), NOTIFY_OK);
	zap_page_range_single(vma_lookup(ctx->mm, addr), addr, PAGE_SIZE, NULL);
	mmap_write_unlock(ctx->mm);
	flush_workqueue(iommu_wq);

	v2_stop(test);
	KUNIT_EXPECT_TRUE(test, v2_parse_flush(ctx, &pos, &flush));
	KUNIT_EXPECT_EQ(test, flush.start, (u64)addr);
	KUNIT_EXPECT_EQ(test, flush.sum, (u64)SZ_4K);
	/* It may write now: what forbade that goes before the response. */
	KUNIT_EXPECT_TRUE(test, v2_parse_flush(ctx, &pos, &flush));
	KUNIT_EXPECT_EQ(test, flush.start, (u64)addr);
	KUNIT_EXPECT_EQ(test, flush.sum, (u64)SZ_4K);
	KUNIT_EXPECT_EQ(test, pos + 1, ctx->cmds);
	v2_expect_response(test, 5, 0);

	/* It is there: there is something to flush. */
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_madvise(test, addr, PAGE_SIZE, MADV_DONTNEED),
			0);
	v2_expect_exact_flush(test, addr, PAGE_SIZE);
}

/* The same with a mapping that goes: the response is "invalid". */
static void v2_fault_while_the_mapping_goes(struct kunit *test)
{
	unsigned long addr = V2_BASE + 3 * PAGE_SIZE;
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	mmap_write_lock(ctx->mm);
	KUNIT_EXPECT_EQ(test, v2_fault(ctx, V2_PASID, addr, 6), NOTIFY_OK);
	KUNIT_EXPECT_EQ(test, do_munmap(ctx->mm, addr, PAGE_SIZE, NULL), 0);
	mmap_write_unlock(ctx->mm);
	flush_workqueue(iommu_wq);
	v2_stop(test);
	v2_expect_response(test, 6, 1);
}

static int v2_unbind_thread(void *data)
{
	v2_unbind(data);
	return 0;
}

/* Unbind waits for a fault that is being handled, and lets it finish. */
static void v2_fault_while_unbinding(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct task_struct *task;
	unsigned int i;

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	mmap_write_lock(ctx->mm);
	KUNIT_EXPECT_EQ(test, v2_fault(ctx, V2_PASID, V2_BASE, 7), NOTIFY_OK);
	task = kthread_create(v2_unbind_thread, ctx, "v2_unbind");
	if (!IS_ERR(task)) {
		get_task_struct(task);
		wake_up_process(task);
		for (i = 0; i < 5000 && v2_gcr3(ctx, V2_PASID); i++)
			usleep_range(100, 200);
	}
	mmap_write_unlock(ctx->mm);
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	kthread_stop(task);
	put_task_struct(task);
	v2_stop(test);
	v2_expect_response(test, 7, 0);
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));

	/* A fault that comes too late. */
	v2_record(test);
	v2_fault(ctx, V2_PASID, V2_BASE, 8);
	v2_stop(test);
	KUNIT_EXPECT_EQ(test, ctx->cmds, 1U);
	v2_expect_response(test, 8, 1);
}

/* A fault is about to be queued, and waits there until the PASID is unbound. */
static struct {
	struct task_struct *task, *unbinder;
	struct pasid_state *pasid_state;
	bool long_enough;
	unsigned int late;
} v2_pause;

static bool v2_is_unbound(struct pasid_state *pasid_state)
{
	return hlist_unhashed_lockless(&pasid_state->mn.hlist);
}

static void v2_pause_here(void *ignore, unsigned long call_site,
			  const void *ptr, size_t bytes_req, size_t bytes_alloc,
			  gfp_t gfp_flags, int node)
{
	unsigned int i;

	if (current != v2_pause.task || bytes_req != sizeof(struct fault))
		return;
	v2_pause.task = NULL;
	wake_up_process(v2_pause.unbinder);
	for (i = 0; i < 1000000 && !v2_is_unbound(v2_pause.pasid_state); i++)
		udelay(5);
	v2_pause.long_enough = v2_is_unbound(v2_pause.pasid_state);
}

static int v2_fault_nobody_can_handle(struct pci_dev *pdev, u32 pasid,
				      unsigned long address, u16 flags)
{
	v2_pause.late += v2_is_unbound(v2_pause.pasid_state);
	return AMD_IOMMU_INV_PRI_RSP_INVALID;
}

/* Nothing uses the memory of the process behind unbind. */
static void v2_fault_behind_unbind(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct device_state *dev_state;
	unsigned int here;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	here = raw_smp_processor_id();
	set_cpus_allowed_ptr(current, cpumask_of(here));
	dev_state = get_device_state(get_pci_sbdf_id(ctx->pdev));
	KUNIT_ASSERT_NOT_NULL(test, dev_state);
	v2_pause.pasid_state = get_pasid_state(dev_state, V2_PASID);
	v2_pause.unbinder = kthread_create(v2_unbind_thread, ctx, "v2_unbind");
	if (!IS_ERR(v2_pause.unbinder)) {
		get_task_struct(v2_pause.unbinder);
		kthread_bind(v2_pause.unbinder,
			     cpumask_any_but(cpu_online_mask, here));
		amd_iommu_set_invalid_ppr_cb(ctx->pdev,
					     v2_fault_nobody_can_handle);
		v2_pause.late = 0;
		v2_pause.long_enough = false;
		v2_pause.task = current;
		WARN_ON(register_trace_kmalloc(v2_pause_here, NULL));
		v2_record(test);
		v2_fault(ctx, V2_PASID, V2_BASE, 9);
		unregister_trace_kmalloc(v2_pause_here, NULL);
		tracepoint_synchronize_unregister();
	}
	flush_workqueue(iommu_wq);
	put_pasid_state(v2_pause.pasid_state);
	put_device_state(dev_state);
	KUNIT_ASSERT_FALSE(test, IS_ERR(v2_pause.unbinder));
	KUNIT_EXPECT_NULL(test, v2_pause.task);
	kthread_stop(v2_pause.unbinder);
	put_task_struct(v2_pause.unbinder);
	amd_iommu_set_invalid_ppr_cb(ctx->pdev, NULL);
	KUNIT_EXPECT_TRUE(test, v2_pause.long_enough);
	KUNIT_EXPECT_EQ(test, v2_pause.late, 0U);
	v2_stop(test);
	v2_expect_response(test, 9, 1);
}

/* A fault that nobody can handle: its driver takes its time for an answer. */
static struct completion v2_asked, v2_answer;

static int v2_answer_later(struct pci_dev *pdev, u32 pasid,
			   unsigned long address, u16 flags)
{
	complete(&v2_asked);
	wait_for_completion(&v2_answer);
	return AMD_IOMMU_INV_PRI_RSP_INVALID;
}

/* As long as somebody handles a fault, the process keeps its memory. */
static void v2_exit_while_faulting(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	const u32 second = V2_PASID + 1;
	struct v2_process child = { };
	struct vm_area_struct *vma;
	struct mm_struct *mm;
	unsigned int i;

	v2_map_small(test, SZ_64K);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	mm = child.task->mm;
	mmgrab(mm);
	KUNIT_ASSERT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, second,
						   child.task), 0);
	init_completion(&v2_asked);
	init_completion(&v2_answer);
	amd_iommu_set_invalid_ppr_cb(ctx->pdev, v2_answer_later);
	KUNIT_EXPECT_EQ(test, v2_fault(ctx, second, V2_BASE + SZ_1G, 14),
			NOTIFY_OK);
	wait_for_completion(&v2_asked);

	complete(&child.leave);
	for (i = 0; i < 5000 && v2_gcr3(ctx, second); i++)
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, second), 0ULL);
	msleep(50);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, V2_BASE);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	mmap_read_unlock(mm);
	KUNIT_EXPECT_GT(test, get_mm_counter(mm, MM_ANONPAGES), 0UL);
	KUNIT_EXPECT_EQ(test, READ_ONCE(child.task->exit_state), 0);

	complete_all(&v2_answer);
	v2_exit_process(&child);
	amd_iommu_set_invalid_ppr_cb(ctx->pdev, NULL);
	mmdrop(mm);
}

/* The device goes while its fault waits: there is nobody to tell. */
static void v2_remove_while_faulting(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_listen(ctx, 0, 0);
	v2_record(test);
	mmap_write_lock(ctx->mm);
	KUNIT_EXPECT_EQ(test, v2_fault(ctx, V2_PASID, V2_BASE, 10), NOTIFY_OK);
	v2_unplug();
	mmap_write_unlock(ctx->mm);
	flush_workqueue(iommu_wq);
	v2_free(ctx);
	v2_plug();
	v2_listen_no_more();
	KUNIT_EXPECT_EQ(test, v2_said.warnings, 0U);
}

/*
 * The end of a PASID, of its process, of the device and of the driver's use of
 * it come in any order, and the device asks for a page all the time.
 */

enum { V2_UNBIND, V2_EXIT, V2_REMOVE, V2_FREE, V2_EVENTS };

static const char * const v2_event_names[] = {
	"unbind", "exit", "remove", "free"
};

struct v2_order {
	unsigned int event[V2_EVENTS];
	unsigned int done;	/* the events that have been */
	struct v2_process child;
	struct mm_struct *mm;
};

/* The @n-th permutation. */
static void v2_permute(struct v2_order *order, unsigned int n)
{
	unsigned int i, j;

	for (i = 0; i < V2_EVENTS; i++)
		order->event[i] = i;
	for (i = V2_EVENTS; i > 1; i--) {
		j = n % i;
		n /= i;
		swap(order->event[i - 1], order->event[j]);
	}
}

static void v2_one_event(struct v2_test *ctx, struct v2_order *order,
			 unsigned int event)
{
	switch (event) {
	case V2_UNBIND:
		amd_iommu_unbind_pasid(ctx->pdev, V2_PASID);
		break;
	case V2_EXIT:
		v2_exit_process(&order->child);
		break;
	case V2_REMOVE:
		v2_unplug();
		break;
	case V2_FREE:
		v2_free(ctx);
		break;
	}
	order->done |= BIT(event);
}

/* What the device is told when it asks. */
static void v2_ask(struct kunit *test, const struct v2_order *order)
{
	struct v2_test *ctx = v2_test(test);
	int ret;

	v2_record(test);
	ret = v2_fault(ctx, V2_PASID, V2_BASE, 12);
	flush_workqueue(iommu_wq);
	v2_stop(test);
	if (order->done & (BIT(V2_REMOVE) | BIT(V2_FREE))) {
		KUNIT_EXPECT_NE(test, ret, NOTIFY_OK);
		KUNIT_EXPECT_EQ(test, ctx->cmds, 0U);
	} else if (order->done) {
		KUNIT_EXPECT_NE(test, ret, NOTIFY_OK);
		v2_expect_response(test, 12, 1);
	} else {
		KUNIT_EXPECT_EQ(test, ret, NOTIFY_OK);
		v2_expect_response(test, 12, 0);
	}
}

static void v2_one_order(struct kunit *test, struct v2_order *order)
{
	struct v2_test *ctx = v2_test(test);
	const u32 stays = V2_PASID + 1;
	unsigned int i, event;
	bool can_ask;

	KUNIT_ASSERT_EQ(test, v2_fork(&order->child, 0), 0);
	order->mm = order->child.task->mm;
	mmgrab(order->mm);
	v2_unbind(ctx);
	KUNIT_ASSERT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, V2_PASID,
						   order->child.task), 0);
	KUNIT_ASSERT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, stays,
						   ctx->proc.task), 0);
	v2_ask(test, order);
	for (i = 0; i < V2_EVENTS; i++) {
		event = order->event[i];
		can_ask = !order->done;

		/* It has asked when this happens. */
		v2_record(test);
		v2_fault(ctx, V2_PASID, V2_BASE + PAGE_SIZE, 13);
		v2_one_event(ctx, order, event);
		flush_workqueue(iommu_wq);
		v2_stop(test);
		if (can_ask && event != V2_REMOVE)
			v2_expect_response(test, 13, 0);

		/* And it asks again. */
		v2_ask(test, order);
		if (order->done & BIT(V2_FREE)) {
			KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));
			continue;
		}
		KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, stays), v2_gcr3_of(ctx->mm));
		if (order->done & (BIT(V2_UNBIND) | BIT(V2_EXIT)))
			KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), 0ULL);
	}
	v2_drop_lazy_references();
	KUNIT_EXPECT_EQ(test, atomic_read(&order->mm->mm_users), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&order->mm->mm_count), 1);
	mmdrop(order->mm);

	KUNIT_EXPECT_EQ(test, kref_read(&ctx->pdev->dev.kobj.kref), 1U);
	pci_dev_put(ctx->pdev);
	KUNIT_ASSERT_TRUE(test, v2_find_again(ctx));
	KUNIT_ASSERT_EQ(test, v2_bind(test), 0);
}

static void v2_every_order(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_census before;
	unsigned int n;

	v2_map_small(test, SZ_64K);
	v2_count(ctx, &before);
	v2_listen(ctx, 0, 0);
	for (n = 0; n < 24; n++) {
		struct v2_order order = { };

		v2_permute(&order, n);
		kunit_info(test, "%s, %s, %s, %s\n",
			   v2_event_names[order.event[0]],
			   v2_event_names[order.event[1]],
			   v2_event_names[order.event[2]],
			   v2_event_names[order.event[3]]);
		v2_one_order(test, &order);
		v2_expect_count(test, &before);
	}
	v2_listen_no_more();
	KUNIT_EXPECT_EQ(test, v2_said.warnings, 0U);
}

/* Waiting, and an IOMMU that does not answer. */

static bool v2_is_master(struct pci_dev *pdev)
{
	u16 cmd;

	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	return cmd & PCI_COMMAND_MASTER;
}

/* The device has no memory, and nobody gives it some. */
static void v2_expect_quarantine(struct kunit *test, struct pci_dev *pdev)
{
	u16 cmd;
	u32 dword;

	v2.quarantine = jiffies;
	KUNIT_EXPECT_TRUE(test, pci_is_quarantined(pdev));
	KUNIT_EXPECT_FALSE(test, v2_is_master(pdev));
	pci_set_master(pdev);
	KUNIT_EXPECT_FALSE(test, v2_is_master(pdev));
	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	pci_write_config_word(pdev, PCI_COMMAND, cmd | PCI_COMMAND_MASTER);
	KUNIT_EXPECT_FALSE(test, v2_is_master(pdev));
	pci_read_config_dword(pdev, PCI_COMMAND, &dword);
	pci_write_config_dword(pdev, PCI_COMMAND, dword | PCI_COMMAND_MASTER);
	KUNIT_EXPECT_FALSE(test, v2_is_master(pdev));
	pci_user_write_config_byte(pdev, PCI_COMMAND, cmd | PCI_COMMAND_MASTER);
	KUNIT_EXPECT_FALSE(test, v2_is_master(pdev));
}

/* Remove the device and find it again: that is the way back, the only one. */
static void v2_leave_quarantine(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2.quarantine = jiffies;
	v2_start_iommu(ctx->iommu);
	v2_expect_no_bind(test, V2_PASID + 1, ctx->proc.task, -EIO);
	v2_unbind(ctx);
	v2_free(ctx);
	KUNIT_EXPECT_EQ(test, amd_iommu_init_device(ctx->pdev, V2_PASIDS),
			-EIO);
	v2_unplug();
	KUNIT_EXPECT_EQ(test, kref_read(&ctx->pdev->dev.kobj.kref), 1U);
	pci_dev_put(ctx->pdev);
	KUNIT_ASSERT_TRUE(test, v2_find_again(ctx));
	KUNIT_EXPECT_FALSE(test, pci_is_quarantined(ctx->pdev));
	pci_set_master(ctx->pdev);
	KUNIT_EXPECT_TRUE(test, v2_is_master(ctx->pdev));
	KUNIT_ASSERT_EQ(test, v2_bind(test), 0);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), v2_gcr3_of(ctx->mm));
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_flush_range(test, V2_BASE, SZ_4K), 0);
	v2_expect_exact_flush(test, V2_BASE, SZ_4K);
}

static int v2_flush_thread(void *data)
{
	struct v2_worker *w = data;

	w->ret = amd_iommu_flush_range(&w->ctx->domain->domain, V2_PASID,
				       w->addr, PAGE_SIZE);
	kthread_complete_and_exit(&w->done, 0);
}

/*
 * While the IOMMU does not work off its commands, the flush does not return.
 * When the host is slow, the driver may reach its limit before the test has
 * looked; then it proves nothing, and is repeated.
 */
static void v2_returns_after_completion(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_worker w = { .ctx = ctx, .addr = V2_BASE };
	unsigned int here, other, tries = 20;
	bool early;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	here = raw_smp_processor_id();
	other = cpumask_any_but(cpu_online_mask, here);
	set_cpus_allowed_ptr(current, cpumask_of(here));

	do {
		w.ret = 1;
		v2_stop_iommu(ctx->iommu);
		v2_record(test);
		KUNIT_ASSERT_EQ(test, v2_run_on(v2_flush_thread, &w, other), 0);
		while (!completion_done(&w.done) &&
		       v2_written(test) < 3 + ctx->devices)
			cpu_relax();
		mdelay(10);
		early = completion_done(&w.done);
		v2_start_iommu(ctx->iommu);
		wait_for_completion(&w.done);
		if (w.ret == -EIO)
			v2_leave_quarantine(test);
	} while (w.ret == -EIO && --tries);
	KUNIT_EXPECT_FALSE(test, early);
	KUNIT_EXPECT_EQ(test, w.ret, 0);
}

static void v2_completion_never_comes(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct iommu_dev_data *dev_data;
	struct pci_dev *pdev;

	v2_map_small(test, PMD_SIZE);
	v2_await_reports();
	v2_listen(ctx, V2_BASE + SZ_4K, SZ_4K);
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 1U);
	KUNIT_EXPECT_EQ(test, v2_said.reports, 1U);
	list_for_each_entry(dev_data, &ctx->domain->dev_list, list)
		v2_expect_quarantine(test, to_pci_dev(dev_data->dev));

	/* No other flush waits. */
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	v2_expect_no_command(test);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 1U);
	KUNIT_EXPECT_EQ(test, v2_said.reports, 1U);
	v2_listen_no_more();

	v2_start_iommu(ctx->iommu);
	/* Who joins the group shares its lot. */
	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	if (pdev) {
		pci_lock_rescan_remove();
		pci_stop_and_remove_bus_device(pdev);
		pci_rescan_bus(v2.bus);
		pci_unlock_rescan_remove();
		pci_dev_put(pdev);
		pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
		KUNIT_ASSERT_NOT_NULL(test, pdev);
		v2_expect_quarantine(test, pdev);
		pci_dev_put(pdev);
	}
	v2_leave_quarantine(test);
}

/* A device stays a bus master: nothing is skipped for it. */
static void v2_device_that_cannot_be_cut_off(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2.fn[0].stuck = true;
	v2_stop_iommu(ctx->iommu);
	v2_listen(ctx, V2_BASE + SZ_4K, SZ_4K);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 1U);
	v2_start_iommu(ctx->iommu);
	KUNIT_EXPECT_TRUE(test, v2_is_master(ctx->pdev));
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_8K, SZ_4K), 0);
	v2_expect_exact_flush(test, V2_BASE + SZ_8K, SZ_4K);

	/* As soon as it can, it is. */
	v2.fn[0].stuck = false;
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_16K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 2U);
	v2_listen_no_more();
	v2_expect_quarantine(test, ctx->pdev);
	v2_leave_quarantine(test);
}

/* Whichever it is: if one function is not cut off, the next flush has to wait. */
static void v2_one_of_two_cannot_be_cut_off(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct pci_dev *pdev;
	unsigned int i;

	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	if (!pdev)
		kunit_skip(test, "one function only");
	pci_dev_put(pdev);
	v2_map_small(test, PMD_SIZE);
	for (i = 0; i < 2; i++) {
		v2.fn[i].stuck = true;
		v2_stop_iommu(ctx->iommu);
		KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + i * SZ_8K, SZ_4K), 0);
		KUNIT_EXPECT_FALSE(test, ctx->domain->quarantined);
		v2_start_iommu(ctx->iommu);
		v2.fn[i].stuck = false;
	}
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + i * SZ_8K, SZ_4K), 0);
	KUNIT_EXPECT_TRUE(test, ctx->domain->quarantined);
	v2_expect_quarantine(test, ctx->pdev);
	v2_leave_quarantine(test);
}

/* Reads of memory that are under way are waited for, but not for ever. */
static void v2_device_that_does_not_come_to_rest(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2.fn[0].pending = UINT_MAX;
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_4K), 0);
	KUNIT_EXPECT_FALSE(test, ctx->domain->quarantined);

	v2.fn[0].pending = 10;
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_8K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, v2.fn[0].pending, 0U);
	KUNIT_EXPECT_TRUE(test, ctx->domain->quarantined);
	v2.fn[0].pending = 0;
	v2_expect_quarantine(test, ctx->pdev);
	v2_leave_quarantine(test);
}

/*
 * The IOMMU may keep what was not flushed while its devices were cut off.  Who
 * joins them and cannot be cut off, does not get their domain.
 */
static void v2_newcomer_that_cannot_be_cut_off(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct pci_dev *pdev;
	unsigned int others;
	u64 *dte;

	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	if (!pdev)
		kunit_skip(test, "one function only");
	dte = ctx->iommu->pci_seg->dev_table[pci_dev_id(pdev)].data;
	v2_map_small(test, PMD_SIZE);
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_4K), 0);
	v2_expect_quarantine(test, pdev);

	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(pdev);
	pci_unlock_rescan_remove();
	pci_dev_put(pdev);
	others = ctx->domain->dev_cnt;
	v2.fn[1].stuck = true;
	pci_lock_rescan_remove();
	pci_rescan_bus(v2.bus);
	pci_unlock_rescan_remove();
	v2.fn[1].stuck = false;
	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	KUNIT_ASSERT_NOT_NULL(test, pdev);
	KUNIT_EXPECT_EQ(test, ctx->domain->dev_cnt, others);
	KUNIT_EXPECT_EQ(test, dte[0] & (DTE_FLAG_IR | DTE_FLAG_IW), 0ULL);
	KUNIT_EXPECT_EQ(test, dte[0] & DTE_FLAG_GV, 0ULL);
	pci_dev_put(pdev);

	/* No flush waits for the others. */
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	v2_expect_no_command(test);
	v2_leave_quarantine(test);
}

/*
 * The device is removed while the IOMMU is silent, and goes on: it has no PASID
 * to use, and no TLB.
 */
static void v2_remove_while_iommu_is_silent(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	u16 ats, pasid;

	v2_map_small(test, PMD_SIZE);
	v2_stop_iommu(ctx->iommu);
	pci_read_config_word(ctx->pdev, ctx->pdev->ats_cap + PCI_ATS_CTRL, &ats);
	pci_read_config_word(ctx->pdev, V2_PASID_CAP + PCI_PASID_CTRL, &pasid);
	KUNIT_EXPECT_TRUE(test, ats & PCI_ATS_CTRL_ENABLE);
	KUNIT_EXPECT_TRUE(test, pasid & PCI_PASID_CTRL_ENABLE);
	v2_unplug();
	pci_read_config_word(ctx->pdev, ctx->pdev->ats_cap + PCI_ATS_CTRL, &ats);
	pci_read_config_word(ctx->pdev, V2_PASID_CAP + PCI_PASID_CTRL, &pasid);
	KUNIT_EXPECT_FALSE(test, ats & PCI_ATS_CTRL_ENABLE);
	KUNIT_EXPECT_FALSE(test, pasid & PCI_PASID_CTRL_ENABLE);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	v2_start_iommu(ctx->iommu);
	v2_free(ctx);
	v2_plug();
}

/* The IOMMU has stopped when the process exits, and frees its page table. */
static void v2_completion_never_comes_at_exit(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_give_up_mm(ctx);
	v2_listen(ctx, 0, 0);
	v2_stop_iommu(ctx->iommu);
	v2_exit_process(&ctx->proc);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 1U);
	v2_listen_no_more();
	v2_start_iommu(ctx->iommu);
	v2_expect_quarantine(test, ctx->pdev);
	v2_unbind(ctx);
	v2_free(ctx);
	v2_unplug();
	v2_plug();
}

/*
 * A device that does DMA when it is told to, and 100 ms later: QEMU's "edu".
 * Its registers are in QEMU's docs/specs/edu.
 */

#define V2_EDU_SOURCE	0x80
#define V2_EDU_DEST	0x88
#define V2_EDU_COUNT	0x90
#define V2_EDU_COMMAND	0x98
#define V2_EDU_RUN	BIT(0)
#define V2_EDU_TO_RAM	BIT(1)
#define V2_EDU_BUFFER	0x40000
#define V2_EDU_LEN	(PAGE_SIZE / 2)	/* QEMU 7.2 fails at the last byte */

static void v2_edu_begin(u8 __iomem *regs, u64 source, u64 dest, u64 command)
{
	writeq(source, regs + V2_EDU_SOURCE);
	writeq(dest, regs + V2_EDU_DEST);
	writeq(V2_EDU_LEN, regs + V2_EDU_COUNT);
	writeq(command | V2_EDU_RUN, regs + V2_EDU_COMMAND);
}

static void v2_edu_end(u8 __iomem *regs)
{
	unsigned int tries = 10000;

	while (readq(regs + V2_EDU_COMMAND) & V2_EDU_RUN && --tries)
		usleep_range(1000, 2000);
}

/* By default, it ignores bits of an address, and writes somewhere else. */
static bool v2_edu_reaches(u8 __iomem *regs, struct page *page)
{
	struct page *low = alloc_page(GFP_KERNEL | GFP_DMA);
	bool ret;

	if (!low)
		return false;
	memset(page_address(page), 0xa5, PAGE_SIZE);
	memset(page_address(low), 0, PAGE_SIZE);
	v2_edu_begin(regs, page_to_phys(page), V2_EDU_BUFFER, 0);
	v2_edu_end(regs);
	v2_edu_begin(regs, V2_EDU_BUFFER, page_to_phys(low), V2_EDU_TO_RAM);
	v2_edu_end(regs);
	ret = !memchr_inv(page_address(low), 0xa5, V2_EDU_LEN);
	__free_page(low);
	return ret;
}

/* The device becomes one of those that the domain has to care for. */
static void v2_move(struct pci_dev *pdev, struct protection_domain *domain)
{
	struct iommu_dev_data *dev_data = dev_iommu_priv_get(&pdev->dev);
	unsigned long flags;

	spin_lock_irqsave(&domain->lock, flags);
	list_move(&dev_data->list, &domain->dev_list);
	spin_unlock_irqrestore(&domain->lock, flags);
}

static void v2_edu_writes(struct kunit *test, struct pci_dev *edu,
			  u8 __iomem *regs, struct page *page)
{
	struct iommu_dev_data *dev_data = dev_iommu_priv_get(&edu->dev);
	struct v2_test *ctx = v2_test(test);
	u64 phys = page_to_phys(page);
	unsigned int i;

	memset(page_address(page), 0, PAGE_SIZE);
	v2_edu_begin(regs, V2_EDU_BUFFER, phys, V2_EDU_TO_RAM);
	v2_edu_end(regs);
	KUNIT_EXPECT_NULL(test, memchr_inv(page_address(page), 0xa5,
					   V2_EDU_LEN));

	/* It is writing when the page goes. */
	v2_move(edu, ctx->domain);
	v2_stop_iommu(ctx->iommu);
	v2_edu_begin(regs, V2_EDU_BUFFER, phys, V2_EDU_TO_RAM);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE, SZ_4K), 0);
	memset(page_address(page), 0x5a, PAGE_SIZE);
	for (i = 0; i < 3; i++) {
		v2_edu_end(regs);
		KUNIT_EXPECT_NULL(test, memchr_inv(page_address(page), 0x5a,
						   PAGE_SIZE));
		pci_set_master(edu);
		v2_edu_begin(regs, V2_EDU_BUFFER, phys, V2_EDU_TO_RAM);
	}
	v2_edu_end(regs);
	v2_expect_quarantine(test, edu);
	v2_move(edu, dev_data->domain);
}

/* After the callback, the page stays as whoever has it now has filled it. */
static void v2_device_that_goes_on(struct kunit *test)
{
	u8 __iomem *regs = NULL;
	bool reaches = false;
	struct pci_dev *edu;
	struct pci_bus *bus;
	struct page *page;

	edu = pci_get_device(0x1234, 0x11e8, NULL);
	if (!edu)
		kunit_skip(test, "no edu device");
	v2_map_small(test, PMD_SIZE);
	if (!pci_enable_device(edu))
		regs = pci_iomap(edu, 0, 0);
	pci_set_master(edu);
	if (regs && get_user_pages_fast(V2_BASE, 1, FOLL_WRITE, &page) == 1) {
		reaches = v2_edu_reaches(regs, page);
		if (reaches)
			v2_edu_writes(test, edu, regs, page);
		put_page(page);
	} else {
		KUNIT_FAIL(test, "no register, or no page");
	}
	if (regs)
		pci_iounmap(edu, regs);
	bus = edu->bus;
	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(edu);
	pci_rescan_bus(bus);
	pci_unlock_rescan_remove();
	pci_dev_put(edu);
	if (!reaches)
		kunit_skip(test, "edu needs dma_mask=0xffffffffff");
	v2_leave_quarantine(test);
}

static void v2_command_buffer_full(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int i;
	int ret = 0;

	v2_map_small(test, PMD_SIZE);
	v2_stop_iommu(ctx->iommu);
	/* Responses to nobody. */
	for (i = 0; i < CMD_BUFFER_ENTRIES && !ret; i++)
		ret = amd_iommu_complete_ppr(ctx->pdev, V2_PASID, 1, 0);
	KUNIT_EXPECT_EQ(test, ret, -EIO);

	/* One wait of the driver, not one for each command. */
	v2_await_reports();
	v2_listen(ctx, V2_BASE + SZ_4K, SZ_4K);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, v2_said.full, 1U);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 0U);
	KUNIT_EXPECT_EQ(test, v2_said.reports, 1U);
	v2_expect_no_command(test);
	v2_expect_quarantine(test, ctx->pdev);
	v2_listen_no_more();
	v2_leave_quarantine(test);
}

/* Fill the command buffer with up to @n responses to nobody. */
static unsigned int v2_fill(struct v2_test *ctx, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (amd_iommu_complete_ppr(ctx->pdev, V2_PASID, 1, 0))
			break;
	return i;
}

/* A page that the device has, when it goes back to the allocator. */
static struct {
	struct page *page;
	struct pci_dev *pdev;
	unsigned int freed, reachable;
} v2_watched;

static void v2_page_is_free(void *ignore, struct page *page, unsigned int order)
{
	if (page != v2_watched.page)
		return;
	v2_watched.freed++;
	v2_watched.reachable += v2_is_master(v2_watched.pdev);
}

static void v2_watch(struct kunit *test, unsigned long addr)
{
	struct page *page;

	memset(&v2_watched, 0, sizeof(v2_watched));
	v2_watched.pdev = v2_test(test)->pdev;
	pci_set_master(v2_watched.pdev);
	KUNIT_EXPECT_TRUE(test, v2_is_master(v2_watched.pdev));
	KUNIT_ASSERT_EQ(test, get_user_pages_fast(addr, 1, FOLL_WRITE, &page),
			1);
	v2_watched.page = page;
	put_page(page);
	WARN_ON(register_trace_mm_page_free(v2_page_is_free, NULL));
}

/* It is free, and was not before the device had lost its memory. */
static void v2_expect_freed_late(struct kunit *test)
{
	unregister_trace_mm_page_free(v2_page_is_free, NULL);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, v2_watched.freed, 1U);
	KUNIT_EXPECT_EQ(test, v2_watched.reachable, 0U);
}

/*
 * The command buffer has no place for the @n-th command of a flush.  With
 * @again it has from then on: only this one command is missing.
 */
static void v2_full_at(struct kunit *test, unsigned int n,
		       unsigned int capacity, bool again)
{
	struct v2_test *ctx = v2_test(test);
	struct iommu_dev_data *dev_data;

	v2_map_small(test, PMD_SIZE);
	v2_watch(test, V2_BASE + SZ_4K);
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, v2_fill(ctx, capacity - n + 1), capacity - n + 1);
	v2_listen(ctx, V2_BASE + SZ_4K, V2_TWO_PIECES);
	v2_said.resume = again ? ctx->iommu : NULL;
	v2_record(test);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, V2_TWO_PIECES), 0);
	v2_expect_freed_late(test);
	v2_listen_no_more();

	/* All commands before it were written, and none behind it. */
	KUNIT_EXPECT_EQ(test, v2_stop(test), n - 1);
	KUNIT_EXPECT_EQ(test, v2_said.full, 1U);
	KUNIT_EXPECT_EQ(test, v2_said.timeouts, 0U);
	list_for_each_entry(dev_data, &ctx->domain->dev_list, list)
		v2_expect_quarantine(test, to_pci_dev(dev_data->dev));
	v2_leave_quarantine(test);
}

static void v2_command_buffer_full_at_each_command(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int n, commands, capacity;

	v2_stop_iommu(ctx->iommu);
	capacity = v2_fill(ctx, CMD_BUFFER_ENTRIES);
	v2_start_iommu(ctx->iommu);

	/* For IOMMU, fence, devices, and the one that is waited for. */
	KUNIT_EXPECT_EQ(test, v2_flush_range(test, V2_BASE + SZ_4K,
					     V2_TWO_PIECES), 0);
	v2_expect_exact_flush(test, V2_BASE + SZ_4K, V2_TWO_PIECES);
	commands = ctx->cmds;
	KUNIT_EXPECT_EQ(test, commands, 4 + 2 * ctx->devices);
	for (n = 1; n <= commands; n++) {
		v2_full_at(test, n, capacity, false);
		v2_full_at(test, n, capacity, true);
	}
}

/* The IOMMU stops while a PASID is bound: it is not, and nothing of it is. */
static void v2_bind_cannot_flush(struct kunit *test)
{
	const u32 second = V2_PASID + 1;
	struct v2_test *ctx = v2_test(test);
	struct v2_process child = { };
	struct v2_census before;

	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	v2_count(ctx, &before);
	memset(&v2_told, 0, sizeof(v2_told));
	v2_told.ctx = ctx;
	amd_iommu_set_invalidate_ctx_cb(ctx->pdev, v2_is_told);
	v2_stop_iommu(ctx->iommu);
	KUNIT_EXPECT_EQ(test, amd_iommu_bind_pasid(ctx->pdev, second,
						   child.task), -EIO);
	v2_start_iommu(ctx->iommu);
	amd_iommu_set_invalidate_ctx_cb(ctx->pdev, NULL);
	v2_expect_quarantine(test, ctx->pdev);
	/* Its driver never had that PASID. */
	KUNIT_EXPECT_EQ(test, v2_told.times, 0U);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, second), 0ULL);
	v2_expect_count(test, &before);
	v2_exit_process(&child);
	v2_leave_quarantine(test);
}

/* The process goes on without the device, which may have kept its pages. */
static void v2_unbind_cannot_flush(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	v2_map_small(test, PMD_SIZE);
	v2_watch(test, V2_BASE + SZ_4K);
	v2_stop_iommu(ctx->iommu);
	v2_unbind(ctx);
	KUNIT_EXPECT_EQ(test, v2_gcr3(ctx, V2_PASID), 0ULL);
	v2_expect_quarantine(test, ctx->pdev);
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_4K), 0);
	v2_expect_freed_late(test);
	v2_leave_quarantine(test);
}

/* The last free places of the command buffer, and its end. */
static void v2_command_buffer_wraps(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < CMD_BUFFER_ENTRIES; i++) {
		KUNIT_EXPECT_EQ(test, v2_flush_range(test, V2_BASE + SZ_4K,
						     V2_TWO_PIECES), 0);
		v2_expect_exact_flush(test, V2_BASE + SZ_4K, V2_TWO_PIECES);
	}
}

static int v2_flush_thread_rounds(void *data)
{
	struct v2_worker *w = data;

	atomic_dec(w->gate);
	while (atomic_read(w->gate))
		cpu_relax();
	while (!w->ret && w->rounds--)
		w->ret = amd_iommu_flush_range(&w->ctx->domain->domain,
					       V2_PASID, w->addr,
					       V2_TWO_PIECES);
	kthread_complete_and_exit(&w->done, 0);
}

/* Flushes of two CPUs do not mix. */
static void v2_two_cpus_at_once(struct kunit *test)
{
	unsigned int i, pos = 0, flushes = 0, cpus = num_online_cpus(), rounds;
	struct v2_test *ctx = v2_test(test);
	atomic_t gate = ATOMIC_INIT(2);
	struct v2_worker w[2] = { };
	struct v2_flush flush;

	if (cpus < 2)
		kunit_skip(test, "needs two CPUs");
	/* As many as the command buffer can show. */
	rounds = (CMD_BUFFER_ENTRIES - 1) / 2 / (4 + 2 * ctx->devices);
	v2_record(test);
	for (i = 0; i < 2; i++) {
		w[i].ctx = ctx;
		w[i].addr = V2_BASE + SZ_4K + i * SZ_64K;
		w[i].rounds = rounds;
		w[i].gate = &gate;
		KUNIT_ASSERT_EQ(test, v2_run_on(v2_flush_thread_rounds, &w[i],
						cpumask_nth(i, cpu_online_mask)),
				0);
	}
	for (i = 0; i < 2; i++) {
		wait_for_completion(&w[i].done);
		KUNIT_EXPECT_EQ(test, w[i].ret, 0);
	}
	v2_stop(test);
	while (v2_parse_flush(ctx, &pos, &flush)) {
		i = flush.start == w[1].addr;
		KUNIT_EXPECT_EQ(test, flush.start, (u64)w[i].addr);
		KUNIT_EXPECT_EQ(test, flush.sum, (u64)V2_TWO_PIECES);
		flushes++;
	}
	KUNIT_EXPECT_EQ(test, pos, ctx->cmds);
	KUNIT_EXPECT_EQ(test, flushes, 2 * rounds);
}

/*
 * A second IOMMU.  No emulated machine has it, so it is in memory: its command
 * buffer and its registers.  It executes nothing.  The driver waits for a word
 * to have the value that it has asked for last: it is given the variable that
 * has this value, and while the IOMMU is silent, another one.  What the driver
 * does, it does for two.
 */

static u64 v2_nothing_done;

#define V2_CMD_SIZE	16

static struct {
	struct amd_iommu *iommu, *first;
	u16 devid;		/* of function 0 */
} v2_second;

static void v2_free_second(void)
{
	struct amd_iommu *iommu = v2_second.iommu;

	free_pages((unsigned long)iommu->cmd_buf, get_order(CMD_BUFFER_SIZE));
	kvfree((__force void *)iommu->mmio_base);
	kfree(iommu);
	v2_second.iommu = NULL;
}

static bool v2_alloc_second(const struct amd_iommu *first)
{
	struct amd_iommu *iommu = kzalloc(sizeof(*iommu), GFP_KERNEL);

	if (!iommu)
		return false;
	raw_spin_lock_init(&iommu->lock);
	iommu->mmio_base = (__force u8 __iomem *)
			   kvzalloc(MMIO_CMD_TAIL_OFFSET + PAGE_SIZE,
				    GFP_KERNEL);
	iommu->cmd_buf = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO,
						  get_order(CMD_BUFFER_SIZE));
	iommu->cmd_sem = &iommu->cmd_sem_val;
	iommu->dev = first->dev;
	iommu->cap = first->cap;
	iommu->features = first->features;
	iommu->is_iommu_v2 = first->is_iommu_v2;
	iommu->pci_seg = first->pci_seg;
	iommu->iommu = first->iommu;
	v2_second.iommu = iommu;
	if (iommu->mmio_base && iommu->cmd_buf)
		return true;
	v2_free_second();
	return false;
}

/* Take the devices away, say who is behind the second, and find them again. */
static void v2_plug_behind(struct v2_test *ctx, struct amd_iommu *fn0,
			   struct amd_iommu *fn1)
{
	struct amd_iommu **rlookup = fn0->pci_seg->rlookup_table;

	if (ctx->bound)
		v2_unbind(ctx);
	if (ctx->device)
		v2_free(ctx);
	v2_unplug();
	pci_dev_put(ctx->pdev);
	rlookup[v2_second.devid] = fn0;
	rlookup[v2_second.devid + 1] = fn1;
	v2_find_again(ctx);
}

/* The functions of which the bit is set are behind the second IOMMU. */
static void v2_begin_second(struct kunit *test, unsigned int functions)
{
	struct v2_test *ctx = v2_test(test);
	struct amd_iommu *of[2];
	unsigned int i;

	if (ctx->devices != 2)
		kunit_skip(test, "needs two functions");
	if (!v2_second.iommu) {
		KUNIT_ASSERT_TRUE(test, v2_alloc_second(ctx->iommu));
		v2_second.first = ctx->iommu;
		v2_second.devid = pci_dev_id(ctx->pdev);
		amd_iommu_add_in_memory(v2_second.iommu);
	}
	for (i = 0; i < 2; i++)
		of[i] = functions & BIT(i) ? v2_second.iommu : v2_second.first;
	v2_plug_behind(ctx, of[0], of[1]);
	KUNIT_ASSERT_EQ(test, v2_bind(test), 0);
	KUNIT_EXPECT_EQ(test, ctx->domain->dev_iommu[v2_second.iommu->index],
			hweight32(functions));
	KUNIT_EXPECT_EQ(test, ctx->domain->dev_iommu[v2_second.first->index],
			2 - hweight32(functions));
}

static void v2_end_second(struct v2_test *ctx)
{
	ctx->iommu = v2_second.first;
	v2_plug_behind(ctx, v2_second.first, v2_second.first);
	amd_iommu_remove_in_memory(v2_second.iommu);
	v2_free_second();
}

/* What happened to each of the two, one after the other. */
struct v2_both {
	struct amd_iommu *iommu[2];
	u32 tail[2];
};

static void v2_record_both(struct v2_both *both)
{
	unsigned int i;

	both->iommu[0] = v2_second.first;
	both->iommu[1] = v2_second.iommu;
	for (i = 0; i < 2; i++)
		both->tail[i] = both->iommu[i]->cmd_buf_tail;
	/* Nobody else works off what is in memory. */
	writel(both->tail[1], v2_second.iommu->mmio_base +
			      MMIO_CMD_HEAD_OFFSET);
}

/* Whatever comes next is about this one. */
static void v2_look_at(struct v2_test *ctx, const struct v2_both *both,
		       unsigned int i)
{
	ctx->iommu = both->iommu[i];
	ctx->tail = both->tail[i];
}

/* Everyone that the domain uses has all of the flush, the other one nothing. */
static void v2_two_iommus(struct kunit *test)
{
	unsigned long addr = V2_BASE + SZ_4K, len = V2_TWO_PIECES;
	struct v2_test *ctx = v2_test(test);
	unsigned int functions, i;
	struct v2_both both;

	for (functions = 0; functions < 4; functions++) {
		v2_begin_second(test, functions);
		v2_map_small(test, PMD_SIZE);
		v2_record_both(&both);
		KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
		for (i = 0; i < 2; i++) {
			v2_look_at(ctx, &both, i);
			if (ctx->domain->dev_iommu[ctx->iommu->index])
				v2_expect_exact_flush(test, addr, len);
			else
				v2_expect_no_command(test);
		}
		v2_record_both(&both);
		v2_unbind(ctx);
		for (i = 0; i < 2; i++) {
			v2_look_at(ctx, &both, i);
			if (ctx->domain->dev_iommu[ctx->iommu->index])
				v2_expect_flush_of_all(test, V2_PASID);
			else
				v2_expect_no_command(test);
		}
	}
}

/* A device goes: when it was the last one there, so does its IOMMU. */
static void v2_two_iommus_one_device_goes(struct kunit *test)
{
	unsigned long addr = V2_BASE + SZ_4K, len = V2_TWO_PIECES;
	struct v2_test *ctx = v2_test(test);
	struct v2_both both;
	struct pci_dev *pdev;

	v2_begin_second(test, BIT(1));
	v2_map_small(test, PMD_SIZE);
	pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 1));
	KUNIT_ASSERT_NOT_NULL(test, pdev);
	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(pdev);
	pci_unlock_rescan_remove();
	pci_dev_put(pdev);
	ctx->devices--;
	v2_record_both(&both);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	v2_look_at(ctx, &both, 1);
	v2_expect_no_command(test);
	v2_look_at(ctx, &both, 0);
	v2_expect_exact_flush(test, addr, len);
}

/* The buffer of the second has places for so many commands. */
static void v2_leave_places(unsigned int n)
{
	struct amd_iommu *iommu = v2_second.iommu;
	u32 head = iommu->cmd_buf_tail + 0x30 + n * V2_CMD_SIZE;

	iommu->cmd_buf_head = head % CMD_BUFFER_SIZE;
	writel(iommu->cmd_buf_head, iommu->mmio_base + MMIO_CMD_HEAD_OFFSET);
}

enum v2_fault_of_iommu { V2_SILENT, V2_FULL };

/*
 * IOMMU @bad of the two does not complete, or has places for @n commands only.
 * The other one gets all of its own, and the devices of both lose their memory
 * before the page is free.
 */
static void v2_one_of_two_fails(struct kunit *test, unsigned int bad,
				enum v2_fault_of_iommu how, unsigned int n)
{
	unsigned long addr = V2_BASE + SZ_4K, len = V2_TWO_PIECES;
	struct v2_test *ctx = v2_test(test);
	struct iommu_dev_data *dev_data;
	struct v2_both both;
	unsigned int all;

	v2_begin_second(test, BIT(1));
	v2_map_small(test, PMD_SIZE);
	v2_watch(test, addr);
	v2_record_both(&both);
	if (bad == 0)
		v2_stop_iommu(v2_second.first);
	else if (how == V2_SILENT)
		v2_second.iommu->cmd_sem = &v2_nothing_done;
	else
		v2_leave_places(n);
	v2_listen(ctx, addr, len);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, len), 0);
	v2_listen_no_more();
	v2_expect_freed_late(test);
	KUNIT_EXPECT_EQ(test, v2_said.full + v2_said.timeouts, 1U);
	KUNIT_EXPECT_EQ(test, v2_said.full, (unsigned int)(how == V2_FULL));
	list_for_each_entry(dev_data, &ctx->domain->dev_list, list)
		v2_expect_quarantine(test, to_pci_dev(dev_data->dev));
	v2_start_iommu(v2_second.first);

	v2_look_at(ctx, &both, !bad);
	v2_expect_exact_flush(test, addr, len);
	all = ctx->cmds;
	v2_look_at(ctx, &both, bad);
	KUNIT_EXPECT_EQ(test, v2_stop(test), how == V2_FULL ? n : all);
	v2_second.iommu->cmd_sem = &v2_second.iommu->cmd_sem_val;
	v2_record_both(&both);
}

static void v2_two_iommus_one_fails(struct kunit *test)
{
	/* For the IOMMU two, a fence, for the device two, the last one. */
	unsigned int n;

	v2_one_of_two_fails(test, 0, V2_SILENT, 0);
	v2_one_of_two_fails(test, 1, V2_SILENT, 0);
	for (n = 0; n < 6; n++)
		v2_one_of_two_fails(test, 1, V2_FULL, n);
}

/*
 * For whoever does not trust the decoder: the same commands as QEMU names them
 * when it executes them, with -trace amdvi_command_exec and the others.
 */
static void v2_as_qemu_sees_it(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int i;
	u32 pos;

	v2_map_small(test, PMD_SIZE);
	v2_record(test);
	pos = ctx->tail;
	KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + SZ_4K, SZ_16K), 0);
	KUNIT_EXPECT_EQ(test, v2_fault(ctx, V2_PASID, V2_BASE, 9), NOTIFY_OK);
	flush_workqueue(iommu_wq);
	v2_unbind(ctx);
	v2_stop(test);
	for (i = 0; i < ctx->cmds; i++) {
		struct v2_cmd *cmd = &ctx->cmd[i];

		if (cmd->opcode == V2_COMPLETION_WAIT)
			kunit_info(test, "cmd\t%x\tcompletion_wait\t%llx\t%llx\n",
				   pos, cmd->store_address, cmd->store_data);
		else if (cmd->opcode == V2_INVALIDATE_IOMMU_PAGES)
			kunit_info(test, "cmd\t%x\tpages_inval\t%x\n", pos,
				   cmd->domain);
		else if (cmd->opcode == V2_INVALIDATE_IOTLB_PAGES)
			kunit_info(test, "cmd\t%x\tiotlb_inval\n", pos);
		else if (cmd->opcode == V2_COMPLETE_PPR_REQUEST)
			kunit_info(test, "cmd\t%x\tppr_exec\n", pos);
		else
			KUNIT_FAIL(test, "opcode %x", cmd->opcode);
		pos = (pos + sizeof(cmd->raw)) % CMD_BUFFER_SIZE;
	}
	KUNIT_EXPECT_GE(test, ctx->cmds, 8U);
}

/*
 * What it costs, as a table.  The device has cached V2_WARM pages; what it has
 * left is of interest as well.
 */

#define V2_WARM		1024

static void v2_timed_row(struct kunit *test, const char *what,
			 unsigned int changed, u64 ms)
{
	struct v2_test *ctx = v2_test(test);
	unsigned int i, waits = 0, left = V2_WARM, page;
	u64 first = V2_BASE >> PAGE_SHIFT, sum = 0, lost;
	DECLARE_BITMAP(warm, V2_WARM) = { };

	v2_stop(test);
	for (i = 0; i < ctx->cmds; i++) {
		struct v2_cmd *cmd = &ctx->cmd[i];

		waits += cmd->opcode == V2_COMPLETION_WAIT && cmd->store;
		if (cmd->opcode != V2_INVALIDATE_IOTLB_PAGES ||
		    cmd->device != pci_dev_id(ctx->pdev))
			continue;
		lost = (cmd->last - cmd->start) >> PAGE_SHIFT;
		sum += min_t(u64, lost + 1, TASK_SIZE_MAX >> PAGE_SHIFT);
		for (page = 0; page < V2_WARM; page++)
			if (first + page >= cmd->start >> PAGE_SHIFT &&
			    first + page <= cmd->last >> PAGE_SHIFT)
				left -= !test_and_set_bit(page, warm);
	}
	kunit_info(test, "row\t%s\t%u\t%u\t%u\t%u\t%llu\t%u\t%llu\n", what,
		   ctx->devices, ctx->cmds, waits, changed, sum, left, ms);
}

static void v2_row(struct kunit *test, const char *what, unsigned int changed)
{
	v2_timed_row(test, what, changed, 0);
}

/* A thread that uses the mm on another CPU, so that its flush is a remote one. */
static int v2_stay(void *data)
{
	struct v2_worker *w = data;

	kthread_use_mm(w->ctx->mm);
	atomic_dec(w->gate);
	while (atomic_read(w->gate))
		schedule_timeout_uninterruptible(1);
	kthread_unuse_mm(w->ctx->mm);
	kthread_complete_and_exit(&w->done, 0);
}

/*
 * Reclaim of @pages pages, @step apart, in one batch.  They may be dropped, so
 * that no swap is needed, and are old already: reclaim is all that flushes.
 */
static void v2_reclaim_row(struct kunit *test, const char *what, int advice,
			   unsigned int pages, unsigned int step)
{
	unsigned long len = pages * step * PAGE_SIZE, i;
	struct v2_test *ctx = v2_test(test);
	unsigned int here, before;
	struct v2_worker w = { .ctx = ctx };
	atomic_t gate = ATOMIC_INIT(2);

	if (num_online_cpus() < 2)
		return;
	vm_munmap(V2_BASE, 3 * PMD_SIZE);
	v2_map(test, max(len, PMD_SIZE), advice);
	for (i = 0; i < len; i += PAGE_SIZE)
		if (i / PAGE_SIZE % step)
			v2_madvise(test, V2_BASE + i, PAGE_SIZE, MADV_DONTNEED);
	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, v2_madvise(test, V2_BASE, len, MADV_FREE), 0);
	lru_add_drain_all();

	here = get_cpu();
	put_cpu();
	set_cpus_allowed_ptr(current, cpumask_of(here));
	w.gate = &gate;
	KUNIT_ASSERT_EQ(test, v2_run_on(v2_stay, &w,
					cpumask_any_but(cpu_online_mask, here)),
			0);
	while (atomic_read(&gate) > 1)
		schedule_timeout_uninterruptible(1);
	before = get_mm_counter(ctx->mm, MM_ANONPAGES);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_madvise(test, V2_BASE, len, MADV_PAGEOUT), 0);
	v2_row(test, what, pages);
	KUNIT_EXPECT_EQ(test, before - get_mm_counter(ctx->mm, MM_ANONPAGES),
			(unsigned long)pages);
	atomic_set(&gate, 0);
	wait_for_completion(&w.done);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
}

static int v2_zap_rounds(void *data)
{
	unsigned long __user *page;
	struct v2_worker *w = data;

	page = (unsigned long __user *)w->addr;
	kthread_use_mm(w->ctx->mm);
	atomic_dec(w->gate);
	while (atomic_read(w->gate))
		cond_resched();
	while (!w->ret && w->rounds--)
		w->ret = put_user(1UL, page) ?:
			 do_madvise(w->ctx->mm, w->addr, PAGE_SIZE,
				    MADV_DONTNEED);
	kthread_unuse_mm(w->ctx->mm);
	kthread_complete_and_exit(&w->done, 0);
}

#define V2_ZAPPERS	8
#define V2_ZAPS		32	/* the command buffer can show 14 commands for each */

/* Each of @nr threads gives back a page of its own, again and again. */
static void v2_threads_row(struct kunit *test, unsigned int nr)
{
	struct v2_worker w[V2_ZAPPERS] = { };
	atomic_t gate = ATOMIC_INIT(nr);
	unsigned int i;
	char what[32];

	vm_munmap(V2_BASE, 3 * PMD_SIZE);
	v2_map_small(test, V2_WARM * PAGE_SIZE);
	v2_record(test);
	for (i = 0; i < nr; i++) {
		w[i].ctx = v2_test(test);
		w[i].addr = V2_BASE + i * PAGE_SIZE;
		w[i].rounds = V2_ZAPS / nr;
		w[i].gate = &gate;
		KUNIT_ASSERT_EQ(test,
				v2_run_on(v2_zap_rounds, &w[i],
					  cpumask_nth(i % num_online_cpus(),
						      cpu_online_mask)), 0);
	}
	for (i = 0; i < nr; i++) {
		wait_for_completion(&w[i].done);
		KUNIT_EXPECT_EQ(test, w[i].ret, 0);
	}
	snprintf(what, sizeof(what), "%u zaps, %u threads", V2_ZAPS, nr);
	v2_row(test, what, V2_ZAPS);
}

static void v2_what_it_costs(struct kunit *test)
{
	static const unsigned int pages[] = { 1, 4, 64, 512 };
	unsigned long addr = V2_BASE + 4 * PAGE_SIZE;
	struct v2_process child = { };
	unsigned int i;
	char what[32];

	kunit_info(test, "row\toperation\tdevices\tcommands\twaits\tpages changed\tpages flushed\tleft of %u\tms\n",
		   V2_WARM);
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		v2_map_small(test, 3 * PMD_SIZE);
		v2_record(test);
		vm_munmap(V2_BASE + PMD_SIZE, pages[i] * PAGE_SIZE);
		snprintf(what, sizeof(what), "munmap %u", pages[i]);
		v2_row(test, what, pages[i]);
	}
	v2_map_small(test, 2 * PMD_SIZE);
	v2_record(test);
	vm_munmap(addr + PAGE_SIZE, 4 * PAGE_SIZE);
	v2_row(test, "munmap 4, not aligned", 4);

	vm_munmap(V2_BASE, 3 * PMD_SIZE);
	v2_map_small(test, V2_WARM * PAGE_SIZE);
	v2_record(test);
	KUNIT_ASSERT_EQ(test, v2_fork(&child, 0), 0);
	v2_row(test, "fork", V2_WARM);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_write(addr, PAGE_SIZE), 0);
	v2_row(test, "copy on write", 1);
	v2_exit_process(&child);

	v2_map_small(test, 2 * PMD_SIZE);
	v2_record(test);
	KUNIT_EXPECT_EQ(test, v2_mprotect(test, addr, 4 * PAGE_SIZE, 0,
					  VM_WRITE), 0);
	v2_row(test, "mprotect 4", 4);

	v2_map_small(test, 2 * PMD_SIZE);
	v2_record(test);
	for (i = 0; i < 16; i += 2)
		KUNIT_EXPECT_EQ(test, v2_madvise(test, V2_BASE + i * PAGE_SIZE,
						 PAGE_SIZE, MADV_DONTNEED), 0);
	v2_row(test, "MADV_DONTNEED, 8 of 16", 8);

	v2_map(test, PMD_SIZE, MADV_HUGEPAGE);
	v2_record(test);
	v2_split_thp(test, V2_BASE);
	v2_row(test, "split 2 MiB", 512);

	v2_reclaim_row(test, "reclaim 32", MADV_NOHUGEPAGE, 32, 1);
	v2_reclaim_row(test, "reclaim 32 of 64", MADV_NOHUGEPAGE, 32, 2);
	v2_reclaim_row(test, "reclaim 2 MiB", MADV_HUGEPAGE, 512, 1);

	for (i = 1; i <= V2_ZAPPERS; i *= 2)
		v2_threads_row(test, i);

	if (num_online_nodes() > 1) {
		int a = first_online_node, b = next_online_node(a);

		vm_munmap(V2_BASE, 3 * PMD_SIZE);
		v2_map_small(test, 64 * PAGE_SIZE);
		v2_migrate(test, b, a);
		v2_record(test);
		KUNIT_EXPECT_EQ(test, v2_migrate(test, a, b), 0);
		v2_row(test, "migrate 64", 64);
	}
}

/* How long a CPU waits for an IOMMU that has stopped, or goes on after a while. */

#define V2_STOP_MS	5000

struct v2_stop {
	struct delayed_work go_on;
	struct amd_iommu *iommu;
};

static void v2_go_on(struct work_struct *work)
{
	struct v2_stop *stop = container_of(work, struct v2_stop, go_on.work);

	v2_start_iommu(stop->iommu);
}

static void v2_what_a_stop_costs(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);
	struct v2_stop stop = { .iommu = ctx->iommu };
	unsigned int i;
	u64 begin;

	v2_map_small(test, PMD_SIZE);
	INIT_DELAYED_WORK_ONSTACK(&stop.go_on, v2_go_on);
	v2_stop_iommu(ctx->iommu);
	schedule_delayed_work(&stop.go_on, msecs_to_jiffies(V2_STOP_MS));
	for (i = 0; i < 2; i++) {
		v2_record(test);
		begin = ktime_get_ns();
		KUNIT_EXPECT_EQ(test, vm_munmap(V2_BASE + i * PAGE_SIZE,
						PAGE_SIZE), 0);
		v2_timed_row(test, i ? "munmap 1, the next" :
				       "munmap 1, IOMMU stopped", 1,
			     div_u64(ktime_get_ns() - begin, NSEC_PER_MSEC));
	}
	flush_delayed_work(&stop.go_on);
	destroy_delayed_work_on_stack(&stop.go_on);
	if (pci_is_quarantined(ctx->pdev))
		v2_leave_quarantine(test);
}

static struct kunit_case v2_cases[] = {
	KUNIT_CASE(v2_bind_and_unbind),
	KUNIT_CASE(v2_levels_of_the_page_table),
	KUNIT_CASE(v2_bind_what_is_bound),
	KUNIT_CASE(v2_bind_fails),
	KUNIT_CASE(v2_no_memory),
	KUNIT_CASE(v2_munmap),
	KUNIT_CASE(v2_munmap_of_pages_that_are_not_aligned),
	KUNIT_CASE(v2_munmap_of_everything),
	KUNIT_CASE(v2_madvise_dontneed),
	KUNIT_CASE(v2_mprotect_read_only),
	KUNIT_CASE(v2_fork_and_cow),
	KUNIT_CASE(v2_thp_split),
	KUNIT_CASE(v2_thp_zap),
	KUNIT_CASE(v2_edges_of_the_encoding),
	KUNIT_CASE(v2_ranges_of_all_kinds),
	KUNIT_CASE(v2_every_device_of_the_group),
	KUNIT_CASE(v2_no_device_without_ats),
	KUNIT_CASE(v2_queue_depth),
	KUNIT_CASE(v2_pasids_of_the_process_that_changed),
	KUNIT_CASE(v2_exit_then_unbind),
	KUNIT_CASE(v2_exit_then_free),
	KUNIT_CASE(v2_unbind_then_exit),
	KUNIT_CASE(v2_free_while_bound),
	KUNIT_CASE(v2_unbind_while_exiting),
	KUNIT_CASE(v2_unbind_what_is_not_bound),
	KUNIT_CASE(v2_bind_while_unbinding),
	KUNIT_CASE(v2_driver_is_told),
	KUNIT_CASE(v2_every_level_of_pasids),
	KUNIT_CASE(v2_free_while_used),
	KUNIT_CASE(v2_remove_while_bound),
	KUNIT_CASE(v2_remove_then_exit),
	KUNIT_CASE(v2_remove_one_of_two),
	KUNIT_CASE(v2_fault_while_the_page_goes),
	KUNIT_CASE(v2_fault_while_the_mapping_goes),
	KUNIT_CASE(v2_fault_while_unbinding),
	KUNIT_CASE(v2_fault_behind_unbind),
	KUNIT_CASE(v2_exit_while_faulting),
	KUNIT_CASE(v2_remove_while_faulting),
	KUNIT_CASE(v2_every_order),
	KUNIT_CASE(v2_returns_after_completion),
	KUNIT_CASE(v2_completion_never_comes),
	KUNIT_CASE(v2_completion_never_comes_at_exit),
	KUNIT_CASE(v2_device_that_goes_on),
	KUNIT_CASE(v2_command_buffer_full),
	KUNIT_CASE(v2_command_buffer_full_at_each_command),
	KUNIT_CASE(v2_bind_cannot_flush),
	KUNIT_CASE(v2_unbind_cannot_flush),
	KUNIT_CASE(v2_device_that_cannot_be_cut_off),
	KUNIT_CASE(v2_one_of_two_cannot_be_cut_off),
	KUNIT_CASE(v2_device_that_does_not_come_to_rest),
	KUNIT_CASE(v2_newcomer_that_cannot_be_cut_off),
	KUNIT_CASE(v2_remove_while_iommu_is_silent),
	KUNIT_CASE(v2_command_buffer_wraps),
	KUNIT_CASE(v2_two_cpus_at_once),
	KUNIT_CASE(v2_two_iommus),
	KUNIT_CASE(v2_two_iommus_one_device_goes),
	KUNIT_CASE(v2_two_iommus_one_fails),
	KUNIT_CASE(v2_as_qemu_sees_it),
	KUNIT_CASE(v2_what_it_costs),
	KUNIT_CASE(v2_what_a_stop_costs),
	{ }
};

static int v2_init(struct kunit *test)
{
	struct v2_test *ctx;
	int ret;

	if (v2.missing)
		kunit_skip(test, "%s", v2.missing);
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
	mmgrab(ctx->mm);
	ctx->grabbed = ctx->mm;

	ctx->pdev = pci_get_slot(v2.bus, PCI_DEVFN(0, 0));
	if (!ctx->pdev)
		return -ENODEV;
	ctx->dev_data = dev_iommu_priv_get(&ctx->pdev->dev);
	ctx->iommu = v2_iommu_of(ctx->pdev);
	ret = v2_fork(&ctx->proc, CLONE_VM);
	if (ret)
		return ret;
	v2_count(ctx, &ctx->before);
	return v2_bind(test);
}

static void v2_exit(struct kunit *test)
{
	struct v2_test *ctx = v2_test(test);

	if (!ctx)
		return;
	if (v2_said.device)
		v2_listen_no_more();
	if (ctx->iommu)
		v2_start_iommu(ctx->iommu);
	if (v2_second.iommu)
		v2_end_second(ctx);
	if (ctx->bound)
		amd_iommu_unbind_pasid(ctx->pdev, V2_PASID);
	if (ctx->device)
		amd_iommu_free_device(ctx->pdev);
	v2_exit_process(&ctx->proc);
	/* A case that gave up took its thread, and the mm with it. */
	if (ctx->mm && current->mm == ctx->mm) {
		kthread_unuse_mm(ctx->mm);
		mmput(ctx->mm);
		ctx->mm = NULL;
	}
	/* Nothing is left of any case: neither memory, nor a reference. */
	if (!ctx->mm && ctx->pdev) {
		ctx->before.users = 0;
		ctx->before.grabbed = 1;
		v2_expect_count(test, &ctx->before);
	}
	pci_dev_put(ctx->pdev);
	mmdrop(ctx->grabbed);
}

static struct kunit_suite v2_suite = {
	.name = "amd_iommu_v2",
	.suite_init = v2_suite_init,
	.suite_exit = v2_suite_exit,
	.init = v2_init,
	.exit = v2_exit,
	.test_cases = v2_cases,
};

kunit_test_suites(&v2_suite);
