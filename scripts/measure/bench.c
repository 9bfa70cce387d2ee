// SPDX-License-Identifier: GPL-2.0
/*
 * What changes of mappings cost a process, with and without subscribers of its mm.
 *
 * One line for each workload and scenario, between tabs:
 * bench, workload, scenario, unit, median, min, max, calls of invalidate_range()
 *
 * The unit is executed instructions: QEMU's -icount shift=0 makes the TSC count them.
 * BENCH_ONLY= names the workloads that run, with commas.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mmu_subscribers.h"

#define PAGE		4096UL
#define HUGE		(2UL << 20)
#define MIB		(1UL << 20)
#define DEVICE		"/dev/mmu_subscribers"
#define MAX_RUNS	64

#define fatal(...)	do { printf("# " __VA_ARGS__); printf(": %s\n", strerror(errno)); exit(1); } while (0)
#define must(x)		do { if (!(x)) fatal("line %d: %s", __LINE__, #x); } while (0)

static int subscribers = -1;	/* of the measured process */

static uint64_t now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static uint64_t calls(void)
{
	uint64_t n = 0;

	must(subscribers < 0 || !ioctl(subscribers, SUBSCRIBERS_CALLS, &n));
	return n;
}

/*
 * What is between begin() and took() is measured.  The labels are for atomics.sh, which
 * counts what QEMU executes between them.
 */
static uint64_t called, begun;

static __attribute__((noinline)) void begin(void)
{
	begun = 0;	/* the page is there when calls are counted */
	called -= calls();
	begun = now();
	__asm__ volatile(".globl measured_from\nmeasured_from:" : : : "memory");
}

static __attribute__((noinline)) uint64_t took(void)
{
	uint64_t t;

	__asm__ volatile(".globl measured_to\nmeasured_to:" : : : "memory");
	t = now() - begun;
	called += calls();
	return t;
}

/* --- helpers ---------------------------------------------------------- */

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	return p;
}

static void touch(char *p, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += PAGE)
		*(volatile char *)(p + i) = 1;
}

/* Small pages, all there. */
static char *map_pages(size_t pages)
{
	char *p = map(pages * PAGE);

	must(!madvise(p, pages * PAGE, MADV_NOHUGEPAGE));
	touch(p, pages * PAGE);
	return p;
}

static char *huge_area;

/* One huge page, in an area of two. */
static char *map_huge(void)
{
	char *huge;

	huge_area = map(2 * HUGE);
	huge = (char *)(((uintptr_t)huge_area + HUGE - 1) & ~(HUGE - 1));
	must(!madvise(huge, HUGE, MADV_HUGEPAGE));
	touch(huge, PAGE);
	return huge;
}

/* A process that has a copy of all that is mapped and does nothing. */
static pid_t fork_idle(void)
{
	pid_t pid = fork();

	must(pid >= 0);
	if (!pid)
		while (1)
			pause();
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* --- workloads: each returns what one run took ------------------------ */

static uint64_t unmap_pages(size_t pages)
{
	char *p = map_pages(pages);

	begin();
	must(!munmap(p, pages * PAGE));
	return took();
}

static uint64_t munmap_1(void)
{
	return unmap_pages(1);
}

static uint64_t munmap_64(void)
{
	return unmap_pages(64);
}

static uint64_t munmap_4096(void)
{
	return unmap_pages(4096);
}

static uint64_t dontneed_64(void)
{
	char *p = map_pages(64);
	uint64_t t;

	begin();
	must(!madvise(p, 64 * PAGE, MADV_DONTNEED));
	t = took();
	munmap(p, 64 * PAGE);
	return t;
}

static uint64_t mprotect_64(void)
{
	char *p = map_pages(64);
	uint64_t t;

	begin();
	must(!mprotect(p, 64 * PAGE, PROT_READ));
	t = took();
	munmap(p, 64 * PAGE);
	return t;
}

/* Write faults in pages that are shared with a child: one page. */
static uint64_t cow(void)
{
	char *p = map_pages(64);
	pid_t pid = fork_idle();
	uint64_t t;

	touch(p, 32 * PAGE);
	begin();
	p[32 * PAGE] = 2;
	t = took();
	end(pid);
	munmap(p, 64 * PAGE);
	return t;
}

static uint64_t fork_256m(void)
{
	static char *p;
	pid_t pid;

	if (!p)
		p = map_pages(256 * MIB / PAGE);
	touch(p, 256 * MIB);
	begin();
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	return took();
}

static uint64_t mremap_64(void)
{
	char *p = map_pages(64);
	char *to = map(64 * PAGE);
	uint64_t t;

	begin();
	must(mremap(p, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	t = took();
	munmap(to, 64 * PAGE);
	return t;
}

static void *wait_on_cpu1(void *lock)
{
	run_on(1);
	pthread_mutex_lock(lock);
	pthread_mutex_unlock(lock);
	return NULL;
}

/*
 * Pages that are clean and in the swap cache, of a process that another CPU may have in its
 * TLB: they are unmapped, and the flush is deferred to the end of the batch.
 */
static uint64_t reclaim_64m(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	size_t size = 64 * MIB;
	char *p = map_pages(size / PAGE);
	pthread_t thread;
	uint64_t t;
	size_t i;
	pid_t pid;

	must(!madvise(p, size, MADV_PAGEOUT));
	pid = fork_idle();
	for (i = 0; i < size; i += PAGE)
		(void)*(volatile char *)(p + i);
	pthread_mutex_lock(&lock);
	must(!pthread_create(&thread, NULL, wait_on_cpu1, &lock));
	usleep(20000);
	begin();
	must(!madvise(p, size, MADV_PAGEOUT));
	t = took();
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	end(pid);
	munmap(p, size);
	return t;
}

static uint64_t migrate_64(void)
{
	char *p = map_pages(64);
	void *pages[64];
	int nodes[64], status[64], i;
	uint64_t t;

	for (i = 0; i < 64; i++)
		pages[i] = p + i * PAGE;
	must(!syscall(SYS_move_pages, 0, 64, pages, NULL, status, 0));
	for (i = 0; i < 64; i++)
		nodes[i] = !status[i];
	begin();
	must(!syscall(SYS_move_pages, 0, 64, pages, nodes, status, 2));
	t = took();
	must(status[0] == nodes[0] && status[63] == nodes[63]);
	munmap(p, 64 * PAGE);
	return t;
}

static uint64_t thp_zap(void)
{
	char *p = map_huge();
	uint64_t t;

	begin();
	must(!madvise(p, HUGE, MADV_DONTNEED));
	t = took();
	munmap(huge_area, 2 * HUGE);
	return t;
}

static uint64_t thp_split(void)
{
	char *p = map_huge();
	uint64_t t;

	begin();
	must(!mprotect(p, PAGE, PROT_READ));
	t = took();
	munmap(huge_area, 2 * HUGE);
	return t;
}

/* What compilers and shells do. */
static uint64_t mix(void)
{
	char *p, *moved;
	pid_t pid;
	int i;

	begin();
	for (i = 0; i < 10; i++) {
		pid = fork();
		if (!pid) {
			execl("/proc/self/exe", "bench", "-n", NULL);
			_exit(1);
		}
		p = map(64 * PAGE);
		touch(p, 40 * PAGE);
		moved = mremap(p, 64 * PAGE, 128 * PAGE, MREMAP_MAYMOVE);
		must(moved != MAP_FAILED);
		touch(moved + 40 * PAGE, 40 * PAGE);
		must(!mprotect(moved, 8 * PAGE, PROT_READ));
		must(!madvise(moved + 64 * PAGE, 16 * PAGE, MADV_DONTNEED));
		must(!munmap(moved, 128 * PAGE));
		waitpid(pid, NULL, 0);
	}
	return took();
}

static const struct workload {
	const char *name;
	uint64_t (*run)(void);
	int runs;
} workloads[] = {
	{ "munmap-1", munmap_1, 61 },
	{ "munmap-64", munmap_64, 61 },
	{ "munmap-4096", munmap_4096, 7 },
	{ "dontneed-64", dontneed_64, 61 },
	{ "mprotect-64", mprotect_64, 61 },
	{ "cow", cow, 61 },
	{ "mremap-64", mremap_64, 61 },
	{ "reclaim-64M", reclaim_64m, 3 },
	{ "migrate-64", migrate_64, 15 },
	{ "thp-zap", thp_zap, 15 },
	{ "thp-split", thp_split, 15 },
	{ "mix", mix, 5 },
	{ "fork-256M", fork_256m, 5 },
};

#define NR_WORKLOADS	(sizeof(workloads) / sizeof(workloads[0]))

/* --- scenarios -------------------------------------------------------- */

static const struct scenario {
	const char *name;
	int kind, number;
	bool other;	/* the subscribers are those of another process */
} scenarios[] = {
	{ "none", 0, 0, false },
	{ "interval", SUBSCRIBER_INTERVAL, 1, false },
	{ "noop", SUBSCRIBER_WITHOUT_OP, 1, false },
	{ "op1", SUBSCRIBER_WITH_OP, 1, false },
	{ "op2", SUBSCRIBER_WITH_OP, 2, false },
	{ "op8", SUBSCRIBER_WITH_OP, 8, false },
	{ "other", SUBSCRIBER_WITH_OP, 1, true },
};

#define NR_SCENARIOS	(sizeof(scenarios) / sizeof(scenarios[0]))

static int attach(const struct scenario *s)
{
	/* far from what the workloads map */
	struct subscriber_attach a = {
		.kind = s->kind, .start = 1UL << 40, .length = MIB
	};
	int i, fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	for (i = 0; i < s->number; i++)
		must(!ioctl(fd, SUBSCRIBERS_ATTACH, &a));
	return fd;
}

/* --- measurement ------------------------------------------------------ */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void print_row(const char *workload, const char *scenario, uint64_t *value, int n,
		      uint64_t called)
{
	qsort(value, n, sizeof(*value), compare);
	printf("bench\t%s\t%s\tinstructions\t%llu\t%llu\t%llu\t%llu\n", workload,
	       scenario, (unsigned long long)value[n / 2],
	       (unsigned long long)value[0], (unsigned long long)value[n - 1],
	       (unsigned long long)called);
}

/* The first run warms up what is allocated once. */
static void measure(const struct workload *w, const struct scenario *s)
{
	uint64_t value[MAX_RUNS];
	int i;

	w->run();
	called = 0;
	for (i = 0; i < w->runs; i++)
		value[i] = w->run();
	called = s->number && !s->other ? called / s->number / w->runs : 0;
	print_row(w->name, s->name, value, w->runs, called);
}

/* What it takes to be the first or the second subscriber, and to be the last one to go. */
static void measure_registration(void)
{
	uint64_t first[MAX_RUNS], second[MAX_RUNS], last[MAX_RUNS];
	struct subscriber_attach a = { .kind = SUBSCRIBER_WITH_OP };
	int i, fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	uint64_t t;

	must(fd >= 0);
	for (i = 0; i < 15; i++) {
		must(!ioctl(fd, SUBSCRIBERS_ATTACH, &a));
		first[i] = a.ticks;
		must(!ioctl(fd, SUBSCRIBERS_ATTACH, &a));
		second[i] = a.ticks;
		must(!ioctl(fd, SUBSCRIBERS_DETACH, &t));
		last[i] = t;
	}
	close(fd);
	print_row("register-first", "op1", first, i, 0);
	print_row("register-second", "op2", second, i, 0);
	print_row("unregister-last", "op1", last, i, 0);
}

static bool wanted(const char *name)
{
	const char *only = getenv("BENCH_ONLY");
	size_t length = strlen(name);
	const char *p;

	for (p = only; p && (p = strstr(p, name)); p += length)
		if ((p == only || p[-1] == ',') && (!p[length] || p[length] == ','))
			return true;
	return !only || !*only;
}


static void run_scenario(const struct scenario *s)
{
	pid_t other = 0;
	int ready[2];
	size_t i;
	char c;

	must(!pipe(ready));
	if (s->other) {
		other = fork();
		if (!other) {
			attach(s);
			must(write(ready[1], "", 1) == 1);
			while (1)
				pause();
		}
		must(read(ready[0], &c, 1) == 1);
		subscribers = open(DEVICE, O_RDWR | O_CLOEXEC);
	} else {
		subscribers = attach(s);
	}
	for (i = 0; i < NR_WORKLOADS; i++)
		if (wanted(workloads[i].name))
			measure(&workloads[i], s);
	if (other)
		end(other);
}

/* --- CPUs ------------------------------------------------------------- */

/* Lets QEMU go on with another CPU, which -icount has it do at this instruction only. */
static void yield_cpu(void)
{
	__asm__ volatile("pause");
	sched_yield();
}

/*
 * Starts the other CPUs.  The kernel does not boot with them (maxcpus=1): it would wait for
 * each without a pause, and under -icount none would ever come.
 */
static void start_cpus(void)
{
	long cpu, nr = sysconf(_SC_NPROCESSORS_CONF);
	char name[64];
	pid_t pid;
	int fd;

	run_on(0);
	pid = fork();
	if (!pid)
		while (1)
			yield_cpu();
	for (cpu = 1; cpu < nr; cpu++) {
		snprintf(name, sizeof(name), "/sys/devices/system/cpu/cpu%ld/online", cpu);
		fd = open(name, O_WRONLY);
		must(fd >= 0 && write(fd, "1", 1) == 1);
		close(fd);
	}
	end(pid);
}

/* One run of each workload, when what it needs is warm.  For atomics.sh, with one CPU. */
static void run_once(const char *scenario)
{
	size_t i, j;

	for (i = 0; strcmp(scenarios[i].name, scenario); i++)
		must(i < NR_SCENARIOS - 1);
	subscribers = attach(&scenarios[i]);
	for (j = 0; j < NR_WORKLOADS; j++) {
		if (!wanted(workloads[j].name))
			continue;
		workloads[j].run();
		workloads[j].run();
		workloads[j].run();
		printf("once\t%s\t%s\n", workloads[j].name, scenario);
	}
}

/* --- scale: processes that unmap at the same time, each on its CPU ----- */

#define SCALE_ROUNDS	500

static void unmap_forever(volatile int *go, int cpu, int kind)
{
	struct scenario s = { .kind = kind, .number = 1 };
	int i;

	run_on(cpu);
	if (kind >= 0)
		attach(&s);
	__sync_fetch_and_sub(go, 1);
	while (*go > 0)
		yield_cpu();
	for (i = 0; i < SCALE_ROUNDS; i++)
		unmap_pages(4);
	_exit(0);
}

/* From the start of the first to the end of the last, all CPUs together. */
static void measure_scale(int cpus, int kind, const char *scenario)
{
	volatile int *go = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t value[5];
	int cpu, run;
	char name[32];
	uint64_t t;

	for (run = 0; run < 5; run++) {
		*go = cpus + 1;
		for (cpu = 0; cpu < cpus; cpu++)
			if (!fork())
				unmap_forever(go, cpu, kind);
		while (*go > 1)
			yield_cpu();
		t = now();
		*go = 0;
		while (wait(NULL) > 0)
			;
		value[run] = (now() - t) / SCALE_ROUNDS / cpus;
	}
	snprintf(name, sizeof(name), "scale-%d", cpus);
	print_row(name, scenario, value, 5, 0);
}

/* --- threads of one process that zap at the same time, each on its CPU -- */

static volatile int threads_go;

static void *zap_forever(void *cpu)
{
	char *p = map_pages(1);
	int i;

	run_on((int)(uintptr_t)cpu);
	__sync_fetch_and_sub(&threads_go, 1);
	while (threads_go > 0)
		yield_cpu();
	for (i = 0; i < SCALE_ROUNDS; i++) {
		*(volatile char *)p = 1;
		must(!madvise(p, PAGE, MADV_DONTNEED));
	}
	return NULL;
}

static uint64_t zap_in_threads(int cpus)
{
	pthread_t thread[8];
	uint64_t t;
	int cpu;

	threads_go = cpus + 1;
	for (cpu = 0; cpu < cpus; cpu++)
		must(!pthread_create(&thread[cpu], NULL, zap_forever, (void *)(uintptr_t)cpu));
	while (threads_go > 1)
		yield_cpu();
	t = now();
	threads_go = 0;
	for (cpu = 0; cpu < cpus; cpu++)
		pthread_join(thread[cpu], NULL);
	return (now() - t) / SCALE_ROUNDS / cpus;
}

static void measure_threads(int cpus, int kind, const char *scenario)
{
	struct scenario s = { .kind = kind, .number = 1 };
	uint64_t value[5];
	char name[32];
	int run, fd = -1;

	if (kind >= 0)
		fd = attach(&s);
	for (run = 0; run < 5; run++)
		value[run] = zap_in_threads(cpus);
	snprintf(name, sizeof(name), "threads-%d", cpus);
	print_row(name, scenario, value, 5, 0);
	close(fd);
}

/* --- parts: each has a test result ------------------------------------ */

static int tests, failures;

static void report(const char *name, bool good)
{
	failures += !good;
	printf("%sok %d bench.%s\n", good ? "" : "not ", ++tests, name);
}

/* Each part runs in a process of its own, so that nothing is left of the one before. */
static void run_part(const char *name, void (*part)(const void *), const void *what)
{
	int status = -1;
	pid_t pid;

	printf("#  RUN           bench.%s ...\n", name);
	pid = fork();
	if (!pid) {
		part(what);
		exit(0);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		printf("# signal %d\n", WTERMSIG(status));
	report(name, !status);
}

static void part_scenario(const void *scenario)
{
	run_scenario(scenario);
}

static void part_registration(const void *unused)
{
	measure_registration();
}

static void part_once(const void *scenario)
{
	run_once(scenario);
}

static void part_scale(const void *unused)
{
	long most = sysconf(_SC_NPROCESSORS_ONLN);
	int cpus;

	for (cpus = 1; cpus <= most; cpus *= 2) {
		measure_scale(cpus, -1, "none");
		measure_scale(cpus, SUBSCRIBER_WITHOUT_OP, "noop");
		measure_scale(cpus, SUBSCRIBER_WITH_OP, "op1");
	}
	for (cpus = 1; cpus <= most; cpus *= 2) {
		measure_threads(cpus, -1, "none");
		measure_threads(cpus, SUBSCRIBER_WITHOUT_OP, "noop");
		measure_threads(cpus, SUBSCRIBER_WITH_OP, "op1");
	}
}

static int print_totals(void)
{
	printf("# Totals: pass:%d fail:%d xfail:0 xpass:0 skip:0 error:0\n",
	       tests - failures, failures);
	return 0;
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc > 1)
		return 0;	/* what mix executes */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	printf("TAP version 13\n");
	if (getenv("BENCH_ONCE")) {
		printf("1..1\n");
		run_part("once", part_once, getenv("BENCH_ONCE"));
		return print_totals();
	}
	start_cpus();
	if (getenv("BENCH_SCALE")) {
		printf("1..1\n");
		run_part("scale", part_scale, NULL);
	} else {
		printf("1..%zu\n", NR_SCENARIOS + 1);
		for (i = 0; i < NR_SCENARIOS; i++)
			run_part(scenarios[i].name, part_scenario, &scenarios[i]);
		run_part("registration", part_registration, NULL);
	}
	return print_totals();
}
