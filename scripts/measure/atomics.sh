#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# atomics.sh: how many atomic accesses to memory the workloads of the benchmark execute, and
# how many instructions, as a table and in build/report/atomics.tsv. On many CPUs it is what
# scales or does not: no other instruction of the fast path writes what CPUs share.
#
# With noreplace-smp the kernel keeps the lock prefixes, though it has one CPU.
#
# It uses the kernels that bench.sh has built, and a plugin of QEMU that looks at each
# instruction (instructions.c).
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/bench
report=$BUILD/report/atomics.tsv
initrd=$BUILD/guest/bench.cpio
plugin=$work/instructions.so
states=$(bench_states)
workloads=munmap-1,munmap-64,dontneed-64,mprotect-64,cow,mremap-64,migrate-64,thp-zap,thp-split

make_plugin() {
	gcc -shared -fPIC -O2 -Wall -o "$plugin" "$scripts/measure/instructions.c" 2>"$work/errors" ||
		die "instructions.c does not compile: $(head -n 1 "$work/errors")"
}

# Where the program begins and ends to measure: lines "x ADDRESS".
points() {
	cpio -i --quiet --to-stdout tests/bench <"$initrd" >"$work/bench"
	nm "$work/bench" | awk '$3 == "measured_from" || $3 == "measured_to" { print $3, "x", $1 }' | sort | cut -d ' ' -f 2-
}

# Of three runs of each workload, the last.
windows() {
	awk -v OFS='\t' -v from="$(awk 'NR == 1 { sub(/^0+/, "", $2); print $2 }' "$work/points")" \
		-v names="$workloads" -v scenario="$1" -v state="$2" '
	BEGIN { split(names, name, ",") }
	$2 == from {
		began = $1
		atomics = $4
		next
	}
	++n % 3 == 0 { print name[n / 3], scenario, state, $1 - began, $4 - atomics }' "$3"
}

# run STATE SCENARIO: a row for each workload
run() {
	local log=$work/$1.$2.atomics.log

	"$scripts/kernel/boot.sh" -k "$(kernel_dir "$1-bench")/vmlinux" -i "$initrd" -o "$log" -n -t 300 \
		-p "$plugin,points=$work/points,out=$work/trace" \
		noreplace-smp maxcpus=1 norandmaps "BENCH_ONLY=$workloads" "BENCH_ONCE=$2" ||
		die "the benchmark of $1 failed; the message is above"
	[ "$(grep -c 'once' "$log")" -ge 9 ] || die "$(short "$log") does not have all workloads"
	windows "$2" "$1" "$work/trace"
}

table() {
	awk -F '\t' -v states="$states" '
	NR == 1 { next }
	!(($1, $2) in seen) {
		seen[$1, $2] = 1
		order[++n] = $1 SUBSEP $2
	}
	{ atomics[$1, $2, $3] = $5 }
	END {
		m = split(states, state, " ")
		printf "%-16s %-9s", "atomic accesses", "scenario"
		for (j = 1; j <= m; j++)
			printf " %8s%s", state[j], j < m ? "" : "\n"
		for (i = 1; i <= n; i++) {
			split(order[i], k, SUBSEP)
			printf "%-16s %-9s", k[1], k[2]
			for (j = 1; j <= m; j++)
				printf " %8s%s", atomics[order[i], state[j]], j < m ? "" : "\n"
		}
	}' "$report"
}

[ $# = 0 ] || die "usage: atomics.sh"
for file in "$(kernel_dir series-bench)/vmlinux" "$initrd"; do
	[ -s "$file" ] || die "$(short "$file") is not there; run 'make bench'"
done
need_packages "${kernel_packages[@]}"
need_commands cpio nm awk
mkdir -p "$work" "$BUILD/report"
make_plugin
points >"$work/points"
{
	printf 'workload\tscenario\tstate\tinstructions\tatomics\n'
	for scenario in none noop op1; do
		for state in $states; do
			run "$state" "$scenario"
		done
	done
} | atomic "$report"
table
