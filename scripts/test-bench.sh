#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-bench.sh: the tables of bench.sh and size.sh, on hostile input. Everything happens in
# a scratch directory (with a blank in its name). Kernels, boots and what they measure are
# made up.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

unset BOOT BENCH_ONLY
export BUILD=$top/build WORK=$work
data=$BUILD/report

# --- what is made up ------------------------------------------------------

# script NAME: stdin becomes one of the scripts
script() {
	{ echo '#!/bin/bash'; cat; } >"$top/scripts/$1"
}

# consoles STATE MEDIAN CALLS: of a boot for each of the two tables. Some lines have the time in
# front.
consoles() {
	cat <<-END | tr ' ' '\t' | sed '/mmu_gather\|op2/s/^/[    1.234567] /' >"$work/console.$1.workloads"
	size mm_struct 944
	size task_struct 6656
	size mmu_gather $((100 + $2 / 100))
	size mmu_notifier 56
	bench munmap-1 none instructions $2 990 1010 0
	# bench: what else is said
	bench munmap-1 op1 instructions $2 $(($2 - 10)) $(($2 + 20)) $3
	bench munmap-1 op2 instructions 0 0 0 77
	bench cow none instructions 500 500 500 0
	END
	printf 'bench\tscale-8\tnone\tinstructions\t%s\t3\t5\t0\n' "$2" >"$work/console.$1.scale"
}

# object NAME TEXT: assembler
object() {
	mkdir -p "$(dirname "$1")"
	printf '%s\n' "$2" | gcc -c -x assembler -o "$1" -
}

# As many calls as NUMBER.
make_vmlinux() {
	local i text='.globl f, __mmu_notifier_invalidate_range
	.type f, @function
	.type __mmu_notifier_invalidate_range, @function
	__mmu_notifier_invalidate_range:
		ret
	.size __mmu_notifier_invalidate_range, 1
	f:'

	for ((i = 0; i < $2; i++)); do
		text="$text
		call __mmu_notifier_invalidate_range"
	done
	object "$1" "$text
		ret
	.size f, . - f"
	ld -e f -o "$1.linked" "$1"
	mv "$1.linked" "$1"
}

make_scripts() {
	stub dpkg-query <<<'echo "ii "'
	script tree.sh <<<'exit 0'
	script initrd.sh <<<'echo "$*" >"$WORK/initrd"'
	script atomics.sh <<<'echo "atomics with BOOT=$BOOT, $(wc -l <"$BUILD/report/bench.tsv") lines"'
	script build.sh <<-'END'
	echo "$*" >>"$WORK/built"
	out=$BUILD/kernels/$1
	mkdir -p "$out"
	case $1 in
	*-bench) cp "$WORK/vmlinux.${1%-bench}" "$out/vmlinux" ;;
	*) cp -RT "$WORK/objects.${1%-none}" "$out/objects" ;;
	esac
	END
	script boot.sh <<-'END'
	echo "$*" >>"$WORK/boots"
	while [ $# -gt 0 ]; do
		case $1 in
		-k) kernel=$2 ;;
		-o) log=$2 ;;
		esac
		shift
	done
	name=${log##*/}
	name=${name%.log}
	[ "${FAILS%=*}" != "$name" ] || { echo "error: $kernel: stub" >&2; exit "${FAILS#*=}"; }
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

# All is well then.
fresh() {
	local state

	rm -rf "$top" "$work"/{objects,console,vmlinux}.* "$work/boots" "$work/built"
	mkdir -p "$data"
	cp -a "$here" "$top/scripts"
	make_scripts
	make_repository
	consoles base 1000 0
	consoles stock 1100 9
	consoles series 1050 2
	make_vmlinux "$work/vmlinux.base" 0
	make_vmlinux "$work/vmlinux.stock" 3
	make_vmlinux "$work/vmlinux.series" 5
	for state in base series; do
		object "$work/objects.$state/mm/memory.o" 'nop; ret'
		object "$work/objects.$state/mm/named-same.o" 'nop; nop; ret'
		object "$work/objects.$state/kernel/fork.o" 'ret'
	done
}

bench() {
	stubbed "$top/scripts/bench.sh"
}

size() {
	stubbed "$top/scripts/size.sh"
}

# row TABLE WORD...: with tabs
row() {
	local IFS=$'\t'

	grep -qx "${*:2}" "$data/$1.tsv" || { cp "$data/$1.tsv" "$work/out"; false; }
}

# shows LINE: of the output, whatever the blanks
shows() {
	sed -E 's/ +/ /g; s/^ | $//g' "$work/out" | grep -qxF -e "$1"
}

# boots NUMBER TEXT: so many had this
boots() {
	cp "$work/boots" "$work/out"
	[ "$(grep -cF -e "$2" "$work/boots")" = "$1" ]
}

# --- bench.sh -------------------------------------------------------------

makefile_of() {
	run git -C "$top/build/linux" show "refs/tags/$1-bench:lib/Makefile"
}

test_tables() {
	fresh
	check "a benchmark" run bench
	cp "$work/out" "$work/log"
	check "counts its steps" grep -q '^\[14/14\] sizes' "$work/log"
	check "bench.tsv has its columns" row bench workload scenario state unit median min max flushes ratio
	check "and a row for each workload, scenario and state" [ "$(wc -l <"$data/bench.tsv")" = 13 ]
	check "base has ratio 1" row bench munmap-1 none base instructions 1000 990 1010 2 1.0000
	check "stock is compared with base" row bench munmap-1 none stock instructions 1100 990 1010 2 1.1000
	check "the series, too; flushes are its calls with one subscriber" row bench munmap-1 op1 series instructions 1050 1040 1070 2 1.0500
	check "no other calls are flushes" row bench cow none series instructions 500 500 500 0 1.0000
	check "a median of 0 has no ratio" grep -qx "munmap-1	op2	series	instructions	0	0	0	2	" "$data/bench.tsv"
	check "scale.tsv is there" row scale scale-8 none series instructions 1050 3 5 0 1.0500
	cp "$work/log" "$work/out"
	check "the table has ratios, and what a flush costs" shows "munmap-1 op1 2 1000 3.0% 1.100 1.050 +50.0 +25.0"
	check "which is nothing without flushes" shows "cow none 500 0.0% 1.000 1.000"
	check "the one of CPUs" shows "scale-8 none 1000 0.2% 1.100 1.050"
	check "the one of sizes" shows "struct mmu_gather bytes 110 111 110"
	check "and the atomic accesses, when bench.tsv is there" shows "atomics with BOOT=, 13 lines"

	check "each state boots twice" eval 'boots 2 /base-bench/vmlinux && boots 2 /stock-bench/vmlinux && boots 2 /series-bench/vmlinux'
	check "instructions are counted" boots 6 " -c "
	check "addresses are not random, other CPUs come later" boots 6 " maxcpus=1 norandmaps"
	check "no KUnit, but the initrd" boots 6 "-i $BUILD/guest/bench.cpio -o"
	check "that is judged alone" boots 6 " -n "
	check "3 boots have 8 CPUs" boots 3 " -s 8 "
	check "and run what is for them" boots 3 BENCH_SCALE=1
	check "no unit is given" boots 0 BENCH_UNIT
	check "nor workloads" boots 0 BENCH_ONLY
	check "the initrd is that of bench.c" grep -qF -e "-p $top/scripts/bench/bench.c $BUILD/guest/bench.cpio" "$work/initrd"
	check "base has no op to implement" eval 'makefile_of base && grep -q "obj-y += mmu_subscribers.o" "$work/out" && ! grep HAVE_INVALIDATE_RANGE "$work/out"'
	check "stock has" eval 'makefile_of stock && grep -q HAVE_INVALIDATE_RANGE "$work/out"'
	check "the series has" eval 'makefile_of series && grep -q HAVE_INVALIDATE_RANGE "$work/out"'
	check "an argument is refused" fails_saying "usage: bench.sh" "$top/scripts/bench.sh" x
	check "another architecture, too" fails_saying "that of x86-64" env ARCH=arm64 "$top/scripts/bench.sh"
}

# breaks TEXT COMMAND...: says TEXT, and the old tables stay
breaks() {
	local file

	for file in bench scale size; do
		echo old >"$data/$file.tsv"
	done
	fails_saying "$@" && [ "$(sort -u "$data"/{bench,scale,size}.tsv)" = old ] && [ -z "$(find "$data" -name '*.tmp*')" ]
}

# spoilt CONSOLE SED-SCRIPT TEXT
spoilt() {
	local good=$work/good

	cp "$work/console.$1" "$good"
	sed -i "$2" "$work/console.$1"
	breaks "$3" bench
	set -- "$1" $?
	cp "$good" "$work/console.$1"
	return "$2"
}

test_broken() {
	fresh
	check "a boot whose tests fail ends it with one line" breaks "stock-bench/vmlinux: stub" env FAILS=stock.workloads=1 PATH="$stubs:$PATH" "$top/scripts/bench.sh"
	check "one that breaks, too" breaks "base-bench/vmlinux: stub" env FAILS=base.workloads=2 PATH="$stubs:$PATH" "$top/scripts/bench.sh"
	check "also after others were good" breaks "series-bench/vmlinux: stub" env FAILS=series.scale=2 PATH="$stubs:$PATH" "$top/scripts/bench.sh"
	check "nothing boots after that" [ "$(tail -n 1 "$work/boots" | grep -c series.scale)" = 1 ]
	check "consoles without rows" eval 'for s in base stock series; do sed -i /bench/d "$work/console.$s.workloads"; done; breaks "there are no rows" bench'
	check "are an error before the next boots" eval '! tail -n 1 "$work/boots" | grep BENCH_SCALE'
	fresh
	check "a state without rows" spoilt stock.workloads /bench/d "stock has no row for munmap-1, none"
	check "a row that one state does not have" spoilt series.workloads '/cow/d' "series has no row for cow, none; the consoles are build/bench/STATE.workloads.log"
	check "one that only one has" spoilt series.workloads 's/cow/migrate-64/' "series has no row for cow, none"
	check "a row missing for the CPUs" spoilt base.scale d "base has no row for scale-8, none"
	check "a row that is cut off" spoilt base.workloads '/cow/s/\t[0-9]*$//' 'base has a damaged row, "cow none"'
	check "one with something else than numbers" spoilt series.workloads '/munmap-1\tnone/s/1050/many/' 'series has a damaged row, "munmap-1 none"'
	script build.sh <<<'echo "error: no kernel of $1" >&2; exit 1'
	check "a kernel that does not build" breaks "no kernel of base-bench" bench
}

test_options() {
	local name

	fresh
	check "a workload that is unknown is refused, with those that are known" breaks "'nonsense', which is no workload; give some of these, with commas: munmap-1 munmap-64 " env BENCH_ONLY=cow,nonsense "$top/scripts/bench.sh"
	check "before anything is built" [ ! -e "$work/built" ]
	for name in 'cow, mix' 'munmap,' munmap ,cow 'c*' none; do
		check "so is '$name'" breaks "which is no workload" env BENCH_ONLY="$name" "$top/scripts/bench.sh"
	done
	check "all of bench.c are known" eval '[ "$(grep -oE "^	\{ \"[a-zA-Z0-9-]+\", [a-z0-9_]+, [0-9]+ \}" "$here/bench/bench.c" | cut -d \" -f 2 | xargs)" = "$(sed -n "s/.*with commas: //p" "$work/out")" ]'
	check "known ones run" run env BENCH_ONLY=cow,fork-256M PATH="$stubs:$PATH" "$top/scripts/bench.sh"
	check "the guest is told" boots 3 BENCH_ONLY=cow,fork-256M
	check "time is that of instructions" boots 6 " -c "

	for name in kvm "ssh box"; do
		rm "$work/boots"
		check "with BOOT=$name" run env BOOT="$name" PATH="$stubs:$PATH" "$top/scripts/bench.sh"
		check "atomic accesses are counted by QEMU" grep -q "^atomics with BOOT=, " "$work/out"
		check "no instructions are counted in boots" boots 0 " -c "
		check "the guest measures ns" boots 6 BENCH_UNIT=ns
	done
}

# --- size.sh --------------------------------------------------------------

test_size() {
	local file

	fresh
	check "without consoles, what makes them is said" fails_saying "there is no build/bench/base.workloads.log; run 'make bench'" size
	check "and nothing is written" [ ! -e "$data/size.tsv" ]
	run bench
	check "with them there are sizes" run size
	check "of structures, from the console" row size "struct mmu_gather" bytes 110 111 110
	check "of code" row size "code of the kernel" bytes 2 17 27
	check "calls are counted" row size "calls of the callback's functions" calls 0 3 5
	check "the table has differences to base" shows "code of the kernel bytes 2 +15 +25"
	check "objects without notifiers are the same" shows "Without CONFIG_MMU_NOTIFIER: 3 of 3 objects are the same in base and series."
	check "those of mm and what includes it" grep -qx "series-none mm/ fs/proc/ kernel/events/ kernel/fork.o" "$work/built"

	object "$work/objects.series/mm/named-same.o" 'nop; nop; nop; nop; ret'
	check "one that differs" run size
	check "is counted" shows "Without CONFIG_MMU_NOTIFIER: 2 of 3 objects are the same in base and series."
	check "and named" shows "mm/named-same.o +2 bytes of code"
	object "$work/objects.series/mm/named-same.o" 'nop; cld; ret'
	check "also if it is as long" eval 'run size && shows "mm/named-same.o +0 bytes of code"'
	object "$work/objects.series/mm/new.o" 'nop; ret'
	check "one that base does not have is no less" eval 'run size && shows "mm/new.o +2 bytes of code"'
	rm "$work/objects.series/mm/memory.o" "$BUILD/kernels/series-none/objects/mm/memory.o"
	check "nor one that the series does not have" eval 'run size && shows "mm/memory.o -2 bytes of code"'
	echo "no object" | tee "$work/objects.base/kernel/fork.o" >"$work/objects.series/kernel/fork.o"
	check "two that are damaged are not the same" fails_saying "objdump cannot read build/kernels/base-none/objects/kernel/fork.o" size
	rm -r "$BUILD"/kernels/*-none "$work"/objects.*/*
	check "no objects are not the same, either" fails_saying "there are no objects in build/kernels/base-none/objects" size

	fresh
	run bench
	sed -i /mmu_gather/d "$BUILD/bench/stock.workloads.log"
	check "a console without a size" breaks "build/bench/stock.workloads.log does not have the size of struct mmu_gather" size
	for file in bench/base.workloads.log kernels/stock-bench/vmlinux; do
		rm "$BUILD/$file"
		check "without $file" breaks "there is no build/$file; run 'make bench'" size
		run bench
	done
	check "an argument is refused" fails_saying "usage: size.sh" "$top/scripts/size.sh" x
}

test_tables
test_broken
test_options
test_size
finish
