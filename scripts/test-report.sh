#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-report.sh: the page of report.sh and the timeline, on hostile input. Everything
# happens in a scratch directory (with a blank in its name). The measurements are made up.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

export BUILD=$top/build
data=$BUILD/report
page=$data/index.html

fresh() {
	rm -rf "$top"
	mkdir -p "$data"
	cp -a "$here" "$top/scripts"
}

report() {
	"$top/scripts/report.sh"
}

# tsv NAME: stdin, with blanks for tabs and _ for blanks, becomes NAME.tsv
tsv() {
	tr ' _' '\t ' >"$data/$1.tsv"
}

# The names of columns have their _.
header() {
	sed -i "1s/.*/$(tr ' ' '\t' <<<"$2")/" "$data/$1.tsv"
}

all_inputs() {
	tsv demo <<-'END'
	-
	flush_too_early 7792 256 3 0 1234567
	flush_in_time 0 0 0 0 20608
	END
	header demo "policy stale_translations_used pages_freed_while_reachable page_tables_freed_while_reachable device_faults accesses"
	tsv amd <<-'END'
	-
	munmap_4 1 8 4 4 1 4 68719476734 4 0 1020
	fork 1 4 5 2 1 1024 1024 1024 0 0
	migrate 2 8 4 4 1 4 68719476734 4 20 10
	END
	header amd "operation devices stock_commands commands stock_waits waits pages_changed stock_pages_flushed pages_flushed stock_left_of_1024 left_of_1024"
	tsv sites <<-'END'
	-
	mm/memory.c 12 zap flush_tlb_range gather - one,two -
	mm/x.c 1234567 other flush_tlb_all exempt kernel_mappings - -
	END
	header sites "file line function flush told reason reached_by mutant"
	tsv mutants <<-'END'
	-
	calls do_wp_page call_at_0x209 no_call killed mn_write
	calls other call_at_0x1 no_call survived -
	amd v2 a_wait left_out equivalent it_is_not_needed
	END
	header mutants "group site place mutation verdict killers"
	tsv bench <<-'END'
	-
	munmap-1 none base instructions 10000 9990 10020 2 1
	munmap-1 none stock instructions 10200 10030 10210 2 1.0200
	munmap-1 none series instructions 9950 9980 9990 2 0.9950
	mix none base instructions 1000000 999000 1001000 2 1
	mix none stock instructions 1000000 999000 1001000 2 1
	mix none series instructions 1000000 999000 1001000 2 1
	cow op1 base ns 500 499 510 1 1
	cow op1 stock ns 600 599 610 1 1.2000
	cow op1 series ns 550 549 560 1 1.1000
	END
	header bench "workload scenario state unit median min max flushes ratio"
	tsv size <<-'END'
	state bytes
	series 21196912
	END
	tsv atomics <<-'END'
	workload atomics
	cow 15
	END
	tsv scale <<-'END'
	cpus ns
	8 1500
	END
	tsv timeline <<-'END'
	policy who what from to number
	early kernel invalidate_range_start() 0 0 1
	early translations true 0 400 1
	early translations freed 5000 9000 1
	early tables true 0 9000 1
	early kernel pages_freed 5000 6000 8
	early kernel munmap()_returns 9000 9000 1
	early device pages_freed_in_reach 5000 6000 8
	early device freed_pages_in_reach_until 105000 105000 1
	in_time kernel invalidate_range_start() 0 0 1
	in_time kernel CPU_TLB_flush 3000 3000 1
	in_time kernel invalidate_range() 3400 3400 1
	in_time translations true 0 3400 1
	in_time translations none 3400 9000 1
	in_time kernel pages_freed 5000 6000 8
	in_time kernel munmap()_returns 9000 9000 1
	END
	sed -i 's/invalidate range/invalidate_range/' "$data/timeline.tsv"
	sed -i 's/invalidate_range start/invalidate_range_start/' "$data/timeline.tsv"
}

well_formed() {
	run xmllint --noout --nonet "$page"
}

# Namespaces are names, never loaded.
loads_nothing() {
	! sed 's/xmlns\(:xlink\)\?="[^"]*"//g' "$page" | grep -niE '(https?|ftp|file|data):|@import|<(script|link|img|iframe|object|embed|base)\b|src *=|url\([^#]|href *= *["'\''][^#]' >"$work/out"
}

has() {
	grep -qF -e "$1" "$page" || { echo "no '$1' in the page" >"$work/out"; false; }
}

lacks() {
	! grep -nF -e "$1" "$page" >"$work/out"
}

pictures() {
	local n

	n=$(grep -c '^</svg>' "$page")
	echo "$n pictures" >"$work/out"
	[ "$n" = "$1" ]
}

# --- the page -------------------------------------------------------------

test_nothing() {
	local name

	fresh
	check "without any input there is a page" run report
	check "it is well-formed" well_formed
	check "and loads nothing" loads_nothing
	check "and has no picture" pictures 0
	for name in timeline demo bench amd sites mutants size scale atomics; do
		check "$name.tsv is said to be missing" has "There is no <code>build/report/$name.tsv</code> yet."
	done
	check "with the command that makes it" has "<code>make mutants</code> makes it."
}

test_all() {
	fresh
	all_inputs
	check "with all inputs there is a page" run report
	check "it is well-formed" well_formed
	check "it loads nothing" loads_nothing
	check "it has a picture of the timeline, of each scenario, commands, sites and mutants" pictures 6
	check "nothing is missing" lacks 'class="missing"'
	check "each picture is told in words" [ "$(grep -c '<title id=.*<desc id="[a-z0-9-]*">[^<]' "$page")" = 6 ]
	check "an identifier is there once" eval '[ -z "$(grep -oE "\bid=.[a-zA-Z0-9_-]+" "$page" | tr \" "'\''" | sort | uniq -d | tee "$work/out")" ]'
	check "colours are those of the style sheet" eval '! grep -n "rgb( *1, *0," "$page" >"$work/out"'
	check "bars of stock have one" eval 'grep -qE "fill ?= ?.var\(--first\)" "$page"'
	check "bars of the series another" eval 'grep -qE "fill ?= ?.var\(--second\)" "$page"'
	check "there are styles for the dark" has "prefers-color-scheme: dark"
	check "numbers are grouped" has '>1,234,567<'
	check "also on an axis" has '>8,000<'
	check "a policy that fails is marked" has '<tr class="worse"><td>flush too early</td>'
	check "one that does not is not" has '<tr><td>flush in time</td>'
	check "more commands than stock are marked" has '<tr class="worse"><td>fork</td>'
	check "fewer translations left, too" has '<tr class="worse"><td>migrate</td>'
	check "what is better is not" has '<tr><td>munmap 4</td>'
	check "a mutant that survived is marked" has '<tr class="worse"><td>other</td>'
	check "one that is equivalent is not" has '<tr><td>v2</td>'
	check "cost is that of one flush, more than base" eval 'has ">+20<" && has ">-5<"'
	check "what runs too long for it is only in the table" eval '[ "$(grep -o "mix" "$page" | wc -l)" = 3 ]'
	check "how long freed pages are in reach is said" has "stay in its reach for 100,000 instructions"
	check "and how long before they are freed the callback comes" has "400 instructions after the CPU TLB flush has begun and 1,600 before"
	check "the sites are counted" has 'needs no call, for the reason given: 1</summary>'
	cp "$page" "$work/first"
	run report
	check "a second page is the same" run cmp "$work/first" "$page"
	check "nothing else is left there" [ "$(find "$data" ! -name '*.tsv' -type f | wc -l)" = 1 ]
}

# spoilt NAME SED-SCRIPT SAYS: the page is made, and says so
spoilt() {
	all_inputs
	sed -i "$2" "$data/$1.tsv"
	run report && cp "$work/out" "$work/log" && has "<code>build/report/$1.tsv</code> is damaged: $3" && well_formed && loads_nothing
}

test_damaged() {
	local broken

	broken=$(mktemp -u "${TMPDIR:-/tmp}/broken.XXXXXX")
	fresh
	check "a line that is cut off" spoilt demo '3s/\t[^\t]*$//' "line 3 has 5 columns of 6"
	check "is named on stderr, too" grep -q "make run makes it again" "$work/log"
	check "a column that is not there" spoilt amd '1s/stock_waits/waits_of_stock/' "it has no column stock_waits"
	check "nothing but a header" spoilt sites '2,$d' "it has no rows"
	check "a table of something else" spoilt mutants '1s/.*/<b>/' "it has no column group"
	check "a bad line in what has any columns" spoilt size '2s/\t.*//' "line 2 has 1 columns of 2"
	check "the others are shown all the same" pictures 6

	all_inputs
	head -c 3000 /dev/urandom >"$data/bench.tsv"
	check "noise gives a page" run report
	check "that is well-formed" well_formed
	: >"$data/bench.tsv"
	check "an empty file gives a page" run report
	check "that says it is missing" has "There is no <code>build/report/bench.tsv</code>"

	all_inputs
	sed -i 's/flush in time/<script src="http:x">\&amp;/' "$data/demo.tsv"
	sed -i "s/munmap 4/a'b\"c<d>\&/; s|munmap-1|\`touch $broken\`|" "$data/amd.tsv" "$data/bench.tsv"
	sed -i "s|^early|\`touch $broken\`\"\\\\|" "$data/timeline.tsv"
	sed -i 's/zap/z\x01\xff\xfep/' "$data/sites.tsv"
	check "markup, quotes and control characters give a page" run report
	check "that is well-formed" well_formed
	check "and has them as text" has '&lt;script src='
	check "in what is told of a picture, too" eval 'grep -q "<desc id=.amd-picture-text.*c&lt;d&gt;&amp;" "$page"'
	check "no command in them was run" [ ! -e "$broken" ]
	all_inputs
	sed -i "2,\$s/\tbase\tinstructions\t1000000/\tbase\tinstructions\tmany/; s|1.0200|much'; system('touch $broken')|" "$data/bench.tsv"
	sed -i "2s|\t1\t8\t|\t1'; system('touch $broken'); x='\t8'; system('touch $broken')\t|" "$data/amd.tsv"
	check "numbers that are none give a page" run report
	check "that is well-formed" well_formed
	check "and run nothing" [ ! -e "$broken" ]
}

test_tools() {
	fresh
	all_inputs
	run report
	cp "$page" "$work/first"
	stub dpkg-query <<<'echo "un "'
	stub id <<<'echo 1000'
	check "without the package, there is the line that installs it" fails_saying "apt-get install -y --no-install-recommends gnuplot-nox" stubbed report
	stub dpkg-query <<<'echo "ii "'
	mkdir "$work/few"
	for cmd in bash dirname realpath awk sed iconv dpkg-query apt-get xargs echo mkdir; do
		ln -s "$(type -P "$cmd")" "$work/few/$cmd" 2>/dev/null
	done
	ln -sf "$stubs/dpkg-query" "$work/few/dpkg-query"
	check "without gnuplot, too" fails_saying "the command 'gnuplot' is missing" env PATH="$work/few" "$top/scripts/report.sh"
	check "the old page stays" run cmp "$work/first" "$page"
	stub gnuplot <<<'echo; echo "no such <terminal>" >&2; exit 1'
	check "a gnuplot that fails is quoted" run stubbed report
	check "in each picture's place" has 'gnuplot could not draw this picture: no such &lt;terminal&gt;'
	check "and the page is well-formed" well_formed
	rm -r "$stubs" "$work/few"
	check "an argument is refused" fails_saying "usage: report.sh" "$top/scripts/report.sh" x
	rm -r "$top/build"
	: >"$top/build"
	check "a place that cannot be written" fails_saying "cannot create $data" report
}

# --- the timeline ---------------------------------------------------------

# number of instructions, event, address: a device under a policy that flushes when the
# script given says so. One page in one page table.
events() {
	sed -n '/^[0-9]/p' <<-'END' | tr ' ' '\t'
	10 bound -
	20 in_run -
	30 access ffff888000000000
	35 pointer -
	40 held ffff888000001003
	45 translation -
	50 held ffff888000001043
	60 out -
	100 munmap -
	110 start -
	120 in_start -
	180 access ffff888000000000
	200 out -
	220 cleared ffff888000005008
	240 end -
	250 unlinked ffff888000006010
	260 flush -
	270 callback -
	275 in_callback -
	276 dropped ffff888000001004
	277 dropped ffff888000001044
	290 out -
	300 in_free -
	310 out -
	320 batched -
	330 listed ffff888000009999
	331 listed ffffea0000000208
	340 batched -
	350 listed ffffea0000000148
	355 listed ffffea0000000308
	400 in_touch -
	420 out -
	END
}

# timeline SED-SCRIPT ROW: of the events that are left
timeline() {
	events | sed "$1" >"$work/events"
	tr ' ' '\t' <<<"$2" >"$work/rows"
	awk -f "$top/scripts/report/timeline.awk" "$work/rows" "$work/events"
}

# tells SED-SCRIPT ROW WHO WHAT FROM TO NUMBER
tells() {
	run timeline "$1" "$2" &&
		grep -qx "p	$(printf '%s\t%s\t%s\t%s\t%s' "$3" "$4" "$5" "$6" "$7")" "$work/out"
}

test_timeline() {
	local in_time="p 0 0 0 0 2" late="p 0 1 1 0 2"
	local forgets='/dropped/d; s/^300.*/&\n302\treached\tffff888000001003\n303\treached_table\t-\n304\treached\tffff888000001043\n305\treached_page\t-/'

	fresh
	check "time begins with invalidate_range_start()" tells '' "$in_time" kernel "invalidate_range_start()" 0 0 1
	check "what the device does takes none" tells '' "$in_time" kernel "page-table entries cleared" 30 30 1
	check "the callback is told of" tells '' "$in_time" kernel "invalidate_range()" 80 80 1
	check "a page is known by its frame" tells '' "$in_time" kernel "pages freed" 116 116 1
	check "a page table, too; and what is not of the batch is not told of" tells '' "$in_time" kernel "page tables freed" 135 135 1
	check "the device has what the page table has, first" tells '' "$in_time" translations true 0 30 1
	check "then what it has had" tells '' "$in_time" translations old 30 85 1
	check "then nothing" tells '' "$in_time" translations none 85 185 1
	check "a device that keeps it can reach what is freed" tells "$forgets" "$late" translations freed 116 185 1
	check "and walk page tables that are" tells "$forgets" "$late" tables freed 135 185 1
	check "what is traced has to be what was counted" fails_saying "the trace has 1 pages, 1 tables, 2 accesses, the demonstration 0, 0, 2" timeline "$forgets" "$in_time"
	check "accesses, too" fails_saying "2 accesses, the demonstration 0, 0, 3" timeline '' "p 0 0 0 0 3"
	check "a trace without munmap()" fails_saying "no munmap() was traced" timeline /munmap/d "$in_time"
	check "an empty trace" fails_saying "the trace has 0 policies, the demonstration 1" timeline 1,\$d "$in_time"

	check "a kernel that is not there" fails_saying "run 'make run'" "$top/scripts/timeline.sh"
	check "an architecture it is not for" fails_saying "the timeline is that of x86-64" env ARCH=arm64 "$top/scripts/timeline.sh"
	check "the plugin compiles without a warning" run gcc -Wall -Wextra -Wno-unused-parameter -Werror -shared -fPIC -o "$work/plugin.so" "$top/scripts/report/instructions.c"
	all_inputs
	mkdir -p "$BUILD/kernels/series"
	sleep 0.1
	echo kernel >"$BUILD/kernels/series/vmlinux"
	cp "$data/timeline.tsv" "$work/timeline.tsv"
	check "a kernel that cannot be traced leaves a page" run report
	check "and says why" grep -q "there is no build/kernels/series/vmlinux.debug" "$work/out"
	check "and the timeline that was there" run cmp "$work/timeline.tsv" "$data/timeline.tsv"
}

test_nothing
test_all
test_damaged
test_tools
test_timeline
finish
