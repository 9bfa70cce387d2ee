// SPDX-License-Identifier: GPL-2.0
/*
 * The hardware for toy_driver.c, in software; toy_device.h describes it.  What a
 * driver author needs is in the driver.
 *
 * Commands are executed in a timer interrupt, not in a thread: all CPUs can
 * wait for them at the same time, with preemption disabled.  Accesses are made
 * by a kernel thread.  It keeps no references to pages or to mm_users, as
 * hardware does not: what it uses is there because the driver stops and flushes
 * the device in time.
 *
 * Hardware walks the page table by itself.  Software must not, and asks
 * get_user_pages_fast_only() for the page.  A walk can have found the old page
 * when a flush comes.  Hardware waits for such walks; here their result is
 * discarded.
 */

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/irq_sim.h>
#include <linux/irq_work.h>
#include <linux/irqdomain.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/platform_device.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swait.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "toy_device.h"

#define TOY_NR_ENTRIES	64	/* of each TLB */
#define TOY_NR_TRIES	100	/* page requests of an access */
#define TOY_NR_READS	4	/* of them, before one to write takes their place */
#define TOY_MAX_LEN	64UL	/* bytes of an access */

/* A value for each device. */
static uint latency[TOY_NR_DEVICES];
module_param_array(latency, uint, NULL, 0644);
MODULE_PARM_DESC(latency, "microseconds before each command");

static bool reorder[TOY_NR_DEVICES];
module_param_array(reorder, bool, NULL, 0644);
MODULE_PARM_DESC(reorder, "execute a command without fence before the one in front of it");

static bool stuck[TOY_NR_DEVICES];
module_param_array(stuck, bool, NULL, 0644);
MODULE_PARM_DESC(stuck, "execute no commands");

static bool lose_completions[TOY_NR_DEVICES];
module_param_array(lose_completions, bool, NULL, 0644);
MODULE_PARM_DESC(lose_completions, "do not say that commands are complete");

static uint walk_delay[TOY_NR_DEVICES];
module_param_array(walk_delay, uint, NULL, 0644);
MODULE_PARM_DESC(walk_delay, "microseconds from the end of a walk until it is in the TLB");

static bool repeat[TOY_NR_DEVICES];
module_param_array(repeat, bool, NULL, 0644);
MODULE_PARM_DESC(repeat, "make the same access again and again, until it fails or is stopped");

struct toy_entry {
	struct page *page;	/* NULL if there is none */
	unsigned long addr;
	u32 pasid;
	bool write;
};

enum toy_state { TOY_FREE, TOY_READY, TOY_WAITING, TOY_ENDED };

/* An access. */
struct toy_job {
	enum toy_state state;
	bool write;
	bool unmapped;		/* the walk has found nothing */
	bool stopping;		/* by TOY_STOP */
	bool waited_for;	/* by the process */
	bool done;		/* has @ret and @data for it */
	int ret;
	u32 pasid;
	u32 tries;
	u32 flushes;		/* of the PASID, when the walk began */
	u64 root;
	struct mm_struct *mm;
	unsigned long addr;
	size_t len;
	char data[TOY_MAX_LEN];
};

struct toy_counters {
	u32 doorbells;
	u32 flushes;		/* TOY_FLUSH_IOTLB */
	u32 accesses;
	u32 walks;
	u32 discarded;		/* walks during which there was a flush */
	u32 entries;		/* in the TLBs, now */
	u32 jobs;		/* accesses under way, now */
	u32 waiting;		/* for a response, of these */
	u32 errors;		/* commands that make no sense */
};

struct toy_hw {
	raw_spinlock_t lock;	/* for all below */
	struct toy_memory *memory;
	bool enabled;
	bool reordered;		/* the command behind the head is done */
	u32 head, tail;
	u32 request_tail;
	u64 contexts[TOY_NR_PASIDS];	/* as read from memory */
	u32 flushes[TOY_NR_PASIDS];
	struct toy_entry iotlb[TOY_NR_ENTRIES], atc[TOY_NR_ENTRIES];
	struct toy_job jobs[TOY_NR_REQUESTS];
	struct toy_counters count;

	unsigned int id, next;
	struct hrtimer timer;
	struct task_struct *thread;
	struct swait_queue_head work;	/* @thread waits here until it is @kicked */
	bool kicked;
	wait_queue_head_t done;
	struct irq_work wake;	/* wakes them */
	struct irq_domain *domain;
	unsigned int irq;
	struct platform_device *pdev;
	struct dentry *debugfs;
};

static struct toy_hw *toy_hw[TOY_NR_DEVICES];

/* --- TLBs --- */

static struct toy_entry *toy_slot(struct toy_entry *tlb, unsigned long addr)
{
	return &tlb[(addr >> PAGE_SHIFT) % TOY_NR_ENTRIES];
}

static struct toy_entry *toy_lookup(struct toy_entry *tlb,
				    const struct toy_job *job)
{
	struct toy_entry *entry = toy_slot(tlb, job->addr);

	if (entry->page && entry->pasid == job->pasid &&
	    entry->addr == (job->addr & PAGE_MASK))
		return entry;
	return NULL;
}

static void toy_set(struct toy_hw *hw, struct toy_entry *slot,
		    struct toy_entry new)
{
	hw->count.entries += !!new.page - !!slot->page;
	*slot = new;
}

static void toy_drop(struct toy_hw *hw, struct toy_entry *tlb, u32 pasid,
		     u64 first, u64 last)
{
	int i;

	for (i = 0; i < TOY_NR_ENTRIES; i++)
		if (tlb[i].pasid == pasid && tlb[i].addr <= last &&
		    tlb[i].addr + PAGE_SIZE - 1 >= first)
			toy_set(hw, &tlb[i], (struct toy_entry) {});
}

/* --- commands --- */

static void toy_set_state(struct toy_hw *hw, struct toy_job *job,
			  enum toy_state state)
{
	hw->count.waiting += (state == TOY_WAITING) - (job->state == TOY_WAITING);
	job->state = state;
}

static void toy_kick(struct toy_hw *hw)
{
	WRITE_ONCE(hw->kicked, true);
	swake_up_one(&hw->work);
}

static u64 toy_context(struct toy_hw *hw, u32 pasid)
{
	u64 *context = &hw->contexts[pasid];

	if (!(*context & TOY_VALID))
		*context = le64_to_cpu(READ_ONCE(hw->memory->contexts[pasid]));
	return *context;
}

static void toy_stop(struct toy_hw *hw, u32 pasid)
{
	struct toy_job *job;

	hw->contexts[pasid] = 0;
	if (toy_context(hw, pasid) & TOY_VALID)
		return;
	for (job = hw->jobs; job < hw->jobs + TOY_NR_REQUESTS; job++) {
		if (job->state == TOY_FREE || job->pasid != pasid)
			continue;
		job->stopping = true;
		job->flushes = hw->flushes[pasid];
	}
}

static void toy_respond(struct toy_hw *hw, u64 tag, bool failed)
{
	struct toy_job *job = &hw->jobs[tag % TOY_NR_REQUESTS];

	if (tag >= TOY_NR_REQUESTS || job->state != TOY_WAITING) {
		hw->count.errors++;
		return;
	}
	job->unmapped = false;
	job->flushes = hw->flushes[job->pasid];
	if (failed)
		job->tries = TOY_NR_TRIES;
	toy_set_state(hw, job, TOY_READY);
	toy_kick(hw);
}

static void toy_execute(struct toy_hw *hw, const struct toy_command *command)
{
	u64 first = le64_to_cpu(command->first), last = le64_to_cpu(command->last);
	u32 pasid = le32_to_cpu(command->pasid) % TOY_NR_PASIDS;

	switch (le32_to_cpu(command->op) & ~TOY_FENCE) {
	case TOY_FLUSH_IOTLB:
		hw->count.flushes++;
		hw->flushes[pasid]++;
		toy_drop(hw, hw->iotlb, pasid, first, last);
		break;
	case TOY_FLUSH_ATC:
		toy_drop(hw, hw->atc, pasid, first, last);
		break;
	case TOY_STOP:
		toy_stop(hw, pasid);
		break;
	case TOY_RESPOND:
		toy_respond(hw, first, last);
		break;
	case TOY_COMPLETE:
		if (lose_completions[hw->id])
			break;
		/* Behind all that the commands in front of it have changed. */
		smp_store_release(&hw->memory->done, cpu_to_le32(last));
		break;
	default:
		hw->count.errors++;
	}
}

static const struct toy_command *toy_command(struct toy_hw *hw, u32 nr)
{
	return &hw->memory->commands[nr % TOY_NR_COMMANDS];
}

static void toy_execute_next(struct toy_hw *hw)
{
	if (hw->reordered) {
		hw->reordered = false;
		toy_execute(hw, toy_command(hw, hw->head));
		hw->head += 2;
	} else if (reorder[hw->id] && hw->tail - hw->head > 1 &&
		   !(le32_to_cpu(toy_command(hw, hw->head + 1)->op) & TOY_FENCE)) {
		hw->reordered = true;
		toy_execute(hw, toy_command(hw, hw->head + 1));
	} else {
		toy_execute(hw, toy_command(hw, hw->head++));
	}
}

static ktime_t toy_latency(struct toy_hw *hw)
{
	return ns_to_ktime((u64)latency[hw->id] * NSEC_PER_USEC);
}

static enum hrtimer_restart toy_tick(struct hrtimer *timer)
{
	struct toy_hw *hw = container_of(timer, struct toy_hw, timer);
	enum hrtimer_restart ret = HRTIMER_NORESTART;
	unsigned long flags;

	raw_spin_lock_irqsave(&hw->lock, flags);
	while (hw->enabled && !stuck[hw->id] && hw->head != hw->tail) {
		toy_execute_next(hw);
		if (!latency[hw->id] || hw->head == hw->tail)
			continue;
		/* A doorbell may have started it again. */
		if (!hrtimer_is_queued(timer)) {
			hrtimer_forward_now(timer, toy_latency(hw));
			ret = HRTIMER_RESTART;
		}
		break;
	}
	raw_spin_unlock_irqrestore(&hw->lock, flags);
	return ret;
}

/* --- accesses --- */

/* Those who wait take a spinlock, which sleeps on PREEMPT_RT; ours does not. */
static void toy_wake(struct irq_work *wake)
{
	wake_up_all(&container_of(wake, struct toy_hw, wake)->done);
}

/* With the lock held.  @ret: why it has ended, 0 if it was done. */
static void toy_end(struct toy_hw *hw, struct toy_job *job, int ret)
{
	job->tries = 0;
	if (!job->done) {
		job->ret = ret;
		job->done = true;
		irq_work_queue(&hw->wake);
	}
	toy_set_state(hw, job, !ret && repeat[hw->id] && !job->stopping ?
		      TOY_READY : TOY_ENDED);
}

static bool toy_may_access(struct toy_hw *hw, struct toy_job *job)
{
	if (!hw->enabled)
		return false;
	if (job->stopping)
		return job->flushes == hw->flushes[job->pasid];
	return toy_context(hw, job->pasid) == (job->root | TOY_VALID);
}

static void toy_copy(struct toy_hw *hw, struct toy_job *job, struct page *page)
{
	if (job->write)
		memcpy_to_page(page, offset_in_page(job->addr), job->data, job->len);
	else
		memcpy_from_page(job->data, page, offset_in_page(job->addr), job->len);
	hw->count.accesses++;
}

/*
 * If the page is not there when the request was handled, it may be gone again,
 * or be the zero page, which get_user_pages_fast_only() does not find.  A write
 * replaces that, but memory that may not be written to cannot be read then.
 */
static void toy_request(struct toy_hw *hw, struct toy_job *job)
{
	struct toy_request *request =
		&hw->memory->requests[hw->request_tail % TOY_NR_REQUESTS];

	request->pasid = cpu_to_le32(job->pasid);
	request->tag = cpu_to_le16(job - hw->jobs);
	request->write = cpu_to_le16(job->write ||
				     job->tries >= TOY_NR_READS);
	request->addr = cpu_to_le64(job->addr);
	hw->request_tail++;
	job->tries++;
	toy_set_state(hw, job, TOY_WAITING);
}

/* What can be done without a walk.  Is it a walk that comes next? */
static bool toy_step(struct toy_hw *hw, struct toy_job *job)
{
	struct toy_entry *entry;
	bool interrupt = false, walk = false;
	unsigned long flags;

	raw_spin_lock_irqsave(&hw->lock, flags);
	entry = toy_lookup(hw->atc, job);
	if (!entry) {
		entry = toy_lookup(hw->iotlb, job);
		if (entry)
			toy_set(hw, toy_slot(hw->atc, job->addr), *entry);
	}
	if (!toy_may_access(hw, job)) {
		toy_end(hw, job, -EIO);
	} else if (entry && entry->write >= job->write) {
		toy_copy(hw, job, entry->page);
		toy_end(hw, job, 0);
	} else if (!entry && !job->unmapped) {
		if (!job->stopping)
			job->flushes = hw->flushes[job->pasid];
		hw->count.walks++;
		walk = true;
	} else if (job->stopping || job->tries >= TOY_NR_TRIES) {
		toy_end(hw, job, -EFAULT);
	} else {
		toy_request(hw, job);
		interrupt = true;
	}
	raw_spin_unlock_irqrestore(&hw->lock, flags);
	if (interrupt)
		irq_set_irqchip_state(hw->irq, IRQCHIP_STATE_PENDING, true);
	return walk;
}

/*
 * Hardware that writes sets the dirty bit in the page table.  Software can only
 * mark the page, and only if it is anonymous without the lock of the page, for
 * which the thread must not wait: reclaim holds it while it flushes.
 */
static struct page *toy_find_page(struct toy_job *job)
{
	struct page *page = NULL;
	int nr;

	kthread_use_mm(job->mm);
	nr = get_user_pages_fast_only(job->addr & PAGE_MASK, 1,
				      job->write ? FOLL_WRITE : 0, &page);
	kthread_unuse_mm(job->mm);
	if (nr != 1)
		return NULL;
	if (job->write && folio_test_anon(page_folio(page)))
		folio_mark_dirty(page_folio(page));
	return page;
}

static void toy_walk(struct toy_hw *hw, struct toy_job *job)
{
	struct page *page = toy_find_page(job);
	unsigned long flags;

	if (walk_delay[hw->id])
		fsleep(walk_delay[hw->id]);
	raw_spin_lock_irqsave(&hw->lock, flags);
	if (job->flushes != hw->flushes[job->pasid]) {
		hw->count.discarded++;
	} else if (!page) {
		job->unmapped = true;
	} else if (job->write && !folio_test_anon(page_folio(page))) {
		job->unmapped = true;
		job->tries = TOY_NR_TRIES;
	} else if (toy_may_access(hw, job)) {
		toy_set(hw, toy_slot(hw->iotlb, job->addr), (struct toy_entry) {
			.page = page,
			.addr = job->addr & PAGE_MASK,
			.pasid = job->pasid,
			.write = job->write,
		});
	}
	raw_spin_unlock_irqrestore(&hw->lock, flags);
	if (page)
		put_page(page);
}

/* The next one that is ready; those that have ended are freed. */
static struct toy_job *toy_next(struct toy_hw *hw)
{
	struct toy_job *job, *ready = NULL;
	unsigned int i;

	for (i = 0; i < TOY_NR_REQUESTS && !ready; i++) {
		struct mm_struct *mm = NULL;

		job = &hw->jobs[hw->next++ % TOY_NR_REQUESTS];
		raw_spin_lock_irq(&hw->lock);
		if (job->state == TOY_READY) {
			ready = job;
		} else if (job->state == TOY_ENDED && !job->waited_for) {
			mm = job->mm;
			hw->count.jobs--;
			toy_set_state(hw, job, TOY_FREE);
		}
		raw_spin_unlock_irq(&hw->lock);
		if (mm)
			mmdrop(mm);
	}
	return ready;
}

static int toy_thread(void *data)
{
	struct toy_hw *hw = data;
	struct toy_job *job;

	while (!kthread_should_stop()) {
		swait_event_idle_exclusive(hw->work, READ_ONCE(hw->kicked) ||
					   kthread_should_stop());
		WRITE_ONCE(hw->kicked, false);
		while ((job = toy_next(hw))) {
			while (toy_step(hw, job)) {
				toy_walk(hw, job);
				cond_resched();
			}
			if (repeat[hw->id])
				usleep_range(50, 100);
		}
	}
	return 0;
}

/* --- registers --- */

static void toy_control(struct toy_hw *hw, bool enabled)
{
	struct toy_job *job;

	if (enabled && !hw->enabled) {
		hw->head = 0;
		hw->tail = 0;
		hw->request_tail = 0;
		hw->reordered = false;
		memset(hw->contexts, 0, sizeof(hw->contexts));
	}
	hw->enabled = enabled;
	hw->count.entries = 0;
	memset(hw->iotlb, 0, sizeof(hw->iotlb));
	memset(hw->atc, 0, sizeof(hw->atc));
	for (job = hw->jobs; job < hw->jobs + TOY_NR_REQUESTS; job++)
		if (job->state == TOY_WAITING)
			toy_set_state(hw, job, TOY_READY);
	toy_kick(hw);
}

u64 toy_hw_read(struct toy_hw *hw, enum toy_register reg)
{
	unsigned long flags;
	u64 value = 0;

	raw_spin_lock_irqsave(&hw->lock, flags);
	switch (reg) {
	case TOY_CONTROL:
		value = hw->enabled ? TOY_ENABLE : 0;
		break;
	case TOY_REQUEST_TAIL:
		value = hw->request_tail;
		break;
	case TOY_MEMORY:
	case TOY_TAIL:
		break;
	}
	raw_spin_unlock_irqrestore(&hw->lock, flags);
	rmb();	/* as in readq() */
	return value;
}
EXPORT_SYMBOL_GPL(toy_hw_read);

void toy_hw_write(struct toy_hw *hw, enum toy_register reg, u64 value)
{
	unsigned long flags;

	wmb();	/* as in writeq() */
	raw_spin_lock_irqsave(&hw->lock, flags);
	switch (reg) {
	case TOY_CONTROL:
		toy_control(hw, value & TOY_ENABLE);
		break;
	case TOY_MEMORY:
		hw->memory = phys_to_virt(value);
		break;
	case TOY_TAIL:
		hw->tail = value;
		hw->count.doorbells++;
		/* If the timer is about to end, it finds the lock held. */
		if (!hrtimer_is_queued(&hw->timer))
			hrtimer_start(&hw->timer, toy_latency(hw),
				      HRTIMER_MODE_REL_PINNED_HARD);
		break;
	case TOY_REQUEST_TAIL:
		break;
	}
	raw_spin_unlock_irqrestore(&hw->lock, flags);
}
EXPORT_SYMBOL_GPL(toy_hw_write);

/* --- the portal --- */

/* The device finds the mm by the root that the driver gave it for the PASID. */
static u64 toy_root(struct mm_struct *mm)
{
#if TREE < 612
	return virt_to_phys(mm_device_pgd(mm));
#else
	return virt_to_phys(mm->pgd);
#endif
}

static int toy_new(struct toy_job *job, u32 pasid, size_t len, loff_t addr)
{
	*job = (struct toy_job) {
		.state = TOY_READY,
		.waited_for = true,
		.pasid = pasid,
		.mm = current->mm,
		.root = toy_root(current->mm),
		/* TLBs are for addresses without tags, as flushes are. */
		.addr = untagged_addr((unsigned long)addr),
	};
	job->len = min3(len, TOY_MAX_LEN, PAGE_SIZE - offset_in_page(job->addr));
	return (unsigned long)addr == addr ? 0 : -EFAULT;
}

static struct toy_job *toy_submit(struct toy_hw *hw, const struct toy_job *new)
{
	struct toy_job *job = hw->jobs;

	raw_spin_lock_irq(&hw->lock);
	while (job < hw->jobs + TOY_NR_REQUESTS && job->state != TOY_FREE)
		job++;
	if (job < hw->jobs + TOY_NR_REQUESTS) {
		*job = *new;
		mmgrab(job->mm);
		hw->count.jobs++;
		toy_kick(hw);
	} else {
		job = NULL;
	}
	raw_spin_unlock_irq(&hw->lock);
	return job;
}

/* @new is what is to be done.  If the process is killed, the device goes on. */
static int toy_access(struct toy_hw *hw, struct toy_job *new)
{
	struct toy_job *job = toy_submit(hw, new);
	int ret;

	if (!job)
		return -EBUSY;
	ret = wait_event_killable(hw->done, READ_ONCE(job->done));
	raw_spin_lock_irq(&hw->lock);
	if (!ret) {
		ret = job->ret;
		memcpy(new->data, job->data, new->len);
	}
	job->waited_for = false;
	toy_kick(hw);
	raw_spin_unlock_irq(&hw->lock);
	return ret;
}

ssize_t toy_portal_read(struct toy_hw *hw, u32 pasid, char __user *to,
			size_t len, loff_t *addr)
{
	struct toy_job job;
	int ret;

	ret = toy_new(&job, pasid, len, *addr);
	if (!ret)
		ret = toy_access(hw, &job);
	if (ret)
		return ret;
	if (copy_to_user(to, job.data, job.len))
		return -EFAULT;
	*addr += job.len;
	return job.len;
}
EXPORT_SYMBOL_GPL(toy_portal_read);

ssize_t toy_portal_write(struct toy_hw *hw, u32 pasid, const char __user *from,
			 size_t len, loff_t *addr)
{
	struct toy_job job;
	int ret;

	ret = toy_new(&job, pasid, len, *addr);
	if (ret)
		return ret;
	job.write = true;
	if (copy_from_user(job.data, from, job.len))
		return -EFAULT;
	ret = toy_access(hw, &job);
	if (ret)
		return ret;
	*addr += job.len;
	return job.len;
}
EXPORT_SYMBOL_GPL(toy_portal_write);

/* --- devices --- */

struct toy_hw *toy_hw_map(struct platform_device *pdev)
{
	return toy_hw[pdev->id];
}
EXPORT_SYMBOL_GPL(toy_hw_map);

static void toy_show(struct toy_hw *hw)
{
	static const char * const names[] = {
		"doorbells", "flushes", "accesses", "walks", "discarded",
		"entries", "jobs", "waiting", "errors",
	};
	u32 *counter = (u32 *)&hw->count;
	char name[sizeof("mmu_notifier_toy00")];
	int i;

	BUILD_BUG_ON(sizeof(hw->count) != ARRAY_SIZE(names) * sizeof(*counter));
	snprintf(name, sizeof(name), "mmu_notifier_toy%u", hw->id);
	hw->debugfs = debugfs_create_dir(name, NULL);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		debugfs_create_u32(names[i], 0400, hw->debugfs, counter + i);
}

static int toy_plug(struct toy_hw *hw)
{
	const struct resource interrupt = DEFINE_RES_IRQ(hw->irq);

	hw->pdev = platform_device_register_simple("mmu_notifier_toy", hw->id,
						   &interrupt, 1);
	return PTR_ERR_OR_ZERO(hw->pdev);
}

/* Undoes as much of toy_add() as was done. */
static void toy_remove(struct toy_hw *hw)
{
	if (!IS_ERR_OR_NULL(hw->pdev))
		platform_device_unregister(hw->pdev);
	debugfs_remove(hw->debugfs);
	hrtimer_cancel(&hw->timer);
	if (!IS_ERR_OR_NULL(hw->thread))
		kthread_stop(hw->thread);
	irq_work_sync(&hw->wake);
	if (hw->irq)
		irq_dispose_mapping(hw->irq);
	if (!IS_ERR_OR_NULL(hw->domain))
		irq_domain_remove_sim(hw->domain);
	kvfree(hw);
}

static int toy_add(struct toy_hw *hw)
{
	raw_spin_lock_init(&hw->lock);
	init_swait_queue_head(&hw->work);
	init_waitqueue_head(&hw->done);
	init_irq_work(&hw->wake, toy_wake);
#if TREE < 703
	hrtimer_init(&hw->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	hw->timer.function = toy_tick;
#else
	hrtimer_setup(&hw->timer, toy_tick, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_HARD);
#endif
	hw->domain = irq_domain_create_sim(NULL, 1);
	if (IS_ERR(hw->domain))
		return PTR_ERR(hw->domain);
	hw->irq = irq_create_mapping(hw->domain, 0);
	if (!hw->irq)
		return -ENOMEM;
	hw->thread = kthread_run(toy_thread, hw, "mmu_notifier_toy%u", hw->id);
	if (IS_ERR(hw->thread))
		return PTR_ERR(hw->thread);
	toy_show(hw);
	return toy_plug(hw);
}

static void toy_remove_all(void)
{
	int i;

	for (i = 0; i < TOY_NR_DEVICES && toy_hw[i]; i++)
		toy_remove(toy_hw[i]);
}

static int __init toy_init(void)
{
	int i, ret = 0;

	for (i = 0; i < TOY_NR_DEVICES && !ret; i++) {
#if TREE < 703
		toy_hw[i] = kvzalloc(sizeof(*toy_hw[i]), GFP_KERNEL);
#else
		toy_hw[i] = kvzalloc_obj(*toy_hw[i]);
#endif
		if (!toy_hw[i]) {
			ret = -ENOMEM;
			break;
		}
		toy_hw[i]->id = i;
		ret = toy_add(toy_hw[i]);
	}
	if (ret)
		toy_remove_all();
	return ret;
}
module_init(toy_init);

static void __exit toy_exit(void)
{
	toy_remove_all();
}
module_exit(toy_exit);

MODULE_DESCRIPTION("Device with secondary TLBs for a sample driver");
MODULE_LICENSE("GPL");
