// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU that says when the guest came to some of its instructions.
 *
 * Arguments: points=FILE, lines "x ADDRESS" (executed) or "w ADDRESS" (wrote to
 * memory), hexadecimal; out=FILE, where a line is written each time: number of the
 * instructions executed so far, address, address written to or "-", and how many of the
 * instructions were atomic accesses to memory.  For one CPU.
 *
 * Debian has no header of the plugin interface, so what is used of it stands here.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define EXPORT		__attribute__((visibility("default")))
#define MAX_POINTS	512

enum { CB_NO_REGS };
enum { MEM_W = 2 };
enum { ADD_U64 };

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
		void (*cb)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(plugin_id id,
		void (*cb)(plugin_id, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb,
						 size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
		int op, void *counter, uint64_t add);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int, void *), int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int, uint32_t, uint64_t, void *),
		int flags, int rw, void *data);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

struct point {
	uint64_t addr;
	char kind;
};

static struct point points[MAX_POINTS];
static size_t nr_points;
static uint64_t executed, atomics;
static FILE *out;

static void on_execution(unsigned int cpu, void *data)
{
	const struct point *p = data;

	fprintf(out, "%" PRIu64 "\t%" PRIx64 "\t-\t%" PRIu64 "\n", executed, p->addr, atomics);
}

static void on_write(unsigned int cpu, uint32_t info, uint64_t where, void *data)
{
	const struct point *p = data;

	fprintf(out, "%" PRIu64 "\t%" PRIx64 "\t%" PRIx64 "\t%" PRIu64 "\n", executed, p->addr,
		where, atomics);
}

static void watch(struct qemu_plugin_insn *insn)
{
	uint64_t addr = qemu_plugin_insn_vaddr(insn);
	struct point *p;

	for (p = points; p < points + nr_points; p++) {
		if (p->addr != addr)
			continue;
		if (p->kind == 'w')
			qemu_plugin_register_vcpu_mem_cb(insn, on_write, CB_NO_REGS,
							 MEM_W, p);
		else
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_execution,
							       CB_NO_REGS, p);
	}
}

/* A lock prefix, or an xchg with memory, which needs none. */
static bool is_atomic(const struct qemu_plugin_insn *insn)
{
	const uint8_t *code = qemu_plugin_insn_data(insn);
	size_t i, size = qemu_plugin_insn_size(insn);

	for (i = 0; i < size; i++) {
		switch (code[i]) {
		case 0xf0:
			return true;
		case 0x26: case 0x2e: case 0x36: case 0x3e:
		case 0x64 ... 0x67:
		case 0xf2: case 0xf3:
		case 0x40 ... 0x4f:
			continue;	/* another prefix */
		case 0x86: case 0x87:
			return i + 1 < size && code[i + 1] < 0xc0;
		}
		break;
	}
	return false;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);

	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &executed, 1);
		if (is_atomic(insn))
			qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &atomics, 1);
		watch(insn);
	}
}

static void at_end(plugin_id id, void *data)
{
	fclose(out);
}

static void read_points(const char *name)
{
	FILE *file = fopen(name, "r");
	struct point *p = points;

	while (file && p < points + MAX_POINTS &&
	       fscanf(file, " %c %" SCNx64, &p->kind, &p->addr) == 2)
		p++;
	nr_points = p - points;
	if (file)
		fclose(file);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	int i;

	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "points=", 7))
			read_points(argv[i] + 7);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!nr_points || nr_points == MAX_POINTS || !out) {
		fprintf(stderr, "instructions.so: points= or out= is no good\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, at_end, NULL);
	return 0;
}
