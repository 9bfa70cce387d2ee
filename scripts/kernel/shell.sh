#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# shell.sh [with M=DIR in the environment]
#
# Boots the kernel of the series under QEMU, without KVM, with a shell on this terminal
# (scripts/kernel/shell), and the module in DIR, if there is one, ready for modprobe.
# exit or Ctrl-D powers the guest off. Ctrl-C goes to the guest; Ctrl-A x ends QEMU.
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

# The kernel unpacks one archive after the other. What M= built stays out of the file
# that all calls share.
make_guest() {
	local release module

	"$here/initrd.sh" -s "$initrd"
	tmp=$(mktemp -d "$initrd.XXXXXX")
	cp "$initrd" "$tmp/initrd"
	[ -n "$modules" ] || return 0
	release=$(ls "$kernel/modules/lib/modules")
	mkdir -p "$tmp/root/lib/modules/$release/extra"
	for module in $modules; do
		"${cross}objcopy" --strip-debug "$module" "$tmp/root/lib/modules/$release/extra/${module##*/}"
	done
	(cd "$tmp/root" && find . -mindepth 1 | cpio -o -H newc --quiet --owner=0:0) >>"$tmp/initrd"
}

# However this ends, QEMU ends, and the terminal is what it was.
cleanup() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || :
	[ -z "$qemu" ] || wait "$qemu" || :
	[ -z "$terminal" ] || stty "$terminal" || :
	[ -z "$tmp" ] || rm -rf "$tmp"
}

# The kernel gives NAME=VALUE that it does not know to init, in its environment.
boot() {
	local size status=0

	read -r -a size < <(stty size)
	terminal=$(stty -g)
	# In the background, as the shell would not look at signals before it ends.
	setpriv --pdeathsig TERM qemu-system-x86_64 \
		-accel tcg -M q35,i8042=off -cpu max -m 1G -smp 2 \
		-nodefaults -no-reboot -display none -serial mon:stdio \
		-kernel "$kernel/vmlinux" -initrd "$tmp/initrd" \
		-append "console=ttyS0 no_timer_check quiet panic=-1 kunit.enable=0 ROWS=${size[0]} COLS=${size[1]}" <&0 &
	qemu=$!
	wait "$qemu" || status=$?
	qemu=
	[ "$status" = 0 ] || die "QEMU ended with status $status"
}

{ [ -t 0 ] && [ -t 1 ]; } || die "make shell needs a terminal for its input and output; nothing can be piped into it"
[ "$arch" = x86_64 ] || die "make shell is for x86_64 only; make module ARCH=$arch works"
need_packages "${kernel_packages[@]}" busybox-static
need_commands qemu-system-x86_64 setpriv stty cpio
tmp=
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
make_kernel
make_guest
note "booting $(short "$kernel")/vmlinux; it takes some seconds"
boot
