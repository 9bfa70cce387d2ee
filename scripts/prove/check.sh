#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh [PATCH...]: is each patch of the series good without those behind it?
#
# checkpatch  checkpatch.pl --strict has nothing to say
# test        the kernel of the tests builds without warnings, boots, and its KUnit suites
#             pass, from the patch on that adds them
# none        the kernel without CONFIG_MMU_NOTIFIER builds without warnings, and boots
# allmod      x86-64 allmodconfig: the directories that the patch changes
# x86_64, arm64, powerpc, riscv
#             allmodconfig of that architecture, with W=1 and sparse: the objects that the
#             patch changes have no warning that base does not have. For a patch of
#             include/, all objects that the series changes.
#
# One "ok - ...", "not ok - ..." or "skip - ..." line for each patch and check; the last line
# is "N passed, N failed", or "N passed, N failed, N skipped". What has passed is not done again
# until the tree of that patch changes: after an interruption or a failure, call it again.
# PATCH is a number. CHECKS="NAME..." takes only these; without build/check/passed, all is done again.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/check
source=$work/source # the patch that is looked at; all objects are made from it
architectures="x86_64 arm64 powerpc riscv"
all_checks="checkpatch test none allmod $architectures"
checks=${CHECKS:-$all_checks}
checks=${checks//,/ }
disk_mb=7000
configs=$CONFIG_DIR
test_config=("$configs/common.config" "$configs/x86_64.config")
none_config=("${test_config[@]}" "$configs/bench.config" "$configs/none.config")
passed=0
failed=0
skipped=0

# --- a check ends -----------------------------------------------------------

# What is behind the colon in its line.
good() {
	echo "$*"
	exit 0
}

bad() {
	echo "$*"
	exit 1
}

skip() {
	echo "$*"
	exit 3
}

# --- the source, at a patch -------------------------------------------------

at() {
	mkdir -p "$source"
	rm -f "$work/index.lock"
	GIT_INDEX_FILE=$work/index hgit --git-dir="$tree/.git" --work-tree="$source" read-tree --reset -u "$1" ||
		die "$(short "$source") cannot be written; is there room on the disk?"
}

changed() {
	tgit diff-tree -r --no-commit-id --name-only "$1"
}

# All C files of the series that kbuild compiles, in any of its patches.
all_c_files() {
	tgit diff --name-only --diff-filter=AM "$base" "$tip" -- '*.c' ':!tools'
}

# --- make -------------------------------------------------------------------

# For the files that kbuild of an architecture does not reach, it has no rule. Their makes
# end with 2, as does each make above one that has failed.
failure() {
	grep -E 'error:|\*\*\* ' "$1" | grep -vE "\*\*\* No rule to make target '[^']*'\.|\*\*\* .* Error 2$" | head -n 1
}

cross_of() {
	case $1 in
	arm64) echo aarch64-linux-gnu- ;;
	powerpc) echo powerpc64le-linux-gnu- ;;
	riscv) echo riscv64-linux-gnu- ;;
	esac
}

# kmake DIR ARCH ARGUMENT...: with become=exec, in place of the shell
kmake() {
	local cross

	cross=$(cross_of "$2")
	${become:-} make -C "$source" "O=$1" "ARCH=$2" "CROSS_COMPILE=$cross" "CC=ccache ${cross}gcc" "CHECK='$scripts/prove/sparse.sh'" "${@:3}"
}

stop() {
	kill "$make" 2>/dev/null || :
	wait "$make" || :
	rm -f "$obj/.running"
	exit 1
}

# After a kill -9 there may be half an object: begin again, with what ccache has.
recover() {
	[ ! -e "$1/.running" ] || rm -rf "$1"
	mkdir -p "$1"
}

# run_make NAME ARCH ARGUMENT...: in $work/NAME, to $work/NAME.log
run_make() {
	local name=$1 log=$work/$1.log status=0

	obj=$work/$name
	: >"$log"
	touch "$obj/.running"
	become="exec" kmake "$obj" "${@:2}" -k -j"$(nproc)" --output-sync=target >"$log" 2>&1 8>&- &
	make=$!
	trap stop INT TERM HUP
	follow "$make" "$log" "[$patch $name]"
	wait "$make" || status=$?
	trap - INT TERM HUP
	collect_warnings "$log" "$obj/.warnings"
	rm -f "$obj/.running"
	[ "$status" = 0 ] || [ -z "$(failure "$log")" ] || bad "$(failure "$log"); $(short "$log") has the rest"
	[ "$status" = 0 ] || grep -q "No rule to make target '[^']*'\." "$log" ||
		bad "$(first_build_error "$log"); $(short "$log") has the rest"
}

no_warnings() {
	local first

	first=$(head -n 1 "$work/$1/.warnings" | cut -f 2)
	[ -z "$first" ] || bad "$first"
}

# --- configuration ----------------------------------------------------------

kconfig_id() {
	tgit ls-tree -r "$1" | grep Kconfig
	cat "${none_config[@]}"
	declare -f tiny tiny_none allmod allmod_w1
}

# configured NAME COMMIT COMMAND...: unless it is as it was
configured() {
	local stamp=$work/$1/.configured id log=$work/$1.config.log

	recover "$work/$1"
	id=$(kconfig_id "$2" | sha256sum)
	[ "$(cat "$stamp" 2>/dev/null)" != "$id" ] || return 0
	rm -f "$stamp"
	"${@:3}" "$work/$1" >"$log" 2>&1 || bad "the configuration failed: $(first_build_error "$log"); $(short "$log") has the rest"
	atomic "$stamp" <<<"$id"
}

# tiny FILE... DIR
tiny() {
	local dir=${*: -1}

	kmake "$dir" x86_64 tinyconfig &&
		(cd "$dir" && "$source/scripts/kconfig/merge_config.sh" -m -O "$dir" .config "${@:1:$#-1}") &&
		kmake "$dir" x86_64 olddefconfig
}

# KUnit without a suite says so and powers off: it has booted.
tiny_none() {
	tiny "${none_config[@]}" "$1" &&
		"$source/scripts/config" --file "$1/.config" -e KUNIT &&
		kmake "$1" x86_64 olddefconfig &&
		! grep '^CONFIG_MMU_NOTIFIER=y' "$1/.config"
}

# Warnings are errors there.
allmod() {
	kmake "$1" x86_64 allmodconfig
}

allmod_w1() { # ARCH DIR
	case $1 in
	powerpc) kmake "$2" "$1" ppc64le_allmodconfig ;;
	*) kmake "$2" "$1" allmodconfig ;;
	esac &&
		"$source/scripts/config" --file "$2/.config" -d WERROR &&
		kmake "$2" "$1" olddefconfig
}

# --- checks -----------------------------------------------------------------
#
# Each is called with a commit, in a subshell, with the source at this commit.

check_checkpatch() {
	local mail=$work/checkpatch.patch says=$work/checkpatch.log

	tgit format-patch -q -1 --stdout "$1" >"$mail"
	"$scripts/tree/checkpatch.sh" "$mail" 2>"$says" || bad "$(head -n 1 "$says")"
	good "silent"
}

# boots NAME ARGUMENT...: sets cases
boots() {
	local log=$work/$1.console says=$work/$1.says

	"$scripts/kernel/boot.sh" -k "$work/$1/vmlinux" -o "$log" "${@:2}" 2>"$says" 8>&- ||
		bad "built, but: $(sed -n 's/^error: //p' "$says" | head -n 1); $(short "$log") has the console"
	cases=$(cut -f 2 "$log.cases" 2>/dev/null | grep -c pass || :)
}

has() {
	grep -qx "CONFIG_$1=y" "$work/test/.config"
}

check_test() {
	configured test "$1" tiny "${test_config[@]}"
	run_make test x86_64 "KCFLAGS=-g1 -fmacro-prefix-map=../source/=" vmlinux modules
	no_warnings test
	if ! has MMU_NOTIFIER_KUNIT_TEST; then
		boots test
		good "$(count_objects "$work/test.log") objects, boots"
	fi
	# shellcheck disable=SC2046 # one word per argument
	boots test -t 300 $(tree_says arguments) 'kunit.filter_glob=mmu_notifier*'
	[ "$cases" -gt 0 ] || bad "there are suites, and no case was run"
	if ! has AMD_IOMMU_V2_KUNIT_TEST; then
		good "$(count_objects "$work/test.log") objects, boots, $cases KUnit cases pass"
	fi
	local before=$cases
	boots test -a 2 -t 240 iommu=pt 'kunit.filter_glob=amd_iommu_v2*'
	[ "$cases" -gt 0 ] || bad "there is a suite of the AMD driver, and no case was run"
	good "$(count_objects "$work/test.log") objects, boots, $before + $cases KUnit cases pass"
}

check_none() {
	configured none "$1" tiny_none
	run_make none x86_64 "KCFLAGS=-g1 -fmacro-prefix-map=../source/=" vmlinux
	no_warnings none
	boots none
	good "$(count_objects "$work/none.log") objects, boots"
}

# Directories that x86-64 has. What includes the headers of the series is in mm/.
directories() {
	changed "$1" | awk '
	/^virt\/kvm\// { print "arch/x86/kvm/"; next }
	/^include\// { print "mm/"; next }
	/^(tools|Documentation|scripts)\// || (/^arch\// && !/^arch\/x86\//) { next }
	/\.c$/ { sub(/[^\/]*$/, ""); print }' | sort -u
}

check_allmod() {
	local dirs dir there=

	dirs=$(directories "$1")
	[ -n "$dirs" ] || skip "nothing to compile"
	configured allmod "$1" allmod
	# shellcheck disable=SC2086 # one word per directory
	run_make allmod x86_64 $dirs
	for dir in $dirs; do
		! is_made allmod "$dir" || there="$there $dir"
	done
	[ -n "$there" ] || skip "not of x86-64: ${dirs//$'\n'/ }"
	good "$(count_objects "$work/allmod.log") objects of${there}"
}

# targets ARCH: what kbuild of ARCH can be asked for, of the files on stdin. It compiles
# any object that it is asked for, and in a directory only those that are configured;
# virt/kvm is compiled in the directory of the architecture. A directory has those below it;
# kbuild fails if it is asked for both.
targets() {
	local file own=arch/${1/x86_64/x86}

	while read -r file; do
		case $file in
		tools/*) ;;
		virt/kvm/*.c | "$own"/kvm/*.c) echo "$own/kvm/" ;;
		"$own"/*.c) echo "${file%.c}.o" ;;
		arch/*) ;;
		drivers/*.c | samples/*.c) echo "${file%/*}/" ;;
		*.c) echo "${file%.c}.o" ;;
		esac
	done | LC_ALL=C sort -u | awk 'dir == "" || index($0, dir) != 1 { print; dir = /\/$/ ? $0 : "" }'
}

there_now() {
	local file

	while read -r file; do
		[ ! -e "$source/$file" ] || echo "$file"
	done
}

# objects COMMIT ARCH
objects() {
	{
		changed "$1"
		if changed "$1" | grep -q '^include/'; then
			all_c_files | grep -vE '^(virt|arch/x86)/kvm/'
		fi
	} | there_now | targets "$2"
}

# is_made ARCH TARGET
is_made() {
	local path=$work/$1/$2

	case $2 in
	*/) [ -n "$(find "$path" -maxdepth 1 -name '*.o' 2>/dev/null | head -n 1)" ] ;;
	*) [ -e "$path" ] ;;
	esac
}

# Object and text, without the line numbers, which move, and without where this is.
without_lines() {
	sed -E -e "s#($source|\.\./source)/##g" -e 's/(:[0-9]+)+: /: /' "$1" | sort
}

# What base has to say about the same objects, once.
baseline() { # ARCH
	local list stamp=$work/$1/.base id

	id=$({
		tgit rev-parse "$base^{tree}"
		all_c_files
		kconfig_id "$base"
	} | sha256sum)
	[ "$(cat "$stamp" 2>/dev/null)" != "$id" ] || return 0
	at "$base"
	# An object that is up to date would have no warnings.
	rm -rf "${work:?}/$1"
	configured "$1" "$base" allmod_w1 "$1"
	list=$(all_c_files | there_now | targets "$1")
	# shellcheck disable=SC2086 # one word per object
	run_make "$1" "$1" W=1 C=1 $list
	without_lines "$work/$1/.warnings" | atomic "$work/$1/.base-warnings"
	atomic "$stamp" <<<"$id"
}

check_objects() { # COMMIT ARCH
	local list object there=0 fresh

	list=$(objects "$1" "$2")
	[ -n "$list" ] || skip "nothing to compile"
	configured "$2" "$1" allmod_w1 "$2"
	# shellcheck disable=SC2086 # one word per object
	run_make "$2" "$2" W=1 C=1 $list
	for object in $list; do
		! is_made "$2" "$object" || there=$((there + 1))
	done
	[ "$there" -gt 0 ] || skip "not of $2: ${list//$'\n'/ }"
	fresh=$(without_lines "$work/$2/.warnings" | comm -23 - "$work/$2/.base-warnings" | head -n 1 | cut -f 2)
	[ -z "$fresh" ] || bad "new: $fresh"
	good "$(count_objects "$work/$2.log") objects, nothing new by W=1 and sparse"
}

# Before the first patch: going back to base makes all headers new.
baselines() {
	local name

	patch=base
	for name in $checks; do
		[[ " $architectures " = *" $name "* ]] || continue
		baseline "$name" >"$work/base.text" &
		lanes=$!
		trap stop_lanes INT TERM HUP
		wait "$lanes" || die "base on $name: $(tail -n 1 "$work/base.text")"
		trap - INT TERM HUP
	done
}

# --- all --------------------------------------------------------------------

# What a result depends on.
result_id() { # COMMIT CHECK
	case $2 in
	checkpatch) tgit format-patch -q -1 --stdout "$1" ;;
	*)
		tgit rev-parse "$1^{tree}"
		cat "${none_config[@]}"
		"$(cross_of "$2")gcc" --version
		;;
	esac | sha256sum | cut -c 1-40
}

kept() { # COMMIT CHECK
	echo "$work/passed/$2-$(result_id "$1" "$2")"
}

# lane COMMIT CHECK...: one after the other. What has not passed is in NAME.failed.
lane() {
	local commit=$1 name start status text what check

	trap 'kill "$check" 2>/dev/null; wait "$check"; exit 1' TERM
	for name in "${@:2}"; do
		start=$SECONDS
		status=0
		what=("check_$name" "$commit")
		[[ " $architectures " != *" $name "* ]] || what=(check_objects "$commit" "$name")
		"${what[@]}" >"$work/$name.text" &
		check=$!
		wait "$check" || status=$?
		text=$(tail -n 1 "$work/$name.text")
		case $status in
		0) atomic "$(kept "$commit" "$name")" <<<"ok $text ($((SECONDS - start)) s)" ;;
		3) atomic "$(kept "$commit" "$name")" <<<"skip $text" ;;
		*) atomic "$work/$name.failed" <<<"${text:-broken off}" ;;
		esac
	done
}

# to_do COMMIT CHECK...: those that are wanted and have not passed
to_do() {
	local name

	for name in "${@:2}"; do
		[[ " $checks " != *" $name "* ]] || [ -f "$(kept "$1" "$name")" ] || echo "$name"
	done
}

stop_lanes() {
	# shellcheck disable=SC2086 # one word per process
	kill $lanes 2>/dev/null || :
	wait
	exit 1
}

# line VERDICT CHECK TEXT
line() {
	echo "$1 - $patch $2: $3"
}

report() { # COMMIT CHECK
	local text

	if [ -f "$work/$2.failed" ]; then
		failed=$((failed + 1))
		line "not ok" "$2" "$(cat "$work/$2.failed")"
		return
	fi
	text=$(cat "$(kept "$1" "$2")")
	case $text in
	ok*) passed=$((passed + 1)) ;;
	*) skipped=$((skipped + 1)) ;;
	esac
	line "${text%% *}" "$2" "${text#* }"
}

# Two at once: much of what make does before and after the objects is one process.
check_patch() { # NUMBER
	local commit=${commits[$1 - 1]} name

	patch=$(printf '%04d' "$1")
	say "$(tgit log -1 --format=%s "$commit")"
	rm -f "$work"/*.failed
	# shellcheck disable=SC2046,SC2086 # one word per check
	if [ -n "$(to_do "$commit" $all_checks)" ]; then
		at "$commit"
		lane "$commit" $(to_do "$commit" test none) &
		lanes=$!
		lane "$commit" $(to_do "$commit" checkpatch allmod $architectures) &
		lanes="$lanes $!"
		trap stop_lanes INT TERM HUP
		wait
		trap - INT TERM HUP
	fi
	for name in $checks; do
		report "$commit" "$name"
	done
}

prepare() {
	need_packages "${kernel_packages[@]}" sparse gcc-aarch64-linux-gnu gcc-powerpc64le-linux-gnu gcc-riscv64-linux-gnu
	need_commands git make gcc ccache flex bison bc sparse perl
	for name in $checks; do
		[[ " $all_checks " = *" $name "* ]] || die "there is no check '$name'; CHECKS= takes $all_checks"
		need_commands "$(cross_of "$name")gcc"
	done
	need_plain_path
	[ "$arch" = x86_64 ] || die "ARCH=$arch has no meaning here; CHECKS=$arch takes the objects of that architecture"
	"$scripts/tree/tree.sh"
	[ -d "$work" ] || need_disk "$disk_mb" "$BUILD"
	mkdir -p "$work/passed"
	only_one check
	base=$(tgit rev-parse 'refs/tags/base^{commit}')
	tip=$(tgit rev-parse 'refs/heads/series^{commit}')
	mapfile -t commits < <(tgit rev-list --reverse "$base..$tip")
	kbuild_environment
}

is_patch() {
	[[ $1 =~ ^[1-9][0-9]{0,3}$ ]] && [ "$1" -le ${#commits[@]} ]
}

prepare
mapfile -t numbers < <(seq ${#commits[@]})
[ $# = 0 ] || numbers=("$@")
for number in "${numbers[@]}"; do
	is_patch "$number" || die "there is no patch '$number'; give numbers from 1 to ${#commits[@]}"
done
steps $((${#numbers[@]} + 1))
say "what base says on the architectures"
baselines
for number in "${numbers[@]}"; do
	check_patch "$number"
done
echo "This took $(minutes "$SECONDS")."
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
