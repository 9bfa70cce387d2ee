#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-check.sh: check.sh on a series of three patches to a kernel of a few lines, whose
# Makefile says what a real one would. Everything happens in a scratch directory.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

# --- a kernel ---------------------------------------------------------------

# compile OBJECT O W C: as make and gcc print it. In the source, "error" is one; a line
# with "warning" has one, with "w1" only with W=1, with "sparse" only with C=1.
write_compiler() {
	cat >"$lin/compile" <<-'EOF'
	#!/bin/bash
	object=$1 out=$2 c=${1%.o}.c
	[ -e "$c" ] || { echo "make: *** No rule to make target '$object'.  Stop." >&2; exit 2; }
	if [ "$out/$object" -nt "$c" ]; then exit 0; fi
	mkdir -p "$out/${object%/*}"
	echo "  CC      $object"
	if grep -q slow "$c"; then echo half >"$out/$object"; exec sleep 1000; fi
	if grep -n error "$c" | sed "s|^|$c:|; s|error|5: error: it|" | grep . >&2; then
		echo "make: *** [Makefile:1: $object] Error 1" >&2
		exit 1
	fi
	awk -v c="$c" '/warning/ { print c ":" FNR ":9: warning: plain: " $0 }' "$c" >&2
	if [ -n "$3" ]; then awk -v c="$c" '/w1/ { print c ":" FNR ":9: warning: with W=1: " $0 "\n  " FNR " | " $0 }' "$c" >&2; fi
	if [ -n "$4" ]; then echo "  CHECK   $c"; awk -v c="$c" '/sparse/ { print c ":" FNR ": warning: by sparse: " $0 }' "$c" >&2; fi
	cp "$c" "$out/$object"
	EOF
	chmod +x "$lin/compile"
}

write_makefile() {
	cat >"$lin/Makefile" <<-'EOF'
	.RECIPEPREFIX = >
	objects = $(patsubst %.c,%.o,$(wildcard mm/*.c lib/*.c))
	.PHONY: FORCE vmlinux modules
	Makefile: ;
	%config:
	>@echo $@ $(ARCH) $(CROSS_COMPILE) >>"$(O)/../made"
	>@cat config >"$(O)/.config"
	vmlinux: $(objects)
	>@cat $(addprefix $(O)/,$(objects)) >"$(O)/vmlinux"
	modules:
	mm/ lib/: FORCE
	>@for c in $@*.c; do ./compile "$${c%.c}.o" "$(O)" "$(W)" "$(C)" || exit; done
	ifeq ($(ARCH),x86_64)
	drivers/x86/: FORCE
	>@for c in $@*.c; do ./compile "$${c%.c}.o" "$(O)" "$(W)" "$(C)" || exit; done
	endif
	%.o: FORCE
	>@echo $@ $(ARCH) >>"$(O)/../made"
	>@./compile "$@" "$(O)" "$(W)" "$(C)"
	EOF
}

write_kernel() {
	lin=$top/build/linux
	mkdir -p "$lin"/{mm,lib,include,drivers/x86,scripts/kconfig} "$top/base/configs"
	write_compiler
	write_makefile
	echo : | tee "$top/base/configs"/{common,x86_64,bench,none}.config >"$lin/scripts/kconfig/merge_config.sh"
	echo : >"$lin/scripts/config"
	chmod +x "$lin/scripts/kconfig/merge_config.sh" "$lin/scripts/config"
	echo CONFIG_PCI=y >"$lin/config"
	touch "$lin/Kconfig"
	printf 'int a;\n\nint w1;\nint sparse;\n' >"$lin/mm/a.c"
	echo 'int b;' >"$lin/mm/b.c"
	git init -q -b series "$lin"
	commit "Linux 6.1.0"
	git -C "$lin" tag stock
	git -C "$lin" tag base
}

commit() {
	git -C "$lin" add -A
	git -C "$lin" commit -q -m "$1"
}

# The file of that name, in a patch on top.
patch() { # NAME TEXT
	mkdir -p "$lin/${1%/*}"
	printf '%s\n' "$2" >"$lin/$1"
	commit "change $1"
}

good_series() {
	git -C "$lin" checkout -q -f -B series base
	patch mm/a.c $'int c;\nint a;\n\nint w1;\nint sparse;'
	mkdir -p "$lin/lib"
	echo 'int test;' >"$lin/lib/test.c"
	echo CONFIG_MMU_NOTIFIER_KUNIT_TEST=y >>"$lin/config"
	echo config >>"$lin/Kconfig"
	commit "add tests"
	patch drivers/x86/c.c 'int c;'
}

# fresh: a copy of the scripts, of which three are stubs
fresh() {
	rm -rf "$top"
	mkdir -p "$top/build"
	cp -a "$here" "$top/scripts"
	echo 'exit 0' >"$top/scripts/tree.sh"
	cat >"$top/scripts/checkpatch.sh" <<-'EOF'
	if grep -n '^+.*ugly' "$1" | sed 's/^/WARNING: /' | grep . >&2; then exit 1; fi
	EOF
	cat >"$top/scripts/boot.sh" <<-'EOF'
	#!/bin/bash
	log=$4
	rm -f "$log.cases"
	if grep -q panic "$2"; then echo "error: the kernel panics" >&2; exit 2; fi
	if grep -q test "$2"; then printf 'suite\tpass\tone\nsuite\tpass\ttwo\n' >"$log.cases"; fi
	if grep -q nocase "$2"; then : >"$log.cases"; fi
	exit 0
	EOF
	write_kernel
	good_series
}

tools() {
	local name

	stub dpkg-query <<<'echo "ii "'
	stub ccache <<<'exec "$@"'
	for name in sparse {aarch64,powerpc64le,riscv64}-linux-gnu-gcc; do
		stub "$name" <<<'echo "$0"'
	done
}

# --- and what is made of it -------------------------------------------------

go() {
	stubbed "$top/scripts/check.sh" "$@"
}

only() {
	local checks=$1

	shift
	CHECKS=$checks go "$@"
}

# gives STATUS TEXT COMMAND...: ends with this status and says this
gives() {
	local want=$1 text=$2 got=0

	shift 2
	run "$@" || got=$?
	[ "$got" = "$want" ] && grep -qF -e "$text" "$work/out"
}

said() {
	grep -qE -e "$1" "$work/out"
}

made() {
	wc -l <"$top/build/check/made"
}

test_all() {
	check "three good patches pass" gives 0 "21 passed, 0 failed, 3 skipped" go
	check "one line for each patch and check" [ "$(grep -cE '^(ok|skip) - 000[123] ' "$work/out")" = 24 ]
	check "what W=1 and sparse say of base is not new, though its lines move" said '^ok - 0001 arm64: 1 objects, nothing new'
	check "it boots before there are tests" said '^ok - 0001 test: 2 objects, boots \('
	check "and has cases from then on" said '^ok - 0002 test: [12] objects, boots, 2 KUnit cases pass'
	check "what an architecture does not have is skipped" said '^skip - 0003 riscv: not of riscv: drivers/x86/'
	check "and compiled where it is" said '^ok - 0003 x86_64: 1 objects'
	check "powerpc is little endian" grep -q '^ppc64le_allmodconfig powerpc powerpc64le-linux-gnu-' "$top/build/check/made"
	local before
	before=$(made)
	check "a second call" gives 0 "21 passed, 0 failed, 3 skipped" go
	check "compiles nothing" [ "$(made)" = "$before" ]
	check "without what has passed, it does" eval 'rm -r "$top/build/check/passed"; run go 1 && [ "$(made)" -gt "$before" ]'
	check "one patch" gives 0 "[2/2] add tests" go 2
	check "one check" gives 0 "3 passed, 0 failed" only none
}

test_failures() {
	local before

	good_series
	patch mm/b.c 'int w1_of_b;'
	check "a new warning of W=1 is named" gives 1 "not ok - 0004 x86_64: new: mm/b.c: warning: with W=1: int w1_of_b;" only "x86_64 test"
	check "what passed before it is kept" said '^ok - 0001 x86_64'
	patch mm/b.c 'int sparse_of_b;'
	check "one of sparse is" gives 1 "not ok - 0005 arm64: new: mm/b.c: warning: by sparse" only arm64
	good_series
	patch mm/b.c 'warning'
	check "a warning fails the kernel of the tests" gives 1 "not ok - 0004 test: mm/b.c:1:9: warning: plain" only test
	check "and fails it again, though nothing is compiled" gives 1 "not ok - 0004 test: mm/b.c:1:9: warning: plain" only test
	good_series
	patch mm/b.c 'error'
	patch mm/b.c 'int fine;'
	check "a patch that does not compile" gives 1 "not ok - 0004 none: mm/b.c:1:5: error: it" only "none allmod riscv"
	check "in any configuration" said '^not ok - 0004 allmod: mm/b.c:1:5: error: it; build/check/allmod.log has the rest'
	check "on any architecture" said '^not ok - 0004 riscv: mm/b.c:1:5: error: it'
	check "is not healed by the next one, which is good" said '^ok - 0005 none'
	check "the last line has the number" [ "$(tail -n 1 "$work/out" | cut -d , -f 1-2)" = "11 passed, 3 failed" ]
	good_series
	patch mm/b.c 'int panic;'
	check "a kernel that does not boot" gives 1 "not ok - 0004 test: built, but: the kernel panics; build/check/test.console" only test
	good_series
	patch mm/b.c 'int nocase;'
	check "suites that run no case" gives 1 "not ok - 0004 test: there are suites, and no case was run" only test
	good_series
	patch mm/b.c 'ugly'
	check "what checkpatch says" gives 1 "not ok - 0004 checkpatch: WARNING: " only checkpatch
	good_series
	run only none
	before=$(made)
	git -C "$lin" checkout -q -B series HEAD~1
	patch lib/test.c "int other_test;"
	check "when a patch changes" gives 0 "ok - 0003 none: " only none
	check "only that one is looked at again" [ "$(made)" = $((before + 3)) ]
}

no_make() {
	local n=0

	while pgrep -af "make.*$top/build/check" >"$work/out"; do
		[ $((n += 1)) -le 100 ] || return
		sleep 0.1
	done
}

test_interrupted() {
	good_series
	patch mm/b.c 'slow'
	CHECKS=none setsid "$top/scripts/check.sh" >/dev/null 2>&1 &
	local n=0 pid=$!
	until grep -qs half "$top/build/check/none/mm/b.o" || [ $((n += 1)) = 300 ]; do sleep 0.1; done
	check "two at once are one too many" fails_saying "another make check is under way" only none
	kill -9 -- -"$pid"
	wait "$pid" 2>/dev/null
	check "after kill -9 in the middle of an object" [ -e "$top/build/check/none/.running" ]
	good_series
	check "the next call builds it all again" gives 0 "3 passed, 0 failed" eval 'rm -rf "$top/build/check/passed"; only none'
	check "and half an object is not there" eval '! grep -rq half "$top/build/check/none"'
	patch mm/b.c slow
	CHECKS="none riscv" "$top/scripts/check.sh" 4 >/dev/null 2>&1 &
	pid=$!
	n=0
	until grep -qs half "$top/build/check/none/mm/b.o" || [ $((n += 1)) = 300 ]; do sleep 0.1; done
	kill $pid
	wait $pid 2>/dev/null
	check "when it is terminated, so are its makes" no_make
	check "and the next call does not have to begin again" [ ! -e "$top/build/check/none/.running" ]
	good_series
}

test_arguments() {
	check "a patch that is not there" fails_saying "there is no patch '4'; give numbers from 1 to 3" go 4
	check "a patch that is no number" fails_saying "there is no patch 'x'" go x
	check "a check that is not there" fails_saying "there is no check 'vax'; CHECKS= takes checkpatch test" only vax
	check "ARCH=" fails_saying "CHECKS=arm64 takes the objects of that architecture" env ARCH=arm64 PATH="$stubs:$PATH" "$top/scripts/check.sh"
	rm -rf "$top/build/check"
	check "too little disk" fails_saying "are needed" env NEED_MB=99999999 PATH="$stubs:$PATH" "$top/scripts/check.sh"
	check "writes nothing" [ ! -e "$top/build/check" ]
	check "a blank in the path" fails_saying "has a blank or a colon" env BUILD="$top/a b" PATH="$stubs:$PATH" "$top/scripts/check.sh"
}

top=$(mktemp -d)
trap 'rm -rf "$work" "$top"' EXIT
export BUILD=$top/build
tools
export PATH=$stubs:$PATH
fresh
test_all
test_failures
test_interrupted
test_arguments
finish
