#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# shell.sh [with M=DIR in the environment]
#
# Boots the kernel of the series under QEMU, without KVM, with a shell on this terminal
# (scripts/kernel/shell). The module in DIR, if there is one, is ready for modprobe, and
# programs in DIR that are linked statically are in the path.
# exit or Ctrl-D powers the guest off. Ctrl-C goes to the guest; Ctrl-A x ends QEMU.
#
# If standard input is no terminal, the guest runs the commands in it, within 10 minutes. This
# ends with their status.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

here=$scripts/kernel
kernel=$(kernel_dir series)
initrd=$BUILD/guest/shell.cpio
qemu=
terminal=
limit=600 # seconds, for commands that are piped in

# Sets modules.
make_kernel() {
	modules=
	if [ -n "${M:-}" ]; then
		modules=$("$here/module.sh")
	else
		"$scripts/tree/tree.sh"
		"$here/build.sh" series
	fi
}

# Sets commands, to the file that has them.
take_commands() {
	commands=$tmp/root/commands
	note "taking commands from standard input, which is no terminal"
	cat >"$commands"
	[ -s "$commands" ] || die "make shell has no terminal, and no commands either; pipe some into it, such as: echo uname -a | make shell"
}

add_modules() {
	local extra module

	extra=$tmp/root/lib/modules/$(ls "$kernel/modules/lib/modules")/extra
	mkdir -p "$extra"
	for module in $modules; do
		"${cross}objcopy" --strip-debug "$module" "$extra/${module##*/}"
	done
}

is_program() {
	[ -f "$1" ] && [ -x "$1" ] && [ "$(head -c 4 "$1" | tr -d '\0')" = $'\177ELF' ]
}

add_programs() {
	local program

	mkdir -p "$tmp/root/bin"
	for program in "$M"/*; do
		is_program "$program" || continue
		! readelf -l "$program" | grep INTERP >/dev/null ||
			die "$program is linked dynamically, and the guest has no libraries; link it with -static"
		cp "$program" "$tmp/root/bin"
	done
}

# The kernel unpacks one archive after the other. What is not the same in all calls stays
# out of the file that they share.
make_guest() {
	"$here/initrd.sh" -s "$initrd"
	cp "$initrd" "$tmp/initrd"
	[ -z "$modules" ] || add_modules
	(cd "$tmp/root" && find . -mindepth 1 | cpio -o -H newc --quiet --owner=0:0) >>"$tmp/initrd"
}

# However this ends, QEMU ends, and the terminal is what it was.
cleanup() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || :
	[ -z "$qemu" ] || wait "$qemu" || :
	[ -z "$terminal" ] || stty "$terminal" || :
	[ -z "$tmp" ] || rm -rf "$tmp"
}

# start_qemu ARGUMENT...: the kernel gives NAME=VALUE that it does not know to init, in its
# environment. In the background, as the shell would not look at signals before it ends.
start_qemu() {
	local status=0

	setpriv --pdeathsig TERM "${within[@]}" qemu-system-x86_64 \
		-accel tcg -M q35,i8042=off -cpu max -m 1G -smp 2 \
		-nodefaults -no-reboot -display none "${serial[@]}" \
		-kernel "$kernel/vmlinux" -initrd "$tmp/initrd" \
		-append "console=ttyS0 no_timer_check quiet panic=-1 kunit.enable=0 $*" <&0 &
	qemu=$!
	wait "$qemu" || status=$?
	qemu=
	[ "$status" != 124 ] || die "the commands did not end within $limit s"
	[ "$status" = 0 ] || die "QEMU ended with status $status"
}

boot_terminal() {
	local size

	read -r -a size < <(stty size)
	terminal=$(stty -g)
	serial=(-serial mon:stdio) within=()
	start_qemu "ROWS=${size[0]}" "COLS=${size[1]}"
}

# The last line of the guest has the status of the commands.
boot_commands() {
	local status

	serial=(-chardev "stdio,id=line,logfile=$tmp/console" -serial chardev:line)
	within=(timeout -k 10 "$limit")
	start_qemu </dev/null
	status=$(sed -nE 's/^commands: status ([0-9]+)\r?$/\1/p' "$tmp/console" | tail -n 1)
	[ -n "$status" ] || die "the guest ended before the commands did; what it printed is above"
	exit "$status"
}

[ ! -t 0 ] || [ -t 1 ] || die "make shell needs a terminal for its output, too, or commands on its input"
[ "$arch" = x86_64 ] || die "make shell is for x86_64 only; make module ARCH=$arch works"
need_packages "${kernel_packages[@]}" busybox-static binutils
need_commands qemu-system-x86_64 setpriv stty cpio
tmp=
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
mkdir -p "${initrd%/*}"
tmp=$(mktemp -d "$initrd.XXXXXX")
mkdir "$tmp/root"
commands=
[ -t 0 ] || take_commands
[ -z "${M:-}" ] || add_programs
make_kernel
make_guest
note "booting $(short "$kernel")/vmlinux; it takes some seconds"
if [ -n "$commands" ]; then boot_commands; else boot_terminal; fi
