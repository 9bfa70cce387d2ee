#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh [STATE [OBJECT...]]
#
# STATE is stock, base, series or one of those that scripts derive from them (lib.sh).
#
# Makes build/kernels/STATE/vmlinux, with modules, vmlinux.debug, build.log and warnings
# beside it, in build/x86_64; with ARCH=arm64, build/kernels/STATE-arm64/vmlinux in build/arm64. All
# states share that directory: what is the same in two of them is compiled once, and
# ccache has the rest. STATE-bench, -none and -debug have one of their own, build/x86_64-bench
# and so on, and base/configs/bench.config, none.config or debug.config over the other files.
# The work tree of build/linux goes to STATE first. If it is there already, changes in it
# that are not committed are built, too.
#
# With OBJECTs or directories (mm/), only these are compiled, and copied to build/kernels/STATE.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/kernel.sh
. "$(dirname "$0")/kernel.sh"

here=$(cd "$(dirname "$0")" && pwd)
state=${1:-series}
fragments=("$BASE_DIR/configs/common.config" "$BASE_DIR/configs/$arch.config")
obj=$BUILD/$arch
objects_only=("${@:2}")
tag=${state%-none} # what is compiled
tag=${tag%-debug}
case $state in
*-bench)
	fragments+=("$BASE_DIR/configs/bench.config")
	obj=$obj-bench
	;;
*-none)
	fragments+=("$BASE_DIR/configs/bench.config" "$BASE_DIR/configs/none.config")
	obj=$obj-none
	;;
*-debug)
	fragments+=("$BASE_DIR/configs/debug.config")
	obj=$obj-debug
	;;
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

state_ref() {
	case $tag in
	series) echo refs/heads/series ;;
	*) echo "refs/tags/$tag" ;;
	esac
}

at_state() {
	[ "$(tgit rev-parse -q --verify HEAD)" = "$(tgit rev-parse -q --verify "$(state_ref)^{commit}")" ]
}

# What is not committed, if STATE is checked out.
edits() {
	at_state || return 0
	[ -n "$(tgit status --porcelain | head -n 1)" ] || return 0
	{
		tgit diff HEAD
		tgit ls-files -z -o --exclude-standard | (cd "$tree" && xargs -0 -r sha256sum)
	} | sha256sum
}

# What changes when the kernel has to be built again.
inputs() {
	tgit rev-parse "$(state_ref)^{tree}"
	edits
	cat "${fragments[@]}" | sha256sum
	sha256sum <"$here/build.sh"
	echo "${objects_only[*]}"
	"${cross}gcc" --version | head -n 1
	"${cross}ld" --version | head -n 1
}

up_to_date() {
	[ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$(inputs)" ]
}

# The lock keeps tree.sh from the files, so it cannot be held while that switches.
take_tree() {
	while :; do
		at_state || "$here/tree.sh" checkout "$tag"
		lock
		! at_state || return 0
		exec 9>&-
	done
}

# --- make -----------------------------------------------------------------

# ccache makes paths relative to obj; __FILE__ is to be without them all the same.
# -g1 has line numbers and what was inlined, and does not change the code.
kmake=(make -C "$tree" "O=$obj" "ARCH=$arch" "CROSS_COMPILE=$cross" "CC=ccache ${cross}gcc" "KCFLAGS=-g1 -fmacro-prefix-map=../linux/=")

# --- configuration --------------------------------------------------------

# Does any Kconfig file of this state define it?
is_known() {
	tgit grep -qE "^[[:space:]]*(menu)?config ${1#CONFIG_}\$" "$(state_ref)" -- '*Kconfig*'
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
	[ -z "$lost" ] || die "these lines of $(short "$BASE_DIR/configs") have no effect: ${lost#, }; give it what they depend on"
}

configure() {
	{
		"${kmake[@]}" tinyconfig &&
			(cd "$obj" && "$tree/scripts/kconfig/merge_config.sh" -m -O "$obj" "$obj/.config" "${fragments[@]}") &&
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
	while read -r module; do
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
	install_modules
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
stock | base | series | base-none | series-none | series-debug) ;;
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
if up_to_date; then
	note "[build $name] up to date"
	exit 0
fi
[ -d "$obj" ] || need_disk "$disk_mb" "$BUILD"
take_tree
if up_to_date; then # since whoever had the lock has built it
	note "[build $name] up to date"
	exit 0
fi
kbuild_environment
wanted=$(inputs)
build
