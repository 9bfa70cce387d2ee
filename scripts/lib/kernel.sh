# shellcheck shell=bash disable=SC2154 # lib.sh, which comes first, has set it
# SPDX-License-Identifier: GPL-2.0
#
# Sourced, after lib.sh, by the scripts that build and run kernels.

# All that make run and make test call, so that it is installed at once.
# shellcheck disable=SC2034 # for those who source this
kernel_packages=(
	git xz-utils unifdef patch coccinelle
	gcc libc6-dev make flex bison bc libelf-dev libssl-dev kmod rsync cpio perl ccache binutils
	qemu-system-x86 python3
)

# arch: the kernel's name of ARCH. cross: what its compiler and so on have before theirs.
# shellcheck disable=SC2034 # for those who source this
case ${ARCH:-x86_64} in
x86_64 | x86)
	arch=x86_64
	cross=
	;;
arm64)
	arch=arm64
	cross=aarch64-linux-gnu-
	kernel_packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm)
	;;
riscv)
	arch=riscv
	cross=riscv64-linux-gnu-
	kernel_packages+=(gcc-riscv64-linux-gnu libc6-dev-riscv64-cross qemu-system-misc opensbi)
	;;
powerpc)
	arch=powerpc
	cross=powerpc64le-linux-gnu-
	kernel_packages+=(gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross qemu-system-ppc)
	;;
*) die "ARCH=$ARCH is not supported; give x86_64, which is the default, arm64, riscv or powerpc" ;;
esac

# What boot.sh needs for the selftest, besides -i: it is as on a large machine, where
# mmu_notifier_synchronize() has more to wait for.
# shellcheck disable=SC2034 # for those who source this
selftest_boot=(-t 300 srcutree.convert_to_big=1)

# The kernels of scripts/prove/debug.sh: series-NAME, with configs/NAME.config.
# shellcheck disable=SC2034 # for those who source this
check_kernels=(debug kasan kcsan)

# check_image NAME, check_arguments NAME: what QEMU loads of it, and arguments of that kernel. By PVH,
# C is run before the instrumentation has its memory. A bzImage has five levels of page tables if it is let.
check_image() {
	case $1 in
	kasan | kcsan) echo "$(kernel_dir "series-$1")/bzImage" ;;
	*) echo "$(kernel_dir "series-$1")/vmlinux" ;;
	esac
}

check_arguments() {
	case $1 in
	debug) echo page_poison=1 ;;
	kasan | kcsan) echo no5lvl ;;
	esac
}

# explained_complaints NAME: for boot.sh -w, what that kernel of debug.sh says of stock's code, if so
explained_complaints() {
	[ ! -f "$TREE_DIR/explained.$1" ] || echo "$TREE_DIR/explained.$1"
}

# kernel_dir STATE: where build.sh puts its kernel
kernel_dir() {
	case $arch in
	x86_64) echo "$BUILD/kernels/$1" ;;
	*) echo "$BUILD/kernels/$1-$arch" ;;
	esac
}

# bench_states: what make bench compares; the first is what the others are compared with
bench_states() {
	if [ -d "$BASE_DIR" ]; then echo base stock series; else echo stock series; fi
}

# found_table: where found.sh puts what it has found
found_table() {
	case $arch in
	x86_64) echo "$STORE/report/found-$TREE.tsv" ;;
	*) echo "$STORE/report/found-$TREE-$arch.tsv" ;;
	esac
}

# find_sites VMLINUX FUNCTION...: address, kind, place, target, site, of everything that goes to
# these functions. A site is the function it comes from; with #1, #2, ... if there are several.
find_sites() {
	"$scripts/prove/mutate.sh" list "$@" | awk '
	{
		line[NR] = $0
		name = $3
		sub(/\+0x[0-9a-f]+$/, "", name)
		gsub(/\.(part|constprop|isra)\.[0-9]+/, "", name)
		name_of[NR] = name
		number[NR] = ++count[name]
	}
	END {
		for (i = 1; i <= NR; i++)
			print line[i], name_of[i] (count[name_of[i]] > 1 ? "#" number[i] : "")
	}'
}

# count_verdicts VERDICT [GROUP]: of rows, which has a mutant in each line: group, three columns, verdict, why
count_verdicts() {
	awk -F '\t' -v verdict="$1" -v group="${2:-}" '
	(group == "" || $1 == group) && $5 == verdict { n++ }
	END { print n + 0 }' <<<"$rows"
}

# verdict_table WORD: how many there are in each of groups; WORD is the verdict that proves nothing
verdict_table() {
	local group

	echo
	printf '%-10s %8s %9s %11s %11s\n' group killed survived equivalent "$1"
	for group in $groups ""; do
		if [ -n "$group" ] && ! grep -q "^$group	" <<<"$rows"; then
			continue
		fi
		printf '%-10s %8s %9s %11s %11s\n' "${group:-all}" "$(($(count_verdicts killed "$group") + $(count_verdicts stale "$group")))" \
			"$(count_verdicts survived "$group")" "$(count_verdicts equivalent "$group")" "$(count_verdicts "$1" "$group")"
	done
	echo
}

# --- the files that are compiled -------------------------------------------
#
# build/linux is the developer's. What a script needs of a state it takes from git, into
# build/source, which has no other use: whoever takes it has it until it ends.

source=$BUILD/source

state_ref() {
	case $1 in
	series) echo refs/heads/series ;;
	*) echo "refs/tags/$1" ;;
	esac
}

# The developer has the branch series checked out, and changes that are not committed.
has_edits() {
	[ "$(tgit symbolic-ref -q HEAD || :)" = refs/heads/series ] && [ -n "$(tgit status --porcelain | head -n 1)" ]
}

# state_tree STATE: its tree; that of series has the developer's changes, too
state_tree() {
	local index=$BUILD/edits.index.$$

	if [ "$1" != series ] || ! has_edits; then
		tgit rev-parse "$(state_ref "$1")^{tree}"
		return
	fi
	cp "$tree/.git/index" "$index"
	GIT_INDEX_FILE=$index tgit add -A
	GIT_INDEX_FILE=$index tgit write-tree
	rm -f "$index"
}

sgit() {
	GIT_INDEX_FILE=$source.index hgit --git-dir="$tree/.git" --work-tree="$source" -C "$source" "$@"
}

# take_tree TREE: build/source has these files, and no others that git knows, whatever it had
# before. Only files that differ are written. Others wait from then on.
take_tree() {
	make_build_dir
	exec 7>"$BUILD/.lock.source"
	wait_for 7 build
	mkdir -p "$source"
	rm -f "$source.index.lock"
	if [ -e "$source.busy" ]; then
		rm -rf "$source" "$source.index"
		mkdir "$source"
	fi
	touch "$source.busy"
	if ! sgit read-tree --reset -u "$1" || ! sgit checkout-index -q -f -u -a; then
		die "$(short "$source") cannot be written; is the disk full?"
	fi
	rm "$source.busy"
}

take_source() { # STATE
	take_tree "$(state_tree "$1")"
}

# export_files STATE DIR PATH...: DIR gets these files or directories of STATE
export_files() {
	local state=$1 dir=$2

	shift 2
	rm -rf "$dir"
	mkdir -p "$dir"
	tgit archive "$(state_tree "$state")" -- "$@" | tar -xf - -C "$dir"
}

# 135 -> 2 min 15 s
minutes() {
	if [ "$1" -lt 60 ]; then
		echo "$1 s"
	else
		echo "$(($1 / 60)) min $(($1 % 60)) s"
	fi
}

# --- make of the kernel ----------------------------------------------------

# Nothing that differs between two builds of the same gets into the kernel, and
# nothing of a make that called this into that make.
kbuild_environment() {
	unset MAKEFLAGS MFLAGS MAKELEVEL GNUMAKEFLAGS MAKEOVERRIDES
	unset ARCH CROSS_COMPILE LLVM KBUILD_OUTPUT KCONFIG_CONFIG KCFLAGS KAFLAGS
	export LOCALVERSION='' KBUILD_BUILD_USER=mm KBUILD_BUILD_HOST=notifier KBUILD_BUILD_VERSION=1
	KBUILD_BUILD_TIMESTAMP=$(tgit log -1 --format=%cD stock)
	export KBUILD_BUILD_TIMESTAMP
	export CCACHE_DIR=${CCACHE_DIR:-$STORE/ccache} CCACHE_BASEDIR=$STORE CCACHE_MAXSIZE=2G
	export CCACHE_NOHASHDIR=1
}

# set_kmake OBJECTS: kmake is how to make the kernel in build/source there. ccache makes paths relative
# to OBJECTS; __FILE__ is to be without them all the same. -g1 has line numbers and what was inlined,
# and does not change the code.
set_kmake() {
	# shellcheck disable=SC2034 # for those who source this
	kmake=(make -C "$source" "O=$1" "ARCH=$arch" "CROSS_COMPILE=$cross" "CC=ccache ${cross}gcc" "KCFLAGS=-g1 -fmacro-prefix-map=../source/=")
}

count_objects() {
	grep -cE '^  (CC|AS) ' "$1" || :
}

# follow PID LOG WHAT [TOTAL]: how far make is, in place on a terminal, else a line now
# and then
follow() {
	local pid=$1 log=$2 what=$3 total=${4:-} line last=0

	while kill -0 "$pid" 2>/dev/null; do
		line="$what $(count_objects "$log")${total:+/$total} objects, $(minutes "$SECONDS")"
		if [ -t 2 ]; then
			printf '\r%s' "$line" >&2
		elif [ $((SECONDS - last)) -ge 15 ]; then
			note "$line"
			last=$SECONDS
		fi
		sleep 1 7>&- 9>&-
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
}

# collect_warnings LOG FILE: FILE has object<TAB>warning; what was not compiled this time
# keeps what it had. LOG is that of a make with --output-sync=target.
collect_warnings() {
	local log=$1 file=$2

	touch "$file"
	awk -F '\t' '
	FILENAME == ARGV[1] {
		if (/^  [A-Z][A-Z0-9_]* +/) {
			sub(/^  [A-Z][A-Z0-9_]* +(\[M\] +)?/, "")
			target = $0
			made[target] = 1
		} else if (/[Ww]arning: / && !((target, $0) in seen)) {
			seen[target, $0] = 1
			fresh[++n] = target "\t" $0
		}
		next
	}
	!($1 in made)
	END {
		for (i = 1; i <= n; i++)
			print fresh[i]
	}' "$log" "$file" >"$file.tmp"
	mv "$file.tmp" "$file"
}

first_build_error() {
	# make says which file it deletes before it says why.
	awk '!/\*\*\* Deleting file/ && /\*\*\*|[Ee]rror|No such|not found/ { print; found = 1; exit } END { exit !found }' "$1" ||
		tail -n 1 "$1"
}

show_build_errors() {
	note "--- the first errors of $(short "$1"):"
	grep -m 8 -E 'error:|ERROR:|undefined reference|multiple definition|\*\*\*' "$1" >&2 || tail -n 8 "$1" >&2
	note "---"
}

# The kernel's makefiles split paths there.
need_plain_path() {
	case $BUILD in
	*[[:space:]:]*) die "the kernel cannot be built below '$BUILD', which has a blank or a colon; set BUILD= to another directory" ;;
	esac
}
