// SPDX-License-Identifier: GPL-2.0
/*
 * The subscribers that the benchmark attaches to its process, see mmu_subscribers.h.  They
 * count, so that what is measured is the mm's part.  One source for stock, base and series.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/timex.h>
#include <linux/uaccess.h>
#include <asm/tlb.h>

#include "mmu_subscribers.h"

#define MAX_SUBSCRIBERS	16

struct subscriber {
	enum subscriber_kind kind;
	struct mmu_notifier notifier;
	struct mmu_interval_notifier interval;
	u64 calls;
};

struct session {
	struct mutex lock;	/* protects what follows */
	struct subscriber *subscribers[MAX_SUBSCRIBERS];
	int nr;
};

static int count_start(struct mmu_notifier *notifier,
		       const struct mmu_notifier_range *range)
{
	return 0;
}

static void count_end(struct mmu_notifier *notifier,
		      const struct mmu_notifier_range *range)
{
}

static const struct mmu_notifier_ops without_op = {
	.invalidate_range_start = count_start,
	.invalidate_range_end = count_end,
};

#ifdef HAVE_INVALIDATE_RANGE
static void count_call(struct mmu_notifier *notifier, struct mm_struct *mm,
		       unsigned long start, unsigned long end)
{
	container_of(notifier, struct subscriber, notifier)->calls++;
}
#endif

static void do_nothing(struct mmu_notifier *notifier, struct mm_struct *mm)
{
}

static const struct mmu_notifier_ops with_op = {
	.release = do_nothing,
#ifdef HAVE_INVALIDATE_RANGE
	.invalidate_range = count_call,
#endif
};

static bool count_interval(struct mmu_interval_notifier *interval,
			   const struct mmu_notifier_range *range,
			   unsigned long seq)
{
	mmu_interval_set_seq(interval, seq);
	return true;
}

static const struct mmu_interval_notifier_ops interval_ops = {
	.invalidate = count_interval,
};

static int subscribe(struct subscriber *s, struct subscriber_attach *attach)
{
	switch (attach->kind) {
	case SUBSCRIBER_INTERVAL:
		return mmu_interval_notifier_insert(&s->interval, current->mm,
						    attach->start,
						    attach->length,
						    &interval_ops);
	case SUBSCRIBER_WITHOUT_OP:
		s->notifier.ops = &without_op;
		return mmu_notifier_register(&s->notifier, current->mm);
	case SUBSCRIBER_WITH_OP:
		s->notifier.ops = &with_op;
		return mmu_notifier_register(&s->notifier, current->mm);
	}
	return -EINVAL;
}

static int session_attach(struct session *session,
			  struct subscriber_attach *attach)
{
	struct subscriber *s;
	cycles_t begin;
	int err;

	if (session->nr == MAX_SUBSCRIBERS)
		return -ENOSPC;
	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	s->kind = attach->kind;
	begin = get_cycles();
	err = subscribe(s, attach);
	attach->ticks = get_cycles() - begin;
	if (err) {
		kfree(s);
		return err;
	}
	session->subscribers[session->nr++] = s;
	return 0;
}

static u64 session_detach(struct session *session)
{
	struct subscriber *s;
	cycles_t begin;
	u64 ticks = 0;

	while (session->nr) {
		s = session->subscribers[--session->nr];
		begin = get_cycles();
		if (s->kind == SUBSCRIBER_INTERVAL)
			mmu_interval_notifier_remove(&s->interval);
		else
			mmu_notifier_unregister(&s->notifier, s->notifier.mm);
		ticks = get_cycles() - begin;
		kfree(s);
	}
	return ticks;
}

static u64 session_calls(struct session *session)
{
	u64 calls = 0;
	int i;

	for (i = 0; i < session->nr; i++)
		calls += READ_ONCE(session->subscribers[i]->calls);
	return calls;
}

static long session_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct session *session = file->private_data;
	struct subscriber_attach __user *to = (void __user *)arg;
	struct subscriber_attach attach;
	u64 result = 0;
	long ret = 0;

	if (cmd == SUBSCRIBERS_ATTACH && copy_from_user(&attach, to, sizeof(attach)))
		return -EFAULT;

	mutex_lock(&session->lock);
	switch (cmd) {
	case SUBSCRIBERS_ATTACH:
		ret = session_attach(session, &attach);
		break;
	case SUBSCRIBERS_DETACH:
		result = session_detach(session);
		break;
	case SUBSCRIBERS_CALLS:
		result = session_calls(session);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&session->lock);

	if (ret)
		return ret;
	if (cmd == SUBSCRIBERS_ATTACH)
		return copy_to_user(to, &attach, sizeof(attach)) ? -EFAULT : 0;
	return put_user(result, (u64 __user *)arg);
}

static int session_open(struct inode *inode, struct file *file)
{
	struct session *session = kzalloc(sizeof(*session), GFP_KERNEL);

	if (!session)
		return -ENOMEM;
	mutex_init(&session->lock);
	file->private_data = session;
	return 0;
}

static int session_release(struct inode *inode, struct file *file)
{
	session_detach(file->private_data);
	kfree(file->private_data);
	return 0;
}

static const struct file_operations session_fops = {
	.owner = THIS_MODULE,
	.open = session_open,
	.release = session_release,
	.unlocked_ioctl = session_ioctl,
};

static struct miscdevice subscribers = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mmu_subscribers",
	.fops = &session_fops,
};
builtin_misc_device(subscribers);

/* For size.sh. */
static int __init print_sizes(void)
{
	pr_info("size\tmm_struct\t%zu\n", sizeof(struct mm_struct));
	pr_info("size\ttask_struct\t%zu\n", sizeof(struct task_struct));
	pr_info("size\tmmu_gather\t%zu\n", sizeof(struct mmu_gather));
	pr_info("size\tmmu_notifier\t%zu\n", sizeof(struct mmu_notifier));
	return 0;
}
late_initcall(print_sizes);
