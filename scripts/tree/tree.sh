#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tree.sh           make or update build/linux
# tree.sh commits   make the series' commits, move nothing, print the last
# tree.sh unbuilt   succeeds if trees/ and linux/ are not what the tree was made from
# tree.sh clean     remove build/
#
# build/linux is a git repository: tag stock is the kernel source as shipped; tag
# base is stock as trees/TREE/base converts it, or stock where there is no such directory;
# then comes one commit per patch, with tags end/fixes and so on at the end of each series; tag
# and branch series are the last one. All commits are made in a temporary index first. Refs and
# work tree move after everything succeeded, and only files that differ are written.
#
# TREE=   which kernel: a directory of trees/ (6.1)
# KSRC=   its source: a directory, a tarball, or a version of Debian's package (source.sh);
#         what it gives is in build/ROOM/linux. Where its context has moved, patches are merged,
#         and build/ROOM/moved.tsv says which.
# BUILD=  where to build (build/)
# FORCE=1 drops work in build/linux that is not in trees/ and linux/
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/archive.sh
. "$(dirname "$0")/../lib/archive.sh"
# shellcheck source=scripts/tree/source.sh
. "$(dirname "$0")/source.sh"

disk_mb=5120 # two work trees of 1.3 GB, 0.5 GB repository, the rest for builds

new=$BUILD/linux.new
old=$BUILD/linux.old
tmp=$BUILD/tmp.tree
made=$tree/.git/made # what the tree was made from

# --- stock ----------------------------------------------------------------

# 80000 files: no hooks, no surprise repacking, and an index that is quick to
# compare. The diff driver is what the kernel's .gitattributes says, which not
# every tarball has.
new_repository() {
	hgit init -q --initial-branch=import "$new"
	cat >>"$new/.git/config" <<-EOF
	[core]
		abbrev = 12
		autocrlf = false
		compression = 1
		fsync = none
		hooksPath = /dev/null
		preloadIndex = true
		untrackedCache = true
		warnAmbiguousRefs = false
	[gc]
		auto = 0
	[maintenance]
		auto = false
	[index]
		threads = true
		version = 4
	EOF
	mkdir -p "$new/.git/info" "$new/.git/made"
	echo '*.[ch] diff=cpp' >"$new/.git/info/attributes"
}

# Debian's source ignores all of itself: git add would leave out new files, and git
# status would not tell.
see_new_files() {
	[ ! -f "$new/.gitignore" ] || sed -i '/^\/\*$/d' "$new/.gitignore"
}

commit_stock() {
	local date

	date="@$(source_date) +0000"
	# "Big" files go to one pack, a third smaller than 80000 loose objects.
	hgit -C "$new" -c core.bigFileThreshold=1 add -A -f .
	GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date \
		hgit -C "$new" commit -q --no-verify -m "Linux $version"
	hgit -C "$new" tag stock
	hgit -C "$new" checkout -q --detach
	hgit -C "$new" branch -q -D import
}

import_stock() {
	if [ -e "$tree" ]; then
		[ -f "$made/source" ] || die "$(short "$tree") is not what these scripts made; move it away"
		refuse_own_work
	fi
	get_source
	check_source

	say "unpacking Linux $version"
	rm -rf "$new" "$old"
	mkdir "$new"
	unpack_source 2>"$tmp/err" ||
		die "cannot unpack $src: $(tail -n 1 "$tmp/err" | grep . || echo "no more is known"); it is damaged, or the disk is full"
	if [ ! -f "$new/Makefile" ] || [ ! -d "$new/mm" ]; then
		die "$src is not a whole kernel source: no mm/ in it; give the full one"
	fi

	say "committing it as 'stock'"
	rm -rf "$new/.git"
	new_repository
	see_new_files
	commit_stock
	{ echo "$stamp"; echo "is ${debian:-$version}"; } | atomic "$new/.git/made/source"

	[ ! -d "$tree" ] || mv "$tree" "$old"
	mv "$new" "$tree"
	rm -rf "$old"
	drop_source
}

# --- base -----------------------------------------------------------------

named_sums() {
	local dir=$1

	shift
	(cd "$dir" && find . "$@" -type f -print0 | sort -z | xargs -0 -r sha256sum)
}

base_inputs() {
	[ -d "$BASE_DIR" ] || return 0
	named_sums "$BASE_DIR" -maxdepth 1 \
		'(' -name '*.cocci' -o -name '*.sh' -o -name '*.awk' -o -name '*.sed' ')'
}

base_key() {
	{
		tgit rev-parse 'stock^{tree}'
		base_inputs
	} | sha256sum | cut -d ' ' -f 1
}

uncommitted() {
	[ -n "$(tgit status --porcelain | head -n 1)" ]
}

files_sh() {
	"$BASE_DIR/files.sh" "$1" || die "$(short "$BASE_DIR")/files.sh failed; its message is above"
}

# The files of stock that carry the callback. To unpack all of stock for files.sh
# would take half a minute: it sees the work tree, and apart from it, as they are in
# stock, the files that differ there.
stock_files() {
	local dir=$tmp/differ

	tgit -c core.quotePath=false diff --no-renames --name-only --diff-filter=a stock >"$dir.files"
	export GIT_INDEX_FILE=$tmp/index
	tgit read-tree stock
	tgit checkout-index --stdin --prefix="$dir/" <"$dir.files"
	files_sh "$tree" >"$tmp/seen"
	sort "$tmp/seen" | comm -23 - <(sort "$dir.files") >"$tmp/carry"
	[ ! -s "$dir.files" ] || files_sh "$dir" >>"$tmp/carry"
	sort "$tmp/carry" | comm -12 - <(tgit -c core.quotePath=false ls-files | sort) >"$tmp/base.files"
	[ -s "$tmp/base.files" ] || die "$(short "$BASE_DIR")/files.sh finds no callback in stock; is $src unmodified?"
}

# These files, converted in a place of their own.
convert() {
	local dir=$tmp/base

	mkdir "$dir"
	stock_files
	tgit checkout-index --stdin --prefix="$dir/" <"$tmp/base.files"

	"$BASE_DIR/apply.sh" "$dir" 1>&2 ||
		die "$(short "$BASE_DIR")/apply.sh failed; its message is above"
	"$BASE_DIR/check.sh" "$dir" 1>&2 ||
		die "$(short "$BASE_DIR")/apply.sh left the lines above; teach it to remove them"

	tgit_files "$dir" update-index --add --remove --stdin <"$tmp/base.files"
	base=$(commit_index stock 1 <<<"base: stock without invalidate_range()")
	unset GIT_INDEX_FILE
}

# Sets base; makes that commit if base/ or stock are not as one of the last times.
make_base() {
	local key

	if [ ! -d "$BASE_DIR" ]; then
		base=$(ref stock)
		return
	fi

	key=$(base_key)
	base=$(sed -n "s/^$key //p" "$made/base" 2>/dev/null | tail -n 1)
	if [ -n "$base" ] && [ -n "$(ref "$base")" ]; then
		say "base: no change"
		return
	fi

	say "base: removing the callback from stock"
	if ls "$BASE_DIR"/*.cocci >/dev/null 2>&1; then
		need_packages coccinelle
		need_commands spatch
	fi
	convert
	{ cat "$made/base" 2>/dev/null || :; echo "$key $base"; } | tail -n 20 | atomic "$made/base"
}

# --- series ---------------------------------------------------------------

# commit_index PARENT N: the index becomes a commit, dated N seconds after stock,
# so that the same input makes the same commit. The message comes from stdin.
commit_index() {
	local date

	date=$(tgit log -1 --format=%ct stock)
	date="@$((date + $2)) +0000"
	GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date \
		tgit commit-tree -p "$(ref "$1")" "$(tgit write-tree)"
}

# Every file in linux/ belongs to one patch of this kernel or is another one's; every patch
# is in a list.
check_claims() {
	local name list file

	[ -f "$TREE_DIR/series" ] || die "$(short "$TREE_DIR")/series is missing; it lists the series, one a line"
	for name in $(series_names); do
		list=$TREE_DIR/$name/series
		[ -f "$list" ] || die "$(short "$list") is missing; it lists the patches, one a line"
		for file in "$TREE_DIR/$name"/*.patch; do
			[ -e "$file" ] || continue
			grep -qF "${file##*/}" "$list" ||
				die "$(short "$file") is not in $(short "$list"); add it, if only as a comment"
		done
	done
	all_patches | claimed_files | sort >"$tmp/claimed"
	file=$(uniq -d "$tmp/claimed" | head -n 1)
	[ -z "$file" ] || die "$(short "$TREE_DIR") lists $file twice; one patch adds it"

	{ [ ! -d "$LINUX_DIR" ] || find "$LINUX_DIR" ! -type d -printf '%P\n'; } | sort >"$tmp/there"
	file=$(comm -23 "$tmp/claimed" "$tmp/there" | head -n 1)
	[ -z "$file" ] || die "$(short "$LINUX_DIR")/$file is missing; $(short "$TREE_DIR") says that a patch adds it"
	file=$(all_trees_claim | comm -13 - "$tmp/there" | head -n 1)
	[ -z "$file" ] ||
		die "$(short "$LINUX_DIR")/$file belongs to no patch; add its name to the line of one in $(short "$TREE_DIR"), or remove it"
}

# The line of the patch that begins the hunk that git names by file and line.
failed_hunk() {
	awk -v file="$1" -v line="$2" '
		/^diff --git / { here = 0 }
		/^(---|\+\+\+) / {
			name = $2
			sub(/^[ab]\//, "", name)
			here = name == file || (here && /^\+/)
		}
		here && index($0, "@@ -" line) == 1 && substr($0, length(line) + 5, 1) ~ /[, ]/ { print; exit }
	' "$tmp/diff"
}

does_not_apply() {
	local patch=$1 reason where file

	reason=$(sed -n '1s/^error: //p' "$tmp/err")
	where=${reason#patch failed: }
	[ "$where" != "$reason" ] ||
		die "$(short "$patch") does not apply: ${reason:-$(head -n 1 "$tmp/err")}; correct the patch"
	file=${where%:*}
	die "$(short "$patch") does not apply: $file, hunk $(failed_hunk "$file" "${where##*:}"); correct this hunk"
}

# A patch file is a mail without an envelope: what git am would make of it.
read_patch() {
	local patch=$1 subject

	[ -f "$patch" ] || die "$(short "$patch") is missing; $(short "${patch%/*}")/series lists it"
	hgit mailinfo -b "$tmp/body" "$tmp/diff" <"$patch" >"$tmp/info" 2>"$tmp/err" ||
		die "$(short "$patch"): $(head -n 1 "$tmp/err"); its first line has to be 'Subject: [PATCH] title'"
	subject=$(sed -n 's/^Subject: //p' "$tmp/info")
	[ -n "$subject" ] || die "$(short "$patch") has no subject; its first line has to be 'Subject: [PATCH] title'"
	{
		echo "$subject"
		echo
		cat "$tmp/body"
	} | hgit stripspace >"$tmp/message"
}

has_diff() {
	grep -Eq '^(diff --git |--- [^ ])' "$tmp/diff"
}

add_files() {
	local patch=$1 there

	shift
	[ $# -gt 0 ] || return 0
	there=$(tgit --literal-pathspecs ls-files -- "$@" | head -n 1)
	[ -z "$there" ] || die "$(short "$patch") adds $there, which is there before it; change it with a diff"
	adapt_files "$tmp/adapted" "$@"
	tgit_files "$tmp/adapted" update-index --add -- "$@"
}

# --- context that has moved -----------------------------------------------

# The series was made for one version, and has to fit that to the letter.
is_pinned() {
	[ "$(sed -n 's/^is //p' "$made/source")" = "$(tree_says version)" ]
}

# The tree of the version for which the series was made: its files are what a three-way
# merge needs. Sets pinned, or leaves it empty.
find_pinned() {
	[ -z "${asked_for_pinned:-}" ] || return 0
	asked_for_pinned=1
	pinned=$STORE/linux
	[ "$TREE" = 6.1 ] || pinned=$STORE/$TREE/linux
	if [ "$pinned" != "$tree" ]; then
		note "patches have to be merged, for which the tree of $(tree_says version) is needed"
		env -u KSRC -u STORE -u FORCE -u GIT_INDEX_FILE "BUILD=$STORE" "$scripts/tree/tree.sh" 9>&- ||
			note "without it, patches are merged by less of their context"
	fi
	[ "$pinned" != "$tree" ] && [ -d "$pinned/.git/objects" ] || pinned=
}

# What git said of the patch as it is: file:line of the first hunk in each file that failed.
failures() {
	sed -n 's/^error: patch failed: //p' "$tmp/err"
}

# merged HOW PATCH: for the list
merged() {
	local where

	failures | while read -r where; do
		printf '%s\t%s\t%s\t%s\n' "$(short "$2")" "${where%:*}" "$(failed_hunk "${where%:*}" "${where##*:}")" "$1"
	done >>"$tmp/moved"
}

# By the files of the version that the patch was made for; nothing is guessed there.
merge_three_way() { # PATCH
	[ -n "$pinned" ] &&
		GIT_ALTERNATE_OBJECT_DIRECTORIES=$pinned/.git/objects \
			tgit apply "${apply_options[@]}" --3way "$1" >"$tmp/err3" 2>&1
}

# fits_once FILE LINES: what each hunk of that file replaces, with so many lines around it, is
# there once, or fits as it is. Where it were there twice, git would take the nearest.
fits_once() {
	tgit show ":$1" >"$tmp/now" 2>/dev/null || return 1
	awk -v file="$1" -v around="$2" '
	# How often lines FROM to TO of the hunk are in the file.
	function count(from, to,   i, j, found) {
		for (i = 1; i <= lines - (to - from); i++) {
			for (j = from; j <= to && text[i + j - from] == old[j]; j++)
				;
			found += j > to
		}
		return found
	}
	function check(   from, to) {
		if (!n)
			return
		from = first > around ? first - around : 1
		to = last + around < n ? last + around : n
		if (!count(1, n) && (to < from || count(from, to) != 1))
			exit bad = 1
	}
	NR == FNR { text[++lines] = $0; next }
	/^(diff --git|--- |\+\+\+ |@@ )/ {
		check()
		n = first = last = 0
		if (/^\+\+\+ /)
			here = $2 == "b/" file
		next
	}
	!here { next }
	/^[-+]/ && !first { first = n + 1 }
	/^[- ]/ || /^$/ { old[++n] = substr($0, 2) }
	/^[-+]/ { last = n }
	END { if (!bad) check(); exit bad }' "$tmp/now" "$tmp/diff"
}

# The files that failed, with as little context as is still sure.
merge_by_context() { # PATCH
	local lines where

	for lines in 2 1 0; do
		while read -r where; do
			fits_once "${where%:*}" $lines || continue 2
		done < <(failures)
		if tgit apply "${apply_options[@]}" -C$lines "$1" 2>/dev/null; then
			merged "the lines themselves and $lines around them, which are there once" "$1"
			return
		fi
	done
	return 1
}

# The patch as it is has failed.
merge_patch() { # PATCH
	local patch=$1 before

	is_pinned && does_not_apply "$patch"
	[ -n "$(failures)" ] || does_not_apply "$patch"
	find_pinned
	before=$(tgit write-tree)
	if merge_three_way "$patch"; then
		merged "three-way merge" "$patch"
		return
	fi
	tgit read-tree "$before"
	merge_by_context "$patch" || does_not_apply "$patch"
}

# leave_out PATCH: files of it that this release has no use for, as trees/TREE/optional says
leave_out() {
	local file pattern

	[ -f "$TREE_DIR/optional" ] || return 0
	listed "$TREE_DIR/optional" | while read -r file pattern; do
		if grep -qF "+++ b/$file" "$1" && ! tgit show ":$file" 2>/dev/null | grep -qE "$pattern"; then
			printf '%s\t%s\t-\tleft out: it has no %s\n' "$(short "$1")" "$file" "$pattern" >>"$tmp/moved"
			echo "--exclude=$file"
		fi
	done
}

apply_patch() { # PATCH
	apply_options=(--cached --whitespace=nowarn)
	leave_out "$1" >"$tmp/excludes"
	mapfile -t -O 2 apply_options <"$tmp/excludes"
	tgit apply "${apply_options[@]}" "$1" 2>"$tmp/err" || merge_patch "$1"
}

show_moved() {
	rm -f "$BUILD/moved.tsv"
	[ -s "$tmp/moved" ] || return 0
	{ printf 'patch\tfile\thunk\tmerged_by\n'; cat "$tmp/moved"; } | atomic "$BUILD/moved.tsv"
	note "$(wc -l <"$tmp/moved") changes were merged or left out; $(short "$BUILD")/moved.tsv lists them"
}

# --- commits --------------------------------------------------------------

# make_patch_commit PARENT N PATCH FILE...: prints the commit
make_patch_commit() {
	local parent=$1 n=$2 patch=$3

	shift 3
	read_patch "$patch"
	if has_diff; then
		apply_patch "$patch"
	elif [ $# = 0 ]; then
		die "$(short "$patch") changes nothing; give it a diff, or files to add in $(short "${patch%/*}")/series"
	fi
	add_files "$patch" "$@"
	commit_index "$parent" "$n" <"$tmp/message"
}

# make_series BASE: sets tip, the commit of the last patch, and ends, name and last commit
# of each series.
make_series() {
	local n=1 name words

	check_claims
	say "series: $(all_patches | wc -l) patches"
	tip=$1
	ends=
	: >"$tmp/moved"
	export GIT_INDEX_FILE=$tmp/index
	tgit read-tree "$tip"
	for name in $(series_names); do
		while read -r -a words; do
			n=$((n + 1))
			make_patch_commit "$tip" $n "$(patch_file "$name" "${words[0]}")" "${words[@]:1}" >"$tmp/commit"
			tip=$(cat "$tmp/commit")
		done < <(listed "$TREE_DIR/$name/series")
		ends="$ends $name $tip"
	done
	unset GIT_INDEX_FILE
}

# --- refs and work tree ---------------------------------------------------

ref() {
	tgit rev-parse -q --verify "$1^{commit}" 2>/dev/null || :
}

rebasing() {
	[ -d "$tree/.git/rebase-merge" ] || [ -d "$tree/.git/rebase-apply" ]
}

at_a_tag() {
	local head

	head=$(ref HEAD)
	tgit for-each-ref --format='%(objectname)' refs/tags/ | grep -qxF "$head"
}

# What the developer has in the tree that would be lost, if anything.
own_work() {
	if rebasing; then
		echo "a rebase under way"
	elif uncommitted; then
		echo "changes that are not committed"
	elif [ "$(ref refs/heads/series)" != "$(ref refs/tags/series)" ]; then
		echo "commits of yours on the branch 'series'"
	elif ! at_a_tag; then
		echo "commits of yours"
	fi
}

refuse_own_work() {
	local work

	[ -z "${FORCE:-}" ] || return 0
	work=$(own_work)
	[ -z "$work" ] ||
		die "$(short "$tree") has $work; 'make refresh' brings commits back to $(short "$TREE_DIR")/, FORCE=1 drops them"
}

# Only files that differ are written. FORCE drops what is in the way.
switch_to() {
	if [ -n "${FORCE:-}" ]; then
		rm -rf "$tree/.git/rebase-merge" "$tree/.git/rebase-apply"
		tgit checkout -q -f --detach "$1"
		tgit clean -q -f -d
	else
		tgit checkout -q --detach "$1"
	fi
}

# Each series has a tag at its end: end/fixes and so on.
tag_series() { # NAME COMMIT...
	tgit for-each-ref --format='delete %(refname)' refs/tags/end/ | tgit update-ref --stdin
	while [ $# -gt 0 ]; do
		tgit update-ref "refs/tags/end/$1" "$2"
		shift 2
	done
}

# What 'pending' says can be done again, all of it, by the call after one that
# was interrupted.
publish() { # BASE TIP KEY, which is two words; then each series and its end
	atomic "$made/pending" <<<"publish $*"
	switch_to "$2"
	tgit update-ref --stdin <<-EOF
	update refs/tags/base $1
	update refs/tags/series $2
	update refs/heads/series $2
	EOF
	tag_series "${@:5}"
	tgit symbolic-ref HEAD refs/heads/series
	atomic "$made/key" <<<"$3 $4"
	rm "$made/pending"
}

recover() {
	local what

	rm -rf "$BUILD"/tmp.* "$new" "$old"
	[ -f "$made/pending" ] || return 0
	note "finishing what was interrupted"
	rm -f "$tree"/.git/*.lock "$tree"/.git/refs/*/*.lock
	read -r -a what <"$made/pending"
	FORCE=1 "${what[@]}"
}

# --- is there anything to do? ---------------------------------------------

# Also the patches of other kernels that this one takes. read_patch() says which is missing.
series_inputs() {
	all_patches | while read -r series name _; do
		cat "$(patch_file "$series" "$name")" 2>/dev/null || :
	done
	named_sums "$TREE_DIR" -maxdepth 2 '(' -name series -o -name '*.patch' -o -name kernel -o -name optional -o -name features ')'
	[ -d "$LINUX_DIR" ] || return 0
	named_sums "$LINUX_DIR"
	find "$LINUX_DIR" ! -type d -printf '%P %y %m %l\n' | sort
}

# Two words: what base is made from, what the series is made from.
inputs_key() {
	local base_part series_part

	base_part=$({
		echo "$stamp"
		echo "$GIT_AUTHOR_NAME <$GIT_AUTHOR_EMAIL>"
		base_inputs
	} | sha256sum)
	series_part=$(series_inputs | sha256sum)
	echo "${base_part%% *} ${series_part%% *}"
}

made_from() {
	[ -f "$made/key" ] && [ ! -e "$made/pending" ] && [ "$(cat "$made/key")" = "$1" ] &&
		[ -n "$(ref refs/tags/base)" ] && [ -n "$(ref refs/tags/series)" ] && [ -n "$(ref refs/heads/series)" ]
}

# Sets stamp, and import if stock has to be made. A source that is gone was good enough
# when stock was made from it.
look_at_source() {
	import=
	find_source
	stamp=$(source_stamp)
	if [ ! -f "$made/source" ] || [ "$stamp" != "$(grep -v '^is ' "$made/source")" ]; then
		import=1
	fi
}

up_to_date() {
	[ -z "$import" ] && made_from "$key" || return 1
	[ -z "${FORCE:-}" ] || [ -z "$(own_work)" ]
}

# --- commands -------------------------------------------------------------

tmp_dir() {
	rm -rf "$tmp"
	mkdir "$tmp"
	trap 'rm -rf "$tmp" "$new"' EXIT
}

say_up_to_date() {
	if [ "$(ref HEAD)" = "$(ref refs/tags/series)" ]; then
		note "$(short "$tree"): up to date"
	else
		note "$(short "$tree"): up to date, but you have something else than 'series' checked out ('make refresh' brings commits of yours to $(short "$TREE_DIR")/)"
	fi
}

rebuild() {
	tmp_dir
	steps 3
	if [ -n "$import" ]; then
		steps 5
		import_stock
	fi
	refuse_own_work
	make_base
	make_series "$base"
	say "checking out 'series'"
	# shellcheck disable=SC2086 # words
	publish "$base" "$tip" $key $ends
	show_moved
	note "$(short "$tree") is ready ($SECONDS s)"
}

do_tree() {
	need_packages git xz-utils unifdef
	need_commands git tar xz awk flock sha256sum unifdef
	identity || :
	look_at_source
	key=$(inputs_key)
	if ! up_to_date; then
		if [ -n "$import" ]; then
			[ -z "$src" ] || check_source
			need_disk "$disk_mb" "$BUILD"
		fi
		lock
		recover
		# Whoever had the lock may have done it.
		look_at_source
		up_to_date || { rebuild; return; }
	fi
	say_up_to_date
}

# The two below are for refresh.sh, which has the lock.

# Succeeds if series/ and linux/ are not what the tree was made from.
do_unbuilt() {
	local now

	now=$(series_inputs | sha256sum)
	[ "${now%% *}" != "$(cut -d ' ' -f 2 "$made/key")" ]
}

do_commits() {
	say() { :; }
	identity || :
	tmp=$BUILD/tmp.commits
	tmp_dir
	make_series "$(ref refs/tags/base)"
	echo "$tip"
}

do_clean() {
	local keep

	[ -e "$BUILD" ] || return 0
	[ -e "$BUILD/.lock" ] || die "$BUILD was not made by these scripts; remove it yourself"
	for keep in "$top" "${HOME:-$top}"; do
		case $keep/ in
		"${BUILD%/}"/*) die "$BUILD has more than builds in it; remove them yourself" ;;
		esac
	done
	lock
	rm -rf "$BUILD"
}

case ${1:-} in
"") do_tree ;;
commits) do_commits ;;
unbuilt) do_unbuilt ;;
clean) do_clean ;;
*) die "unknown command '$1'; usage: tree.sh [commits | unbuilt | clean]" ;;
esac
