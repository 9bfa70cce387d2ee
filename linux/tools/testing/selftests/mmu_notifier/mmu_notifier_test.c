// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of mmu_notifier_ops.invalidate_range() from user space.
 *
 * Each test opens /dev/shadow_tlb: from then on a device with a TLB of its own,
 * in software, shares the page table of the test.  The test lets it load
 * translations and makes the kernel change the page table.  The device must
 * have lost what changed, must never have been able to reach a page that was
 * freed, or a page-table page, and must have kept nothing that allows more than
 * the page table does.
 *
 * What is not there (swap, KSM, hugetlb pages, a second node, ...) is skipped,
 * with the reason.  As root.  The two tests of memory failure take a page, and
 * a huge page, out of service until the next boot.  The test oom_reaper lets the OOM
 * killer choose a process, which has to be that of the test.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <poll.h>
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
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mmu_notifier_util.h"

#define EXEC_CHILD	"MMU_NOTIFIER_TEST_EXEC"

#define NR		8	/* pages, where the number does not matter */
#define ROOM		(32UL << 20)	/* bytes, for compaction to move pages */
#define PATIENCE	20	/* seconds until a kernel thread must have come by */

static size_t huge_size;
static cpu_set_t all_cpus;

/*
 * Before main(): what execve() of this program is to do; output by lines, for
 * /dev/kmsg; and nothing at all without the device.
 */
static void __attribute__((constructor)) begin(void)
{
	int dev;

	if (getenv(EXEC_CHILD))
		_exit(0);
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	page_size = sysconf(_SC_PAGESIZE);
	sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
	dev = open(DEVICE, O_RDWR);
	if (dev < 0)
		ksft_exit_skip("cannot open %s (%s): CONFIG_TEST_SHADOW_TLB, root\n",
			       DEVICE, strerror(errno));
	close(dev);
}

/* Settings of the machine that a test changes, and what they were. */
#define MAX_SETTINGS	16

struct setting {
	const char *path;
	char was[64];
};

/* The device. */

static uint64_t dev_range(int dev, unsigned long cmd, const void *addr,
			  size_t len)
{
	struct shadow_tlb_range range = { .addr = (uintptr_t)addr, .len = len };

	if (ioctl(dev, cmd, &range))
		return UINT64_MAX;
	return range.pages;
}

/* How many pages of a range can the device read, or write? */
static uint64_t dev_read(int dev, const void *addr, size_t len)
{
	return dev_range(dev, SHADOW_TLB_READ, addr, len);
}

static uint64_t dev_write(int dev, const void *addr, size_t len)
{
	return dev_range(dev, SHADOW_TLB_WRITE, addr, len);
}

/* How many pages of a range has it in its TLB? */
static uint64_t dev_has(int dev, const void *addr, size_t len)
{
	return dev_range(dev, SHADOW_TLB_CACHED, addr, len);
}

static struct shadow_tlb_report dev_report(int dev)
{
	struct shadow_tlb_report report;

	memset(&report, 0xff, sizeof(report));
	ioctl(dev, SHADOW_TLB_REPORT, &report);
	return report;
}

/* The guarantee, whatever has happened. */
static void expect_unharmed(struct __test_metadata *_metadata,
			    const struct shadow_tlb_report *report)
{
	EXPECT_EQ(0, report->freed_pages);
	EXPECT_EQ(0, report->freed_tables);
	EXPECT_EQ(0, report->bad_ranges);
	EXPECT_EQ(0, report->stale_used);
	EXPECT_EQ(0, report->stale);
}

static void expect_clean(struct __test_metadata *_metadata, int dev)
{
	struct shadow_tlb_report report = dev_report(dev);

	EXPECT_EQ(1, report.compared);
	expect_unharmed(_metadata, &report);
}

/* Memory. */

static void *map_at(void *addr, size_t len, int flags, int fd)
{
	return mmap(addr, len, PROT_READ | PROT_WRITE,
		    flags | (fd < 0 ? MAP_ANONYMOUS : 0) | (addr ? MAP_FIXED : 0),
		    fd, 0);
}

/* Address space for @len bytes, of which nobody else has a part. */
static void *reserve(size_t len, size_t align)
{
	char *addr = mmap(NULL, len + 2 * align, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	return (void *)(((uintptr_t)addr + 2 * align - 1) & ~(align - 1));
}

/* Private memory in pages of the base size, written to. */
static char *map_small(size_t len, size_t align)
{
	char *addr = reserve(len, align);

	if (!addr || map_at(addr, len, MAP_PRIVATE, -1) != addr)
		return NULL;
	madvise(addr, len, MADV_NOHUGEPAGE);
	memset(addr, 0x5a, len);
	return addr;
}

static char *map_pages(size_t nr)
{
	return map_small(nr * page_size, page_size);
}

static bool is_all(const char *addr, size_t len, char value)
{
	while (len && addr[len - 1] == value)
		len--;
	return !len;
}

/* The kB that smaps has in this field of the mapping at @addr, or -1. */
static long smaps_kb(const void *addr, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	char line[512];
	bool here = false;
	long kb = -1;

	if (!file)
		return -1;
	while (kb < 0 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)addr && (uintptr_t)addr < end;
		else if (here && !strncmp(line, field, strlen(field)))
			kb = atol(line + strlen(field));
	}
	fclose(file);
	return kb;
}

static uint64_t pagemap_entry(const void *addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)addr / page_size * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

static uint64_t page_frame(const void *addr)
{
	return pagemap_entry(addr) & ((1ULL << 55) - 1);
}

static bool is_present(const void *addr)
{
	return pagemap_entry(addr) >> 63;
}

static size_t nr_present(const char *addr, size_t len)
{
	const char *end = addr + len;
	size_t nr = 0;

	for (; addr < end; addr += page_size)
		nr += is_present(addr);
	return nr;
}

/* NUMA nodes. */

static int node_of(void *addr)
{
	int status = -1;

	syscall(__NR_move_pages, 0, 1UL, &addr, NULL, &status, 0);
	return status;
}

static int other_node(int node)
{
	struct stat st;

	node = !node;
	return stat(node ? "/sys/devices/system/node/node1" :
		    "/sys/devices/system/node/node0", &st) ? -1 : node;
}

/* All pages, each @step long, to @node.  Returns how many are there then. */
static size_t move_pages_to(char *addr, size_t len, size_t step, int node)
{
	size_t i, nr = len / step, moved = 0;
	void *pages[NR * NR];
	int nodes[NR * NR], status[NR * NR];

	for (i = 0; i < nr; i++) {
		pages[i] = addr + i * step;
		nodes[i] = node;
	}
	if (syscall(__NR_move_pages, 0, nr, pages, nodes, status,
		    MPOL_MF_MOVE) < 0)
		return 0;
	for (i = 0; i < nr; i++)
		moved += status[i] == node;
	return moved;
}

static bool has_swap(void)
{
	char text[512];

	return !read_file("/proc/swaps", text, sizeof(text)) &&
	       strchr(text, '/');
}

/* Are there some of these seconds left?  *@until is 0 at first. */
static bool is_time_left(time_t *until, int seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!*until)
		*until = now.tv_sec + seconds;
	return now.tv_sec < *until;
}

static bool wait_more(time_t *until)
{
	usleep(1000);
	return is_time_left(until, PATIENCE);
}

/* Binds the caller to the @nr'th of the CPUs, if there are so many. */
static void bind_to_cpu(int nr)
{
	cpu_set_t one;
	int cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all_cpus) || nr--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

/* A thread that does nothing but use the mm, on another CPU if there is one. */
struct spinner {
	pthread_t thread;
	int running, stop;
};

static void *spin(void *data)
{
	struct spinner *spinner = data;

	bind_to_cpu(1);
	__atomic_store_n(&spinner->running, 1, __ATOMIC_RELAXED);
	while (!__atomic_load_n(&spinner->stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

static int start_spinner(struct spinner *spinner)
{
	if (pthread_create(&spinner->thread, NULL, spin, spinner))
		return -1;
	while (!__atomic_load_n(&spinner->running, __ATOMIC_RELAXED))
		sched_yield();
	return 0;
}

static void stop_spinner(struct spinner *spinner)
{
	__atomic_store_n(&spinner->stop, 1, __ATOMIC_RELAXED);
	pthread_join(spinner->thread, NULL);
}

static int wait_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Shares all pages, until it is killed, or its parent ends. */
static pid_t fork_sleeper(void)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	return pid;
}

FIXTURE(user)
{
	int dev;
	int nr_settings;
	struct setting settings[MAX_SETTINGS];
};

/* Returns -1 if there is no such setting. */
static int set(struct _test_data_user *self, const char *path,
	       const char *value)
{
	struct setting *setting = &self->settings[self->nr_settings];

	if (self->nr_settings == MAX_SETTINGS ||
	    read_file(path, setting->was, sizeof(setting->was)))
		return -1;
	if (write_file(path, value))
		return -1;
	setting->path = path;
	self->nr_settings++;
	return 0;
}

FIXTURE_SETUP(user)
{
	char text[32];

	self->dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->dev);
	if (!read_file(THP "hpage_pmd_size", text, sizeof(text)))
		huge_size = atol(text);
	/* A CPU does not reclaim pages that another one has yet to put on a list. */
	bind_to_cpu(0);
	/* Nobody but the test is to change its page table. */
	set(self, "/proc/sys/kernel/numa_balancing", "0");
	set(self, KSM "run", "0");
}

FIXTURE_TEARDOWN(user)
{
	while (self->nr_settings--)
		write_file(self->settings[self->nr_settings].path,
			   self->settings[self->nr_settings].was);
	close(self->dev);
}

#define map_pages_or_fail(nr) ({					\
	char *__addr = map_pages(nr);					\
	ASSERT_NE(NULL, __addr);					\
	__addr;								\
})

/* The device loads a range that it can read, or write to. */
static void dev_loads(struct __test_metadata *_metadata, int dev,
		      const char *addr, size_t len, bool write)
{
	ASSERT_EQ(len / page_size, write ? dev_write(dev, addr, len) :
					   dev_read(dev, addr, len));
	ASSERT_EQ(len / page_size, dev_has(dev, addr, len));
}

#define load(addr, len)							\
	dev_loads(_metadata, self->dev, addr, len, false)

#define load_writable(addr, len)					\
	dev_loads(_metadata, self->dev, addr, len, true)

#define expect_has(nr, addr, len)					\
	EXPECT_EQ(nr, dev_has(self->dev, addr, len))

/* What changed is lost; what it changed to can be loaded; nothing is stale. */
static void dev_reloads(struct __test_metadata *_metadata, int dev,
			const char *addr, size_t len)
{
	expect_clean(_metadata, dev);
	EXPECT_EQ(len / page_size, dev_read(dev, addr, len));
	expect_clean(_metadata, dev);
}

#define expect_reloads(addr, len)					\
	dev_reloads(_metadata, self->dev, addr, len)

/* The interface. */

TEST_F(user, bad_arguments)
{
	struct shadow_tlb_range range = { };
	char *addr = map_pages_or_fail(NR);
	size_t len = NR * page_size;
	unsigned long cmds[] = { SHADOW_TLB_READ, SHADOW_TLB_WRITE,
				 SHADOW_TLB_CACHED, SHADOW_TLB_RUN_ON };
	struct { uint64_t addr, len; } bad[] = {
		{ (uintptr_t)addr + 1, len },
		{ (uintptr_t)addr, len - 1 },
		{ (uintptr_t)addr, (SHADOW_TLB_MAX_PAGES + 1) * page_size },
		{ (uintptr_t)addr, -page_size },
		{ -page_size, page_size },
		{ -page_size, 2 * page_size },
		{ 1UL << 63, page_size },
	};
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		for (j = 0; j < ARRAY_SIZE(bad); j++) {
			range.addr = bad[j].addr;
			range.len = bad[j].len;
			EXPECT_EQ(-1, ioctl(self->dev, cmds[i], &range));
			EXPECT_EQ(EINVAL, errno);
		}
		EXPECT_EQ(-1, ioctl(self->dev, cmds[i], NULL));
		EXPECT_EQ(EFAULT, errno);
	}
	EXPECT_EQ(-1, ioctl(self->dev, SHADOW_TLB_REPORT, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->dev, _IO(0xF9, 0xff), NULL));
	EXPECT_EQ(ENOTTY, errno);
	expect_clean(_metadata, self->dev);
}

TEST_F(user, another_process_cannot_use_the_device)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR), c = 0;
	int go[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		struct shadow_tlb_report report;
		bool good;

		good = read(go[0], &c, 1) == 1 &&
		       dev_read(self->dev, addr, len) == UINT64_MAX &&
		       errno == EPERM &&
		       dev_range(self->dev, SHADOW_TLB_RUN_ON, addr, len) ==
		       UINT64_MAX && errno == EPERM &&
		       dev_has(self->dev, addr, len) == NR;
		report = dev_report(self->dev);
		_exit(good && !report.compared && report.held >= NR ? 0 : 1);
	}
	load(addr, len);
	EXPECT_EQ(1, write(go[1], &c, 1));
	EXPECT_EQ(0, wait_child(pid));
	/* Its exit is nothing to the device. */
	expect_has(NR, addr, len);
	expect_clean(_metadata, self->dev);
}

/* Unmapping and protection. */

TEST_F(user, munmap)
{
	size_t len = NR * page_size, hole = 3 * page_size;
	char *addr = map_pages_or_fail(NR);

	load(addr, len);
	EXPECT_EQ(0, munmap(addr + 2 * page_size, hole));
	expect_has(0, addr + 2 * page_size, hole);
	expect_has(NR - 3, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, munmap(addr, len));
	expect_has(0, addr, len);
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	expect_clean(_metadata, self->dev);
}

TEST_F(user, munmap_of_page_tables)
{
	char *area = reserve(3 * GIB, GIB), *addr = area + GIB;
	size_t len = NR * page_size;
	uint64_t held;

	ASSERT_NE(NULL, area);
	/* Nothing else is mapped in this GiB: its tables go with it. */
	ASSERT_EQ(addr, map_at(addr, len, MAP_PRIVATE, -1));
	memset(addr, 1, len);
	held = dev_report(self->dev).held;
	load(addr, len);
	EXPECT_LT(held + NR, dev_report(self->dev).held);
	EXPECT_EQ(0, munmap(area, 3 * GIB));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
}

TEST_F(user, munmap_while_the_device_runs)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	uint64_t accesses;

	load(addr, len);
	EXPECT_NE(UINT64_MAX, dev_range(self->dev, SHADOW_TLB_RUN_ON, addr, len));
	accesses = dev_report(self->dev).accesses;
	EXPECT_EQ(0, munmap(addr, len));
	EXPECT_LT(accesses, dev_report(self->dev).accesses);
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
}

TEST_F(user, madvise_dontneed)
{
	size_t len = NR * page_size, hole = 2 * page_size;
	char *addr = map_pages_or_fail(NR);

	load(addr, len);
	EXPECT_EQ(0, madvise(addr + page_size, hole, MADV_DONTNEED));
	expect_has(0, addr + page_size, hole);
	expect_has(NR - 2, addr, len);
	expect_clean(_metadata, self->dev);
	memset(addr, 1, len);
	expect_reloads(addr, len);
}

TEST_F(user, mprotect)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);

	load_writable(addr, len);
	EXPECT_EQ(0, mprotect(addr, 3 * page_size, PROT_READ));
	expect_has(NR - 3, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(NR - 3, dev_write(self->dev, addr, len));
	EXPECT_EQ(NR, dev_read(self->dev, addr, len));
	EXPECT_EQ(0, mprotect(addr, len, PROT_NONE));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	EXPECT_EQ(0, mprotect(addr, len, PROT_READ | PROT_WRITE));
	memset(addr, 1, len);
	EXPECT_EQ(NR, dev_write(self->dev, addr, len));
	expect_clean(_metadata, self->dev);
}

/* Reclaim. */

TEST_F(user, madvise_free_and_reclaim)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	int i;

	load(addr, len);
	EXPECT_EQ(0, madvise(addr, len, MADV_FREE));
	/* The page is clean now, and has to be seen if it is written to. */
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	load(addr, len);
	for (i = 0; i < 100 && nr_present(addr, len); i++)
		madvise(addr, len, MADV_PAGEOUT);
	if (nr_present(addr, len))
		SKIP(return, "the pages are not reclaimed");
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_TRUE(is_all(addr, len, 0));
}

/* Reclaim @addr, and read it back. */
static void page_out(struct __test_metadata *_metadata,
		     struct _test_data_user *self, char *addr, size_t len)
{
	int i;

	if (!addr)
		SKIP(return, "no memory of this kind");
	if (!has_swap())
		SKIP(return, "no swap");
	load(addr, len);
	for (i = 0; i < 100 && nr_present(addr, len); i++)
		EXPECT_EQ(0, madvise(addr, len, MADV_PAGEOUT));
	EXPECT_EQ(0, nr_present(addr, len));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
}

TEST_F(user, pageout_to_swap)
{
	page_out(_metadata, self, map_pages_or_fail(NR), NR * page_size);
}

/* The CPU flush is deferred if another CPU uses the mm. */
TEST_F(user, pageout_with_a_deferred_flush)
{
	struct spinner spinner = { };

	if (CPU_COUNT(&all_cpus) < 2)
		SKIP(return, "one CPU");
	ASSERT_EQ(0, start_spinner(&spinner));
	page_out(_metadata, self, map_pages_or_fail(NR), NR * page_size);
	stop_spinner(&spinner);
}

/* From another process, which does not share the pages. */
static int advise_parent(char *addr, size_t len, int advice)
{
	struct iovec iov = { .iov_base = addr, .iov_len = len };
	pid_t parent = getpid(), pid;

	pid = fork();
	if (!pid) {
		int i, fd = pidfd_of(parent);

		for (i = 0; fd >= 0 && i < 10; i++)
			if (syscall(__NR_process_madvise, fd, &iov, 1, advice,
				    0) != (long)len)
				_exit(errno);
		_exit(fd < 0);
	}
	return wait_child(pid);
}

TEST_F(user, process_madvise_pageout)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	int ret;

	if (!has_swap())
		SKIP(return, "no swap");
	madvise(addr, len, MADV_DONTFORK);
	load(addr, len);
	ret = advise_parent(addr, len, MADV_PAGEOUT);
	if (ret)
		SKIP(return, "no process_madvise() (%s)", strerror(ret));
	EXPECT_EQ(0, nr_present(addr, len));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
}

TEST_F(user, process_madvise_cold)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	int ret;

	madvise(addr, len, MADV_DONTFORK);
	load(addr, len);
	ret = advise_parent(addr, len, MADV_COLD);
	if (ret)
		SKIP(return, "no process_madvise() (%s)", strerror(ret));
	/* Only the accessed bit changed, but the gather flushes. */
	expect_has(0, addr, len);
	EXPECT_EQ(NR, nr_present(addr, len));
	expect_reloads(addr, len);
}

/* Migration. */

TEST_F(user, move_pages)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	int node = other_node(node_of(addr));

	if (node < 0)
		SKIP(return, "one NUMA node");
	load(addr, len);
	ASSERT_EQ(NR, move_pages_to(addr, len, page_size, node));
	expect_has(0, addr, len);
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
}

TEST_F(user, mbind)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	int node = other_node(node_of(addr));
	unsigned long mask;

	if (node < 0)
		SKIP(return, "one NUMA node");
	mask = 1UL << node;
	load(addr, len);
	ASSERT_EQ(0, syscall(__NR_mbind, addr, len, MPOL_BIND, &mask,
			     8 * sizeof(mask), MPOL_MF_MOVE));
	EXPECT_EQ(node, node_of(addr));
	expect_has(0, addr, len);
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
}

/*
 * Every other page of a range.  Compaction takes pages from one end of a zone to free
 * ones at the other: there have to be some on either side of them, of one node.
 */
static char *map_pages_to_move(size_t nr)
{
	char *before, *addr, *after;
	size_t i;

	bind_to_cpu(0);
	before = map_pages(ROOM / page_size);
	addr = map_pages(nr);
	after = map_pages(ROOM / page_size);
	sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
	if (before)
		munmap(before, ROOM);
	if (after)
		munmap(after, ROOM);
	for (i = 0; addr && i < nr; i += 2)
		madvise(addr + i * page_size, page_size, MADV_DONTNEED);
	return addr;
}

TEST_F(user, compact_memory)
{
	size_t nr = 2048, i, moved = 0;
	uint64_t *was = calloc(nr, sizeof(*was));
	char *addr = NULL;
	time_t until = 0;

	ASSERT_NE(NULL, was);
	while (!moved && wait_more(&until)) {
		if (addr)
			munmap(addr, nr * page_size);
		addr = map_pages_to_move(nr);
		ASSERT_NE(NULL, addr);
		for (i = 1; i < nr; i += 2)
			was[i] = page_frame(addr + i * page_size);
		ASSERT_EQ(nr / 2, dev_read(self->dev, addr, nr * page_size));
		if (write_file("/proc/sys/vm/compact_memory", "1"))
			SKIP(return, "no /proc/sys/vm/compact_memory");
		for (i = 1; i < nr; i += 2)
			moved += page_frame(addr + i * page_size) != was[i];
	}
	EXPECT_NE(0, moved);
	expect_has(nr / 2 - moved, addr, nr * page_size);
	expect_clean(_metadata, self->dev);
	for (i = 1; i < nr; i += 2)
		EXPECT_EQ(0x5a, addr[i * page_size]);
	EXPECT_EQ(nr / 2, dev_read(self->dev, addr, nr * page_size));
	expect_clean(_metadata, self->dev);
}

static void *sleep_until_told(void *pipe)
{
	char c;

	return (void *)read(*(int *)pipe, &c, 1);
}

TEST_F(user, numa_hinting)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	time_t until = 0;
	pthread_t thread;
	int told[2];

	if (other_node(0) < 0)
		SKIP(return, "one NUMA node");
	if (set(self, "/proc/sys/kernel/numa_balancing", "1"))
		SKIP(return, "no /proc/sys/kernel/numa_balancing");
	/* Without threads, pages on the node of the task are left alone. */
	ASSERT_EQ(0, pipe(told));
	ASSERT_EQ(0, pthread_create(&thread, NULL, sleep_until_told, told));
	load_writable(addr, len);
	/* Pages that wait to be put on a list are left alone, too. */
	map_pages_or_fail(8 * NR);
	/* A task has to run for some time before it is looked at. */
	while (dev_has(self->dev, addr, len) && is_time_left(&until, PATIENCE))
		;
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	EXPECT_EQ(1, write(told[1], "", 1));
	pthread_join(thread, NULL);
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
}

/* KSM. */

static bool is_one_frame(const char *addr, size_t len)
{
	uint64_t frame = page_frame(addr);

	while (len && page_frame(addr + len - page_size) == frame)
		len -= page_size;
	return !len;
}

TEST_F(user, ksm_merge_and_break)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	time_t until = 0;

	if (madvise(addr, len, MADV_MERGEABLE))
		SKIP(return, "no KSM");
	load_writable(addr, len);
	if (set(self, KSM "sleep_millisecs", "0") ||
	    set(self, KSM "pages_to_scan", "1000") ||
	    set(self, KSM "run", "1"))
		SKIP(return, "cannot set " KSM "run");
	while (!is_one_frame(addr, len) && wait_more(&until))
		;
	EXPECT_TRUE(is_one_frame(addr, len));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, write_file(KSM "run", "0"));
	EXPECT_EQ(0, dev_write(self->dev, addr, len));
	load(addr, len);
	addr[0] = 1;
	expect_has(NR - 1, addr, len);
	EXPECT_TRUE(is_all(addr + page_size, len - page_size, 0x5a));
	expect_reloads(addr, len);
	EXPECT_EQ(0, madvise(addr, len, MADV_UNMERGEABLE));
	expect_has(1, addr, len);
	expect_reloads(addr, len);
}

/* Transparent huge pages. */

/* Private memory in one huge page, or NULL. */
static char *map_huge(void)
{
	char *addr;

	if (!huge_size)
		return NULL;
	addr = reserve(huge_size, huge_size);
	if (!addr || map_at(addr, huge_size, MAP_PRIVATE, -1) != addr)
		return NULL;
	madvise(addr, huge_size, MADV_HUGEPAGE);
	memset(addr, 0x5a, huge_size);
	return smaps_kb(addr, "AnonHugePages:") * 1024 == (long)huge_size ?
	       addr : NULL;
}

#define NO_THP		"no transparent huge page"

TEST_F(user, collapse_of_anonymous_memory)
{
	char *addr;

	if (!huge_size)
		SKIP(return, "no transparent huge pages");
	addr = map_small(huge_size, huge_size);
	ASSERT_NE(NULL, addr);
	load_writable(addr, huge_size);
	/* From here on khugepaged may be faster. */
	madvise(addr, huge_size, MADV_HUGEPAGE);
	if (madvise(addr, huge_size, MADV_COLLAPSE) && errno == EINVAL)
		SKIP(return, "no MADV_COLLAPSE");
	EXPECT_EQ((long)huge_size / 1024, smaps_kb(addr, "AnonHugePages:"));
	expect_has(0, addr, huge_size);
	EXPECT_TRUE(is_all(addr, huge_size, 0x5a));
	expect_reloads(addr, huge_size);
}

TEST_F(user, khugepaged)
{
	time_t until = 0;
	char *addr;

	if (!huge_size)
		SKIP(return, "no transparent huge pages");
	addr = map_small(huge_size, huge_size);
	ASSERT_NE(NULL, addr);
	load_writable(addr, huge_size);
	if (set(self, THP "khugepaged/pages_to_scan", "100000") ||
	    set(self, THP "khugepaged/scan_sleep_millisecs", "10"))
		SKIP(return, "cannot set " THP "khugepaged");
	madvise(addr, huge_size, MADV_HUGEPAGE);
	while (smaps_kb(addr, "AnonHugePages:") <= 0 && wait_more(&until))
		;
	expect_has(0, addr, huge_size);
	EXPECT_TRUE(is_all(addr, huge_size, 0x5a));
	EXPECT_EQ((long)huge_size / 1024, smaps_kb(addr, "AnonHugePages:"));
	expect_reloads(addr, huge_size);
}

/*
 * The pages of a file in memory are collapsed.  All mappings lose the small
 * pages, and each its page table when its turn comes.
 */
TEST_F(user, collapse_of_shared_memory)
{
	char *one, *two;
	int fd;

	if (!huge_size)
		SKIP(return, "no transparent huge pages");
	fd = memfd_create("collapse", 0);
	if (fd < 0 || ftruncate(fd, huge_size))
		SKIP(return, "no memfd");
	one = reserve(huge_size, huge_size);
	two = reserve(huge_size, huge_size);
	ASSERT_EQ(one, map_at(one, huge_size, MAP_SHARED, fd));
	ASSERT_EQ(two, map_at(two, huge_size, MAP_SHARED, fd));
	memset(one, 0x5a, huge_size);
	EXPECT_TRUE(is_all(two, huge_size, 0x5a));
	load(one, huge_size);
	load(two, huge_size);
	if (madvise(one, huge_size, MADV_COLLAPSE))
		SKIP(return, "shared memory is not collapsed (%s)",
		     strerror(errno));
	expect_has(0, one, huge_size);
	expect_has(0, two, huge_size);
	expect_clean(_metadata, self->dev);

	/*
	 * The huge page, by way of small entries.  If nothing is in the way, a
	 * fault maps all of it at once, and then there is nothing to collapse.
	 */
	ASSERT_EQ(0, mprotect(two, page_size, PROT_READ));
	EXPECT_TRUE(is_all(two, huge_size, 0x5a));
	ASSERT_EQ(0, mprotect(two, page_size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, smaps_kb(two, "ShmemPmdMapped:"));
	load(two, huge_size);
	EXPECT_EQ(0, madvise(two, huge_size, MADV_COLLAPSE));
	expect_has(0, two, huge_size);
	expect_clean(_metadata, self->dev);
	EXPECT_TRUE(is_all(two, huge_size, 0x5a));
	EXPECT_EQ((long)huge_size / 1024, smaps_kb(two, "ShmemPmdMapped:"));
	expect_reloads(one, huge_size);
	expect_reloads(two, huge_size);
	close(fd);
}

TEST_F(user, thp_partial_munmap)
{
	char *addr = map_huge(), *hole = addr + 3 * page_size;

	if (!addr)
		SKIP(return, NO_THP);
	load(addr, huge_size);
	EXPECT_EQ(0, munmap(hole, page_size));
	expect_has(0, hole, page_size);
	expect_clean(_metadata, self->dev);
	EXPECT_TRUE(is_all(addr, 3 * page_size, 0x5a));
	EXPECT_EQ(huge_size / page_size - 1,
		  dev_read(self->dev, addr, huge_size));
	expect_clean(_metadata, self->dev);
}

TEST_F(user, thp_partial_mprotect)
{
	char *addr = map_huge();

	if (!addr)
		SKIP(return, NO_THP);
	load_writable(addr, huge_size);
	EXPECT_EQ(0, mprotect(addr, page_size, PROT_READ));
	expect_has(0, addr, page_size);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, page_size));
	EXPECT_EQ(huge_size / page_size - 1,
		  dev_write(self->dev, addr, huge_size));
	expect_reloads(addr, huge_size);
}

TEST_F(user, thp_pageout)
{
	page_out(_metadata, self, map_huge(), huge_size);
}

TEST_F(user, thp_cow_after_fork)
{
	char *addr = map_huge();
	pid_t pid;

	if (!addr)
		SKIP(return, NO_THP);
	load_writable(addr, huge_size);
	pid = fork_sleeper();
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, huge_size));
	load(addr, huge_size);
	addr[0] = 1;
	expect_has(0, addr, page_size);
	expect_clean(_metadata, self->dev);
	kill(pid, SIGKILL);
	wait_child(pid);
	expect_reloads(addr, huge_size);
}

TEST_F(user, thp_move_pages)
{
	char *addr = map_huge();
	int node = other_node(node_of(addr));

	if (!addr)
		SKIP(return, NO_THP);
	if (node < 0)
		SKIP(return, "one NUMA node");
	load(addr, huge_size);
	ASSERT_EQ(1, move_pages_to(addr, huge_size, huge_size, node));
	expect_has(0, addr, huge_size);
	EXPECT_TRUE(is_all(addr, huge_size, 0x5a));
	expect_reloads(addr, huge_size);
}

/* Mappings that move. */

static void move_mapping(struct __test_metadata *_metadata,
			 struct _test_data_user *self, char *addr, size_t len)
{
	char *new = reserve(len, huge_size ?: page_size);

	if (!addr)
		SKIP(return, "no memory of this kind");
	ASSERT_NE(NULL, new);
	load(addr, len);
	ASSERT_EQ(new, mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			      new));
	expect_has(0, addr, len);
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	EXPECT_TRUE(is_all(new, len, 0x5a));
	expect_reloads(new, len);
	/* Nobody gets what is freed by its new address. */
	EXPECT_EQ(0, munmap(new, len));
	expect_has(0, new, len);
	expect_clean(_metadata, self->dev);
}

TEST_F(user, mremap_of_pages)
{
	move_mapping(_metadata, self, map_pages_or_fail(NR), NR * page_size);
}

TEST_F(user, mremap_of_a_page_table)
{
	char *addr;

	if (!huge_size)
		SKIP(return, "the size of a page table is not known");
	addr = map_small(huge_size, huge_size);
	ASSERT_NE(NULL, addr);
	move_mapping(_metadata, self, addr, huge_size);
}

TEST_F(user, mremap_of_a_huge_page)
{
	move_mapping(_metadata, self, map_huge(), huge_size);
}

/* Files. */

TEST_F(user, truncate_and_punch_hole)
{
	size_t len = NR * page_size, hole = 2 * page_size;
	int fd = memfd_create("hole", 0);
	char *addr;

	if (fd < 0 || ftruncate(fd, len))
		SKIP(return, "no memfd");
	addr = map_at(NULL, len, MAP_SHARED, fd);
	ASSERT_NE(MAP_FAILED, addr);
	memset(addr, 0x5a, len);
	load(addr, len);
	EXPECT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       page_size, hole));
	expect_has(0, addr + page_size, hole);
	expect_has(NR - 2, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, madvise(addr + 4 * page_size, hole, MADV_REMOVE));
	expect_has(0, addr + 4 * page_size, hole);
	expect_has(NR - 4, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, ftruncate(fd, page_size));
	expect_has(1, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(1, dev_read(self->dev, addr, len));
	close(fd);
}

/* Write-back has to see each write, so it takes the right to write away. */
TEST_F(user, write_back)
{
	size_t len = NR * page_size;
	int fd = open(BLOCK_DEVICE, O_RDWR | O_EXCL);
	char *addr;

	if (fd < 0)
		SKIP(return, "cannot open " BLOCK_DEVICE " (%s)",
		     strerror(errno));
	addr = map_at(NULL, len, MAP_SHARED, fd);
	ASSERT_NE(MAP_FAILED, addr);
	memset(addr, 0x5a, len);
	load_writable(addr, len);
	EXPECT_EQ(0, msync(addr, len, MS_SYNC));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, len));
	expect_reloads(addr, len);
	close(fd);
}

/* Hugetlb. */

static size_t hugetlb_size(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	size_t kb = 0;

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Hugepagesize: %zu kB", &kb);
	if (file)
		fclose(file);
	return kb * 1024;
}

/* Huge pages at the beginning of a mapping, or NULL. */
static char *map_hugetlb(size_t nr, size_t len, size_t align, int flags)
{
	size_t size = hugetlb_size();
	char *addr = reserve(len, align);

	if (!size || !addr || map_at(addr, len, flags | MAP_HUGETLB, -1) != addr)
		return NULL;
	/* A fault that finds no page is a SIGBUS. */
	if (madvise(addr, nr * size, MADV_POPULATE_WRITE))
		return NULL;
	memset(addr, 0x5a, nr * size);
	return addr;
}

static char *map_huge_pages(size_t nr)
{
	size_t size = hugetlb_size() ?: page_size;

	return map_hugetlb(nr, nr * size, size, MAP_PRIVATE);
}

#define NO_HUGETLB	"no free hugetlb pages"

TEST_F(user, hugetlb_munmap)
{
	char *addr = map_huge_pages(2);
	size_t size = hugetlb_size();

	if (!addr)
		SKIP(return, NO_HUGETLB);
	load(addr, 2 * size);
	EXPECT_EQ(0, munmap(addr, size));
	expect_has(0, addr, size);
	expect_has(size / page_size, addr, 2 * size);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, munmap(addr + size, size));
	expect_has(0, addr, 2 * size);
	expect_clean(_metadata, self->dev);
}

TEST_F(user, hugetlb_mprotect)
{
	char *addr = map_huge_pages(2);
	size_t size = hugetlb_size();

	if (!addr)
		SKIP(return, NO_HUGETLB);
	load_writable(addr, 2 * size);
	EXPECT_EQ(0, mprotect(addr, size, PROT_READ));
	expect_has(0, addr, size);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, size));
	expect_reloads(addr, size);
}

TEST_F(user, hugetlb_mremap)
{
	char *addr = map_huge_pages(1);

	if (!addr)
		SKIP(return, NO_HUGETLB);
	move_mapping(_metadata, self, addr, hugetlb_size());
}

TEST_F(user, hugetlb_move_pages)
{
	char *addr = map_huge_pages(1);
	int node = other_node(node_of(addr));
	size_t size = hugetlb_size();

	if (!addr)
		SKIP(return, NO_HUGETLB);
	if (node < 0)
		SKIP(return, "one NUMA node");
	load(addr, size);
	if (move_pages_to(addr, size, size, node) != 1)
		SKIP(return, "no free hugetlb page on node %d", node);
	expect_has(0, addr, size);
	EXPECT_TRUE(is_all(addr, size, 0x5a));
	expect_reloads(addr, size);
}

TEST_F(user, hugetlb_cow_after_fork)
{
	char *addr = map_huge_pages(1);
	size_t size = hugetlb_size();
	pid_t pid;

	if (!addr)
		SKIP(return, NO_HUGETLB);
	load_writable(addr, size);
	pid = fork_sleeper();
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, size));
	load(addr, size);
	addr[0] = 1;
	expect_has(0, addr, size);
	expect_clean(_metadata, self->dev);
	kill(pid, SIGKILL);
	wait_child(pid);
	expect_reloads(addr, size);
}

/*
 * What a page table maps whose entries are page tables or huge pages: 1 GiB with
 * pages of 4 KiB, 64 GiB with 16 KiB.  0 where processes do not share it.
 */
static size_t shared_size(void)
{
#ifdef __powerpc__
	return 0;
#else
	size_t entries = page_size / sizeof(uint64_t);

	return page_size > 16384 ? 0 : entries * entries * page_size;
#endif
}

#define NO_SHARING	"processes share no page tables here"

/*
 * Two processes map the same huge pages, and share the page table of all that.
 * Then @change has to unshare it.  Nothing is mapped by the device's process
 * after that: this shows that it was shared.  The child goes, and with it the
 * table.
 */
static void unshare_table(struct __test_metadata *_metadata,
			  struct _test_data_user *self,
			  int (*change)(char *addr, size_t size))
{
	size_t size = hugetlb_size(), all = shared_size();
	int to_child[2], to_parent[2];
	char *addr, c = 0;
	pid_t pid;

	if (!all)
		SKIP(return, NO_SHARING);
	addr = map_hugetlb(2, all, all, MAP_SHARED | MAP_NORESERVE);
	if (!addr)
		SKIP(return, NO_HUGETLB);
	ASSERT_EQ(0, pipe(to_child) | pipe(to_parent));
	pid = fork();
	if (!pid) {
		c = addr[0] + addr[size];
		if (write(to_parent[1], &c, 1) != 1 ||
		    read(to_child[0], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	load(addr, 2 * size);
	EXPECT_EQ(0, change(addr, size));
	expect_has(0, addr, 2 * size);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_read(self->dev, addr, 2 * size));
	EXPECT_EQ(1, write(to_child[1], &c, 1));
	EXPECT_EQ(0, wait_child(pid));
	expect_clean(_metadata, self->dev);
}

static int mprotect_one(char *addr, size_t size)
{
	return mprotect(addr, size, PROT_READ);
}

static int mprotect_all(char *addr, size_t size)
{
	return mprotect(addr, shared_size(), PROT_READ);
}

static int munmap_all(char *addr, size_t size)
{
	return munmap(addr, shared_size());
}

static int mremap_all(char *addr, size_t size)
{
	size_t len = shared_size();
	char *new = reserve(len, len);

	return mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, new) != new;
}

/* The mapping is split in two. */
TEST_F(user, shared_page_table_split)
{
	unshare_table(_metadata, self, mprotect_one);
}

TEST_F(user, shared_page_table_mprotect)
{
	unshare_table(_metadata, self, mprotect_all);
}

TEST_F(user, shared_page_table_munmap)
{
	unshare_table(_metadata, self, munmap_all);
}

TEST_F(user, shared_page_table_mremap)
{
	unshare_table(_metadata, self, mremap_all);
}

/* Who comes first unshares, and the other one has the table alone. */
TEST_F(user, shared_page_table_punch_hole)
{
	size_t size = hugetlb_size(), all = shared_size();
	char *addr;
	pid_t pid;

	if (!all)
		SKIP(return, NO_SHARING);
	addr = map_hugetlb(2, all, all, MAP_SHARED | MAP_NORESERVE);
	if (!addr)
		SKIP(return, NO_HUGETLB);
	load(addr, 2 * size);
	pid = fork();
	if (!pid)
		_exit(madvise(addr, 2 * size, MADV_POPULATE_READ) ||
		      madvise(addr, size, MADV_REMOVE));
	EXPECT_EQ(0, wait_child(pid));
	expect_has(0, addr, size);
	expect_clean(_metadata, self->dev);
	EXPECT_TRUE(is_all(addr + size, size, 0x5a));
	expect_reloads(addr + size, size);
}

/* userfaultfd. */

static int uffd_protect(int uffd, char *addr, size_t len, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
}

static void *write_one(void *addr)
{
	*(char *)addr = 1;
	return NULL;
}

TEST_F(user, userfaultfd_write_protection)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	pthread_t thread;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) ||
	    ioctl(uffd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no userfaultfd write protection (%s)",
		     strerror(errno));
	load_writable(addr, len);
	ASSERT_EQ(0, uffd_protect(uffd, addr, len, true));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, len));
	load(addr, len);

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_one, addr));
	ASSERT_EQ(1, poll(&pollfd, 1, PATIENCE * 1000));
	ASSERT_EQ((ssize_t)sizeof(msg), read(uffd, &msg, sizeof(msg)));
	EXPECT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
	EXPECT_EQ((uintptr_t)addr, msg.arg.pagefault.address);
	EXPECT_EQ(0, dev_write(self->dev, addr, page_size));
	EXPECT_EQ(0, uffd_protect(uffd, addr, page_size, false));
	pthread_join(thread, NULL);
	EXPECT_EQ(1, addr[0]);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(1, dev_write(self->dev, addr, len));
	expect_reloads(addr, len);
	close(uffd);
	expect_clean(_metadata, self->dev);
}

/* Soft-dirty bits. */

TEST_F(user, clear_refs)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);

	if (!(pagemap_entry(addr) & 1ULL << 55))
		SKIP(return, "no soft-dirty bits");
	load_writable(addr, len);
	ASSERT_EQ(0, write_file("/proc/self/clear_refs", "4"));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, len));
	EXPECT_EQ(0, pagemap_entry(addr) & 1ULL << 55);
	expect_reloads(addr, len);
}

/* Uprobes. */

/* Where in its file is what is mapped at an address? */
static long offset_in_file(uintptr_t addr)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned long start, end, offset;
	char line[512];
	long found = -1;

	while (file && found < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    start <= addr && addr < end)
			found = addr - start + offset;
	if (file)
		fclose(file);
	return found;
}

/* A breakpoint: the page of the file is replaced by one of the process. */
TEST_F(user, uprobe)
{
	uintptr_t place = place_to_probe();
	char *page = (char *)(place & -page_size);
	long offset = offset_in_file(place);
	char exe[256], event[512];
	ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	unsigned char *insn = (void *)place;
	unsigned char was;

	nops();
	was = __atomic_load_n(insn, __ATOMIC_RELAXED);
	ASSERT_LT(0, len);
	exe[len] = '\0';
	ASSERT_LE(0, offset);
	snprintf(event, sizeof(event), "p:mmu_notifier_test/probed %s:0x%lx\n",
		 exe, offset);
	load(page, page_size);
	if (write_file(TRACING "uprobe_events", event))
		SKIP(return, "cannot write to " TRACING "uprobe_events (%s)",
		     strerror(errno));
	EXPECT_EQ(0, write_file(TRACING "events/mmu_notifier_test/enable", "1"));
	EXPECT_NE(was, __atomic_load_n(insn, __ATOMIC_RELAXED));
	expect_has(0, page, page_size);
	expect_reloads(page, page_size);
	nops();
	EXPECT_EQ(0, write_file(TRACING "events/mmu_notifier_test/enable", "0"));
	EXPECT_EQ(was, __atomic_load_n(insn, __ATOMIC_RELAXED));
	expect_has(0, page, page_size);
	expect_reloads(page, page_size);
	EXPECT_EQ(0, write_file(TRACING "uprobe_events",
				"-:mmu_notifier_test/probed\n"));
}

/* Memory that fails. */

/* It comes to who makes the memory fail, and must not be ignored. */
static void go_on(int sig)
{
}

static void lose_page(struct __test_metadata *_metadata,
		      struct _test_data_user *self, char *addr, size_t size)
{
	__u64 outside;

	if (!addr)
		SKIP(return, NO_HUGETLB);
	signal(SIGBUS, go_on);
	load(addr, size);
	outside = dev_report(self->dev).outside;
	if (madvise(addr, page_size, MADV_HWPOISON))
		SKIP(return, "no MADV_HWPOISON (%s)", strerror(errno));
	/* It was told before the kernel went on with the page. */
	EXPECT_EQ(outside, dev_report(self->dev).outside);
	expect_has(0, addr, size);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_read(self->dev, addr, size));
	EXPECT_EQ(0, munmap(addr, size));
	expect_clean(_metadata, self->dev);
}

TEST_F(user, hwpoison)
{
	char *addr = map_pages_or_fail(NR);

	load(addr, NR * page_size);
	lose_page(_metadata, self, addr + page_size, page_size);
#if TREE < 612
	if (_metadata->skip)
		return;
#else
	if (_metadata->exit_code == KSFT_SKIP)
		return;
#endif
	expect_has(NR - 1, addr, NR * page_size);
}

TEST_F(user, hugetlb_hwpoison)
{
	lose_page(_metadata, self, map_huge_pages(1),
		  hugetlb_size());
}

static int hwpoison_one(char *addr, size_t size)
{
	signal(SIGBUS, go_on);
	return madvise(addr, page_size, MADV_HWPOISON);
}

TEST_F(user, shared_page_table_hwpoison)
{
	if (access("/proc/sys/vm/memory_failure_recovery", F_OK))
		SKIP(return, "no MADV_HWPOISON");
	unshare_table(_metadata, self, hwpoison_one);
}

TEST_F(user, soft_offline)
{
	char *addr = map_pages_or_fail(NR);
	size_t len = NR * page_size;

	load(addr, len);
	if (madvise(addr, page_size, MADV_SOFT_OFFLINE))
		SKIP(return, "no MADV_SOFT_OFFLINE (%s)", strerror(errno));
	expect_has(0, addr, page_size);
	expect_has(NR - 1, addr, len);
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
}

/* fork(), exit, execve(). */

TEST_F(user, cow_after_fork)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	pid_t pid;

	load_writable(addr, len);
	pid = fork_sleeper();
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_write(self->dev, addr, len));
	load(addr, len);
	memset(addr, 1, 3 * page_size);
	expect_has(NR - 3, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(3, dev_write(self->dev, addr, len));
	kill(pid, SIGKILL);
	wait_child(pid);
	expect_reloads(addr, len);
}

/* Pages that are pinned are copied for the child, not shared with it. */
TEST_F(user, fork_of_pinned_pages)
{
	struct io_uring_params params = { };
	size_t len = NR * page_size, pinned = 2 * page_size;
	char *addr = map_pages_or_fail(NR);
	struct iovec iov = { .iov_base = addr, .iov_len = pinned };
	int ring = syscall(__NR_io_uring_setup, 1, &params);
	uint64_t was = page_frame(addr);
	pid_t pid;

	if (ring < 0 || syscall(__NR_io_uring_register, ring,
				IORING_REGISTER_BUFFERS, &iov, 1))
		SKIP(return, "io_uring does not pin pages (%s)",
		     strerror(errno));
	load_writable(addr, len);
	pid = fork_sleeper();
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(2, dev_write(self->dev, addr, len));
	memset(addr, 1, len);
	/* The same page as before. */
	EXPECT_EQ(was, page_frame(addr));
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(NR, dev_write(self->dev, addr, len));
	kill(pid, SIGKILL);
	wait_child(pid);
	expect_reloads(addr, len);
	close(ring);
}

/*
 * A process with a device of its own that has loaded 2 * NR pages, and sleeps.
 * Returns a descriptor of its device.
 */
static int start_child(pid_t *pid, int *go, void (*end)(void))
{
	int to_child[2], to_parent[2], pidfd, dev = -1;

	if (pipe(to_child) || pipe(to_parent))
		return -1;
	*pid = fork();
	if (!*pid) {
		size_t len = NR * page_size;
		char *small = map_pages(NR), *far = map_small(len, GIB);

		dev = open(DEVICE, O_RDWR | O_CLOEXEC);
		if (dev_read(dev, small, len) != NR ||
		    dev_read(dev, far, len) != NR ||
		    write(to_parent[1], &dev, sizeof(dev)) != sizeof(dev) ||
		    read(to_child[0], &dev, 1) != 1)
			_exit(1);
		end();
		_exit(2);
	}
	close(to_parent[1]);
	pidfd = pidfd_of(*pid);
	if (read(to_parent[0], &dev, sizeof(dev)) != sizeof(dev))
		dev = -1;
	else
		dev = syscall(__NR_pidfd_getfd, pidfd, dev, 0);
	close(pidfd);
	*go = to_child[1];
	return dev;
}

static void end_by_exit(void)
{
	_exit(0);
}

static void end_by_execve(void)
{
	char *argv[2] = { "mmu_notifier_test", NULL };
	char *envp[2] = { EXEC_CHILD "=1", NULL };

	execve("/proc/self/exe", argv, envp);
}

/* The end of an mm: the device is told by release(), and then has nothing. */
static void outlive(struct __test_metadata *_metadata, void (*end)(void))
{
	struct shadow_tlb_report report;
	pid_t pid;
	int go, dev = start_child(&pid, &go, end);

	ASSERT_LE(0, dev);
	report = dev_report(dev);
	EXPECT_LE(2 * NR, report.held);
	EXPECT_EQ(1, write(go, "", 1));
	EXPECT_EQ(0, wait_child(pid));
	report = dev_report(dev);
	expect_unharmed(_metadata, &report);
	EXPECT_EQ(0, report.compared);
	EXPECT_EQ(0, report.held);
	close(dev);
}

TEST_F(user, exit)
{
	outlive(_metadata, end_by_exit);
}

TEST_F(user, execve)
{
	outlive(_metadata, end_by_execve);
}

/*
 * The memory of a process that is about to exit is taken from it by another
 * one, as the OOM killer does.  A tracer keeps it from the end of its mm.
 */
TEST_F(user, process_mrelease)
{
	struct shadow_tlb_report report;
	int go, dev, status, pidfd, ret;
	pid_t pid;

	dev = start_child(&pid, &go, end_by_exit);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT));
	EXPECT_EQ(1, write(go, "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(PTRACE_EVENT_EXIT, status >> 16);

	report = dev_report(dev);
	EXPECT_LE(2 * NR, report.held);
	pidfd = pidfd_of(pid);
	ret = syscall(__NR_process_mrelease, pidfd, 0);
	if (ret)
		SKIP(goto out, "no process_mrelease() (%s)", strerror(errno));
	expect_unharmed(_metadata, &report);
	EXPECT_LT(report.calls, dev_report(dev).calls);
	EXPECT_GT(2 * NR, dev_report(dev).held);
	report = dev_report(dev);
	expect_unharmed(_metadata, &report);
out:
	ptrace(PTRACE_CONT, pid, 0, 0);
	wait_child(pid);
	close(pidfd);
	close(dev);
}

/*
 * A process that is killed for want of memory.  A tracer keeps it from the end of its
 * mm, so it is the OOM reaper that takes its memory from it, while its device runs.
 */
static void reaped(struct __test_metadata *_metadata, pid_t pid, int go, int dev,
		   const char *where, const char *what)
{
	struct shadow_tlb_report report;
	time_t until = 0;
	int status;

	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT));
	report = dev_report(dev);
	EXPECT_LE(2 * NR, report.held);
	EXPECT_EQ(1, write(go, "", 1));
	if (where)
		EXPECT_EQ(0, write_file(where, what));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(PTRACE_EVENT_EXIT, status >> 16);

	while (dev_report(dev).held >= 2 * NR && wait_more(&until))
		;
	EXPECT_GT(2 * NR, dev_report(dev).held);
	EXPECT_LT(report.calls, dev_report(dev).calls);
	report = dev_report(dev);
	expect_unharmed(_metadata, &report);

	ptrace(PTRACE_CONT, pid, 0, 0);
	EXPECT_EQ(128 + SIGKILL, wait_child(pid));
	report = dev_report(dev);
	expect_unharmed(_metadata, &report);
	EXPECT_EQ(0, report.held);
}

static void end_by_sleeping(void)
{
	while (1)
		pause();
}

/* The process that the OOM killer would take first, and SysRq, which calls it. */
TEST_F(user, oom_reaper)
{
	int go, dev;
	char path[64];
	pid_t pid;

	if (access("/proc/sysrq-trigger", W_OK))
		SKIP(return, "no SysRq (%s): CONFIG_MAGIC_SYSRQ",
		     strerror(errno));
	dev = start_child(&pid, &go, end_by_sleeping);
	ASSERT_LE(0, dev);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
	ASSERT_EQ(0, write_file(path, "1000"));
	reaped(_metadata, pid, go, dev, "/proc/sysrq-trigger", "f");
	close(dev);
}

#define GROUP_LIMIT	(8UL << 20)

/* A control group for memory, with a limit.  Returns -1 if there are none. */
struct group {
	char mount[64], dir[80];
};

static int make_group(struct group *group)
{
	char path[128], limit[32];

	snprintf(group->mount, sizeof(group->mount),
		 "/tmp/mmu_notifier_test.XXXXXX");
	if (!mkdtemp(group->mount))
		return -1;
	if (mount("none", group->mount, "cgroup2", 0, NULL)) {
		rmdir(group->mount);
		return -1;
	}
	snprintf(group->dir, sizeof(group->dir), "%s/test", group->mount);
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", group->mount);
	if (write_file(path, "+memory") || mkdir(group->dir, 0700))
		goto unmount;
	snprintf(path, sizeof(path), "%s/memory.swap.max", group->dir);
	write_file(path, "0");
	snprintf(path, sizeof(path), "%s/memory.max", group->dir);
	snprintf(limit, sizeof(limit), "%lu", GROUP_LIMIT);
	if (!write_file(path, limit))
		return 0;
	rmdir(group->dir);
unmount:
	umount(group->mount);
	rmdir(group->mount);
	return -1;
}

static int join_group(struct group *group, pid_t pid)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "%s/cgroup.procs", group->dir);
	snprintf(text, sizeof(text), "%d", pid);
	return write_file(path, text);
}

static void remove_group(struct group *group)
{
	rmdir(group->dir);
	umount(group->mount);
	rmdir(group->mount);
}

static void end_by_filling_a_group(void)
{
	size_t len = 4 * GROUP_LIMIT;
	char *addr = map_at(NULL, len, MAP_PRIVATE, -1);

	if (addr != MAP_FAILED)
		memset(addr, 1, len);
}

/* One that is over the limit of its group: with a tracer, and without. */
TEST_F(user, oom_in_a_memory_cgroup)
{
	struct shadow_tlb_report report;
	struct group group;
	int go, dev;
	pid_t pid;

	if (make_group(&group))
		SKIP(return, "no memory cgroup (%s): CONFIG_MEMCG",
		     strerror(errno));
	dev = start_child(&pid, &go, end_by_filling_a_group);
	ASSERT_LE(0, dev);
	EXPECT_EQ(0, join_group(&group, pid));
	reaped(_metadata, pid, go, dev, NULL, NULL);
	close(dev);

	dev = start_child(&pid, &go, end_by_filling_a_group);
	ASSERT_LE(0, dev);
	EXPECT_EQ(0, join_group(&group, pid));
	EXPECT_EQ(1, write(go, "", 1));
	EXPECT_EQ(128 + SIGKILL, wait_child(pid));
	report = dev_report(dev);
	expect_unharmed(_metadata, &report);
	EXPECT_EQ(0, report.held);
	close(dev);
	remove_group(&group);
}

/*
 * Registrations, and whatever else flushes, until it is killed: by another CPU, as
 * the kernel need not be preemptible.
 */
static void end_in_the_middle(void)
{
	size_t len = NR * page_size;
	char *addr, *new;
	int dev;

	bind_to_cpu(1);
	while (1) {
		addr = map_small(len, GIB);
		new = reserve(len, page_size);
		dev = open(DEVICE, O_RDWR | O_CLOEXEC);
		dev_write(dev, addr, len);
		if (!fork())
			_exit(0);
		memset(addr, 1, page_size);
		mprotect(addr, page_size, PROT_READ);
		mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, new);
		dev_read(dev, new, len);
		munmap(new, len);
		close(dev);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

/* A descriptor is closed some time after the end of who had it. */
static __u64 devices_become(int dev, __u64 nr)
{
	time_t until = 0;

	while (dev_report(dev).devices != nr && wait_more(&until))
		;
	return dev_report(dev).devices;
}

TEST_F_TIMEOUT(user, killed_at_any_moment, 120)
{
	struct shadow_tlb_report report;
	__u64 devices = dev_report(self->dev).devices;
	int go, dev, i;
	pid_t pid;

	for (i = 0; i < 50; i++) {
		dev = start_child(&pid, &go, end_in_the_middle);
		ASSERT_LE(0, dev);
		EXPECT_EQ(1, write(go, "", 1));
		usleep(i * 617);
		kill(pid, SIGKILL);
		EXPECT_EQ(128 + SIGKILL, wait_child(pid));
		report = dev_report(dev);
		expect_unharmed(_metadata, &report);
		EXPECT_EQ(0, report.held);
		EXPECT_EQ(devices + 1, devices_become(dev, devices + 1));
		close(dev);
		close(go);
	}
	expect_clean(_metadata, self->dev);
}

/* Registration that is interrupted. */

#define MANY_MAPPINGS	40000

/* Mappings of one page, which are not merged as every other one is read-only. */
static int map_many(size_t nr)
{
	char *addr = reserve(nr * page_size, page_size);
	size_t i;

	if (!addr)
		return -1;
	for (i = 0; i < nr; i += 2)
		if (mprotect(addr + i * page_size, page_size, PROT_READ))
			return -1;
	return 0;
}

static int ticks;

static void count_tick(int sig)
{
	__atomic_add_fetch(&ticks, 1, __ATOMIC_RELAXED);
}

/*
 * A timer that is faster than a registration: the signals wait, and none comes
 * to the caller as an error.
 */
TEST_F_TIMEOUT(user, register_under_a_fast_timer, 120)
{
	struct itimerval fast = { { 0, 1000 }, { 0, 1000 } }, off = { };
	int dev, i, before, interrupted = 0;
	time_t until = 0;

	if (map_many(MANY_MAPPINGS))
		SKIP(return, "no %d mappings (%s)", MANY_MAPPINGS,
		     strerror(errno));
	signal(SIGALRM, count_tick);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &fast, NULL));
	for (i = 0; i < 5 || (!interrupted && is_time_left(&until, PATIENCE)); i++) {
		before = __atomic_load_n(&ticks, __ATOMIC_RELAXED);
		dev = open(DEVICE, O_RDWR | O_CLOEXEC);
		interrupted += before != __atomic_load_n(&ticks, __ATOMIC_RELAXED);
		EXPECT_LE(0, dev) {
			TH_LOG("open(): %s", strerror(errno));
		}
		close(dev);
	}
	setitimer(ITIMER_REAL, &off, NULL);
	EXPECT_LT(0, interrupted);
	expect_clean(_metadata, self->dev);
}

/* It is given up, and nothing is left of it. */
TEST_F_TIMEOUT(user, killed_while_it_registers, 120)
{
	__u64 devices = dev_report(self->dev).devices;
	int i, go[2];
	pid_t pid;
	char c;

	if (map_many(MANY_MAPPINGS))
		SKIP(return, "no %d mappings (%s)", MANY_MAPPINGS,
		     strerror(errno));
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, pipe(go));
		pid = fork();
		if (!pid) {
			bind_to_cpu(1);
			if (write(go[1], "", 1) != 1)
				_exit(1);
			while (1)
				close(open(DEVICE, O_RDWR | O_CLOEXEC));
		}
		ASSERT_LT(0, pid);
		ASSERT_EQ(1, read(go[0], &c, 1));
		usleep(i * 2500);
		kill(pid, SIGKILL);
		EXPECT_EQ(128 + SIGKILL, wait_child(pid));
		EXPECT_EQ(devices, devices_become(self->dev, devices));
		close(go[0]);
		close(go[1]);
	}
	expect_clean(_metadata, self->dev);
}

/* Allocations that fail. */

#define MOST_FAILURES	2000	/* more than an operation has allocations */

static int let_allocations_fail(struct _test_data_user *self)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(failures); i++)
		if (set(self, failures[i].path, failures[i].value))
			return -1;
	return open_fail_nth();
}

#define NO_FAILURES	"no fault injection: CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC"

/* Did the allocation come?  From now on, none fails. */
static bool has_failed(int fail_nth)
{
	char text[16] = "";

	if (pread(fail_nth, text, sizeof(text) - 1, 0) <= 0)
		return false;
	write_fail_nth(fail_nth, 0);
	return !atoi(text);
}

static bool has_passed(struct __test_metadata *_metadata)
{
#if TREE < 612
	return _metadata->passed;
#else
	return __test_passed(_metadata);
#endif
}

/*
 * An operation on memory in the middle of an area of 5 GiB in which there is
 * nothing else, so that its page tables are allocated and freed with it.
 */
struct operation {
	size_t len;
	int flags;	/* of mmap() */
	int advice;
	int (*run)(char *addr, size_t len);
	int errors;	/* that there are at least: not each allocation is needed */
};

static char *vacate(char *area)
{
	return mmap(area, 5 * GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_NORESERVE | (area ? MAP_FIXED : 0), -1, 0);
}

/* In the one of these GiB that is aligned. */
static char *map_in(char *area, const struct operation *op)
{
	char *addr = (char *)(((uintptr_t)area + 2 * GIB - 1) & -GIB);

	if (map_at(addr, op->len, MAP_PRIVATE | op->flags, -1) != addr)
		return NULL;
	if (op->advice)
		madvise(addr, op->len, op->advice);
	memset(addr, 0x5a, op->len);
	return addr;
}

/*
 * The first allocation of the operation fails, then the second, until there are
 * no more.  The device goes on.  Whatever became of the operation, what changed
 * in the page table has been flushed, and nothing is left behind.
 */
static void each_allocation_fails(struct __test_metadata *_metadata,
				  struct _test_data_user *self,
				  const struct operation *op)
{
	int fail_nth = let_allocations_fail(self), nth, ret, error, errors = 0;
	char *area = vacate(NULL), *addr;
	struct shadow_tlb_report before, after;
	bool failed = true;

	if (fail_nth < 0)
		SKIP(return, NO_FAILURES);
	ASSERT_NE(MAP_FAILED, area);
	for (nth = 1; failed && nth < MOST_FAILURES; nth++) {
		addr = map_in(area, op);
		if (!addr)
			SKIP(return, "no memory of this kind");
		load_writable(addr, op->len);
		dev_range(self->dev, SHADOW_TLB_RUN_ON, addr, NR * page_size);
		before = dev_report(self->dev);
		ASSERT_EQ(0, write_fail_nth(fail_nth, nth));
		ret = op->run(addr, op->len);
		error = errno;
		failed = has_failed(fail_nth);
		if (ret) {
			EXPECT_TRUE(failed);
			EXPECT_EQ(ENOMEM, error);
			errors++;
		}
		after = dev_report(self->dev);
		EXPECT_EQ(1, after.compared);
		expect_unharmed(_metadata, &after);
		EXPECT_EQ(before.devices, after.devices);
		/* What another CPU borrowed may have come back. */
		EXPECT_GE(before.mm_references, after.mm_references);
		dev_range(self->dev, SHADOW_TLB_RUN_ON, addr, 0);
		EXPECT_EQ(area, vacate(area));
		expect_clean(_metadata, self->dev);
		if (!has_passed(_metadata)) {
			TH_LOG("allocation %d: %s", nth, strerror(error));
			break;
		}
	}
	TH_LOG("%d failed, and %d times the operation", nth - 2, errors);
	EXPECT_FALSE(failed);
	EXPECT_LE(op->errors, errors);
	close(fail_nth);
}

static int fork_once(char *addr, size_t len)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return pid < 0 || wait_child(pid);
}

static int move_away(char *addr, size_t len)
{
	return mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
		      addr + 2 * GIB) == MAP_FAILED;
}

static int unmap_a_part(char *addr, size_t len)
{
	return munmap(addr + 2 * page_size, 3 * page_size);
}

static int unmap_more_than_that(char *addr, size_t len)
{
	return munmap(addr - page_size, 2 * GIB);
}

static int protect_a_part(char *addr, size_t len)
{
	return mprotect(addr + 2 * page_size, 3 * page_size, PROT_READ);
}

TEST_F_TIMEOUT(user, fork_without_memory, 300)
{
	struct operation op = {
		.len = NR * page_size,
		.run = fork_once,
		.errors = 20,
	};

	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, fork_of_a_huge_page_without_memory, 300)
{
	struct operation op = {
		.len = huge_size,
		.advice = MADV_HUGEPAGE,
		.run = fork_once,
		.errors = 20,
	};

	if (!huge_size)
		SKIP(return, NO_THP);
	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, mremap_without_memory, 120)
{
	struct operation op = {
		.len = NR * page_size,
		.run = move_away,
		.errors = 5,
	};

	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, mremap_of_a_page_table_without_memory, 120)
{
	struct operation op = {
		.len = huge_size,
		.advice = MADV_NOHUGEPAGE,
		.run = move_away,
		.errors = 5,
	};

	if (!huge_size)
		SKIP(return, "the size of a page table is not known");
	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, mremap_of_a_huge_page_without_memory, 120)
{
	struct operation op = {
		.len = huge_size,
		.advice = MADV_HUGEPAGE,
		.run = move_away,
		.errors = 5,
	};

	if (!huge_size)
		SKIP(return, NO_THP);
	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, munmap_of_a_part_without_memory, 120)
{
	struct operation op = {
		.len = NR * page_size,
		.run = unmap_a_part,
		.errors = 1,
	};

	each_allocation_fails(_metadata, self, &op);
}

/*
 * More pages than a gather has room for without a batch, and page tables of all
 * levels, which may go to a batch, too.  There are gathers that go without.
 */
TEST_F_TIMEOUT(user, munmap_of_page_tables_without_memory, 120)
{
	struct operation op = {
		.len = 1024 * page_size,
		.advice = MADV_NOHUGEPAGE,
		.run = unmap_more_than_that,
		.errors = 1,
	};

	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, mprotect_without_memory, 120)
{
	struct operation op = {
		.len = NR * page_size,
		.run = protect_a_part,
		.errors = 1,
	};

	each_allocation_fails(_metadata, self, &op);
}

TEST_F_TIMEOUT(user, mprotect_of_a_huge_page_without_memory, 120)
{
	struct operation op = {
		.len = huge_size,
		.advice = MADV_HUGEPAGE,
		.run = protect_a_part,
		.errors = 1,
	};

	if (!huge_size)
		SKIP(return, NO_THP);
	each_allocation_fails(_metadata, self, &op);
}

/* What a child tells of its first registration, the only one of the system. */
struct registration {
	int error;
	bool failed, good;
	struct shadow_tlb_report report;
};

static void register_and_fail(struct registration *r, char *addr, size_t len,
			      int nth)
{
	int fail_nth = open_fail_nth(), dev;

	if (write_fail_nth(fail_nth, nth))
		_exit(1);
	dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	r->error = dev < 0 ? errno : 0;
	r->failed = has_failed(fail_nth);
	/* As if that had not been tried. */
	if (dev < 0)
		dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	r->good = dev_read(dev, addr, len) == NR && !munmap(addr, len) &&
		  !dev_has(dev, addr, len);
	r->report = dev_report(dev);
	_exit(0);
}

TEST_F_TIMEOUT(user, registration_without_memory, 120)
{
	int fail_nth = let_allocations_fail(self), nth, errors = 0;
	struct registration *r, *last = NULL;
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR);
	pid_t pid;

	if (fail_nth < 0)
		SKIP(return, NO_FAILURES);
	r = mmap(NULL, MOST_FAILURES * sizeof(*r), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, r);
	EXPECT_EQ(1, dev_report(self->dev).devices);
	close(self->dev);
	for (nth = 1; !last && nth < MOST_FAILURES; nth++) {
		pid = fork();
		if (!pid)
			register_and_fail(&r[nth], addr, len, nth);
		ASSERT_EQ(0, wait_child(pid));
		if (!r[nth].failed)
			last = &r[nth];
	}
	ASSERT_NE(NULL, last);
	EXPECT_EQ(0, last->error);
	for (r++; r <= last; r++) {
		EXPECT_EQ(r->error ? ENOMEM : 0, r->error);
		errors += !!r->error;
		EXPECT_TRUE(r->good);
		EXPECT_EQ(1, r->report.compared);
		expect_unharmed(_metadata, &r->report);
		EXPECT_EQ(1, r->report.devices);
		EXPECT_EQ(last->report.mm_references, r->report.mm_references);
	}
	/* The file, the device, two probes, and what the mm has of its own. */
	EXPECT_LE(5, errors);
	TH_LOG("%d failed, and %d times the registration", nth - 2, errors);
	close(fail_nth);
	self->dev = open(DEVICE, O_RDWR | O_CLOEXEC);
}

/* Device memory. */

static int hmm_ioctl(int hmm, unsigned long cmd, char *addr, void *copy)
{
	struct hmm_dmirror_cmd arg = {
		.addr = (uintptr_t)addr,
		.ptr = (uintptr_t)copy,
		.npages = NR,
	};

	return ioctl(hmm, cmd, &arg) || arg.cpages != NR;
}

static int open_hmm(void)
{
	return open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
}

TEST_F(user, migrate_to_device_memory)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR), *copy = map_pages_or_fail(NR);
	int hmm = open_hmm();

	if (hmm < 0)
		SKIP(return, "no /dev/hmm_dmirror0, see CONFIG_TEST_HMM");
	load(addr, len);
	ASSERT_EQ(0, hmm_ioctl(hmm, HMM_DMIRROR_MIGRATE_TO_DEV, addr, copy));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	/* It is in the memory of another device now. */
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
	close(hmm);
}

TEST_F(user, exclusive_access_of_another_device)
{
	size_t len = NR * page_size;
	char *addr = map_pages_or_fail(NR), *copy = map_pages_or_fail(NR);
	int hmm = open_hmm();

	if (hmm < 0)
		SKIP(return, "no /dev/hmm_dmirror0, see CONFIG_TEST_HMM");
	load(addr, len);
	ASSERT_EQ(0, hmm_ioctl(hmm, HMM_DMIRROR_EXCLUSIVE, addr, copy));
	expect_has(0, addr, len);
	expect_clean(_metadata, self->dev);
	EXPECT_EQ(0, dev_read(self->dev, addr, len));
	EXPECT_TRUE(is_all(addr, len, 0x5a));
	expect_reloads(addr, len);
	close(hmm);
}

/* Threads. */

struct zapper {
	pthread_t thread;
	int cpu;
	char *addr;
	bool unmap, failed, done;
};

/* Only who has zapped a page may touch it again: it has been flushed then. */
static void *zap(void *data)
{
	struct zapper *zapper = data;
	size_t len = NR * page_size;
	time_t until = 0;
	int i;

	bind_to_cpu(zapper->cpu);
	for (i = 0; i < 1000 && is_time_left(&until, 2); i++) {
		if (!zapper->unmap)
			zapper->failed |= madvise(zapper->addr, len,
						  MADV_DONTNEED);
		else
			zapper->failed |= munmap(zapper->addr, len) ||
				map_at(zapper->addr, len, MAP_PRIVATE, -1) !=
				zapper->addr;
		memset(zapper->addr, 1, len);
	}
	__atomic_store_n(&zapper->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Their ranges are next to each other: one page table has both. */
TEST_F(user, two_threads_zap_while_the_device_runs)
{
	size_t len = NR * page_size;
	char *addr = map_small(2 * len, 64 * page_size);
	struct zapper zappers[2] = {
		{ .addr = addr },
		{ .addr = addr + len, .cpu = 1, .unmap = true },
	};
	uint64_t served = 0;
	int i;

	ASSERT_NE(NULL, addr);
	load(addr, 2 * len);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&zappers[i].thread, NULL, zap,
					    &zappers[i]));
	while (!__atomic_load_n(&zappers[0].done, __ATOMIC_ACQUIRE) ||
	       !__atomic_load_n(&zappers[1].done, __ATOMIC_ACQUIRE))
		served += dev_read(self->dev, addr, 2 * len);
	for (i = 0; i < 2; i++) {
		pthread_join(zappers[i].thread, NULL);
		EXPECT_FALSE(zappers[i].failed);
	}
	EXPECT_LT(0, served);
	expect_reloads(addr, 2 * len);
}

/*
 * What threads unmap at the same time is their business: the device keeps pages
 * that nobody touches.
 */
#define MAX_ZAPPERS	8
#define INTERVALS	400

struct idle_zapper {
	pthread_t thread;
	int cpu;
	char *page;
	bool *stop;
	bool failed;
};

static void *zap_until_told(void *data)
{
	struct idle_zapper *zapper = data;

	bind_to_cpu(zapper->cpu);
	while (!__atomic_load_n(zapper->stop, __ATOMIC_ACQUIRE)) {
		*zapper->page = 1;
		zapper->failed |= madvise(zapper->page, page_size,
					  MADV_DONTNEED);
	}
	return NULL;
}

/* A busy host takes its time. */
TEST_F_TIMEOUT(user, idle_pages_stay_while_threads_zap, 120)
{
	struct idle_zapper zappers[MAX_ZAPPERS];
	size_t len = NR * page_size;
	char *idle = map_small(len, 64 * page_size);
	char *busy = map_pages(2 * MAX_ZAPPERS);
	int nr, i, lost;
	bool stop;

#if TREE >= 703
#ifdef __powerpc__
	SKIP(return, "gathers that meet flush everything here");
#endif
#endif
	ASSERT_NE(NULL, idle);
	ASSERT_NE(NULL, busy);
	for (nr = 2; nr <= MAX_ZAPPERS; nr *= 2) {
		stop = false;
		for (i = 0; i < nr; i++) {
			zappers[i] = (struct idle_zapper) {
				.cpu = i % 2,
				.page = busy + 2 * i * page_size,
				.stop = &stop,
			};
			ASSERT_EQ(0, pthread_create(&zappers[i].thread, NULL,
						    zap_until_told,
						    &zappers[i]));
		}
		load(idle, len);
		for (lost = 0, i = 0; i < INTERVALS; i++) {
			usleep(2000);
			if (dev_has(self->dev, idle, len) == NR)
				continue;
			lost++;
			dev_read(self->dev, idle, len);
		}
		__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
		for (i = 0; i < nr; i++) {
			pthread_join(zappers[i].thread, NULL);
			EXPECT_FALSE(zappers[i].failed);
		}
		EXPECT_EQ(0, lost) {
			TH_LOG("%d threads: lost in %d of %d intervals", nr,
			       lost, INTERVALS);
		}
	}
	expect_clean(_metadata, self->dev);
}

#define FOUR_GIB	(4ULL << 30)

/* A length whose low 32 bits are 0. */
TEST_F(user, mremap_of_4_gib)
{
	size_t size = hugetlb_size();
	char *addr = NULL, *new;

	if (size && FOUR_GIB <= SIZE_MAX && !(FOUR_GIB % size))
		addr = map_hugetlb(2, FOUR_GIB, size, MAP_PRIVATE | MAP_NORESERVE);
	if (!addr)
		SKIP(return, NO_HUGETLB);
	new = reserve(FOUR_GIB, size);
	ASSERT_NE(NULL, new);
	load(addr, 2 * size);
	ASSERT_EQ(new, mremap(addr, FOUR_GIB, FOUR_GIB,
			      MREMAP_MAYMOVE | MREMAP_FIXED, new));
	expect_has(0, addr, 2 * size);
	EXPECT_TRUE(is_all(new, 2 * size, 0x5a));
	expect_reloads(new, 2 * size);
	EXPECT_EQ(0, munmap(new, FOUR_GIB));
	expect_has(0, new, 2 * size);
	expect_clean(_metadata, self->dev);
}

/*
 * The table could be shared, and nobody else has it.  The last case, as a kernel
 * that hangs here still has the lock of the file.
 */
TEST_F(user, mremap_of_a_table_that_nobody_shares)
{
	size_t size = hugetlb_size(), all = shared_size();
	char *addr, *new;

	if (!all)
		SKIP(return, NO_SHARING);
	addr = map_hugetlb(1, all, all, MAP_SHARED | MAP_NORESERVE);
	if (!addr)
		SKIP(return, NO_HUGETLB);
	new = reserve(all, all);
	ASSERT_NE(NULL, new);
	load(addr, size);
	ASSERT_EQ(new, mremap(addr, all, all, MREMAP_MAYMOVE | MREMAP_FIXED,
			      new));
	expect_has(0, addr, size);
	EXPECT_TRUE(is_all(new, size, 0x5a));
	expect_reloads(new, size);
	EXPECT_EQ(0, munmap(new, all));
	expect_has(0, new, size);
	expect_clean(_metadata, self->dev);
}

TEST_HARNESS_MAIN
