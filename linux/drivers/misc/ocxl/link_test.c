// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the translations that an OpenCAPI link caches; part of link.c.
 *
 * The cases attach processes to a link, have their MMU notifiers called, and
 * look at what the driver wrote to the ATSD registers, which are memory here.
 * A kretprobe of pnv_ocxl_tlb_invalidate() reads them each time that function
 * has come to its end.
 *
 * The firmware of powernv is not there.  Kprobes take the place of functions
 * that call it or read its device tree.  In a guest, LPID and LPCR cannot be
 * read either, and kprobes skip the instructions that do.  The driver's own
 * code runs, and so does pnv_ocxl_tlb_invalidate().
 *
 * The device is one that no driver wants, with functions that share the link.
 * The capabilities of OpenCAPI are put into its configuration space.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/hrtimer.h>
#include <linux/irq.h>
#include <linux/kallsyms.h>
#include <linux/kmsg_dump.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>
#include <asm/tlb.h>
#include <misc/ocxl-config.h>

#define OC_FUNCTIONS	2
#define OC_AFUS		2
#define OC_PASID	0x21
#define OC_BASE		0x10000000UL
#define OC_FAR		0x7f0000000UL
#define OC_EVENTS	4096

/* Registers */
#define OC_LNCH		0
#define OC_AVA		1
#define OC_STAT		2
#define OC_PENDING	cpu_to_be64(BIT_ULL(63))
#define OC_POISON	0xdead0badULL

/* What is behind the launch of a shootdown */
enum oc_link_state {
	OC_AT_ONCE,	/* it has been done when the driver looks */
	OC_SLOW,	/* it is done later */
#if TREE < 612
	OC_CREEP,	/* it is done after a third of the time limit */
	OC_DEAD,	/* it is never done */
#endif
};

enum oc_what {
	OC_LAUNCH,
	OC_CLEAR_CACHE,
	OC_TERMINATE,
#if TREE < 612
	OC_DISABLE,
#endif
	OC_UNMAP,
};

struct oc_event {
	enum oc_what what;
	u64 lnch, ava;		/* OC_LAUNCH: the registers */
	bool pending;		/* OC_LAUNCH: not done when the driver went on */
#if TREE < 612
	int ret;		/* OC_LAUNCH: what it was told */
#endif
	u32 pasid;		/* OC_CLEAR_CACHE, OC_TERMINATE */
#if TREE < 612
	unsigned int function;	/* OC_DISABLE */
#endif
	bool valid;		/* the process element of OC_PASID */
};

/* At 0x100: DVSEC of the function; then one for the control of each AFU. */
#define OC_CAP		0x100
#define OC_CAP_SIZE	0x40
#define OC_CTRL(afu)	(OC_CAP + OC_CAP_SIZE * ((afu) + 1))
#define OC_CAP_END	OC_CTRL(OC_AFUS)

static struct {
	const char *missing;
	bool probes;

	/* the device */
	struct pci_bus *bus;
	unsigned int slot;
	struct pci_ops *ops;
	struct pci_dev *dev[OC_FUNCTIONS];
	u32 cap[OC_FUNCTIONS][(OC_CAP_END - OC_CAP) / 4];
#if TREE < 612
	bool gone;		/* config space reads as all ones */
#endif
	bool never_ends;	/* a PASID that is to be terminated */

	/* the link */
	__be64 regs[3];
	u64 xsl[4];
	enum oc_link_state state;
	struct hrtimer hardware;
	bool snoops;
	struct ocxl_process_element *spa;
	unsigned int virq;

	/* the driver's side */
	struct ocxl_link *link;
	unsigned int joined;	/* functions that have the link */
	struct ocxl_fn fn;
	struct ocxl_afu afu;

	/* what was seen */
	raw_spinlock_t lock;
	struct oc_event event[OC_EVENTS];
	unsigned int events;
	atomic_t running;
	unsigned int at_once;	/* launches that met another one */
	struct mm_struct *exits;
} oc = {
	.afu.contexts_idr = IDR_INIT(oc.afu.contexts_idr),
};

static struct oc_event *oc_add(enum oc_what what)
{
	static struct oc_event lost;
	struct oc_event *event = &lost;
	unsigned long flags;

	raw_spin_lock_irqsave(&oc.lock, flags);
	if (oc.events < OC_EVENTS)
		event = &oc.event[oc.events++];
	raw_spin_unlock_irqrestore(&oc.lock, flags);
	memset(event, 0, sizeof(*event));
	event->what = what;
	if (oc.spa)
		event->valid = oc.spa[OC_PASID].software_state & cpu_to_be32(BIT(31));
	return event;
}

static void oc_forget(void)
{
	oc.events = 0;
	oc.at_once = 0;
}

/* The events of one kind, or all of them. */
static unsigned int oc_count(enum oc_what what)
{
	unsigned int i, n = 0;

	for (i = 0; i < oc.events; i++)
		n += oc.event[i].what == what;
	return n;
}

/* The place of the first of them, or that behind the last event. */
static unsigned int oc_first(enum oc_what what)
{
	unsigned int i;

	for (i = 0; i < oc.events && oc.event[i].what != what; i++)
		;
	return i;
}

/* Configuration space */

static unsigned int oc_afu_of(int where)
{
	return (where - OC_CTRL(0)) / OC_CAP_SIZE;
}

static bool oc_is_cap(unsigned int devfn, int where)
{
	return PCI_SLOT(devfn) == oc.slot && PCI_FUNC(devfn) < OC_FUNCTIONS &&
	       where >= OC_CAP;
}

static int oc_read(struct pci_bus *bus, unsigned int devfn, int where,
		   int size, u32 *val)
{
	u32 dword = 0;

#if TREE < 612
	if (oc.gone && PCI_SLOT(devfn) == oc.slot) {
		*val = ~0U;
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
#endif
	if (!oc_is_cap(devfn, where))
		return oc.ops->read(bus, devfn, where, size, val);
	if (where < OC_CAP_END)
		dword = oc.cap[PCI_FUNC(devfn)][(where - OC_CAP) / 4];
	*val = dword >> (8 * (where & 3)) & GENMASK(8 * size - 1, 0);
	return PCIBIOS_SUCCESSFUL;
}

static int oc_write(struct pci_bus *bus, unsigned int devfn, int where,
		    int size, u32 val)
{
	unsigned int fn = PCI_FUNC(devfn), shift = 8 * (where & 3);
	u32 *reg;

#if TREE < 612
	if (oc.gone && PCI_SLOT(devfn) == oc.slot)
		return PCIBIOS_DEVICE_NOT_FOUND;
#endif
	if (!oc_is_cap(devfn, where))
		return oc.ops->write(bus, devfn, where, size, val);
	if (where < OC_CTRL(0) || where >= OC_CAP_END)
		return PCIBIOS_SUCCESSFUL;
	reg = &oc.cap[fn][(where - OC_CAP) / 4];
	*reg &= ~(GENMASK(8 * size - 1, 0) << shift);
	*reg |= val << shift;
	switch (where - OC_CTRL(oc_afu_of(where))) {
	case OCXL_DVSEC_AFU_CTRL_TERM_PASID:
		oc_add(OC_TERMINATE)->pasid = val & GENMASK(19, 0);
		if (!oc.never_ends)
			*reg &= ~BIT(20);
		break;
#if TREE < 612
	case OCXL_DVSEC_AFU_CTRL_ENABLE:
		if (!(val & 1))
			oc_add(OC_DISABLE)->function = fn;
		break;
#endif
	}
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops oc_ops = {
	.read = oc_read,
	.write = oc_write,
};

#if TREE < 612
static bool oc_is_enabled(unsigned int fn, unsigned int afu)
{
	return oc.cap[fn][(OC_CTRL(afu) + OCXL_DVSEC_AFU_CTRL_TERM_PASID -
			   OC_CAP) / 4] & BIT(24);
}

static bool oc_is_master(unsigned int fn)
{
	u16 cmd;

	pci_read_config_word(oc.dev[fn], PCI_COMMAND, &cmd);
	return cmd & PCI_COMMAND_MASTER;
}
#endif

/* As they are after a reset, but that the AFUs are enabled. */
static void oc_reset_config(void)
{
	unsigned int fn, afu;
	u32 *cap;

	memset(oc.cap, 0, sizeof(oc.cap));
	for (fn = 0; fn < OC_FUNCTIONS; fn++) {
		cap = oc.cap[fn];
		cap[0] = OC_CTRL(0) << 20 | 1 << 16 | OCXL_EXT_CAP_ID_DVSEC;
		cap[1] = PCI_VENDOR_ID_IBM;
		cap[2] = OCXL_DVSEC_FUNC_ID;
		for (afu = 0; afu < OC_AFUS; afu++) {
			cap = &oc.cap[fn][(OC_CTRL(afu) - OC_CAP) / 4];
			cap[0] = 1 << 16 | OCXL_EXT_CAP_ID_DVSEC;
			if (afu + 1 < OC_AFUS)
				cap[0] |= OC_CTRL(afu + 1) << 20;
			cap[1] = PCI_VENDOR_ID_IBM;
			cap[2] = OCXL_DVSEC_AFU_CTRL_ID | afu << 16;
			cap[3] = BIT(24);
		}
	}
}

/* Shootdowns */

/* A link that needs its time.  All CPUs can be waiting for it. */
static enum hrtimer_restart oc_hardware(struct hrtimer *timer)
{
	if (!READ_ONCE(oc.regs[OC_LNCH])) {
		hrtimer_forward_now(timer, ns_to_ktime(100 * NSEC_PER_USEC));
		return HRTIMER_RESTART;
	}
	WRITE_ONCE(oc.regs[OC_STAT], 0);
	return HRTIMER_NORESTART;
}

static int oc_launch(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (regs->gpr[3] != (unsigned long)oc.regs)
		return 1;
	if (atomic_inc_return(&oc.running) != 1)
		oc.at_once++;
	oc.regs[OC_LNCH] = 0;
	oc.regs[OC_AVA] = cpu_to_be64(OC_POISON);
	WRITE_ONCE(oc.regs[OC_STAT], oc.state == OC_AT_ONCE ? 0 : OC_PENDING);
#if TREE < 612
	if (oc.state == OC_SLOW || oc.state == OC_CREEP)
		hrtimer_start(&oc.hardware,
			      ms_to_ktime(oc.state == OC_SLOW ? 1 : 300),
			      HRTIMER_MODE_REL);
#else
	if (oc.state == OC_SLOW)
		hrtimer_start(&oc.hardware, ms_to_ktime(1), HRTIMER_MODE_REL);
#endif
	return 0;
}

static int oc_launched(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct oc_event *event = oc_add(OC_LAUNCH);

	event->lnch = be64_to_cpu(oc.regs[OC_LNCH]);
	event->ava = be64_to_cpu(oc.regs[OC_AVA]);
	event->pending = READ_ONCE(oc.regs[OC_STAT]);
#if TREE < 612
	event->ret = regs_return_value(regs);
#endif
	atomic_dec(&oc.running);
	return 0;
}

static struct kretprobe oc_tlb_invalidate = {
	.kp.symbol_name = "pnv_ocxl_tlb_invalidate",
	.entry_handler = oc_launch,
	.handler = oc_launched,
	.maxactive = 64,
};

/* The bits from @first to @last as IBM counts them */
static u64 oc_field(u64 reg, unsigned int first, unsigned int last)
{
	return reg >> (63 - last) & GENMASK_ULL(last - first, 0);
}

/* Why this is no shootdown of @addr, or of all if that is 0, in process @pid */
static const char *oc_wrong(const struct oc_event *event, u64 pid, u64 addr)
{
	u64 lnch = event->lnch;
	u64 size = PAGE_SHIFT == 16 ? 5 : 0;
	bool all = !addr;

	if (event->what != OC_LAUNCH)
		return "no launch";
	if (event->pending)
		return "not waited for";
#if TREE < 612
	if (event->ret)
		return "said to have failed";
#endif
	if (!oc_field(lnch, 0, 0))
		return "not for the radix MMU";
	if (oc_field(lnch, 1, 2) != 2)
		return "not for all caches";
	if (oc_field(lnch, 3, 10))
		return "for another partition";
	if (oc_field(lnch, 11, 12) != all)
		return all ? "not for all of the process" : "not for an address";
	if (!oc_field(lnch, 13, 13))
		return "not for a process";
	if (oc_field(lnch, 14, 14) || oc_field(lnch, 18, 18) ||
	    oc_field(lnch, 39, 40) || oc_field(lnch, 42, 63))
		return "has other bits";
	if (oc_field(lnch, 15, 17) != size)
		return "for another page size";
	if (oc_field(lnch, 19, 38) != pid)
		return "for another process";
	if (oc_field(lnch, 41, 41) != all)
		return "another number of its kind";
	if (event->ava != (addr ?: OC_POISON))
		return "for another address";
	return NULL;
}

/* These pages, one after the other, and no others; or all of the process */
static void oc_expect_from(struct kunit *test, unsigned int from,
			   struct mm_struct *mm, unsigned long start,
			   unsigned long pages)
{
	unsigned long i, n = start ? pages : 1;
	const char *wrong;

	KUNIT_EXPECT_EQ(test, oc.events - from, n);
	for (i = 0; i < min_t(unsigned long, n, oc.events - from); i++) {
		wrong = oc_wrong(&oc.event[from + i], mm->context.id,
				 start ? start + i * PAGE_SIZE : 0);
		if (!wrong)
			continue;
		KUNIT_FAIL(test, "shootdown %lu of %lu, launch %llx, address %llx: %s",
			   i, n, oc.event[from + i].lnch, oc.event[from + i].ava,
			   wrong);
		return;
	}
}

static void oc_expect(struct kunit *test, struct mm_struct *mm,
		      unsigned long start, unsigned long pages)
{
	oc_expect_from(test, 0, mm, start, pages);
}

static void oc_expect_all(struct kunit *test, unsigned int from,
			  struct mm_struct *mm)
{
	oc_expect_from(test, from, mm, 0, 1);
}

/* What takes the place of a function or an instruction */

struct oc_instead {
	struct kprobe kp;
	/* Returns what the function returns; false to call the function */
	bool (*act)(struct pt_regs *regs, unsigned long *ret);
};

static int oc_pre_handler(struct kprobe *kp, struct pt_regs *regs)
{
	struct oc_instead *in = container_of(kp, struct oc_instead, kp);
	unsigned long ret = 0;

	if (!in->act(regs, &ret))
		return 0;
	regs->gpr[3] = ret;
	regs_set_return_ip(regs, regs->link);
	return 1;
}

/* A probe with one is not optimized: it may change where execution goes on. */
static void oc_post_handler(struct kprobe *kp, struct pt_regs *regs,
			    unsigned long flags)
{
}

static bool oc_nothing(struct pt_regs *regs, unsigned long *ret)
{
	return true;
}

static bool oc_get_xsl_irq(struct pt_regs *regs, unsigned long *ret)
{
	*(int *)regs->gpr[4] = 1;
	return true;
}

static bool oc_map_xsl_regs(struct pt_regs *regs, unsigned long *ret)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		*(u64 **)regs->gpr[4 + i] = &oc.xsl[i];
	return true;
}

static bool oc_create_mapping(struct pt_regs *regs, unsigned long *ret)
{
	*ret = oc.virq;
	return !regs->gpr[3] && regs->gpr[4] == 1;
}

static bool oc_dispose_mapping(struct pt_regs *regs, unsigned long *ret)
{
	return regs->gpr[3] == oc.virq;
}

static bool oc_spa_setup(struct pt_regs *regs, unsigned long *ret)
{
	oc.spa = (struct ocxl_process_element *)regs->gpr[4];
	*(void **)regs->gpr[6] = &oc;
	return true;
}

static bool oc_spa_release(struct pt_regs *regs, unsigned long *ret)
{
	oc.spa = NULL;
	return true;
}

static bool oc_remove_pe(struct pt_regs *regs, unsigned long *ret)
{
	oc_add(OC_CLEAR_CACHE)->pasid = regs->gpr[4];
	return true;
}

static bool oc_map_lpar(struct pt_regs *regs, unsigned long *ret)
{
	if (!oc.snoops)
		*(void **)regs->gpr[6] = oc.regs;
	return true;
}

/* Nobody's place, but it is seen when a process gives up its memory. */
static bool oc_unmap_vmas(struct pt_regs *regs, unsigned long *ret)
{
	if (oc.exits && ((struct mmu_gather *)regs->gpr[3])->mm == oc.exits)
		oc_add(OC_UNMAP);
	return false;
}

#define OC_INSTEAD(_name, _act)				\
	{ .kp.symbol_name = _name,			\
	  .kp.pre_handler = oc_pre_handler,		\
	  .kp.post_handler = oc_post_handler,		\
	  .act = _act }

static struct oc_instead oc_functions[] = {
	OC_INSTEAD("pnv_ocxl_get_xsl_irq", oc_get_xsl_irq),
	OC_INSTEAD("pnv_ocxl_map_xsl_regs", oc_map_xsl_regs),
	OC_INSTEAD("pnv_ocxl_unmap_xsl_regs", oc_nothing),
	OC_INSTEAD("irq_create_mapping_affinity", oc_create_mapping),
	OC_INSTEAD("irq_dispose_mapping", oc_dispose_mapping),
	OC_INSTEAD("pnv_ocxl_spa_setup", oc_spa_setup),
	OC_INSTEAD("pnv_ocxl_spa_release", oc_spa_release),
	OC_INSTEAD("pnv_ocxl_spa_remove_pe_from_cache", oc_remove_pe),
	OC_INSTEAD("pnv_ocxl_map_lpar", oc_map_lpar),
	OC_INSTEAD("pnv_ocxl_unmap_lpar", oc_nothing),
	OC_INSTEAD("unmap_vmas", oc_unmap_vmas),
};

/* mfspr of LPID and LPCR: both are 0. */

static u32 oc_mfspr_of(u32 spr)
{
	return 0x7c0002a6 | (spr & 0x1f) << 16 | (spr & 0x3e0) << 6;
}

static int oc_skip_mfspr(struct kprobe *kp, struct pt_regs *regs)
{
	regs->gpr[*(u32 *)&kp->opcode >> 21 & 0x1f] = 0;
	regs_add_return_ip(regs, 4);
	return 1;
}

static struct kprobe oc_mfspr[16];
static unsigned int oc_mfsprs;

static int oc_skip_in(void *function)
{
	unsigned long addr = (unsigned long)dereference_function_descriptor(function);
	unsigned long size, offset, at;
	int ret;
	u32 insn;

	if (!kallsyms_lookup_size_offset(addr, &size, &offset))
		return -ENOENT;
	for (at = addr - offset; at < addr - offset + size; at += 4) {
		insn = *(u32 *)at & ~(0x1f << 21);
		if (insn != oc_mfspr_of(SPRN_LPID) && insn != oc_mfspr_of(SPRN_LPCR))
			continue;
		if (oc_mfsprs == ARRAY_SIZE(oc_mfspr))
			return -ENOSPC;
		oc_mfspr[oc_mfsprs] = (struct kprobe) {
			.addr = (kprobe_opcode_t *)at,
			.pre_handler = oc_skip_mfspr,
			.post_handler = oc_post_handler,
		};
		ret = register_kprobe(&oc_mfspr[oc_mfsprs]);
		if (ret)
			return ret;
		oc_mfsprs++;
	}
	return 0;
}

/* A process that is attached */

struct oc_process {
	struct mm_struct *mm;
	struct ocxl_context *ctx;
};

static int oc_attach(struct oc_process *proc)
{
	int ret;

	ret = ocxl_context_alloc(&proc->ctx, &oc.afu, NULL);
	if (ret)
		return ret;
	ret = ocxl_context_attach(proc->ctx, 0, proc->mm);
	if (ret) {
		ocxl_context_free(proc->ctx);
		proc->ctx = NULL;
	}
	return ret;
}

static int oc_detach(struct oc_process *proc)
{
	int ret = 0;

	if (proc->ctx)
		ret = ocxl_context_detach(proc->ctx);
	if (proc->ctx && !ret)
		ocxl_context_free(proc->ctx);
	proc->ctx = NULL;
	return ret;
}

static struct mm_struct *oc_new_mm(void)
{
	struct mm_struct *mm = mm_alloc();

	if (mm) {
		arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
		mm->task_size = TASK_SIZE;
	}
	return mm;
}

static int oc_find(unsigned int fn)
{
	oc.dev[fn] = pci_get_slot(oc.bus, PCI_DEVFN(oc.slot, fn));
	if (!oc.dev[fn])
		return -ENODEV;
	oc.dev[fn]->cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	pci_set_master(oc.dev[fn]);
	return 0;
}

/* As the driver does when it is unbound from all functions */
static void oc_leave(void)
{
	while (oc.joined)
		ocxl_link_release(oc.dev[--oc.joined], oc.link);
	oc.link = NULL;
}

#if TREE < 612
/* The functions are removed and found again; nothing of the link is left. */
static int oc_replug(void)
{
	unsigned int fn;

	oc_leave();
	pci_lock_rescan_remove();
	for (fn = 0; fn < OC_FUNCTIONS; fn++) {
		pci_stop_and_remove_bus_device(oc.dev[fn]);
		pci_dev_put(oc.dev[fn]);
		oc.dev[fn] = NULL;
	}
	oc_reset_config();
	pci_rescan_bus(oc.bus);
	pci_unlock_rescan_remove();
	for (fn = 0; fn < OC_FUNCTIONS; fn++)
		if (oc_find(fn))
			oc.missing = "the device did not come back";
	return oc.missing ? -ENODEV : 0;
}
#endif

/* As the driver does when it is bound to a function */
static int oc_setup(void)
{
	void *link;
	int ret;

	ret = ocxl_link_setup(oc.dev[oc.joined], 0, &link);
	if (ret)
		return ret;
	oc.joined++;
	oc.link = link;
	oc.fn.link = link;
	oc.fn.dev.parent = &oc.dev[0]->dev;
	return 0;
}

struct oc_test {
	struct oc_process own, other;
};

static struct oc_test *oc_test(struct kunit *test)
{
	return test->priv;
}

/* Maps @pages of memory at @addr, and writes to each. */
static int oc_map_pages(unsigned long addr, unsigned long pages)
{
	unsigned long i;

	if (vm_mmap(NULL, addr, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) != addr)
		return -ENOMEM;
	for (i = 0; i < pages; i++)
		if (put_user(1, (u8 __user *)(addr + i * PAGE_SIZE)))
			return -EFAULT;
	return 0;
}

static void oc_map(struct kunit *test, unsigned long addr, unsigned long pages)
{
	KUNIT_ASSERT_EQ(test, oc_map_pages(addr, pages), 0);
	oc_forget();
}

/* What a flush of any range would be called with */
static void oc_flush(struct oc_process *proc, unsigned long start,
		     unsigned long end)
{
	mmap_read_lock(proc->mm);
#if TREE < 612
	mmu_notifier_invalidate_range(proc->mm, start, end);
#else
	mmu_notifier_arch_invalidate_secondary_tlbs(proc->mm, start, end);
#endif
	mmap_read_unlock(proc->mm);
}

#if TREE < 612
/* The same for ranges that core would not let through */
static void oc_call(struct oc_process *proc, unsigned long start,
		    unsigned long end)
{
	struct pe_data *pe_data;

	pe_data = radix_tree_lookup(&oc.link->spa->pe_tree, proc->ctx->pasid);
	pe_data->mmu_notifier.ops->invalidate_range(&pe_data->mmu_notifier,
						    proc->mm, start, end);
}
#endif

/*
 * A driver that sends one shootdown for each page needs years for all addresses.
 * A case that has them flushed is better given up.
 */
static void oc_assert_few_for_many(struct kunit *test)
{
	oc_forget();
	oc_flush(&oc_test(test)->own, OC_BASE, OC_BASE + 64 * PAGE_SIZE);
	KUNIT_ASSERT_LT_MSG(test, oc.events, 64U,
			    "a flush of all addresses would not end");
	oc_forget();
}

/* Memory management reaches the link. */

static void oc_munmap_of_pages(struct kunit *test)
{
	struct mm_struct *mm = oc_test(test)->own.mm;

	oc_map(test, OC_BASE, 8);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE + PAGE_SIZE, PAGE_SIZE), 0);
	oc_expect(test, mm, OC_BASE + PAGE_SIZE, 1);

	oc_forget();
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE + 3 * PAGE_SIZE,
					4 * PAGE_SIZE), 0);
	oc_expect(test, mm, OC_BASE + 3 * PAGE_SIZE, 4);
}

static void oc_mprotect_of_pages(struct kunit *test)
{
	struct mm_struct *mm = oc_test(test)->own.mm;
	struct vm_area_struct *vma, *prev;
#if TREE >= 612
	struct vma_iterator vmi;
#endif
	struct mmu_gather tlb;

	oc_map(test, OC_BASE, 8);
	mmap_write_lock(mm);
	vma = find_vma_prev(mm, OC_BASE, &prev);
	tlb_gather_mmu(&tlb, mm);
#if TREE < 612
	KUNIT_EXPECT_EQ(test, mprotect_fixup(&tlb, vma, &prev, OC_BASE,
					     OC_BASE + 5 * PAGE_SIZE,
					     vma->vm_flags & ~VM_WRITE), 0);
#else
	vma_iter_init(&vmi, mm, OC_BASE);
	vma_find(&vmi, OC_BASE + 5 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, mprotect_fixup(&vmi, &tlb, vma, &prev, OC_BASE,
					     OC_BASE + 5 * PAGE_SIZE,
					     vma->vm_flags & ~VM_WRITE), 0);
#endif
	tlb_finish_mmu(&tlb);
	mmap_write_unlock(mm);
	oc_expect(test, mm, OC_BASE, 5);
}

struct oc_child {
	struct completion ready, leave, left;
};

static int oc_child_run(void *data)
{
	struct oc_child *child = data;

	complete(&child->ready);
	wait_for_completion(&child->leave);
	complete(&child->left);
	do_exit(0);
}

static void oc_fork_and_write(struct kunit *test)
{
	struct mm_struct *mm = oc_test(test)->own.mm;
	struct oc_child child;
	struct kernel_clone_args args = {
		.flags = CLONE_FS | CLONE_FILES | CLONE_UNTRACED,
		.exit_signal = SIGCHLD,
		.fn = oc_child_run,
		.fn_arg = &child,
	};
	pid_t pid;

	init_completion(&child.ready);
	init_completion(&child.leave);
	init_completion(&child.left);
	oc_assert_few_for_many(test);
	oc_map(test, OC_BASE, 3);
	oc_map(test, OC_FAR, 2);
	pid = kernel_clone(&args);
	KUNIT_ASSERT_GT(test, pid, 0);
	wait_for_completion(&child.ready);
	oc_expect_all(test, 0, mm);

	oc_forget();
	KUNIT_EXPECT_EQ(test, put_user(2, (u8 __user *)OC_FAR), 0);
	oc_expect(test, mm, OC_FAR, 1);

	oc_forget();
	complete(&child.leave);
	wait_for_completion(&child.left);
}

/* A page table goes with the last of its pages. */
static void oc_munmap_of_a_table(struct kunit *test)
{
	struct mm_struct *mm = oc_test(test)->own.mm;
	unsigned long pages = PMD_SIZE / PAGE_SIZE - 1;

	oc_assert_few_for_many(test);
	oc_map(test, OC_BASE, pages);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, (pages - 1) * PAGE_SIZE), 0);
	oc_expect(test, mm, OC_BASE, pages - 1);

	oc_forget();
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, pages * PAGE_SIZE), 0);
	oc_expect_all(test, 0, mm);
}

static void oc_munmap_of_a_huge_page(struct kunit *test)
{
	struct mm_struct *mm = oc_test(test)->own.mm;
	struct vm_area_struct *vma;
	unsigned int i;
	pmd_t pmd;

	if (!has_transparent_hugepage())
		kunit_skip(test, "there are no huge pages");
	oc_map(test, OC_BASE, PMD_SIZE / PAGE_SIZE);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, OC_BASE);
	pmd = *pmd_offset(pud_offset(p4d_offset(pgd_offset(mm, OC_BASE),
						OC_BASE), OC_BASE), OC_BASE);
	mmap_read_unlock(mm);
	if (!vma || !pmd_trans_huge(pmd))
		kunit_skip(test, "memory is too short for a huge page");
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, PMD_SIZE), 0);
	/* The page, and then the table that pointed to it */
	KUNIT_EXPECT_GT(test, oc.events, 0U);
	for (i = 0; i < oc.events; i++)
		KUNIT_EXPECT_PTR_EQ(test, oc_wrong(&oc.event[i],
						   mm->context.id, 0), NULL);
}

static void oc_ranges_of_all_sizes(struct kunit *test)
{
	struct oc_process *own = &oc_test(test)->own;
	unsigned long most = PMD_SIZE / PAGE_SIZE - 1, pages;

	for (pages = 1; pages <= most; pages++) {
		oc_forget();
		oc_flush(own, OC_BASE, OC_BASE + pages * PAGE_SIZE);
		oc_expect(test, own->mm, OC_BASE, pages);
	}
	oc_assert_few_for_many(test);
	for (; pages < TASK_SIZE / PAGE_SIZE; pages *= 3) {
		oc_forget();
		oc_flush(own, TASK_SIZE - pages * PAGE_SIZE, TASK_SIZE);
		oc_expect_all(test, 0, own->mm);
	}
}

#if TREE < 612
/* mmu_notifier_range_init(..., 0, -1UL), and what is at the end of addresses */
static void oc_ranges_that_wrap(struct kunit *test)
{
	struct oc_process *own = &oc_test(test)->own;

	oc_forget();
	oc_call(own, 0, ULONG_MAX);
	oc_expect_all(test, 0, own->mm);

	oc_forget();
	oc_call(own, ULONG_MAX - 3 * PAGE_SIZE + 1, ULONG_MAX);
	oc_expect(test, own->mm, ULONG_MAX - 3 * PAGE_SIZE + 1, 3);

	/* There is no shootdown for just the page at address 0. */
	oc_forget();
	oc_call(own, 0, PAGE_SIZE);
	oc_expect_all(test, 0, own->mm);

	/* What is in a page in part is flushed, too. */
	oc_forget();
	oc_call(own, OC_BASE + PAGE_SIZE - 1, OC_BASE + PAGE_SIZE + 1);
	oc_expect(test, own->mm, OC_BASE, 2);
}
#else
/* What flush_tlb_mm() passes, and what does not end there */
static void oc_ranges_that_wrap(struct kunit *test)
{
	struct oc_process *own = &oc_test(test)->own;

	oc_assert_few_for_many(test);
	oc_flush(own, 0, ULONG_MAX);
	oc_expect_all(test, 0, own->mm);

	/* There is no shootdown for just the page at address 0. */
	oc_forget();
	oc_flush(own, 0, PAGE_SIZE);
	oc_expect_all(test, 0, own->mm);
}
#endif

static void oc_nothing_for_other_processes(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);

	kthread_unuse_mm(ctx->own.mm);
	kthread_use_mm(ctx->other.mm);
	oc_map(test, OC_BASE, 4);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, 3 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, oc.events, 0U);
	/* As reclaim does, which has found the page by its mappings */
	oc_flush(&ctx->own, OC_BASE, OC_BASE + PAGE_SIZE);
	oc_expect(test, ctx->own.mm, OC_BASE, 1);

	KUNIT_ASSERT_EQ(test, oc_attach(&ctx->other), 0);
	oc_map(test, OC_BASE, 4);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, 3 * PAGE_SIZE), 0);
	oc_expect(test, ctx->other.mm, OC_BASE, 3);

	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->other), 0);
	oc_map(test, OC_BASE, 4);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, 3 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, oc.events, 0U);
	kthread_unuse_mm(ctx->other.mm);
	kthread_use_mm(ctx->own.mm);
}

static void oc_waits_until_it_is_done(struct kunit *test)
{
	oc_map(test, OC_BASE, 8);
	oc.state = OC_SLOW;
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE + PAGE_SIZE, 5 * PAGE_SIZE), 0);
	oc_expect(test, oc_test(test)->own.mm, OC_BASE + PAGE_SIZE, 5);
}

/* Each of two unmaps its pages, one after the other. */

#define OC_ROUNDS	15

struct oc_worker {
	struct oc_process *proc;
	struct completion done;
	int ret;
};

static int oc_work(void *data)
{
	struct oc_worker *worker = data;
	unsigned long addr = OC_BASE;
	int ret;

	kthread_use_mm(worker->proc->mm);
	ret = oc_map_pages(addr, 2 * OC_ROUNDS);
	for (; !ret && addr < OC_BASE + 2 * OC_ROUNDS * PAGE_SIZE;
	     addr += 2 * PAGE_SIZE)
		ret = vm_munmap(addr, 2 * PAGE_SIZE);
	kthread_unuse_mm(worker->proc->mm);
	worker->ret = ret;
	kthread_complete_and_exit(&worker->done, 0);
}

static void oc_work_on_two_cpus(struct kunit *test, struct oc_worker worker[2])
{
	struct task_struct *task;
	unsigned int k;

	for (k = 0; k < 2; k++) {
		init_completion(&worker[k].done);
		task = kthread_run_on_cpu(oc_work, &worker[k], k, "oc_work/%u");
		KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	}
	for (k = 0; k < 2; k++)
		wait_for_completion(&worker[k].done);
	for (k = 0; k < 2; k++)
		KUNIT_EXPECT_EQ(test, worker[k].ret, 0);
}

static void oc_two_cpus_at_once(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct oc_worker worker[2] = {
		{ .proc = &ctx->own }, { .proc = &ctx->other },
	};
	unsigned int i, k, pages[2] = {};
	const char *wrong;
	struct mm_struct *mm;

	KUNIT_ASSERT_EQ(test, oc_attach(&ctx->other), 0);
	oc_assert_few_for_many(test);
	oc.state = OC_SLOW;
	oc_work_on_two_cpus(test, worker);
	KUNIT_EXPECT_EQ(test, oc.at_once, 0U);

	for (i = 0; i < oc.events; i++) {
		k = oc_field(oc.event[i].lnch, 19, 38) == ctx->other.mm->context.id;
		mm = worker[k].proc->mm;
		/* The last to go takes the page table along. */
		if (pages[k] == 2 * (OC_ROUNDS - 1) &&
		    !oc_wrong(&oc.event[i], mm->context.id, 0))
			pages[k]++;
		else if (pages[k] < 2 * OC_ROUNDS) {
			wrong = oc_wrong(&oc.event[i], mm->context.id,
					 OC_BASE + pages[k] * PAGE_SIZE);
			KUNIT_EXPECT_PTR_EQ_MSG(test, wrong, NULL,
						"process %u, page %u: %s", k,
						pages[k], wrong ?: "");
		}
		pages[k]++;
	}
	KUNIT_EXPECT_EQ(test, pages[0], 2U * OC_ROUNDS);
	KUNIT_EXPECT_EQ(test, pages[1], 2U * OC_ROUNDS);
}

/* A link that sees the TLB invalidations of the CPUs has no registers. */
static void oc_nothing_for_a_link_that_snoops(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);

	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	oc_leave();
	oc.snoops = true;
	KUNIT_ASSERT_EQ(test, oc_setup(), 0);
	KUNIT_ASSERT_EQ(test, oc_attach(&ctx->own), 0);
	oc_map(test, OC_BASE, 4);
#if TREE < 612
	KUNIT_EXPECT_FALSE(test, mm_has_secondary_tlb(ctx->own.mm));
#endif
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, 4 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, oc.events, 0U);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	KUNIT_EXPECT_EQ(test, oc_count(OC_LAUNCH), 0U);
}

/* How often the kernel has said this since @seq */
static unsigned int oc_said(struct kmsg_dump_iter start, const char *what)
{
	static char line[512];
	unsigned int n = 0;
	size_t len;

	while (kmsg_dump_get_line(&start, true, line, sizeof(line) - 1, &len)) {
		line[len] = 0;
		n += !!strstr(line, what);
	}
	return n;
}

static struct kmsg_dump_iter oc_now(void)
{
	struct kmsg_dump_iter iter;
	char line[8];

	kmsg_dump_rewind(&iter);
	while (kmsg_dump_get_line(&iter, true, line, sizeof(line), NULL))
		;
	return iter;
}

#if TREE < 612
static void oc_expect_cut_off(struct kunit *test)
{
	unsigned int fn, afu;

	for (fn = 0; fn < OC_FUNCTIONS; fn++) {
		KUNIT_EXPECT_TRUE(test, pci_is_quarantined(oc.dev[fn]));
		KUNIT_EXPECT_FALSE(test, oc_is_master(fn));
		for (afu = 0; afu < OC_AFUS; afu++)
			KUNIT_EXPECT_FALSE(test, oc_is_enabled(fn, afu));
	}
}

/* Both functions have the link. */
static void oc_join(struct kunit *test)
{
	struct ocxl_link *link = oc.link;

	KUNIT_ASSERT_EQ(test, oc_setup(), 0);
	KUNIT_ASSERT_PTR_EQ(test, link, oc.link);
}
#endif

/* From attach to detach */

#if TREE < 612
/* What the link has had of this PID from before goes first. */
static void oc_attach_begins_with_a_flush(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);

	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	oc_forget();
	KUNIT_ASSERT_EQ(test, oc_attach(&ctx->own), 0);
	oc_expect_all(test, 0, ctx->own.mm);
	KUNIT_EXPECT_FALSE(test, oc.event[0].valid);
	KUNIT_EXPECT_EQ(test, be32_to_cpu(oc.spa[OC_PASID].software_state),
			BIT(31));
	KUNIT_EXPECT_EQ(test, be32_to_cpu(oc.spa[OC_PASID].pid),
			(u32)ctx->own.mm->context.id);
}
#endif

/* The AFU ends, then the element goes, then what the link has of it. */
static void oc_detach_then_exit(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	unsigned int i;

	oc_map(test, OC_BASE, 4);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	KUNIT_EXPECT_EQ(test, oc_count(OC_TERMINATE), 1U);
	KUNIT_EXPECT_EQ(test, oc_count(OC_CLEAR_CACHE), 1U);
	KUNIT_EXPECT_EQ(test, oc_first(OC_TERMINATE), 0U);
	KUNIT_EXPECT_TRUE(test, oc.event[0].valid);
	KUNIT_EXPECT_EQ(test, oc.event[0].pasid, (u32)OC_PASID);
	i = oc_first(OC_CLEAR_CACHE);
	KUNIT_ASSERT_LT(test, i, oc.events);
	KUNIT_EXPECT_FALSE(test, oc.event[i].valid);
	KUNIT_EXPECT_EQ(test, oc.event[i].pasid, (u32)OC_PASID);
	oc_expect_all(test, i + 1, ctx->own.mm);

	oc_forget();
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, PAGE_SIZE), 0);
	kthread_unuse_mm(ctx->own.mm);
	mmput(ctx->own.mm);
	ctx->own.mm = NULL;
	KUNIT_EXPECT_EQ(test, oc.events, 0U);
}

/* The memory of the process goes, and what happens meanwhile is recorded. */
static void oc_exit_mm(struct oc_test *ctx)
{
	oc.exits = ctx->own.mm;
	kthread_unuse_mm(ctx->own.mm);
	mmput(ctx->own.mm);
	ctx->own.mm = NULL;
	oc.exits = NULL;
}

/*
 * A process gives up its memory before its files.  The AFU has to end first,
 * then the link forgets.  The element stays until the file is closed.
 */
static void oc_exit_then_detach(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct mm_struct *mm = ctx->own.mm;
	unsigned int i;

	oc_map(test, OC_BASE, 4);
	mmgrab(mm);
	oc_exit_mm(ctx);
	KUNIT_EXPECT_EQ(test, oc.events, 3U);
	KUNIT_EXPECT_EQ(test, oc.event[0].what, OC_TERMINATE);
	KUNIT_EXPECT_EQ(test, oc.event[0].pasid, (u32)OC_PASID);
	KUNIT_EXPECT_PTR_EQ(test, oc_wrong(&oc.event[1], mm->context.id, 0), NULL);
	KUNIT_EXPECT_EQ(test, oc.event[2].what, OC_UNMAP);
	KUNIT_EXPECT_TRUE(test, oc.event[2].valid);

	oc_forget();
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	KUNIT_EXPECT_EQ(test, oc_count(OC_TERMINATE), 0U);
	i = oc_first(OC_CLEAR_CACHE);
	KUNIT_EXPECT_EQ(test, i, 0U);
	oc_expect_all(test, i + 1, mm);
	mmdrop(mm);
}

#if TREE < 612
/* The AFU goes on with a PASID whose process exits, so it is all cut off. */
static void oc_exit_while_the_afu_goes_on(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct mm_struct *mm = ctx->own.mm;
	unsigned int unmap;

	oc_join(test);
	oc_map(test, OC_BASE, 4);
	oc.never_ends = true;
	mmgrab(mm);
	oc_exit_mm(ctx);
	oc.never_ends = false;
	unmap = oc_first(OC_UNMAP);
	KUNIT_EXPECT_EQ(test, oc_count(OC_DISABLE), OC_FUNCTIONS * OC_AFUS);
	KUNIT_EXPECT_EQ(test, unmap, oc.events - 1);
	oc_expect_cut_off(test);
	mmdrop(mm);
	oc.cap[0][(OC_CTRL(0) + OCXL_DVSEC_AFU_CTRL_TERM_PASID - OC_CAP) / 4] = 0;
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
}

#else
/* The AFU goes on with a PASID whose process exits, which is reported. */
static void oc_exit_while_the_afu_goes_on(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct kmsg_dump_iter begin = oc_now();

	oc_map(test, OC_BASE, 4);
	oc.never_ends = true;
	oc_exit_mm(ctx);
	oc.never_ends = false;
	KUNIT_EXPECT_EQ(test, oc.events, 3U);
	KUNIT_EXPECT_EQ(test, oc.event[0].what, OC_TERMINATE);
	KUNIT_EXPECT_EQ(test, oc.event[1].what, OC_LAUNCH);
	KUNIT_EXPECT_EQ(test, oc.event[2].what, OC_UNMAP);
	KUNIT_EXPECT_EQ(test, oc_said(begin, "may use the memory of a process that exits"),
			1U);
	oc.cap[0][(OC_CTRL(0) + OCXL_DVSEC_AFU_CTRL_TERM_PASID - OC_CAP) / 4] = 0;
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
}
#endif

/* The same, but the process lives.  What the AFU uses stays as it is. */
static void oc_detach_while_the_afu_goes_on(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct ocxl_context *context = ctx->own.ctx;

#if TREE < 612
	oc_join(test);
#endif
	oc_forget();
	oc.never_ends = true;
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), -EBUSY);
	oc.never_ends = false;
	KUNIT_EXPECT_EQ(test, oc_count(OC_CLEAR_CACHE), 0U);
	KUNIT_EXPECT_TRUE(test, oc.spa[OC_PASID].software_state != 0);
#if TREE < 612
	oc_expect_cut_off(test);
#endif

	KUNIT_EXPECT_EQ(test, ocxl_link_remove_pe(oc.link, OC_PASID), 0);
	ocxl_context_free(context);
}

/* With a signal on its way, mmu_notifier_register() returns -EINTR. */
static void oc_without_a_notifier(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct mm_struct *mm = ctx->own.mm;
	int copros, refs, now, attached, added;

	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	oc_map(test, OC_BASE, 1);
	copros = atomic_read(&mm->context.copros);
	/* An idle CPU holds the mm_struct that it had last: none becomes one. */
	migrate_disable();
	refs = atomic_read(&mm->mm_count);
	allow_signal(SIGKILL);
	send_sig(SIGKILL, current, 1);
	attached = oc_attach(&ctx->own);
	added = ocxl_link_add_pe(oc.link, OC_PASID, mm->context.id, 0, 0, 0, mm,
				 NULL, NULL);
	flush_signals(current);
	disallow_signal(SIGKILL);
	now = atomic_read(&mm->mm_count);
	migrate_enable();

	KUNIT_EXPECT_EQ(test, attached, -EINTR);
	KUNIT_EXPECT_EQ(test, added, -EINTR);
	/* To detach or remove it would follow pointers that were never set. */
	if (!attached)
		ctx->own.ctx = NULL;
	if (!attached || !added)
		return;
	KUNIT_EXPECT_EQ(test, oc.events, 0U);
	KUNIT_EXPECT_FALSE(test, oc.spa[OC_PASID].software_state);
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->context.copros), copros);
	KUNIT_EXPECT_EQ(test, now, refs);
	KUNIT_EXPECT_EQ(test, ocxl_link_remove_pe(oc.link, OC_PASID), -EINVAL);

	KUNIT_EXPECT_EQ(test, oc_attach(&ctx->own), 0);
	oc_assert_few_for_many(test);
	oc_map(test, OC_BASE, 1);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, PAGE_SIZE), 0);
	oc_expect_all(test, 0, mm);
}

#if TREE < 612
/* A link that does not answer */

static void oc_link_never_answers(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct kmsg_dump_iter begin = oc_now();
	char text[100];
	int fn, ret;
	void *link;

	oc_join(test);
	oc_map(test, OC_BASE, 8);
	for (fn = 0; fn < OC_FUNCTIONS; fn++)
		KUNIT_EXPECT_TRUE(test, oc_is_master(fn));
	oc.state = OC_DEAD;
	oc_flush(&ctx->own, OC_BASE + PAGE_SIZE, OC_BASE + 5 * PAGE_SIZE);
	/* One launch, one wait, and no DMA from here on. */
	oc_expect_cut_off(test);
	KUNIT_ASSERT_EQ(test, oc_count(OC_LAUNCH), 1U);
	KUNIT_EXPECT_EQ(test, oc.event[0].ret, -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, oc_count(OC_DISABLE), OC_FUNCTIONS * OC_AFUS);
	KUNIT_EXPECT_TRUE(test, oc.event[oc.events - 1].valid);
	snprintf(text, sizeof(text),
		 "cut off from memory until it is removed and found again: cannot flush PASID %#x, %#lx bytes at %#lx:",
		 OC_PASID, 4 * PAGE_SIZE, OC_BASE + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, oc_said(begin, text), OC_FUNCTIONS);

	/* Nobody waits again. */
	oc_forget();
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE + PAGE_SIZE, 4 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, 8 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, oc_attach(&ctx->other), -EIO);
	KUNIT_EXPECT_EQ(test, oc.events, 0U);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	KUNIT_EXPECT_EQ(test, oc_count(OC_LAUNCH), 0U);
	KUNIT_EXPECT_EQ(test, oc_said(begin, "cannot flush PASID"), OC_FUNCTIONS);

	/* To bind the driver once more does not undo it. */
	oc_leave();
	for (fn = 0; fn < OC_FUNCTIONS; fn++) {
		pci_set_master(oc.dev[fn]);
		ret = ocxl_link_setup(oc.dev[fn], 0, &link);
		KUNIT_EXPECT_EQ(test, ret, -EIO);
		if (!ret)
			ocxl_link_release(oc.dev[fn], link);
	}
	oc_expect_cut_off(test);

	KUNIT_ASSERT_EQ(test, oc_replug(), 0);
	oc.state = OC_AT_ONCE;
	KUNIT_ASSERT_EQ(test, oc_setup(), 0);
	oc_forget();
	KUNIT_EXPECT_EQ(test, oc_attach(&ctx->own), 0);
	oc_expect_all(test, 0, ctx->own.mm);
	oc_map(test, OC_BASE, 2);
	KUNIT_EXPECT_EQ(test, vm_munmap(OC_BASE, PAGE_SIZE), 0);
	oc_expect(test, ctx->own.mm, OC_BASE, 1);
}

/* A function that is bound after the others were cut off is not let in. */
static void oc_join_a_dead_link(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	void *link = NULL;

	oc.state = OC_DEAD;
	oc_flush(&ctx->own, OC_BASE, OC_BASE + PAGE_SIZE);
	KUNIT_EXPECT_TRUE(test, pci_is_quarantined(oc.dev[0]));
	KUNIT_EXPECT_FALSE(test, pci_is_quarantined(oc.dev[1]));
	KUNIT_EXPECT_EQ(test, ocxl_link_setup(oc.dev[1], 0, &link), -EIO);
	KUNIT_EXPECT_PTR_EQ(test, link, NULL);
	KUNIT_EXPECT_EQ(test, kref_read(&oc.link->ref), 1U);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
}

/* Its driver has gone, and another one can have the function. */
static void oc_function_that_has_left(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);

	oc_join(test);
	ocxl_link_release(oc.dev[--oc.joined], oc.link);
	oc.state = OC_DEAD;
	oc_flush(&ctx->own, OC_BASE, OC_BASE + PAGE_SIZE);
	KUNIT_EXPECT_TRUE(test, pci_is_quarantined(oc.dev[0]));
	KUNIT_EXPECT_FALSE(test, pci_is_quarantined(oc.dev[1]));
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
}

/* There is nothing to disable, but nobody waits again. */
static void oc_device_is_gone_as_well(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct kmsg_dump_iter begin = oc_now();

	oc_join(test);
	oc.state = OC_DEAD;
	oc_forget();
	oc.gone = true;
	oc_flush(&ctx->own, OC_BASE, OC_BASE + PAGE_SIZE);
	oc_flush(&ctx->own, OC_BASE, OC_BASE + PAGE_SIZE);
	oc.gone = false;
	KUNIT_EXPECT_EQ(test, oc_count(OC_LAUNCH), 1U);
	KUNIT_EXPECT_EQ(test, oc_said(begin, "may use freed memory: cannot flush PASID"),
			OC_FUNCTIONS);
	KUNIT_EXPECT_EQ(test, oc_said(begin, "cut off"), 0U);
	KUNIT_EXPECT_EQ(test, oc_attach(&ctx->other), -EIO);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
}

/* Each page is done in time, but not all of them are. */
static void oc_one_limit_for_a_flush(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);

	oc_join(test);
	oc_map(test, OC_BASE, 1);
	oc.state = OC_CREEP;
	oc_flush(&ctx->own, OC_BASE, OC_BASE + 30 * PAGE_SIZE);
	KUNIT_EXPECT_LT(test, oc_count(OC_LAUNCH), 10U);
	oc_expect_cut_off(test);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
}

/* Two of them wait for the lock, and then for nothing. */
static void oc_two_cpus_at_a_dead_link(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);
	struct oc_worker worker[2] = {
		{ .proc = &ctx->own }, { .proc = &ctx->other },
	};

	oc_join(test);
	KUNIT_ASSERT_EQ(test, oc_attach(&ctx->other), 0);
	oc_forget();
	oc.state = OC_DEAD;
	oc_work_on_two_cpus(test, worker);
	KUNIT_EXPECT_EQ(test, oc_count(OC_LAUNCH), 1U);
	oc_expect_cut_off(test);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->own), 0);
	KUNIT_EXPECT_EQ(test, oc_detach(&ctx->other), 0);
}

#endif

static struct kunit_case oc_cases[] = {
	KUNIT_CASE(oc_munmap_of_pages),
	KUNIT_CASE(oc_mprotect_of_pages),
	KUNIT_CASE(oc_fork_and_write),
	KUNIT_CASE(oc_munmap_of_a_table),
	KUNIT_CASE(oc_munmap_of_a_huge_page),
	KUNIT_CASE(oc_ranges_of_all_sizes),
	KUNIT_CASE(oc_ranges_that_wrap),
	KUNIT_CASE(oc_nothing_for_other_processes),
	KUNIT_CASE(oc_waits_until_it_is_done),
	KUNIT_CASE(oc_two_cpus_at_once),
	KUNIT_CASE(oc_nothing_for_a_link_that_snoops),
#if TREE < 612
	KUNIT_CASE(oc_attach_begins_with_a_flush),
#endif
	KUNIT_CASE(oc_detach_then_exit),
	KUNIT_CASE(oc_exit_then_detach),
	KUNIT_CASE(oc_exit_while_the_afu_goes_on),
	KUNIT_CASE(oc_detach_while_the_afu_goes_on),
	KUNIT_CASE(oc_without_a_notifier),
#if TREE < 612
	KUNIT_CASE(oc_link_never_answers),
	KUNIT_CASE(oc_join_a_dead_link),
	KUNIT_CASE(oc_function_that_has_left),
	KUNIT_CASE(oc_device_is_gone_as_well),
	KUNIT_CASE(oc_one_limit_for_a_flush),
	KUNIT_CASE(oc_two_cpus_at_a_dead_link),
#endif
	{ }
};

static int oc_init(struct kunit *test)
{
	struct oc_test *ctx;
	int ret;

	if (oc.missing)
		kunit_skip(test, "%s", oc.missing);
	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	test->priv = ctx;
	oc.state = OC_AT_ONCE;
	oc.snoops = false;
	oc_reset_config();
	ret = oc_setup();
	if (ret)
		return ret;
	ctx->own.mm = oc_new_mm();
	ctx->other.mm = oc_new_mm();
	if (!ctx->own.mm || !ctx->other.mm)
		return -ENOMEM;
	kthread_use_mm(ctx->own.mm);
	return oc_attach(&ctx->own);
}

static void oc_exit(struct kunit *test)
{
	struct oc_test *ctx = oc_test(test);

	if (!ctx)
		return;
	hrtimer_cancel(&oc.hardware);
	KUNIT_EXPECT_EQ(test, oc_tlb_invalidate.nmissed, 0);
	KUNIT_EXPECT_LT(test, oc.events, (unsigned int)OC_EVENTS);
	oc.state = OC_AT_ONCE;
	oc_detach(&ctx->own);
	oc_detach(&ctx->other);
#if TREE < 612
	if (oc.link && oc.link->quarantined)
		KUNIT_EXPECT_EQ(test, oc_replug(), 0);
#endif
	oc_leave();
	/* A case that gave up took its thread, and the mm with it. */
	if (ctx->own.mm && current->mm == ctx->own.mm) {
		kthread_unuse_mm(ctx->own.mm);
		mmput(ctx->own.mm);
	}
	if (ctx->other.mm)
		mmput(ctx->other.mm);
}

static int oc_probe(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(oc_functions); i++) {
		ret = register_kprobe(&oc_functions[i].kp);
		if (ret) {
			pr_err("ocxl_link: no kprobe of %s: %d\n",
			       oc_functions[i].kp.symbol_name, ret);
			return ret;
		}
	}
	ret = oc_skip_in(ocxl_link_setup) ?: oc_skip_in(ocxl_link_add_pe) ?:
	      oc_skip_in(alloc_link) ?: oc_skip_in(calculate_cfg_state);
	ret = ret ?: register_kretprobe(&oc_tlb_invalidate);
	oc.probes = !ret;
	return ret;
}

static int oc_suite_init(struct kunit_suite *suite)
{
	struct pci_dev *pdev;
	unsigned int fn;

	raw_spin_lock_init(&oc.lock);
#if TREE < 703
	hrtimer_init(&oc.hardware, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	oc.hardware.function = oc_hardware;
#else
	hrtimer_setup(&oc.hardware, oc_hardware, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL);
#endif
	if (!radix_enabled()) {
		oc.missing = "not the radix MMU";
		return 0;
	}
	pdev = pci_get_device(PCI_VENDOR_ID_REDHAT, 0x0005, NULL);
	if (!pdev) {
		oc.missing = "no pci-testdev";
		return 0;
	}
	oc.bus = pdev->bus;
	oc.slot = PCI_SLOT(pdev->devfn);
	pci_dev_put(pdev);
	oc_reset_config();
	oc.ops = pci_bus_set_ops(oc.bus, &oc_ops);
	for (fn = 0; fn < OC_FUNCTIONS; fn++)
		if (oc_find(fn))
			oc.missing = "pci-testdev has too few functions";
	if (oc.missing)
		return 0;

	oc.virq = irq_alloc_desc(0);
	if ((int)oc.virq < 0 || oc_probe()) {
		oc.missing = "no kprobe or no interrupt";
		return 0;
	}
	irq_clear_status_flags(oc.virq, IRQ_NOREQUEST);
	irq_set_chip_and_handler(oc.virq, &dummy_irq_chip, handle_simple_irq);
	kref_init(&oc.afu.kref);
	mutex_init(&oc.afu.contexts_lock);
	mutex_init(&oc.afu.afu_control_lock);
	oc.afu.fn = &oc.fn;
	oc.afu.config.dvsec_afu_control_pos = OC_CTRL(0);
	oc.afu.pasid_base = OC_PASID;
	oc.afu.pasid_max = 8;
	return 0;
}

static void oc_suite_exit(struct kunit_suite *suite)
{
	unsigned int i;

	if (oc.probes)
		unregister_kretprobe(&oc_tlb_invalidate);
	for (i = 0; i < oc_mfsprs; i++)
		unregister_kprobe(&oc_mfspr[i]);
	for (i = 0; i < ARRAY_SIZE(oc_functions); i++)
		unregister_kprobe(&oc_functions[i].kp);
	if ((int)oc.virq > 0)
		irq_free_desc(oc.virq);
	if (oc.ops)
		pci_bus_set_ops(oc.bus, oc.ops);
	for (i = 0; i < OC_FUNCTIONS; i++)
		pci_dev_put(oc.dev[i]);
}

static struct kunit_suite oc_suite = {
	.name = "ocxl_link",
	.suite_init = oc_suite_init,
	.suite_exit = oc_suite_exit,
	.init = oc_init,
	.exit = oc_exit,
	.test_cases = oc_cases,
};

kunit_test_suite(oc_suite);
