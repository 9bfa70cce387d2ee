// SPDX-License-Identifier: GPL-2.0
/*
 * For LD_PRELOAD: some children of a process share their memory with /dev/shadow_tlb, which
 * reads and writes what they have mapped, at random.  stress-ng names its workers; every
 * other one called ATTACH_TO gets a device.  Sums are in /tmp/attached.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shadow_tlb_uapi.h"

#define ATTACHED	"/tmp/attached"
#define ROUNDS	64	/* between two reports */
#define PAGES	64	/* of one access */

/* What all devices did and what went wrong. */
struct attached {
	__u64 devices, accesses, calls;
	__u64 stale_used, stale, freed_pages, freed_tables, bad_ranges;
};

static struct attached *sums;

/* From /proc/self/maps, one line of all, by reservoir sampling; without libc's buffers. */
static int random_mapping(__u64 *start, __u64 *end, unsigned int *seed)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	char buf[4096], line[80];
	unsigned int n = 0, used = 0;
	ssize_t len, i;

	if (fd < 0)
		return 0;
	while ((len = read(fd, buf, sizeof(buf))) > 0) {
		for (i = 0; i < len; i++) {
			__u64 from, to;
			char perm;

			if (buf[i] != '\n') {
				if (used < sizeof(line) - 1)
					line[used++] = buf[i];
				continue;
			}
			line[used] = 0;
			used = 0;
			if (sscanf(line, "%llx-%llx %c", &from, &to, &perm) == 3 &&
			    perm == 'r' && to < 1ULL << 47 && !(rand_r(seed) % ++n)) {
				*start = from;
				*end = to;
			}
		}
	}
	close(fd);
	return n;
}

static void add(__u64 *sum, __u64 now, __u64 *before)
{
	__atomic_fetch_add(sum, now - *before, __ATOMIC_RELAXED);
	*before = now;
}

static void report(int fd, struct shadow_tlb_report *before)
{
	struct shadow_tlb_report now;

	if (ioctl(fd, SHADOW_TLB_REPORT, &now))
		return;
	add(&sums->accesses, now.accesses, &before->accesses);
	add(&sums->calls, now.calls, &before->calls);
	add(&sums->stale_used, now.stale_used, &before->stale_used);
	add(&sums->freed_pages, now.freed_pages, &before->freed_pages);
	add(&sums->freed_tables, now.freed_tables, &before->freed_tables);
	add(&sums->bad_ranges, now.bad_ranges, &before->bad_ranges);
	if (now.compared && now.stale)
		__atomic_fetch_add(&sums->stale, now.stale, __ATOMIC_RELAXED);
}

static int is_asked_for(void)
{
	const char *name = getenv("ATTACH_TO");
	char comm[17] = "";

	prctl(PR_GET_NAME, comm);
	return name && !strncmp(comm, name, 15);
}

static void *use(void *arg)
{
	unsigned int seed = getpid(), i;
	struct shadow_tlb_report before = { };
	__u64 start, end;
	int fd = -1;

	/* Workers get their names after fork(). */
	for (i = 0; i < 100 && !is_asked_for(); i++)
		usleep(10000);
	if (is_asked_for())
		fd = open("/dev/shadow_tlb", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	__atomic_fetch_add(&sums->devices, 1, __ATOMIC_RELAXED);
	for (i = 1; ; i++) {
		struct shadow_tlb_range range;

		if (!random_mapping(&start, &end, &seed))
			continue;
		range.addr = start + (rand_r(&seed) % ((end - start) / 4096)) * 4096;
		range.len = (1 + rand_r(&seed) % PAGES) * 4096;
		if (range.len > end - range.addr)
			range.len = end - range.addr;
		ioctl(fd, rand_r(&seed) % 2 ? SHADOW_TLB_READ : SHADOW_TLB_WRITE, &range);
		if (!(i % ROUNDS))
			report(fd, &before);
	}
}

static void in_child(void)
{
	sigset_t all, old;
	pthread_t thread;

	if (getpid() % 2)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (!pthread_create(&thread, NULL, use, NULL))
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

__attribute__((constructor)) static void start(void)
{
	int fd = open(ATTACHED, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	sums = mmap(NULL, sizeof(*sums), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (sums != MAP_FAILED)
		pthread_atfork(NULL, NULL, in_child);
}
