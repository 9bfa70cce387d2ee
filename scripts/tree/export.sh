#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# export.sh series    build/series/NAME/ for each series: mails with a cover letter, with the Cc:
#                     that the tree's get_maintainer.pl says, for git send-email; and series.mbox,
#                     the same without the cover letter, as git am takes it
# export.sh upgrade   build/upgrade.patch: from the unmodified kernel to the series
#
# Nothing is exported that does not apply and give exactly the tree of the series.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

tmp=$BUILD/tmp.export
base=refs/tags/base # of the series that is written
tip=refs/tags/series

begin() {
	need_packages git patch perl
	need_commands git patch awk perl
	"$scripts/tree/tree.sh"
	lock
	rm -rf "$tmp"
	mkdir "$tmp"
	trap 'rm -rf "$tmp"' EXIT
	identity ||
		note "no git identity: the patches are from '$GIT_AUTHOR_NAME'; who sends them should set user.name and user.email, and export again"
	# The cover letter's date, too, is the same for the same input.
	GIT_COMMITTER_DATE=$(tgit log -1 --format=%cD "$tip")
	export GIT_COMMITTER_DATE
}

tree_id() {
	tgit rev-parse "$1^{tree}"
}

# changed FROM FILTER: files that differ between FROM and the series
changed() {
	tgit -c core.quotePath=false diff --no-renames --name-only --diff-filter="$2" "$1" "$tip"
}

# --- series ---------------------------------------------------------------

check_cover() {
	[ -f "$cover" ] || die "$(short "$cover") is missing; its first line is 'Subject: ...', the text follows"
	head -n 1 "$cover" | grep -q '^Subject: *[^ ]' ||
		die "$(short "$cover") has no subject; its first line has to be 'Subject: ...'"
}

# b4 of Debian 12 does not take headers of several lines, nor a mail without Message-Id.
# The mails themselves are left as git has made them: git send-email wants to choose.
as_mbox() {
	awk '
	body { print; next }
	FNR == 1 { line = $0 "\nMessage-Id: <" $2 "@series.invalid>"; next }
	/^[ \t]/ { sub(/^[ \t]+/, " "); line = line $0; next }
	{ print line; line = $0 }
	/^$/ { print; body = 1 }' "$1"
}

# The text takes the place of git's markers; diffstat and list of patches stay.
fill_cover() {
	awk -v text="$cover" -v ascii="$(LC_ALL=C grep -q '[^ -~[:space:]]' "$cover" || echo yes)" '
	BEGIN {
		getline subject <text
		sub(/^Subject: */, "", subject)
		sub(/^\[PATCH[^]]*\] */, "", subject)
		while ((getline line <text) > 0)
			if (line != "" || body != "")
				body = body line "\n"
		sub(/\n+$/, "", body)
	}
	at = index($0, "*** SUBJECT HERE ***") {
		print substr($0, 1, at - 1) subject
		if (!ascii)
			print "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit"
		next
	}
	$0 == "*** BLURB HERE ***" { print body; next }
	{ print }' "$1" | atomic "$1"
}

write_mails() {
	local dir=$1

	tgit format-patch -q --cover-letter --numbered --no-signature -o "$dir" "$base..$tip"
	fill_cover "$dir/0000-cover-letter.patch"
}

# Of the series, not of the work tree; its answers are the same for the same input,
# whatever ~/.get_maintainer.conf says and Perl's hashes are seeded with.
ask_maintainers() {
	local dir=$1 file

	for file in scripts/get_maintainer.pl MAINTAINERS; do
		tgit show "$tip:$file" >"$tmp/${file##*/}" 2>/dev/null ||
			die "the tree of the series has no $file, which knows who has to get the mails; KSRC= should have it"
	done
	mkdir "$tmp/cc"
	# shellcheck disable=SC2016 # for sh
	(cd "$source" && find "$dir" -name '*.patch' ! -name '0000-*' -print0 |
		HOME=$tmp PERL_HASH_SEED=0 xargs -0 -n 1 -P 2 sh -c '
		to=$1/cc/${2##*/}
		perl "$1/get_maintainer.pl" --nogit --nogit-fallback --nofixes --norolestats \
			--mpath "$1/MAINTAINERS" "$2" >"$to" 2>"$to.err" || rm "$to"' sh "$tmp")
}

# add_cc MAIL ADDRESSES: as the last header, once for each address. git send-email would
# encode a name that is not ASCII; who sends the file by other means should not have to.
add_cc() {
	sort -u "$2" | awk -v mail="$1" '
	BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = sprintf("=%02X", i) }
	function encoded(name,   i, c, out) {
		for (i = 1; i <= length(name); i++) {
			c = substr(name, i, 1)
			out = out (c ~ /[A-Za-z0-9]/ ? c : code[c])
		}
		return "=?UTF-8?q?" out "?="
	}
	{
		at = match($0, /<[^<]*>$/)
		address = at ? substr($0, at + 1, RLENGTH - 2) : $0
		if (tolower(address) in seen)
			next
		seen[tolower(address)]
		name = at ? substr($0, 1, at - 2) : ""
		if (name ~ /[^ -~]/) {
			gsub(/^"|"$/, "", name)
			$0 = encoded(name) " <" address ">"
		}
		header = header (header == "" ? "Cc: " : ",\n    ") $0
	}
	END {
		while ((getline line <mail) > 0) {
			if (line == "" && !body++)
				print header
			print line
		}
	}' | atomic "$1"
}

# Whoever gets a patch wants to see what it is part of, so the cover letter goes to all:
# fewer than the 100 recipients that any mail server takes (RFC 5321, 4.5.3.1.8).
add_recipients() {
	local dir=$1 patch name

	ask_maintainers "$dir"
	for patch in "$dir"/*.patch; do
		name=${patch##*/}
		[[ $name != 0000-* ]] || continue
		grep -qs @ "$tmp/cc/$name" ||
			die "scripts/get_maintainer.pl names nobody for $name: $(head -n 1 "$tmp/cc/$name.err" | grep . || echo 'it printed no address'); MAINTAINERS of the series should"
		add_cc "$patch" "$tmp/cc/$name"
		cat "$tmp/cc/$name" >>"$tmp/cc.all"
	done
	add_cc "$dir/0000-cover-letter.patch" "$tmp/cc.all"
}

write_mbox() {
	local dir=$1 patch

	# git am takes a mail without a diff for a mistake.
	for patch in "$dir"/*.patch; do
		[[ $patch = */0000-* ]] || as_mbox "$patch"
	done >"$dir/series.mbox"
}

# In a clone that shares the objects and has only the files in question.
check_am() {
	local mbox=$1 dir=$tmp/am

	hgit clone -q --shared --no-checkout "$tree" "$dir" 2>"$tmp/err" ||
		die "cannot clone $(short "$tree"): $(tail -n 1 "$tmp/err")"
	changed "$base" ADMT | sed 's|^|/|' |
		hgit -C "$dir" sparse-checkout set --no-cone --stdin
	hgit -C "$dir" checkout -q --detach "$(tgit rev-parse "$base^{commit}")"
	hgit -C "$dir" -c gc.auto=0 am -q "$mbox" >"$tmp/err" 2>&1 ||
		die "git am refuses the exported series: $(head -n 1 "$tmp/err")"
	[ "$(hgit -C "$dir" rev-parse 'HEAD^{tree}')" = "$(tree_id "$tip")" ] ||
		die "git am of the exported series gives another tree than 'series'; this is a bug in export.sh"
}

# needed_by PATCH: the fixes before it whose titles its changelog has in quotes
needed_by() {
	local other text

	title_of "$1" "$tmp/changelog" >/dev/null
	text=$(tr -s '\n ' ' ' <"$tmp/changelog")
	for other in "${1%/*}"/[0-9]*.patch; do
		[[ $other < $1 ]] || break
		[[ $other = */0000-* || $text != *"\"$(title_of "$other")\""* ]] || echo "$other"
	done
}

applies_to_stock() { # PATCH...
	GIT_INDEX_FILE=$tmp/index tgit read-tree stock &&
		GIT_INDEX_FILE=$tmp/index tgit apply --cached --whitespace=nowarn "$@" 2>"$tmp/err"
}

# Each of the fixes is of use to somebody who takes nothing else but what it says it needs.
check_fixes() {
	local patch needed

	for patch in "$1"/[0-9]*.patch; do
		[[ $patch != */0000-* ]] || continue
		mapfile -t needed < <(needed_by "$patch")
		applies_to_stock "${needed[@]}" "$patch" ||
			die "$(basename "$patch") of the fixes does not apply to stock by itself: $(head -n 1 "$tmp/err"); it should need neither 'base' nor fixes that its changelog does not name"
	done
}

# Where there is no base, the tests are also for those who want to see what they find in the
# kernel as it is.
check_tests() {
	applies_to_stock "$1/series.mbox" ||
		die "the tests do not apply to stock without the series before them: $(head -n 1 "$tmp/err")"
}

# export_one NAME: the patches between the end of the last series and its own
export_one() {
	local name=$1 dir=$tmp/series/$1 count

	cover=$TREE_DIR/$name/0000-cover-letter.txt
	tip=refs/tags/end/$name
	count=$(tgit rev-list --count "$base..$tip")
	[ "$count" -gt 0 ] || { note "$name has no patch yet"; return; }
	check_cover
	rm -rf "$tmp/cc" "$tmp/cc.all" "$tmp/am"
	say "$name: writing $count patches, asking the tree's get_maintainer.pl who has to get them"
	write_mails "$dir"
	add_recipients "$dir"
	write_mbox "$dir"
	say "$name: checking that git am gives the same tree"
	check_am "$dir/series.mbox"
	[ "$name" != fixes ] || check_fixes "$dir"
	[ "$name" != tests ] || [ -d "$BASE_DIR" ] || check_tests "$dir"
	note "$(short "$BUILD")/series/$name has $count patches, their cover letter, and series.mbox"
	base=$tip
}

export_series() {
	local name

	begin
	steps $(($(series_names | wc -l) * 2))
	take_tree "$(tree_id "$tip")"
	mkdir "$tmp/series"
	for name in $(series_names); do
		export_one "$name"
	done
	[ -n "$(ls "$tmp/series")" ] || die "$(short "$TREE_DIR")/series lists no patch; there is nothing to export"
	rm -rf "$BUILD/series"
	mv "$tmp/series" "$BUILD/series"
	note "$(short "$BUILD")/series is ready ($SECONDS s)"
}

# --- upgrade --------------------------------------------------------------

write_upgrade() {
	local version

	version=$(tgit log -1 --format=%s stock)
	cat <<-EOF
	$version: mmu notifier callback for secondary TLBs, as one patch

	From the source as shipped to the whole series. It was made for $version.
	To apply it, at the top of the unmodified source: patch -p1 <upgrade.patch

	EOF
	tree_says upgrade | fmt -w 72
	echo
	tgit log --reverse --format='  %s' "$base..$tip"
	echo ---
	tgit diff --no-renames --stat=79 stock "$tip"
	echo
	tgit diff --no-renames --no-color --no-ext-diff --no-textconv --abbrev=12 stock "$tip"
}

# GIT_INDEX_FILE is that of stock.
stock_files() {
	local dir=$1

	mkdir "$dir"
	tgit read-tree stock
	changed stock DMT | tgit checkout-index --stdin --prefix="$dir/"
}

run_patch() {
	LC_ALL=C patch -p1 -F 0 -d "$1" <"$tmp/upgrade.patch" >"$tmp/out" 2>&1 ||
		die "patch refuses the exported upgrade: $(grep -m 1 -i -e fail -e malformed "$tmp/out" || tail -n 1 "$tmp/out")"
	! grep -qE '^Hunk .*(fuzz|offset)' "$tmp/out" ||
		die "the exported upgrade applies with an offset: $(grep -m 1 -E '^Hunk .*(fuzz|offset)' "$tmp/out"); this is a bug in export.sh"
}

check_upgrade() {
	local dir=$tmp/stock

	export GIT_INDEX_FILE=$tmp/index
	stock_files "$dir"
	run_patch "$dir"
	changed stock ADMT | tgit_files "$dir" update-index --add --remove --stdin
	[ "$(tgit write-tree)" = "$(tree_id "$tip")" ] ||
		die "the exported upgrade gives another tree than 'series'; this is a bug in export.sh"
	unset GIT_INDEX_FILE
}

export_upgrade() {
	begin
	steps 2
	say "writing the difference from stock to series"
	write_upgrade >"$tmp/upgrade.patch"
	say "checking that patch applies it to the unmodified source"
	check_upgrade
	mv "$tmp/upgrade.patch" "$BUILD/upgrade.patch"
	tree_says upgrade >&2
	note "$(short "$BUILD")/upgrade.patch is ready ($SECONDS s)"
}

case ${1:-} in
series) export_series ;;
upgrade) export_upgrade ;;
*) die "what? usage: export.sh series|upgrade" ;;
esac
