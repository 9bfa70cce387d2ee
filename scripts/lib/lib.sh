# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Sourced by the scripts. They share: where things are, how to say what goes on,
# how to fail with one line, and checks made before anything is written.

shopt -s inherit_errexit
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # for those who source this
scripts=$top/scripts

absolute() {
	realpath -ms "$1"
}

# For messages: short where it can be.
short() {
	echo "${1#"$top"/}"
}

# --- what goes on ---------------------------------------------------------

step_now=0
step_total=0

steps() {
	step_now=0
	step_total=$1
}

say() {
	step_now=$((step_now + 1))
	[ "$step_total" -ge "$step_now" ] || step_total=$step_now
	echo "[$step_now/$step_total] $* ($SECONDS s)" >&2
}

note() {
	echo "$*" >&2
}

# die "what happened; what to do"
die() {
	echo "error: $*" >&2
	exit 1
}

# --- which kernel ---------------------------------------------------------

# What differs between kernels is in trees/TREE. Tests put their own files here.
TREES_DIR=$(absolute "${TREES_DIR:-$top/trees}")
LINUX_DIR=$(absolute "${LINUX_DIR:-$top/linux}")
CONFIG_DIR=$(absolute "${CONFIG_DIR:-$top/configs}")
TREE=${TREE:-6.1}
TREE_DIR=$TREES_DIR/$TREE
# shellcheck disable=SC2034 # for those who source this
BASE_DIR=$TREE_DIR/base
export TREE

[[ $TREE != */* && -f $TREE_DIR/kernel ]] ||
	die "there is no TREE=$TREE; give one of: $(cd "$TREES_DIR" && echo */kernel | sed 's|/kernel||g')"

# tree_says WORD: what trees/TREE/kernel has behind that word
tree_says() {
	sed -n "s/^$1 //p" "$TREE_DIR/kernel"
}

# A version of Debian's, not a path.
is_version() {
	[[ $1 =~ ^[0-9]+\.[0-9]+[0-9.]*-[0-9][0-9a-z.~+]*$ ]] && [ ! -e "$1" ]
}

# What KSRC= gives is built in a place of its own. Prints its name, or nothing.
room() {
	local name

	if [ -z "${KSRC:-}" ] || [ "$KSRC" = "$(tree_says version)" ]; then
		[ "$TREE" = 6.1 ] || echo "$TREE"
	elif is_version "$KSRC"; then
		echo "${KSRC//[~+]/_}"
	else
		name=$(realpath -m "$KSRC")
		echo "$TREE-$(basename "${name%.tar*}" | tr -c 'A-Za-z0-9.\n' _)-$(cksum <<<"$name" | cut -c 1-6)"
	fi
}

# STORE is what all kernels share. Scripts that are called by others have it from there.
if [ -z "${STORE:-}" ]; then
	STORE=$(absolute "${BUILD:-$top/build}")
	BUILD=$STORE
	name=$(room)
	[ -z "$name" ] || BUILD=$STORE/$name
fi
export BUILD STORE

# --- before anything is written -------------------------------------------

existing_parent() {
	local dir=$1

	while [ ! -d "$dir" ]; do
		dir=$(dirname "$dir")
	done
	echo "$dir"
}

# need_disk MB DIR: DIR need not exist yet. NEED_MB overrides, for tests.
need_disk() {
	local want=${NEED_MB:-$1} dir free

	dir=$(existing_parent "$2")
	free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$want" ] ||
		die "$dir has $free MB free, $want MB are needed; free some, or set BUILD= to a directory on another disk"
}

need_commands() {
	local cmd

	for cmd; do
		command -v "$cmd" >/dev/null ||
			die "the command '$cmd' is missing; install it and try again"
	done
}

packages_missing() {
	local pkg

	for pkg; do
		case $(dpkg-query -W -f '${db:Status-Abbrev}' "$pkg" 2>/dev/null) in
		?i*) ;;
		*) echo "$pkg" ;;
		esac
	done
}

apt_quietly() {
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# need_packages PKG...: not on Debian, nothing is known about packages, and
# need_commands has to do.
need_packages() {
	local missing line log=$BUILD/apt.log

	command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || return 0
	missing=$(packages_missing "$@" | xargs)
	[ -n "$missing" ] || return 0

	line="apt-get install -y --no-install-recommends $missing"
	[ "$(id -u)" = 0 ] || die "packages are missing; as root: $line"

	note "installing $missing"
	make_build_dir
	# shellcheck disable=SC2086 # one word per package
	{
		apt_quietly update &&
			apt_quietly install -y --no-install-recommends $missing
	} >"$log" 2>&1 ||
		die "this failed, $(short "$log") has the reason: $line"
}

# --- writing --------------------------------------------------------------

make_build_dir() {
	mkdir -p "$BUILD" 2>/dev/null ||
		die "cannot create $BUILD; set BUILD= to a directory that can be written"
}

# atomic FILE: stdin becomes FILE, or FILE stays what it was.
atomic() {
	cat >"$1.tmp.$$" && mv -f "$1.tmp.$$" "$1"
}

# wait_for FD WHAT: one at a time in this place; until this script ends. Children inherit
# it: after a kill -9, the next call waits until the last of them is gone.
wait_for() {
	flock -n "$1" && return
	note "waiting for another $2 in $(short "$BUILD")"
	flock "$1"
}

locked=

# What build/linux is changed with.
lock() {
	[ -z "$locked" ] || return 0
	make_build_dir
	exec 9>"$BUILD/.lock"
	wait_for 9 make
	locked=1
}

unlock() {
	exec 9>&-
	locked=
}

# only_one WHAT: of the scripts that write the same reports
only_one() {
	make_build_dir
	exec 8>"$BUILD/.lock.$1"
	wait_for 8 "$1"
}

# --- git ------------------------------------------------------------------

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

tree=$BUILD/linux

# Git, whatever the user's configuration says: the same input has to give the same
# commits and the same text.
hgit() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git "$@"
}

# Git in the tree, and never in a repository that the tree happens to be in.
tgit() {
	hgit -C "$tree" --git-dir="$tree/.git" --work-tree="$tree" "$@"
}

# tgit_files DIR ARG...: git in the tree's repository, with the files of DIR.
tgit_files() {
	(cd "$1" && shift && hgit --git-dir="$tree/.git" --work-tree=. "$@")
}

# Who makes the commits. Returns 1 if it had to make somebody up.
identity() {
	local name email known=0

	name=$(git -C "$top" config user.name || :)
	email=$(git -C "$top" config user.email || :)
	if [ -z "$name" ] || [ -z "$email" ]; then
		name="Series Builder"
		email=series@builder.invalid
		known=1
	fi
	export GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email
	export GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email
	return $known
}

# --- the series -----------------------------------------------------------

# The lines of FILE that are no comments.
listed() {
	awk '!/^[ \t]*(#|$)/' "$1"
}

# Names of the series of this kernel, in order.
series_names() {
	listed "$TREE_DIR/series" | awk '{ print $1 }'
}

# patch_file SERIES NAME: a name with a / is that of a patch of another kernel's
patch_file() {
	case $2 in
	*/*) echo "$TREES_DIR/$2" ;;
	*) echo "$TREE_DIR/$1/$2" ;;
	esac
}

# title_of PATCH [FILE]: as git am would have it; FILE gets the changelog
title_of() {
	hgit mailinfo -b "${2:-/dev/null}" /dev/null <"$1" | sed -n 's/^Subject: //p'
}

# series patch file..., of all series in order; the files are those of linux/ that it adds
all_patches() {
	local name

	for name in $(series_names); do
		listed "$TREE_DIR/$name/series" | sed "s/^[ \t]*/$name /"
	done
}

# The files of linux/ that these patches add, one a line.
claimed_files() {
	awk '{ for (i = 3; i <= NF; i++) print $i }'
}

# The same of all kernels, sorted.
all_trees_claim() {
	local dir

	for dir in "$TREES_DIR"/*/; do
		[ ! -f "$dir/series" ] || TREE_DIR=${dir%/} all_patches
	done | claimed_files | sort -u
}

# --- files that kernels share ----------------------------------------------
#
# A file of linux/ can have lines for some kernels: those between #if TREE < 612 and #endif are for
# the ones before 6.12. And a line "word OLD NEW" of trees/TREE/kernel says what has another name
# there. In the tree of a kernel nothing is left of either. What differs between releases of one
# kernel is in trees/TREE/features: a name for #if, which is 1 if the file of stock has the pattern.

features() {
	local name file pattern

	[ -f "$TREE_DIR/features" ] || return 0
	listed "$TREE_DIR/features" | while read -r name file pattern; do
		if tgit grep -qE -e "$pattern" refs/tags/stock -- "$file"; then echo "-D$name=1"; else echo "-D$name=0"; fi
	done
}

# Text that is no C has apostrophes, which unifdef does not take.
for_this_kernel() { # FILE
	if grep -qE '^#(el)?if TREE ' "$1"; then
		# shellcheck disable=SC2046 # one word per name
		unifdef -B "-DTREE=$(awk -F . '{ print $1 * 100 + $2 }' <<<"$TREE")" $(features) "$1" || [ $? = 1 ]
	else
		cat "$1"
	fi
}

# adapted FILE: as this kernel has it
adapted() (
	read -r old new <<<"$(tree_says word)"
	set -o pipefail
	for_this_kernel "$1" | sed -e '' ${old:+-e "s/\\<$old\\>/$new/g"}
)

# adapt_files DIR FILE...: DIR gets these files of linux/
adapt_files() {
	local dir=$1 file

	shift
	for file; do
		mkdir -p "$(dirname "$dir/$file")"
		cp -P "$LINUX_DIR/$file" "$dir/$file"
		[ -L "$dir/$file" ] || adapted "$LINUX_DIR/$file" >"$dir/$file" ||
			die "$(short "$LINUX_DIR")/$file: unifdef fails, it says why above; correct its lines with TREE"
	done
}

# --- derived states: tags that are made without the work tree --------------

# shellcheck disable=SC2034 # for tree.sh
derived_states=(stock-drivers stock-bench base-bench series-bench stock-tests)

# begin_index STATE: index_file changes it, commit_index makes it a tag
begin_index() {
	export GIT_INDEX_FILE=$BUILD/tag.index.$$
	tgit read-tree "$1"
}

# index_file PATH: stdin becomes that file
index_file() {
	tgit update-index --add --cacheinfo "100644,$(tgit hash-object -w --stdin),$1"
}

# commit_index TAG PARENT MESSAGE: the same commit each time
commit_index() {
	local commit date

	date=$(tgit log -1 --format=%cd --date=raw stock)
	commit=$(GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date \
		tgit commit-tree -p "$(tgit rev-parse "$2^{commit}")" -m "$3" "$(tgit write-tree)")
	unset GIT_INDEX_FILE
	rm -f "$BUILD/tag.index.$$"
	tgit update-ref "refs/tags/$1" "$commit"
}
