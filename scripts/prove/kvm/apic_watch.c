// SPDX-License-Identifier: GPL-2.0
/*
 * Watches which APIC access page KVM gives to the CPU, for a process with one vCPU, and can
 * make KVM do what it should not. At each entry into the guest, the address in the VMCS has
 * to be that of the page which is mapped; and no page may be freed while the vCPU is in the
 * guest with its address.
 *
 * Bochs has no posted interrupts, so that KVM has APICv off, and does not map the page in
 * the guest. Here it does: a guest with a wrong address in the VMCS reads memory.
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/tracepoint.h>
#include <asm/vmx.h>

#include "apic_watch.h"

#define APIC_GFN	(APIC_DEFAULT_PHYS_BASE >> PAGE_SHIFT)
#define HELD_LOOKUPS	3
#define HELD_NS		(NSEC_PER_SEC / 2)

static struct apic_watch now;
static unsigned int flags;
static bool watching, reloading, in_guest, during;
static unsigned long vmcs_pfn;		/* at the last entry */
static struct task_struct *vcpu_task;	/* while reloading */
static struct kvm *vcpu_kvm;
static bool dropped;
static unsigned long seq_before, seq_after, progress_after;
static u64 since;
static struct mm_struct *watched_mm;

static u64 vmcs_read(unsigned long field)
{
	unsigned long value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc");
	return value;
}

/* As get_user_pages_fast() does, with interrupts off. */
static unsigned long mapped_pfn(struct mm_struct *mm, unsigned long address)
{
	pgd_t *pgd = pgd_offset(mm, address);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pte_t pte;

	if (pgd_none(*pgd))
		return 0;
	p4d = p4d_offset(pgd, address);
	if (p4d_none(*p4d))
		return 0;
	pud = pud_offset(p4d, address);
	if (pud_none(*pud))
		return 0;
	pmd = pmd_offset(pud, address);
	if (pmd_none(*pmd) || pmd_large(*pmd))
		return 0;
	pte = READ_ONCE(*pte_offset_kernel(pmd, address));
	return pte_present(pte) ? pte_pfn(pte) : 0;
}

/* vmx_vcpu_run(vcpu): interrupts are off, and no request is pending. */
static int enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (void *)regs->di;

	if (!watching || !now.address ||
	    !(vmcs_read(SECONDARY_VM_EXEC_CONTROL) &
	      SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES))
		return 1;
	vmcs_pfn = vmcs_read(APIC_ACCESS_ADDR) >> PAGE_SHIFT;
	in_guest = true;
	now.entries++;
	now.during_entries += during;
	if (vmcs_pfn != mapped_pfn(vcpu->kvm->mm, now.address))
		now.stale++;
	return 0;
}

static int leave(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	in_guest = false;
	return 0;
}

/* vmx_set_apic_access_page_addr(vcpu) */
static int reload(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (void *)regs->di;

	if (!watching)
		return 1;
	*(struct kvm_vcpu **)ri->data = vcpu;
	vcpu_kvm = vcpu->kvm;
	vcpu_task = current;
	now.address = gfn_to_hva(vcpu_kvm, APIC_GFN);
	seq_before = vcpu_kvm->mmu_invalidate_seq;
	reloading = true;
	return 0;
}

static int reloaded(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = *(struct kvm_vcpu **)ri->data;

	reloading = false;
	if (dropped) {
		vcpu_kvm->mmu_invalidate_seq = seq_after;
		vcpu_kvm->mmu_invalidate_in_progress = progress_after;
		dropped = false;
	}
	now.retries += kvm_test_request(KVM_REQ_APIC_PAGE_RELOAD, vcpu);
	return 0;
}

/* gfn_to_pfn_memslot(), when it is called by that */
static int look_up(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	return !reloading || current != vcpu_task;
}

/* What comes next is to see no invalidation, neither one that ended nor one under way. */
static void drop_retry(void)
{
	seq_after = vcpu_kvm->mmu_invalidate_seq;
	progress_after = vcpu_kvm->mmu_invalidate_in_progress;
	vcpu_kvm->mmu_invalidate_seq = seq_before;
	vcpu_kvm->mmu_invalidate_in_progress = 0;
	dropped = true;
}

static int looked_up(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	u64 begin = ktime_get_ns();
	bool held = READ_ONCE(during);

	now.lookups++;
	now.during_lookups += held;
	/* Interrupts are on: the CPU flush of that invalidation gets an answer. */
	while (held && flags & WATCH_HOLD_LOOKUP && READ_ONCE(during) &&
	       ktime_get_ns() - begin < HELD_NS)
		cpu_relax();
	if (held && flags & WATCH_DROP_RETRY)
		drop_retry();
	return 0;
}

static void nothing(void)
{
}

/* kvm_make_all_cpus_request(kvm, req) */
static int request(struct kprobe *p, struct pt_regs *regs)
{
	if (!watching || (unsigned int)regs->si != KVM_REQ_APIC_PAGE_RELOAD)
		return 0;
	now.requests++;
	if (!(flags & WATCH_DROP_REQUEST))
		return 0;
	regs->ip = (unsigned long)nothing;
	return 1;
}

/* As long as there is one, the probe is a breakpoint, and request() may change where it returns. */
static void after_request(struct kprobe *p, struct pt_regs *regs, unsigned long unused)
{
}

/* kvm_apicv_activated(): of VMX, the page fault asks. */
static int map_the_page(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (watching)
		regs->ax = true;
	return 0;
}

static void page_free(void *data, struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);

	if (!watching || vmcs_pfn < pfn || vmcs_pfn - pfn >= 1UL << order)
		return;
	now.freed++;
	now.freed_in_guest += in_guest;
}

/* Registered after that of KVM, and called after it. */
static int start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	unsigned int lookups = flags & WATCH_HOLD_LOOKUP ? 1 : HELD_LOOKUPS;

	if (!now.address || now.address < range->start || now.address >= range->end)
		return 0;
	now.start = range->start;
	now.end = range->end;
	now.during_entries = 0;
	now.during_lookups = 0;
	since = ktime_get_ns();
	WRITE_ONCE(during, true);
	while (flags & (WATCH_HOLD_START | WATCH_HOLD_LOOKUP) &&
	       mmu_notifier_range_blockable(range) &&
	       READ_ONCE(now.during_lookups) < lookups &&
	       ktime_get_ns() - since < HELD_NS)
		cond_resched();
	return 0;
}

static void end(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	if (!READ_ONCE(during) || now.address < range->start || now.address >= range->end)
		return;
	now.during_ns = ktime_get_ns() - since;
	WRITE_ONCE(during, false);
}

static const struct mmu_notifier_ops ops = {
	.invalidate_range_start = start,
	.invalidate_range_end = end,
};

static struct mmu_notifier subscription = { .ops = &ops };

static int watch_open(struct inode *inode, struct file *file)
{
	int ret = mmu_notifier_register(&subscription, current->mm);

	watched_mm = current->mm;
	watching = !ret;
	return ret;
}

static int watch_release(struct inode *inode, struct file *file)
{
	watching = false;
	mmu_notifier_unregister(&subscription, watched_mm);
	memset(&now, 0, sizeof(now));
	vmcs_pfn = 0;
	return 0;
}

static ssize_t watch_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	if (size != sizeof(now))
		return -EINVAL;
	return copy_to_user(to, &now, size) ? -EFAULT : size;
}

static ssize_t watch_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	u64 address = now.address;

	if (size != sizeof(flags))
		return -EINVAL;
	memset(&now, 0, sizeof(now));
	now.address = address;
	return copy_from_user(&flags, from, size) ? -EFAULT : size;
}

static const struct file_operations watch_fops = {
	.owner = THIS_MODULE,
	.open = watch_open,
	.release = watch_release,
	.read = watch_read,
	.write = watch_write,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "apic_watch",
	.fops = &watch_fops,
};

static struct kretprobe entries = {
	.kp.symbol_name = "vmx_vcpu_run",
	.entry_handler = enter,
	.handler = leave,
};

static struct kretprobe reloads = {
	.kp.symbol_name = "vmx_set_apic_access_page_addr",
	.entry_handler = reload,
	.handler = reloaded,
	.data_size = sizeof(struct kvm_vcpu *),
};

static struct kretprobe lookups = {
	.kp.symbol_name = "gfn_to_pfn_memslot",
	.entry_handler = look_up,
	.handler = looked_up,
};

static struct kretprobe mappings = {
	.kp.symbol_name = "kvm_apicv_activated",
	.handler = map_the_page,
};

static struct kretprobe *kretprobes[] = { &entries, &reloads, &lookups, &mappings };

static struct kprobe requests = {
	.symbol_name = "kvm_make_all_cpus_request",
	.pre_handler = request,
	.post_handler = after_request,
};

static void watch_frees(struct tracepoint *tp, void *ret)
{
	if (!strcmp(tp->name, "mm_page_free"))
		*(int *)ret = tracepoint_probe_register(tp, page_free, NULL);
}

/* It is never unloaded: the machine is switched off. */
static int __init apic_watch_init(void)
{
	int ret = -ENOENT;

	for_each_kernel_tracepoint(watch_frees, &ret);
	if (!ret)
		ret = register_kretprobes(kretprobes, ARRAY_SIZE(kretprobes));
	if (!ret)
		ret = register_kprobe(&requests);
	if (!ret)
		ret = misc_register(&device);
	return ret;
}
module_init(apic_watch_init);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Watches the APIC access page of a virtual machine");
