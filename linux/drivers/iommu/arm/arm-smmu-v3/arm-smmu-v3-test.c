// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the SVA part of the SMMUv3 driver; part of arm-smmu-v3-sva.c.
 *
 * The cases of the first suite bind a process to a PCI device behind an SMMU,
 * have its MMU notifier called, and read from the command queue what the driver
 * made of that.  The commands are decoded here as the Arm System Memory
 * Management Unit Architecture Specification, IHI 0070, defines them in
 * chapter 4, and not with the macros of the driver.
 *
 * QEMU's SMMU has range commands, but neither substreams nor ATS.  The tests
 * tell the driver that the device has both, and let it do no DMA.
 *
 * The second suite needs no SMMU.  Its command queue is memory in which both
 * pointers are the same word: whatever is produced has been consumed.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>

/*
 * Commands.
 *
 * The lowest byte is the opcode.  All bits that a command does not define are
 * reserved and zero.
 */

struct v3_cmd {
	u64 raw[2];
	u8 opcode;
	const char *wrong;	/* what the specification has against it */

	/* 4.4: TLB invalidation */
	u16 asid, vmid;
	bool leaf;
	u8 tg, ttl;
	bool everything;	/* of the ASID or VMID */

	/* 4.5.1: CMD_ATC_INV */
	bool ssv, global;
	u32 sid, ssid;

	/* of both, but not with @everything */
	u64 start, last;
};

#define V3_CFGI_CD		0x05
#define V3_TLBI_NH_ASID		0x11
#define V3_TLBI_NH_VA		0x12
#define V3_TLBI_EL2_ASID	0x21
#define V3_TLBI_EL2_VA		0x22
#define V3_TLBI_S12_VMALL	0x28
#define V3_TLBI_S2_IPA		0x2a
#define V3_ATC_INV		0x40
#define V3_SYNC			0x46

static u64 v3_bits(u64 value, unsigned int high, unsigned int low)
{
	return (value & GENMASK_ULL(high, low)) >> low;
}

/* 4.4.1.1, for SMMU_IDR5.DS == 0 and descriptors of 64 bits */
static void v3_decode_range(struct v3_cmd *cmd)
{
	unsigned int num = v3_bits(cmd->raw[0], 16, 12);
	unsigned int scale = v3_bits(cmd->raw[0], 24, 20);
	unsigned int shift, level_shift;

	cmd->start = cmd->raw[1] & GENMASK_ULL(63, 12);
	cmd->leaf = v3_bits(cmd->raw[1], 0, 0);
	cmd->ttl = v3_bits(cmd->raw[1], 9, 8);
	cmd->tg = v3_bits(cmd->raw[1], 11, 10);
	if (v3_bits(cmd->raw[0], 11, 8) || v3_bits(cmd->raw[0], 19, 17) ||
	    v3_bits(cmd->raw[0], 31, 25) || v3_bits(cmd->raw[1], 7, 1))
		cmd->wrong = "reserved bits";

	if (!cmd->tg) {
		/* That address, whatever the size of its entry. */
		cmd->last = cmd->start + PAGE_SIZE - 1;
		if (num || scale || cmd->ttl)
			cmd->wrong = "NUM, SCALE or TTL without TG";
		return;
	}

	shift = 10 + 2 * cmd->tg;
	cmd->last = cmd->start + (((num + 1ULL) << scale) << shift) - 1;
	if (cmd->last < cmd->start)	/* no wrap around */
		cmd->last = U64_MAX;
	if (!num && !scale && !cmd->ttl)
		cmd->wrong = "CERROR_ILL: NUM, SCALE and TTL are zero";
	level_shift = shift;
	if (cmd->ttl)
		level_shift += (3 - cmd->ttl) * (shift - 3);
	if (cmd->start & GENMASK_ULL(level_shift - 1, 0))
		cmd->wrong = "UNPREDICTABLE: the address is not aligned";
}

static void v3_decode(struct v3_cmd *cmd, const __le64 *raw)
{
	unsigned int size;

	memset(cmd, 0, sizeof(*cmd));
	cmd->raw[0] = le64_to_cpu(raw[0]);
	cmd->raw[1] = le64_to_cpu(raw[1]);
	cmd->opcode = v3_bits(cmd->raw[0], 7, 0);
	switch (cmd->opcode) {
	case V3_TLBI_NH_VA:
	case V3_TLBI_EL2_VA:
	case V3_TLBI_S2_IPA:
		cmd->vmid = v3_bits(cmd->raw[0], 47, 32);
		cmd->asid = v3_bits(cmd->raw[0], 63, 48);
		v3_decode_range(cmd);
		break;
	case V3_TLBI_NH_ASID:
	case V3_TLBI_EL2_ASID:
	case V3_TLBI_S12_VMALL:
		cmd->vmid = v3_bits(cmd->raw[0], 47, 32);
		cmd->asid = v3_bits(cmd->raw[0], 63, 48);
		cmd->everything = true;
		if (v3_bits(cmd->raw[0], 31, 8) || cmd->raw[1])
			cmd->wrong = "reserved bits";
		break;
	case V3_ATC_INV:
		cmd->ssv = v3_bits(cmd->raw[0], 11, 11);
		cmd->global = v3_bits(cmd->raw[0], 9, 9);
		cmd->ssid = v3_bits(cmd->raw[0], 31, 12);
		cmd->sid = v3_bits(cmd->raw[0], 63, 32);
		size = v3_bits(cmd->raw[1], 5, 0);
		if (v3_bits(cmd->raw[0], 8, 8) || v3_bits(cmd->raw[0], 10, 10) ||
		    v3_bits(cmd->raw[1], 11, 6))
			cmd->wrong = "reserved bits";
		if (size > 52)
			cmd->wrong = "CERROR_ILL: a Size above 52";
		cmd->everything = size == 52;
		/* 4.5.1: bits [11 + Size:0] are taken as zero */
		if (size < 52) {
			cmd->start = cmd->raw[1] & GENMASK_ULL(63, 12 + size);
			cmd->last = cmd->start + BIT_ULL(12 + size) - 1;
		}
		break;
	}
	/* No VMID at EL2, no ASID at stage 2. */
	if (cmd->opcode == V3_TLBI_EL2_VA || cmd->opcode == V3_TLBI_EL2_ASID) {
		if (cmd->vmid)
			cmd->wrong = "reserved bits";
	} else if (cmd->opcode == V3_TLBI_S2_IPA ||
		   cmd->opcode == V3_TLBI_S12_VMALL) {
		if (cmd->asid)
			cmd->wrong = "reserved bits";
	}
}

/* What was written to a command queue. */

#define V3_MAX_CMDS	1024

struct v3_log {
	struct arm_smmu_queue *q;
	u32 prod;		/* where the recording starts */
	unsigned int cmds;
	struct v3_cmd cmd[V3_MAX_CMDS];
};

static u32 v3_prod(struct v3_log *log)
{
	u32 bits = log->q->llq.max_n_shift + 1;

	return READ_ONCE(log->q->llq.prod) & GENMASK(bits - 1, 0);
}

static void v3_record(struct v3_log *log)
{
	log->prod = v3_prod(log);
}

/* Decode what was written since, and begin anew. */
static void v3_stop(struct v3_log *log)
{
	u32 prod = v3_prod(log), entries = 1 << log->q->llq.max_n_shift;
	u32 pos;

	log->cmds = 0;
	for (pos = log->prod; pos != prod && log->cmds < V3_MAX_CMDS;
	     pos = (pos + 1) % (2 * entries))
		v3_decode(&log->cmd[log->cmds++],
			  log->q->base + pos % entries * 2);
	log->prod = prod;
}

static void v3_dump(struct kunit *test, struct v3_log *log)
{
	unsigned int i;

	for (i = 0; i < min(log->cmds, 16U); i++) {
		struct v3_cmd *cmd = &log->cmd[i];

		kunit_info(test, "%2u: %016llx %016llx %s\n", i, cmd->raw[0],
			   cmd->raw[1], cmd->wrong ?: "");
		if (cmd->everything)
			kunit_info(test, "    opcode %x: everything\n",
				   cmd->opcode);
		else if (cmd->last)
			kunit_info(test, "    opcode %x: %llx-%llx\n",
				   cmd->opcode, cmd->start, cmd->last);
	}
}

/* One flush, as the driver is meant to write it. */

struct v3_want {
	u8 va, all;		/* opcodes */
	u16 asid, vmid;
	u8 tg;			/* of range commands, or 0 */
	bool leaf;
	bool tlbi, ats;
	u32 sid, ssid;
};

struct v3_flush {
	unsigned int tlbis;	/* in front of the first CMD_SYNC */
	bool everything;
	u64 bytes;
	struct v3_cmd *atc;
};

static bool v3_is_sync(struct v3_log *log, unsigned int i)
{
	return i < log->cmds && log->cmd[i].opcode == V3_SYNC;
}

/*
 * The whole recording is one flush:
 *
 *	CMD_TLBI_*, for parts of the range, or for everything
 *	CMD_SYNC
 *	CMD_ATC_INV
 *	CMD_SYNC
 *
 * 4.5.1: the ATC may ask again for a translation that was invalidated there
 * before it was in the SMMU, so the first CMD_SYNC is needed.  Returns what is
 * wrong, or NULL.
 */
static const char *v3_parse(struct v3_log *log, const struct v3_want *want,
			    struct v3_flush *flush)
{
	unsigned int i = 0;

	memset(flush, 0, sizeof(*flush));
	for (; i < log->cmds; i++) {
		struct v3_cmd *cmd = &log->cmd[i];

		if (cmd->opcode == V3_ATC_INV || cmd->opcode == V3_SYNC)
			break;
		if (cmd->wrong)
			return cmd->wrong;
		if (cmd->opcode != want->va && cmd->opcode != want->all)
			return "no command for this";
		if (cmd->asid != want->asid || cmd->vmid != want->vmid)
			return "wrong ASID or VMID";
		if (cmd->opcode == want->all) {
			flush->everything = true;
		} else {
			if (cmd->leaf != want->leaf)
				return "wrong Leaf";
			if (cmd->tg != want->tg)
				return "wrong TG";
			if (cmd->ttl && !want->leaf)
				return "a TTL, and tables are to be flushed";
			flush->bytes += cmd->last - cmd->start + 1;
		}
		flush->tlbis++;
	}
	if (!flush->tlbis != !want->tlbi)
		return want->tlbi ? "no CMD_TLBI" : "a CMD_TLBI";
	if (flush->tlbis && !v3_is_sync(log, i++))
		return "no CMD_SYNC behind CMD_TLBI";
	if (want->ats) {
		if (i == log->cmds || log->cmd[i].opcode != V3_ATC_INV)
			return "no CMD_ATC_INV";
		flush->atc = &log->cmd[i++];
		if (flush->atc->wrong)
			return flush->atc->wrong;
		if (flush->atc->sid != want->sid || flush->atc->global ||
		    !flush->atc->ssv || flush->atc->ssid != want->ssid)
			return "wrong StreamID or SubstreamID";
		if (!v3_is_sync(log, i++))
			return "no CMD_SYNC behind CMD_ATC_INV";
	}
	return i == log->cmds ? NULL : "commands too many";
}

/* Does the union of the CMD_TLBI contain these addresses? */
static bool v3_covers(struct v3_log *log, u64 start, u64 last)
{
	unsigned int i;
	bool found;

	do {
		found = false;
		for (i = 0; i < log->cmds; i++) {
			struct v3_cmd *cmd = &log->cmd[i];

			if (cmd->opcode == V3_ATC_INV || cmd->opcode == V3_SYNC)
				continue;
			if (cmd->everything)
				return true;
			if (cmd->start > start || cmd->last < start)
				continue;
			if (cmd->last >= last)
				return true;
			start = cmd->last + 1;
			found = true;
		}
	} while (found);
	return false;
}

/*
 * The device, and its process.
 */

#define V3_BASE		ALIGN(TASK_SIZE / 4, PGDIR_SIZE)
#define V3_SSID_BITS	6
#define V3_TG		((PAGE_SHIFT - 10) / 2)

static struct {
	const char *missing;	/* why there are no tests */
	struct device *dev;
	struct arm_smmu_device *smmu;
	struct arm_smmu_master *master;
	struct arm_smmu_domain *domain;
	u32 features;		/* those of the hardware */
} v3;

struct v3_process {
	struct task_struct *task;
	struct completion ready;
	struct completion leave;
};

struct v3_test {
	struct mm_struct *mm;
	struct iommu_sva *handle;
	struct v3_process child;
	struct v3_want want;
	struct v3_log log;
};

/*
 * A device has its IOMMU only once a driver asks for it.  This is QEMU's
 * pci-testdev, of which nobody wants anything else.
 */
static int v3_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return 0;
}

static const struct pci_device_id v3_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT, 0x0005) },
	{ }
};

static struct pci_driver v3_driver = {
	.name = "arm-smmu-v3-test",
	.id_table = v3_ids,
	.probe = v3_probe,
};

static struct arm_smmu_device *v3_smmu_of(struct device *dev)
{
	struct device *parent;

	if (!dev->iommu || !dev->iommu->iommu_dev)
		return NULL;
	parent = dev->iommu->iommu_dev->dev->parent;
	if (strcmp(dev_driver_string(parent), "arm-smmu-v3"))
		return NULL;
	return dev_get_drvdata(parent);
}

/* Give a device a domain with substreams. */
static int v3_attach_device(struct arm_smmu_master *master,
			    struct arm_smmu_domain **smmu_domain)
{
	struct iommu_domain *domain = iommu_domain_alloc(master->dev->bus);
	int ret;

	if (!domain)
		return -ENOMEM;
	master->ssid_bits = V3_SSID_BITS;
	ret = iommu_attach_device(domain, master->dev);
	if (ret) {
		master->ssid_bits = 0;
		iommu_domain_free(domain);
		return ret;
	}
	*smmu_domain = to_smmu_domain(domain);
	return arm_smmu_master_enable_sva(master);
}

static void v3_detach_device(struct arm_smmu_master *master,
			     struct arm_smmu_domain *smmu_domain)
{
	arm_smmu_master_disable_sva(master);
	master->ssid_bits = 0;
	iommu_detach_device(&smmu_domain->domain, master->dev);
	iommu_domain_free(&smmu_domain->domain);
}

static int v3_attach(void)
{
	return v3_attach_device(v3.master, &v3.domain);
}

static void v3_detach(void)
{
	v3_detach_device(v3.master, v3.domain);
}

static int v3_suite_init(struct kunit_suite *suite)
{
	struct pci_dev *pdev;
	int ret;

	ret = pci_register_driver(&v3_driver);
	if (ret)
		return ret;
	pdev = pci_get_device(v3_ids[0].vendor, v3_ids[0].device, NULL);
	if (pdev)
		v3.smmu = v3_smmu_of(&pdev->dev);
	if (!v3.smmu) {
		v3.missing = "no pci-testdev behind an SMMUv3";
		pci_dev_put(pdev);
		return 0;
	}
	/* The SMMU overwrites the CMD_SYNC there. */
	if (v3.smmu->options & ARM_SMMU_OPT_MSIPOLL)
		v3.missing = "the commands cannot be read back";
	v3.dev = &pdev->dev;
	v3.master = dev_iommu_priv_get(v3.dev);
	v3.features = v3.smmu->features;
	if (!v3.missing && v3_attach())
		v3.missing = "no domain with substreams";
	return 0;
}

static void v3_suite_exit(struct kunit_suite *suite)
{
	if (v3.domain)
		v3_detach();
	if (v3.dev)
		put_device(v3.dev);
	pci_unregister_driver(&v3_driver);
}

static struct v3_test *v3_test(struct kunit *test)
{
	return test->priv;
}

static void v3_set_feature(u32 feature, bool on)
{
	if (on)
		v3.smmu->features |= feature;
	else
		v3.smmu->features &= ~feature;
}

static void v3_set_device_ats(struct arm_smmu_master *master,
			      struct arm_smmu_domain *smmu_domain, bool on)
{
	if (master->ats_enabled != on)
		atomic_add(on ? 1 : -1, &smmu_domain->nr_ats_masters);
	master->ats_enabled = on;
}

static void v3_set_ats(struct kunit *test, bool on)
{
	v3_set_device_ats(v3.master, v3.domain, on);
	v3_set_feature(ARM_SMMU_FEAT_ATS, on);
	v3_test(test)->want.ats = on;
}

static struct arm_smmu_mmu_notifier *v3_notifier(struct kunit *test)
{
	return sva_to_bond(v3_test(test)->handle)->smmu_mn;
}

static void v3_unbind(struct v3_test *ctx)
{
	if (ctx->handle)
		arm_smmu_sva_unbind(ctx->handle);
	ctx->handle = NULL;
}

/* 5.4: the context descriptor of a substream, as the SMMU reads it */
static u64 v3_descriptor(u32 ssid, unsigned int dword)
{
	return le64_to_cpu(v3.domain->s1_cfg.cdcfg.cdtab[ssid * 8 + dword]);
}

#define V3_CD_V(dword)		v3_bits(dword, 31, 31)
#define V3_CD_EPD0(dword)	v3_bits(dword, 14, 14)
#define V3_CD_ASID(dword)	v3_bits(dword, 63, 48)

/* Has the SMMU executed all that was recorded, and without an error? */
static bool v3_is_done(struct v3_log *log)
{
	u32 bits = log->q->llq.max_n_shift + 1;
	u32 cons = readl(log->q->cons_reg);

	return (cons & GENMASK(bits - 1, 0)) == log->prod &&
	       !v3_bits(cons, 30, 24);
}

/* The smallest range of a power of two of pages that is aligned to its size. */
static bool v3_is_smallest(const struct v3_cmd *atc, u64 start, u64 last)
{
	unsigned int shift = 12;

	while (shift < 64 && start >> shift != last >> shift)
		shift++;
	if (shift == 64)
		return atc->everything;
	return !atc->everything && atc->start == start >> shift << shift &&
	       atc->last == atc->start + BIT_ULL(shift) - 1;
}

static const char *v3_judge(struct v3_log *log, const struct v3_want *want,
			    u64 start, u64 last, struct v3_flush *flush)
{
	u64 page = want->tg ? BIT_ULL(10 + 2 * want->tg) : PAGE_SIZE;
	const char *wrong = v3_parse(log, want, flush);

	if (wrong)
		return wrong;
	if (want->tlbi && !v3_covers(log, start, last))
		return "a part of it is left out";
	if (!flush->everything && flush->bytes > last - start + 1 + page)
		return "more than one page too much";
	if (flush->atc && !v3_is_smallest(flush->atc, start, last))
		return "wrong Size or Address of CMD_ATC_INV";
	return NULL;
}

/* What was recorded is one flush of this range, and has been executed. */
static bool v3_expect_flush(struct kunit *test, u64 start, u64 len,
			    struct v3_flush *flush)
{
	struct v3_test *ctx = v3_test(test);
	const char *wrong;

	v3_stop(&ctx->log);
	wrong = v3_judge(&ctx->log, &ctx->want, start, start + len - 1, flush);
	if (!wrong && !v3_is_done(&ctx->log))
		wrong = "the SMMU has not executed it";
	if (!wrong)
		return true;
	KUNIT_FAIL(test, "%#llx pages at %#llx: %s", len >> PAGE_SHIFT, start,
		   wrong);
	v3_dump(test, &ctx->log);
	return false;
}

static bool v3_flush_range(struct kunit *test, u64 start, u64 len,
			   struct v3_flush *flush)
{
	struct v3_test *ctx = v3_test(test);

	v3_record(&ctx->log);
	mmap_read_lock(ctx->mm);
	mmu_notifier_invalidate_range(ctx->mm, start, start + len);
	mmap_read_unlock(ctx->mm);
	return v3_expect_flush(test, start, len, flush);
}

/* The same, with @tlbis commands, or with one for the ASID if that is 0. */
static bool v3_flush_range_by(struct kunit *test, u64 start, u64 len,
			      unsigned int tlbis)
{
	struct v3_flush flush;

	if (!v3_flush_range(test, start, len, &flush))
		return false;
	KUNIT_EXPECT_EQ_MSG(test, flush.everything, !tlbis,
			    "%#llx pages at %#llx", len >> PAGE_SHIFT, start);
	KUNIT_EXPECT_EQ_MSG(test, flush.tlbis, max(tlbis, 1U),
			    "%#llx pages at %#llx", len >> PAGE_SHIFT, start);
	return flush.everything == !tlbis && flush.tlbis == max(tlbis, 1U);
}

/* Everything that the device has of the process, and has been executed. */
static void v3_expect_flush_of_all(struct kunit *test)
{
	struct v3_flush flush;

	if (v3_expect_flush(test, 0, 0, &flush))
		KUNIT_EXPECT_TRUE(test, flush.everything);
}

/* Leave out the changes of context descriptors at the beginning. */
static void v3_skip_config(struct v3_log *log)
{
	u32 entries = 1 << log->q->llq.max_n_shift;
	struct v3_cmd cmd;

	while (log->prod != v3_prod(log)) {
		v3_decode(&cmd, log->q->base + log->prod % entries * 2);
		if (cmd.opcode != V3_CFGI_CD)
			break;
		log->prod = (log->prod + 2) % (2 * entries);
	}
}

/* Operations on the memory of the process. */

static int v3_write(unsigned long addr, unsigned long len)
{
	unsigned long end = addr + len;

	for (; addr < end; addr += PAGE_SIZE)
		if (put_user(1UL, (unsigned long __user *)addr))
			return -EFAULT;
	return 0;
}

static void v3_map(struct kunit *test, unsigned long addr, unsigned long len)
{
	KUNIT_ASSERT_EQ(test, vm_mmap(NULL, addr, len, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				      0), addr);
	KUNIT_ASSERT_EQ(test, v3_write(addr, len), 0);
}

static int v3_process_run(void *data)
{
	struct v3_process *proc = data;

	proc->task = get_task_struct(current);
	complete(&proc->ready);
	wait_for_completion(&proc->leave);
	do_exit(0);
}

static int v3_fork(struct v3_process *proc)
{
	struct kernel_clone_args args = {
		.flags = CLONE_FS | CLONE_FILES | CLONE_UNTRACED,
		.exit_signal = SIGCHLD,
		.fn = v3_process_run,
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

static void v3_exit_process(struct v3_process *proc)
{
	if (!proc->task)
		return;
	complete(&proc->leave);
	while (!READ_ONCE(proc->task->exit_state))
		usleep_range(100, 200);
	put_task_struct(proc->task);
	proc->task = NULL;
}

/* Which commands a flush is made of. */

static void v3_munmap_of_one_page(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	unsigned long addr = V3_BASE + 7 * PAGE_SIZE;
	struct v3_flush flush;

	v3_map(test, V3_BASE, 64 * PAGE_SIZE);
	v3_record(&ctx->log);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, PAGE_SIZE), 0);
	if (v3_expect_flush(test, addr, PAGE_SIZE, &flush))
		KUNIT_EXPECT_EQ(test, flush.tlbis, 1U);
}

static void v3_ranges_that_are_not_aligned(struct kunit *test)
{
	unsigned int first, pages;
	struct v3_flush flush;

	for (first = 0; first < 9; first++) {
		for (pages = 1; pages <= 70; pages++) {
			if (!v3_flush_range(test, V3_BASE + first * PAGE_SIZE,
					    pages * PAGE_SIZE, &flush))
				return;
			KUNIT_EXPECT_FALSE(test, flush.everything);
			KUNIT_EXPECT_LE(test, flush.tlbis, 2U);
		}
	}
}

/* Multiples of each power of two, and a page more and less. */
static void v3_edges_of_num_and_scale(struct kunit *test)
{
	static const unsigned int num[] = { 1, 2, 3, 16, 17, 31, 32, 33, 64 };
	u64 all = TASK_SIZE >> PAGE_SHIFT, pages, start;
	unsigned int scale, i, more;
	struct v3_flush flush;

	for (scale = 0; BIT_ULL(scale) < all; scale++) {
		for (i = 0; i < ARRAY_SIZE(num); i++) {
			for (more = 0; more < 3; more++) {
				pages = ((u64)num[i] << scale) + more - 1;
				if (!pages || pages > all)
					continue;
				start = all - pages > 5 ? 5 : 0;
				if (!v3_flush_range(test, start << PAGE_SHIFT,
						    pages << PAGE_SHIFT, &flush))
					return;
			}
		}
	}
}

static void v3_whole_address_space(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	struct v3_flush flush;

	v3_record(&ctx->log);
	mmap_read_lock(ctx->mm);
	mmu_notifier_invalidate_mm(ctx->mm);
	mmap_read_unlock(ctx->mm);
	if (v3_expect_flush(test, 0, TASK_SIZE, &flush)) {
		KUNIT_EXPECT_EQ(test, flush.tlbis, 1U);
		KUNIT_EXPECT_TRUE(test, flush.everything);
	}
	v3_flush_range_by(test, 0, TASK_SIZE, 0);
	v3_flush_range_by(test, PAGE_SIZE, TASK_SIZE - PAGE_SIZE, 0);
	v3_flush_range_by(test, 0, TASK_SIZE / 2, 1);
}

#define V3_STACK	(ALIGN_DOWN(TASK_SIZE, PGDIR_SIZE) - 77 * PAGE_SIZE)

/* fork() write-protects all that is mapped, from here to there. */
static void v3_fork_of_text_to_stack(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	unsigned long text = 2 * (TASK_SIZE / 3) & PAGE_MASK;
	struct v3_flush flush;

	v3_map(test, text, 3 * PAGE_SIZE);
	v3_map(test, V3_STACK, 5 * PAGE_SIZE);
	v3_record(&ctx->log);
	KUNIT_ASSERT_EQ(test, v3_fork(&ctx->child), 0);
	v3_expect_flush(test, text, V3_STACK + 5 * PAGE_SIZE - text, &flush);

	v3_record(&ctx->log);
	KUNIT_EXPECT_EQ(test, v3_write(V3_STACK, PAGE_SIZE), 0);
	if (v3_expect_flush(test, V3_STACK, PAGE_SIZE, &flush))
		KUNIT_EXPECT_FALSE(test, flush.everything);
}

/* Where exec() puts a program without a fixed address, and its stack. */
static void v3_fork_of_many_layouts(struct kunit *test)
{
	unsigned int i, bad = 0, all = 0;
	struct rnd_state rnd;
	const char *wrong;

	prandom_seed_state(&rnd, 1);
	for (i = 0; i < 3000; i++) {
		struct v3_test *ctx = v3_test(test);
		u64 text = 2 * (TASK_SIZE / 3) & PAGE_MASK;
		u64 stack = TASK_SIZE & PAGE_MASK;
		struct v3_flush flush;

		text += (u64)(prandom_u32_state(&rnd) % BIT(24)) << PAGE_SHIFT;
		stack -= (u64)(prandom_u32_state(&rnd) % BIT(22)) << PAGE_SHIFT;
		v3_record(&ctx->log);
		mmap_read_lock(ctx->mm);
		mmu_notifier_invalidate_range(ctx->mm, text, stack);
		mmap_read_unlock(ctx->mm);
		v3_stop(&ctx->log);
		wrong = v3_judge(&ctx->log, &ctx->want, text, stack - 1, &flush);
		if (wrong && !bad++) {
			kunit_info(test, "%llx-%llx: %s", text, stack, wrong);
			v3_dump(test, &ctx->log);
		}
		all += flush.everything;
	}
	KUNIT_EXPECT_EQ_MSG(test, bad, 0U, "of %u layouts", i);
	/* In few of them the distance is a round number. */
	KUNIT_EXPECT_GT(test, all, i / 2);
}

/* Four commands have room for 20 bits of the number of pages. */
static void v3_asid_when_it_is_cheaper(struct kunit *test)
{
	static const u64 twenty = BIT_ULL(20) - 1;

	v3_flush_range_by(test, V3_BASE, twenty << PAGE_SHIFT, 4);
	v3_flush_range_by(test, V3_BASE, twenty << (PAGE_SHIFT + 9), 4);
	v3_flush_range_by(test, V3_BASE, BIT_ULL(25) << PAGE_SHIFT, 1);
	v3_flush_range_by(test, V3_BASE, (BIT_ULL(20) + 1) << PAGE_SHIFT, 0);
	v3_flush_range_by(test, V3_BASE,
			  (BIT_ULL(20) + 1) << (PAGE_SHIFT + 9), 0);
	v3_flush_range_by(test, V3_BASE, (2 * twenty + 1) << PAGE_SHIFT, 0);
}

static void v3_without_range_commands(struct kunit *test)
{
	unsigned int most = CMDQ_MAX_TLBI_OPS - 1;

	v3_set_feature(ARM_SMMU_FEAT_RANGE_INV, false);
	v3_test(test)->want.tg = 0;
	v3_flush_range_by(test, V3_BASE, PAGE_SIZE, 1);
	v3_flush_range_by(test, V3_BASE + 3 * PAGE_SIZE, 65 * PAGE_SIZE, 65);
	v3_flush_range_by(test, V3_BASE + PAGE_SIZE, most * PAGE_SIZE, most);
	v3_flush_range_by(test, V3_BASE, (most + 1) * PAGE_SIZE, 0);
	v3_flush_range_by(test, 0, TASK_SIZE, 0);
}

/* An ATC is flushed behind the SMMU, by the smallest range there is. */
static void v3_with_an_atc(struct kunit *test)
{
	unsigned int first, pages;
	struct v3_flush flush;

	v3_set_ats(test, true);
	for (first = 0; first < 9; first++)
		for (pages = 1; pages <= 17; pages++)
			if (!v3_flush_range(test, V3_BASE + first * PAGE_SIZE,
					    pages * PAGE_SIZE, &flush))
				return;
	v3_flush_range_by(test, V3_STACK, TASK_SIZE - V3_STACK, 2);
	v3_flush_range_by(test, 0, TASK_SIZE, 0);
	v3_set_feature(ARM_SMMU_FEAT_RANGE_INV, false);
	v3_test(test)->want.tg = 0;
	v3_flush_range_by(test, V3_BASE, 3 * PAGE_SIZE, 3);
}

static void v3_only_the_atc_with_btm(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	struct v3_flush flush;

	v3_set_feature(ARM_SMMU_FEAT_BTM, true);
	ctx->want.tlbi = false;
	v3_flush_range(test, V3_BASE, PAGE_SIZE, &flush);
	KUNIT_EXPECT_EQ(test, ctx->log.cmds, 0U);
	v3_set_ats(test, true);
	v3_flush_range(test, V3_BASE, 3 * PAGE_SIZE, &flush);
	v3_flush_range(test, 0, TASK_SIZE, &flush);
}

/* What QEMU executes is compared with this by scripts/prove/test.sh. */
static void v3_as_qemu_sees_it(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	struct v3_flush flush;
	unsigned int i;
	u64 pages;

	v3_flush_range(test, V3_BASE + 3 * PAGE_SIZE,
		       (BIT_ULL(20) - 3) << PAGE_SHIFT, &flush);
	for (i = 0; i < ctx->log.cmds; i++) {
		struct v3_cmd *cmd = &ctx->log.cmd[i];
		u64 first = cmd->start >> PAGE_SHIFT;
		u64 end = (cmd->last >> PAGE_SHIFT) + 1;

		/* It takes aligned powers of two, one after the other. */
		for (; cmd->last && first < end; first += pages) {
			pages = BIT_ULL(min_t(unsigned int, __ffs64(first),
					      fls64(end - first) - 1));
			kunit_info(test, "cmd\t%u\t0x%llx\t0x%llx\n", cmd->asid,
				   first << PAGE_SHIFT, pages);
		}
	}
	KUNIT_EXPECT_EQ(test, flush.tlbis, 4U);
}

/* The life of a binding. */

static void v3_bind_and_unbind(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	u32 ssid = ctx->mm->pasid;
	u64 dword = v3_descriptor(ssid, 0);

	KUNIT_EXPECT_TRUE(test, V3_CD_V(dword));
	KUNIT_EXPECT_EQ(test, V3_CD_ASID(dword), (u64)ctx->want.asid);
	KUNIT_EXPECT_EQ(test, v3_descriptor(ssid, 1),
			(u64)virt_to_phys(ctx->mm->pgd));

	v3_set_ats(test, true);
	v3_record(&ctx->log);
	v3_unbind(ctx);
	KUNIT_EXPECT_FALSE(test, V3_CD_V(v3_descriptor(ssid, 0)));
	v3_skip_config(&ctx->log);
	v3_expect_flush_of_all(test);

	v3_record(&ctx->log);
	mmap_read_lock(ctx->mm);
	mmu_notifier_invalidate_range(ctx->mm, V3_BASE, V3_BASE + PAGE_SIZE);
	mmap_read_unlock(ctx->mm);
	v3_stop(&ctx->log);
	KUNIT_EXPECT_EQ(test, ctx->log.cmds, 0U);
}

static void v3_exit_then_unbind(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	u32 ssid = ctx->mm->pasid;

	v3_set_ats(test, true);
	v3_map(test, V3_BASE, 4 * PAGE_SIZE);
	v3_record(&ctx->log);
	kthread_unuse_mm(ctx->mm);
	mmput(ctx->mm);		/* the binding keeps the structure */
	ctx->mm = NULL;
	KUNIT_EXPECT_TRUE(test, V3_CD_V(v3_descriptor(ssid, 0)));
	KUNIT_EXPECT_TRUE(test, V3_CD_EPD0(v3_descriptor(ssid, 0)));
	v3_skip_config(&ctx->log);
	v3_expect_flush_of_all(test);

	v3_record(&ctx->log);
	v3_unbind(ctx);
	KUNIT_EXPECT_FALSE(test, V3_CD_V(v3_descriptor(ssid, 0)));
	v3_skip_config(&ctx->log);
	v3_stop(&ctx->log);
	KUNIT_EXPECT_EQ(test, ctx->log.cmds, 0U);
}

static void v3_enable_commands(bool on)
{
	u32 cr0 = readl(v3.smmu->base + ARM_SMMU_CR0);

	writel(on ? cr0 | CR0_CMDQEN : cr0 & ~CR0_CMDQEN,
	       v3.smmu->base + ARM_SMMU_CR0);
}

static bool v3_is_master(void)
{
	u16 cmd;

	pci_read_config_word(to_pci_dev(v3.dev), PCI_COMMAND, &cmd);
	return cmd & PCI_COMMAND_MASTER;
}

/* The device is removed and found again. */
static void v3_replug(struct kunit *test)
{
	struct pci_bus *bus = to_pci_dev(v3.dev)->bus;
	unsigned int devfn = to_pci_dev(v3.dev)->devfn;
	struct pci_dev *pdev;

	v3_unbind(v3_test(test));
	v3_detach();
	v3.domain = NULL;
	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(to_pci_dev(v3.dev));
	pci_rescan_bus(bus);
	pci_unlock_rescan_remove();
	put_device(v3.dev);
	v3.dev = NULL;
	v3.missing = "the device did not come back";
	pdev = pci_get_slot(bus, devfn);
	KUNIT_ASSERT_NOT_NULL(test, pdev);
	KUNIT_ASSERT_PTR_EQ(test, v3_smmu_of(&pdev->dev), v3.smmu);
	v3.dev = &pdev->dev;
	v3.master = dev_iommu_priv_get(v3.dev);
	KUNIT_ASSERT_EQ(test, v3_attach(), 0);
	v3.missing = NULL;
}

/*
 * The SMMU does not complete the first CMD_SYNC: the device has no memory any
 * more, and no other command is waited for.
 */
static void v3_completion_never_comes(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	struct iommu_sva *handle;
	struct v3_flush flush;
	struct mm_struct *mm;
	unsigned int i;

	v3_map(test, V3_BASE, 4 * PAGE_SIZE);
	v3_set_ats(test, true);
	pci_set_master(to_pci_dev(v3.dev));
	KUNIT_EXPECT_TRUE(test, v3_is_master());
	v3_record(&ctx->log);
	v3_enable_commands(false);
	KUNIT_EXPECT_EQ(test, vm_munmap(V3_BASE, PAGE_SIZE), 0);
	v3_stop(&ctx->log);
	KUNIT_EXPECT_TRUE(test, pci_is_quarantined(to_pci_dev(v3.dev)));
	KUNIT_EXPECT_FALSE(test, v3_is_master());
	KUNIT_EXPECT_GT(test, ctx->log.cmds, 1U);
	for (i = 0; i < ctx->log.cmds; i++)
		KUNIT_EXPECT_EQ(test, v3_is_sync(&ctx->log, i),
				i == ctx->log.cmds - 1);

	v3_record(&ctx->log);
	KUNIT_EXPECT_EQ(test, vm_munmap(V3_BASE + PAGE_SIZE, PAGE_SIZE), 0);
	v3_stop(&ctx->log);
	KUNIT_EXPECT_EQ(test, ctx->log.cmds, 0U);
	v3_enable_commands(true);

	mm = mm_alloc();
	KUNIT_ASSERT_NOT_NULL(test, mm);
	handle = arm_smmu_sva_bind(v3.dev, mm, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(handle), -EIO);
	if (!IS_ERR(handle))
		arm_smmu_sva_unbind(handle);
	mmput(mm);

	v3_set_ats(test, false);
	v3_replug(test);
	KUNIT_EXPECT_FALSE(test, pci_is_quarantined(to_pci_dev(v3.dev)));
	pci_set_master(to_pci_dev(v3.dev));
	KUNIT_EXPECT_TRUE(test, v3_is_master());
	v3_record(&ctx->log);
	ctx->handle = arm_smmu_sva_bind(v3.dev, ctx->mm, NULL);
	if (IS_ERR(ctx->handle))
		ctx->handle = NULL;
	KUNIT_ASSERT_NOT_NULL(test, ctx->handle);
	ctx->want.asid = v3_notifier(test)->cd->asid;
	/* What the SMMU has kept does not come back with the process. */
	v3_stop(&ctx->log);
	KUNIT_EXPECT_EQ(test, ctx->log.cmd[0].opcode, ctx->want.all);
	KUNIT_EXPECT_EQ(test, ctx->log.cmd[0].asid, ctx->want.asid);
	KUNIT_EXPECT_TRUE(test, v3_is_sync(&ctx->log, 1));
	ctx->want.ssid = ctx->mm->pasid;
	v3_record(&ctx->log);
	KUNIT_EXPECT_EQ(test, vm_munmap(V3_BASE + 2 * PAGE_SIZE, PAGE_SIZE), 0);
	v3_expect_flush(test, V3_BASE + 2 * PAGE_SIZE, PAGE_SIZE, &flush);
}

/* The SMMU may have translations of that ASID, and does not drop them. */
static void v3_bind_cannot_flush(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	struct iommu_sva *handle;

	v3_unbind(ctx);
	v3_enable_commands(false);
	handle = arm_smmu_sva_bind(v3.dev, ctx->mm, NULL);
	v3_enable_commands(true);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(handle), -ETIMEDOUT);
	if (!IS_ERR(handle))
		arm_smmu_sva_unbind(handle);
	KUNIT_EXPECT_FALSE(test, V3_CD_V(v3_descriptor(ctx->want.ssid, 0)));
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->mm));

	ctx->handle = arm_smmu_sva_bind(v3.dev, ctx->mm, NULL);
	if (IS_ERR(ctx->handle))
		ctx->handle = NULL;
	KUNIT_EXPECT_NOT_NULL(test, ctx->handle);
}

/* Of two devices of a domain, the first one cannot be cut off. */
static void v3_device_that_cannot_be_cut_off(struct kunit *test)
{
	struct arm_smmu_master *master;
	struct arm_smmu_domain *domain;

	domain = kunit_kzalloc(test, sizeof(*domain), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	master = kunit_kcalloc(test, 2, sizeof(*master), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, master);
	spin_lock_init(&domain->devices_lock);
	INIT_LIST_HEAD(&domain->devices);
	master[0].dev = v3.smmu->dev;	/* it is not on PCI */
	master[1].dev = v3.dev;
	list_add_tail(&master[0].domain_head, &domain->devices);
	list_add_tail(&master[1].domain_head, &domain->devices);
	pci_set_master(to_pci_dev(v3.dev));
	arm_smmu_sva_quarantine(domain, 1, V3_BASE, PAGE_SIZE, -ETIMEDOUT);
	KUNIT_EXPECT_FALSE(test, v3_is_master());
	KUNIT_EXPECT_FALSE(test, domain->quarantined);

	list_del(&master[0].domain_head);
	arm_smmu_sva_quarantine(domain, 1, V3_BASE, PAGE_SIZE, -ETIMEDOUT);
	KUNIT_EXPECT_TRUE(test, domain->quarantined);
	v3_replug(test);
}

/* Nothing is flushed for that domain. */
static void v3_newcomer_in_quarantine(struct kunit *test)
{
	pci_set_master(to_pci_dev(v3.dev));
	v3_unbind(v3_test(test));
	arm_smmu_master_disable_sva(v3.master);
	v3.master->ssid_bits = 0;
	iommu_detach_device(&v3.domain->domain, v3.dev);
	v3.domain->quarantined = true;
	v3.master->ssid_bits = V3_SSID_BITS;
	KUNIT_EXPECT_EQ(test, iommu_attach_device(&v3.domain->domain, v3.dev),
			0);
	KUNIT_EXPECT_EQ(test, arm_smmu_master_enable_sva(v3.master), 0);
	KUNIT_EXPECT_TRUE(test, pci_is_quarantined(to_pci_dev(v3.dev)));
	KUNIT_EXPECT_FALSE(test, v3_is_master());
	KUNIT_EXPECT_TRUE(test, v3.domain->quarantined);
	v3_replug(test);
}

/*
 * What it costs, as a table.  With ATS, a device has cached V3_WARM pages in its
 * ATC; without, the SMMU has.  What is left of them is of interest as well.
 */

#define V3_WARM		1024

/* Another device, if there is one, that shares the process. */
struct v3_second {
	struct pci_dev *pdev;
	struct arm_smmu_master *master;
	struct arm_smmu_domain *domain;
	struct iommu_sva *handle;
};

static void v3_bind_second(struct kunit *test, struct v3_second *second)
{
	struct v3_test *ctx = v3_test(test);

	get_device(v3.dev);	/* pci_get_device() puts it */
	second->pdev = pci_get_device(v3_ids[0].vendor, v3_ids[0].device,
				      to_pci_dev(v3.dev));
	if (!second->pdev)
		return;
	second->master = dev_iommu_priv_get(&second->pdev->dev);
	KUNIT_ASSERT_EQ(test, v3_attach_device(second->master,
					       &second->domain), 0);
	second->handle = arm_smmu_sva_bind(&second->pdev->dev, ctx->mm, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(second->handle));
}

/* For both. */
static void v3_set_all_ats(struct kunit *test, struct v3_second *second, bool on)
{
	v3_set_ats(test, on);
	if (second->pdev)
		v3_set_device_ats(second->master, second->domain, on);
}

static void v3_unbind_second(struct v3_second *second)
{
	if (!second->pdev)
		return;
	arm_smmu_sva_unbind(second->handle);
	v3_detach_device(second->master, second->domain);
	pci_dev_put(second->pdev);
}

static bool v3_is_of_warm_cache(const struct v3_cmd *cmd)
{
	if (v3.master->ats_enabled)
		return cmd->opcode == V3_ATC_INV &&
		       cmd->sid == v3.master->streams[0].id;
	return cmd->opcode != V3_ATC_INV && cmd->opcode != V3_SYNC;
}

/* @entry: pages that are one entry of the cache, which a part of them flushes */
static void v3_row(struct kunit *test, const char *what, unsigned int devices,
		   unsigned int entry, u64 changed, u64 ms)
{
	u64 first = V3_BASE >> PAGE_SHIFT, sum = 0, start, last;
	unsigned int i, page, waits = 0, left = V3_WARM;
	DECLARE_BITMAP(warm, V3_WARM) = { };
	struct v3_log *log = &v3_test(test)->log;

	v3_stop(log);
	for (i = 0; i < log->cmds; i++) {
		struct v3_cmd *cmd = &log->cmd[i];

		waits += cmd->opcode == V3_SYNC;
		if (!v3_is_of_warm_cache(cmd))
			continue;
		start = cmd->everything ? 0 : cmd->start >> PAGE_SHIFT;
		last = cmd->everything ? (TASK_SIZE - 1) >> PAGE_SHIFT :
					 cmd->last >> PAGE_SHIFT;
		start = round_down(start, entry);
		last |= entry - 1;
		sum += last - start + 1;
		for (page = 0; page < V3_WARM; page++)
			if (first + page >= start && first + page <= last)
				left -= !test_and_set_bit(page, warm);
	}
	kunit_info(test, "row\t%s%s\t%u\t%u\t%u\t%llu\t%llu\t%u\t%llu\n",
		   what, v3.master->ats_enabled ? "" : ", no ATS", devices,
		   log->cmds, waits, changed, sum, left, ms);
}

static void v3_map_advised(struct kunit *test, unsigned long len, int advice)
{
	vm_munmap(V3_BASE, 3 * PMD_SIZE);
	KUNIT_ASSERT_EQ(test, vm_mmap(NULL, V3_BASE, len,
				      PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				      0), V3_BASE);
	KUNIT_ASSERT_EQ(test, do_madvise(current->mm, V3_BASE, len, advice), 0);
	KUNIT_ASSERT_EQ(test, v3_write(V3_BASE, len), 0);
}

static void v3_munmap_row(struct kunit *test, unsigned int devices,
			  unsigned long addr, unsigned int pages,
			  const char *what)
{
	v3_map_advised(test, 3 * PMD_SIZE, MADV_NOHUGEPAGE);
	v3_record(&v3_test(test)->log);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, pages * PAGE_SIZE), 0);
	v3_row(test, what, devices, 1, pages, 0);
}

static void v3_rows(struct kunit *test, unsigned int devices)
{
	struct v3_test *ctx = v3_test(test);
	unsigned long addr = V3_BASE + 4 * PAGE_SIZE;
	unsigned int i;

	v3_munmap_row(test, devices, V3_BASE + PMD_SIZE, 1, "munmap 1");
	v3_munmap_row(test, devices, V3_BASE + PMD_SIZE, 4, "munmap 4");
	v3_munmap_row(test, devices, V3_BASE + PMD_SIZE, 64, "munmap 64");
	v3_munmap_row(test, devices, V3_BASE + PMD_SIZE, 512, "munmap 512");
	v3_munmap_row(test, devices, addr + PAGE_SIZE, 4,
		      "munmap 4, not aligned");

	v3_map_advised(test, V3_WARM * PAGE_SIZE, MADV_NOHUGEPAGE);
	v3_record(&ctx->log);
	KUNIT_ASSERT_EQ(test, v3_fork(&ctx->child), 0);
	v3_row(test, "fork", devices, 1, V3_WARM, 0);
	v3_record(&ctx->log);
	KUNIT_EXPECT_EQ(test, v3_write(addr, PAGE_SIZE), 0);
	v3_row(test, "copy on write", devices, 1, 1, 0);
	v3_exit_process(&ctx->child);

	v3_map_advised(test, V3_WARM * PAGE_SIZE, MADV_NOHUGEPAGE);
	v3_record(&ctx->log);
	for (i = 0; i < 16; i += 2)
		KUNIT_EXPECT_EQ(test, do_madvise(ctx->mm,
						 V3_BASE + i * PAGE_SIZE,
						 PAGE_SIZE, MADV_DONTNEED), 0);
	v3_row(test, "MADV_DONTNEED, 8 of 16", devices, 1, 8, 0);

	v3_map_advised(test, 2 * PMD_SIZE, MADV_HUGEPAGE);
	v3_record(&ctx->log);
	KUNIT_EXPECT_EQ(test, vm_munmap(V3_BASE, PAGE_SIZE), 0);
	v3_row(test, "munmap 1 of a huge page", devices, PTRS_PER_PTE, 1, 0);
}

static void v3_what_it_costs(struct kunit *test)
{
	struct v3_second second = { };
	unsigned int devices;

	kunit_info(test, "row\toperation\tdevices\tcommands\twaits\tpages changed\tpages flushed\tleft of %u\tms\n",
		   V3_WARM);
	v3_bind_second(test, &second);
	devices = second.pdev ? 2 : 1;
	v3_rows(test, devices);
	v3_set_all_ats(test, &second, true);
	v3_rows(test, devices);
	v3_set_all_ats(test, &second, false);
	v3_unbind_second(&second);
}

/* How long a CPU waits for an SMMU that has stopped, or goes on after a while. */

#define V3_STOP_MS	5000

static void v3_go_on(struct work_struct *work)
{
	v3_enable_commands(true);
}

static void v3_what_a_stop_costs(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	static DECLARE_DELAYED_WORK(go_on, v3_go_on);
	struct v3_second second = { };
	unsigned int i;
	u64 begin;

	v3_map_advised(test, V3_WARM * PAGE_SIZE, MADV_NOHUGEPAGE);
	v3_bind_second(test, &second);
	v3_set_all_ats(test, &second, true);
	v3_enable_commands(false);
	schedule_delayed_work(&go_on, msecs_to_jiffies(V3_STOP_MS));
	for (i = 0; i < 2; i++) {
		v3_record(&ctx->log);
		begin = ktime_get_ns();
		KUNIT_EXPECT_EQ(test, vm_munmap(V3_BASE + i * PAGE_SIZE,
						PAGE_SIZE), 0);
		v3_row(test, i ? "munmap 1, the next" :
				 "munmap 1, IOMMU stopped",
		       second.pdev ? 2 : 1, 1, 1,
		       div_u64(ktime_get_ns() - begin, NSEC_PER_MSEC));
	}
	flush_delayed_work(&go_on);
	v3_set_all_ats(test, &second, false);
	v3_unbind_second(&second);
	if (pci_is_quarantined(to_pci_dev(v3.dev)))
		v3_replug(test);
}

struct v3_blocker {
	struct mmu_notifier mn;
	struct v3_test *ctx;
	struct completion entered, leave, left, unbound;
};

static int v3_block(struct mmu_notifier *mn,
		    const struct mmu_notifier_range *range)
{
	struct v3_blocker *blocker = container_of(mn, struct v3_blocker, mn);

	complete(&blocker->entered);
	wait_for_completion(&blocker->leave);
	return 0;
}

static const struct mmu_notifier_ops v3_block_ops = {
	.invalidate_range_start = v3_block,
};

static int v3_blocked_caller(void *data)
{
	struct v3_blocker *blocker = data;
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, NULL,
				blocker->ctx->mm, V3_BASE, V3_BASE + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	kthread_complete_and_exit(&blocker->left, 0);
}

static int v3_unbinder(void *data)
{
	struct v3_blocker *blocker = data;

	v3_unbind(blocker->ctx);
	kthread_complete_and_exit(&blocker->unbound, 0);
}

/*
 * As long as somebody is inside the callbacks of the process, one of which may
 * be that of the SMMU, what this one uses has to stay: the context descriptor,
 * and the domain, which the caller of unbind may free.
 */
static void v3_unbind_waits_for_callbacks(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);
	struct v3_blocker blocker = { .mn.ops = &v3_block_ops, .ctx = ctx };
	struct arm_smmu_ctx_desc *cd = v3_notifier(test)->cd;
	unsigned int tries = 1000;

	init_completion(&blocker.entered);
	init_completion(&blocker.leave);
	init_completion(&blocker.left);
	init_completion(&blocker.unbound);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&blocker.mn, ctx->mm), 0);
	kthread_run(v3_blocked_caller, &blocker, "v3_caller");
	wait_for_completion(&blocker.entered);

	kthread_run(v3_unbinder, &blocker, "v3_unbinder");
	while (V3_CD_V(v3_descriptor(ctx->want.ssid, 0)))
		usleep_range(100, 200);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&blocker.unbound));
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&arm_smmu_asid_xa, ctx->want.asid),
			    (void *)cd);
	/* A process that exits needs that, while unbind waits for it. */
	while (!mutex_trylock(&sva_lock) && --tries)
		usleep_range(100, 200);
	KUNIT_EXPECT_GT(test, tries, 0U);
	if (tries)
		mutex_unlock(&sva_lock);

	complete(&blocker.leave);
	wait_for_completion(&blocker.left);
	wait_for_completion(&blocker.unbound);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&arm_smmu_asid_xa, ctx->want.asid),
			    NULL);
	mmu_notifier_unregister(&blocker.mn, ctx->mm);
}

/* An SMMU of which there is only the queue. */

struct v3_pretend {
	struct arm_smmu_device smmu;
	struct arm_smmu_domain domain;
	struct arm_smmu_master master;
	struct arm_smmu_stream stream;
	u32 pointer;
	struct v3_want want;
	struct v3_log log;
};

static struct v3_pretend *v3_pretend(struct kunit *test, u32 features)
{
	struct v3_pretend *pre;
	struct arm_smmu_queue *q;

	pre = kunit_kzalloc(test, sizeof(*pre), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pre);
	q = &pre->smmu.cmdq.q;
	q->llq.max_n_shift = 8;
	q->ent_dwords = 2;
	q->base = kunit_kzalloc(test, 16 << q->llq.max_n_shift, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, q->base);
	q->prod_reg = (u32 __force __iomem *)&pre->pointer;
	q->cons_reg = q->prod_reg;
	pre->smmu.cmdq.valid_map = kunit_kzalloc(test, BIT(q->llq.max_n_shift) / 8,
						 GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pre->smmu.cmdq.valid_map);
	pre->smmu.features = features;

	pre->domain.smmu = &pre->smmu;
	pre->domain.domain.pgsize_bitmap = PAGE_SIZE;
	INIT_LIST_HEAD(&pre->domain.devices);
	spin_lock_init(&pre->domain.devices_lock);
	pre->stream.id = 0x12345;
	pre->master.smmu = &pre->smmu;
	pre->master.streams = &pre->stream;
	pre->master.num_streams = 1;
	pre->master.ats_enabled = true;
	list_add(&pre->master.domain_head, &pre->domain.devices);
	atomic_set(&pre->domain.nr_ats_masters, 1);

	pre->want.va = V3_TLBI_NH_VA;
	pre->want.all = V3_TLBI_NH_ASID;
	pre->want.asid = 0xa51d;
	pre->want.tlbi = true;
	pre->want.sid = pre->stream.id;
	pre->want.ssid = 0x54321;
	pre->want.tg = features & ARM_SMMU_FEAT_RANGE_INV ? V3_TG : 0;
	pre->log.q = q;
	return pre;
}

static const char *v3_pretend_flush(struct v3_pretend *pre, u64 start, u64 size,
				    size_t granule, struct v3_flush *flush)
{
	v3_record(&pre->log);
	arm_smmu_tlb_inv_range_asid(start, size, pre->want.asid, granule,
				    pre->want.leaf, &pre->domain);
	v3_stop(&pre->log);
	return v3_judge(&pre->log, &pre->want, start, start + size - 1, flush);
}

/* Of all sizes and alignments, in the address space of each page size. */
static void v3_a_million_ranges(struct kunit *test)
{
	struct v3_pretend *pre = v3_pretend(test, ARM_SMMU_FEAT_RANGE_INV);
	struct rnd_state rnd;
	unsigned int i;

	prandom_seed_state(&rnd, 2);
	for (i = 0; i < 1000000; i++) {
		unsigned int random = prandom_u32_state(&rnd);
		unsigned int tg = random % 3 + 1, shift = 10 + 2 * tg;
		unsigned int all = (tg == 3 ? 52 : 48) - shift;
		unsigned int bits = (random >> 8) % all + 1;
		unsigned int zeros = (random >> 16) % bits;
		u64 pages, start;
		struct v3_flush flush;
		const char *wrong;

		pages = (u64)prandom_u32_state(&rnd) << 32 |
			prandom_u32_state(&rnd);
		pages = (pages % BIT_ULL(bits) + 1) >> zeros << zeros ?: 1;
		start = (u64)prandom_u32_state(&rnd) << 32 |
			prandom_u32_state(&rnd);
		start %= BIT_ULL(all) - pages + 1;
		pre->domain.domain.pgsize_bitmap = BIT(shift);
		pre->want.tg = tg;
		pre->want.leaf = random >> 31;
		wrong = v3_pretend_flush(pre, start << shift, pages << shift,
					 BIT(shift), &flush);
		if (!wrong && flush.tlbis > 8)
			wrong = "too many commands";
		if (wrong) {
			KUNIT_FAIL(test, "%llx pages of %u bits at %llx: %s",
				   pages, shift, start << shift, wrong);
			v3_dump(test, &pre->log);
			return;
		}
		if (!(i % 1024))
			cond_resched();
	}
}

/* What is in a page in part is flushed, too. */
static void v3_bytes_that_are_not_pages(struct kunit *test)
{
	struct v3_pretend *pre = v3_pretend(test, ARM_SMMU_FEAT_RANGE_INV);
	static const u64 ranges[][2] = {
		{ 0, 1 },
		{ PAGE_SIZE - 1, 2 },
		{ PAGE_SIZE / 2, PAGE_SIZE },
		{ SZ_1G + 1, 64 * PAGE_SIZE },
		{ 3 * PAGE_SIZE, 31 * PAGE_SIZE + 1 },
	};
	unsigned int i, step;

	for (step = 0; step < 2; step++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++) {
			u64 start = ALIGN_DOWN(ranges[i][0], PAGE_SIZE);
			u64 end = ALIGN(ranges[i][0] + ranges[i][1], PAGE_SIZE);
			struct v3_flush flush;
			const char *wrong;

			v3_record(&pre->log);
			arm_smmu_tlb_inv_range_asid(ranges[i][0], ranges[i][1],
						    pre->want.asid, PAGE_SIZE,
						    false, &pre->domain);
			v3_stop(&pre->log);
			wrong = v3_judge(&pre->log, &pre->want, start, end - 1,
					 &flush);
			KUNIT_EXPECT_PTR_EQ_MSG(test, wrong, NULL,
						"%llx bytes at %llx: %s",
						ranges[i][1], ranges[i][0],
						wrong ?: "");
		}
		pre->smmu.features = 0;
		pre->want.tg = 0;
	}
}

static void v3_asid_for_too_large_ranges(struct kunit *test)
{
	struct v3_pretend *pre = v3_pretend(test, ARM_SMMU_FEAT_RANGE_INV |
						  ARM_SMMU_FEAT_E2H);
	u64 most = BIT_ULL(36) - 1;
	struct v3_flush flush;

	pre->want.va = V3_TLBI_EL2_VA;
	pre->want.all = V3_TLBI_EL2_ASID;
	KUNIT_EXPECT_PTR_EQ(test, v3_pretend_flush(pre, 0, most << PAGE_SHIFT,
						   PAGE_SIZE, &flush), NULL);
	KUNIT_EXPECT_FALSE(test, flush.everything);
	KUNIT_EXPECT_PTR_EQ(test, v3_pretend_flush(pre, 0,
						   (most + 1) << PAGE_SHIFT,
						   PAGE_SIZE, &flush), NULL);
	KUNIT_EXPECT_TRUE(test, flush.everything);
	KUNIT_EXPECT_EQ(test, flush.tlbis, 1U);
	/* mmu_notifier_range_init(..., 0, -1UL) */
	KUNIT_EXPECT_PTR_EQ(test, v3_pretend_flush(pre, 0, U64_MAX, PAGE_SIZE,
						   &flush), NULL);
	KUNIT_EXPECT_TRUE(test, flush.everything);
	KUNIT_EXPECT_EQ(test, flush.tlbis, 1U);
}

static void v3_atc_of_all_ranges(struct kunit *test)
{
	struct v3_pretend *pre = v3_pretend(test, ARM_SMMU_FEAT_ATS);
	struct rnd_state rnd;
	unsigned int i;

	pre->want.tlbi = false;
	pre->want.ats = true;
	prandom_seed_state(&rnd, 3);
	for (i = 0; i < 100000; i++) {
		u64 size = (u64)prandom_u32_state(&rnd) << 32 |
			   prandom_u32_state(&rnd);
		u64 start = (u64)prandom_u32_state(&rnd) << 32 |
			    prandom_u32_state(&rnd);
		u64 last;
		struct v3_flush flush;
		const char *wrong;

		size >>= prandom_u32_state(&rnd) % 64;
		start >>= prandom_u32_state(&rnd) % 64;
		size = min(size, U64_MAX - start) ?: 1;
		/* the first two: size 0, which is everything, and the most */
		if (i < 2)
			start = 0;
		if (i < 2)
			size = i ? U64_MAX : 0;
		last = start + size - 1;
		v3_record(&pre->log);
		arm_smmu_atc_inv_domain(&pre->domain, pre->want.ssid, start,
					size);
		v3_stop(&pre->log);
		wrong = v3_judge(&pre->log, &pre->want, start, last, &flush);
		if (wrong) {
			KUNIT_FAIL(test, "%llx bytes at %llx: %s", size, start,
				   wrong);
			v3_dump(test, &pre->log);
			return;
		}
	}
}

/* The same encoder serves the DMA API: last level only, and stage 2. */
static void v3_ranges_of_the_dma_api(struct kunit *test)
{
	struct v3_pretend *pre = v3_pretend(test, ARM_SMMU_FEAT_RANGE_INV);
	const struct iommu_domain_ops *ops = v3.domain->domain.ops;
	static const u64 pages[] = {
		1, 33, BIT_ULL(20) - 1, BIT_ULL(32), BIT_ULL(34) + 512,
		BIT_ULL(36) - 1, BIT_ULL(36)
	};
	unsigned int i, stage;

	pre->domain.s1_cfg.cd.asid = pre->want.asid;
	for (stage = 1; stage <= 2; stage++) {
		for (i = 0; i < ARRAY_SIZE(pages); i++) {
			struct iommu_iotlb_gather gather = {
				.start = SZ_1G,
				.end = SZ_1G + (pages[i] << PAGE_SHIFT) - 1,
				.pgsize = PAGE_SIZE,
			};
			struct v3_flush flush;
			const char *wrong;

			pre->want.leaf = true;
			v3_record(&pre->log);
			ops->iotlb_sync(&pre->domain.domain, &gather);
			v3_stop(&pre->log);
			wrong = v3_judge(&pre->log, &pre->want, gather.start,
					 gather.end, &flush);
			KUNIT_EXPECT_PTR_EQ_MSG(test, wrong, NULL,
						"stage %u, %llx pages: %s",
						stage, pages[i], wrong ?: "");
			KUNIT_EXPECT_EQ(test, flush.everything,
					pages[i] == BIT_ULL(36));
			if (wrong)
				v3_dump(test, &pre->log);
		}
		pre->domain.stage = ARM_SMMU_DOMAIN_S2;
		pre->domain.s2_cfg.vmid = 0x4321;
		pre->want.va = V3_TLBI_S2_IPA;
		pre->want.all = V3_TLBI_S12_VMALL;
		pre->want.asid = 0;
		pre->want.vmid = 0x4321;
	}
}

static struct kunit_case v3_cases[] = {
	KUNIT_CASE(v3_munmap_of_one_page),
	KUNIT_CASE(v3_ranges_that_are_not_aligned),
	KUNIT_CASE(v3_edges_of_num_and_scale),
	KUNIT_CASE(v3_whole_address_space),
	KUNIT_CASE(v3_fork_of_text_to_stack),
	KUNIT_CASE(v3_fork_of_many_layouts),
	KUNIT_CASE(v3_asid_when_it_is_cheaper),
	KUNIT_CASE(v3_without_range_commands),
	KUNIT_CASE(v3_with_an_atc),
	KUNIT_CASE(v3_only_the_atc_with_btm),
	KUNIT_CASE(v3_as_qemu_sees_it),
	KUNIT_CASE(v3_ranges_of_the_dma_api),
	KUNIT_CASE(v3_bind_and_unbind),
	KUNIT_CASE(v3_exit_then_unbind),
	KUNIT_CASE(v3_unbind_waits_for_callbacks),
	KUNIT_CASE(v3_completion_never_comes),
	KUNIT_CASE(v3_bind_cannot_flush),
	KUNIT_CASE(v3_device_that_cannot_be_cut_off),
	KUNIT_CASE(v3_newcomer_in_quarantine),
	KUNIT_CASE(v3_what_it_costs),
	KUNIT_CASE(v3_what_a_stop_costs),
	{ }
};

static int v3_init(struct kunit *test)
{
	struct v3_test *ctx;
	bool e2h;

	if (v3.missing)
		kunit_skip(test, "%s", v3.missing);
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

	ctx->handle = arm_smmu_sva_bind(v3.dev, ctx->mm, NULL);
	if (IS_ERR(ctx->handle)) {
		int ret = PTR_ERR(ctx->handle);

		ctx->handle = NULL;
		return ret;
	}
	e2h = v3.features & ARM_SMMU_FEAT_E2H;
	ctx->want.va = e2h ? V3_TLBI_EL2_VA : V3_TLBI_NH_VA;
	ctx->want.all = e2h ? V3_TLBI_EL2_ASID : V3_TLBI_NH_ASID;
	ctx->want.asid = v3_notifier(test)->cd->asid;
	ctx->want.tlbi = true;
	ctx->want.tg = v3.features & ARM_SMMU_FEAT_RANGE_INV ? V3_TG : 0;
	ctx->want.sid = v3.master->streams[0].id;
	ctx->want.ssid = ctx->mm->pasid;
	ctx->log.q = &v3.smmu->cmdq.q;
	return 0;
}

static void v3_exit(struct kunit *test)
{
	struct v3_test *ctx = v3_test(test);

	if (!ctx)
		return;
	if (v3.domain)
		v3_set_ats(test, false);
	v3.smmu->features = v3.features;
	v3_unbind(ctx);
	v3_exit_process(&ctx->child);
	/* A case that gave up took its thread, and the mm with it. */
	if (ctx->mm && current->mm == ctx->mm) {
		kthread_unuse_mm(ctx->mm);
		mmput(ctx->mm);
	}
}

static struct kunit_suite v3_suite = {
	.name = "arm_smmu_v3_sva",
	.suite_init = v3_suite_init,
	.suite_exit = v3_suite_exit,
	.init = v3_init,
	.exit = v3_exit,
	.test_cases = v3_cases,
};

static struct kunit_case v3_encoding_cases[] = {
	KUNIT_CASE(v3_a_million_ranges),
	KUNIT_CASE(v3_bytes_that_are_not_pages),
	KUNIT_CASE(v3_atc_of_all_ranges),
	KUNIT_CASE(v3_asid_for_too_large_ranges),
	{ }
};

static struct kunit_suite v3_encoding_suite = {
	.name = "arm_smmu_v3_encoding",
	.test_cases = v3_encoding_cases,
};

kunit_test_suites(&v3_suite, &v3_encoding_suite);
