#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-mutants.sh: mutate.sh changes what it says and nothing else, on a program that runs;
# mutants.sh and source-mutants.sh say what became of each mutant, on stubs.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

export BUILD=$top/build

# --- mutate.sh ------------------------------------------------------------

# Calls the function for four pages from the 16th, and then the other one. Exits with
# the number of pages that it was called for, 16 more if it was from the 17th, 64 more
# if it came after the other one.
make_program() { # [OFFSET OF THE FLAGS IN mm_struct]
	local name

	{
		for name in _start site tail __mmu_notifier_invalidate_range __mmu_notifier_invalidate_range_end \
			__tlb_invalidate_secondary tlb_batch_pages_flush ptep_clear_flush pmdp_huge_clear_flush \
			pmdp_invalidate pmdp_collapse_flush amd_iommu_flush_range __iommu_queue_command_sync \
			iommu_completion_wait qi_fill_piotlb qi_fill_dev_iotlb_pasid qi_submit_sync \
			srcu_barrier synchronize_srcu __do_adjtimex; do
			printf '.type %s, @function\n.globl %s\n' "$name" "$name"
		done
		cat <<-'EOF'
		.comm kernfs_pr_cont_buf, 4096
		_start:
			mov $1, %edi
			xor %ebx, %ebx
			xor %r15d, %r15d
			mov $0x10000, %rsi
			mov $0x14000, %rdx
		entry:	call site
		end:	call __mmu_notifier_invalidate_range_end
			mov %ebx, %edi
			mov $60, %eax
			syscall
		site:
			call __mmu_notifier_invalidate_range
			ret
		tail:
			.byte 0xe9
			.long __mmu_notifier_invalidate_range - . - 4
		__mmu_notifier_invalidate_range:
			sub %rsi, %rdx
			shr $12, %rdx
			add %edx, %ebx
			shr $8, %esi
			and $0x70, %esi
			add %esi, %ebx
			add %r15d, %ebx
			ret
		__mmu_notifier_invalidate_range_end:
			mov $64, %r15d
			ret
		__tlb_invalidate_secondary:
			mov 0x8(%rdi), %rsi
			mov 0x10(%rdi), %rdx
			testb $0x1, 0x18(%rdi)
			mov 0x20(%rdi), %rdx
			jmp __mmu_notifier_invalidate_range
		.size __tlb_invalidate_secondary, . - __tlb_invalidate_secondary
		ptep_clear_flush:
			mov 0x10(%rdi), %rdi
			mov OFFSET(%rdi), %rax
			test $0x10000000, %eax
			ret
		.size ptep_clear_flush, . - ptep_clear_flush
		tlb_batch_pages_flush:
		pmdp_huge_clear_flush:
		pmdp_invalidate:
		pmdp_collapse_flush:
		amd_iommu_flush_range:
		__iommu_queue_command_sync:
		iommu_completion_wait:
		qi_fill_piotlb:
		qi_fill_dev_iotlb_pasid:
		qi_submit_sync:
		srcu_barrier:
		synchronize_srcu:
			ret
		__do_adjtimex:
			.fill 2000, 1, 0x90
		.size __do_adjtimex, 2000
		EOF
	} | sed "s/OFFSET/${1:-0x368}/" >"$work/program.S"
	run gcc -nostdlib -static -no-pie -o "$work/program" "$work/program.S"
}

# mutate COMMAND ARGUMENT...: the program becomes the mutant
mutate() {
	"$top/scripts/prove/mutate.sh" "$1" "$work/program" "$work/mutant" "${@:2}"
}

# exits STATUS COMMAND ARGUMENT...: that mutant
exits() {
	local want=$1 got=0

	shift
	rm -f "$work/mutant"
	run mutate "$@" || return
	"$work/mutant" || got=$?
	[ "$got" = "$want" ]
}

place() {
	nm "$work/program" | awk -v name="$1" '$3 == name { print $1 }'
}

no_mutant() {
	[ -z "$(find "$work" -maxdepth 1 -name 'mutant*')" ]
}

pieces_do_what_they_say() {
	exits 19 hook "first=$(place site)" && exits 3 hook "last=$(place site)" &&
		exits 68 hook "late=$(place site)" "late_end=$(place end)"
}

test_mutate() {
	fresh
	make_program
	check "a call that is knocked out is not made" exits 0 knock "$(place site)"
	check "a call led to a piece of mutants.S does what its name says" pieces_do_what_they_say
	rm -f "$work/mutant"
	check "a call of another function is refused, even after a good place" eval \
		'fails_saying "does not go to" mutate knock "$(place site)" "$(place entry)" && no_mutant'
	check "an address without a call is refused" eval 'fails_saying "is no call or jump" mutate hook "empty=$(place _start)" && no_mutant'
	check "an instruction that is there twice is refused" eval \
		'fails_saying "2 instructions are" mutate insn __tlb_invalidate_secondary "mov [^<]*<mov|<testb" nop && no_mutant'
	cp "$work/program" "$work/before"
	check "the kernel itself is not written to" eval \
		'fails_saying "is the kernel itself" "$top/scripts/prove/mutate.sh" knock "$work/program" "$work/program" all && cmp -s "$work/before" "$work/program"'
	make_program 0x338
	check "another layout of mm_struct is found" eval 'run mutate hook "empty=$(place site)"'
	rm -f "$work/mutant"
	sed -i '/test \$0x10000000/i nop' "$work/program.S"
	run gcc -nostdlib -static -no-pie -o "$work/program" "$work/program.S"
	check "flags of the mm that are not found are no mutant" eval \
		'fails_saying "does not test the flags of the mm" mutate hook "empty=$(place site)" && no_mutant'
}

# --- mutants.sh -----------------------------------------------------------

# A kernel with three sites; what mutate.sh writes is what it was called with. A boot is
# good if a word of $work/good is in there, a panic if one of $work/panic is; else, a
# case fails.
stubs() {
	fresh
	no_packages_missing
	: >"$work/good"
	: >"$work/panic"
	mkdir -p "$BUILD/kernels/series" "$BUILD/guest"
	echo kernel | tee "$BUILD/kernels/series/vmlinux" >"$BUILD/guest/initrd-x86_64.cpio"
	equivalent=$top/trees/6.1/mutants.equivalent
	: >"$equivalent"
	script tree/tree.sh <<<'exit 0'
	script kernel/build.sh <<<'exit 0'
	script kernel/initrd.sh <<<'exit 0'
	script prove/mutate.sh <<-EOF
	case "\$1 \$3" in
	"list __mmu_notifier_invalidate_range") cat '$work/sites' ;;
	list*) ;;
	*) echo "\$1 \${*:4}" >"\$3" ;;
	esac
	EOF
	script kernel/boot.sh <<-EOF
	kernel=\$2 log=\$4
	echo "reboot: Power down" >"\$log"
	if grep -qFf '$work/good' "\$kernel"; then
		printf 'suite\tpass\tcase_one\t\n' >"\$log.cases"
		exit 0
	fi
	printf 'suite\tfail\tcase_one\t\n' >"\$log.cases"
	grep -qFf '$work/panic' "\$kernel" || exit 1
	echo "Kernel panic - not syncing" >"\$log"
	echo "error: x: the kernel says 'Kernel panic'; the console is in y" >&2
	exit 2
	EOF
	printf '%s %s %s %s\n' >"$work/sites" \
		a1 call one+0x1 __mmu_notifier_invalidate_range \
		a2 call two+0x1 __mmu_notifier_invalidate_range \
		a3 call two+0x9 __mmu_notifier_invalidate_range
}

mutants() {
	stubbed "$top/scripts/prove/mutants.sh" calls
}

test_mutants() {
	local equivalent

	stubs
	check "mutants for which a case fails are killed, status 0" eval 'gives 0 "" mutants && grep -qx "calls *3 *0 *0 *0" "$work/out"'
	echo other >"$BUILD/kernels/series/vmlinux"
	echo "knock a2" >"$work/good"
	check "one that survives is named, status 1" gives 1 "survived: calls, two#1 (call at two+0x1), no call" mutants
	printf 'two#1\tno call\tbecause\n' >"$equivalent"
	check "with a reason, it is equivalent, status 0" eval 'gives 0 "" mutants && grep -qx "calls *2 *0 *1 *0" "$work/out"'
	printf 'one\t*\tbecause\n' >>"$equivalent"
	check "a reason for one that was killed is stale, status 1" gives 1 "killed all the same: calls, one (call at one+0x1), no call: by case_one" mutants
	: >"$equivalent"
	: >"$work/good"
	echo another >"$BUILD/kernels/series/vmlinux"
	echo "knock a1" >"$work/panic"
	check "a panic proves nothing, whatever failed before: status 1" gives 1 "unbootable: calls, one (call at one+0x1), no call: the kernel says 'Kernel panic'" mutants
}

# --- source-mutants.sh ----------------------------------------------------

# A kernel of one file. A boot is good if a word of $work/good is in there; else, a case fails.
source_stubs() {
	stubs
	list=$top/trees/6.1/mutants.source
	touch "$top/configs/common.config" "$top/configs/x86_64.config"
	mkdir -p "$BUILD/linux/mm"
	printf '%s\n' 'int one(void)' '{' '	lock();' '	change();' '}' 'int two(void)' '{' '	change();' '}' >"$BUILD/linux/mm/x.c"
	git -C "$BUILD/linux" init -q -b series
	git -C "$BUILD/linux" add .
	git -C "$BUILD/linux" commit -q -m kernel
	git -C "$BUILD/linux" tag stock
	# shellcheck disable=SC2016 # of the stub
	script kernel/build.sh <<<'mkdir -p "$BUILD/kernels/series" "$BUILD/x86_64"; echo kernel >"$BUILD/kernels/series/vmlinux"'
	# shellcheck disable=SC2016 # of the stub
	stub make <<<'! grep "syntax error" "$2/mm/x.c" && cp "$2/mm/x.c" "${3#O=}/vmlinux"'
	# shellcheck disable=SC2016 # of the stub
	stub objcopy <<<'cp "$2" "$3"'
}

# fault EDIT [REASON]: the only one of the list, in one()
fault() {
	printf '%s\n' "lock mm/x.c one all:case_one" "no lock" "$1" ${2:+"= $2"} >"$list"
}

source_mutants() {
	stubbed "$top/scripts/prove/source-mutants.sh" "$@"
}

# ends STATUS TEXT LAST: and the source is as it was
ends() {
	gives "$1" "$2" source_mutants && [ "$(tail -n 1 "$work/out")" = "$3" ] &&
		cmp -s "$BUILD/linux/mm/x.c" "$BUILD/mutants-source/source/mm/x.c"
}

test_source_mutants() {
	local list

	source_stubs
	fault '/lock\(/d'
	check "a fault in the source for which a case fails is killed" ends 0 "killed case_one" "1 passed, 0 failed"
	check "make test gets a line for it" gives 0 "ok - source mutant one (no lock): killed by case_one" source_mutants -t 1
	stub make <<<'exit 1'
	check "what was found out is not found out again" ends 0 "killed case_one" "1 passed, 0 failed"
	source_stubs
	fault 's/lock\(\)/key()/'
	echo 'key()' >"$work/good"
	check "one that survives is named, and has failed" ends 1 "survived: lock, one() of mm/x.c, no lock" "0 passed, 1 failed"
	fault 's/lock\(\)/key()/' "of what it is"
	check "with a reason, it is equivalent" ends 0 "equivalent of what it is" "1 passed, 0 failed"
	fault '/lock\(/d' "of what it is"
	check "a reason for one that was killed is stale" ends 1 "killed all the same: lock, one() of mm/x.c, no lock: by case_one" "0 passed, 1 failed"
	fault '/unlock\(/d'
	check "an edit that no longer applies is broken" ends 1 "the edit changes 0 places in one of mm/x.c, not 1" "0 passed, 1 failed"
	fault '/change\(/s/^/syntax error/'
	check "so is one that does not build" ends 1 "does not build: syntax error" "0 passed, 1 failed"
	sed -i 's/one all/three all/' "$list"
	check "so is one in a function that is not there" ends 1 "mm/x.c has no function three" "0 passed, 1 failed"
	check "a name that is not in the list is refused" fails_saying "'nobody' is neither a group" source_mutants nobody
	sed -i 's/^lock/luck/' "$list"
	check "a group that is not known is refused" fails_saying "'luck' of 'no lock' is no group" source_mutants
}

test_mutate
test_mutants
test_source_mutants
finish
