// SPDX-License-Identifier: GPL-2.0
/*
 * The first process of the guest that boot.sh -i starts: mounts what tests need,
 * makes a swap device, runs each program in /tests, powers off.  All output goes to
 * the kernel's log: one stream, in order.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#define TESTS	"/tests"
#define SWAP	"/dev/ram0"

static const struct {
	const char *type, *where;
} mounts[] = {
	{ "devtmpfs", "/dev" },
	{ "proc", "/proc" },
	{ "sysfs", "/sys" },
	{ "debugfs", "/sys/kernel/debug" },
	{ "tracefs", "/sys/kernel/tracing" },
	{ "tmpfs", "/tmp" },
};

static void complain(const char *what)
{
	printf("init: %s: %s\n", what, strerror(errno));
}

static void log_output(void)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	if (fd < 0)
		return;
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}

static void mount_all(void)
{
	size_t i;

	for (i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, NULL))
			complain(mounts[i].where);
		if (!i)
			log_output();
	}
}

/* What mkswap does: a first page that says how many pages there are. */
static void swap_on(void)
{
	size_t page_size = sysconf(_SC_PAGESIZE);
	char *page = calloc(1, page_size);
	int fd = open(SWAP, O_RDWR);
	off_t size = lseek(fd, 0, SEEK_END);
	uint32_t info[] = { 1, size / page_size - 1, 0 };

	memcpy(page + 1024, info, sizeof(info));
	memcpy(page + page_size - 10, "SWAPSPACE2", 10);
	if (fd < 0 || size < (off_t)(2 * page_size) ||
	    pwrite(fd, page, page_size, 0) != (ssize_t)page_size || fsync(fd) ||
	    close(fd) || swapon(SWAP, 0))
		complain(SWAP);
	free(page);
}

static void run(const char *name)
{
	char *argv[] = { NULL, NULL };
	char path[300];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), TESTS "/%s", name);
	argv[0] = path;
	pid = fork();
	if (!pid) {
		execv(path, argv);
		complain(path);
		_exit(127);
	}
	/* Orphans of the tests end here, too. */
	while (pid > 0 && wait(&status) != pid)
		;
	if (pid < 0)
		complain(path);
	else if (WIFSIGNALED(status))
		printf("init: %s: signal %d\n", path, WTERMSIG(status));
}

static int is_program(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Those of the sample come last: a kernel whose notifiers outlive their module crashes. */
static int last_first(const struct dirent **a, const struct dirent **b)
{
	return alphasort(b, a);
}

int main(void)
{
	struct dirent **tests;
	int i, nr;

	mount_all();
	swap_on();
	nr = scandir(TESTS, &tests, is_program, last_first);
	if (nr < 0)
		complain(TESTS);
	printf("init: %d programs\n", nr);
	for (i = 0; i < nr; i++)
		run(tests[i]->d_name);
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
