#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-mutants.sh: what mutate.sh does to calls and instructions, on a program, and
# what mutants.sh makes of it, on stubs. Everything happens in a scratch directory
# (with a blank in its name).
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

export BUILD=$top/build

fresh() {
	rm -rf "$top"
	mkdir -p "$top/build"
	cp -a "$here" "$top/scripts"
}

# gives STATUS TEXT COMMAND...: ends with this status and says this
gives() {
	local want=$1 text=$2 got=0

	shift 2
	run "$@" || got=$?
	[ "$got" = "$want" ] && grep -qF -e "$text" "$work/out"
}

# --- mutate.sh ------------------------------------------------------------

# Calls the function for four pages from the 16th, and then the other one. Exits with
# the number of pages that it was called for, 16 more if it was from the 17th, 64 more
# if it came after the other one; 128 more if pages were freed before.
make_program() {
	local name

	{
		for name in _start site near tail __mmu_notifier_invalidate_range __mmu_notifier_invalidate_range_end \
			__tlb_invalidate_secondary tlb_batch_pages_flush ptep_clear_flush pmdp_huge_clear_flush \
			pmdp_invalidate pmdp_collapse_flush amd_iommu_flush_range __iommu_queue_command_sync \
			iommu_completion_wait srcu_barrier synchronize_srcu __do_adjtimex; do
			printf '.type %s, @function\n.globl %s\n' "$name" "$name"
		done
		cat <<-'EOF'
		.comm kernfs_pr_cont_buf, 4096
		_start:
			xor %ebx, %ebx
			xor %r14d, %r14d
			xor %r15d, %r15d
			mov $gather, %rdi
			mov $0x10000, %rsi
			mov $0x14000, %rdx
			call entry
		end:	call __mmu_notifier_invalidate_range_end
			mov %ebx, %edi
			mov $60, %eax
			syscall
		.ifdef use_gather
		entry:	call __tlb_invalidate_secondary
			ret
		.else
		entry:	call site
			ret
		.endif
		site:
			call __mmu_notifier_invalidate_range
			ret
		tail:
			.byte 0xe9
			.long __mmu_notifier_invalidate_range - . - 4
		near:
			jmp __mmu_notifier_invalidate_range
		__mmu_notifier_invalidate_range:
			sub %rsi, %rdx
			shr $12, %rdx
			add %edx, %ebx
			shr $8, %esi
			and $0x70, %esi
			add %esi, %ebx
			add %r15d, %ebx
			add %r14d, %ebx
			ret
		__mmu_notifier_invalidate_range_end:
			mov $64, %r15d
			ret
		tlb_batch_pages_flush:
			mov $128, %r14d
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
		pmdp_huge_clear_flush:
		pmdp_invalidate:
		pmdp_collapse_flush:
		amd_iommu_flush_range:
		__iommu_queue_command_sync:
		iommu_completion_wait:
		srcu_barrier:
		synchronize_srcu:
			nop
			ret
		__do_adjtimex:
			.fill ROOM, 1, 0x90
		.size __do_adjtimex, ROOM
		.data
		gather:	.quad 1, 0x10000, 0x13000, 0, 0x14000
		EOF
	} | sed "s/OFFSET/${2:-0x330}/; s/ROOM/${3:-2000}/" >"$work/program.S"
	gcc -nostdlib -static -no-pie -Wa,--defsym,"${1:-nothing}=1" -o "$work/program" "$work/program.S"
}

mutate() {
	"$top/scripts/mutate.sh" "$@"
}

# exits STATUS: the mutant
exits() {
	local got=0

	"$work/mutant" || got=$?
	[ "$got" = "$1" ]
}

place() {
	nm "$work/program" | awk -v name="$1" '$3 == name { print $1 }'
}

# hook PIECE=NAME...: with the names of places
hook() {
	local pair args=()

	for pair; do
		args+=("${pair%%=*}=$(place "${pair#*=}")")
	done
	mutate hook "$work/program" "$work/mutant" "${args[@]}"
}

hooked() {
	local status=$1

	shift
	run hook "$@" && exits "$status"
}

test_hook() {
	local pair

	fresh
	check "the program is built" run make_program
	cp "$work/program" "$work/mutant"
	check "four pages are flushed" exits 4
	check "list has what was asked for" [ "$(mutate list "$work/program" __mmu_notifier_invalidate_range_end | cut -d ' ' -f 2-)" = "call end+0x0 __mmu_notifier_invalidate_range_end" ]
	for pair in same=4 nothing=0 empty=0 first=19 last=3 shift=20 late=0; do
		check "a call led to '${pair%=*}'" hooked "${pair#*=}" "${pair%=*}=site"
	done
	check "late, and made after the end" hooked 68 late=site late_end=end
	check "the jump of a tail call" run hook empty=tail
	check "a short one" fails_saying "is too short" hook empty=near
	check "an address that is no call" fails_saying "is no call or jump" hook empty=_start
	check "a call of something else" fails_saying "does not go to" hook empty=entry
	check "even after a good one" fails_saying "does not go to" hook empty=site empty=entry
	check "a piece that is not there" fails_saying "has no piece 'bogus'" hook bogus=site
	check "a name in it that is no piece" fails_saying "has no piece 'page'" hook page=site
	check "no address" fails_saying "'x' is no address" mutate hook "$work/program" "$work/mutant" empty=x
	check "no piece" fails_saying "usage" mutate hook "$work/program" "$work/mutant" "$(place site)"

	run make_program use_gather
	check "pages are freed after the call" hooked 4 same=site
	check "or before" hooked 132 freed_first=entry
	check "without page tables, the range is smaller" hooked 3 no_tables=entry

	rm -f "$work/mutant"
	run make_program nothing 0x338
	check "another layout of mm_struct is noticed" fails_saying "correct mm_flags in scripts/mutants.S" hook empty=site
	run make_program nothing 0x330 100
	check "so is a cave that is too small" fails_saying "__do_adjtimex() only 100" hook empty=site
	sed -i 's/__do_adjtimex/__do_something/' "$work/program.S"
	run gcc -nostdlib -static -no-pie -o "$work/program" "$work/program.S"
	check "and one that is not there" fails_saying "has no function __do_adjtimex" hook empty=site
	sed -i 's/__do_something/__do_adjtimex/; s/tlb_batch_pages_flush/something_else/' "$work/program.S"
	run gcc -nostdlib -static -no-pie -o "$work/program" "$work/program.S"
	check "and a function that the pieces need" fails_saying "has no tlb_batch_pages_flush, which scripts/mutants.S needs" hook empty=site
	check "none of them leaves a file" eval '[ ! -e "$work/mutant" ] && [ -z "$(find "$work" -maxdepth 1 -name "*.tmp.*")" ]'
	run make_program
	echo "bogus" >>"$top/scripts/mutants.S"
	check "assembly language with a mistake" fails_saying "as does not take this" hook empty=site
}

insn() {
	mutate insn "$work/program" "$work/mutant" __tlb_invalidate_secondary "$@"
}

test_insn() {
	fresh
	run make_program use_gather
	check "an instruction is replaced" eval 'run insn "<testb" "nop" && exits 4'
	check "by what is as long" eval 'run insn "<mov 0x20" "mov 0x10(%rdi), %rdx" && exits 3'
	check "found by the one before it" eval 'run insn "testb [^<]*<mov" "nop" && exits 3'
	check "no match is refused" fails_saying "0 instructions are '<bogus'" insn "<bogus" nop
	check "so are several" fails_saying "2 instructions are '<mov'" insn "<mov" nop
	check "so is what is longer" fails_saying "is longer than 'testb" insn "<testb" 'movabs $1, %rax'
	check "so is what as does not know" fails_saying "as does not take this" insn "<testb" "bogus"
	check "so is a function that is not there" fails_saying "has no function nosuch" mutate insn "$work/program" "$work/mutant" nosuch "<mov" nop
	check "so is one of unknown size" fails_saying "does not say how long" mutate insn "$work/program" "$work/mutant" site "<call" nop
}

# --- mutants.sh -----------------------------------------------------------

# A kernel with four sites, two of them in one function; what mutate.sh writes is what
# it was called with. A boot is good if a word of $work/good is in there, a panic if one
# of $work/panic is, a warning with a failed case if one of $work/warn is; else, a case
# fails.
fresh_stubs() {
	fresh
	: >"$work/good"
	: >"$work/panic"
	: >"$work/warn"
	: >"$work/gone"
	: >"$work/boots"
	: >"$work/equivalent"
	echo kernel >"$work/kernel"
	cat >"$top/scripts/mutate.sh" <<-EOF
	#!/bin/bash
	case "\$1 \$3" in
	"list __mmu_notifier_invalidate_range") cat '$work/sites' ;;
	list*) cat '$work/others' ;;
	*) [ ! -e '$work/broken' ] || { echo "error: no such thing" >&2; exit 1; }
	   echo "\$1 \${*:4}" >"\$3" ;;
	esac
	EOF
	cat >"$top/scripts/boot.sh" <<-EOF
	#!/bin/bash
	while getopts :k:o:a:t: option; do
		case \$option in
		k) kernel=\$OPTARG ;;
		o) log=\$OPTARG ;;
		esac
	done
	shift \$((OPTIND - 1))
	cat "\$kernel" >>'$work/boots'
	printf 'suite\tpass\tcase_one\t\nsuite\tfail\tcase_two\t\n' >"\$log.cases"
	echo "reboot: Power down" >"\$log"
	if grep -qFf '$work/good' "\$kernel"; then
		sed -i s/fail/pass/ "\$log.cases"
		exit 0
	elif grep -qFf '$work/panic' "\$kernel"; then
		echo "Kernel panic - not syncing" >"\$log"
		echo "error: x: the kernel says 'Kernel panic'; the console is in y" >&2
		exit 2
	elif grep -qFf '$work/gone' "\$kernel"; then
		printf '%s\n' "#  RUN           suite.test_of_it ..." "RIP: 0010:mmu_notifier_free_rcu+0x14/0x40" >"\$log"
		exit 2
	elif grep -qFf '$work/warn' "\$kernel"; then
		echo "error: x: the kernel says 'WARNING: z'; the console is in y" >&2
		exit 2
	fi
	exit 1
	EOF
	printf '%s %s %s %s\n' >"$work/sites" \
		a1 call one+0x1 __mmu_notifier_invalidate_range \
		a2 call two+0x1 __mmu_notifier_invalidate_range \
		a3 call two+0x9 __mmu_notifier_invalidate_range \
		a4 call tlb_flush_mmu+0x9 __tlb_invalidate_secondary
	printf '%s %s %s %s\n' >"$work/others" \
		b1 call ender+0x1 __mmu_notifier_invalidate_range_end \
		b2 call __flush_pasid+0x1 __iommu_queue_command_sync \
		b3 call __flush_pasid+0x2 iommu_completion_wait \
		b4 call mn_invalidate_range+0x3 amd_iommu_flush_range
}

mutants() {
	MUTANTS_KERNEL=$work/kernel MUTANTS_EQUIVALENT=$work/equivalent "$top/scripts/mutants.sh" "$@"
}

boots() {
	wc -l <"$work/boots"
}

rows() {
	grep -c "$1" "$top/build/report/mutants.tsv"
}

test_mutants() {
	fresh_stubs
	check "all die" gives 0 "all " mutants
	check "each has a row, with its killers" [ "$(rows '	killed	case_two$')" = $(($(wc -l <"$top/build/report/mutants.tsv") - 1)) ]
	check "each site has five ranges" [ "$(rows ^ranges)" = 15 ]
	check "sites of one function are numbered" [ "$(rows ^calls.two#2)" = 1 ]
	check "late takes all ends" grep -q "hook late=a1 late_end=b1" "$work/boots"
	: >"$work/boots"
	check "nothing is booted twice" eval 'mutants >"$work/out" 2>&1 && [ "$(boots)" = 0 ]'
	echo "another kernel" >"$work/kernel"
	check "another kernel is" eval 'mutants calls >"$work/out" 2>&1 && [ "$(boots)" = 4 ]'
	: >"$work/boots"
	check "a group" eval 'mutants gate >"$work/out" 2>&1 && [ "$(boots)" = "$(rows ^gate)" ]'
	check "a site" eval 'mutants "two#1" >"$work/out" 2>&1 && [ "$(rows "two#1")" = 6 ]'
	check "a function" eval 'mutants two >"$work/out" 2>&1 && [ "$(rows "two#[12]")" = 12 ]'
	check "something else is refused" fails_saying "'bogus' is neither a group" mutants bogus

	fresh_stubs
	echo "knock a2" >"$work/good"
	check "one lives: it is named, status 1" gives 1 "survived: calls, two#1 (call at two+0x1), no call" mutants calls
	check "and counted" grep -qx "calls *3 *1 *0 *0" "$work/out"
	check "as lines for test.sh" gives 1 "not ok - mutant two#1 (call at two+0x1): no case fails" mutants -t calls
	check "with the others" [ "$(grep -c '^ok - mutant .*: killed by case_two$' "$work/out")" = 3 ]
	printf 'two#1\tno call\tbecause\n' >"$work/equivalent"
	check "with a reason, status 0" gives 0 "skip - mutant two#1 (call at two+0x1): because" mutants -t calls
	check "and counted so" gives 0 "equivalent" mutants calls
	check "there" grep -qx "calls *3 *0 *1 *0" "$work/out"
	printf 'one\t*\tbecause\n' >>"$work/equivalent"
	check "a reason for what dies is wrong" gives 1 "killed all the same: calls, one (call at one+0x1), no call: by case_two" mutants calls
	printf 'three\t*\tbecause\n' >"$work/equivalent"
	check "so is one for what is no mutant" fails_saying "names what is no mutant: three, *" mutants calls

	: >"$work/equivalent"
	: >"$work/good"
	echo "different" >"$work/kernel"
	: >"$work/boots"
	echo "knock a1" >"$work/panic"
	echo "knock a3" >"$work/warn"
	check "a panic proves nothing, whatever failed before" gives 1 "unbootable: calls, one (call at one+0x1), no call: the kernel says 'Kernel panic'" mutants calls
	check "a warning is no obstacle" grep -qx "calls *3 *0 *0 *1" "$work/out"
	check "even at the second boot" [ "$(grep -c "knock a1" "$work/boots")" = 2 ]
	: >"$work/panic"
	: >"$work/boots"
	check "what proved nothing is tried again" eval 'mutants calls >"$work/out" 2>&1 && [ "$(boots)" = 1 ]'

	echo "a third" >"$work/kernel"
	echo "knock a1" >"$work/gone"
	check "a call into a module that is gone is what a test provokes" gives 0 "all " mutants calls
	check "that one" [ "$(rows '^calls.one.*killed	test_of_it$')" = 1 ]
	: >"$work/gone"

	touch "$work/broken"
	check "a mutant that cannot be made ends it all" gives 124 "error: no such thing" mutants gate
	check "without a report" [ ! -e "$top/build/report/mutants.tsv" ]
	rm "$work/broken"
	: >"$work/sites"
	check "a kernel without calls is refused" fails_saying "nothing in" mutants calls
	rm "$work/kernel"
	check "so is a kernel that is not there" fails_saying "there is no kernel" mutants calls
	check "an option is refused" fails_saying "usage" mutants -x
}

test_hook
test_insn
test_mutants
finish
