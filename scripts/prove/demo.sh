#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# demo.sh: the demonstration, from an empty machine. The suite mmu_notifier_demo runs
# the shadow device under its policies; its lines become build/report/demo.tsv and a
# table.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

kernel=$(kernel_dir series)/vmlinux
log=$BUILD/report/demo.log
report=$BUILD/report/demo.tsv
policies=4
status=0 # of boot.sh

boot() {
	only_one demo
	steps 4
	say "packages"
	need_packages "${kernel_packages[@]}"
	say "kernel source, with the series"
	"$scripts/tree/tree.sh"
	say "kernel (about 6 minutes the first time)"
	"$scripts/kernel/build.sh" series
	say "the demonstration, in QEMU"
	"$scripts/kernel/boot.sh" -k "$kernel" -o "$log" kunit.filter_glob=mmu_notifier_demo || status=$?
	# With 1, the demonstration has failed: its numbers say why.
	[ "$status" -le 1 ] || exit "$status"
}

# policy, stale, pages, tables, faults, accesses: what kunit_info() printed
rows() {
	sed -nE 's/^(\[ *[0-9.]+\] ?)? *# mn_[a-z_]+: row\t([^\r]*)\r?$/\2/p' "$log" |
		awk -F '\t' -v OFS='\t' 'NF == 6 && ($2 $3 $4 $5 $6) ~ /^[0-9]+$/'
}

write_report() {
	{
		printf 'policy\tstale_translations_used\tpages_freed_while_reachable\tpage_tables_freed_while_reachable\tdevice_faults\taccesses\n'
		cat <<<"$found"
	} | atomic "$report"
}

check_rows() {
	local n

	[ -n "$found" ] || die "$(short "$log") has no rows; did the suite mmu_notifier_demo run?"
	n=$(wc -l <<<"$found")
	[ "$n" = "$policies" ] || die "$(short "$log") has $n rows of $policies; the demonstration did not come to its end"
}

table() {
	awk -F '\t' '
	function row(a, b, c, d, e, f) {
		line = sprintf("%-34s %12s %12s %12s %8s %9s", a, b, c, d, e, f)
		sub(/ +$/, "", line)
		print line
	}
	BEGIN {
		row("", "stale", "pages freed", "page tables", "", "")
		row("", "translations", "while still", "freed while", "device", "")
		row("policy of the driver", "used", "reachable", "reachable", "faults", "accesses")
		row("--------------------", "------------", "-----------", "-----------", "------", "--------")
	}
	{ row($1, $2, $3, $4, $5, $6) }' <<<"$found"
}

# Two lines about the rows, or one on what is wrong with them.
verdict() {
	awk -F '\t' '
	function bad(row) { return row[2] + row[3] + row[4] + row[5] }
	{
		for (i = 1; i <= 6; i++)
			last[i] = $i
		wrong = wrong || !$6
		if (!bad(last))
			clean = clean (clean ? ", " : "") "\"" $1 "\""
		cleans += !bad(last)
		stale = stale < $2 ? $2 : stale
		pages = pages < $3 ? $3 : pages
		tables = tables < $4 ? $4 : tables
		faults = faults < $5 ? $5 : faults
	}
	END {
		if (wrong)
			print "a policy has no accesses: its row shows nothing"
		else if (bad(last))
			print "the last row, \"" last[1] "\", is not all zero"
		else if (cleans > 1)
			print "only the last row may be all zero, not " clean
		else {
			printf "With the old callbacks the device uses translations that are no longer true (%d times), reaches pages\n", stale
			printf "and page tables that were freed (%d, %d), or is blocked and faults (%d times). With invalidate_range(): none.\n", pages, tables, faults
			exit
		}
		exit 1
	}' <<<"$found"
}

[ $# = 0 ] || die "usage: demo.sh"
make_build_dir
mkdir -p "$BUILD/report"
boot
found=$(rows)
check_rows
write_report
echo
table
echo
said=$(verdict) || die "$said: see $(short "$report") and $(short "$log")"
[ "$status" = 0 ] || die "the demonstration has failed a check of its own: see $(short "$log")"
echo "$said"
echo
echo "$(short "$report") has the table, $(short "$log") the console. This took $(minutes "$SECONDS")."
