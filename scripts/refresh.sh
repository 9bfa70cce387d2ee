#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# refresh.sh: the commits base..HEAD of build/linux become series/ and linux/.
#
# A file that a commit adds goes to linux/, whole; what a commit does to other files
# goes to series/NNNN-title.patch. Nothing is replaced before the result was built
# again and gave the same trees and changelogs.
#
# FORCE=1 overwrites what changed in series/ and linux/ since the tree was made
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
tmp=$BUILD/tmp.refresh
new_series=$tmp/series
new_linux=$tmp/linux

# --- what can be refreshed ------------------------------------------------

check_tree() {
	[ -f "$tree/.git/made/key" ] || die "there is no tree yet; run 'make tree'"
	[ ! -e "$tree/.git/made/pending" ] || die "making the tree was interrupted; run 'make tree' first"
	if [ -d "$tree/.git/rebase-merge" ] || [ -d "$tree/.git/rebase-apply" ]; then
		die "$(short "$tree") has a rebase under way; finish it first"
	fi
	[ -z "$(tgit status --porcelain | head -n 1)" ] ||
		die "$(short "$tree") has changes that are not committed; commit them first"
	tgit merge-base --is-ancestor refs/tags/base HEAD ||
		die "$(short "$tree") is at something that is not based on 'base'; check out the branch 'series'"
	[ -z "$(tgit rev-list --merges refs/tags/base..HEAD | head -n 1)" ] ||
		die "$(short "$tree") has a merge above 'base'; make it a line of commits with 'git rebase base'"
	[ -n "${FORCE:-}" ] || ! "$here/tree.sh" unbuilt ||
		die "$(short "$SERIES_DIR")/ or $(short "$LINUX_DIR")/ changed since the tree was made, and would be overwritten; FORCE=1 does it"
}

# --- one commit, one patch ------------------------------------------------

# As git format-patch names it.
patch_name() {
	local name

	name=$(printf '%04d-%s' "$1" "$(tgit log -1 --format=%f "$2")")
	echo "${name:0:57}.patch"
}

# changed_files COMMIT FILTER: A for those added, a for the others
changed_files() {
	tgit -c core.quotePath=false diff-tree -r --no-commit-id --no-renames --name-only \
		--diff-filter="$2" "$1" | sort
}

check_files() {
	local commit=$1 file title

	title=$(tgit log -1 --format=%s "$commit")
	[ -s "$tmp/adds" ] || [ -s "$tmp/changes" ] ||
		die "the commit '$title' changes nothing; drop it"
	file=$(grep -m 1 '[[:space:]"]' "$tmp/adds" || :)
	[ -z "$file" ] || die "the commit '$title' adds $file; use a name without blanks"
	file=$(comm -12 "$tmp/added" "$tmp/changes" | head -n 1)
	[ -z "$file" ] ||
		die "the commit '$title' changes $file, which an earlier one adds; fold it into the patch that adds it"
}

write_patch() {
	local commit=$1 body

	body=$(tgit log -1 --format=%b "$commit")
	tgit log -1 --format='Subject: [PATCH] %s%n' "$commit"
	[ -z "$body" ] || printf '%s\n' "$body"
	echo ---
	[ -s "$tmp/changes" ] || return 0
	echo
	tgit diff-tree -p -r --no-commit-id --no-renames --no-color --no-ext-diff --no-textconv \
		--abbrev=12 --diff-filter=a "$commit"
}

# The comments that open the old list stay.
write_list_head() {
	sed -n '/^#/!q;p' "$SERIES_DIR/series"
}

write_series() {
	local n=0 commit name

	mkdir -p "$new_series" "$new_linux"
	: >"$tmp/added"
	write_list_head >"$new_series/series"
	for commit in $(tgit rev-list --reverse refs/tags/base..HEAD); do
		n=$((n + 1))
		changed_files "$commit" A >"$tmp/adds"
		changed_files "$commit" a >"$tmp/changes"
		check_files "$commit"
		name=$(patch_name $n "$commit")
		write_patch "$commit" >"$new_series/$name"
		{ echo "$name"; cat "$tmp/adds"; } | paste -s -d ' ' >>"$new_series/series"
		sort -o "$tmp/added" "$tmp/added" "$tmp/adds"
	done
	# No commit changed them later, so they are as HEAD has them.
	tgit checkout-index --stdin --prefix="$new_linux/" <"$tmp/added"
}

# --- does it say the same? ------------------------------------------------

trees_and_changelogs() {
	tgit log --reverse --format='%T%n%s%n%n%b' "refs/tags/base..$1"
}

check_same() {
	local tip

	tip=$(SERIES_DIR=$new_series LINUX_DIR=$new_linux "$here/tree.sh" commits)
	trees_and_changelogs HEAD >"$tmp/want"
	trees_and_changelogs "$tip" >"$tmp/got"
	cmp -s "$tmp/want" "$tmp/got" ||
		die "the patches do not give the same again (a changelog with a line '---', 'diff ...' or 'From: ...'?): $(diff "$tmp/want" "$tmp/got" | sed -n 2p)"
}

# --- into place -----------------------------------------------------------

executable() {
	[ ! -x "$1" ] || echo yes
}

put() {
	if cmp -s "$1" "$2" && [ "$(executable "$1")" = "$(executable "$2")" ]; then
		return
	fi
	mkdir -p "$(dirname "$2")"
	cp -P "$1" "$2.tmp.$$"
	mv -f "$2.tmp.$$" "$2"
}

# install_files FROM TO FIND_ARG...: TO gets the files of FROM, and loses others
# that find would find.
install_files() {
	local from=$1 to=$2 file

	shift 2
	mkdir -p "$to"
	(cd "$from" && find . ! -type d) | while read -r file; do
		put "$from/$file" "$to/$file"
	done
	(cd "$to" && find . "$@" ! -type d) | while read -r file; do
		[ -e "$from/$file" ] || [ -L "$from/$file" ] || rm "$to/$file"
	done
	find "$to" -mindepth 1 -type d -empty -delete
}

install_all() {
	install_files "$new_series" "$SERIES_DIR" -maxdepth 1 -name '*.patch'
	install_files "$new_linux" "$LINUX_DIR"
}

lock
rm -rf "$tmp"
mkdir "$tmp"
trap 'rm -rf "$tmp"' EXIT
check_tree
steps 3
say "writing $(tgit rev-list --count refs/tags/base..HEAD) patches"
write_series
say "building them again, to compare"
check_same
say "replacing $(short "$SERIES_DIR")/ and $(short "$LINUX_DIR")/"
install_all
rm -rf "$tmp"

# The same trees: no file changes, the commits get their fixed dates.
exec 9>&-
FORCE=1 "$here/tree.sh" 2>"$BUILD/refresh.log" || { cat "$BUILD/refresh.log" >&2; exit 1; }
rm -f "$BUILD/refresh.log"
note "$(short "$SERIES_DIR")/ and $(short "$LINUX_DIR")/ are what $(short "$tree") was"
