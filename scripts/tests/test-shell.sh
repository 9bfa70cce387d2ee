#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-shell.sh: make module and make shell, on the real kernel of the series. Types the
# commands that the greeting names, as it names them, and looks at what each prints.
# A step that does not end in time fails.
# shellcheck disable=SC2016 # bash -c and expect expand it
set -u

# shellcheck source=scripts/lib/lib.sh
(. "$(dirname "$0")/../lib/lib.sh" && need_packages expect procps) || exit 1
mapfile -d '' -t environment < <(env -0) # before test-lib.sh hides the real build
# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

kernel=$(cd "$here/../kernel" && pwd)
drivers=$(mktemp -d "${TMPDIR:-/tmp}/test-shell.XXXXXX") # kbuild allows no blank
trap 'rm -rf "$work" "$drivers"' EXIT

real() {
	timeout -k 10 3600 env -i "${environment[@]}" "$@"
}

# --- make module ----------------------------------------------------------

# driver NAME [MAKEFILE]: stdin becomes NAME.c
driver() {
	mkdir -p "$drivers/$1"
	cat >"$drivers/$1/$1.c"
	[ -z "${2:-}" ] || echo "$2" >"$drivers/$1/Makefile"
	find "$drivers/$1" | sort >"$drivers/$1.files"
}

# refuses TEXT DIR: one error line, and nothing is left in DIR
refuses() {
	fails_saying "$1" real M="$2" "$kernel/module.sh" || return 1
	[ ! -d "$2" ] || find "$2" | sort | cmp -s - "$2.files"
}

refuses_all() {
	refuses "M= is missing" "" && refuses "not a directory" "$drivers/nowhere" &&
		refuses "no Makefile" "$drivers/bare"
}

builds_hello() {
	run real M="$drivers/hello" "$kernel/module.sh" &&
		grep -qxF "$drivers/hello/hello.ko" "$work/out" && [ -s "$drivers/hello/hello.ko" ]
}

driver hello 'obj-m := hello.o' <<'END'
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/sched.h>

static void hello_invalidate_range(struct mmu_notifier *mn, struct mm_struct *mm,
				   unsigned long start, unsigned long end)
{
	pr_info_once("hello: invalidate_range() is called\n");
}

static const struct mmu_notifier_ops ops = { .invalidate_range = hello_invalidate_range };
static struct mmu_notifier mn = { .ops = &ops };

static int __init hello_init(void)
{
	return mmu_notifier_register(&mn, current->mm);
}
module_init(hello_init);
MODULE_LICENSE("GPL");
END
driver wrong 'obj-m := wrong.o' <<<'int wrong = nowhere;'
driver none '# nothing' </dev/null
driver bare </dev/null

# --- make shell -----------------------------------------------------------

# Arguments: where the answers go, how to end it (exit, kill), what to start, and what to type
# besides the commands of the greeting. The answer to number N is in answer.N.
session() {
	run timeout -k 10 900 env -i "${environment[@]}" expect - "$work" "$@" <<'END'
proc answer {seconds what} {
	set ::timeout $seconds
	expect {
		-re {^(.*?)\r\nguest# } { return $expect_out(1,string) }
		timeout { puts "no answer in $seconds s: $what"; exit 1 }
		eof { puts "$expect_out(buffer)\nended: $what"; exit 1 }
	}
}
proc save {name text} {
	set file [open $::work/$name w]
	puts $file [string map {"\r" "" "\033\[6n" ""} $text] ;# busybox asks where the cursor is
	close $file
}
log_user 0
match_max 1000000
set work [lindex $argv 0]
set start [lindex $argv 2]
# With a size, and in one shell, which sees the terminal before and after.
spawn -noecho bash -c "stty rows 40 cols 200; stty -a >'$work/before'; $start; echo \$? >'$work/status'; stty -a >'$work/after'"
set greeting [answer 600 "the first prompt"]
save greeting $greeting
set commands [lrange $argv 3 end]
if {[lindex $argv 1] eq "exit"} {
	set named {}
	foreach {all command} [regexp -all -inline -line {^  (\S.*?)  +\S.*$} [string map {"\r" ""} $greeting]] {
		lappend named $command
	}
	save commands [join $named "\n"]
	set commands [concat $named $commands]
}
set n 0
foreach command $commands {
	send -- "$command; echo status=\$?\r"
	if {[string match "sleep *" $command]} { sleep 2; send "\003" }
	save answer.[incr n] [answer 60 $command]
}
if {[lindex $argv 1] eq "kill"} {
	exec kill -9 [exec pgrep -P [exec pgrep -P [exp_pid]]]
} else {
	send "exit\r"
}
set timeout 30
expect eof { save end $expect_out(buffer) } timeout { puts "it does not end"; exit 1 }
wait
END
}

# answered N TEXT...: the command has succeeded, and what it printed has each TEXT
answered() {
	local file=$work/answer.$1 text

	cp "$file" "$work/out" && grep -qx 'status=0' "$file" || return 1
	shift
	for text; do
		grep -qE -e "$text" "$file" || return 1
	done
}

# A call for just the page that the device read, on behalf of munmap().
traced() {
	local page

	page=$(sed -n 's/.*page at 0x\([0-9a-f]*\)$/\1/p' "$work/answer.3")
	[ -n "$page" ] && answered 4 "device-.*start=0x$page end=$(printf '%#x' $((0x$page + 4096))) subscribers=1 caller=.*unmap"
}

unchanged_terminal() {
	run diff "$work/before" "$work/after" && grep -q ' echo' "$work/after"
}

# The prompt came back before its 100 seconds were over, and the guest goes on.
interrupted() {
	[ -s "$work/answer.8" ] && answered 9
}

all_typed() {
	session exit "M='$drivers/hello' '$kernel/shell.sh'" 'modprobe hello' 'dmesg | grep hello:' 'sleep 100' 'true' &&
		cp "$work/end" "$work/out" && grep -q 'Power down' "$work/end" && [ "$(cat "$work/status")" = 0 ]
}

killed() {
	session kill "'$kernel/shell.sh'" && [ "$(cat "$work/status")" = 1 ] && unchanged_terminal
}

# pipes STATUS TEXT COMMANDS: into the shell with hello
pipes() {
	gives "$1" "$2" real M="$drivers/hello" "$kernel/shell.sh" <<<"$3"
}

# program [OPTION]: of M=
program() {
	printf 'int main(void) { return 7; }\n' >"$drivers/seven.c" && gcc "$@" -o "$drivers/hello/seven" "$drivers/seven.c"
}

check "without a terminal and without commands, the shell says so" fails_saying "pipe some into it" real "$kernel/shell.sh" </dev/null
check "M= that cannot be a module: none, no such directory, no Makefile" refuses_all
check "M= that does not compile" refuses "does not build" "$drivers/wrong"
check "M= whose Makefile names no module" refuses "names no module" "$drivers/none"
check "a driver outside of the repository is built" builds_hello
check "the shell starts, and exit powers off, with status 0" all_typed
check "the terminal is what it was" unchanged_terminal
check "the greeting names five commands" eval '[ "$(wc -l <"$work/commands")" = 5 ]'
check "the sample is loaded, and the trace event on" eval 'answered 1 && answered 2'
check "its device reads, and no longer after munmap()" answered 3 'reads 1 \(it walks' 'reads 1 \(from its TLB\)' \
	'munmap\(\): .* called, 1 x' 'an error: Bad address \(it walks'
check "the trace has the call, its range and its callers" traced
check "the device that reads in each callback is never wrong" answered 5 'called, [1-9][0-9]* x' \
	' [1-9][0-9]* accesses' '^ +0 used an old' '^ +0 pages were freed' '^ +0 page tables were freed'
check "the driver of M= is loaded, and called" eval 'answered 6 && answered 7 "hello: invalidate_range.. is called"'
check "Ctrl-C interrupts the program in the guest" interrupted
check "QEMU killed: an error, and the terminal is what it was" killed
program -static
check "commands are piped in: they find the driver and the program of M=, and their status is returned" \
	pipes 7 'hello: invalidate_range() is called' 'modprobe hello && dmesg | grep hello: && seven'
check "a panic before they end is an error" pipes 1 'error: the guest ended before' 'echo c >/proc/sysrq-trigger'
program
check "a program that needs libraries is refused" pipes 1 'hello/seven is linked dynamically' true
finish
