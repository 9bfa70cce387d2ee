#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# module.sh, with M=DIR in the environment
#
# Builds the external module in DIR, outside or inside this repository, against the kernel
# of the series, as kbuild does: what it makes lies in DIR. Prints the path of each .ko.
#
# build/module is to such modules what linux-headers packages are: the configuration,
# headers, tools and symbols of the series. No other state is built there.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

kernel=$(kernel_dir series)
obj=$BUILD/module-$arch
stamp=$obj/.prepared # there if modules_prepare ended
log=$kernel/module.log

check_dir() {
	[ -n "${M:-}" ] || die "M= is missing; give the directory of a module: make module M=DIR"
	dir=$(absolute "$M")
	[ -d "$dir" ] || die "M=$M is not a directory"
	[ -f "$dir/Makefile" ] || [ -f "$dir/Kbuild" ] ||
		die "M=$M has no Makefile; for hello.c, it is one line: obj-m := hello.o"
	case $dir in
	*[[:space:]:%]*) die "M=$M has a blank, a colon or a % in its path, which kbuild does not allow; use another directory" ;;
	esac
}

run_make() {
	local status=0

	"${kmake[@]}" -j"$(nproc)" "$@" >"$log" 2>&1 </dev/null &
	make=$!
	trap 'kill "$make" 2>/dev/null || :; exit 1' INT TERM HUP
	follow "$make" "$log" "[module]"
	wait "$make" || status=$?
	trap - INT TERM HUP
	return "$status"
}

prepare() {
	local wanted

	wanted=$(cat "$kernel/stamp" && sha256sum <"$scripts/kernel/module.sh")
	[ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ] || return 0
	note "[module] preparing the headers and tools of the series, once"
	[ -f "$stamp" ] || rm -rf "$obj"
	mkdir -p "$obj"
	rm -f "$stamp"
	cp "$kernel/config" "$obj/.config"
	{ run_make olddefconfig && run_make modules_prepare; } ||
		die "the headers and tools of the series cannot be prepared: $(first_build_error "$log"); $(short "$log") has all of it"
	cp "$kernel/Module.symvers" "$obj/Module.symvers"
	atomic "$stamp" <<<"$wanted"
}

# What kbuild makes. The pattern keeps what an editor saves meanwhile.
products() {
	find "$dir" -type f \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o -name '.*.cmd' \
		-o -name '.*.d' -o -name modules.order -o -name Module.symvers \) | sort
}

# A build that fails leaves in DIR what was there before.
undo() {
	comm -13 <(echo "$before") <(products) | tr '\n' '\0' | xargs -0 -r rm -f
}

build() {
	before=$(products)
	rm -f "$dir/modules.order"
	run_make "M=$dir" modules || {
		undo
		show_build_errors "$log"
		die "the module in $dir does not build; $(short "$log") has all of it"
	}
	[ -s "$dir/modules.order" ] || {
		undo
		die "the Makefile in $dir names no module; for hello.c, it needs the line: obj-m := hello.o"
	}
}

# Kernels differ in whether the list has objects, and whether it has their directory.
modules() {
	sed -e 's/\.o$/.ko/' -e "s|^[^/]|$dir/&|" "$dir/modules.order"
}

check_dir
"$scripts/tree/tree.sh"
"$scripts/kernel/build.sh" series
take_source series
kbuild_environment
kmake=(make -C "$source" "O=$obj" "ARCH=$arch" "CROSS_COMPILE=$cross" "CC=ccache ${cross}gcc")
prepare
build
note "[module] built against $(short "$kernel"), $(minutes "$SECONDS"); make shell M=$M boots it:"
modules
