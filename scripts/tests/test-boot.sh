#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-boot.sh: nothing that went wrong may look like a pass. boot.sh judges consoles,
# build.sh and initrd.sh build again what changed or was interrupted, demo.sh judges its
# rows. QEMU and the kernel are stubs.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

export BUILD=$top/build DOZE=$doze

# --- boot.sh --------------------------------------------------------------

# KUnit suites, then two selftests.
good_console() {
	cat <<-'EOF'
	Linux version 6.1.0
	KTAP version 1
	1..2
	    KTAP version 1
	    # Subtest: first
	    1..3
	    ok 1 one
	input: a message between
	    # two: BUG: says the test, WARNING: not the kernel
	    ok 2 two
	        KTAP version 1
	        # Subtest: three
	        ok 1 parameter one
	        ok 2 parameter two
	    ok 3 three
	# first: pass:3 fail:0 skip:0 total:3
	# Totals: pass:4 fail:0 skip:0 total:4
	ok 1 first
	    KTAP version 1
	    # Subtest: second
	    1..1
	    ok 1 four # SKIP no such device
	ok 2 second # SKIP
	init: 2 programs
	TAP version 13
	1..1
	# Starting 1 tests from 1 test cases.
	#  RUN           sample.exit ...
	#            OK  sample.exit
	ok 1 sample.exit
	# PASSED: 1 / 1 tests passed.
	# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0
	TAP version 13
	1..3
	# Starting 3 tests from 2 test cases.
	#  RUN           user.munmap ...
	Memory failure: a message between
	#            OK  user.munmap
	ok 1 user.munmap
	#  RUN           user.swap ...
	#      SKIP      no swap
	#            OK  user.swap
	ok 2 # SKIP no swap
	#  RUN           user.mremap ...
	#            OK  user.mremap
	ok 3 user.mremap
	# PASSED: 3 / 3 tests passed.
	# Totals: pass:2 fail:0 xfail:0 xpass:0 skip:1 error:0
	reboot: Power down
	EOF
}

# console SED-SCRIPT [COMMAND]: what QEMU shows, as a serial line does, and then does
console() {
	good_console | sed "$1" | sed 's/$/\r/' >"$work/console"
	stub qemu-system-x86_64 <<<"cat '$work/console'; ${2:-}"
}

boot() {
	stubbed "$top/scripts/kernel/boot.sh" -k "$work/kernel" -o "$work/boot.log" -i "$work/initrd" "$@"
}

# judges STATUS TEXT SED-SCRIPT: a console that was changed so
judges() {
	console "$3"
	gives "$1" "$2" boot
}

test_boot() {
	fresh
	no_packages_missing
	echo kernel >"$work/kernel"
	echo initrd >"$work/initrd"
	check "a complete console passes" judges 0 "6 passed, 2 skipped" ''
	check "a KUnit case that fails is named, with status 1, also behind times" judges 1 "1 failed, 5 passed: two" \
		's/^    ok 2 two/    not ok 2 two/; s/^ok 1 first/not ok 1 first/; s/pass:3 fail:0/pass:2 fail:1/; s/^/[    0.123456] /'
	check "a selftest that fails is named, with status 1" judges 1 "1 failed, 5 passed: mremap" \
		's/^ok 3/not ok 3/; s/pass:2 fail:0/pass:1 fail:1/'

	check "a panic after the last test is a failure" judges 2 "the kernel says 'Kernel panic - not syncing: stub'" \
		'$i Kernel panic - not syncing: stub'
	check "so is an oops, which is named rather than what it left out" judges 2 "the kernel says 'general protection fault" \
		'/ok 2 two/,$d; s/input:.*/general protection fault, stub: 0000/'
	check "so is a WARNING" judges 2 "WARNING: CPU: 1" '5i WARNING: CPU: 1 PID: 2 at mm/stub.c:3 stub+0x1/0x2'
	check "so is what lockdep says" judges 2 "Invalid wait context" '5i [ BUG: Invalid wait context ]'
	check "so is what SLUB says" judges 2 "BUG kmalloc-64" '5i BUG kmalloc-64 (Not tainted): Poison overwritten'
	check "so is a page that was written to after it was freed" judges 2 "memory corruption" '5i pagealloc: memory corruption'

	console '5i BUG: KCSAN: data-race in one / two'
	printf '# why\ndata-race in one / two$\tby design\n' >"$work/explained"
	check "what is explained is none" gives 0 "6 passed, 2 skipped" boot -w "$work/explained"
	console '5i BUG: KCSAN: data-race in one / twofold'
	check "but nothing else" gives 2 "in one / twofold" boot -w "$work/explained"
	check "a list that is not there is named" gives 2 "there is no file $work/nothing" boot -w "$work/nothing"


	check "a console cut short is incomplete" judges 2 "incomplete: first has 1 of 3 results" '/ok 2 two/,/^init/d'
	check "so is one with a case missing, though the totals agree" judges 2 "first has 2 of 3 results" \
		'/^    ok 3 three/d; s/total:3/total:2/'
	check "so is one with a suite missing" judges 2 "the whole has 1 of 2 results" '/^ok 2 second/d'
	check "so is one without any KUnit output" judges 2 "it has not begun" '/^KTAP/,/^ok 2 second/d'
	check "so is a selftest cut short" judges 2 "the selftest has 2 of 3 results" '/^ok 3 user/,/^# Totals: pass:2/d'
	check "so are selftests of which one says nothing" judges 2 "the selftest has 2 of 3 programs" 's/2 programs/3 programs/'
	check "so are selftests that did not start" judges 2 "the selftest has not begun" '/^init/,/^# Totals: pass:2/d'
	check "a reset is a failure" judges 2 "the machine was reset" '/reboot/d'

	console '/ok 2 two/,$d' "exec sleep $doze"
	check "a hang is ended by the time limit, and called so" gives 2 "no end after 1 s" boot -t 1
	check "and leaves no QEMU" no_sleep
	PATH=$stubs:$PATH "$top/scripts/kernel/boot.sh" -k "$work/kernel" -o "$work/boot.log" >/dev/null 2>&1 &
	end $!
	check "nor does a boot that is killed" no_sleep
	console '1,$d' 'echo "qemu: no such machine" >&2; exit 1'
	check "a QEMU that fails is quoted" gives 2 "QEMU failed with status 1: qemu: no such machine" boot
	check "a bad argument is refused with one line" fails_saying "-t soon is no number of seconds" boot -t soon
	rm -r "$stubs"
}

# --- initrd.sh ------------------------------------------------------------

# selftest TEXT: becomes the selftest's source
selftest() {
	local lin=$top/build/linux

	[ -d "$lin" ] || git init -q -b series "$lin"
	mkdir -p "$lin/tools/testing/selftests/mmu_notifier" "$lin/lib"
	touch "$lin"/tools/testing/selftests/kselftest{,_harness}.h "$lin"/lib/{shadow_tlb,test_hmm}_uapi.h
	echo "$1" >"$lin/tools/testing/selftests/mmu_notifier/mmu_notifier_test.c"
	git -C "$lin" add -A
	git -C "$lin" commit -q -m "$1"
}

# initrd SOURCE: with that selftest; its checksum
initrd() {
	selftest "$1"
	run stubbed "$top/scripts/kernel/initrd.sh" "$work/initrd.cpio" && sha256sum <"$work/initrd.cpio"
}

test_initrd() {
	fresh
	no_packages_missing
	check "a selftest that changed is in the next initrd" eval \
		'one=$(initrd "int main(void) { return 0; }") && two=$(initrd "int main(void) { return 1; }") && [ "$one" != "$two" ]'
	rm -r "$stubs"
}

# --- demo.sh --------------------------------------------------------------

demo_console() {
	printf '    # mn_four_policies: row\tstart\t7792\t256\t3\t0\t16000\r\n'
	printf '    # mn_four_policies: row\tend\t256\t0\t3\t0\t15744\r\n'
	printf '# mn_four_policies: row\tblock\t0\t0\t3\t9216\t15744\r\n'
	printf '[    1.234567]     # mn_four_policies: row\tat the flush\t0\t0\t0\t0\t20608\r\n'
}

# demo SED-SCRIPT: of a boot with what is left of the rows
demo() {
	demo_console | sed "$1" >"$work/demo.log"
	stubbed "$top/scripts/prove/demo.sh"
}

test_demo() {
	fresh
	no_packages_missing
	script tree/tree.sh <<<'exit 0'
	script kernel/build.sh <<<'exit 0'
	script kernel/boot.sh <<<"cp '$work/demo.log' \"\$4\""
	check "a demonstration that printed no rows is an error" fails_saying "has no rows" demo s,row,line,
	check "so is a last row that is not all zero, and only that" eval \
		'gives 0 "at the flush" demo "" && fails_saying "the last row, \"at the flush\", is not all zero" demo "4s/\t0\t20608/\t1\t20608/"'
	rm -r "$stubs"
}

# --- build.sh -------------------------------------------------------------

# A kernel of two objects. It builds like one: tinyconfig, merge, olddefconfig, vmlinux,
# modules.
make_kernel() {
	local lin=$top/build/linux

	mkdir -p "$lin/scripts/kconfig"
	printf 'config GOOD\n\tbool\nconfig PICKY\n\tbool\n' >"$lin/Kconfig"
	cat >"$lin/scripts/kconfig/merge_config.sh" <<-'EOF'
	#!/bin/sh
	out=$3
	shift 4
	cat "$@" >>"$out/.config"
	EOF
	chmod +x "$lin/scripts/kconfig/merge_config.sh"
	cat >"$lin/Makefile" <<-'EOF'
	.RECIPEPREFIX = >
	.PHONY: tinyconfig olddefconfig modules bzImage
	tinyconfig:
	>@: >"$(O)/.config"
	olddefconfig:
	>@sed -i /PICKY/d "$(O)/.config"
	vmlinux: $(O)/a.o $(O)/b.o
	>@cat $^ >"$(O)/vmlinux"
	bzImage: vmlinux
	>@mkdir -p "$(O)/arch/x86/boot"
	>@cp "$(O)/vmlinux" "$(O)/arch/x86/boot/bzImage"
	modules:
	>@mkdir -p "$(O)/include/config"
	>@echo 6.1.0 >"$(O)/include/config/kernel.release"
	>@touch "$(O)/modules.order" "$(O)/Module.symvers"
	%.o:
	>@echo "  CC      $(@F)"
	>@if grep error "$<"; then false; fi
	>@if grep -q slow "$<"; then echo half >"$@"; exec sleep $(DOZE); fi
	>@cp "$<" "$@"
	$(O)/a.o: a.c
	$(O)/b.o: b.c
	EOF
	echo 'a' >"$lin/a.c"
	echo 'b' >"$lin/b.c"
	git init -q -b series "$lin"
	git -C "$lin" add -A
	git -C "$lin" commit -q -m "Linux 6.1.0"
	git -C "$lin" tag stock
	git -C "$lin" tag base
	git -C "$lin" tag series
	echo CONFIG_X86=y >"$top/configs/x86_64.config"
}

build() {
	stubbed "$top/scripts/kernel/build.sh" "$@"
}

kernel_is() {
	cat "$top/build/linux/a.c" "$top/build/linux/b.c" | cmp - "$top/build/kernels/series/vmlinux" >"$work/out" 2>&1
}

# The paths that make sees have no blanks.
test_build() {
	local top lin

	top=$(mktemp -d)
	lin=$top/build/linux
	export BUILD=$top/build
	no_packages_missing
	# These kernels are text.
	stub objcopy <<<'cp "${@: -2:1}" "${@: -1}"'
	fresh
	make_kernel
	printf 'CONFIG_GOOD=y\nCONFIG_PICKY=y\n' >"$top/configs/common.config"
	check "an unknown state is refused with one line" fails_saying "there is no state 'nonsense'" build nonsense
	check "so is an unknown architecture" fails_saying "ARCH=sparc is not supported" env ARCH=sparc "$top/scripts/kernel/build.sh"
	check "a full disk is noticed before anything is built" eval \
		'fails_saying "are needed" env NEED_MB=99999999 PATH="$stubs:$PATH" "$top/scripts/kernel/build.sh" && [ ! -e "$top/build/x86_64" ]'
	check "an option that has no effect is named" fails_saying "have no effect: 'CONFIG_PICKY=y';" build

	echo 'CONFIG_GOOD=y' >"$top/configs/common.config"
	echo 'CONFIG_PICKY=y' >"$top/trees/6.1/x86_64.config"
	check "so is one that this kernel has on this architecture" fails_saying "have no effect: 'CONFIG_PICKY=y';" build
	rm "$top/trees/6.1/x86_64.config"
	echo "b.c:1: error: of b" >"$lin/b.c"
	check "an error of the compiler is shown, with one line at the end" eval \
		'fails_saying "series does not build" build && grep -q "^b.c:1: error: of b" "$work/out"'
	echo "b is new" >"$lin/b.c"
	check "a change that is not committed gets into the kernel" eval 'run build && kernel_is'

	echo slow >"$lin/b.c"
	PATH=$stubs:$PATH setsid "$top/scripts/kernel/build.sh" >/dev/null 2>&1 &
	end -$!
	touch "$top/build/x86_64/b.o"
	git -C "$lin" checkout -q b.c
	check "after kill -9 in the middle of an object, all is built again" eval 'gives 0 "is ready: 2 objects" build && kernel_is'
	rm -r "$stubs"
	rm -rf "$top"
	export BUILD=$work/top/build
}

test_boot
test_initrd
test_demo
test_build
finish
