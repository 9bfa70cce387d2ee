#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# refresh.sh: the commits base..HEAD of build/linux become the series in trees/TREE/, and linux/.
#
# A file that a commit adds goes to linux/, whole; what a commit does to other files
# goes to trees/TREE/SERIES/NNNN-title.patch. A commit belongs to the series that has a patch
# of its title; a new one to that of the commit before it. A patch of another kernel's stays
# where it is. Nothing is replaced before the result was built again and gave the same trees
# and changelogs.
#
# FORCE=1 overwrites what changed in trees/TREE/ and linux/ since the tree was made
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

tmp=$BUILD/tmp.refresh
new_trees=$tmp/trees
new_tree=$new_trees/$TREE
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
	check_unbuilt
}

check_unbuilt() {
	[ -n "${FORCE:-}" ] || ! "$scripts/tree/tree.sh" unbuilt ||
		die "$(short "$TREE_DIR")/ or $(short "$LINUX_DIR")/ changed since the tree was made, and would be overwritten; FORCE=1 does it"
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

# series title name, of all patches that there are
old_titles() {
	local which name

	all_patches | while read -r which name _; do
		printf '%s\t%s\t%s\n' "$which" "$name" "$(title_of "$(patch_file "$which" "$name")")"
	done
}

# old COMMIT: series and name of the patch that has this title
old() {
	awk -F '\t' -v title="$(tgit log -1 --format=%s "$1")" '$3 == title { print $1, $2; exit }' "$tmp/titles"
}

# Goes on from the series that the last commit was in.
series_of() { # COMMIT
	local is

	is=$(old "$1")
	is=${is%% *}
	is=${is:-${series:-$(series_names | head -n 1)}}
	[ -n "$is" ] || die "$(short "$TREE_DIR")/series names no series; add a line with the name of one"
	[ -z "$series" ] || series_names | sed -n "/^$series\$/,\$p" | grep -qxF "$is" ||
		die "the commit '$(tgit log -1 --format=%s "$1")' is one of $is, and stands behind those of $series; move it up"
	echo "$is"
}

# The comments that open the old lists stay.
begin_lists() {
	local series

	cp -a "$TREES_DIR" "$new_trees"
	for series in $(series_names); do
		mkdir -p "$new_tree/$series"
		rm -f "$new_tree/$series"/*.patch
		{ sed -n '/^#/!q;p' "$TREE_DIR/$series/series" 2>/dev/null || :; } >"$new_tree/$series/series"
	done
}

write_series() {
	local n=0 commit name series='' is

	mkdir -p "$new_linux"
	: >"$tmp/added"
	old_titles >"$tmp/titles"
	begin_lists
	for commit in $(tgit rev-list --reverse refs/tags/base..HEAD); do
		is=$(series_of "$commit")
		[ "$is" = "$series" ] || n=0
		series=$is
		changed_files "$commit" A >"$tmp/adds"
		changed_files "$commit" a >"$tmp/changes"
		check_files "$commit"
		name=$(old "$commit")
		name=${name#* }
		if [[ $name != */* ]]; then
			n=$((n + 1))
			name=$(patch_name $n "$commit")
		fi
		write_patch "$commit" >"$(TREES_DIR=$new_trees TREE_DIR=$new_tree patch_file "$series" "$name")"
		{ echo "$name"; cat "$tmp/adds"; } | paste -s -d ' ' >>"$new_tree/$series/series"
		sort -o "$tmp/added" "$tmp/added" "$tmp/adds"
	done
	# No commit changed them later, so they are as HEAD has them.
	tgit checkout-index --stdin --prefix="$new_linux/" <"$tmp/added"
	while read -r name; do
		keep_other_kernels "$name"
	done <"$tmp/added"
}

# What linux/ has of that file for other kernels stays, also where this one changed it.
keep_other_kernels() { # FILE
	[ -f "$LINUX_DIR/$1" ] && [ ! -L "$LINUX_DIR/$1" ] || return 0
	adapt_files "$tmp/adapted" "$1"
	hgit merge-file -p -q "$LINUX_DIR/$1" "$tmp/adapted/$1" "$new_linux/$1" >"$tmp/merged" ||
		die "$(short "$LINUX_DIR")/$1 has lines for other kernels where you changed it; edit it there, and run 'make tree'"
	cat "$tmp/merged" >"$new_linux/$1"
}

# --- does it say the same? ------------------------------------------------

trees_and_changelogs() {
	tgit log --reverse --format='%T%n%s%n%n%b' "refs/tags/base..$1"
}

# Files that only other kernels have.
complete_linux() {
	local file

	TREES_DIR=$new_trees all_trees_claim | while read -r file; do
		[ -e "$new_linux/$file" ] || [ ! -e "$LINUX_DIR/$file" ] ||
			{ mkdir -p "$(dirname "$new_linux/$file")" && cp -P "$LINUX_DIR/$file" "$new_linux/$file"; }
	done
}

check_same() {
	local tip

	complete_linux
	tip=$(TREES_DIR=$new_trees LINUX_DIR=$new_linux "$scripts/tree/tree.sh" commits)
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

# install_files FROM TO FIND_ARG...: TO gets the files of FROM that find would find, and loses
# others of that kind.
install_files() {
	local from=$1 to=$2 file

	shift 2
	mkdir -p "$to"
	(cd "$from" && find . "$@" ! -type d) | while read -r file; do
		put "$from/$file" "$to/$file"
	done
	(cd "$to" && find . "$@" ! -type d) | while read -r file; do
		[ -e "$from/$file" ] || [ -L "$from/$file" ] || rm "$to/$file"
	done
	find "$to" -mindepth 1 -type d -empty -delete
}

# Letters and descriptions are not made here, and can have been edited meanwhile.
install_all() {
	install_files "$new_trees" "$TREES_DIR" \( -name '*.patch' -o -name series \)
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
check_unbuilt
say "replacing $(short "$TREE_DIR")/ and $(short "$LINUX_DIR")/"
install_all
rm -rf "$tmp"

# The same trees: no file changes, the commits get their fixed dates.
unlock
FORCE=1 "$scripts/tree/tree.sh" 2>"$BUILD/refresh.log" || { cat "$BUILD/refresh.log" >&2; exit 1; }
rm -f "$BUILD/refresh.log"
note "$(short "$TREE_DIR")/ and $(short "$LINUX_DIR")/ are what $(short "$tree") was"
