#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-check.sh: check.sh on a series of three patches to a kernel of a few lines, whose
# Makefile says what a real one would.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/tests/test-lib.sh
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
	if grep -q slow "$c"; then echo half >"$out/$object"; exec sleep "$DOZE"; fi
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
	>@cat config >"$(O)/.config"
	vmlinux: $(objects)
	>@cat $(addprefix $(O)/,$(objects)) >"$(O)/vmlinux"
	modules:
	mm/ lib/: FORCE
	>@for c in $@*.c; do ./compile "$${c%.c}.o" "$(O)" "$(W)" "$(C)" || exit; done
	ifeq ($(ARCH),x86_64)
	drivers/x86/: FORCE
	>@for c in $@*.c; do ./compile "$${c%.c}.o" "$(O)" "$(W)" "$(C)" || exit; done
	drivers/x86/sub/: FORCE
	>@if [ -n "$(filter drivers/x86/,$(MAKECMDGOALS))" ]; then echo "make: *** [Makefile:1: drivers/x86/] Error 123" >&2; exit 1; fi
	endif
	%.o: FORCE
	>@./compile "$@" "$(O)" "$(W)" "$(C)"
	EOF
}

write_kernel() {
	lin=$top/build/linux
	mkdir -p "$lin"/{mm,lib,include,drivers/x86,scripts/kconfig}
	write_compiler
	write_makefile
	echo : | tee "$top/configs"/{common,x86_64,bench,none}.config >"$lin/scripts/kconfig/merge_config.sh"
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

# A copy of the scripts, of which three are stubs.
prepare() {
	local name

	fresh
	no_packages_missing
	stub ccache <<<'exec "$@"'
	for name in sparse {aarch64,powerpc64le,riscv64}-linux-gnu-gcc; do
		stub "$name" <<<'echo "$0"'
	done
	script tree/tree.sh <<<'exit 0'
	script tree/checkpatch.sh <<<'exit 0'
	script kernel/boot.sh <<-'EOF'
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

# --- and what is made of it -------------------------------------------------

# only CHECKS PATCH...
only() {
	CHECKS=$1 stubbed "$top/scripts/prove/check.sh" "${@:2}"
}

test_check() {
	check "good patches pass, and what an architecture does not have is skipped" \
		gives 0 "3 passed, 0 failed, 1 skipped" only "test riscv" 2 3

	patch mm/b.c 'int w1_of_b;'
	check "a new warning of W=1 is named, status 1" gives 1 "not ok - 0004 riscv: new: mm/b.c: warning: with W=1: int w1_of_b;" only riscv 4
	good_series
	patch mm/b.c 'warning'
	run only test 4
	check "a warning fails the kernel of the tests again, though nothing is compiled" gives 1 "not ok - 0004 test: mm/b.c:1:9: warning: plain" only test 4
	good_series
	patch mm/b.c 'int panic;'
	check "a kernel that does not boot fails" gives 1 "not ok - 0004 test: built, but: the kernel panics; build/check/test.console" only test 4
	good_series
	patch mm/b.c 'int nocase;'
	check "suites that run no case fail" gives 1 "not ok - 0004 test: there are suites, and no case was run" only test 4
	good_series
	patch mm/b.c 'error'
	patch mm/b.c 'int fine;'
	check "a patch that does not compile fails, though the next one mends it" eval \
		'gives 1 "not ok - 0004 none: mm/b.c:1:5: error: it" only none 4 5 && [ "$(tail -n 1 "$work/out")" = "1 passed, 1 failed" ]'

	good_series
	patch mm/b.c 'slow'
	CHECKS=none PATH=$stubs:$PATH setsid "$top/scripts/prove/check.sh" 4 >/dev/null 2>&1 &
	end -$!
	touch -d "1 hour" "$top/build/check/none/mm/b.o"
	good_series
	check "after kill -9 in the middle of an object, all is built again" eval \
		'gives 0 "1 passed, 0 failed" only none 3 && ! grep -rq half "$top/build/check/none"'
	mkdir -p "$lin/drivers/x86/sub"
	echo 'int d;' >"$lin/drivers/x86/d.c"
	patch drivers/x86/sub/e.c 'int e;'
	check "make is not asked for a directory and one below it" gives 0 "1 passed, 0 failed" only x86_64 4
	good_series
	git -C "$lin" checkout -q -f -B series base
	patch mm/b.c 'slow'
	git -C "$lin" tag -f base >/dev/null
	good_series
	patch mm/b.c 'int b;'
	CHECKS=riscv PATH=$stubs:$PATH "$top/scripts/prove/check.sh" 1 >/dev/null 2>&1 &
	end $!
	check "what base says is complete, also after it was broken off" gives 0 "1 passed, 0 failed" env DOZE=0 CHECKS=riscv PATH="$stubs:$PATH" "$top/scripts/prove/check.sh" 1
	git -C "$lin" tag -f base stock >/dev/null
	good_series
	check "a check that does not exist is refused with one line" fails_saying "there is no check 'vax'; CHECKS= takes checkpatch test" only vax
}

# The paths that make sees have no blanks.
top=$(mktemp -d)
trap 'rm -rf "$work" "$top"' EXIT
export BUILD=$top/build DOZE=$doze
prepare
test_check
finish
