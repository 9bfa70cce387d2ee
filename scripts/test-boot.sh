#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-boot.sh: the scripts that build, boot, mutate and judge, on hostile input.
# Everything happens in a scratch directory (with a blank in its name). QEMU and the
# kernel are stubs.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

doze=98765.$$ # seconds, for what does not end by itself
export BUILD=$top/build DOZE=$doze
unset BOOT

# --- reporting ------------------------------------------------------------

# gives STATUS TEXT COMMAND...: ends with this status and says this
gives() {
	local want=$1 text=$2 got=0

	shift 2
	run "$@" || got=$?
	[ "$got" = "$want" ] && grep -qF -e "$text" "$work/out"
}

fresh() {
	rm -rf "$top"
	mkdir -p "$top/build"
	cp -a "$here" "$top/scripts"
}

# --- boot.sh --------------------------------------------------------------

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
	reboot: Power down
	EOF
}

# console SED-SCRIPT: what QEMU shows, as a serial line does
console() {
	good_console | sed "$1" | sed 's/$/\r/' >"$work/console"
	stub qemu-system-x86_64 <<<"cat '$work/console'; ${2:-}"
}

boot() {
	stubbed "$top/scripts/boot.sh" -k "$work/kernel" -o "$work/boot.log" "$@"
}

# boots STATUS TEXT: with what console made
boots() {
	gives "$1" "$2" boot
}

# end PID, or -PID for kill -9 of all of the process group, once the stub dozes
end() {
	local i

	for ((i = 0; i < 600; i++)); do
		no_sleep || break
		sleep 0.1
	done
	case $1 in
	-*) kill -KILL -- "$1" ;;
	*) kill "$1" ;;
	esac
	wait "${1#-}"
} 2>/dev/null

# The stub's, that would not end by itself.
no_sleep() {
	! pgrep -f "sleep $doze\$" >"$work/out"
}

test_boot() {
	fresh
	echo kernel >"$work/kernel"
	console ''
	check "a complete console passes" boots 0 "3 passed"
	console ''
	check "skipped cases are counted apart" boots 0 "3 passed, 1 skipped"
	check "its carriage returns are gone" eval '[ "$(tr -dc "\r" <"$work/boot.log" | wc -c)" = 0 ]'
	check "its cases are listed, with reasons" [ "$(tail -n 1 "$work/boot.log.cases")" = "second	skip	four	no such device" ]
	console 's/^    ok 2 two/    not ok 2 two/; s/^ok 1/not ok 1/; s/pass:3 fail:0/pass:2 fail:1/'
	check "a case that fails is named, with status 1" boots 1 "1 failed, 2 passed: two"
	sed -i "s/^/[    0.123456] /" "$work/console"
	check "times in front change nothing" boots 1 "1 failed, 2 passed: two"

	console '/ok 2 two/,$d'
	check "a console cut short is incomplete" boots 2 "incomplete: first has 1 of 3 results"
	check "and its last lines are shown" grep -q "two: BUG: says the test" "$work/out"
	console '/^    ok 3 three/d'
	check "so is one with a case missing" boots 2 "first has 2 results, and says 3"
	console '/^    ok 3 three/d; s/total:3/total:2/'
	check "even if the totals agree" boots 2 "first has 2 of 3 results"
	console '/^    ok 2 two/d'
	check "in the middle, too" boots 2 "first has no result 2"
	console '/^ok 2 second/d'
	check "so is one with a suite missing" boots 2 "the whole has 1 of 2 results"
	console '/^# first:/d'
	check "or the totals" boots 2 "first has no totals"
	console 's/total:3/total:4/'
	check "or totals that are not true" boots 2 "first has 3 results, and says 4"
	console '/^1\.\.2/d'
	check "or the plan" boots 2 "the whole has no plan"
	console '/KTAP/,$d'
	check "or everything" boots 2 "it has not begun"
	console '/reboot/d'
	check "a reset is none of the kernel's doing" boots 2 "the machine was reset"

	console '$i Kernel panic - not syncing: stub'
	check "a panic after the last test is seen" boots 2 "the kernel says 'Kernel panic - not syncing: stub'"
	console '5i WARNING: CPU: 1 PID: 2 at mm/stub.c:3 stub+0x1/0x2'
	check "a warning is a failure" boots 2 "WARNING: CPU: 1"
	console '5i BUG: Bad page state in process stub'
	check "so is a bad page" boots 2 "BUG: Bad page state"
	console '5i WARNING: possible circular locking dependency detected'
	check "and what lockdep says" boots 2 "circular locking"
	console '/ok 2 two/,$d; s/input:.*/general protection fault, stub: 0000/'
	check "an oops is named rather than what it left out" boots 2 "the kernel says 'general protection fault"

	console '/ok 2 two/,$d' "exec sleep $doze"
	check "a hang ends, and is called so" gives 2 "no end after 1 s" boot -t 1
	check "and leaves no QEMU" no_sleep
	PATH=$stubs:$PATH "$top/scripts/boot.sh" -k "$work/kernel" -o "$work/boot.log" >/dev/null 2>&1 &
	end $!
	check "nor does a boot that is killed" no_sleep
	console '1,$d' 'echo "qemu: no such machine" >&2; exit 1'
	check "a QEMU that fails is quoted" boots 2 "QEMU failed with status 1: qemu: no such machine"
	check "and no console of an earlier boot is left" [ ! -s "$work/boot.log" ]

	console ''
	stub dpkg-query <<<'echo "ii "'
	stub aarch64-linux-gnu-objcopy <<<'echo "Image of $(tail -n 1 "${@: -2:1}")" >"${@: -1}"'
	stub qemu-system-aarch64 <<<"cp '$work/boot.log.image' '$work/image'; echo \"\$*\" >'$work/args'; cat '$work/console'"
	{ head -c 18 /dev/zero; printf "\267\0\nthis kernel\n"; } >"$work/arm64"
	check "an arm64 kernel has a QEMU of its own" gives 0 "3 passed" boot -k "$work/arm64"
	check "which gets its Image" [ "$(cat "$work/image")" = "Image of this kernel" ]
	check "and its machine and console" grep -q -e "-M virt .*console=ttyAMA0" "$work/args"
	check "no Image is left" [ ! -e "$work/boot.log.image" ]
	check "it has no AMD IOMMU" gives 2 "-a is for x86-64" boot -k "$work/arm64" -a 2
	stub aarch64-linux-gnu-objcopy <<<'exit 1'
	check "an arm64 kernel that is damaged" gives 2 "does not become an Image" boot -k "$work/arm64"

	console ''
	stub qemu-system-x86_64 <<<"echo \"\$*\" >'$work/args'; cat '$work/console'"
	echo plugin >"$work/plugin.so"
	check "a boot with a plugin" gives 0 "3 passed" boot -p "$work/plugin.so,out=x"
	check "QEMU loads it, with its arguments" grep -qF -e "-plugin $work/plugin.so,out=x" "$work/args"
	check "and has one CPU, whose clock counts instructions" grep -q -e "-smp 1,.* -icount shift=0,sleep=off" "$work/args"
	check "other boots are as ever" eval 'boot >"$work/out" 2>&1 && ! grep -e -icount -e -plugin "$work/args"'
	check "a plugin that is not there" gives 2 "there is no plugin $work/none" boot -p "$work/none,out=x"
	check "a kernel that is not there" gives 2 "there is no kernel" "$top/scripts/boot.sh" -k "$work/none" -o "$work/boot.log"
	check "a time that is none" gives 2 "-t soon is no number" boot -t soon
	check "CPUs that are none" gives 2 "-s 0 is no number" boot -s 0
	check "too many CPUs" gives 2 "more than the 8" boot -s 9
	check "an unknown option" gives 2 "what is -z" boot -z
	check "no log" gives 2 "-o is missing" "$top/scripts/boot.sh" -k "$work/kernel"
	rm -r "$stubs"
}

# The same, and what two selftests print after it.
good_tap() {
	good_console | sed '/^reboot/d'
	cat <<-'EOF'
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

# tap SED-SCRIPT: as console
tap() {
	good_tap | sed "$1" | sed 's/$/\r/' >"$work/console"
	stub qemu-system-x86_64 <<<"echo \"\$*\" >'$work/qemu'; cat '$work/console'; ${2:-}"
}

test_boot_initrd() {
	fresh
	echo kernel >"$work/kernel"
	echo initrd >"$work/initrd"
	tap ''
	check "suites and selftests that are complete pass" gives 0 "6 passed, 2 skipped" boot -i "$work/initrd"
	check "QEMU got the initrd" grep -qF -e "-initrd $work/initrd" "$work/qemu"
	check "and the kernel does not end after its suites" eval '! grep -q kunit_shutdown "$work/qemu"'
	check "cases of all are listed" [ "$(cut -f 1,3 "$work/boot.log.cases" | tail -n 5 | tr '\t\n' ': ')" = "second:four mmu_notifier_sample:exit mmu_notifier_user:munmap mmu_notifier_user:swap mmu_notifier_user:mremap " ]
	check "with reasons" grep -qx "mmu_notifier_user	skip	swap	no swap" "$work/boot.log.cases"
	tap 's/^ok 3/not ok 3/; s/pass:2 fail:0/pass:1 fail:1/'
	check "a test that fails is named, with status 1" gives 1 "1 failed, 5 passed: mremap" boot -i "$work/initrd"

	tap '/^ok 3 user/,/^# Totals: pass:2/d'
	check "a selftest cut short is incomplete" gives 2 "the selftest has 2 of 3 results" boot -i "$work/initrd"
	tap '/^ok 1 user/d'
	check "also in the middle" gives 2 "the selftest has no result 1" boot -i "$work/initrd"
	tap '/^# Totals: pass:2/d'
	check "or without totals" gives 2 "the selftest has no totals" boot -i "$work/initrd"
	tap 's/pass:2/pass:3/'
	check "or with totals that are not true" gives 2 "the selftest has 3 results, and says 4" boot -i "$work/initrd"
	tap '/^TAP/,/^# Totals: pass:2/s/^1\.\..*//'
	check "or without a plan" gives 2 "the selftest has no plan" boot -i "$work/initrd"
	tap '/^1\.\.1$/,/^# Totals: pass:1 /d'
	check "also one that is not the last" gives 2 "the selftest has no plan" boot -i "$work/initrd"
	tap '/^ok 1 sample/d'
	check "or has a test missing" gives 2 "the selftest has 0 results, and says 1" boot -i "$work/initrd"
	tap '/^# Totals: pass:1 /d'
	check "or its totals" gives 2 "the selftest has no totals" boot -i "$work/initrd"
	tap 's/2 programs/3 programs/'
	check "or if a program has said nothing" gives 2 "the selftest has 2 of 3 programs" boot -i "$work/initrd"
	tap 's/^init: 2 programs/init: no/'
	check "or init not how many there are" gives 2 "the selftest has 2 of 0 programs" boot -i "$work/initrd"
	tap '/RUN.*swap/d'
	check "or with a test that has no name" gives 2 "no name for result 2" boot -i "$work/initrd"
	console ''
	check "or if there is nothing of it" gives 2 "the selftest has not begun" boot -i "$work/initrd"
	check "which is right without an initrd" boots 0 "3 passed"
	tap '/^    ok 2 two/d'
	check "suites are judged as ever" gives 2 "first has no result 2" boot -i "$work/initrd"

	tap '/^ok 1 user/a Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b'
	check "an init that dies is a failure" gives 2 "Attempted to kill init" boot -i "$work/initrd"
	tap '/^ok 1 user/,$d' "exec sleep $doze"
	check "an init that hangs is ended, and called so" gives 2 "no end after 1 s" boot -i "$work/initrd" -t 1
	check "and leaves no QEMU" no_sleep
	check "an initrd that is not there" gives 2 "there is no initrd $work/none" boot -i "$work/none"
	rm -r "$stubs"
}

# boot_by BOOT ARGUMENT...
boot_by() {
	local by=$1

	shift
	BOOT=$by boot "$@"
}

test_boot_ways() {
	local bare

	fresh
	echo kernel >"$work/kernel"
	echo initrd >"$work/initrd"
	tap ''
	check "with -c, the clock counts instructions" eval 'gives 0 "6 passed" boot -c -t 9 -s 4 -i "$work/initrd" && grep -q -e "-smp 4,.* -icount shift=0,sleep=off" "$work/qemu"'
	check "without, it does not" eval 'gives 0 "6 passed" boot -i "$work/initrd" && ! grep -e -icount "$work/qemu"'

	bare='/^KTAP/,/^ok 2 second/d'
	tap "$bare"
	check "a console without KTAP is incomplete" gives 2 "it has not begun" boot -i "$work/initrd"
	check "and complete with -n" gives 0 "3 passed, 1 skipped" boot -n -i "$work/initrd"
	tap "$bare; s/^ok 3 user/not &/; s/pass:2 fail:0/pass:1 fail:1/"
	check "where tests can fail" gives 1 "1 failed, 2 passed: mremap" boot -n -i "$work/initrd"
	tap "$bare; /^ok 3 user/d"
	check "or be missing" gives 2 "the selftest has 2 results, and says 3" boot -n -i "$work/initrd"
	tap "$bare; \$i BUG: Bad page state in process stub"
	check "or the kernel be unwell" gives 2 "BUG: Bad page state" boot -n -i "$work/initrd"
	tap '/^init/,/^# Totals: pass:2/d'
	check "without TAP, there is nothing to judge" gives 2 "the selftest has not begun" boot -n -i "$work/initrd"
	check "-n without an initrd is refused" gives 2 "-n without -i has nothing to run" boot -n

	tap ''
	check "QEMU does without KVM" eval 'gives 0 "6 passed" boot -i "$work/initrd" && grep -q -e "-accel tcg" "$work/qemu"'
	check "with BOOT=kvm, it has KVM" eval 'gives 0 "6 passed" boot_by kvm -i "$work/initrd" && grep -q -e "-accel kvm" "$work/qemu" && ! grep -e tcg "$work/qemu"'

	stub box <<<"printf '<%s>' \"\$@\" >'$work/box'; cat '$work/console'; \${SAYS:-true}"
	rm "$work/qemu"
	check "with BOOT=COMMAND, its output is the console" gives 0 "6 passed" boot_by "box  --fast" -i "$work/initrd" maxcpus=1 A=b
	check "it is called with kernel, initrd, command line" grep -q "^<--fast><$work/kernel><$work/initrd><console=.* printk.devkmsg=on .* maxcpus=1 A=b>$" "$work/box"
	check "and not QEMU" [ ! -e "$work/qemu" ]
	tap 's/^ok 3/not ok 3/; s/pass:2 fail:0/pass:1 fail:1/'
	check "it is judged as ever" gives 1 "1 failed, 5 passed: mremap" boot_by box -i "$work/initrd"
	tap ''
	check "a command that fails is named" gives 2 "box failed with status 3: no power" env SAYS="eval echo no power >&2; exit 3" BOOT=box PATH="$stubs:$PATH" "$top/scripts/boot.sh" -k "$work/kernel" -o "$work/boot.log" -i "$work/initrd"
	check "so is one that is not there" gives 2 "nonsense x failed with status 127" boot_by "/no/nonsense x" -i "$work/initrd"
	check "what only QEMU's translation has is refused" eval 'gives 2 "not for BOOT=kvm" boot_by kvm -c && gives 2 "not for BOOT=box" boot_by box -c && gives 2 "not for BOOT=kvm" boot_by kvm -p "$work/kernel" && gives 2 "not for BOOT=kvm" boot_by kvm -x "$work/kernel"'
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

initrd() {
	"$top/scripts/initrd.sh" "$@"
}

test_initrd_program() {
	local file=$top/build/guest/bench.cpio own=$top/own sum

	fresh
	selftest 'int main(void) { return nonsense; }'
	mkdir -p "$own" "$top/build/kernels/series/modules/lib"
	echo module >"$top/build/kernels/series/modules/lib/sample.ko"
	printf '#include "own.h"\nint main(void) { return NUMBER; }\n' >"$own/own.c"
	echo '#define NUMBER 1' >"$own/own.h"
	check "an initrd with a program of one's own" gives 0 "bench.cpio is ready" initrd -p "$own/own.c" "$file"
	check "has that and no selftest or module" [ "$(cpio -t --quiet <"$file" | paste -s -d ,)" = "init,tests,tests/own" ]
	check "a second time nothing is done" gives 0 "up to date" initrd -p "$own/own.c" "$file"
	sum=$(sha256sum <"$file")
	echo '#define NUMBER 2' >"$own/own.h"
	check "a new header is a reason to make it again" gives 0 "is ready" initrd -p "$own/own.c" "$file"
	check "with what is in it" [ "$(sha256sum <"$file")" != "$sum" ]
	sum=$(sha256sum <"$file")
	echo 'int main(void) { return 3; }' >"$own/own.c"
	check "so is a new source" eval 'gives 0 "is ready" initrd -p "$own/own.c" "$file" && [ "$(sha256sum <"$file")" != "$sum" ]'
	rm "$own/own.h"
	check "headers need not be there" gives 0 "is ready" initrd -p "$own/own.c" "$file"
	check "nor a directory be named" gives 0 "up to date" eval 'cd "$own" && initrd -p own.c "$file"'
	cd "$here" || exit
	sum=$(sha256sum <"$file")
	echo 'int main(void) { return nonsense; }' >"$own/own.c"
	check "an error of the compiler is one line at the end" fails_saying "own.c does not compile" initrd -p "$own/own.c" "$file"
	check "the old file stays" [ "$(sha256sum <"$file")" = "$sum" ]
	check "a program that is not there" fails_saying "there is no program '$own/none.c'" initrd -p "$own/none.c" "$file"
	check "or is not named" fails_saying "there is no program ''" initrd -p
}

test_initrd() {
	local file=$top/build/guest/initrd.cpio sum

	fresh
	check "without a tree there is no initrd" fails_saying "run 'make tree'" initrd
	selftest 'int main(void) { return 0; }'
	check "an initrd is made" gives 0 "is ready" initrd
	check "with init and the selftest" [ "$(cpio -t --quiet <"$file" | paste -s -d ,)" = "init,tests,tests/mmu_notifier_test" ]
	check "a second time nothing is done" gives 0 "up to date" initrd
	sum=$(sha256sum <"$file")
	rm "$file"
	check "made again" gives 0 "is ready" initrd
	check "it is the same" [ "$(sha256sum <"$file")" = "$sum" ]
	mkdir -p "$top/build/kernels/series/modules/lib"
	echo module >"$top/build/kernels/series/modules/lib/sample.ko"
	check "a module of the kernel is a reason to make it again" gives 0 "is ready" initrd
	check "and is in it" eval 'cpio -t --quiet <"$top/build/guest/initrd.cpio" | grep -qx lib/sample.ko'
	sum=$(sha256sum <"$file")
	selftest 'int main(void) { return nonsense; }'
	check "an error of the compiler is one line at the end" fails_saying "mmu_notifier_test.c does not compile" initrd
	check "the old file stays" [ "$(sha256sum <"$file")" = "$sum" ]
	check "and nothing else" [ "$(find "$top/build/guest" | wc -l)" = 3 ]
	check "a compiler that is not there is named" fails_saying "'nonsense-gcc' is missing" env CROSS_COMPILE=nonsense- "$top/scripts/initrd.sh"
}

# --- mutate.sh ------------------------------------------------------------

# Exits with the number of times that it came to the function.
make_program() {
	cat >"$work/program.S" <<-'EOF'
	.globl _start, __mmu_notifier_invalidate_range
	.type _start, @function
	.type called, @function
	.type tail, @function
	.type tail_near, @function
	.type conditional, @function
	.type __mmu_notifier_invalidate_range, @function
	.type other, @function
	_start:
		call called
		call tail
		call tail_near
		call conditional
		call other
		mov %ebx, %edi
		mov $60, %eax
		syscall
	.fill 300, 1, 0x90
	called:
		call __mmu_notifier_invalidate_range
		ret
	tail:
		.byte 0xe9
		.long __mmu_notifier_invalidate_range - . - 4
	conditional:
		cmp %eax, %eax
		.byte 0x0f, 0x84
		.long __mmu_notifier_invalidate_range - . - 4
		ret
	tail_near:
		jmp __mmu_notifier_invalidate_range
	__mmu_notifier_invalidate_range:
		endbr64
		inc %ebx
		ret
	other:
		ret
	EOF
	gcc -nostdlib -static -o "$work/program" "$work/program.S"
}

mutate() {
	"$top/scripts/mutate.sh" "$@"
}

runs() {
	local got=0

	chmod +x "$work/mutant"
	"$work/mutant" || got=$?
	[ "$got" = "$1" ]
}

address() {
	mutate list "$work/program" | awk -v name="$1" 'index($3, name "+") == 1 { print $1 }'
}

test_mutate() {
	local name

	fresh
	run make_program
	check "list has each place, its kind and function" [ "$(mutate list "$work/program" | cut -d ' ' -f 2,3 | paste -s -d ,)" = "call called+0x0,jmp tail+0x0,jcc conditional+0x2,jmp tail_near+0x0" ]
	cp "$work/program" "$work/mutant"
	check "the program comes there four times" runs 4
	for name in called tail conditional tail_near; do
		check "knock of one in $name" run mutate knock "$work/program" "$work/mutant" "$(address $name)"
		check "leaves three" runs 3
	done
	check "knock of two" run mutate knock "$work/program" "$work/mutant" "$(address tail)" "0x$(address called)"
	check "leaves two" runs 2
	check "knock of all" run mutate knock "$work/program" "$work/mutant" all
	check "leaves none" runs 0
	check "and no file but the copy" eval '[ -z "$(find "$work" -maxdepth 1 -name "*.tmp.*")" ]'
	check "list of that is empty" eval '[ -z "$(mutate list "$work/mutant")" ]'
	check "knock of all in that is refused" fails_saying "nothing in" mutate knock "$work/mutant" "$work/none" all
	check "ret of the function" run mutate ret "$work/program" "$work/mutant" __mmu_notifier_invalidate_range
	check "leaves none" runs 0

	rm -f "$work/mutant"
	name=$(nm "$work/program" | awk '$3 == "other" { print $1 }')
	check "an address without call is refused" fails_saying "is no call or jump, but c3" mutate knock "$work/program" "$work/mutant" "$name"
	name=$(nm "$work/program" | awk '$3 == "_start" { print $1 }')
	check "a call of another function is refused" fails_saying "does not go to" mutate knock "$work/program" "$work/mutant" "$name"
	check "even after a good one" fails_saying "does not go to" mutate knock "$work/program" "$work/mutant" "$(address tail)" "$name"
	check "an address outside is refused" fails_saying "is not in" mutate knock "$work/program" "$work/mutant" ffffffffffff0000
	check "what is no address is refused" fails_saying "is no address" mutate knock "$work/program" "$work/mutant" '$(reboot)'
	check "a function that is not there is refused" fails_saying "has no function" mutate ret "$work/program" "$work/mutant" nosuch
	check "none of them leaves a file" eval '[ ! -e "$work/mutant" ] && [ -z "$(find "$work" -maxdepth 1 -name "*.tmp.*")" ]'
	check "the kernel itself is not written to" fails_saying "is the kernel itself" mutate knock "$work/program" "$work/program" all
	check "what is no ELF file is refused" fails_saying "is no ELF file" mutate list "$work/program.S"
	: >"$work/empty"
	check "so is an empty one" fails_saying "there is no kernel" mutate list "$work/empty"
	head -c 3000 "$work/program" >"$work/cut"
	check "so is one that is cut short" fails_saying "has no function" mutate list "$work/cut"
	check "and a call without its arguments" fails_saying "usage" mutate knock "$work/program" "$work/mutant"

	# The header says arm64.
	cp "$work/program" "$work/arm64"
	printf "\267\0" | dd of="$work/arm64" bs=1 seek=18 conv=notrunc status=none
	check "ret of an arm64 function" run mutate ret "$work/arm64" "$work/mutant" other
	check "is one instruction, and all that is changed" [ "$(cmp -l "$work/arm64" "$work/mutant" | awk '{ printf " %s", $3 }')" = " 300 3 137 326" ]
	check "calls of arm64 are not known" fails_saying "only ret is for it" mutate list "$work/arm64"
	check "nor knocked out" fails_saying "only ret is for it" mutate knock "$work/arm64" "$work/none" all
}

# --- run.sh ---------------------------------------------------------------

demo_console() {
	printf '    # mn_four_policies: row\tstart\t7792\t256\t3\t0\t16000\r\n'
	printf '    # mn_four_policies: row\tend\t256\t0\t3\t0\t15744\r\n'
	printf '# mn_four_policies: row\tblock\t0\t0\t3\t9216\t15744\r\n'
	printf '[    1.234567]     # mn_four_policies: row\tat the flush\t0\t0\t0\t0\t20608\r\n'
}

# demo SED-SCRIPT: run.sh of what is left
demo() {
	demo_console | sed "$1" >"$work/demo.log"
	"$top/scripts/run.sh" "$work/demo.log"
}

test_run() {
	fresh
	check "four rows become a table" gives 0 "at the flush" demo ''
	check "and a report of five lines" [ "$(wc -l <"$top/build/report/demo.tsv")" = 5 ]
	check "with six columns" [ "$(awk -F '\t' '{ print NF }' "$top/build/report/demo.tsv" | uniq)" = 6 ]
	check "of what was measured" grep -qx "block	0	0	3	9216	15744" "$top/build/report/demo.tsv"
	check "no rows" fails_saying "has no rows" demo s,row,line,
	check "a row missing" fails_saying "has 3 rows of 4" demo 2d
	check "a row that is cut off" fails_saying "has 3 rows of 4" demo '3s/\t3\t.*//'
	check "a row with something else than numbers" fails_saying "has 3 rows of 4" demo '3s/9216/-1/'
	check "the last row not all zero" fails_saying "the last row, \"at the flush\", is not all zero" demo '4s/\t0\t20608/\t1\t20608/'
	check "another row all zero" fails_saying "only the last row may be all zero, not \"block\"" demo '3s/3\t9216/0\t0/'
	check "a row without accesses" fails_saying "has no accesses" demo '4s/20608/0/'
	check "a log that is not there" fails_saying "there is no console log" "$top/scripts/run.sh" "$work/none.log"
}

# --- build.sh -------------------------------------------------------------

# A kernel of two objects. It builds like one: tinyconfig, merge, olddefconfig, vmlinux,
# modules.
make_kernel() {
	local lin=$top/build/linux

	mkdir -p "$lin/scripts/kconfig" "$top/base/configs"
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
	.PHONY: tinyconfig olddefconfig modules mm/ fork.o
	tinyconfig:
	>@: >"$(O)/.config"
	olddefconfig:
	>@sed -i -e /PICKY/d -e /UNKNOWN/d "$(O)/.config"
	vmlinux: $(O)/a.o $(O)/b.o
	>@echo "  LD      vmlinux"
	>@cat $^ >"$(O)/vmlinux"
	>@echo "ARCH=$(ARCH) CROSS_COMPILE=$(CROSS_COMPILE)" >"$(O)/made"
	modules:
	>@mkdir -p "$(O)/include/config" "$(O)/drivers"
	>@echo 6.1.0 >"$(O)/include/config/kernel.release"
	>@echo drivers/toy.ko >"$(O)/modules.order"
	>@echo toy >"$(O)/drivers/toy.ko"
	mm/:
	>@mkdir -p "$(O)/mm"
	>@echo "  CC      mm/a.o"
	>@echo a | tee "$(O)/mm/a.o" "$(O)/mm/built-in.o" >"$(O)/mm/a.s"
	fork.o:
	>@echo "  CC      fork.o"
	>@echo fork >"$(O)/fork.o"
	%.o:
	>@echo "  CC      $(@F)"
	>@if grep error "$<"; then false; fi
	>@grep warning "$<" >&2 || :
	>@if grep -q slow "$<"; then echo half >"$@"; exec sleep $(DOZE); fi
	>@cp "$<" "$@"
	$(O)/a.o: a.c
	$(O)/b.o: b.c
	EOF
	# The paths that make sees have no blanks.
	echo 'a.c:1: warning: of a' >"$lin/a.c"
	echo 'b' >"$lin/b.c"
	git init -q -b series "$lin"
	git -C "$lin" add -A
	git -C "$lin" commit -q -m "Linux 6.1.0"
	git -C "$lin" tag stock
	git -C "$lin" tag base
	git -C "$lin" tag series
	echo CONFIG_GOOD=y >"$top/base/configs/common.config"
	echo CONFIG_X86=y >"$top/base/configs/x86_64.config"
	echo CONFIG_ARM=y >"$top/base/configs/arm64.config"
}

build() {
	stubbed "$top/scripts/build.sh"
}

build_state() {
	stubbed "$top/scripts/build.sh" "$@"
}

kernel_is() {
	[ "$(cat "$top/build/kernels/series/vmlinux")" = "$(cat "$top/build/linux/a.c" "$top/build/linux/b.c")" ]
}

warnings_are() {
	[ "$(paste -s -d ',' "$top/build/kernels/series/warnings")" = "$1" ]
}

test_build() {
	local top lin

	# These kernels are text.
	stub objcopy <<<'cp "${@: -2:1}" "${@: -1}"'
	cp "$stubs/objcopy" "$stubs/aarch64-linux-gnu-objcopy"
	check "a directory with a blank in its name is refused" fails_saying "has a blank" "$here/build.sh"
	top=$(mktemp -d)
	lin=$top/build/linux
	export BUILD=$top/build
	fresh
	check "no tree yet" fails_saying "run 'make tree'" build
	make_kernel
	check "an unknown state is refused" fails_saying "there is no state 'nonsense'" "$top/scripts/build.sh" nonsense
	check "another architecture is refused" fails_saying "ARCH=sparc is not supported" env ARCH=sparc "$top/scripts/build.sh"
	check "too little disk is said before building" fails_saying "are needed" env NEED_MB=99999999 "$top/scripts/build.sh"
	check "and nothing is built" [ ! -e "$top/build/x86_64" ]

	printf 'CONFIG_GOOD=y\nCONFIG_PICKY=y\nCONFIG_UNKNOWN=y\n' >"$top/base/configs/common.config"
	check "an option without effect is named" fails_saying "have no effect: 'CONFIG_PICKY=y';" build
	printf 'CONFIG_GOOD=y\nCONFIG_UNKNOWN=y\n# CONFIG_PICKY is not set\n' >"$top/base/configs/common.config"
	check "one that this kernel does not have is not" gives 0 "is ready: 2 objects, 1 warnings" build
	check "the kernel is there" kernel_is
	check "and its module" grep -qx toy "$top/build/kernels/series/modules/lib/modules/6.1.0/kernel/drivers/toy.ko"
	check "a second build does nothing" gives 0 "up to date" build

	echo "b is new" >"$lin/b.c"
	check "a change that is not committed is built" gives 0 "is ready: 1 objects, 1 warnings" build
	check "into the kernel" kernel_is
	check "the warning of what was not compiled again is kept" warnings_are "a.c:1: warning: of a"
	echo "a is good" >"$lin/a.c"
	check "and goes when that is compiled without" gives 0 "is ready: 1 objects, 0 warnings" build

	echo "b.c:1: error: of b" >"$lin/b.c"
	check "an error of the compiler is shown" gives 1 "b.c:1: error: of b" build
	check "with one line at the end" fails_saying "series does not build" build
	echo "b is better" >"$lin/b.c"
	check "and the next build is good" gives 0 "is ready" build

	echo slow >"$lin/b.c"
	setsid "$top/scripts/build.sh" >/dev/null 2>&1 &
	end -$!
	check "after kill -9 in the middle of an object" [ -e "$top/build/x86_64/.running" ]
	touch "$top/build/x86_64/b.o"
	git -C "$lin" checkout -q b.c a.c
	check "the next call builds all again" gives 0 "is ready: 2 objects" build
	check "and the kernel is right" kernel_is
	echo slow >"$lin/b.c"
	"$top/scripts/build.sh" >/dev/null 2>&1 &
	end $!
	check "a build that is terminated ends its make" no_sleep
	check "and leaves no half object" [ ! -e "$top/build/x86_64/b.o" ]


	git -C "$lin" checkout -q b.c a.c
	echo CONFIG_BENCH=y >"$top/base/configs/bench.config"
	echo '# CONFIG_NOTIFIER is not set' >"$top/base/configs/none.config"
	git -C "$lin" tag series-bench
	check "a state for the benchmark" gives 0 "kernels/series-bench/vmlinux is ready: 2 objects" build_state series-bench
	check "is built in a directory of its own" [ -e "$top/build/x86_64-bench/a.o" ]
	check "with the options of the benchmark" eval 'grep -qx CONFIG_BENCH=y "$top/build/x86_64-bench/.config" && ! grep NOTIFIER "$top/build/x86_64-bench/.config"'
	check "which others do not have" eval '! grep BENCH "$top/build/x86_64/.config" >"$work/out"'
	check "objects without notifiers" gives 0 "kernels/series-none/objects is ready: 2 objects" build_state series-none mm/ fork.o
	check "are copied, and what links them is not" [ "$(cd "$top/build/kernels/series-none/objects" && find . -type f | sort | xargs)" = "./fork.o ./mm/a.o" ]
	check "no kernel is" [ ! -e "$top/build/kernels/series-none/vmlinux" ]
	check "they have the options for that" eval 'grep -q NOTIFIER "$top/build/x86_64-none/.config" && grep -qx CONFIG_BENCH=y "$top/build/x86_64-none/.config"'
	check "a second time nothing is done" gives 0 "up to date" build_state series-none mm/ fork.o
	check "other objects are a reason" gives 0 "is ready" build_state series-none fork.o
	check "and what was there goes" [ "$(ls "$top/build/kernels/series-none/objects")" = fork.o ]
	check "base can be without, too" gives 0 "kernels/base-none/objects is ready" build_state base-none fork.o
	check "stock cannot" fails_saying "there is no state 'stock-none'" build_state stock-none mm/
	check "nor what is unknown" fails_saying "there is no state 'nonsense-bench'" build_state nonsense-bench
	rm "$top/base/configs/none.config"
	check "without its options, the file is named" fails_saying "base/configs/none.config is missing" build_state base-none mm/

	git -C "$lin" checkout -q b.c
	stub dpkg-query <<<'echo "ii "'
	stub aarch64-linux-gnu-gcc <<<'echo cross gcc'
	stub aarch64-linux-gnu-ld <<<'echo cross ld'
	check "arm64 has a kernel of its own" gives 0 "kernels/series-arm64/vmlinux is ready: 2 objects" env ARCH=arm64 PATH="$stubs:$PATH" "$top/scripts/build.sh"
	check "made by its compiler" grep -qx "ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-" "$top/build/arm64/made"
	check "with its own options and the common ones" eval 'grep -qx CONFIG_ARM=y "$top/build/arm64/.config" && grep -qx CONFIG_GOOD=y "$top/build/arm64/.config" && ! grep -q X86 "$top/build/arm64/.config"'
	rm "$top/base/configs/arm64.config"
	check "without them, the file is named" fails_saying "base/configs/arm64.config is missing" env ARCH=arm64 PATH="$stubs:$PATH" "$top/scripts/build.sh"
	rm -r "$stubs"
	rm -rf "$top"
	export BUILD=$work/top/build
}

# --- test.sh --------------------------------------------------------------

# suite TEXT: test.sh, of which test-scripts.sh prints this
suite() {
	local name

	printf '#!/bin/bash\nprintf "%s"\n' "$1" >"$top/scripts/test-scripts.sh"
	printf '#!/bin/bash\nprintf "0 passed, 0 failed\\n"\n' >"$top/scripts/test-boot.sh"
	for name in $others; do
		cp "$top/scripts/test-boot.sh" "$top/scripts/$name"
	done
	printf '#!/bin/bash\n%s\n' "${2:-}" >"$top/scripts/tree.sh"
	TEST_ONLY=scripts "$top/scripts/test.sh"
}

# closes STATUS LINE TEXT...: suite's status and last line
closes() {
	local want=$1 line=$2 got=0

	shift 2
	run suite "$@" || got=$?
	[ "$got" = "$want" ] && [ "$(tail -n 1 "$work/out")" = "$line" ]
}

test_test() {
	local others most

	fresh
	others=$(sed -n 's/^script_tests="test-scripts.sh test-boot.sh \(.*\)"$/\1/p' "$top/scripts/test.sh")
	most=$((5 + $(wc -w <<<"$others")))
	check "all good: the closing line, and status 0" closes 0 "$most passed, 0 failed" 'ok - a\n1 passed, 0 failed\n'
	check "a test that fails: the same, and status 1" closes 1 "$most passed, 1 failed" 'ok - a\nnot ok - b\n# why\n1 passed, 1 failed\n'
	check "what it said is shown" grep -q '^# why' "$work/out"
	check "tests that break off are a failure" closes 1 "$((most - 1)) passed, 1 failed" 'ok - a\n'
	check "so are numbers that are not true" closes 1 "$((most - 1)) passed, 1 failed" 'ok - a\n2 passed, 0 failed\n'
	check "so is a tree that cannot be made" closes 1 "$((most - 1)) passed, 1 failed" 'ok - a\n1 passed, 0 failed\n' 'echo "error: stub" >&2; exit 1'
	check "and it is among the failures at the end" eval 'grep "^not ok" "$work/out" | grep -q "the tree has"'
	check "a step that does not exist is refused" fails_saying "there is no step 'nonsense'" env TEST_ONLY=nonsense "$top/scripts/test.sh"
	check "and one that arm64 does not have" fails_saying "for arm64" env ARCH=arm64 TEST_ONLY=amd "$top/scripts/test.sh"
}

test_boot
test_boot_initrd
test_boot_ways
test_initrd
test_initrd_program
test_mutate
test_run
test_build
test_test
finish
