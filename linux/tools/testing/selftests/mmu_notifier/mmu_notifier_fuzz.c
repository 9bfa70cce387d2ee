// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on an address space that a device shares.
 *
 * A process opens /dev/shadow_tlb and makes one random operation after the
 * other on its own memory, from a seed.  Before each, the device loads
 * translations of what is about to change; a thread lets it read and write at
 * any moment, on another CPU.  After each operation, or with several threads
 * after each round of them, the device must not have been able to reach a page
 * that was freed, nor a page-table page, must have got no bad range, and must
 * hold nothing that allows more than the page table does.
 *
 * An epoch is a process of its own with EPOCH operations, and has its own
 * number of threads, mix of operations and settings of the machine: to repeat a
 * failure, only its epoch is repeated.  With one thread, the sequence that
 * fails is cut down to the shortest one that still does.
 *
 * The environment says what to do:
 * FUZZ_SEED	seed, 1 by default
 * FUZZ_SECONDS	time, 10 s by default
 * FUZZ_UNTIL	only the epoch of this operation, until it; again and again
 *		until the failure is there or the time is over
 * FUZZ_THREADS	number of threads; by default each second epoch has one, and
 *		the others have 2 to 8
 * FUZZ_REDUCE	seconds for cutting down, 0 to leave it, 120 by default
 * FUZZ_TRACE	1 to print each operation, for those that the kernel does not
 *		survive
 *
 * As root, and in a virtual machine: it changes settings, takes swap away,
 * takes pages out of service.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "mmu_notifier_util.h"

#define EXEC_CHILD	"MMU_NOTIFIER_FUZZ_EXEC"

#define EPOCH		250	/* operations of a thread in one process */
#define MAX_THREADS	8
#define SLOTS		8	/* of a thread */
#define ALL_SLOTS	(MAX_THREADS * SLOTS)
#define MAX_KIDS	3	/* of a thread, that share its pages */
#define ROUND		16	/* operations of threads from one check to the next */
#define SPOTS		16	/* of a large range that are used */
#define FEW		64	/* pages of which all are used */
#define HISTORY		24	/* operations that a failure shows */
#define TEXT		192
#define CHILD_DEV	900	/* descriptor of the device of a child */
#define PATIENCE	60	/* seconds that an operation may take */

#define WINDOWS		(64 * GIB)	/* where slots are: one GiB each */

static size_t huge_size, hugetlb_size;

/* Results of operations, besides 0 and -1 with errno. */
#define NOTHING_TO_DO	1	/* does not count */

/* How an epoch ended: exit status of its process. */
enum verdict { CLEAN, FOUND, BROKEN, DIED, HUNG };

/* What can be mapped. */
enum {
	ANON, THP_ANON, GIANT, SHARED, SHMEM, SHMEM_PRIVATE, SHMEM_HUGE,
	HUGETLB, HUGETLB_SHARED, HUGETLB_GIANT, BLOCK, PFN, SECRET, NR_KINDS
};

#define BIT(kind)	(1U << (kind))
#define ANONS		(BIT(ANON) | BIT(THP_ANON) | BIT(GIANT))
#define SHMEMS		(BIT(SHARED) | BIT(SHMEM) | BIT(SHMEM_HUGE))
#define FILES		(BIT(SHMEM) | BIT(SHMEM_PRIVATE) | BIT(SHMEM_HUGE))
#define HUGETLBS	(BIT(HUGETLB) | BIT(HUGETLB_SHARED) | BIT(HUGETLB_GIANT))
#define SMALL_PAGES	(ANONS | SHMEMS | FILES)
#define PAGES		(SMALL_PAGES | HUGETLBS)
#define EVERYTHING	(BIT(NR_KINDS) - 1)

enum backing { NO_FILE, MEMFD, HUGE_MEMFD, A_BLOCK_DEVICE, A_BAR, A_SECRET };

static const struct kind {
	const char *name;
	enum backing backing;
	int flags;
	char size;	/* Small, Huge, Giant, 1 page */
	int weight;
} kinds[NR_KINDS] = {
	[ANON] = { "anon", NO_FILE, MAP_PRIVATE | MAP_ANONYMOUS, 'S', 8 },
	[THP_ANON] = { "thp", NO_FILE, MAP_PRIVATE | MAP_ANONYMOUS, 'H', 5 },
	[GIANT] = { "giant", NO_FILE, MAP_PRIVATE | MAP_ANONYMOUS, 'G', 3 },
	[SHARED] = { "shared", NO_FILE, MAP_SHARED | MAP_ANONYMOUS, 'S', 2 },
	[SHMEM] = { "shmem", MEMFD, MAP_SHARED, 'S', 4 },
	[SHMEM_PRIVATE] = { "shmem-private", MEMFD, MAP_PRIVATE, 'S', 3 },
	[SHMEM_HUGE] = { "shmem-huge", MEMFD, MAP_SHARED, 'H', 3 },
	[HUGETLB] = { "hugetlb", NO_FILE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, 'H', 5 },
	[HUGETLB_SHARED] = { "hugetlb-shared", HUGE_MEMFD, MAP_SHARED, 'H', 4 },
	[HUGETLB_GIANT] = { "hugetlb-giant", HUGE_MEMFD, MAP_SHARED, 'G', 3 },
	[BLOCK] = { "block", A_BLOCK_DEVICE, MAP_SHARED, 'S', 2 },
	[PFN] = { "pfn", A_BAR, MAP_SHARED, '1', 3 },
	[SECRET] = { "secret", A_SECRET, MAP_SHARED, 'S', 1 },
};

struct slot {
	char *addr;
	size_t len;	/* 0 if nothing is mapped */
	size_t unit;	/* size of a page */
	off_t offset;	/* in the file */
	int kind;
	int fd;		/* the file, or -1 */
	int uffd;	/* or -1 */
	bool restricted;	/* perhaps it cannot be written to */
};

struct range {
	struct slot *slot;
	char *addr;
	size_t len;
};

struct thread {
	pthread_t pthread;
	int nr;
	uint64_t rng;
	struct slot *slots;
	pid_t kids[MAX_KIDS];
	int nr_kids;
	int ring;	/* with pinned pages, or -1 */
	bool *enabled;	/* operations */
	int fail_nth;	/* where memory is made to run out, or -1 */
	char *text;	/* what the operation does, for people */
};

struct op {
	const char *name;
	int weight;
	int (*run)(struct thread *t, const struct op *op);
	unsigned int kinds;
	int arg;
	const char *rare;	/* why it succeeds less often than others */
};

static const struct op ops[];
static const int nr_ops;

#define MAX_OPS		128

/* Of the process that starts the others, and what these tell it. */
static struct shared {
	/* what to do */
	uint64_t seed, first;	/* first operation of the epoch */
	uint64_t until;		/* the last one */
	int threads;		/* 0: as the seed says */
	bool trace;
	bool skip[EPOCH];	/* operations to leave out */
	bool no_device_thread;
	time_t end;		/* of the time; 0: none */
	/* how far it is */
	uint64_t now[MAX_THREADS];
	uint64_t operations, injected, accesses, calls;
	uint64_t tried[MAX_OPS], done[MAX_OPS], spent[MAX_OPS];
	int error[MAX_OPS];
	int nr_threads;
	char text[MAX_THREADS][EPOCH][TEXT];
	/* what was found */
	bool found;
	uint64_t found_at;
	int found_by;
	char finding[TEXT];
	/* budget of pages that go out of service */
	int lost_pages;
} *shared;

/* Of this process. */
static struct slot slots[ALL_SLOTS];
static struct thread threads[MAX_THREADS];
static int nr_threads;
static int dev = -1;
static int hmm = -1;
static bool has_device_thread, stop_device_thread;
static bool has_failures;
static bool has_company;	/* somebody else zaps pages of this mm */
static bool in_child;
static bool enabled[MAX_THREADS][MAX_OPS];
static unsigned int absent;	/* kinds that there are not */
static char swap_device[64], bar[256];
static char *buffer;	/* of a few pages */
static pthread_barrier_t barrier;
static pthread_mutex_t machine = PTHREAD_MUTEX_INITIALIZER;

/* Numbers. */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static unsigned int rnd(struct thread *t, unsigned int below)
{
	t->rng = mix(t->rng);
	return (t->rng >> 32) % below;
}

/* True in one of @n cases. */
static bool one_in(struct thread *t, unsigned int n)
{
	return !rnd(t, n);
}

static uint64_t microseconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static time_t now(void)
{
	return microseconds() / 1000000;
}

static void say(struct thread *t, const char *format, ...)
{
	size_t len = strlen(t->text);
	va_list args;

	va_start(args, format);
	vsnprintf(t->text + len, TEXT - len, format, args);
	va_end(args);
}

static void bind_to_cpu(int nr)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(nr % sysconf(_SC_NPROCESSORS_CONF), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Memory that cannot be used as it is mapped, or is gone, costs a signal. */

static __thread sigjmp_buf jump;
static __thread bool jumps;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	if (__atomic_load_n(&jumps, __ATOMIC_SEQ_CST))
		siglongjmp(jump, 1);
	/* Memory failure tells whoever made it.  All else is a bug here. */
	if (sig != SIGBUS || info->si_code != BUS_MCEERR_AO)
		signal(sig, SIG_DFL);
}

static void catch_signals(void)
{
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_NODEFER | SA_SIGINFO,
	};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* Pages of a range that are used: all of few, some of many. */
static size_t step_of(const struct range *r)
{
	size_t pages = r->len / page_size;

	return pages <= FEW ? page_size : pages / SPOTS * page_size;
}

static int touch(const struct range *r, bool write, char value)
{
	const size_t step = step_of(r);
	size_t at;

	if (sigsetjmp(jump, 0)) {
		jumps = false;
		errno = EFAULT;
		return -1;
	}
	__atomic_store_n(&jumps, true, __ATOMIC_SEQ_CST);
	for (at = 0; at < r->len; at += step) {
		if (write)
			__atomic_store_n(r->addr + at, value, __ATOMIC_SEQ_CST);
		else
			__atomic_load_n(r->addr + at, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&jumps, false, __ATOMIC_SEQ_CST);
	return 0;
}

/* The device. */

static uint64_t dev_range(unsigned long cmd, const void *addr, size_t len)
{
	struct shadow_tlb_range range = { .addr = (uintptr_t)addr, .len = len };

	if (ioctl(__atomic_load_n(&dev, __ATOMIC_RELAXED), cmd, &range))
		return 0;
	return range.pages;
}

static void dev_use(const struct range *r, bool write)
{
	unsigned long cmd = write ? SHADOW_TLB_WRITE : SHADOW_TLB_READ;
	size_t step = step_of(r);
	char *p;

	if (step == page_size) {
		dev_range(cmd, r->addr, r->len);
		return;
	}
	for (p = r->addr; p < r->addr + r->len; p += step)
		dev_range(cmd, p, page_size);
}

/* What the device has to do with a range that is about to change. */
static void load(struct thread *t, const struct range *r)
{
	bool write = one_in(t, 2);

	if (one_in(t, 8))
		return;
	dev_use(r, write);
	say(t, write ? " W" : " R");
	if (one_in(t, 4)) {
		dev_range(SHADOW_TLB_RUN_ON, r->addr,
			  r->len < FEW / 4 * page_size ? r->len :
			  FEW / 4 * page_size);
		say(t, "on");
	} else if (one_in(t, 4)) {
		dev_range(SHADOW_TLB_RUN_ON, r->addr, 0);
	}
}

static int attach(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	__atomic_store_n(&dev, fd, __ATOMIC_RELAXED);
	return fd < 0 ? -1 : 0;
}

static void count_report(const struct shadow_tlb_report *report)
{
	__atomic_add_fetch(&shared->accesses, report->accesses, __ATOMIC_RELAXED);
	__atomic_add_fetch(&shared->calls, report->calls, __ATOMIC_RELAXED);
}

static void detach(void)
{
	struct shadow_tlb_report report;

	if (!ioctl(dev, SHADOW_TLB_REPORT, &report))
		count_report(&report);
	close(dev);
}

/* Where the device has a translation, and the process nothing: "slot+page". */
static void show_stale(struct thread *t)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), shown = 0, i;
	struct shadow_tlb_report later;
	uint64_t entry;
	size_t at;

	for (i = 0; i < nr_threads * SLOTS; i++) {
		const struct slot *s = &slots[i];
		size_t pages = s->len < 2048 * page_size ? s->len / page_size : 0;

		for (at = 0; at < pages && shown < 8; at++) {
			char *addr = s->addr + at * page_size;

			if (s->kind == PFN ||
			    !dev_range(SHADOW_TLB_CACHED, addr, page_size) ||
			    pread(fd, &entry, 8, (uintptr_t)addr / page_size * 8) != 8 ||
			    entry >> 63)
				continue;
			say(t, "%s#%d+%zu", shown++ ? " " : "; stale: ", i, at);
		}
	}
	close(fd);
	usleep(600000);
	if (!ioctl(dev, SHADOW_TLB_REPORT, &later))
		say(t, "; %llu a moment later", later.stale);
}

/* The first finding is the one that counts; the process ends with it. */
static void found(struct thread *t, const char *whose,
		  const struct shadow_tlb_report *r)
{
	if (!__atomic_exchange_n(&shared->found, true, __ATOMIC_SEQ_CST)) {
		shared->found_at = shared->now[t->nr];
		shared->found_by = t->nr;
		snprintf(shared->finding, TEXT,
			 "%sfreed pages %llu, freed tables %llu, bad ranges %llu, stale entries %llu, stale used %llu%s",
			 whose, r->freed_pages, r->freed_tables, r->bad_ranges,
			 r->stale, r->stale_used,
			 r->compared ? "" : "; an operation does not end");
		count_report(r);
		if (!in_child && r->stale)
			show_stale(t);
	}
	_exit(FOUND);
}

static bool is_bad(const struct shadow_tlb_report *report)
{
	/*
	 * A page that one thread zaps and another one uses is not the same
	 * one before the flush, for CPUs neither.
	 */
	bool racy = nr_threads > 1 || has_company;

	return report->freed_pages || report->freed_tables ||
	       report->bad_ranges || report->stale ||
	       (report->stale_used && !racy);
}

static void check(struct thread *t)
{
	struct shadow_tlb_report report;

	if (ioctl(dev, SHADOW_TLB_REPORT, &report))
		return;
	if (is_bad(&report) || !report.compared)
		found(t, in_child ? "of a child: " : "", &report);
	if (shared->found)
		_exit(FOUND);
}

/* Slots. */

static char *window(const struct slot *s)
{
	return (char *)WINDOWS + (s - slots) * GIB;
}

static void forget(struct slot *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->uffd >= 0)
		close(s->uffd);
	memset(s, 0, sizeof(*s));
	s->fd = -1;
	s->uffd = -1;
}

static void vacate(struct slot *s)
{
	munmap(window(s), GIB);
	forget(s);
}

static int open_backing(enum backing backing, size_t len)
{
	int fd = -1;

	switch (backing) {
	case MEMFD:
		fd = memfd_create("fuzz", MFD_CLOEXEC);
		break;
	case HUGE_MEMFD:
		fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_HUGETLB);
		break;
	case A_SECRET:
		fd = syscall(__NR_memfd_secret, O_CLOEXEC);
		break;
	case A_BLOCK_DEVICE:
		return open(BLOCK_DEVICE, O_RDWR | O_CLOEXEC);
	case A_BAR:
		return open(bar, O_RDWR | O_CLOEXEC);
	case NO_FILE:
		return -1;
	}
	if (fd >= 0 && ftruncate(fd, len)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Where and how large: near the border of a page table, or anywhere. */
static void place(struct thread *t, struct slot *s, int kind)
{
	size_t small = huge_size ?: 512 * page_size;
	size_t huge = s->unit > page_size ? s->unit : small;

	s->addr = window(s);
	switch (kinds[kind].size) {
	case '1':
		s->len = page_size;
		break;
	case 'S':
		s->len = (1 + rnd(t, 48)) * page_size;
		s->addr += one_in(t, 2) ? small - (1 + rnd(t, 48)) * page_size :
			   rnd(t, 64) * page_size;
		break;
	case 'H':
		s->len = (1 + rnd(t, 2)) * huge;
		s->addr += rnd(t, 3) * huge;
		break;
	case 'G':
		s->len = GIB;
		break;
	}
}

/* A page beside it, with which its page table stays when it goes. */
static void add_neighbour(struct slot *s)
{
	struct range r = { .slot = s, .len = page_size };

	if (s->len == GIB)
		return;
	r.addr = s->addr > window(s) ? s->addr - page_size : s->addr + s->len;
	if (mmap(r.addr, r.len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) == r.addr)
		touch(&r, false, 0);
}

/* Hints that make an area what it is to be. */
static void after_map(struct thread *t, struct slot *s)
{
	if (s->kind == THP_ANON || s->kind == SHMEM_HUGE)
		madvise(s->addr, s->len,
			one_in(t, 4) ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	else if (s->kind == GIANT)
		madvise(s->addr, s->len, MADV_NOHUGEPAGE);
}

static int map_kind(struct thread *t, struct slot *s, int kind)
{
	const struct kind *k = &kinds[kind];
	int flags = k->flags | MAP_FIXED | MAP_NORESERVE;

	vacate(s);
	s->unit = k->backing == HUGE_MEMFD || k->flags & MAP_HUGETLB ?
		  hugetlb_size : page_size;
	place(t, s, kind);
	if (k->backing != NO_FILE) {
		s->fd = open_backing(k->backing, s->len);
		if (s->fd < 0)
			goto fail;
	}
	s->kind = kind;
	say(t, " %s#%d@%zx:%zu", k->name, (int)(s - slots),
	    (s->addr - window(s)) / page_size, s->len / page_size);
	if (mmap(s->addr, s->len, PROT_READ | PROT_WRITE, flags, s->fd, 0) !=
	    s->addr)
		goto fail;
	after_map(t, s);
	if (kind == PFN || one_in(t, 2))
		add_neighbour(s);
	return 0;
fail:
	forget(s);
	return -1;
}

static struct slot *random_slot(struct thread *t)
{
	return &t->slots[rnd(t, SLOTS)];
}

/* One of these kinds, by their weights. */
static int random_kind(struct thread *t, unsigned int allowed)
{
	int kind, sum = 0, at;

	allowed &= ~absent;
	for (kind = 0; kind < NR_KINDS; kind++)
		if (allowed & BIT(kind))
			sum += kinds[kind].weight;
	if (!sum)
		return -1;
	at = rnd(t, sum);
	for (kind = 0; kind < NR_KINDS; kind++) {
		if (!(allowed & BIT(kind)))
			continue;
		at -= kinds[kind].weight;
		if (at < 0)
			break;
	}
	return kind;
}

/* The first of these kinds from somewhere on, or a new one. */
static struct slot *find_slot(struct thread *t, unsigned int allowed)
{
	int from = rnd(t, SLOTS), i, kind;
	struct slot *s;

	for (i = 0; i < SLOTS && !one_in(t, 12); i++) {
		s = &t->slots[(from + i) % SLOTS];
		if (s->len && allowed & BIT(s->kind))
			return s;
	}
	kind = random_kind(t, allowed);
	s = &t->slots[from];
	return kind < 0 || map_kind(t, s, kind) ? NULL : s;
}

/* Gives back what mprotect() and userfaultfd took. */
static void give_back(struct slot *s)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)s->addr, .len = s->len },
	};

	if (s->uffd >= 0)
		ioctl(s->uffd, UFFDIO_WRITEPROTECT, &wp);
	mprotect(s->addr, s->len, PROT_READ | PROT_WRITE);
	s->restricted = false;
}

/* A part of a slot: all, one page, or some. */
static void part_of(struct thread *t, struct slot *s, struct range *r)
{
	size_t units = s->len / s->unit, first, nr;

	r->slot = s;
	r->addr = s->addr;
	r->len = s->len;
	if (one_in(t, 3))
		return;
	if (kinds[s->kind].size == 'G' && units > 4 * FEW) {
		r->addr += rnd(t, 4) * (s->len / 4) + rnd(t, 8) * s->unit;
		r->len = (1 + rnd(t, 16)) * s->unit;
		return;
	}
	if (kinds[s->kind].size == 'H' && units > 1 && one_in(t, 2)) {
		size_t huge = huge_size ?: s->unit;

		if (s->len > huge)
			r->addr += rnd(t, s->len / huge) * huge;
		r->len = huge < s->len ? huge : s->len;
		return;
	}
	first = rnd(t, units);
	nr = 1 + (one_in(t, 2) ? 0 : rnd(t, units - first));
	r->addr += first * s->unit;
	r->len = nr * s->unit;
}

static void say_range(struct thread *t, const struct range *r)
{
	say(t, " %s#%d+%zu:%zu", kinds[r->slot->kind].name,
	    (int)(r->slot - slots), (r->addr - r->slot->addr) / page_size,
	    r->len / page_size);
}

/* CPU and device use it; mostly. */
static void warm_up(struct thread *t, const struct range *r)
{
	bool write = !one_in(t, 4) && r->slot->kind != PFN;

	if (!one_in(t, 8))
		touch(r, write, 1 + rnd(t, 3));
	load(t, r);
}

/* A range of one of the thread's own slots. */
static int pick(struct thread *t, unsigned int allowed, struct range *r)
{
	struct slot *s = find_slot(t, allowed);

	if (!s)
		return -1;
	if (s->restricted && !one_in(t, 4))
		give_back(s);
	part_of(t, s, r);
	say_range(t, r);
	warm_up(t, r);
	return 0;
}

/* The same, or a range of another thread, which does with it what it likes. */
static int pick_any(struct thread *t, unsigned int allowed, struct range *r)
{
	struct slot *s, copy;

	if (nr_threads == 1 || in_child || !one_in(t, 3))
		return pick(t, allowed, r);
	s = &slots[rnd(t, nr_threads * SLOTS)];
	/* Perhaps it changes just now: then this is another range. */
	copy = *s;
	if (!copy.len || !copy.unit || copy.kind >= NR_KINDS ||
	    !(allowed & BIT(copy.kind)))
		return pick(t, allowed, r);
	part_of(t, &copy, r);
	r->slot = s;
	say_range(t, r);
	warm_up(t, r);
	return 0;
}

/* Mapping and unmapping. */

static int op_map(struct thread *t, const struct op *op)
{
	struct slot *s = random_slot(t);
	int kind = random_kind(t, op->kinds);
	struct range r;

	if (kind < 0)
		return NOTHING_TO_DO;
	if (map_kind(t, s, kind))
		return -1;
	part_of(t, s, &r);
	warm_up(t, &r);
	return 0;
}

/* The same file, a second time. */
static int op_map_again(struct thread *t, const struct op *op)
{
	struct slot *from = find_slot(t, op->kinds), *to = random_slot(t);
	struct range r;
	struct slot s;

	if (!from || from->fd < 0 || from == to)
		return NOTHING_TO_DO;
	vacate(to);
	s = *from;
	s.addr = window(to) + (from->addr - window(from));
	s.fd = dup(from->fd);
	s.uffd = -1;
	if (mmap(s.addr, s.len, PROT_READ | PROT_WRITE,
		 kinds[s.kind].flags | MAP_FIXED | MAP_NORESERVE, s.fd,
		 s.offset) != s.addr) {
		close(s.fd);
		return -1;
	}
	*to = s;
	part_of(t, to, &r);
	say_range(t, &r);
	warm_up(t, &r);
	return 0;
}

static int op_munmap(struct thread *t, const struct op *op)
{
	struct slot *s = find_slot(t, op->kinds);
	struct range r;

	if (!s)
		return NOTHING_TO_DO;
	r = (struct range){ s, s->addr, s->len };
	say_range(t, &r);
	warm_up(t, &r);
	if (munmap(s->addr, s->len))
		return -1;
	forget(s);
	return 0;
}

/* From one end. */
static int op_munmap_part(struct thread *t, const struct op *op)
{
	struct range r;
	struct slot *s;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	if (r.len == s->len)
		r.len = s->unit;
	if (r.len == s->len)
		return NOTHING_TO_DO;
	if (one_in(t, 2)) {
		r.addr = s->addr;
		s->addr += r.len;
		s->offset += r.len;
	} else {
		r.addr = s->addr + s->len - r.len;
	}
	s->len -= r.len;
	return munmap(r.addr, r.len);
}

/* From the middle, and something else takes its place. */
static int op_replace(struct thread *t, const struct op *op)
{
	struct range r;
	struct slot *s;
	int flags;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	flags = kinds[s->kind].flags | MAP_FIXED | MAP_NORESERVE;
	if (one_in(t, 2) && munmap(r.addr, r.len))
		return -1;
	if (mmap(r.addr, r.len, PROT_READ | PROT_WRITE, flags, s->fd,
		 s->offset + (r.addr - s->addr)) != r.addr)
		return -1;
	return 0;
}

/*
 * More pages than a gather has room for: see MAX_GATHER_BATCH_COUNT.  The first
 * one for which there is no room is a small one, or the first or so of some huge
 * ones.
 */
static int op_munmap_much(struct thread *t, const struct op *op)
{
	size_t batch = page_size / sizeof(void *) - 2, nr = 12000, huge = 0;
	struct range r = { .len = FEW * page_size };
	char *area, *addr;
	int ret;

	if (huge_size && one_in(t, 2)) {
		nr = 8 + 10000 / batch * batch - 1 - rnd(t, 3);
		huge = 4 * huge_size;
	}
	if (pthread_mutex_trylock(&machine))
		return NOTHING_TO_DO;
	area = mmap(NULL, nr * page_size + huge + 2 * huge_size,
		    PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	addr = area;
	if (huge)
		addr += huge_size - ((uintptr_t)area + nr * page_size) % huge_size;
	madvise(addr, nr * page_size, MADV_NOHUGEPAGE);
	madvise(addr + nr * page_size, huge, MADV_HUGEPAGE);
	madvise(addr, nr * page_size + huge, MADV_POPULATE_WRITE);
	r.addr = addr + rnd(t, nr / FEW) * FEW * page_size;
	dev_use(&r, true);
	dev_range(SHADOW_TLB_RUN_ON, r.addr, FEW / 4 * page_size);
	say(t, " %zu pages, %zu huge ones", nr, huge ? 4UL : 0UL);
	ret = one_in(t, 2) ?
	      madvise(addr, nr * page_size + huge, MADV_DONTNEED) : 0;
	ret |= munmap(area, nr * page_size + huge + 2 * huge_size);
	pthread_mutex_unlock(&machine);
	return ret;
}

static int op_touch(struct thread *t, const struct op *op)
{
	struct range r;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	return touch(&r, op->arg && r.slot->kind != PFN, 1 + rnd(t, 3));
}

static int op_mprotect(struct thread *t, const struct op *op)
{
	static const int prots[] = {
		PROT_READ, PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_EXEC,
	};
	int prot = prots[rnd(t, ARRAY_SIZE(prots))];
	struct range r;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	say(t, " prot %d", prot);
	r.slot->restricted |= !(prot & PROT_WRITE);
	return mprotect(r.addr, r.len, prot);
}

/* mremap() */

static struct slot *other_slot(struct thread *t, struct slot *s)
{
	struct slot *to = &t->slots[(s - t->slots + 1 + rnd(t, SLOTS - 1)) % SLOTS];

	vacate(to);
	return to;
}

/*
 * move_hugetlb_page_tables() holds i_mmap_rwsem for writing.  If the new mapping
 * could share a page table, and the old one does not, huge_pmd_share() waits for
 * the same lock, for ever: in Linux 6.1, 6.12 and 7.3 as they are.
 */
static bool is_deadlock(const struct slot *s)
{
	return s->kind == HUGETLB_GIANT && s->len == GIB;
}

/* All of it, to another window: to the same place in it or another one. */
static int op_mremap(struct thread *t, const struct op *op)
{
	struct range r;
	struct slot *s, *to;
	size_t delta;
	char *addr;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	if (is_deadlock(s))
		return NOTHING_TO_DO;
	to = other_slot(t, s);
	delta = s->addr - window(s);
	if (one_in(t, 3) && s->len + 8 * s->unit + delta <= GIB)
		delta += rnd(t, 8) * s->unit;
	addr = window(to) + delta;
	say(t, " to #%d+%zu", (int)(to - slots), delta / page_size);
	if (mremap(s->addr, s->len, s->len,
		   MREMAP_MAYMOVE | MREMAP_FIXED | op->arg, addr) != addr)
		return -1;
	*to = *s;
	to->addr = addr;
	s->fd = to->fd < 0 || !op->arg ? -1 : dup(to->fd);
	s->uffd = -1;
	if (!op->arg)
		forget(s);
	return 0;
}

/* A part. */
static int op_mremap_part(struct thread *t, const struct op *op)
{
	struct range r;
	struct slot *s, *to;
	char *addr;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	if (r.len == s->len)
		return NOTHING_TO_DO;
	r.addr = s->addr + s->len - r.len;
	to = other_slot(t, s);
	addr = window(to) + (r.addr - window(s));
	if (mremap(r.addr, r.len, r.len, MREMAP_MAYMOVE | MREMAP_FIXED, addr) !=
	    addr)
		return -1;
	s->len -= r.len;
	*to = *s;
	to->addr = addr;
	to->len = r.len;
	to->offset += s->len;
	to->fd = s->fd < 0 ? -1 : dup(s->fd);
	to->uffd = -1;
	return 0;
}

static int op_mremap_grow(struct thread *t, const struct op *op)
{
	struct range r;
	struct slot *s;
	size_t len;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	if (s->len >= 128 * page_size)
		return NOTHING_TO_DO;
	len = s->len + (1 + rnd(t, 16)) * s->unit;
	if (mremap(s->addr, s->len, len, 0) != s->addr)
		return -1;
	s->len = len;
	return 0;
}

static int op_mremap_shrink(struct thread *t, const struct op *op)
{
	struct range r;
	struct slot *s;
	size_t len;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	len = s->len / s->unit / 2 * s->unit;
	if (!len)
		return NOTHING_TO_DO;
	if (mremap(s->addr, s->len, len, 0) != s->addr)
		return -1;
	s->len = len;
	return 0;
}

/* Advice. */

static int op_madvise(struct thread *t, const struct op *op)
{
	struct range r;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	return madvise(r.addr, r.len, op->arg);
}

static int op_hint(struct thread *t, const struct op *op)
{
	static const int hints[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP,
	};
	int advice = hints[rnd(t, ARRAY_SIZE(hints))];
	struct range r;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	say(t, " %d", advice);
	return madvise(r.addr, r.len, advice);
}

/* A page that is not backed by a huge one can become part of one. */
static int op_collapse(struct thread *t, const struct op *op)
{
	struct slot *s = find_slot(t, op->kinds);
	struct range r;

	if (!s || !huge_size)
		return NOTHING_TO_DO;
	give_back(s);
	r = (struct range){ s, s->addr, huge_size };
	if (s->len < huge_size || (uintptr_t)s->addr % huge_size)
		return NOTHING_TO_DO;
	say_range(t, &r);
	if (one_in(t, 2)) {
		madvise(r.addr, r.len, MADV_NOHUGEPAGE);
		madvise(r.addr, r.len, MADV_DONTNEED);
		touch(&r, true, 1);
	}
	warm_up(t, &r);
	madvise(r.addr, r.len, MADV_HUGEPAGE);
	return madvise(r.addr, r.len, MADV_COLLAPSE);
}

/* The huge zero page, and a write to a part of it. */
static int op_huge_zero(struct thread *t, const struct op *op)
{
	struct slot *s = find_slot(t, op->kinds);
	struct range r;

	if (!s || !huge_size || s->len < huge_size ||
	    (uintptr_t)s->addr % huge_size)
		return NOTHING_TO_DO;
	give_back(s);
	r = (struct range){ s, s->addr, huge_size };
	say_range(t, &r);
	madvise(r.addr, r.len, MADV_HUGEPAGE);
	if (madvise(r.addr, r.len, MADV_DONTNEED) || touch(&r, false, 0))
		return -1;
	load(t, &r);
	r.addr += rnd(t, 16) * page_size;
	r.len = page_size;
	return one_in(t, 2) ? touch(&r, true, 1) :
			      mprotect(r.addr, r.len, PROT_READ | PROT_WRITE);
}

/* From here, or from another process. */
static int op_process_madvise(struct thread *t, const struct op *op)
{
	pid_t self = getpid(), pid = 0;
	bool elsewhere = one_in(t, 4) && !in_child;
	struct range r;
	struct iovec iov;
	int fd, status;
	long ret;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	iov = (struct iovec){ r.addr, r.len };
	if (elsewhere) {
		pid = fork();
		if (pid < 0)
			return -1;
	}
	if (!elsewhere || !pid) {
		fd = pidfd_of(self);
		ret = syscall(__NR_process_madvise, fd, &iov, 1, op->arg, 0);
		if (elsewhere)
			_exit(ret != (long)r.len);
		close(fd);
		return ret == (long)r.len ? 0 : -1;
	}
	waitpid(pid, &status, 0);
	errno = EINVAL;
	return status ? -1 : 0;
}

static int op_mlock(struct thread *t, const struct op *op)
{
	struct range r;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (r.len > 4UL << 20)
		return NOTHING_TO_DO;
	return op->arg ? mlock(r.addr, r.len) : munlock(r.addr, r.len);
}

/* Migration. */

static int op_move_pages(struct thread *t, const struct op *op)
{
	void *pages[FEW];
	int nodes[FEW], status[FEW];
	int node = rnd(t, 2);
	struct range r;
	size_t i, step;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	step = step_of(&r);
	for (i = 0; i < FEW && i * step < r.len; i++) {
		pages[i] = r.addr + i * step;
		nodes[i] = node;
	}
	say(t, " node %d", node);
	return syscall(__NR_move_pages, 0, i, pages, nodes, status,
		       MPOL_MF_MOVE) < 0 ? -1 : 0;
}

static int op_migrate_pages(struct thread *t, const struct op *op)
{
	unsigned long to = 1UL << rnd(t, 2), from = 3 & ~to;
	struct range r;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	return syscall(__NR_migrate_pages, 0, 8 * sizeof(from), &from,
		       &to) < 0 ? -1 : 0;
}

static int op_mbind(struct thread *t, const struct op *op)
{
	unsigned long mask = 1UL << rnd(t, 2);
	struct range r;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	return syscall(__NR_mbind, r.addr, r.len, MPOL_PREFERRED, &mask,
		       8 * sizeof(mask), MPOL_MF_MOVE);
}

/* Pages all over the place, and compaction. */
static int op_compact(struct thread *t, const struct op *op)
{
	size_t len = 1024 * page_size, i;
	char *addr;
	int ret;

	if (pthread_mutex_trylock(&machine))
		return NOTHING_TO_DO;
	addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(addr, len, MADV_NOHUGEPAGE);
	madvise(addr, len, MADV_POPULATE_WRITE);
	for (i = 0; i < len; i += 2 * page_size)
		madvise(addr + i, page_size, MADV_DONTNEED);
	dev_range(SHADOW_TLB_READ, addr, 256 * page_size);
	ret = write_file("/proc/sys/vm/compact_memory", "1");
	munmap(addr, len);
	pthread_mutex_unlock(&machine);
	return ret;
}

/* Kernel threads. */

static int op_ksm(struct thread *t, const struct op *op)
{
	struct range r;
	int ret;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	give_back(r.slot);
	touch(&r, true, 1);
	dev_use(&r, true);
	if (madvise(r.addr, r.len, MADV_MERGEABLE))
		return -1;
	pthread_mutex_lock(&machine);
	ret = write_file(KSM "run", "1");
	usleep(20000 + rnd(t, 3) * 20000);
	ret |= write_file(KSM "run", "0");
	pthread_mutex_unlock(&machine);
	return ret;
}

static int op_ksm_unmerge(struct thread *t, const struct op *op)
{
	int ret;

	pthread_mutex_lock(&machine);
	ret = write_file(KSM "run", "2");
	ret |= write_file(KSM "run", "0");
	pthread_mutex_unlock(&machine);
	return ret;
}

static int op_khugepaged(struct thread *t, const struct op *op)
{
	struct slot *s = find_slot(t, op->kinds);
	struct range r;
	int ret;

	if (!s || !huge_size)
		return NOTHING_TO_DO;
	r = (struct range){ s, s->addr, s->len };
	say_range(t, &r);
	madvise(r.addr, r.len, MADV_NOHUGEPAGE);
	madvise(r.addr, r.len, MADV_DONTNEED);
	touch(&r, true, 1);
	dev_use(&r, one_in(t, 2));
	madvise(r.addr, r.len, MADV_HUGEPAGE);
	pthread_mutex_lock(&machine);
	ret = write_file(THP "khugepaged/scan_sleep_millisecs", "1");
	usleep(30000);
	ret |= write_file(THP "khugepaged/scan_sleep_millisecs", "100000");
	pthread_mutex_unlock(&machine);
	return ret;
}

/* Some time for kswapd, kcompactd, NUMA balancing. */
static int op_wait(struct thread *t, const struct op *op)
{
	struct range r;
	time_t until;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	for (until = now() + 1; now() < until && !one_in(t, 200); )
		touch(&r, false, 0);
	return 0;
}

/* Swap. */

static int op_swapoff(struct thread *t, const struct op *op)
{
	int ret;

	if (!*swap_device || pthread_mutex_trylock(&machine))
		return NOTHING_TO_DO;
	ret = swapoff(swap_device);
	ret |= swapon(swap_device, 0);
	pthread_mutex_unlock(&machine);
	return ret;
}

/* Files. */

static off_t in_file(const struct range *r)
{
	return r->slot->offset + (r->addr - r->slot->addr);
}

/* Cut, and long again, so that all of it can be used. */
static int op_truncate(struct thread *t, const struct op *op)
{
	struct range r;
	struct stat st;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (fstat(r.slot->fd, &st) || ftruncate(r.slot->fd, in_file(&r)))
		return -1;
	return ftruncate(r.slot->fd, st.st_size);
}

static int op_punch_hole(struct thread *t, const struct op *op)
{
	struct range r;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	return fallocate(r.slot->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 in_file(&r), r.len);
}

static int op_write_back(struct thread *t, const struct op *op)
{
	struct range r;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	return one_in(t, 2) ? msync(r.addr, r.len, MS_SYNC) : fsync(r.slot->fd);
}

/* read() into what is mapped, and write() from it: the kernel's own accesses. */
static int op_copy(struct thread *t, const struct op *op)
{
	struct range r;
	int fd[2], ret;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (pipe(fd))
		return -1;
	ret = write(fd[1], r.addr, page_size) == (ssize_t)page_size &&
	      read(fd[0], r.addr, page_size) == (ssize_t)page_size ? 0 : -1;
	close(fd[0]);
	close(fd[1]);
	return ret;
}

/* Pins. */

/* Until the next one, or the end. */
static int op_pin(struct thread *t, const struct op *op)
{
	struct io_uring_params params = { };
	struct range r;
	struct iovec iov;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (r.len > 64UL << 20)
		return NOTHING_TO_DO;
	iov = (struct iovec){ r.addr, r.len };
	if (t->ring >= 0)
		close(t->ring);
	t->ring = syscall(__NR_io_uring_setup, 1, &params);
	if (t->ring < 0)
		return -1;
	return syscall(__NR_io_uring_register, t->ring, IORING_REGISTER_BUFFERS,
		       &iov, 1) < 0 ? -1 : 0;
}

static int op_unpin(struct thread *t, const struct op *op)
{
	if (t->ring < 0)
		return NOTHING_TO_DO;
	close(t->ring);
	t->ring = -1;
	return 0;
}

static int op_vmsplice(struct thread *t, const struct op *op)
{
	struct range r;
	struct iovec iov;
	int fd[2], ret;

	if (pick_any(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (pipe(fd))
		return -1;
	iov = (struct iovec){ r.addr, page_size };
	ret = vmsplice(fd[1], &iov, 1, 0) < 0 ? -1 : 0;
	if (!ret && one_in(t, 2))
		ret = touch(&r, true, 2);
	close(fd[0]);
	close(fd[1]);
	return ret;
}

/* Soft-dirty and accessed bits. */

static int op_clear_refs(struct thread *t, const struct op *op)
{
	static const char * const what[] = { "1", "2", "3", "4", "4", "4" };
	const char *which = what[rnd(t, ARRAY_SIZE(what))];
	struct range r;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	say(t, " %s", which);
	return write_file("/proc/self/clear_refs", which);
}

/* userfaultfd: a fault that nobody resolves is a SIGBUS. */

static int open_uffd(struct slot *s, uint64_t features, uint64_t mode)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | features,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)s->addr, .len = s->len },
		.mode = mode,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0)
		return -1;
	if (!ioctl(uffd, UFFDIO_API, &api) &&
	    !ioctl(uffd, UFFDIO_REGISTER, &reg))
		return uffd;
	close(uffd);
	return -1;
}

static int op_uffd_protect(struct thread *t, const struct op *op)
{
	struct uffdio_writeprotect wp = { .mode = op->arg };
	struct range r;
	struct slot *s;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	s = r.slot;
	wp.range.start = (uintptr_t)r.addr;
	wp.range.len = r.len;
	if (s->uffd < 0)
		s->uffd = open_uffd(s, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
				    UFFDIO_REGISTER_MODE_WP);
	if (s->uffd < 0)
		return -1;
	if (!ioctl(s->uffd, UFFDIO_WRITEPROTECT, &wp)) {
		s->restricted |= op->arg;
		return 0;
	}
	/* It was moved, or is larger now. */
	close(s->uffd);
	s->uffd = -1;
	return -1;
}

static int op_uffd_close(struct thread *t, const struct op *op)
{
	struct range r;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (r.slot->uffd < 0)
		return NOTHING_TO_DO;
	close(r.slot->uffd);
	r.slot->uffd = -1;
	return 0;
}

static int op_uffd_minor(struct thread *t, const struct op *op)
{
	struct uffdio_continue cont = { };
	struct range r;
	int uffd, ret;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (r.slot->uffd >= 0 || r.len > 4UL << 20)
		return NOTHING_TO_DO;
	touch(&r, true, 1);
	uffd = open_uffd(r.slot, r.slot->unit > page_size ?
			 UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM,
			 UFFDIO_REGISTER_MODE_MINOR);
	if (uffd < 0)
		return -1;
	load(t, &r);
	r.len = r.slot->unit;
	ret = madvise(r.addr, r.len, MADV_DONTNEED);
	cont.range.start = (uintptr_t)r.addr;
	cont.range.len = r.len;
	ret |= ioctl(uffd, UFFDIO_CONTINUE, &cont);
	close(uffd);
	return ret;
}

static int op_uffd_copy(struct thread *t, const struct op *op)
{
	struct uffdio_copy copy = { .src = (uintptr_t)buffer };
	struct range r;
	int uffd, ret;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (r.slot->uffd >= 0)
		return NOTHING_TO_DO;
	uffd = open_uffd(r.slot, 0, UFFDIO_REGISTER_MODE_MISSING);
	if (uffd < 0)
		return -1;
	ret = madvise(r.addr, page_size, MADV_DONTNEED);
	copy.dst = (uintptr_t)r.addr;
	copy.len = page_size;
	ret |= ioctl(uffd, UFFDIO_COPY, &copy);
	close(uffd);
	return ret;
}

#ifdef UFFDIO_MOVE
static int op_uffd_move(struct thread *t, const struct op *op)
{
	struct uffdio_move move = { .mode = UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES };
	struct slot *to;
	struct range r;
	int uffd, ret;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	to = other_slot(t, r.slot);
	if (map_kind(t, to, THP_ANON))
		return -1;
	uffd = open_uffd(to, 0, UFFDIO_REGISTER_MODE_MISSING);
	if (uffd < 0)
		return -1;
	move.src = (uintptr_t)r.addr;
	move.dst = (uintptr_t)to->addr;
	move.len = r.len < to->len ? r.len : to->len;
	ret = ioctl(uffd, UFFDIO_MOVE, &move);
	close(uffd);
	return ret;
}
#endif

/* Memory of another device. */

static int hmm_ioctl(unsigned long cmd, const struct range *r)
{
	struct hmm_dmirror_cmd arg = {
		.addr = (uintptr_t)r->addr,
		.ptr = (uintptr_t)buffer,
		.npages = r->len / page_size,
	};
	int ret;

	pthread_mutex_lock(&machine);
	ret = ioctl(hmm, cmd, &arg);
	pthread_mutex_unlock(&machine);
	return ret;
}

static int op_device_memory(struct thread *t, const struct op *op)
{
	struct range r;
	int ret;

	/* It has the mm of the process that opened it. */
	if (hmm < 0 || in_child)
		return NOTHING_TO_DO;
	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	if (r.len > FEW * page_size)
		r.len = FEW * page_size;
	touch(&r, true, 1);
	load(t, &r);
	ret = hmm_ioctl(HMM_DMIRROR_MIGRATE_TO_DEV, &r);
	if (one_in(t, 2))
		touch(&r, true, 2);
	return ret;
}

/*
 * Who migrates or reclaims pages of which a device has exclusive access looks for
 * a page where there is none (try_to_migrate_one() before Linux 6.15): nobody
 * may, and all is as before at the end.  Not with huge pages, which become
 * exclusive as a whole.
 */
static int op_exclusive(struct thread *t, const struct op *op)
{
	struct range r;
	int ret;

	if (hmm < 0 || in_child || nr_threads > 1)
		return NOTHING_TO_DO;
	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	give_back(r.slot);
	if (r.len > FEW * page_size)
		r.len = FEW * page_size;
	if (touch(&r, true, 1))
		return NOTHING_TO_DO;
	load(t, &r);
	ret = hmm_ioctl(HMM_DMIRROR_EXCLUSIVE, &r);
	dev_use(&r, false);
	touch(&r, true, 2);
	return ret;
}

/* Memory that fails: these pages are gone until the next boot. */
static int op_lose_page(struct thread *t, const struct op *op)
{
	struct range r;
	int ret;

	if (__atomic_sub_fetch(&shared->lost_pages, 1, __ATOMIC_RELAXED) < 0)
		return NOTHING_TO_DO;
	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	r.len = r.slot->unit;
	if (touch(&r, true, 1))
		return NOTHING_TO_DO;
	load(t, &r);
	ret = madvise(r.addr, page_size, op->arg);
	madvise(r.addr, r.len, MADV_DONTNEED);
	return ret;
}

/* Uprobes: a breakpoint in a page of this program. */

static int define_uprobe(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned long start, end, offset, at = place_to_probe();
	char line[512], exe[256], event[512];
	ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	long found = -1;

	while (file && found < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    start <= at && at < end)
			found = at - start + offset;
	if (file)
		fclose(file);
	if (found < 0 || len <= 0)
		return -1;
	exe[len] = '\0';
	snprintf(event, sizeof(event), "p:mmu_notifier_fuzz/probed %s:0x%lx\n",
		 exe, found);
	return write_file(TRACING "uprobe_events", event);
}

static int op_uprobe(struct thread *t, const struct op *op)
{
	struct range r = {
		.addr = (char *)(place_to_probe() & -page_size),
		.len = page_size,
	};
	int ret;

	if (pthread_mutex_trylock(&machine))
		return NOTHING_TO_DO;
	touch(&r, false, 0);
	dev_use(&r, false);
	ret = write_file(TRACING "events/mmu_notifier_fuzz/enable", "1");
	dev_use(&r, false);
	ret |= write_file(TRACING "events/mmu_notifier_fuzz/enable", "0");
	pthread_mutex_unlock(&machine);
	return ret;
}

/* Other processes. */

static void kill_kid(struct thread *t, int i)
{
	kill(t->kids[i], SIGKILL);
	waitpid(t->kids[i], NULL, 0);
	t->kids[i] = t->kids[--t->nr_kids];
}

static void use_slots(struct thread *t, bool write)
{
	struct range r;
	int i;

	for (i = 0; i < SLOTS; i++) {
		struct slot *s = &t->slots[i];

		if (!s->len || one_in(t, 4))
			continue;
		part_of(t, s, &r);
		touch(&r, write && s->kind != PFN, 1 + rnd(t, 3));
	}
}

static void begin_child(struct thread *t)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	t->nr_kids = 0;
	in_child = true;
	close(dev);
	dev = -1;
}

/*
 * For half a second, files that are mapped lose pages.  That happens to the memory
 * of the parent, too, without its mmap_lock.
 */
static void punch_holes(struct thread *t)
{
	uint64_t until = microseconds() + 500000;
	struct range r;
	struct slot *s;

	bind_to_cpu(1);
	while (microseconds() < until) {
		s = random_slot(t);
		if (!s->len || !(BIT(s->kind) & (FILES | BIT(HUGETLB_SHARED)))) {
			sched_yield();
			continue;
		}
		part_of(t, s, &r);
		fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  in_file(&r), r.len);
	}
}

/* Shares all pages with its parent until it is killed. */
static void kid(struct thread *t, int how)
{
	begin_child(t);
	if (how == 1)
		use_slots(t, true);
	if (how == 2 && !fork()) {
		use_slots(t, true);
		_exit(0);
	}
	if (how == 3)
		vacate(random_slot(t));
	if (how == 4)
		punch_holes(t);
	else if (how >= 2)
		use_slots(t, one_in(t, 2));
	raise(SIGSTOP);
	_exit(0);
}

static int op_fork(struct thread *t, const struct op *op)
{
	struct range r;
	int how, status;
	pid_t pid;

	if (pick(t, op->kinds, &r))
		return NOTHING_TO_DO;
	how = rnd(t, 5);
	if (t->nr_kids == MAX_KIDS)
		kill_kid(t, rnd(t, MAX_KIDS));
	pid = fork();
	if (!pid)
		kid(t, how);
	if (pid < 0)
		return -1;
	t->kids[t->nr_kids++] = pid;
	say(t, " kid %d", how);
	if (how == 4)
		has_company = true;
	else if (one_in(t, 2))
		waitpid(pid, &status, WUNTRACED);
	dev_use(&r, false);
	return one_in(t, 2) ? 0 : touch(&r, r.slot->kind != PFN, 2);
}

static int op_kill(struct thread *t, const struct op *op)
{
	if (!t->nr_kids)
		return NOTHING_TO_DO;
	kill_kid(t, rnd(t, t->nr_kids));
	return 0;
}

static void step(struct thread *t, uint64_t number);

/* A child with a device of its own, which sees its end. */
static void child(struct thread *t, int how, int steps)
{
	static char * const argv[] = { "mmu_notifier_fuzz", NULL };
	static char * const envp[] = { EXEC_CHILD "=1", NULL };
	char text[TEXT] = "";
	int i;

	begin_child(t);
	t->text = text;
	if (attach() || dup2(dev, CHILD_DEV) != CHILD_DEV)
		_exit(CLEAN);
	for (i = 0; i < SLOTS; i++)
		if (t->slots[i].len) {
			struct range r;

			part_of(t, &t->slots[i], &r);
			warm_up(t, &r);
		}
	for (i = 0; i < steps; i++)
		step(t, t->rng);
	raise(SIGSTOP);
	if (how == 1)
		execve("/proc/self/exe", argv, envp);
	while (how == 2)
		step(t, t->rng);
	_exit(CLEAN);
}

static void end_child(struct thread *t, pid_t pid, int how)
{
	int pidfd = pidfd_of(pid);

	if (how < 3)
		kill(pid, SIGCONT);
	if (how == 2)
		usleep(rnd(t, 20000));
	if (how > 1)
		kill(pid, SIGKILL);
	if (how == 3)
		syscall(__NR_process_mrelease, pidfd, 0);
	waitpid(pid, NULL, 0);
	close(pidfd);
}

/* It ends by exit(), execve(), a signal at any moment, or loses its memory first. */
static int op_child(struct thread *t, const struct op *op)
{
	struct shadow_tlb_report report = { };
	int how = rnd(t, 4), steps = one_in(t, 2) ? rnd(t, 5) : 0;
	int status, fd, pidfd;
	pid_t pid;

	say(t, " ends by %d, %d operations", how, steps);
	pid = fork();
	if (!pid)
		child(t, how, steps);
	if (pid < 0 || waitpid(pid, &status, WUNTRACED) != pid)
		return -1;
	if (!WIFSTOPPED(status)) {
		errno = EIO;
		return -1;
	}
	pidfd = pidfd_of(pid);
	fd = syscall(__NR_pidfd_getfd, pidfd, CHILD_DEV, 0);
	close(pidfd);
	end_child(t, pid, how);
	if (fd < 0)
		return -1;
	ioctl(fd, SHADOW_TLB_REPORT, &report);
	close(fd);
	count_report(&report);
	if (is_bad(&report))
		found(t, "at the end of a child: ", &report);
	return 0;
}

/* The device comes and goes. */
static int op_attach(struct thread *t, const struct op *op)
{
	if (nr_threads > 1)
		return NOTHING_TO_DO;
	detach();
	while (attach() && errno == ENOMEM)
		;
	return dev < 0 ? -1 : 0;
}

/* The operations. */

static const struct op ops[] = {
	{ "map", 30, op_map, EVERYTHING },
	{ "map again", 10, op_map_again, FILES | BIT(HUGETLB_SHARED) },
	{ "share page table", 12, op_map_again, BIT(HUGETLB_GIANT) },
	{ "munmap", 15, op_munmap, EVERYTHING },
	{ "munmap part", 15, op_munmap_part, EVERYTHING },
	{ "munmap and map", 15, op_replace, EVERYTHING },
	{ "munmap much", 4, op_munmap_much },
	{ "read", 20, op_touch, EVERYTHING, false },
	{ "write", 40, op_touch, EVERYTHING, true },
	{ "copy", 10, op_copy, SMALL_PAGES },
	{ "mprotect", 40, op_mprotect, EVERYTHING },
	{ "munmap and map pfn", 4, op_replace, BIT(PFN) },
	{ "mprotect pfn", 5, op_mprotect, BIT(PFN) },
	{ "mprotect shared table", 6, op_mprotect, BIT(HUGETLB_GIANT) },
	{ "munmap shared table", 4, op_munmap, BIT(HUGETLB_GIANT) },
	{ "mremap", 25, op_mremap, EVERYTHING },
	{ "mremap hugetlb", 8, op_mremap, BIT(HUGETLB) | BIT(HUGETLB_SHARED) },
	{ "mremap giant", 5, op_mremap, BIT(GIANT) },
	{ "mremap huge", 6, op_mremap, BIT(THP_ANON) | BIT(SHMEM_HUGE) },
	{ "mremap dontunmap", 10, op_mremap, PAGES & ~HUGETLBS,
	  MREMAP_DONTUNMAP },
	{ "mremap part", 10, op_mremap_part, EVERYTHING & ~BIT(PFN) },
	{ "mremap grow", 5, op_mremap_grow, SMALL_PAGES },
	{ "mremap shrink", 5, op_mremap_shrink, EVERYTHING & ~BIT(PFN) },
	{ "dontneed", 25, op_madvise, PAGES, MADV_DONTNEED },
	{ "dontneed locked", 5, op_madvise, PAGES, MADV_DONTNEED_LOCKED },
	{ "free", 15, op_madvise, ANONS, MADV_FREE },
	{ "cold", 5, op_madvise, SMALL_PAGES, MADV_COLD },
	{ "pageout", 25, op_madvise, SMALL_PAGES, MADV_PAGEOUT },
	{ "remove", 10, op_madvise, SHMEMS | BIT(HUGETLB_SHARED),
	  MADV_REMOVE },
	{ "populate read", 5, op_madvise, SMALL_PAGES & ~BIT(GIANT),
	  MADV_POPULATE_READ },
	{ "populate write", 10, op_madvise, SMALL_PAGES & ~BIT(GIANT),
	  MADV_POPULATE_WRITE },
	{ "hugepage", 5, op_madvise, BIT(THP_ANON) | BIT(SHMEM_HUGE),
	  MADV_HUGEPAGE },
	{ "nohugepage", 5, op_madvise, BIT(THP_ANON) | BIT(SHMEM_HUGE),
	  MADV_NOHUGEPAGE },
	{ "wipeonfork", 2, op_madvise, ANONS, MADV_WIPEONFORK },
	{ "keeponfork", 3, op_madvise, ANONS, MADV_KEEPONFORK },
	{ "guard", 3, op_madvise, BIT(ANON), MADV_GUARD_INSTALL,
	  "since Linux 6.13" },
	{ "no guard", 3, op_madvise, BIT(ANON), MADV_GUARD_REMOVE,
	  "since Linux 6.13" },
	{ "hints", 10, op_hint, PAGES },
	{ "collapse", 12, op_collapse, BIT(THP_ANON) | BIT(SHMEM_HUGE) },
	{ "huge zero page", 6, op_huge_zero, BIT(THP_ANON) },
	{ "process cold", 3, op_process_madvise, SMALL_PAGES, MADV_COLD },
	{ "process pageout", 8, op_process_madvise, SMALL_PAGES, MADV_PAGEOUT },
	{ "mlock", 6, op_mlock, SMALL_PAGES, true },
	{ "munlock", 10, op_mlock, PAGES, false },
	{ "move_pages", 20, op_move_pages, PAGES },
	{ "migrate_pages", 2, op_migrate_pages, PAGES },
	{ "mbind", 12, op_mbind, PAGES },
	{ "compact", 1, op_compact },
	{ "ksm", 3, op_ksm, ANONS },
	{ "ksm unmerge", 1, op_ksm_unmerge },
	{ "unmergeable", 3, op_madvise, ANONS, MADV_UNMERGEABLE },
	{ "khugepaged", 2, op_khugepaged, BIT(THP_ANON) | BIT(SHMEM_HUGE) },
	{ "wait", 1, op_wait, PAGES },
	{ "swapoff", 1, op_swapoff },
	{ "truncate", 10, op_truncate, FILES | BIT(HUGETLB_SHARED) },
	{ "punch hole", 10, op_punch_hole, FILES | BIT(HUGETLB_SHARED) },
	{ "write back", 10, op_write_back, BIT(BLOCK) },
	{ "pin", 6, op_pin, ANONS | BIT(HUGETLB) },
	{ "unpin", 4, op_unpin },
	{ "vmsplice", 6, op_vmsplice, PAGES },
	{ "clear_refs", 12, op_clear_refs, EVERYTHING },
	{ "uffd protect", 15, op_uffd_protect, ANONS,
	  UFFDIO_WRITEPROTECT_MODE_WP },
	{ "uffd unprotect", 10, op_uffd_protect, ANONS, 0 },
	{ "uffd close", 3, op_uffd_close, ANONS },
	{ "uffd minor", 6, op_uffd_minor, SHMEMS | BIT(HUGETLB_SHARED) },
	{ "uffd copy", 6, op_uffd_copy, ANONS },
#ifdef UFFDIO_MOVE
	{ "uffd move", 6, op_uffd_move, BIT(ANON) | BIT(THP_ANON) },
#endif
	{ "to device memory", 6, op_device_memory, ANONS },
	{ "exclusive access", 6, op_exclusive, BIT(ANON) | BIT(GIANT) },
	{ "soft offline", 1, op_lose_page, BIT(ANON) | BIT(SHMEM),
	  MADV_SOFT_OFFLINE },
	{ "memory failure", 1, op_lose_page, BIT(ANON) | BIT(SHMEM),
	  MADV_HWPOISON },
	{ "memory failure, huge", 3, op_lose_page,
	  BIT(HUGETLB) | BIT(HUGETLB_SHARED), MADV_HWPOISON },
	{ "uprobe", 2, op_uprobe },
	{ "fork", 20, op_fork, EVERYTHING },
	{ "fork hugetlb", 6, op_fork, BIT(HUGETLB) },
	{ "kill", 8, op_kill },
	{ "child with a device", 5, op_child },
	{ "attach", 2, op_attach },
};

static const int nr_ops = ARRAY_SIZE(ops);

/* The operations of an epoch. */

static int random_op(struct thread *t)
{
	int i, sum = 0, at;

	for (i = 0; i < nr_ops; i++)
		sum += t->enabled[i] ? ops[i].weight : 0;
	at = rnd(t, sum);
	for (i = 0; i < nr_ops - 1; i++) {
		at -= t->enabled[i] ? ops[i].weight : 0;
		if (at < 0)
			break;
	}
	return i;
}

static void count_op(int i, int ret, int error, uint64_t time)
{
	if (ret == NOTHING_TO_DO)
		return;
	__atomic_add_fetch(&shared->spent[i], time, __ATOMIC_RELAXED);
	__atomic_add_fetch(&shared->operations, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&shared->tried[i], 1, __ATOMIC_RELAXED);
	if (!ret)
		__atomic_add_fetch(&shared->done[i], 1, __ATOMIC_RELAXED);
	else
		shared->error[i] = error;
}

static void fail(struct thread *t, int nth)
{
	if (write_fail_nth(t->fail_nth, nth))
		t->fail_nth = -1;
}

/* Runs an operation in which, sometimes, an allocation fails. */
static int run_op(struct thread *t, const struct op *op, bool *injected)
{
	int ret, error;

	*injected = t->fail_nth >= 0 && one_in(t, 4);
	if (*injected) {
		fail(t, 1 + rnd(t, one_in(t, 2) ? 8 : 64));
		__atomic_add_fetch(&shared->injected, 1, __ATOMIC_RELAXED);
		say(t, " (fail)");
	}
	errno = 0;
	ret = op->run(t, op);
	error = errno;
	if (*injected)
		fail(t, 0);
	errno = error;
	return ret;
}

/* One operation.  Its number is all that it depends on, besides the memory. */
static void step(struct thread *t, uint64_t number)
{
	uint64_t begin = microseconds();
	int i, ret, error;
	bool injected;

	t->rng = mix(mix(shared->seed * MAX_THREADS + t->nr) + number);
	i = random_op(t);
	if (in_child && (ops[i].run == op_child || ops[i].run == op_attach))
		return;
	*t->text = '\0';
	say(t, "%s", ops[i].name);
	if (shared->trace)
		printf("# begin %llu.%d %s\n", (unsigned long long)number, t->nr, t->text);
	ret = run_op(t, &ops[i], &injected);
	error = errno;
	if (ret == NOTHING_TO_DO)
		say(t, ": nothing to do");
	else if (ret)
		say(t, ": %s", strerror(error));
	if (shared->trace)
		printf("# end %llu.%d %s\n", (unsigned long long)number, t->nr, t->text);
	if (!injected)
		count_op(i, ret, error, microseconds() - begin);
	if (nr_threads == 1 || in_child)
		check(t);
}

static bool is_over(void)
{
	return shared->end && now() >= shared->end;
}

/* All have come here: nobody changes anything.  Returns true if it is the end. */
static bool meet(struct thread *t)
{
	static bool over;

	pthread_barrier_wait(&barrier);
	if (!t->nr) {
		check(t);
		over = is_over();
	}
	pthread_barrier_wait(&barrier);
	return over;
}

static void *run_thread(void *data)
{
	struct thread *t = data;
	uint64_t n;

	bind_to_cpu(t->nr);
	t->fail_nth = -1;
	if (has_failures)
		t->fail_nth = open_fail_nth();
	for (n = shared->first; n <= shared->until; n++) {
		__atomic_store_n(&shared->now[t->nr], n, __ATOMIC_RELAXED);
		t->text = shared->text[t->nr][n - shared->first];
		if (!shared->skip[n - shared->first])
			step(t, n);
		if (nr_threads == 1 ? is_over() :
		    n % ROUND == ROUND - 1 && meet(t))
			break;
	}
	/* Those that are done wait for the others. */
	if (nr_threads > 1)
		meet(t);
	return NULL;
}

/* The device works all the time, at places of its own choice. */
static void *run_device(void *data)
{
	struct thread me = { .rng = shared->seed ^ shared->first };
	struct range r;
	struct slot s;

	bind_to_cpu(1);
	while (!__atomic_load_n(&stop_device_thread, __ATOMIC_RELAXED)) {
		s = slots[rnd(&me, nr_threads * SLOTS)];
		if (!s.len || !s.unit || s.kind >= NR_KINDS) {
			sched_yield();
			continue;
		}
		part_of(&me, &s, &r);
		dev_use(&r, one_in(&me, 2));
		if (one_in(&me, 4))
			usleep(rnd(&me, 1000));
	}
	return NULL;
}

/* What an epoch has, by its seed. */

static void set_failures(struct thread *t)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(failures); i++)
		write_file(failures[i].path, failures[i].value);
	has_failures = one_in(t, 2);
}

static void set_machine(struct thread *t)
{
	static const char * const thp[] = { "always", "always", "madvise" };
	static const char * const shmem[] = { "always", "advise", "never" };

	write_file(KSM "run", "0");
	write_file(KSM "sleep_millisecs", "0");
	write_file(KSM "pages_to_scan", "1000");
	write_file(KSM "merge_across_nodes", "1");
	write_file(THP "enabled", thp[rnd(t, 3)]);
	write_file(THP "shmem_enabled", shmem[rnd(t, 3)]);
	write_file(THP "khugepaged/pages_to_scan", "4096");
	write_file(THP "khugepaged/scan_sleep_millisecs", "100000");
	write_file("/proc/sys/kernel/numa_balancing", one_in(t, 2) ? "1" : "0");
	write_file("/proc/sys/vm/nr_hugepages", "40");
	write_file("/proc/sys/vm/nr_overcommit_hugepages", "16");
}

/* Most of the operations, or some, or only a few: others for each thread. */
static void choose_ops(struct thread *t, bool *chosen)
{
	static const int kept[] = { 80, 60, 30, 15 };
	unsigned int percent = kept[rnd(t, ARRAY_SIZE(kept))];
	int i;

	for (i = 0; i < nr_ops; i++)
		chosen[i] = rnd(t, 100) < percent || ops[i].run == op_map ||
			    ops[i].run == op_touch;
}

static void choose_threads(struct thread *t)
{
	bool even = shared->first / EPOCH % 2;
	int nr = 2 + rnd(t, MAX_THREADS - 1);

	nr_threads = shared->threads ?: even ? nr : 1;
	shared->nr_threads = nr_threads;
}

static int run_epoch(void)
{
	struct thread settings = { };
	pthread_t device;
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	catch_signals();
	settings.rng = mix(shared->seed ^ mix(shared->first));
	choose_threads(&settings);
	set_machine(&settings);
	set_failures(&settings);
	for (i = 0; i < ALL_SLOTS; i++) {
		slots[i].fd = -1;
		slots[i].uffd = -1;
	}
	if (attach())
		return BROKEN;
	hmm = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	has_device_thread = !shared->no_device_thread;
	if (has_device_thread && pthread_create(&device, NULL, run_device, NULL))
		return BROKEN;
	pthread_barrier_init(&barrier, NULL, nr_threads);
	for (i = 0; i < nr_threads; i++) {
		threads[i].nr = i;
		threads[i].slots = slots + i * SLOTS;
		threads[i].ring = -1;
		threads[i].enabled = enabled[i];
		choose_ops(&settings, enabled[i]);
		if (i && pthread_create(&threads[i].pthread, NULL, run_thread,
					&threads[i]))
			return BROKEN;
	}
	run_thread(&threads[0]);
	for (i = 1; i < nr_threads; i++)
		pthread_join(threads[i].pthread, NULL);
	if (has_device_thread) {
		__atomic_store_n(&stop_device_thread, true, __ATOMIC_RELAXED);
		pthread_join(device, NULL);
	}
	check(&threads[0]);
	detach();
	return CLEAN;
}

/* The process that starts the others. */

static uint64_t progress(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < MAX_THREADS; i++)
		sum += __atomic_load_n(&shared->now[i], __ATOMIC_RELAXED);
	return sum;
}

static time_t started, told;

static void tell(void)
{
	if (now() - told < 10)
		return;
	told = now();
	ksft_print_msg("progress: seed %llu: %llu operations, %llu accesses, %ld s\n",
		       (unsigned long long)shared->seed,
		       (unsigned long long)shared->operations,
		       (unsigned long long)shared->accesses,
		       (long)(told - started));
}

/* A file of a thread, as lines behind its path. */
static void show_file(const char *task, const char *name)
{
	char path[96], text[1024], *line, *rest = text;

	snprintf(path, sizeof(path), "%s/%s", task, name);
	if (read_file(path, text, sizeof(text)))
		return;
	while ((line = strsep(&rest, "\n")))
		if (*line)
			ksft_print_msg("%s: %s\n", path, line);
}

/* Where these threads, and those of their children, are in the kernel. */
static void show_hang(void)
{
	char path[96], name[32];
	glob_t tasks;
	size_t i;

	if (glob("/proc/[0-9]*/task/[0-9]*", 0, NULL, &tasks))
		return;
	for (i = 0; i < tasks.gl_pathc; i++) {
		snprintf(path, sizeof(path), "%s/comm", tasks.gl_pathv[i]);
		if (read_file(path, name, sizeof(name)) ||
		    strncmp(name, "mmu_notifier_fu", 15))
			continue;
		show_file(tasks.gl_pathv[i], "stat");
		show_file(tasks.gl_pathv[i], "stack");
	}
	globfree(&tasks);
}

/* Waits for the end of an epoch, and ends it if it hangs. */
static enum verdict await(pid_t pid)
{
	uint64_t last = progress();
	time_t changed = now();
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		usleep(2000);
		if (progress() != last) {
			last = progress();
			changed = now();
		}
		tell();
		if (now() - changed < PATIENCE)
			continue;
		show_hang();
		kill(pid, SIGKILL);
		/* If the kernel has lost it, it does not even die. */
		sleep(1);
		waitpid(pid, &status, WNOHANG);
		return HUNG;
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	snprintf(shared->finding, TEXT, "signal %d", WTERMSIG(status));
	return DIED;
}

/* Those of an epoch that was killed. */
static void reap_orphans(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static enum verdict start_epoch(uint64_t first, uint64_t until)
{
	enum verdict verdict;
	pid_t pid;

	shared->first = first;
	shared->until = until;
	shared->found = false;
	memset(shared->now, 0, sizeof(shared->now));
	memset(shared->text, 0, sizeof(shared->text));
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(run_epoch());
	if (pid < 0)
		return BROKEN;
	verdict = await(pid);
	reap_orphans();
	return verdict;
}

/* What was found. */

static const char *describe(enum verdict verdict)
{
	switch (verdict) {
	case FOUND:
	case DIED:
		return shared->finding;
	case HUNG:
		return "an operation does not end";
	case BROKEN:
		return "the device cannot be opened, or a thread not be started";
	default:
		return "nothing";
	}
}

static void show_ops(int nr, uint64_t last, int how_many)
{
	uint64_t first = shared->first, n;

	if (last - first >= (uint64_t)how_many)
		first = last - how_many + 1;
	for (n = first; n <= last; n++)
		if (*shared->text[nr][n - shared->first])
			ksft_print_msg("  %llu.%d %s\n", (unsigned long long)n,
				       nr, shared->text[nr][n - shared->first]);
}

static void show_failure(enum verdict verdict, uint64_t *at)
{
	int i;

	*at = verdict == FOUND ? shared->found_at : 0;
	for (i = 0; verdict != FOUND && i < MAX_THREADS; i++)
		if (*at < shared->now[i])
			*at = shared->now[i];
	ksft_print_msg("found: seed %llu, operation %llu, %d threads, %ld s: %s\n",
		       (unsigned long long)shared->seed, (unsigned long long)*at,
		       shared->nr_threads, (long)(now() - started),
		       describe(verdict));
	ksft_print_msg("the last operations:\n");
	for (i = 0; i < shared->nr_threads; i++)
		show_ops(i, *at, shared->nr_threads > 1 ? ROUND : HISTORY);
	ksft_print_msg("to repeat it: make fuzz SEED=%llu UNTIL=%llu\n",
		       (unsigned long long)shared->seed, (unsigned long long)*at);
}

/* The shortest sequence that fails. */

static int tries = 1;

static bool fails(uint64_t first, uint64_t last)
{
	int i;

	for (i = 0; i < tries; i++)
		if (start_epoch(first, last) != CLEAN)
			return true;
	return false;
}

/* Leaves out @size operations from @from on, if it fails without them, too. */
static bool leave_out(uint64_t first, uint64_t last, int from, int size)
{
	bool was[EPOCH], any = false;
	int i, end = from + size;

	memcpy(was, shared->skip, sizeof(was));
	for (i = from; i < end && i < (int)(last - first); i++) {
		any |= !shared->skip[i];
		shared->skip[i] = true;
	}
	if (any && fails(first, last))
		return true;
	memcpy(shared->skip, was, sizeof(was));
	return false;
}

static int count_left(int nr)
{
	int i, left = 0;

	for (i = 0; i < nr; i++)
		left += !shared->skip[i];
	return left;
}

static void reduce(uint64_t last, int seconds)
{
	uint64_t first = last / EPOCH * EPOCH;
	int nr = last - first + 1, size, i;
	time_t until = now() + seconds;
	bool again;

	shared->no_device_thread = true;
	for (tries = 1; tries <= 3 && !fails(first, last); tries++)
		shared->no_device_thread = false;
	if (tries > 3) {
		ksft_print_msg("it does not fail again in 6 runs: a race; it is not cut down\n");
		shared->no_device_thread = false;
		return;
	}
	for (size = nr / 2 ?: 1; size; size = again ? size : size / 2) {
		again = false;
		for (i = nr - size; i > -size && now() < until; i -= size)
			again |= leave_out(first, last, i < 0 ? 0 : i, size);
		again &= size == 1 && now() < until;
	}
	if (!fails(first, last))
		fails(first, last);
	ksft_print_msg("cut down to %d operations%s:\n", count_left(nr),
		       shared->no_device_thread ? ", without a thread for the device" : "");
	show_ops(0, last, EPOCH);
	ksft_print_msg("it then shows: %s\n", shared->finding);
	memset(shared->skip, 0, sizeof(shared->skip));
	shared->no_device_thread = false;
}

/* The table at the end.  Returns how many operations succeed too seldom. */
static int show_table(void)
{
	int i, seldom = 0;

	ksft_print_msg("%-22s %9s %9s %5s %7s\n", "operation", "tried",
		       "succeeded", "%", "us each");
	for (i = 0; i < nr_ops; i++) {
		uint64_t tried = shared->tried[i], done = shared->done[i];
		int percent = tried ? 100 * done / tried : 0;
		bool low = tried >= 50 && percent < 20;

		ksft_print_msg("%-22s %9llu %9llu %5d %7llu%s%s%s%s\n",
			       ops[i].name, (unsigned long long)tried,
			       (unsigned long long)done, percent,
			       (unsigned long long)(tried ?
						    shared->spent[i] / tried : 0),
			       done < tried ? "  " : "",
			       done < tried ? strerror(shared->error[i]) : "",
			       low ? ": " : "",
			       low ? ops[i].rare ?: "TOO SELDOM" : "");
		seldom += low && !ops[i].rare;
	}
	return seldom;
}

static void find_machine(void)
{
	char text[512];
	unsigned int i;
	FILE *file;
	glob_t paths;
	int fd;

	page_size = sysconf(_SC_PAGESIZE);
	buffer = mmap(NULL, FEW * page_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!read_file(THP "hpage_pmd_size", text, sizeof(text)))
		huge_size = atol(text);
	file = fopen("/proc/meminfo", "r");
	while (file && fgets(text, sizeof(text), file))
		if (sscanf(text, "Hugepagesize: %zu kB", &hugetlb_size) == 1)
			hugetlb_size *= 1024;
	if (file)
		fclose(file);
	if (!read_file("/proc/swaps", text, sizeof(text)) && strchr(text, '\n'))
		sscanf(strchr(text, '\n') + 1, "%63s", swap_device);
	if (!glob("/sys/bus/pci/devices/*/resource[0-5]", 0, NULL, &paths)) {
		for (i = 0; i < paths.gl_pathc && !*bar; i++) {
			fd = open(paths.gl_pathv[i], O_RDWR);
			if (fd >= 0 && mmap(NULL, page_size, PROT_READ,
					    MAP_SHARED, fd, 0) != MAP_FAILED)
				snprintf(bar, sizeof(bar), "%s",
					 paths.gl_pathv[i]);
			close(fd);
		}
		globfree(&paths);
	}
	if (!*bar)
		absent |= BIT(PFN);
	if (!hugetlb_size)
		absent |= HUGETLBS;
	if (access(BLOCK_DEVICE, R_OK))
		absent |= BIT(BLOCK);
	fd = open_backing(A_SECRET, page_size);
	if (fd < 0)
		absent |= BIT(SECRET);
	else
		close(fd);
	if (define_uprobe())
		ksft_print_msg("no uprobes (%s)\n", strerror(errno));
}

/* A number of the environment.  Not a number: the program ends. */
static uint64_t env_number(const char *name, uint64_t otherwise, uint64_t most)
{
	const char *text = getenv(name);
	unsigned long long value;
	char *end;

	if (!text || !*text)
		return otherwise;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (*end || *text < '0' || *text > '9' || errno || value > most)
		ksft_exit_fail_msg("%s=%s is no number up to %llu\n", name, text,
				   (unsigned long long)most);
	return value;
}

/* From one epoch to the next, or the same one again and again. */
static enum verdict search(uint64_t until, bool again, uint64_t seconds)
{
	uint64_t first = again ? until / EPOCH * EPOCH : 0, last;
	enum verdict verdict;

	shared->end = again ? 0 : started + seconds;
	do {
		last = again ? until : first + EPOCH - 1;
		ksft_print_msg("operations from %llu to %llu\n",
			       (unsigned long long)first,
			       (unsigned long long)last);
		verdict = start_epoch(first, last);
		if (!again)
			first += EPOCH;
	} while (verdict == CLEAN && now() - started < (time_t)seconds);
	shared->end = 0;
	return verdict;
}

int main(void)
{
	enum verdict verdict;
	uint64_t seconds, until, at;
	int reduce_seconds, seldom = 0;
	bool again;

	if (getenv(EXEC_CHILD))
		return 0;
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	ksft_print_header();
	ksft_set_plan(1);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	shared->seed = env_number("FUZZ_SEED", 1, UINT32_MAX);
	shared->threads = env_number("FUZZ_THREADS", 0, MAX_THREADS);
	shared->trace = env_number("FUZZ_TRACE", 0, 1);
	shared->lost_pages = 256;
	seconds = env_number("FUZZ_SECONDS", 10, 1000000);
	reduce_seconds = env_number("FUZZ_REDUCE", 120, 100000);
	again = getenv("FUZZ_UNTIL") && *getenv("FUZZ_UNTIL");
	until = env_number("FUZZ_UNTIL", 0, UINT32_MAX);
	if (access(DEVICE, R_OK))
		ksft_exit_skip("no %s: CONFIG_TEST_SHADOW_TLB, root\n", DEVICE);

	printf("#  RUN           fuzz.seed_%llu ...\n",
	       (unsigned long long)shared->seed);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	find_machine();
	started = now();
	told = started;
	verdict = search(until, again, seconds);
	if (verdict != CLEAN) {
		show_failure(verdict, &at);
		if (shared->nr_threads == 1 && reduce_seconds)
			reduce(at, reduce_seconds);
	} else {
		seldom = show_table();
	}
	ksft_print_msg("total: %llu operations (%llu fail), %llu accesses, %llu calls, %ld s\n",
		       (unsigned long long)shared->operations,
		       (unsigned long long)shared->injected,
		       (unsigned long long)shared->accesses,
		       (unsigned long long)shared->calls,
		       (long)(now() - started));
	if (verdict == CLEAN && !seldom)
		ksft_test_result_pass("seed %llu\n",
				      (unsigned long long)shared->seed);
	else
		ksft_test_result_fail("seed %llu\n",
				      (unsigned long long)shared->seed);
	ksft_print_cnts();
	return verdict == CLEAN && !seldom ? 0 : 1;
}
