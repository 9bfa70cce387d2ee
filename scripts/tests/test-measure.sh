#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-measure.sh: the tables and the page say what was measured, or that something is
# missing. Kernels, boots and what they measure are made up.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

export BUILD=$top/build WORK=$work
data=$BUILD/report
page=$data/index.html

# --- report.sh ------------------------------------------------------------

report() {
	run "$top/scripts/report/report.sh"
}

# tsv NAME: stdin, with blanks for tabs and _ for blanks but in the first line, becomes
# NAME.tsv
tsv() {
	sed -e 's/ /\t/g' -e '2,$s/_/ /g' >"$data/$1.tsv"
}

make_tables() {
	mkdir -p "$data"
	tsv demo <<-'END'
	policy stale_translations_used pages_freed_while_reachable page_tables_freed_while_reachable device_faults accesses
	flush_too_early 7792 256 3 0 1234567
	flush_in_time 0 0 0 0 20608
	END
	tsv drivers <<-'END'
	driver operation devices stock_commands commands stock_waits waits pages_changed stock_pages_flushed pages_flushed stock_left_of_1024 left_of_1024 stock_ms ms
	amd munmap_4 1 8 4 4 1 4 68719476734 4 0 1020 0 0
	END
	tsv bench <<-'END'
	workload scenario state unit median min max flushes ratio
	munmap-1 none base instructions 10000 9990 10020 2 1
	munmap-1 none stock instructions 10200 10030 10210 2 1.0200
	munmap-1 none series instructions 9950 9980 9990 2 0.9950
	END
}

# XML that loads nothing; namespaces are names.
sound() {
	run xmllint --noout --nonet "$page" &&
		! sed 's/xmlns\(:xlink\)\?="[^"]*"//g' "$page" | grep -niE '(https?|ftp|file|data):|@import|<(script|link|img|iframe|object|embed|base)\b|src *= *["'\'']|url\([^#]|href *= *["'\''][^#]' >"$work/out"
}

says() {
	grep -qF -e "$1" "$page" || { echo "no '$1' in the page" >"$work/out"; false; }
}

all_are_missing() {
	local name

	report && sound || return
	for name in timeline demo bench drivers sites mutants size scale atomics; do
		says "There is no <code>build/report/$name.tsv</code> yet." || return
	done
}

# spoil NAME SED-SCRIPT
spoil() {
	sed -i "$2" "$data/$1.tsv"
}

test_report() {
	local broken

	fresh
	check "without any table, each is said to be missing" all_are_missing
	make_tables
	spoil demo '3s/\t[^\t]*$//'
	check "a table that is cut off is said to be damaged, and not drawn" eval \
		'report && says "<code>build/report/demo.tsv</code> is damaged: line 3 has 5 columns of 6" && ! grep -q "flush in time" "$page"'

	broken=$(mktemp -u "${TMPDIR:-/tmp}/broken.XXXXXX")
	make_tables
	spoil demo 's/flush in time/<script src="x">\&amp;/'
	spoil drivers "s/munmap 4/a'b\"c<d>\&\`touch ${broken//\//\\/}\`/; s|\t1\t8\t|\t1'; system('touch $broken'); x='\t8'; system('touch $broken')\t|"
	spoil bench "s|munmap-1|\`touch $broken\`|; s|1.0200|much'; system('touch $broken')|"
	check "markup and commands in tables stay text" eval \
		'report && sound && says "&lt;script src=" && [ ! -e "$broken" ]'
}

# --- timeline.awk ---------------------------------------------------------

# timeline ROW: a device that has one access; number of instructions, event, address
timeline() {
	tr ' ' '\t' <<<"$1" >"$work/rows"
	tr ' ' '\t' >"$work/events" <<-'END'
	10 bound -
	20 in_run -
	30 access ffff888000000000
	60 out -
	100 munmap -
	110 start -
	400 in_touch -
	420 out -
	END
	awk -f "$top/scripts/measure/timeline.awk" "$work/rows" "$work/events"
}

test_timeline() {
	check "a trace that has less than the demonstration counted is refused" eval \
		'run timeline "p 0 0 0 0 1" && fails_saying "1 accesses, the demonstration 0, 0, 2" timeline "p 0 0 0 0 2"'
}

# --- bench.sh -------------------------------------------------------------

# consoles STATE MEDIAN CALLS: of a boot for each of the two tables. Some lines have the time in
# front.
consoles() {
	cat <<-END | tr ' ' '\t' | sed '/mmu_gather\|op1/s/^/[    1.234567] /' >"$work/console.$1.workloads"
	size mm_struct 944
	size task_struct 6656
	size mmu_gather 96
	size mmu_notifier 56
	bench munmap-1 none instructions $2 990 1010 0
	bench munmap-1 op1 instructions $2 $(($2 - 10)) $(($2 + 20)) $3
	END
	printf 'bench\tscale-8\tnone\tinstructions\t%s\t3\t5\t0\n' "$2" >"$work/console.$1.scale"
}

# object FILE TEXT: assembler
object() {
	mkdir -p "$(dirname "$1")"
	printf '%s\n' "$2" | gcc -c -x assembler -o "$1" -
}

make_kernels() {
	local state

	for state in base stock series; do
		object "$work/vmlinux.$state" $'.globl f\n.type f, @function\nf: ret\n.size f, 1'
	done
	for state in base series; do
		object "$work/objects.$state/mm/memory.o" 'nop; ret'
		object "$work/objects.$state/kernel/fork.o" 'ret'
	done
}

make_scripts() {
	script tree/tree.sh <<<'exit 0'
	script kernel/initrd.sh <<<'exit 0'
	script measure/atomics.sh <<<'exit 0'
	script kernel/build.sh <<-'END'
	out=$BUILD/kernels/$1
	mkdir -p "$out"
	case $1 in
	*-bench) cp "$WORK/vmlinux.${1%-bench}" "$out/vmlinux" ;;
	*) cp -RT "$WORK/objects.${1%-none}" "$out/objects" ;;
	esac
	END
	script kernel/boot.sh <<-'END'
	log=$6
	name=${log##*/}
	name=${name%.log}
	[ "${FAILS:-}" != "$name" ] || { echo "error: $2: stub" >&2; exit 2; }
	cat "$WORK/console.$name" >"$log"
	END
}

make_repository() {
	local lin=$top/build/linux

	git init -q -b series "$lin"
	mkdir "$lin/lib"
	echo 'obj-y += lib.o' >"$lin/lib/Makefile"
	git -C "$lin" add -A
	git -C "$lin" commit -q -m stock
	git -C "$lin" tag stock
	git -C "$lin" tag base
}

bench() {
	stubbed "$top/scripts/measure/bench.sh"
}

size() {
	stubbed "$top/scripts/measure/size.sh"
}

# row TABLE WORD...: with tabs
row() {
	local IFS=$'\t'

	grep -qx "${*:2}" "$data/$1.tsv"
}

# breaks TEXT COMMAND...: says TEXT, and the old tables stay
breaks() {
	local file

	for file in bench scale size; do
		echo old >"$data/$file.tsv"
	done
	fails_saying "$@" && [ "$(sort -u "$data"/{bench,scale,size}.tsv)" = old ]
}

test_bench() {
	fresh
	mkdir "$top/trees/6.1/base"
	no_packages_missing
	make_scripts
	make_repository
	make_kernels
	consoles base 1000 0
	consoles stock 1100 9
	consoles series 1050 2
	check "without the consoles of a benchmark there are no sizes" fails_saying "there is no build/bench/base.workloads.log; run 'make bench'" size
	check "ratios are those to base, flushes the calls of one subscriber of the series" eval \
		'run bench && row bench munmap-1 op1 stock instructions 1100 1090 1120 2 1.1000 && row bench munmap-1 op1 series instructions 1050 1040 1070 2 1.0500'
	check "a boot that breaks ends the benchmark with one line" breaks "series-bench/vmlinux: stub" env FAILS=series.scale PATH="$stubs:$PATH" "$top/scripts/measure/bench.sh"
	sed -i '/op1/d' "$work/console.series.workloads"
	check "so does a row that one state does not have" breaks "series has no row for munmap-1, op1" bench
	consoles series 1050 2
	sed -i '/none/s/1050/many/' "$work/console.series.workloads"
	check "so does a row that has no number" breaks 'series has a damaged row, "munmap-1 none"' bench
	consoles series 1050 2
	rmdir "$top/trees/6.1/base"
	check "a kernel without base is compared with stock" eval \
		'run bench && row bench munmap-1 op1 series instructions 1050 1040 1070 2 0.9545 && ! grep -q "^[^[]*base" "$work/out"'
	mkdir "$top/trees/6.1/base"
	object "$work/objects.series/mm/memory.o" 'cld; ret'
	check "an object with another instruction is not the same, though it is as long" eval \
		'run size && grep -q " 1 of 2 objects are the same" "$work/out" && grep -q "^ *mm/memory.o *+0 bytes" "$work/out"'
}

test_report
test_timeline
test_bench
finish
