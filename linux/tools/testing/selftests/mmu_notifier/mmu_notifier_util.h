/* SPDX-License-Identifier: GPL-2.0 */
/* What mmu_notifier_test and mmu_notifier_fuzz have in common. */
#ifndef MMU_NOTIFIER_UTIL_H
#define MMU_NOTIFIER_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../../../lib/shadow_tlb_uapi.h"
#include "../../../../lib/test_hmm_uapi.h"

#ifndef MADV_COLD
#define MADV_COLD		20
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MPOL_MF_MOVE
#define MPOL_MF_MOVE		2
#endif
#ifndef __NR_process_madvise
#define __NR_process_madvise	440
#endif
#ifndef __NR_memfd_secret
#define __NR_memfd_secret	447
#endif
#ifndef __NR_process_mrelease
#define __NR_process_mrelease	448
#endif

#define DEVICE		"/dev/shadow_tlb"
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define KSM		"/sys/kernel/mm/ksm/"
#define TRACING		"/sys/kernel/tracing/"
#define BLOCK_DEVICE	"/dev/ram1"

#define GIB		0x40000000UL

static size_t page_size;

/* Files of one value. */

static int read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = read(fd, text, size - 1);
	close(fd);
	if (len < 0)
		return -1;
	text[len] = '\0';
	return 0;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len;
	int error;

	if (fd < 0)
		return -1;
	len = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return len == (ssize_t)strlen(text) ? 0 : -1;
}

/* Which allocations can fail: those that may wait, too, and without a word. */
#define FAULTS		"/sys/kernel/debug/"

static const struct {
	const char *path, *value;
} failures[] = {
	{ FAULTS "failslab/verbose", "0" },
	{ FAULTS "failslab/ignore-gfp-wait", "N" },
	{ FAULTS "fail_page_alloc/verbose", "0" },
	{ FAULTS "fail_page_alloc/ignore-gfp-wait", "N" },
	{ FAULTS "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ FAULTS "fail_page_alloc/min-order", "0" },
};

static int open_fail_nth(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

/* The kernel's @nth allocation of this thread from now on fails; 0: none. */
static int write_fail_nth(int fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	return pwrite(fd, text, len, 0) == len ? 0 : -1;
}

static int pidfd_of(pid_t pid)
{
	return syscall(__NR_pidfd_open, pid, 0);
}

/* For uprobes. */
static void nops(void)
{
	asm volatile(".rept 64\n nop\n .endr");
}

/* One of these, not at the beginning of a page. */
static uintptr_t place_to_probe(void)
{
	uintptr_t addr = ((uintptr_t)nops + 16) & -4UL;

	return addr % page_size ? addr : addr + 4;
}

#endif
