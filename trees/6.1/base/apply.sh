#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# apply.sh TREE: turn a stock kernel tree into the base, in place: every trace of
# the mmu notifier callback invalidate_range() goes.
#
# TREE may hold only the files that files.sh names. All of it happens on copies of
# these, which replace the originals once check.sh finds nothing left: TREE is
# converted whole or not at all.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?usage: apply.sh TREE}
steps=7

fail() {
	echo "apply.sh: $*" >&2
	exit 1
}

# step N WHAT: say where we are
step() {
	echo "[$1/$steps] $2"
}

# one_line LIST
one_line() {
	echo "$1" | paste -s -d ' '
}

# require FILE REGEX WHAT: FILE must have it, or this is no stock tree
require() {
	[ -f "$tree/$1" ] || fail "$1: no such file"
	grep -qE "$2" "$tree/$1" || fail "$1: $3 not found: not a stock tree, or already converted"
}

# having REGEX [DIR]: the copies (below DIR) that match; there must be one
having() {
	found=$(cd "$work" && grep -rlE "$1" "${2:-.}" | sed 's|^\./||' | sort)
	[ -n "$found" ] || fail "${2:-tree}: nothing matches: $1"
	echo "$found"
}

# edit FILE COMMAND...: run the filter over FILE, which it must change
edit() {
	file=$1
	shift
	[ -f "$work/$file" ] || fail "$file: no trace of the callback in it"
	"$@" <"$work/$file" >"$tmp" || fail "$file: $1 failed"
	! cmp -s "$work/$file" "$tmp" || fail "$file: nothing matched: $*"
	cat "$tmp" >"$work/$file"
}

# patch_with COCCI FILE...: run the semantic patch over each FILE, which it must change
patch_with() {
	cocci=$1
	shift
	for file in "$@"; do
		rm -f "$tmp.c"
		spatch --no-includes --very-quiet --sp-file "$here/$cocci" "$work/$file" -o "$tmp.c" >"$tmp" 2>&1 ||
			fail "$file: spatch $cocci failed: $(tail -n 1 "$tmp")"
		if [ ! -f "$tmp.c" ] || cmp -s "$work/$file" "$tmp.c"; then
			fail "$file: nothing matched: $cocci"
		fi
		cat "$tmp.c" >"$work/$file"
	done
}

# comments SCOPE REGEX: a filter that takes matching text out of comments
comments() {
	SCOPE=$1 RE=$2 awk -f "$here/comments.awk"
}

# comments_below SCOPE REGEX DIR: the same for all files below DIR that match
comments_below() {
	commented=$(having "$2" "$3")
	for f in $commented; do
		edit "$f" comments "$1" "$2"
	done
}

# macros REGEX: a filter that takes out macros of that name, with a blank line after
# those of several lines
macros() {
	awk -v name="^#define[ \t]+($1)[ \t(]" '
		cont	{ blank = 1; cont = /\\$/; next }
		blank	{ blank = 0; if ($0 == "") next }
		$0 ~ name { cont = /\\$/; next }
			{ print }'
}

# Copy the files with traces.
copy_out() {
	traced=$("$here/files.sh" "$tree")
	for f in $traced; do
		mkdir -p "$work/$(dirname "$f")"
		cp "$tree/$f" "$work/$f"
	done
}

# Replace the originals by what the copies have become.
copy_back() {
	for f in $traced; do
		if [ -f "$work/$f" ]; then
			cat "$work/$f" >"$tree/$f"
		else
			rm "$tree/$f"
		fi
	done
}

# What no rule below finds by itself: text whose neighbours must be looked at.
do_comments() {
	step 1 "comments"
	f=mm/huge_memory.c
	edit $f comments tail ' note that it is fine to delay notification .*'
	edit $f comments paragraph 'mm/mmu_notifier\.rst'
	# The macro of that name went before the others.
	edit $f sed 's/\(pmdp_huge_get_and_clear\)_notify()/\1()/'
	# The op of interval notifiers is meant.
	edit mm/mmu_notifier.c sed 's/op->invalidate_range():/op->invalidate():/'
	comments_below comment 'mmu_notifier(_|->)invalidate_range\(\)' mm
	comments_below comment 'Call invalidate_range here too' mm
	comments_below comment '[Ii]nvalidate as we cleared the pte' mm
	comments_below comment 'No need to invalidate here it will synchronize' mm
	comments_below reason 'mm/mmu_notifier\.rst' mm
	edit include/linux/mmu_notifier.h comments sentence '[^_]invalidate_range\(\) notifier'
}

do_header() {
	f=include/linux/mmu_notifier.h
	step 2 "$f"
	edit $f macros '(ptep|pmdp_huge|pudp_huge)_clear_flush_notify'
	patch_with notifier.cocci $f
}

do_core() {
	step 3 "mm/mmu_notifier.c"
	patch_with notifier.cocci mm/mmu_notifier.c
}

do_callers() {
	callers=$(having '\b(mmu_notifier_invalidate_range(_only_end)?|(ptep|pmdp_huge|pudp_huge)_clear_flush_notify) ?\(')
	f=include/asm-generic/tlb.h
	step 4 "callers: $(one_line "$callers")"
	# shellcheck disable=SC2086 # a list of files
	patch_with callers.cocci $callers
	# Nothing else there needs the header.
	grep -q 'mmu_notifier_' "$work/$f" || edit $f sed '/^#include <linux\/mmu_notifier\.h>$/d'
}

do_hooks() {
	hooks=$(having '\.invalidate_range[[:space:]]*=')
	step 5 "hooks: $(one_line "$hooks")"
	# shellcheck disable=SC2086 # a list of files
	patch_with hooks.cocci $hooks
	# A notifier whose only op this was.
	for f in $hooks; do
		sed '/struct mmu_notifier_ops [a-z_]* = {$/{N;s/{\n};/{ };/}' "$work/$f" >"$tmp"
		cat "$tmp" >"$work/$f"
	done
}

# Intel SVM: the flush function stays without a caller, and two comments change.
do_intel() {
	f=drivers/iommu/intel/svm.c
	step 6 "$f drivers/iommu/intel/iommu.c"
	edit $f sed '/^static void intel_flush_svm_range(/,/)/{
		s/^static void /&__maybe_unused\n/
		s/^[[:space:]]\{2,\}/\t\t      /
	}'
	edit $f comments sentence '[^_]invalidate_range\(\) callback'
	edit drivers/iommu/intel/iommu.c sed '/called by mmu_notifier\.invalidate_range()/{
		N
		s/, called by mmu_notifier\.invalidate_range() where\n \*[[:space:]]*/, when the /
	}'
}

# The page about the callback, in each language, and its place in the index.
do_docs() {
	pages=$(cd "$work" && find Documentation -path '*/mm/mmu_notifier.rst')
	[ -n "$pages" ] || fail "Documentation/mm/mmu_notifier.rst: no such file"
	step 7 "$(one_line "$pages")"
	for f in $pages; do
		rm "$work/$f"
		edit "$(dirname "$f")/index.rst" sed '/^ *mmu_notifier$/d'
	done
}

command -v spatch >/dev/null || fail "spatch not found: install coccinelle"
require include/linux/mmu_notifier.h '\(\*invalidate_range\)\(' 'the op invalidate_range()'
require mm/mmu_notifier.c '^void __mmu_notifier_invalidate_range\(' 'its dispatcher'
require include/asm-generic/tlb.h '\bmmu_notifier_invalidate_range\(' 'its call'
require drivers/iommu/amd/iommu_v2.c '\.invalidate_range\b' 'its hook'

work=$(mktemp -d)
tmp=$(mktemp)
trap 'rm -rf "$work" "$tmp" "$tmp.c"' EXIT
copy_out
do_comments
do_header
do_core
do_callers
do_hooks
do_intel
do_docs
left=$("$here/check.sh" "$work") || fail "no rule for $(echo "$left" | head -n 1) (lines like it: $(echo "$left" | wc -l))"
copy_back
