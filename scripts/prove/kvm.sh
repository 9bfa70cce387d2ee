#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kvm.sh: the APIC access page of KVM on VMX is never in the VMCS of a vCPU that enters the
# guest once the page may be freed (drivers, patch 16).
#
# Bochs, which emulates VMX and two CPUs in software, boots the series with configs/kvm.config
# (build/kernels/series-kvm). There, kvm/apic_page.c runs a virtual machine, and takes the page
# away from it; kvm/apic_watch.c, a module, watches the VMCS, and leaves out lines of KVM: that has to
# be noticed. One "ok - ..." or "not ok - ..." line each; the last line is "N passed, N failed".
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

here=$scripts/prove/kvm
work=$BUILD/kvm
kernel=$(kernel_dir series-kvm)
console=$work/console
limit=${LIMIT:-1200} # seconds for Bochs
loader=/usr/lib/ISOLINUX/isolinux.bin
library=/usr/lib/syslinux/modules/bios/ldlinux.c32

# --- what Bochs boots -----------------------------------------------------

build_module() {
	local log=$work/module.log

	rm -rf "$work/module"
	mkdir "$work/module"
	cp "$here"/apic_watch.[ch] "$work/module"
	echo 'obj-m := apic_watch.o' >"$work/module/Makefile"
	(
		take_source series
		kbuild_environment
		make -C "$source" "O=$BUILD/$arch-kvm" "ARCH=$arch" "CC=ccache gcc" "M=$work/module" modules
	) >"$log" 2>&1 || {
		show_build_errors "$log"
		die "the module does not build; $(short "$log") has all of it"
	}
}

# The kernel unpacks one archive after the other.
make_initrd() {
	"$scripts/kernel/initrd.sh" -p "$here/apic_page.c" "$work/program.cpio"
	(cd "$work/module" && echo apic_watch.ko | cpio -o -H newc --quiet) |
		cat "$work/program.cpio" - >"$work/iso/initrd"
}

make_iso() {
	rm -rf "$work/iso"
	mkdir "$work/iso"
	make_initrd
	cp "$kernel/bzImage" "$work/iso/linux"
	cp "$loader" "$library" "$work/iso"
	cat >"$work/iso/isolinux.cfg" <<-END
	DEFAULT linux
	LABEL linux
	LINUX linux
	INITRD initrd
	APPEND console=ttyS0 earlyprintk=serial no_timer_check printk.devkmsg=on oops=panic numa=fake=2
	END
	xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin -c boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$work/iso" >"$work/xorriso.log" 2>&1 ||
		die "xorriso makes no image: $(tail -n 1 "$work/xorriso.log")"
}

# --- Bochs ----------------------------------------------------------------

configure_bochs() {
	cat >"$work/bochsrc" <<-END
	config_interface: textconfig
	display_library: term
	cpu: model=corei7_haswell_4770, count=2, ips=50000000
	memory: guest=512, host=512
	romimage: file=/usr/share/bochs/BIOS-bochs-latest
	vgaromimage: file=/usr/share/vgabios/vgabios.bin
	sound: waveoutdrv=dummy
	ata0-master: type=cdrom, path=boot.iso, status=inserted
	boot: cdrom
	com1: enabled=1, mode=file, dev=console
	log: bochs.log
	panic: action=fatal
	END
	echo continue >"$work/debugger"
}

over() {
	! kill -0 "$bochs" 2>/dev/null || grep -qaE 'reboot: System halted|end Kernel panic' "$console"
}

# It stays when the kernel has ended, and ends with this script.
run_bochs() {
	local start=$SECONDS

	: >"$console"
	(cd "$work" && TERM=vt100 exec bochs -q -f bochsrc -rc debugger </dev/null >bochs.out 2>&1 8>&-) &
	bochs=$!
	trap 'kill -KILL "$bochs" 2>/dev/null || :' EXIT # its debugger takes no other signal
	trap 'exit 1' INT TERM HUP
	until over; do
		[ $((SECONDS - start)) -lt "$limit" ] || die "no end after $limit s; $(short "$console") has how far it came"
		sleep 1
	done
}

# --- results --------------------------------------------------------------

# From where the kernel has booted: before, it warns of nodes that no machine has.
tested() {
	tr -d '\r' <"$console" | sed -n '/^Run .init/,$p; /Kernel panic/p'
}

results() {
	tested | grep -aE '^((not )?ok - |# )' || :
}

complaint() {
	grep -aE -m 1 'Kernel panic|BUG: |kernel BUG at|WARNING: |Oops|general protection fault|init: .*signal' <(tested) || :
}

judge() {
	local passed failed line

	results
	passed=$(results | grep -c '^ok' || :)
	failed=$(results | grep -c '^not ok' || :)
	line=$(complaint)
	if [ -n "$line" ]; then
		echo "not ok - the kernel says: $line"
		failed=$((failed + 1))
	elif ! grep -qa 'reboot: System halted' "$console"; then
		echo "not ok - Bochs has ended; $(short "$work/bochs.log") may say why"
		failed=$((failed + 1))
	fi
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

[ "$TREE-$arch" = 6.1-x86_64 ] || die "the patch is for 6.1 on x86-64; leave TREE and ARCH out"
need_packages "${kernel_packages[@]}" bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso
need_commands bochs xorriso cpio
only_one kvm
mkdir -p "$work"
"$scripts/tree/tree.sh"
"$scripts/kernel/build.sh" series-kvm
build_module
make_iso
configure_bochs
note "Bochs boots, which takes some minutes; $(short "$console") is what the kernel says"
run_bochs
judge
