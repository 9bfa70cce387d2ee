#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# size.sh: what the series adds to a kernel, as a table and in build/report/size.tsv, from
# the kernels that bench.sh has built; and without CONFIG_MMU_NOTIFIER, object by object, if there
# is a base.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/bench
report=$BUILD/report/size.tsv
states=$(bench_states)
# what may differ without notifiers: all that mm's headers are in
objects=(mm/ fs/proc/ kernel/events/ kernel/fork.o)

# --- with CONFIG_MMU_NOTIFIER ---------------------------------------------

# sections KERNEL NAME...: bytes in all of them
sections() {
	[ -e "$1" ] || {
		echo 0
		return
	}
	size -A -d "$1" | awk -v names=" ${*:2} " 'index(names, " " $1 " ") { sum += $2 } END { print sum + 0 }'
}

# Calls of the slow path: as many as there are tests of the flag.
gates() {
	objdump -d --no-show-raw-insn "$1" |
		grep -cE '(call|jmp) .*<(__mmu_notifier_(arch_invalidate_secondary_tlbs|invalidate_(range|mm))|__tlb_invalidate_secondary)>$' || :
}

# The kernel prints the sizes of structures when it boots.
structure() {
	local log=$work/$1.workloads.log size

	size=$(sed -nE "s/^(\[[^]]*\] )?size\t$2\t([0-9]+)$/\2/p" "$log")
	[ -n "$size" ] || die "$(short "$log") does not have the size of struct $2; run 'make bench'"
	echo "$size"
}

# row WHAT UNIT COMMAND...: COMMAND is called with a kernel
row() {
	local what=$1 unit=$2 state line

	shift 2
	line="$what"$'\t'"$unit"
	for state in $states; do
		line="$line"$'\t'$("$@" "$state")
	done
	echo "$line"
}

# All functions: the sections are padded.
text() {
	nm -S "$(kernel_dir "$1-bench")/vmlinux" | awk '
	NF == 4 && tolower($3) ~ /^[tw]$/ && !($1 in seen) {
		seen[$1] = 1
		print "0x" $2
	}' | while read -r bytes; do echo $((bytes)); done | awk '{ sum += $1 } END { print sum }'
}

data() {
	sections "$(kernel_dir "$1-bench")/vmlinux" .rodata .data .bss .data..read_mostly __ksymtab_strings
}

calls() {
	gates "$(kernel_dir "$1-bench")/vmlinux"
}

with_notifiers() {
	local name

	for name in mm_struct task_struct mmu_gather mmu_notifier; do
		row "struct $name" bytes structure_of "$name"
	done
	row "code of the kernel" bytes text
	row "data of the kernel" bytes data
	row "calls of the callback's functions" calls calls
}

structure_of() {
	structure "$2" "$1"
}

# --- without --------------------------------------------------------------

# Sizes of the sections that are loaded, then instructions with what they refer to.
contents() {
	[ -e "$1" ] || return 0
	objdump -f "$1" >/dev/null || die "objdump cannot read $(short "$1"); remove $(short "$BUILD/kernels")/*-none, and run 'make bench'"
	objdump -h "$1" | awk '/^ *[0-9]+ / { name = $2; size = $3; next } /ALLOC/ { print name, size }' |
		grep -vE '^(__bug_table|\.orc|__jump_table|\.comment)'
	objdump -dr --no-show-raw-insn --no-addresses "$1" | sed -e 1,3d -e 's/\<arch_\(ptep_clear_flush\|pmdp_invalidate\)\>/\1/g'
}

# object, and same or how much longer the code is in series
compare() {
	local object from to old new

	from=$(kernel_dir base-none)/objects
	to=$(kernel_dir series-none)/objects
	{ (cd "$from" && find . -name '*.o'); (cd "$to" && find . -name '*.o'); } | sort -u | while read -r object; do
		object=${object#./}
		old=$(contents "$from/$object")
		new=$(contents "$to/$object")
		if [ "$old" = "$new" ]; then
			echo "$object"$'\t'same
		else
			echo "$object"$'\t'$(($(sections "$to/$object" .text) - $(sections "$from/$object" .text)))
		fi
	done
}

without_notifiers() {
	"$scripts/kernel/build.sh" base-none "${objects[@]}"
	"$scripts/kernel/build.sh" series-none "${objects[@]}"
	compare >"$work/none"
	[ -s "$work/none" ] || die "there are no objects in $(short "$(kernel_dir base-none)")/objects; remove it, and run 'make bench'"
}

# --- table ----------------------------------------------------------------

table() {
	awk -F '\t' '
	{
		form = NR == 1 ? "%s" : $1 ~ /^struct|^calls/ ? "%d" : "%+d"
		printf "%-36s %-6s %12s", NR == 1 ? "" : $1, NR == 1 ? "" : $2, $3
		for (i = 4; i <= NF; i++)
			printf " %10s%s", sprintf(form, form == "%+d" ? $i - $3 : $i), i < NF ? "" : "\n"
	}' "$report"
	[ -d "$BASE_DIR" ] || return 0
	echo
	echo "Without CONFIG_MMU_NOTIFIER: $(grep -c $'\tsame$' "$work/none") of $(wc -l <"$work/none") objects are the same in base and series."
	grep -v $'\tsame$' "$work/none" | awk -F '\t' '{ printf "  %-28s %+d bytes of code\n", $1, $2 }' || :
}

[ $# = 0 ] || die "usage: size.sh"
for state in $states; do
	for file in "$work/$state.workloads.log" "$(kernel_dir "$state-bench")/vmlinux"; do
		[ -s "$file" ] || die "there is no $(short "$file"); run 'make bench'"
	done
done
need_packages "${kernel_packages[@]}"
need_commands size objdump nm awk
mkdir -p "$BUILD/report"
{
	printf 'what\tunit\t%s\n' "${states// /$'\t'}"
	with_notifiers
} >"$work/size"
atomic "$report" <"$work/size"
# In 7.3, the drivers that are configured need notifiers.
[ ! -d "$BASE_DIR" ] || without_notifiers
table
