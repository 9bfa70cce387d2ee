#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tree.sh                              make or update build/linux
# tree.sh checkout base|stock|series   switch its work tree
# tree.sh commits                      make the series' commits, move nothing, print the last
# tree.sh clean                        remove build/
#
# build/linux is a git repository: tag stock is the kernel source as shipped, tag
# base is stock as base/ converts it, tag and branch series are base plus one commit
# per patch. All commits are made in a temporary index first. Refs and work tree
# move after everything succeeded, and only files that differ are written.
#
# KSRC=   kernel source, a directory or a tarball (Debian's linux-source-6.1)
# BUILD=  where to build (build/)
# FORCE=1 drops work in build/linux that is not in series/ and linux/
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

default_source=/usr/src/linux-source-6.1.tar.xz
default_package=linux-source-6.1
disk_mb=4096 # 1.5 GB work tree, 0.5 GB repository, the rest for builds

new=$BUILD/linux.new
old=$BUILD/linux.old
tmp=$BUILD/tmp.tree
made=$tree/.git/made # what the tree was made from

# --- the source -----------------------------------------------------------

# Of three places: KSRC, what the tree was made from, Debian's package.
find_source() {
	if [ -n "${KSRC:-}" ]; then
		[ -e "$KSRC" ] || die "KSRC=$KSRC does not exist; give a kernel source directory or tarball"
		src=$(realpath "$KSRC")
	elif [ -f "$made/source" ]; then
		src=$(sed -n 's/^path //p' "$made/source")
	else
		src=$default_source
	fi
}

is_git() {
	[ -e "$src/.git" ]
}

# What changes when the source does.
source_stamp() {
	echo "path $src"
	if [ -f "$src" ]; then
		stat -L -c 'tarball %s %Y' "$src"
	elif is_git; then
		git -C "$src" rev-parse --verify HEAD ||
			die "cannot read the git repository $src; give a tarball of it"
	else
		echo "directory $(find "$src" -type f -printf '%P %s %T@\n' | sort | sha256sum)"
	fi
}

# One member only: to unpack all would take half a minute.
tar_makefile() {
	tar -xOf "$src" --wildcards --no-wildcards-match-slash --occurrence=1 '*/Makefile' 2>/dev/null ||
		die "$src has no */Makefile that tar can read; it is damaged, or not a kernel tarball as kernel.org and Debian make it"
}

source_makefile() {
	local text

	if [ -f "$src" ]; then
		tar_makefile
		return
	elif is_git; then
		text=$(git -C "$src" show HEAD:Makefile 2>/dev/null) || text=
	else
		text=$(cat "$src/Makefile" 2>/dev/null) || text=
	fi
	[ -n "$text" ] || die "$src has no Makefile; KSRC= has to be the top of a kernel source"
	echo "$text"
}

read_version() {
	awk '
	/^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=/ {
		name = value = $0
		sub(/[ \t]*=.*/, "", name)
		sub(/[^=]*=[ \t]*/, "", value)
		if (!(name in v))
			v[name] = value
	}
	END {
		if (v["VERSION"] != "")
			print v["VERSION"] "." v["PATCHLEVEL"] "." v["SUBLEVEL"] v["EXTRAVERSION"]
	}'
}

check_version() {
	local makefile

	makefile=$(source_makefile)
	version=$(read_version <<<"$makefile")
	case $version in
	6.1.*) ;;
	"") die "the Makefile of $src names no kernel version; KSRC= has to be a source of Linux 6.1.y" ;;
	*) die "$src: this is Linux $version, the series is for 6.1.y; set KSRC= to a source of that" ;;
	esac
}

# All that can be wrong with a source and be known without writing anything.
check_source() {
	[ ! "$src" -ef "$tree" ] || die "KSRC is the tree to be made; give the source it was made from"
	check_version
	if [ -d "$src" ] && ! is_git; then
		if [ -e "$src/.config" ] || [ -e "$src/include/config" ]; then
			die "$src has been built in; run 'make mrproper' there, or give a tarball"
		fi
	fi
}

unpack_source() {
	if [ -f "$src" ]; then
		tar -xf "$src" --strip-components=1 --no-same-owner -C "$new"
	elif is_git; then
		git -C "$src" archive HEAD | tar -xf - -C "$new"
	else
		cp -a "$src/." "$new/"
	fi
}

source_date() {
	if is_git; then
		git -C "$src" log -1 --format=%ct
	else
		stat -c %Y "$new/Makefile"
	fi
}

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

	say "unpacking Linux $version"
	rm -rf "$new" "$old"
	mkdir "$new"
	unpack_source 2>"$tmp/err" ||
		die "cannot unpack $src: $(tail -n 1 "$tmp/err"); it is damaged, or the disk is full"
	if [ ! -f "$new/Makefile" ] || [ ! -d "$new/mm" ]; then
		die "$src is not a whole kernel source: no mm/ in it; give the full one"
	fi

	say "committing it as 'stock'"
	rm -rf "$new/.git"
	new_repository
	see_new_files
	commit_stock
	atomic "$new/.git/made/source" <<<"$stamp"

	[ ! -d "$tree" ] || mv "$tree" "$old"
	mv "$new" "$tree"
	rm -rf "$old"
}

# --- base -----------------------------------------------------------------

named_sums() {
	local dir=$1

	shift
	(cd "$dir" && find . "$@" -type f -print0 | sort -z | xargs -0 -r sha256sum)
}

base_inputs() {
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

# Every file in linux/ belongs to one patch, every patch is in the list.
check_claims() {
	local list=$SERIES_DIR/series file

	[ -f "$list" ] || die "$(short "$list") is missing; it lists the patches, one a line"
	awk '!/^[ \t]*(#|$)/ { for (i = 2; i <= NF; i++) print $i }' "$list" | sort >"$tmp/claimed"
	file=$(uniq -d "$tmp/claimed" | head -n 1)
	[ -z "$file" ] || die "$(short "$list") lists $file twice; one patch adds it"

	{ [ ! -d "$LINUX_DIR" ] || find "$LINUX_DIR" ! -type d -printf '%P\n'; } | sort >"$tmp/there"
	file=$(comm -23 "$tmp/claimed" "$tmp/there" | head -n 1)
	[ -z "$file" ] || die "$(short "$LINUX_DIR")/$file is missing; $(short "$list") says that a patch adds it"
	file=$(comm -13 "$tmp/claimed" "$tmp/there" | head -n 1)
	[ -z "$file" ] ||
		die "$(short "$LINUX_DIR")/$file belongs to no patch; add its name to a line of $(short "$list"), or remove it"

	for file in "$SERIES_DIR"/*.patch; do
		[ -e "$file" ] || continue
		grep -qF "${file##*/}" "$list" ||
			die "$(short "$file") is not in $(short "$list"); add it, if only as a comment"
	done
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

	[ -f "$patch" ] || die "$(short "$patch") is missing; $(short "$SERIES_DIR")/series lists it"
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
	tgit_files "$LINUX_DIR" update-index --add -- "$@"
}

# make_patch_commit PARENT N PATCH FILE...: prints the commit
make_patch_commit() {
	local parent=$1 n=$2 patch=$SERIES_DIR/$3

	shift 3
	read_patch "$patch"
	if has_diff; then
		tgit apply --cached --whitespace=nowarn "$patch" 2>"$tmp/err" || does_not_apply "$patch"
	elif [ $# = 0 ]; then
		die "$(short "$patch") changes nothing; give it a diff, or files to add in $(short "$SERIES_DIR")/series"
	fi
	add_files "$patch" "$@"
	commit_index "$parent" "$n" <"$tmp/message"
}

# make_series BASE: sets tip, the commit of the last patch.
make_series() {
	local n=1 words

	check_claims
	say "series: $(patch_names "$SERIES_DIR/series" | wc -l) patches"
	tip=$1
	export GIT_INDEX_FILE=$tmp/index
	tgit read-tree "$tip"
	while read -r -a words; do
		case ${words[0]:-#} in
		'#'*) continue ;;
		esac
		n=$((n + 1))
		tip=$(make_patch_commit "$tip" $n "${words[@]}")
	done <"$SERIES_DIR/series"
	unset GIT_INDEX_FILE
}

# --- refs and work tree ---------------------------------------------------

ref() {
	tgit rev-parse -q --verify "$1^{commit}" 2>/dev/null || :
}

rebasing() {
	[ -d "$tree/.git/rebase-merge" ] || [ -d "$tree/.git/rebase-apply" ]
}

on_branch() {
	tgit symbolic-ref -q HEAD >/dev/null
}

at_a_tag() {
	local head name

	head=$(ref HEAD)
	for name in stock base series "${derived_states[@]}"; do
		[ "$head" != "$(ref "refs/tags/$name")" ] || return 0
	done
	return 1
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
		die "$(short "$tree") has $work; 'make refresh' brings commits back to $(short "$SERIES_DIR")/, FORCE=1 drops them"
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

# What 'pending' says can be done again, all of it, by the call after one that
# was interrupted.
publish() { # BASE TIP KEY, which is two words
	atomic "$made/pending" <<<"publish $*"
	switch_to "$2"
	tgit update-ref --stdin <<-EOF
	update refs/tags/base $1
	update refs/tags/series $2
	update refs/heads/series $2
	EOF
	tgit symbolic-ref HEAD refs/heads/series
	atomic "$made/key" <<<"$3 $4"
	rm "$made/pending"
}

show_state() { # base|stock|series|stock-amd
	atomic "$made/pending" <<<"show_state $*"
	case $1 in
	series)
		switch_to refs/heads/series
		tgit symbolic-ref HEAD refs/heads/series
		;;
	*) switch_to "refs/tags/$1" ;;
	esac
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

series_inputs() {
	named_sums "$SERIES_DIR" -maxdepth 1 '(' -name series -o -name '*.patch' ')'
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

need_source_package() {
	[ "$src" != "$default_source" ] || [ -f "$src" ] || {
		need_packages "$default_package"
		[ -f "$src" ] || die "$src is missing; set KSRC= to a source of Linux 6.1.y"
	}
}

# Sets src, stamp, and import if stock has to be made. A source that is gone was
# good enough when stock was made from it.
look_at_source() {
	import=
	find_source
	if [ -z "${KSRC:-}" ] && [ -f "$made/source" ] && [ ! -e "$src" ]; then
		stamp=$(cat "$made/source")
		return
	fi
	need_source_package
	stamp=$(source_stamp)
	if [ ! -f "$made/source" ] || [ "$stamp" != "$(cat "$made/source")" ]; then
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

# On a branch, or at a place of the developer's own: not to be led away from.
say_up_to_date() {
	on_branch || rebasing || ! at_a_tag || do_checkout series
	if [ "$(ref HEAD)" = "$(ref refs/tags/series)" ]; then
		note "$(short "$tree"): up to date"
	else
		note "$(short "$tree"): up to date, with commits of yours on top ('make refresh' brings them to $(short "$SERIES_DIR")/)"
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
	# shellcheck disable=SC2086 # two words
	publish "$base" "$tip" $key
	note "$(short "$tree") is ready ($SECONDS s)"
}

do_tree() {
	need_packages git xz-utils
	need_commands git tar xz awk flock sha256sum
	identity || :
	look_at_source
	key=$(inputs_key)
	if ! up_to_date; then
		if [ -n "$import" ]; then
			check_source
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

do_checkout() {
	[ -n "$(ref refs/heads/series)" ] || die "there is no tree yet; run 'make tree'"
	lock
	recover
	if [ -z "${FORCE:-}" ]; then
		! rebasing || die "$(short "$tree") has a rebase under way; finish it, or FORCE=1 drops it"
		! uncommitted || die "$(short "$tree") has changes that are not committed; commit them, or FORCE=1 drops them"
		on_branch || at_a_tag ||
			die "$(short "$tree") has commits of yours on no branch; give them one, or FORCE=1 drops them"
	fi
	show_state "$1"
	note "$(short "$tree") is at $1"
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
checkout)
	case ${2:-} in
	base | stock | series) do_checkout "$2" ;;
	*)
		[[ " ${derived_states[*]} " = *" ${2:-none} "* ]] || die "which state? usage: tree.sh checkout base|stock|series"
		do_checkout "$2"
		;;
	esac
	;;
commits) do_commits ;;
unbuilt) do_unbuilt ;;
clean) do_clean ;;
*) die "unknown command '$1'; usage: tree.sh [checkout base|stock|series | commits | clean]" ;;
esac
