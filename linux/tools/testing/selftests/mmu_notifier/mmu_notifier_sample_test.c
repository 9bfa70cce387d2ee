// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of samples/mmu_notifier from user space: its devices have TLBs of their
 * own, use the memory of the test, and must find there what the test would find.
 *
 * As root.  Each test loads the modules from where "make modules_install" puts
 * them, if they are not there yet, and then unloads them again.
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

#define DRIVER		"mmu_notifier_toy"
#define HARDWARE	"mmu_notifier_toy_device"
#define DEVICE		"/dev/" DRIVER "0"
#define DEVICE_1	"/dev/" DRIVER "1"
#define BUS_NAME	DRIVER ".0"
#define BUS		"/sys/bus/platform/drivers/" DRIVER "/"
#define PARAMETERS	"/sys/module/" HARDWARE "/parameters/"
#define STATISTICS	"/sys/kernel/debug/" DRIVER
#define EXEC_CHILD	"MMU_NOTIFIER_SAMPLE_TEST_FD"

#define NR		8	/* pages */
#define NR_CLOSES	100	/* more than the device has PASIDs */
#define NR_READERS	60	/* fewer than the accesses it can make */
#define PATIENCE	20	/* seconds, for what happens some time later */
#define BUSY		500	/* milliseconds */
/* Microseconds for a command; a flush has three, and the driver's limit is 1 s. */
#define LATE		60000

static size_t page_size;

/* Does the device read what @addr has?  0, or why not. */
static int dev_read(int dev, const void *addr, int *value)
{
	ssize_t len = pread(dev, value, sizeof(*value), (uintptr_t)addr);

	if (len < 0)
		return errno;
	return len == sizeof(*value) ? 0 : -1;
}

static int dev_write(int dev, void *addr, int value)
{
	ssize_t len = pwrite(dev, &value, sizeof(value), (uintptr_t)addr);

	if (len < 0)
		return errno;
	return len == sizeof(value) ? 0 : -1;
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

/* Modules and their files. */

static int load(const char *module)
{
	struct utsname host;
	char path[256];
	int fd, ret;

	uname(&host);
	snprintf(path, sizeof(path),
		 "/lib/modules/%s/kernel/samples/mmu_notifier/%s.ko",
		 host.release, module);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = syscall(__NR_finit_module, fd, "", 0);
	close(fd);
	return ret;
}

static int unload(const char *module)
{
	return syscall(__NR_delete_module, module, O_NONBLOCK);
}

static bool is_loaded(const char *module)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/module/%s/initstate", module);
	return !access(path, F_OK);
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = write(fd, text, strlen(text));
	close(fd);
	return len == (ssize_t)strlen(text) ? 0 : -1;
}

/* A parameter of the hardware, for each device. */
static int set_both(const char *parameter, unsigned int value,
		    unsigned int value_1)
{
	char path[256], text[40];

	snprintf(path, sizeof(path), PARAMETERS "%s", parameter);
	snprintf(text, sizeof(text), "%u,%u", value, value_1);
	return write_text(path, text);
}

static int set(const char *parameter, unsigned int value)
{
	return set_both(parameter, value, 0);
}

static void set_all(void)
{
	set("latency", 0);
	set("reorder", 0);
	set("stuck", 0);
	set("lose_completions", 0);
	set("walk_delay", 0);
	set("repeat", 0);
}

static long statistic_of(int device, const char *name)
{
	char path[256];
	FILE *file;
	long value = -1;

	snprintf(path, sizeof(path), STATISTICS "%d/%s", device, name);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fscanf(file, "%ld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

static long statistic(const char *name)
{
	return statistic_of(0, name);
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

/* What comes to be @value some time later, or else what it is then. */
static long becomes(const char *name, long value)
{
	time_t until = 0;

	while (statistic(name) != value && is_time_left(&until))
		usleep(1000);
	return statistic(name);
}

/* Does the device leave memory alone? */
static bool is_at_rest(int device)
{
	long accesses;

	/* One that has begun may end. */
	usleep(20000);
	accesses = statistic_of(device, "accesses");
	usleep(50000);
	return statistic_of(device, "accesses") == accesses;
}

FIXTURE(sample)
{
	int dev;
	bool loaded[2];	/* hardware, driver: by this test */
	int *addr;	/* NR pages, each of which begins with its number */
	size_t len, step;
};

static int open_device(void)
{
	return open(DEVICE, O_RDWR);
}

static int *map_pages(size_t nr)
{
	int *addr = mmap(NULL, nr * page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	madvise(addr, nr * page_size, MADV_NOHUGEPAGE);
	return addr;
}

FIXTURE_SETUP(sample)
{
	size_t i;

	self->dev = -1;
	self->loaded[0] = !is_loaded(HARDWARE) && !load(HARDWARE);
	self->loaded[1] = !is_loaded(DRIVER) && !load(DRIVER);
	if (access(DEVICE, F_OK))
		SKIP(return, "no module " DRIVER " (%s), see CONFIG_SAMPLE_MMU_NOTIFIER",
		     strerror(errno));
	set_all();
	self->dev = open_device();
	ASSERT_LE(0, self->dev);
	self->len = NR * page_size;
	self->step = page_size / sizeof(*self->addr);
	self->addr = map_pages(NR);
	ASSERT_NE(NULL, self->addr);
	for (i = 0; i < NR; i++)
		self->addr[i * self->step] = i + 1;
}

/* When nobody is bound, the device has nothing, and waits for nothing. */
FIXTURE_TEARDOWN(sample)
{
	set_all();
	if (self->dev >= 0) {
		close(self->dev);
		EXPECT_EQ(0, statistic("entries"));
		EXPECT_EQ(0, statistic("waiting"));
		EXPECT_EQ(0, statistic("errors"));
		EXPECT_EQ(0, becomes("jobs", 0));
	}
	if (self->loaded[1])
		EXPECT_EQ(0, unload(DRIVER));
	if (self->loaded[0])
		EXPECT_EQ(0, unload(HARDWARE));
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
	long walks = statistic("walks"), accesses = statistic("accesses");

	load_all(_metadata, self);
	EXPECT_EQ(NR, statistic("walks") - walks);
	load_all(_metadata, self);
	EXPECT_EQ(NR, statistic("walks") - walks);
	EXPECT_EQ(2 * NR, statistic("accesses") - accesses);
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

TEST_SAMPLE(pages_are_faulted_in)
{
	int *fresh = map_pages(2);

	ASSERT_NE(NULL, fresh);
	expect_read(0, fresh);
	EXPECT_EQ(0, dev_write(self->dev, fresh + self->step, 9));
	EXPECT_EQ(9, fresh[self->step]);
}

/* A request to write would be refused. */
TEST_SAMPLE(pages_that_may_only_be_read)
{
	int fd = memfd_create("sample", 0), value = 9, *addr;

	ASSERT_EQ(sizeof(value), write(fd, &value, sizeof(value)));
	addr = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, addr);
	expect_read(9, addr);
	addr = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	ASSERT_NE(MAP_FAILED, addr);
	/* This is the zero page, which this device does not find. */
	expect_error(EFAULT, addr);
	close(fd);
}

TEST_SAMPLE(munmap)
{
	load_all(_metadata, self);
	EXPECT_EQ(0, munmap(self->addr, 2 * page_size));
	expect_error(EFAULT, self->addr);
	expect_error(EFAULT, self->addr + self->step);
	expect_read(3, self->addr + 2 * self->step);
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

/* The device has an entry that allows writes. */
TEST_SAMPLE(write_after_fork)
{
	pid_t pid;

	EXPECT_EQ(0, dev_write(self->dev, self->addr, 7));
	EXPECT_EQ(7, self->addr[0]);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		usleep(200000);
		_exit(self->addr[0]);
	}
	EXPECT_EQ(0, dev_write(self->dev, self->addr, 9));
	EXPECT_EQ(9, self->addr[0]);
	EXPECT_EQ(7, wait_child(pid));
}

TEST_SAMPLE(write_after_mprotect)
{
	EXPECT_EQ(0, dev_write(self->dev, self->addr, 7));
	EXPECT_EQ(0, mprotect(self->addr, page_size, PROT_READ));
	EXPECT_EQ(EFAULT, dev_write(self->dev, self->addr, 9));
	expect_read(7, self->addr);
}

/*
 * When the child has gone, the page is made writable in place, of which there is
 * no call.  The device has the entry that forbids it.
 */
TEST_SAMPLE(write_that_is_granted)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(0);
	EXPECT_EQ(0, wait_child(pid));
	expect_read(1, self->addr);
	EXPECT_EQ(0, dev_write(self->dev, self->addr, 9));
	EXPECT_EQ(9, self->addr[0]);
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

/* Several devices. */

TEST_SAMPLE(two_descriptors)
{
	int second = open_device();

	ASSERT_LE(0, second);
	load_all(_metadata, self);
	close(self->dev);
	EXPECT_EQ(0, statistic("entries"));
	self->dev = second;
	load_all(_metadata, self);
	EXPECT_EQ(0, munmap(self->addr, page_size));
	expect_error(EFAULT, self->addr);
}

TEST_SAMPLE(two_devices)
{
	int second = open(DEVICE_1, O_RDWR), value;

	ASSERT_LE(0, second);
	load_all(_metadata, self);
	EXPECT_EQ(0, dev_read(second, self->addr, &value));
	EXPECT_EQ(1, value);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	expect_read(0, self->addr);
	EXPECT_EQ(0, dev_read(second, self->addr, &value));
	EXPECT_EQ(0, value);
	/* One goes, and the other is still flushed. */
	close(self->dev);
	self->dev = second;
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	expect_read(0, self->addr);
	expect_read(2, self->addr + self->step);
	close(self->dev);
	EXPECT_EQ(0, statistic_of(1, "entries"));
	self->dev = open_device();
}

/* Close before exit. */

TEST_SAMPLE(bind_again)
{
	int i;

	for (i = 0; i < NR_CLOSES; i++) {
		close(self->dev);
		EXPECT_EQ(0, statistic("entries"));
		self->dev = open_device();
		ASSERT_LE(0, self->dev);
		expect_read(1, self->addr);
		EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
		self->addr[0] = 1;
	}
}

/* The device goes on with an access of @addr until it fails. */
#define start_repeating(addr) do {					\
	ASSERT_EQ(0, set("repeat", 1));					\
	ASSERT_EQ(0, dev_write(self->dev, addr, 1));			\
} while (0)

/* No page that was freed is written to by the device.  A hole is too small for it. */
static bool is_left_alone(int nr)
{
	int *fresh = map_pages(nr), i, written = 0;
	size_t step = page_size / sizeof(*fresh);

	for (i = 0; i < nr; i++)
		fresh[i * step] = -1;
	usleep(20000);
	for (i = 0; i < nr; i++)
		written += fresh[i * step] != -1;
	munmap(fresh, nr * page_size);
	return !written;
}

TEST_SAMPLE(munmap_while_the_device_writes)
{
	int *addr = self->addr + self->step;

	start_repeating(addr);
	EXPECT_EQ(0, munmap(addr, page_size));
	EXPECT_TRUE(is_left_alone(64));
	EXPECT_TRUE(is_at_rest(0));
}

struct closer {
	pthread_t thread;
	int dev, closed;
};

static void *close_in_thread(void *data)
{
	struct closer *closer = data;

	close(closer->dev);
	__atomic_store_n(&closer->closed, 1, __ATOMIC_RELAXED);
	return NULL;
}

static bool is_closed(struct closer *closer)
{
	return __atomic_load_n(&closer->closed, __ATOMIC_RELAXED);
}

/* Callbacks go on until the device has stopped, which is late. */
TEST_SAMPLE(close_while_the_device_writes)
{
	struct closer closer = { .dev = self->dev };
	time_t until = 0;
	long doorbells;

	start_repeating(self->addr);
	set("latency", LATE);
	doorbells = statistic("doorbells");
	ASSERT_EQ(0, pthread_create(&closer.thread, NULL, close_in_thread, &closer));
	while (statistic("doorbells") == doorbells && is_time_left(&until))
		usleep(100);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	EXPECT_TRUE(is_left_alone(64));
	pthread_join(closer.thread, NULL);
	EXPECT_TRUE(is_at_rest(0));
	set_all();
	self->dev = open_device();
}

/* Exit before close, and other processes. */

TEST_SAMPLE(another_process)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		int value, dev, error;

		error = dev_read(self->dev, self->addr, &value);
		/* It can have a link of its own. */
		dev = open_device();
		self->addr[0] = 9;
		_exit(error == EPERM &&
		      dev_write(self->dev, self->addr, 1) == EPERM &&
		      !dev_read(dev, self->addr, &value) && value == 9 ? 0 : 1);
	}
	EXPECT_EQ(0, wait_child(pid));
	load_all(_metadata, self);
}

static void bind_to_cpu(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

enum child { CHILD_EXITS, CHILD_EXECS, CHILD_FORKS };

static int run_child(int dev, int to_child, int to_parent, enum child what)
{
	int *addr = map_pages(1);
	char env[64] = "";

	/* So that fork() makes the only flush later: what it touches is here. */
	if (what == CHILD_FORKS) {
		bind_to_cpu(0);
		if (!fork())
			_exit(0);
		wait(NULL);
	}
	if (open(DEVICE_1, O_RDWR) < 0 || set("repeat", 1) ||
	    dev_write(dev, addr, 9) || *addr != 9 ||
	    write(to_parent, &dev, sizeof(dev)) != sizeof(dev) ||
	    read(to_child, env, 1) != 1)
		return 1;
	if (what == CHILD_EXECS) {
		char *argv[2] = { "sample_test", NULL };
		char *envp[2] = { env, NULL };

		snprintf(env, sizeof(env), EXEC_CHILD "=%d", dev);
		execve("/proc/self/exe", argv, envp);
		return 2;
	}
	if (what == CHILD_FORKS) {
		close(dev);
		if (fork())
			pause();
	}
	return 0;
}

/* A child whose memory the device writes to, and its descriptor. */
static int start_child(pid_t *pid, int *go, enum child what)
{
	int to_child[2], to_parent[2], dev = -1, pidfd;

	if (pipe(to_child) || pipe(to_parent))
		return -1;
	*pid = fork();
	if (*pid < 0)
		return -1;
	if (!*pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(run_child(open_device(), to_child[0], to_parent[1], what));
	}
	close(to_child[0]);
	close(to_parent[1]);
	pidfd = syscall(__NR_pidfd_open, *pid, 0);
	if (read(to_parent[0], &dev, sizeof(dev)) != sizeof(dev))
		dev = -1;
	else
		dev = syscall(__NR_pidfd_getfd, pidfd, dev, 0);
	close(to_parent[0]);
	close(pidfd);
	*go = to_child[1];
	return dev;
}

static void outlive(struct __test_metadata *_metadata,
		    struct _test_data_sample *self, enum child what)
{
	pid_t pid;
	int go, value, dev = start_child(&pid, &go, what);

	ASSERT_LE(0, dev);
	EXPECT_FALSE(is_at_rest(0));
	EXPECT_EQ(1, write(go, "", 1));
	EXPECT_EQ(0, wait_child(pid));
	/* Stopped when the mm ended. */
	EXPECT_TRUE(is_at_rest(0));
	EXPECT_TRUE(is_left_alone(64));
	EXPECT_EQ(0, statistic("entries"));
	EXPECT_EQ(EPERM, dev_read(dev, self->addr, &value));
	set("repeat", 0);
	load_all(_metadata, self);
	close(dev);
	load_all(_metadata, self);
}

TEST_SAMPLE(exit)
{
	outlive(_metadata, self, CHILD_EXITS);
}

TEST_SAMPLE(execve)
{
	outlive(_metadata, self, CHILD_EXECS);
}

/* release() and the last close at the same time. */
TEST_SAMPLE(exit_and_close)
{
	int i;

	for (i = 0; i < NR_CLOSES; i++) {
		pid_t pid;
		int go, dev = start_child(&pid, &go, CHILD_EXITS);

		ASSERT_LE(0, dev);
		EXPECT_EQ(1, write(go, "", 1));
		close(go);
		usleep(i * 50);
		close(dev);
		EXPECT_EQ(0, wait_child(pid));
		EXPECT_EQ(0, statistic("entries"));
	}
	EXPECT_TRUE(is_at_rest(0));
}

/* Registration gives up if its process is killed.  With many mappings, it takes long. */
TEST_SAMPLE(killed_while_it_opens)
{
	size_t i, nr = 20000, len = 2 * nr * page_size;
	char *many = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, many);
	for (i = 0; i < nr; i++)
		mprotect(many + 2 * i * page_size, page_size, PROT_READ);
	for (i = 0; i < 20; i++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		while (!pid)
			close(open_device());
		usleep(2000 * (i + 1));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	munmap(many, len);
	load_all(_metadata, self);
}

/* Page requests. */

/*
 * The device writes to the memory of a child, which forks.  That takes the right
 * to write from the device, which asks for it.  It cannot get it as long as the
 * child holds mmap_lock: until device 1 has flushed as well.
 */
static int start_late_fork(pid_t *pid, unsigned int latency)
{
	int go, dev = start_child(pid, &go, CHILD_FORKS);
	time_t until = 0;
	long doorbells;

	/* Not where the child waits for the flush: it cannot be preempted. */
	bind_to_cpu(1);
	set_both("latency", latency, LATE);
	doorbells = statistic_of(1, "doorbells");
	if (write(go, "", 1) != 1)
		return -1;
	while (statistic_of(1, "doorbells") == doorbells && is_time_left(&until))
		usleep(100);
	return dev;
}

static void end_child(struct __test_metadata *_metadata, pid_t pid)
{
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, wait_child(pid));
	EXPECT_EQ(0, becomes("jobs", 0));
	EXPECT_TRUE(is_at_rest(0));
	set_all();
}

/* What is asked for has to be answered before the PASID is somebody else's. */
TEST_SAMPLE(close_while_a_request_waits)
{
	pid_t pid;
	int dev = start_late_fork(&pid, 0);

	ASSERT_LE(0, dev);
	EXPECT_EQ(1, becomes("waiting", 1));
	close(dev);
	EXPECT_EQ(0, statistic("waiting"));
	EXPECT_EQ(0, statistic("entries"));
	end_child(_metadata, pid);
}

/* The flush that makes the device ask is still to come. */
TEST_SAMPLE(close_before_a_request_is_made)
{
	pid_t pid;
	int dev = start_late_fork(&pid, LATE);

	ASSERT_LE(0, dev);
	close(dev);
	EXPECT_EQ(0, statistic("waiting"));
	EXPECT_EQ(0, statistic("entries"));
	end_child(_metadata, pid);
}

/* Who handles the request has the last reference to the memory. */
TEST_SAMPLE(exit_while_a_request_waits)
{
	pid_t pid;
	int dev = start_late_fork(&pid, 0);

	ASSERT_LE(0, dev);
	EXPECT_EQ(1, becomes("waiting", 1));
	end_child(_metadata, pid);
	EXPECT_EQ(0, statistic("entries"));
	close(dev);
	load_all(_metadata, self);
}

/* A device that is late, or out of step. */

struct reader {
	pthread_t thread;
	pthread_barrier_t *start;	/* or NULL */
	int dev, *addr, value, error;
};

static void *read_once(void *data)
{
	struct reader *reader = data;

	if (reader->start)
		pthread_barrier_wait(reader->start);
	reader->error = dev_read(reader->dev, reader->addr, &reader->value);
	return NULL;
}

/* More responses than the ring has space for, at the same time. */
TEST_SAMPLE(many_requests)
{
	struct reader readers[NR_READERS];
	int i, *fresh = map_pages(NR_READERS);
	pthread_barrier_t start;

	ASSERT_NE(NULL, fresh);
	pthread_barrier_init(&start, NULL, NR_READERS + 1);
	for (i = 0; i < NR_READERS; i++) {
		readers[i] = (struct reader) {
			.start = &start,
			.dev = self->dev,
			.addr = fresh + i * self->step,
		};
		ASSERT_EQ(0, pthread_create(&readers[i].thread, NULL, read_once,
					    &readers[i]));
	}
	set("latency", 10000);
	pthread_barrier_wait(&start);
	for (i = 0; i < NR_READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		EXPECT_EQ(0, readers[i].error);
		EXPECT_EQ(0, readers[i].value);
	}
}

/*
 * If the device says too early that it has flushed, or flushes its ATC while it
 * can fill it from the IOTLB, which it does all the time, it reads the old page.
 */
static void flush_late(struct __test_metadata *_metadata,
		       struct _test_data_sample *self)
{
	set("latency", LATE);
	set("repeat", 1);
	expect_read(1, self->addr);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	expect_read(0, self->addr);
}

TEST_SAMPLE(late)
{
	flush_late(_metadata, self);
}

TEST_SAMPLE(out_of_step)
{
	set("reorder", 1);
	flush_late(_metadata, self);
}

/* A device that is never done. */

static void never(struct __test_metadata *_metadata,
		  struct _test_data_sample *self, const char *parameter)
{
	int *addr[] = {
		self->addr + 1 * self->step,
		self->addr + 3 * self->step,
		self->addr + 5 * self->step,
	};
	int second = open(DEVICE_1, O_RDWR), value = 0;
	long doorbells;

	ASSERT_LE(0, second);
	expect_read(6, addr[2]);
	start_repeating(addr[0]);
	EXPECT_EQ(0, dev_read(second, addr[0], &value));
	set(parameter, 1);
	EXPECT_EQ(0, munmap(addr[0], page_size));
	/* It is cut off, and nobody waits for it again. */
	EXPECT_TRUE(is_left_alone(64));
	EXPECT_TRUE(is_at_rest(0));
	doorbells = statistic("doorbells");
	EXPECT_EQ(0, munmap(addr[1], page_size));
	EXPECT_EQ(doorbells, statistic("doorbells"));
	expect_error(EIO, addr[2]);
	EXPECT_EQ(-1, open_device());
	EXPECT_EQ(ENODEV, errno);
	/* The other one is well. */
	EXPECT_EQ(EFAULT, dev_read(second, addr[0], &value));
	EXPECT_EQ(0, dev_read(second, addr[2], &value));
	EXPECT_EQ(6, value);
	close(second);
	close(self->dev);
	set_all();
	/* It is found again. */
	EXPECT_EQ(0, write_text(BUS "unbind", BUS_NAME));
	EXPECT_EQ(0, write_text(BUS "bind", BUS_NAME));
	self->dev = open_device();
	ASSERT_LE(0, self->dev);
	expect_read(6, addr[2]);
}

TEST_SAMPLE(stuck)
{
	never(_metadata, self, "stuck");
}

TEST_SAMPLE(completions_are_lost)
{
	never(_metadata, self, "lose_completions");
}

TEST_SAMPLE(exit_with_a_device_that_is_stuck)
{
	pid_t pid;
	int go, dev = start_child(&pid, &go, CHILD_EXITS);

	ASSERT_LE(0, dev);
	set("stuck", 1);
	EXPECT_EQ(1, write(go, "", 1));
	EXPECT_EQ(0, wait_child(pid));
	EXPECT_TRUE(is_at_rest(0));
	EXPECT_TRUE(is_left_alone(64));
	close(dev);
}

/* The device, or the module, goes. */

TEST_SAMPLE(device_goes_while_open)
{
	int second = open(DEVICE_1, O_RDWR), again = open_device(), value;

	ASSERT_LE(0, second);
	ASSERT_LE(0, again);
	load_all(_metadata, self);
	start_repeating(self->addr);
	EXPECT_EQ(0, write_text(BUS "unbind", BUS_NAME));
	EXPECT_EQ(-1, access(DEVICE, F_OK));
	EXPECT_TRUE(is_at_rest(0));
	expect_error(EIO, self->addr);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	EXPECT_TRUE(is_left_alone(64));
	EXPECT_EQ(0, dev_read(second, self->addr + self->step, &value));
	/* Closed while there is no device, and when there is another one. */
	close(again);
	EXPECT_EQ(0, write_text(BUS "bind", BUS_NAME));
	again = open_device();
	ASSERT_LE(0, again);
	expect_error(EIO, self->addr + self->step);
	close(again);
	close(self->dev);
	close(second);
	set_all();
	self->dev = open_device();
	ASSERT_LE(0, self->dev);
	expect_read(2, self->addr + self->step);
}

static void *open_and_close(void *data)
{
	struct closer *closer = data;

	while (!is_closed(closer)) {
		int dev = open_device();

		if (dev >= 0)
			close(dev);
	}
	return NULL;
}

TEST_SAMPLE(device_goes_while_files_are_opened_and_closed)
{
	struct closer closer = {};
	int i;

	ASSERT_EQ(0, pthread_create(&closer.thread, NULL, open_and_close, &closer));
	for (i = 0; i < 50; i++) {
		EXPECT_EQ(0, write_text(BUS "unbind", BUS_NAME));
		EXPECT_EQ(0, write_text(BUS "bind", BUS_NAME));
		usleep(i * 100);
	}
	__atomic_store_n(&closer.closed, 1, __ATOMIC_RELAXED);
	pthread_join(closer.thread, NULL);
	close(self->dev);
	self->dev = open_device();
	ASSERT_LE(0, self->dev);
	load_all(_metadata, self);
}

/* A descriptor holds the module.  When it is closed the bond is not yet freed. */
TEST_SAMPLE(unload_while_the_process_runs)
{
	int i, page;

	if (!self->loaded[1])
		SKIP(return, DRIVER " was there before");
	for (i = 0; i < 20; i++) {
		load_all(_metadata, self);
		EXPECT_EQ(-1, unload(DRIVER));
		EXPECT_EQ(EWOULDBLOCK, errno);
		load_all(_metadata, self);
		close(self->dev);
		self->dev = -1;
		self->loaded[1] = false;
		ASSERT_EQ(0, unload(DRIVER));
		EXPECT_EQ(-1, access(DEVICE, F_OK));
		EXPECT_EQ(0, madvise(self->addr, self->len, MADV_DONTNEED));
		EXPECT_EQ(0, self->addr[0]);
		ASSERT_EQ(0, load(DRIVER));
		self->loaded[1] = true;
		self->dev = open_device();
		ASSERT_LE(0, self->dev);
		expect_read(0, self->addr);
		for (page = 0; page < NR; page++)
			self->addr[page * self->step] = page + 1;
	}
}

static void *close_and_keep_the_cpu(void *data)
{
	struct sched_param first = { .sched_priority = 1 };
	struct timespec begin, now;

	bind_to_cpu(0);
	sched_setscheduler(0, SCHED_FIFO, &first);
	close_in_thread(data);
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

	if (!self->loaded[1])
		SKIP(return, DRIVER " was there before");
	load_all(_metadata, self);
	pid = start_binding(self->dev);
	ASSERT_LT(0, pid);
	bind_to_cpu(1);
	self->dev = -1;
	self->loaded[1] = false;
	ASSERT_EQ(0, pthread_create(&closer.thread, NULL,
				    close_and_keep_the_cpu, &closer));
	while (!is_closed(&closer) && is_time_left(&until))
		usleep(100);
	kill(pid, SIGKILL);
	wait_child(pid);
	EXPECT_EQ(0, unload(DRIVER));
	pthread_join(closer.thread, NULL);
	/* Time for what has been left behind. */
	usleep(100000);
	EXPECT_EQ(-1, access(DEVICE, F_OK));
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

	ASSERT_EQ(0, set("walk_delay", 500000));
	ASSERT_EQ(0, pthread_create(&reader.thread, NULL, read_once, &reader));
	while (statistic("walks") == walks && is_time_left(&until))
		usleep(100);
	usleep(50000);
	EXPECT_EQ(0, madvise(self->addr, page_size, MADV_DONTNEED));
	self->addr[0] = 9;
	set("walk_delay", 0);
	pthread_join(reader.thread, NULL);
	EXPECT_EQ(0, reader.error);
	EXPECT_EQ(9, reader.value);
	expect_read(9, self->addr);
	EXPECT_LT(discarded, statistic("discarded"));
}

TEST_HARNESS_MAIN
