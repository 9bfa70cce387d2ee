#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh [STATE [OBJECT...]]
#
# STATE is stock, base, series or one of those that scripts derive from them (lib.sh).
#
# Makes build/kernels/STATE/vmlinux, with modules, vmlinux.debug, build.log and warnings
# beside it, in build/x86_64, and for some a bzImage; with ARCH=arm64, build/kernels/STATE-arm64/vmlinux
# in build/arm64, and so with ARCH=riscv or powerpc. All states share that directory: what is the same in two of them is compiled once, and
# ccache has the rest. STATE-bench, -none, -kvm, -work, -debug, -kasan and -kcsan have one of their own,
# build/x86_64-bench and so on, and configs/bench.config, none.config, work.config, debug.config,
# kasan.config or kcsan.config over the other files, or kvm.config alone.
# trees/TREE/kernel.config and trees/TREE/ARCH.config come on top, if a kernel has them. What is
# compiled is in build/source; changes in build/linux that are not committed are part of the series.
#
# With OBJECTs or directories (mm/), only these are compiled, and copied to build/kernels/STATE.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

state=${1:-series}
fragments=("$CONFIG_DIR/common.config" "$CONFIG_DIR/$arch.config")
obj=$BUILD/$arch
objects_only=("${@:2}")
tag=${state%-none} # what is compiled
tag=${tag%-kvm}
tag=${tag%-work}
flavour=
for checks in "${check_kernels[@]}"; do
	[[ $state = *-"$checks" ]] || continue
	flavour=$checks
	tag=${state%-"$flavour"}
	fragments+=("$CONFIG_DIR/$flavour.config")
	obj=$obj-$flavour
done
case $state in
*-bench)
	fragments+=("$CONFIG_DIR/bench.config")
	obj=$obj-bench
	;;
*-none)
	fragments+=("$CONFIG_DIR/bench.config" "$CONFIG_DIR/none.config")
	obj=$obj-none
	;;
*-work)
	fragments+=("$CONFIG_DIR/work.config")
	obj=$obj-work
	;;
*-kvm)
	fragments=("$CONFIG_DIR/kvm.config")
	obj=$obj-kvm
	;;
esac
for fragment in "$TREE_DIR/kernel.config" "$TREE_DIR/$arch.config"; do
	[ ! -f "$fragment" ] || fragments+=("$fragment")
done
image= # a bzImage, too
case $state-$arch in
series-x86_64 | series-kvm-x86_64 | series-k[ac]*san-x86_64) image=1 ;;
esac
running=$obj/.running   # there while make is
built=$obj/.built       # the state that was built last
warnings=$obj/.warnings # object<TAB>warning, of all that is in obj
out=$(kernel_dir "$state")
name=${out##*/}
log=$out/build.log
disk_mb=2500
objects=1140 # in a full build, until one has been counted

# --- what is to be built --------------------------------------------------

# What changes when the kernel has to be built again.
inputs() {
	echo "$source_tree"
	cat "${fragments[@]}" | sha256sum
	sha256sum <"$scripts/kernel/build.sh"
	echo "${objects_only[*]}"
	"${cross}gcc" --version | head -n 1
	"${cross}ld" --version | head -n 1
}

up_to_date() {
	[ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$(inputs)" ]
}

# --- make -----------------------------------------------------------------

set_kmake "$obj"

# --- configuration --------------------------------------------------------

# Does any Kconfig file of this state define it?
is_known() {
	tgit grep -qE "^[[:space:]]*(menu)?config ${1#CONFIG_}\$" "$source_tree" -- '*Kconfig*'
}

# The lines of the fragments without those that a later one overrides.
asked_for() {
	awk '
	match($0, /CONFIG_[A-Za-z0-9_]+/) {
		option = substr($0, RSTART, RLENGTH)
		if (!(option in line))
			order[++n] = option
		line[option] = $0
	}
	END {
		for (i = 1; i <= n; i++)
			print line[order[i]]
	}' "${fragments[@]}"
}

# Options depend on each other: what was asked for need not be what came out.
check_options() {
	local line option lost=

	while read -r line; do
		case $line in
		CONFIG_*=*)
			option=${line%%=*}
			grep -qxF "$line" "$obj/.config" && continue
			;;
		'# CONFIG_'*' is not set')
			read -r _ option _ <<<"$line"
			grep -q "^$option=" "$obj/.config" || continue
			;;
		*) continue ;;
		esac
		! is_known "$option" || lost="$lost, '$line'"
	done < <(asked_for)
	[ -z "$lost" ] || die "these lines of $(short "$CONFIG_DIR") have no effect: ${lost#, }; give it what they depend on"
}

configure() {
	{
		"${kmake[@]}" tinyconfig &&
			(cd "$obj" && "$source/scripts/kconfig/merge_config.sh" -m -O "$obj" "$obj/.config" "${fragments[@]}") &&
			"${kmake[@]}" olddefconfig
	} >"$out/config.log" 2>&1 ||
		die "the configuration failed: $(first_build_error "$out/config.log"); $(short "$out")/config.log has all of it"
	check_options
}

# --- progress -------------------------------------------------------------

# All objects are made if there are none yet, or those of another state.
expected() {
	[ "$(cat "$built" 2>/dev/null)" = "$state" ] || cat "$obj/.objects" 2>/dev/null || echo "$objects"
}

# --- build ----------------------------------------------------------------

# After a kill -9 or a power failure, there may be half an object: begin again, with
# what ccache has. Make itself removes such objects on other signals.
recover() {
	[ -e "$running" ] || return 0
	note "the last build did not end; building again from what ccache has"
	rm -rf "$obj"
}

stop() {
	kill "$make" 2>/dev/null || :
	wait "$make" || :
	rm -f "$running" "$built"
	exit 1
}

# --output-sync keeps the messages of an object together.
run_make() {
	local total status=0 targets=(vmlinux modules)

	[ -z "$image" ] || targets+=(bzImage)
	[ ${#objects_only[@]} = 0 ] || targets=("${objects_only[@]}")
	total=$(expected)
	: >"$log"
	touch "$running"
	"${kmake[@]}" -j"$(nproc)" --output-sync=target "${targets[@]}" >"$log" 2>&1 &
	make=$!
	trap stop INT TERM HUP
	follow "$make" "$log" "[build $name]" "$total"
	wait "$make" || status=$?
	trap - INT TERM HUP
	collect_warnings "$log" "$warnings"
	rm -f "$running"
	echo "$state" >"$built"
	[ -z "$total" ] || [ "$status" != 0 ] || count_objects "$log" >"$obj/.objects"
	return "$status"
}

# As modules_install does, without links to where they were built.
install_modules() {
	local module dir

	dir=$out/modules/lib/modules/$(cat "$obj/include/config/kernel.release")/kernel
	rm -rf "$out/modules"
	# 7.3 lists the objects that they are made of.
	while read -r module; do
		module=${module%.*}.ko
		mkdir -p "$dir/${module%/*}"
		"${cross}objcopy" --strip-debug "$obj/$module" "$dir/$module"
	done <"$obj/modules.order"
}

# What was built goes where the next state does not overwrite it: made.
keep() {
	made=vmlinux
	if [ ${#objects_only[@]} -gt 0 ]; then
		made=objects
		rm -rf "$out/objects"
		mkdir "$out/objects"
		(cd "$obj" && find "${objects_only[@]}" -name '*.o' ! -name 'built-in.*' -exec cp --parents {} "$out/objects" \;)
		return
	fi
	"${cross}objcopy" --only-keep-debug "$obj/vmlinux" "$out/vmlinux.debug"
	"${cross}objcopy" --strip-debug "$obj/vmlinux" "$out/vmlinux.tmp"
	mv "$out/vmlinux.tmp" "$out/vmlinux"
	[ -z "$image" ] || cp "$obj/arch/x86/boot/bzImage" "$out/bzImage"
	install_modules
	# For modules of others: module.sh. Without the Makefile, make M=DIR would do nothing here,
	# and succeed.
	# shellcheck disable=SC2016 # for make
	echo '$(error this is no kernel build; in the top directory: make module M=DIR)' >"$out/Makefile"
	cp "$obj/.config" "$out/config"
	cp "$obj/Module.symvers" "$out/Module.symvers"
}

build() {
	note "[build $name] $(tgit log -1 --format=%s stock), configuration of $arch"
	recover
	mkdir -p "$obj" "$out"
	rm -f "$out/stamp"
	configure
	run_make || {
		show_build_errors "$log"
		die "$state does not build; $(short "$log") has all of it"
	}
	cut -f 2 "$warnings" | atomic "$out/warnings"
	keep
	atomic "$out/stamp" <<<"$wanted"
	note "[build $name] $(short "$out")/$made is ready: $(count_objects "$log") objects, $(wc -l <"$out/warnings") warnings, $(minutes "$SECONDS")"
}

case $state in
stock | base | series | base-none | series-none | series-kvm | stock-work | series-work | "series-${flavour:-none}") ;;
*)
	[[ " ${derived_states[*]} " = *" $state "* ]] ||
		die "there is no state '$state'; usage: build.sh [STATE [OBJECT...]]; STATE is stock, base, series or one of ${derived_states[*]}"
	;;
esac
need_plain_path
need_packages "${kernel_packages[@]}"
need_commands git make gcc "${cross}gcc" ccache flex bison bc "${cross}objcopy"
[ -d "$tree/.git" ] || die "there is no tree yet; run 'make tree'"
for fragment in "${fragments[@]}"; do
	[ -f "$fragment" ] || die "$(short "$fragment") is missing; it is the configuration of the kernel"
done
source_tree=$(state_tree "$tag")
if up_to_date; then
	note "[build $name] up to date"
	exit 0
fi
[ -d "$obj" ] || need_disk "$disk_mb" "$BUILD"
take_tree "$source_tree"
if up_to_date; then # since whoever had the lock has built it
	note "[build $name] up to date"
	exit 0
fi
kbuild_environment
wanted=$(inputs)
build
