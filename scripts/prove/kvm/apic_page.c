// SPDX-License-Identifier: GPL-2.0
/*
 * A virtual machine reads the version of its APIC without end, on one CPU. On the other one
 * its process, whose page the APIC access page is, loses this page in several ways. The
 * module apic_watch says which page the CPU had meanwhile. A line for each test.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/mempolicy.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "apic_watch.h"

#define ROUNDS		20
#define HELD_ROUNDS	3	/* a second invalidation can come and hide it */
#define READS		50	/* of the guest, from one round to the next */
#define MEMORY		0x10000
#define OTHERS		(16 << 20)	/* of the process, for clear_refs */
#define CODE		0x1000
#define DATA		0x2000
#define APIC_LVR	0x30	/* version and number of LVT entries */

/* What the code below finds at DATA. */
struct shared {
	volatile unsigned int expected, wrong, last, reads, stop;
};

/*
 * again:	mov 0xfee00030, %eax
 *		cmp %eax, expected
 *		je right
 *		incl wrong
 *		mov %eax, last
 * right:	incl reads
 *		cmpl $0, stop
 *		je again
 *		out %al, $16
 *		jmp again
 */
static const unsigned char code[] = {
	0xa1, 0x30, 0x00, 0xe0, 0xfe,
	0x39, 0x05, 0x00, 0x20, 0x00, 0x00,
	0x74, 0x0b,
	0xff, 0x05, 0x04, 0x20, 0x00, 0x00,
	0xa3, 0x08, 0x20, 0x00, 0x00,
	0xff, 0x05, 0x0c, 0x20, 0x00, 0x00,
	0x83, 0x3d, 0x10, 0x20, 0x00, 0x00, 0x00,
	0x74, 0xd9,
	0xe6, 0x10,
	0xeb, 0xd5,
};

static struct kvm_run *run;
static struct shared *guest;
static char *memory, *others;
static void *page;	/* the APIC access page */
static int vcpu, watch;
static volatile int stopped, ended, done;

static void need(int ok, const char *what)
{
	if (ok)
		return;
	printf("not ok - %s: %m\n", what);
	exit(1);
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	need(!sched_setaffinity(0, sizeof(set), &set), "a thread for each CPU");
}

/* It stops for as long as it is told to. */
static void *run_guest(void *unused)
{
	run_on(1);
	while (!done && !ioctl(vcpu, KVM_RUN, 0)) {
		if (run->exit_reason != KVM_EXIT_IO)
			break;
		stopped = 1;
		while (guest->stop && !done)
			usleep(1000);
		stopped = 0;
	}
	ended = 1;
	return unused;
}

/* 32 bits, flat, without paging */
static void set_registers(void)
{
	struct kvm_segment data = {
		.limit = ~0U, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_regs regs = { .rip = CODE, .rflags = 0x202 }; /* Bochs does not interrupt it otherwise */
	struct kvm_sregs sregs;

	need(!ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cr0 |= 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	data.selector = 8;
	data.type = 11;
	sregs.cs = data;
	need(!ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	need(!ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void *allocate(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(p != MAP_FAILED, "memory");
	return p;
}

static void make_guest(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	struct kvm_lapic_state apic;
	int kvm = open("/dev/kvm", O_RDWR), vm;

	need(kvm >= 0, "/dev/kvm, for which the CPU has to have VMX");
	memory = allocate(MEMORY);
	others = allocate(OTHERS);
	memcpy(memory + CODE, code, sizeof(code));
	guest = (struct shared *)(memory + DATA);
	region.userspace_addr = (unsigned long)memory;
	need((vm = ioctl(kvm, KVM_CREATE_VM, 0)) >= 0, "KVM_CREATE_VM");
	/* after that: its notifier is called after KVM's */
	watch = open("/dev/apic_watch", O_RDWR);
	need(watch >= 0, "/dev/apic_watch");
	need(!ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000UL), "KVM_SET_TSS_ADDR");
	need(!ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	need(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	need((vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) >= 0, "KVM_CREATE_VCPU");
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu, 0);
	need(run != MAP_FAILED, "struct kvm_run");
	set_registers();
	need(!ioctl(vcpu, KVM_GET_LAPIC, &apic), "KVM_GET_LAPIC");
	memcpy((void *)&guest->expected, apic.regs + APIC_LVR, sizeof(guest->expected));
}

/* The counts from here on. */
static void begin(unsigned int flags)
{
	need(write(watch, &flags, sizeof(flags)) == sizeof(flags), "write() to apic_watch");
	guest->wrong = 0;
}

static struct apic_watch counts(void)
{
	struct apic_watch now;

	need(read(watch, &now, sizeof(now)) == sizeof(now), "read() of apic_watch");
	return now;
}

/* Until the guest has read that often: does it still run? */
static int wait_for_reads(unsigned int reads)
{
	unsigned int from = guest->reads, ms;

	for (ms = 0; ms < 5000 && guest->reads - from < reads; ms++) {
		if (ended)
			return 0;
		usleep(1000);
	}
	return guest->reads - from >= reads;
}

/* A page is in no list of a CPU any more that keeps it from being freed. */
static void drain(void)
{
	static int other = 1;
	void *page = &other;
	int node = 0, status;

	syscall(SYS_move_pages, 0, 1L, &page, &node, &status, MPOL_MF_MOVE);
}

static int zap(void)
{
	drain();
	return madvise(page, 4096, MADV_REMOVE);
}

/*
 * What the guest reads all the time is not reclaimed, and a vCPU that looks the page up
 * again holds it. So this one is out of KVM_RUN.
 */
static int reclaim(void)
{
	unsigned long long freed = counts().freed;
	int ret = 0, i;

	guest->stop = 1;
	while (!stopped && !ended)
		usleep(1000);
	for (i = 0; i < 10 && !ret && counts().freed == freed; i++) {
		drain();
		ret = madvise(page, 4096, MADV_PAGEOUT);
	}
	guest->stop = 0;
	return ret;
}

static int migrate(void)
{
	int node, status;

	if (syscall(SYS_move_pages, 0, 1L, &page, NULL, &status, 0) || status < 0)
		return -1;
	node = !status;
	if (syscall(SYS_move_pages, 0, 1L, &page, &node, &status, MPOL_MF_MOVE))
		return -1;
	return status == node ? 0 : -1;
}

static int clear_refs(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY), ret = 0;

	if (fd < 0 || write(fd, "4", 1) != 1)
		ret = -1;
	close(fd);
	return ret;
}

static void result(int ok, const char *what, struct apic_watch *now)
{
	printf("%s - %s: %llu pages freed (%llu with the vCPU in the guest), %llu entries (%llu stale), %llu requests, %llu lookups (%llu asked again), %u wrong reads\n",
	       ok ? "ok" : "not ok", what, now->freed, now->freed_in_guest, now->entries,
	       now->stale, now->requests, now->lookups, now->retries, guest->wrong);
}

static int harmless(const struct apic_watch *now)
{
	return now->entries && !now->stale && !now->freed_in_guest && !guest->wrong;
}

static int do_rounds(int (*loses)(void), unsigned int rounds)
{
	unsigned int i;
	int ok = 1;

	for (i = 0; i < rounds && ok; i++)
		ok = !loses() && wait_for_reads(READS);
	return ok;
}

/*
 * Each round takes the page away, and it is never in the VMCS of a vCPU that enters. It can
 * be freed later, when the vCPU has another one: a CPU keeps what was looked up for a while.
 */
static void keeps(const char *what, int (*loses)(void))
{
	struct apic_watch now;
	int ok;

	begin(0);
	ok = do_rounds(loses, ROUNDS);
	now = counts();
	result(ok && now.freed >= ROUNDS / 2 && now.requests >= ROUNDS && harmless(&now), what, &now);
}

/* A lookup that falls into an invalidation. */
static void asks_again(const char *what, unsigned int flags, unsigned int retries)
{
	struct apic_watch now;
	int ok;

	begin(flags);
	ok = do_rounds(zap, 1);
	now = counts();
	result(ok && now.retries >= retries && harmless(&now), what, &now);
}

/* The same with a line of KVM left out: this has to be noticed. */
static void noticed(const char *what, unsigned int flags, unsigned int rounds)
{
	struct apic_watch now;
	int ok;

	begin(flags);
	ok = do_rounds(zap, rounds);
	now = counts();
	result(ok && now.stale && guest->wrong, what, &now);
	begin(0);
	need(do_rounds(zap, 1), "the vCPU goes on");
}

/*
 * Everything that the process maps is invalidated at once, as long as its page table is
 * walked. Without the request, too, a vCPU comes to nothing meanwhile: its MMU has no page.
 */
static void all_of_it(const char *what, unsigned int flags)
{
	struct apic_watch now;
	unsigned int reads;
	int ok;

	memset(others, 1, OTHERS);
	memcpy(memory + CODE, code, sizeof(code));
	begin(flags);
	reads = guest->reads;
	ok = !clear_refs();
	reads = guest->reads - reads;
	ok &= wait_for_reads(READS);
	now = counts();
	result(ok && now.requests == 1 && harmless(&now), what, &now);
	printf("# %s: invalidates %#llx-%#llx, in %llu us: %llu entries, %u reads, %llu lookups\n",
	       what, now.start, now.end, now.during_ns / 1000, now.during_entries, reads,
	       now.during_lookups);
}

static void load(const char *path)
{
	int fd = open(path, O_RDONLY);

	need(fd >= 0 && !syscall(SYS_finit_module, fd, "", 0), path);
}

int main(void)
{
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	load("/apic_watch.ko");
	run_on(0);
	make_guest();
	need(!pthread_create(&thread, NULL, run_guest, NULL), "a thread");
	need(wait_for_reads(READS), "the guest reads the version of its APIC");
	page = (void *)counts().address;
	need(page != NULL, "the CPU virtualizes APIC accesses");

	keeps("zapped", zap);
	keeps("migrated", migrate);
	keeps("reclaimed", reclaim);
	asks_again("looked up during an invalidation", WATCH_HOLD_START, 2);
	asks_again("looked up before, used after an invalidation", WATCH_HOLD_LOOKUP, 1);
	all_of_it("clear_refs", 0);
	all_of_it("clear_refs without the request", WATCH_DROP_REQUEST);
	noticed("without the request: noticed", WATCH_DROP_REQUEST, ROUNDS);
	noticed("without asking again during an invalidation: noticed",
		WATCH_HOLD_START | WATCH_DROP_RETRY, HELD_ROUNDS);
	noticed("without asking again after an invalidation: noticed",
		WATCH_HOLD_LOOKUP | WATCH_DROP_RETRY, HELD_ROUNDS);

	done = 1;
	guest->stop = 1;
	pthread_join(thread, NULL);
	printf("%s - the guest ends when it is told to\n", run->exit_reason == KVM_EXIT_IO ? "ok" : "not ok");
	close(watch);
	return 0;
}
