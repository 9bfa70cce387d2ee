// SPDX-License-Identifier: GPL-2.0
/*
 * In the guest of "make shell": a process whose memory a device reads.
 *
 * device OPERATION: the device of the sample driver reads a page, before and after
 * shadow OPERATION: /dev/shadow_tlb reads many pages, also during the operation, and
 *                   counts what goes wrong (this program by another name)
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shadow_tlb_uapi.h"

#define TOY		"mmu_notifier_toy"
#define TOY_0		TOY "0"	/* the first of its devices */
#define SHADOW_PAGES	1024	/* enough that a page-table page is freed, too */

static size_t page_size;

/* What makes old translations of a range wrong. */

static int do_madvise(void *addr, size_t len)
{
	return madvise(addr, len, MADV_DONTNEED);
}

/* The child shares the pages, so the process writes to new ones. */
static int do_fork(void *addr, size_t len)
{
	pid_t pid = fork();
	size_t i;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	for (i = 0; i < len; i += page_size)
		*(int *)(addr + i) = 2;
	return pid < 0 ? -1 : kill(pid, SIGKILL);
}

static const struct operation {
	const char *name, *what;
	int (*run)(void *addr, size_t len);
} operations[] = {
	{ "munmap", "munmap()", munmap },
	{ "madvise", "madvise(MADV_DONTNEED)", do_madvise },
	{ "fork", "fork(), and the process writes 2", do_fork },
};

static void *map(size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (addr == MAP_FAILED)
		err(1, "mmap");
	madvise(addr, len, MADV_NOHUGEPAGE);
	for (i = 0; i < len; i += page_size)
		*(int *)(addr + i) = 1;
	return addr;
}

/* A counter of the device. */
static long counter(const char *name)
{
	char path[100], text[30] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/" TOY_0 "/%s", name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		err(1, "%s", path);
	close(fd);
	return atol(text);
}

static void toy_reads(int fd, void *addr)
{
	long walks = counter("walks");
	int value;

	if (pread(fd, &value, sizeof(value), (uintptr_t)addr) < 0)
		printf("the device gets an error: %s", strerror(errno));
	else
		printf("the device reads %d", value);
	printf(" (%s)\n", counter("walks") > walks ? "it walks the page table" : "from its TLB");
}

static void toy(int fd, const struct operation *op)
{
	void *addr = map(3 * page_size) + page_size; /* neighbours keep the page table */
	long flushes;

	printf("the process writes 1 to the page at %p\n", addr);
	toy_reads(fd, addr);
	toy_reads(fd, addr);
	flushes = counter("flushes");
	if (op->run(addr, page_size))
		err(1, "%s", op->name);
	printf("%s: invalidate_range() is called, %ld x\n", op->what, counter("flushes") - flushes);
	toy_reads(fd, addr);
}

static void shadow(int fd, const struct operation *op)
{
	struct shadow_tlb_range range = { .len = SHADOW_PAGES * page_size };
	struct shadow_tlb_report before, after;
	void *addr = map(range.len);

	range.addr = (uintptr_t)addr;
	if (ioctl(fd, SHADOW_TLB_READ, &range) || ioctl(fd, SHADOW_TLB_RUN_ON, &range) ||
	    ioctl(fd, SHADOW_TLB_REPORT, &before) || op->run(addr, range.len) ||
	    ioctl(fd, SHADOW_TLB_REPORT, &after))
		err(1, "%s", op->name);
	printf("the device has %llu pages in its TLB, and reads them in each notifier callback\n"
	       "%s: invalidate_range() is called, %llu x\n"
	       "%6llu accesses by the device, of which\n"
	       "%6llu used an old translation\n"
	       "%6llu pages were freed while the device could reach them\n"
	       "%6llu page tables were freed while the device could walk them\n",
	       range.pages, op->what, after.calls - before.calls, after.accesses,
	       after.stale_used, after.freed_pages, after.freed_tables);
}

int main(int argc, char **argv)
{
	int is_shadow = !strcmp(program_invocation_short_name, "shadow"), fd;
	const char *dev = is_shadow ? "/dev/shadow_tlb" : "/dev/" TOY_0;
	size_t i, nr = sizeof(operations) / sizeof(operations[0]);

	page_size = sysconf(_SC_PAGESIZE);
	for (i = 0; i < nr && strcmp(argc == 2 ? argv[1] : "", operations[i].name); i++)
		;
	if (i == nr)
		errx(1, "give one of munmap, madvise, fork");
	fd = open(dev, is_shadow ? O_RDWR : O_RDONLY);
	if (fd < 0)
		err(1, is_shadow ? "%s" : "%s (type 'modprobe " TOY "' first)", dev);
	(is_shadow ? shadow : toy)(fd, &operations[i]);
	return 0;
}
