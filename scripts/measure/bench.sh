#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh: what the callback costs: base, stock and series, built from one configuration,
# run the same workloads (bench.c) one after the other. A table, and in build/report/
# bench.tsv, scale.tsv, atomics.tsv and size.tsv. A kernel without base/ is compared with stock.
#
# Under QEMU's -icount, time is the number of executed instructions, which repeats.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/bench
report=$BUILD/report
states=$(bench_states)
reference=${states%% *}
initrd=$BUILD/guest/bench.cpio
limit=900 # seconds for one boot

# --- kernels --------------------------------------------------------------

# STATE with the subscribers that bench.c attaches: the tag STATE-bench.
make_tag() {
	local from flags=

	from=$(state_ref "$1")
	# base has no op to implement
	[ "$1" = base ] || flags='CFLAGS_mmu_subscribers.o += -DHAVE_INVALIDATE_RANGE'
	begin_index "$from"
	adapted "$scripts/measure/mmu_subscribers.c" | index_file lib/mmu_subscribers.c
	index_file lib/mmu_subscribers.h <"$scripts/measure/mmu_subscribers.h"
	{
		tgit show "$from:lib/Makefile"
		echo "$flags"
		echo 'obj-y += mmu_subscribers.o'
	} | index_file lib/Makefile
	commit_index "$1-bench" "$from" "$1 with the subscribers of the benchmark"
}

# --- boots ----------------------------------------------------------------

# boot STATE NAME CPUS [ARGUMENT...]: the rows of one boot. Addresses are not random: a mapping
# that crosses the end of a page table costs more than one that does not.
boot() {
	local state=$1 log=$work/$1.$2.log ncpus=$3

	shift 3
	"$scripts/kernel/boot.sh" -k "$(kernel_dir "$state-bench")/vmlinux" -i "$initrd" -o "$log" -n -t "$limit" -s "$ncpus" -c maxcpus=1 norandmaps "$@" || exit 1
	sed -nE 's/^(\[[^]]*\] )?bench\t//p' "$log" | awk -v state="$state" '{ print state "\t" $0 }'
}

run_workloads() {
	local state

	for state in $states; do
		say "$state: workloads"
		boot "$state" workloads 2 >>"$work/workloads"
	done
}

run_scale() {
	local state

	for state in $states; do
		say "$state: 1, 2, 4 and 8 CPUs"
		boot "$state" scale 8 BENCH_SCALE=1 >>"$work/scale"
	done
}

# complete FILE: each row is whole, and each workload and scenario has one of each state
complete() {
	local lost

	lost=$(awk -F '\t' -v states="$states" '
	function problem(text) {
		if (!found++)
			print text
	}
	NF != 8 || $5 $6 $7 $8 !~ /^[0-9]+$/ { problem($1 " has a damaged row, \"" $2 " " $3 "\"") }
	!(($2, $3) in known) {
		known[$2, $3] = 1
		order[++n] = $2 SUBSEP $3
	}
	{ seen[$2, $3, $1] = 1 }
	END {
		if (!n)
			problem("there are no rows")
		split(states, state, " ")
		for (i = 1; i <= n; i++)
			for (j = 1; j in state; j++)
				if (!((order[i], state[j]) in seen)) {
					split(order[i], name, SUBSEP)
					problem(state[j] " has no row for " name[1] ", " name[2])
				}
	}' "$1")
	[ -z "$lost" ] || die "the benchmark is incomplete: $lost; the consoles are $(short "$work")/STATE.${1##*/}.log"
}

# --- tables ---------------------------------------------------------------

# state, workload, scenario, unit, median, min, max, calls -> bench.tsv. The flushes are
# the calls that one subscriber of the series gets.
tsv() {
	awk -F '\t' -v OFS='\t' -v reference="$reference" '
	BEGIN { print "workload", "scenario", "state", "unit", "median", "min", "max", "flushes", "ratio" }
	{
		row[++n] = $0
		if ($1 == reference)
			base[$2, $3] = $5
		if ($1 == "series" && $3 == "op1")
			flushes[$2] = $8
	}
	END {
		for (i = 1; i <= n; i++) {
			split(row[i], f, "\t")
			ratio = base[f[2], f[3]] ? sprintf("%.4f", f[5] / base[f[2], f[3]]) : ""
			print f[2], f[3], f[1], f[4], f[5], f[6], f[7], flushes[f[2]] + 0, ratio
		}
	}' "$1"
}

# table FILE: a row for each workload and scenario. Ratios are of the medians. What a flush costs
# more than in the first state is from the least of the runs, which no interrupt and no refill of
# a list disturbed.
table() {
	awk -F '\t' -v states="$states" '
	NR == 1 { next }
	!(($1, $2) in seen) {
		seen[$1, $2] = 1
		order[++n] = $1 SUBSEP $2
	}
	{
		median[$1, $2, $3] = $5
		least[$1, $2, $3] = $6
		spread[$1, $2, $3] = $5 ? 100 * ($7 - $6) / $5 : 0
		flushes[$1] = $8
		unit = $4
	}
	function per_flush(k, state) {
		if (!flushes[name[1]])
			return ""
		return sprintf("%+.1f", (least[k, state] - least[k, state_of[1]]) / flushes[name[1]])
	}
	# A line: what comes first, then a ratio of each state, then what it takes for a flush.
	function line(first, ratio, flush,  j, text) {
		text = first " "
		for (j = 2; j <= m; j++)
			text = text sprintf(" %7s", ratio[j])
		text = text " "
		for (j = 2; j <= m; j++)
			text = text sprintf(" %9s", flush[j])
		print text
	}
	END {
		m = split(states, state_of, " ")
		form = "%-16s %-9s %7s  %11s %6s"
		line(sprintf(form, "", "", "", state_of[1], "spread"), state_of, state_of)
		for (j = 2; j <= m; j++) {
			ratio[j] = "ratio"
			flush[j] = "per flush"
		}
		line(sprintf(form, "workload", "scenario", "flushes", unit, ""), ratio, flush)
		for (i = 1; i <= n; i++) {
			k = order[i]
			split(k, name, SUBSEP)
			b = median[k, state_of[1]]
			for (j = 2; j <= m; j++) {
				ratio[j] = b ? sprintf("%.3f", median[k, state_of[j]] / b) : ""
				flush[j] = per_flush(k, state_of[j])
			}
			line(sprintf(form, name[1], name[2], flushes[name[1]] ? flushes[name[1]] : "", b,
				sprintf("%.1f%%", spread[k, state_of[1]])), ratio, flush)
		}
	}' "$1"
}

main() {
	local state

	only_one bench
	steps 14
	say "packages, kernel source"
	need_packages "${kernel_packages[@]}"
	"$scripts/tree/tree.sh"
	identity || :
	mkdir -p "$work" "$report"
	for state in $states; do
		make_tag "$state"
	done
	for state in $states; do
		say "kernel of $state"
		"$scripts/kernel/build.sh" "$state-bench"
	done
	say "initrd"
	"$scripts/kernel/initrd.sh" -p "$scripts/measure/bench.c" "$initrd"
	: >"$work/workloads"
	: >"$work/scale"
	run_workloads
	complete "$work/workloads"
	run_scale
	complete "$work/scale"
	say "tables"
	tsv "$work/workloads" | atomic "$report/bench.tsv"
	tsv "$work/scale" | atomic "$report/scale.tsv"
	echo
	table "$report/bench.tsv"
	echo
	table "$report/scale.tsv"
	echo
	say "atomic accesses"
	"$scripts/measure/atomics.sh"
	echo
	say "sizes"
	"$scripts/measure/size.sh"
	echo
	echo "$(short "$report")/bench.tsv, scale.tsv, atomics.tsv and size.tsv have the tables. This took $(minutes "$SECONDS")."
}

[ $# = 0 ] || die "usage: bench.sh"
[ "$arch" = x86_64 ] || die "the benchmark is that of x86-64; leave ARCH= away"
main
