// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of samples/mmu_notifier from user space: its device has a TLB of its own,
 * reads the memory of the test, and must find there what the test would find.
 *
 * As root.  Each test loads the module from where "make modules_install" puts it,
 * if it is not there yet, and then unloads it again.
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
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"

#define MODULE		"mmu_notifier_toy"
#define DEVICE		"/dev/" MODULE
#define WALK_DELAY	"/sys/module/" MODULE "/parameters/walk_delay"
#define STATISTICS	"/sys/kernel/debug/" MODULE "/"
#define EXEC_CHILD	"MMU_NOTIFIER_SAMPLE_TEST_FD"

#define NR		8	/* pages */
#define PATIENCE	20	/* seconds, for what happens some time later */
#define BUSY		500	/* milliseconds */

static size_t page_size;

/* Does the device read what @addr has?  0, or why not. */
static int dev_read(int dev, const void *addr, int *value)
{
	ssize_t len = pread(dev, value, sizeof(*value), (uintptr_t)addr);

	if (len < 0)
		return errno;
	return len == sizeof(*value) ? 0 : -1;
}

/* Before main(): what execve() of this program is to do, and output by lines. */
static void __attribute__((constructor)) begin(void)
{
	char *fd = getenv(EXEC_CHILD);
	int value;

	if (fd)
		_exit(dev_read(atoi(fd), &page_size, &value) == EPERM ? 0 : 1);
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	page_size = sysconf(_SC_PAGESIZE);
}

/* The module. */

static int load_module(void)
{
	struct utsname host;
	char path[256];
	int fd, ret;

	uname(&host);
	snprintf(path, sizeof(path),
		 "/lib/modules/%s/kernel/samples/mmu_notifier/" MODULE ".ko",
		 host.release);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = syscall(__NR_finit_module, fd, "", 0);
	close(fd);
	return ret;
}

static int unload_module(void)
{
	return syscall(__NR_delete_module, MODULE, O_NONBLOCK);
}

static long statistic(const char *name)
{
	char path[256];
	FILE *file;
	long value = -1;

	snprintf(path, sizeof(path), STATISTICS "%s", name);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fscanf(file, "%ld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

/* Is there time left?  *@until is 0 at first. */
static bool is_time_left(time_t *until)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!*until)
		*until = now.tv_sec + PATIENCE;
	return now.tv_sec < *until;
}

/* The last put of a bond frees it later. */
static long bonds_become(long nr)
{
	time_t until = 0;

	while (statistic("bonds") != nr && is_time_left(&until))
		usleep(1000);
	return statistic("bonds");
}

FIXTURE(sample)
{
	int dev;
	bool loaded;
	int *addr;	/* NR pages, each of which begins with its number */
	size_t len, step;
};

static int open_device(void)
{
	return open(DEVICE, O_RDONLY);
}

FIXTURE_SETUP(sample)
{
	size_t i;

	self->dev = -1;
	self->loaded = access(DEVICE, F_OK) && !load_module();
	if (access(DEVICE, F_OK))
		SKIP(return, "no module " MODULE " (%s), see CONFIG_SAMPLE_MMU_NOTIFIER",
		     strerror(errno));
	self->dev = open_device();
	ASSERT_LE(0, self->dev);
	self->len = NR * page_size;
	self->step = page_size / sizeof(*self->addr);
	self->addr = mmap(NULL, self->len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->addr);
	madvise(self->addr, self->len, MADV_NOHUGEPAGE);
	for (i = 0; i < NR; i++)
		self->addr[i * self->step] = i + 1;
}

FIXTURE_TEARDOWN(sample)
{
	if (self->dev >= 0)
		close(self->dev);
	if (self->loaded)
		EXPECT_EQ(0, unload_module());
}

/* The test goes on after a setup that skips it. */
#define TEST_SAMPLE(name)						\
	static void name##_body(struct __test_metadata *_metadata,	\
				struct _test_data_sample *self);	\
	TEST_F(sample, name)						\
	{								\
		if (self->dev >= 0)					\
			name##_body(_metadata, self);			\
	}								\
	static void name##_body(struct __test_metadata *_metadata,	\
				struct _test_data_sample *self)

/* The device finds this in the page, or cannot read there. */
#define expect_read(want, page) ({					\
	int __value = -1;						\
	EXPECT_EQ(0, dev_read(self->dev, page, &__value));		\
	EXPECT_EQ(want, __value);					\
})

#define expect_error(want, page) ({					\
	int __value;							\
	EXPECT_EQ(want, dev_read(self->dev, page, &__value));		\
})

static void load_all(struct __test_metadata *_metadata,
		     struct _test_data_sample *self)
{
	int i;

	for (i = 0; i < NR; i++)
		expect_read(i + 1, self->addr + i * self->step);
}

TEST_SAMPLE(reads_and_keeps_translations)
{
	long walks = statistic("walks"), reads = statistic("reads");

	load_all(_metadata, self);
	EXPECT_EQ(NR, statistic("walks") - walks);
	load_all(_metadata, self);
	EXPECT_EQ(NR, statistic("walks") - walks);
	EXPECT_EQ(2 * NR, statistic("reads") - reads);
}

TEST_SAMPLE(bad_arguments)
{
	char *end = (char *)self->addr + page_size - 2, buffer[256];
	void *nowhere = mmap(NULL, page_size, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect_error(EFAULT, NULL);
	expect_error(EFAULT, (void *)(1UL << (8 * sizeof(long) - 2)));
	EXPECT_EQ(-1, pread(self->dev, nowhere, 1, (uintptr_t)self->addr));
	EXPECT_EQ(EFAULT, errno);
	/* No further than the page, and not all at once. */
	EXPECT_EQ(2, pread(self->dev, buffer, sizeof(buffer), (uintptr_t)end));
	EXPECT_EQ(64, pread(self->dev, buffer, sizeof(buffer),
			    (uintptr_t)self->addr));
}

TEST_SAMPLE(munmap)
{
	load_all(_metadata, self);
	EXPECT_EQ(0, munmap(self->addr, page_size));
	expect_error(EFAULT, self->addr);
	expect_read(2, self->addr + self->step);
}

/* What a pointer has in its top byte, where the CPU ignores that (arm64). */
TEST_SAMPLE(munmap_of_a_tagged_address)
{
	uintptr_t tag = (uintptr_t)(1ULL << 56);
	int value, *tagged = (int *)((uintptr_t)self->addr | tag);

	load_all(_metadata, self);
	if (dev_read(self->dev, tagged, &value) == EFAULT)
		return;
	expect_read(1, tagged);
	EXPECT_EQ(0, munmap(self->addr, page_size));
	expect_error(EFAULT, tagged);
	expect_error(EFAULT, self->addr);
}

TEST_SAMPLE(madvise_dontneed)
{
	load_all(_metadata, self);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	expect_read(0, self->addr);
	expect_read(2, self->addr + self->step);
	self->addr[0] = 9;
	expect_read(9, self->addr);
}

TEST_SAMPLE(mprotect_none)
{
	load_all(_metadata, self);
	EXPECT_EQ(0, mprotect(self->addr, page_size, PROT_NONE));
	expect_error(EFAULT, self->addr);
	EXPECT_EQ(0, mprotect(self->addr, page_size, PROT_READ));
	expect_read(1, self->addr);
}

TEST_SAMPLE(mremap)
{
	int *to = self->addr + self->step;

	load_all(_metadata, self);
	ASSERT_EQ(to, mremap(self->addr, page_size, page_size,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	expect_read(1, to);
	expect_error(EFAULT, self->addr);
}

static int wait_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_SAMPLE(cow_after_fork)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	load_all(_metadata, self);
	self->addr[0] = 9;
	expect_read(9, self->addr);
	kill(pid, SIGKILL);
	wait_child(pid);
}

TEST_SAMPLE(truncated_file)
{
	int fd = memfd_create("sample", 0), *addr;

	ASSERT_EQ(0, ftruncate(fd, page_size));
	addr = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, addr);
	addr[0] = 9;
	expect_read(9, addr);
	EXPECT_EQ(0, ftruncate(fd, 0));
	expect_error(EFAULT, addr);
	close(fd);
}

/* More pages than the device has entries. */
TEST_SAMPLE(entries_are_replaced)
{
	size_t i, nr = 300;
	int *addr = mmap(NULL, nr * page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, addr);
	for (i = 0; i < nr; i++)
		addr[i * self->step] = i;
	for (i = 0; i < nr; i++)
		expect_read(i, addr + i * self->step);
	for (i = 0; i < nr; i++)
		expect_read(i, addr + i * self->step);
}

TEST_SAMPLE(two_descriptors_have_one_bond)
{
	int second = open_device();

	ASSERT_LE(0, second);
	EXPECT_EQ(1, statistic("bonds"));
	close(second);
	load_all(_metadata, self);
	EXPECT_EQ(1, statistic("running"));
	EXPECT_EQ(1, bonds_become(1));
	close(self->dev);
	self->dev = -1;
	EXPECT_EQ(0, statistic("running"));
	EXPECT_EQ(0, bonds_become(0));
}

TEST_SAMPLE(bind_again)
{
	int i;

	for (i = 0; i < 100; i++) {
		close(self->dev);
		self->dev = open_device();
		ASSERT_LE(0, self->dev);
		expect_read(1, self->addr);
		EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
		self->addr[0] = 1;
	}
	EXPECT_EQ(1, bonds_become(1));
}

TEST_SAMPLE(another_process)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		int value, dev, error;

		error = dev_read(self->dev, self->addr, &value);
		/* It can have a bond of its own. */
		dev = open_device();
		self->addr[0] = 9;
		_exit(error == EPERM && !dev_read(dev, self->addr, &value) &&
		      value == 9 ? 0 : 1);
	}
	EXPECT_EQ(0, wait_child(pid));
	load_all(_metadata, self);
	EXPECT_EQ(1, bonds_become(1));
}

/* A child with a bond, and a descriptor of it that outlives the child. */
static int start_child(pid_t *pid, int *go, bool exec)
{
	int to_child[2], to_parent[2], dev = -1, pidfd;

	if (pipe(to_child) || pipe(to_parent))
		return -1;
	*pid = fork();
	if (*pid < 0)
		return -1;
	if (!*pid) {
		int value = 9;
		char env[64];

		/* If the parent ends, so does read() of what it had to write. */
		close(to_child[1]);
		dev = open_device();
		if (dev_read(dev, &value, &value) || value != 9 ||
		    write(to_parent[1], &dev, sizeof(dev)) != sizeof(dev) ||
		    read(to_child[0], &value, 1) != 1)
			_exit(1);
		if (exec) {
			char *argv[2] = { "sample_test", NULL };
			char *envp[2] = { env, NULL };

			snprintf(env, sizeof(env), EXEC_CHILD "=%d", dev);
			execve("/proc/self/exe", argv, envp);
			_exit(2);
		}
		_exit(0);
	}
	close(to_parent[1]);
	pidfd = syscall(__NR_pidfd_open, *pid, 0);
	if (read(to_parent[0], &dev, sizeof(dev)) != sizeof(dev))
		dev = -1;
	else
		dev = syscall(__NR_pidfd_getfd, pidfd, dev, 0);
	close(pidfd);
	*go = to_child[1];
	return dev;
}

static void outlive(struct __test_metadata *_metadata,
		    struct _test_data_sample *self, bool exec)
{
	pid_t pid;
	int go, value, dev = start_child(&pid, &go, exec);

	ASSERT_LE(0, dev);
	EXPECT_EQ(2, statistic("bonds"));
	EXPECT_EQ(1, write(go, "", 1));
	EXPECT_EQ(0, wait_child(pid));
	EXPECT_EQ(EPERM, dev_read(dev, self->addr, &value));
	EXPECT_EQ(2, statistic("bonds"));
	/* Stopped when its mm ended. */
	EXPECT_EQ(1, statistic("running"));
	close(dev);
	EXPECT_EQ(1, bonds_become(1));
	load_all(_metadata, self);
}

TEST_SAMPLE(exit)
{
	outlive(_metadata, self, false);
}

TEST_SAMPLE(execve)
{
	outlive(_metadata, self, true);
}

/* A descriptor holds the module.  When it is closed the bond is not yet freed. */
TEST_SAMPLE(unload_while_the_process_runs)
{
	int i, page;

	if (!self->loaded)
		SKIP(return, MODULE " was there before");
	for (i = 0; i < 20; i++) {
		load_all(_metadata, self);
		EXPECT_EQ(-1, unload_module());
		EXPECT_EQ(EWOULDBLOCK, errno);
		load_all(_metadata, self);
		close(self->dev);
		self->dev = -1;
		self->loaded = false;
		ASSERT_EQ(0, unload_module());
		EXPECT_EQ(-1, access(DEVICE, F_OK));
		EXPECT_EQ(0, madvise(self->addr, self->len, MADV_DONTNEED));
		EXPECT_EQ(0, self->addr[0]);
		ASSERT_EQ(0, load_module());
		self->loaded = true;
		self->dev = open_device();
		ASSERT_LE(0, self->dev);
		expect_read(0, self->addr);
		for (page = 0; page < NR; page++)
			self->addr[page * self->step] = page + 1;
	}
}

static void bind_to_cpu(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

struct closer {
	pthread_t thread;
	int dev, closed;
};

static void *close_and_keep_the_cpu(void *data)
{
	struct sched_param first = { .sched_priority = 1 };
	struct closer *closer = data;
	struct timespec begin, now;

	bind_to_cpu(0);
	sched_setscheduler(0, SCHED_FIFO, &first);
	close(closer->dev);
	__atomic_store_n(&closer->closed, 1, __ATOMIC_RELAXED);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec * 1000 + now.tv_nsec / 1000000 <
		 begin.tv_sec * 1000 + begin.tv_nsec / 1000000 + BUSY);
	return NULL;
}

/* A child that makes and frees bonds on CPU 1 until it is killed. */
static pid_t start_binding(int dev)
{
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bind_to_cpu(1);
		close(dev);
		/* Until no CPU has work left that would go on with this. */
		usleep(200000);
		close(open_device());
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			close(open_device());
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &c, 1) != 1) {
		wait_child(pid);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

/*
 * The CPU that has closed the last descriptor has no time to free the bond until
 * the module is gone, if nobody waits for it.  It is not enough to wait for a grace
 * period: CPU 1 works on these, since there always is one under way for the child,
 * and the end of the child waits for one.  CPU 0 has a list of its own for what comes
 * then from 128 CPUs on, or with srcutree.convert_to_big=1.
 */
TEST_SAMPLE(unload_before_the_bond_is_freed)
{
	struct closer closer = { .dev = self->dev };
	time_t until = 0;
	pid_t pid;

	if (!self->loaded)
		SKIP(return, MODULE " was there before");
	load_all(_metadata, self);
	pid = start_binding(self->dev);
	ASSERT_LT(0, pid);
	bind_to_cpu(1);
	self->dev = -1;
	self->loaded = false;
	ASSERT_EQ(0, pthread_create(&closer.thread, NULL,
				    close_and_keep_the_cpu, &closer));
	while (!__atomic_load_n(&closer.closed, __ATOMIC_RELAXED) &&
	       is_time_left(&until))
		usleep(100);
	kill(pid, SIGKILL);
	wait_child(pid);
	EXPECT_EQ(0, unload_module());
	pthread_join(closer.thread, NULL);
	/* Time for what has been left behind. */
	usleep(100000);
	EXPECT_EQ(-1, access(DEVICE, F_OK));
}

static int set_walk_delay(int microseconds)
{
	FILE *file = fopen(WALK_DELAY, "w");

	if (!file)
		return -1;
	fprintf(file, "%d", microseconds);
	return fclose(file);
}

struct reader {
	pthread_t thread;
	int dev, *addr, value;
};

static void *read_once(void *data)
{
	struct reader *reader = data;

	if (dev_read(reader->dev, reader->addr, &reader->value))
		reader->value = -1;
	return NULL;
}

/*
 * A walk that has found the old page must not get into the TLB after that was
 * replaced.
 */
TEST_SAMPLE(walk_while_the_page_is_replaced)
{
	struct reader reader = { .dev = self->dev, .addr = self->addr };
	long walks = statistic("walks"), discarded = statistic("discarded");
	time_t until = 0;

	if (set_walk_delay(500000))
		SKIP(return, "cannot write " WALK_DELAY);
	ASSERT_EQ(0, pthread_create(&reader.thread, NULL, read_once, &reader));
	while (statistic("walks") == walks && is_time_left(&until))
		;
	usleep(50000);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	self->addr[0] = 9;
	set_walk_delay(0);
	pthread_join(reader.thread, NULL);
	EXPECT_EQ(9, reader.value);
	expect_read(9, self->addr);
	EXPECT_LT(discarded, statistic("discarded"));
}

TEST_HARNESS_MAIN
