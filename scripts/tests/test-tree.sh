#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-tree.sh: the scripts that get the source, make the tree, bring it back and export it,
# on hostile input. Everything happens in a scratch directory (with a blank in its name), on a
# kernel source of a few files; Debian's archive is a stub.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

lin=$top/build/linux
src=$work/src
own=$top/trees/6.1

succeeds() {
	run "$@"
}

says() {
	local text=$1

	shift
	run "$@" && grep -qF -e "$text" "$work/out"
}

# --- the scratch project --------------------------------------------------

numbered() {
	local i

	for i in $(seq 1 "$2"); do
		echo "$1 $i"
	done
}

# Who has to get a mail: those of the lines of MAINTAINERS whose first word is in it.
make_get_maintainer() {
	mkdir -p "$src/scripts"
	cat >"$src/scripts/get_maintainer.pl" <<-'EOF'
	my $patch = pop @ARGV;
	my ($list) = "@ARGV" =~ /--mpath (.*MAINTAINERS)/ or die "no --mpath\n";
	open(my $in, "<", $patch) or die "no mail: $!\n";
	my $text = do { local $/; <$in> };
	die "lost my way\nand my mind\n" if $ENV{GM_FAIL} && $text =~ /$ENV{GM_FAIL}/;
	open($in, "<", $list) or die "no list: $!\n";
	while (<$in>) { my ($word, $who) = /(\S+)\t(.*)/; print "$who\n" if $text =~ $word }
	EOF
	printf '%s\t%s\n' \
		change.memory '"A. B. Memory" <memory@mm.invalid>' \
		device '"Jörg (the O.)" <lib@lib.invalid>' \
		Subject 'list@lists.invalid' >"$src/MAINTAINERS"
}

# VERSION DIR
make_source() {
	src=$2
	mkdir -p "$src/mm" "$src/arch/alpha"
	printf 'VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = %s\nEXTRAVERSION =\n' "$1" >"$src/Makefile"
	printf '*.o\n/*\n' >"$src/.gitignore"
	numbered "memory" 60 | sed '30s/$/ CALLBACK/' >"$src/mm/memory.c"
	numbered "rmap" 40 >"$src/mm/rmap.c"
	echo CALLBACK >"$src/mm/gone.c"
	echo "has it" >"$src/arch/alpha/flush.h"
	echo "shipped object" >"$src/mm/firmware.o"
	make_get_maintainer
}

make_base() {
	mkdir -p "$own/base"
	printf '#!/bin/sh\ncd "$1" && { grep -rl CALLBACK . | sed "s,^[.]/,,"; }\n' >"$own/base/files.sh"
	printf '#!/bin/sh\ncd "$1" && rm -f mm/gone.c && sed -i "s/ CALLBACK//" mm/*.c\n' >"$own/base/apply.sh"
	printf '#!/bin/sh\n! grep -r CALLBACK "$1"\n' >"$own/base/check.sh"
	chmod +x "$own"/base/*.sh
}

# patch_of FILE LINE NEW: a diff that changes that line, made from the base's text
patch_of() {
	local file=$1 line=$2 text=$3

	sed 's/ CALLBACK//' "$work/src/$file" >"$work/a"
	sed "${line}s/.*/$text/" "$work/a" >"$work/b"
	echo "diff --git a/$file b/$file"
	echo "index $(git hash-object "$work/a")..$(git hash-object "$work/b") 100644"
	diff -u --label "a/$file" --label "b/$file" "$work/a" "$work/b"
}

make_series() {
	mkdir -p "$own/fixes" "$own/core" "$top/linux/lib"
	printf '# In this order.\nfixes\ncore\n' >"$own/series"
	printf 'package linux-source-6.1\nversion 6.1.192-2\nsuites bookworm\n' >"$own/kernel"
	echo 'arch/alpha/flush.h has' >"$own/optional"
	echo 0001-mm-change-memory.patch >"$own/fixes/series"
	printf '# The order matters.\n0001-lib-add-a-device.patch lib/device.c\n0002-mm-change-rmap.patch\n' >"$own/core/series"
	{
		printf 'Subject: [PATCH] mm: change memory\n\nBecause: 100%% & more.\n---\n\n'
		patch_of mm/memory.c 10 "changed ten"
		patch_of mm/memory.c 50 "changed fifty" | sed 1,4d
	} >"$own/fixes/0001-mm-change-memory.patch"
	printf 'Subject: [PATCH] lib: add a device\n\nOnly files.\n---\n' >"$own/core/0001-lib-add-a-device.patch"
	{
		printf 'Subject: [PATCH] mm: change rmap\n\nIt too.\n---\n'
		echo
		patch_of arch/alpha/flush.h 1 "has more"
		patch_of mm/rmap.c 20 "changed twenty"
	} >"$own/core/0002-mm-change-rmap.patch"
	echo "device" >"$top/linux/lib/device.c"
	printf 'Subject: repair\n\nThe text & its \\ reasons.\n' | tee "$own/fixes/0000-cover-letter.txt" >"$own/core/0000-cover-letter.txt"
}

# What Debian's archive has: the version in $work/archive/VERSION/linux-source-6.1.tar.xz
archive() { # VERSION DIR
	mkdir -p "$work/archive/$1"
	tar -C "$2" -cJf "$work/archive/$1/tarball" --transform 's|^\.|linux-source-6.1|' .
}

# apt-get and its kin, for an archive without a network.
stub_archive() {
	no_packages_missing
	sed -i '2i case "$*" in *Version*) exit 1 ;; esac' "$stubs/dpkg-query"
	stub apt-get <<-EOF
	case " \$* " in
	*" indextargets "*) echo "bookworm http://mirror.invalid/debian/" ;;
	*" update "*) [ ! -e '$work/no-network' ] || { echo "E: Could not resolve 'mirror.invalid'"; exit 100; } ;;
	*" download "*)
		version=\${*: -1}
		cp "$work/archive/\${version#*=}/tarball" linux-source-6.1_x.deb
		[ ! -e '$work/cut' ] || kill -9 0
		;;
	esac
	EOF
	stub apt-cache <<<"ls -r '$work/archive' | sed 's/^/linux-source-6.1 | /; s/\$/ | mirror/'"
	stub dpkg-deb <<-'EOF'
	dir=$(mktemp -d)
	mkdir -p "$dir/usr/src"
	cp "$2" "$dir/usr/src/linux-source-6.1.tar.xz"
	tar -C "$dir" -cf - ./usr/src
	rm -r "$dir"
	EOF
	export PATH=$stubs:$PATH
}

# The scratch project as it would be cloned.
cloned() {
	unset KSRC
	fresh
	rm -r "$top/build"
	make_base
	make_series
}

# The same with the tree made.
made() {
	if [ ! -d "$work/made" ]; then
		cloned
		tree || { cat "$work/out"; exit 1; }
		cp -a "$top" "$work/made"
	fi
	unset KSRC
	rm -rf "$top"
	cp -a "$work/made" "$top"
	lgit status >/dev/null
}

tree() {
	run "$top/scripts/tree/tree.sh"
}

lgit() {
	git -C "$lin" "$@"
}

# Everything that a failed call has to leave alone.
state() {
	lgit for-each-ref
	lgit symbolic-ref -q HEAD
	(cd "$lin" && find . -path ./.git -prune -o -type f -printf '%P %T@\n' | sort)
}

unchanged() {
	[ "$(state)" = "$before" ]
}

edit_lin() {
	lgit config user.name Dev
	lgit config user.email dev@dev.invalid
	echo "$2" >>"$lin/$1"
}

nothing_left() {
	[ -z "$(find "$top/build" -type f ! -name '.lock*' 2>/dev/null)" ]
}

# --- the source -----------------------------------------------------------

# refused TEXT: what KSRC= is, with nothing left behind
refused() {
	fails_saying "$1" "$top/scripts/tree/tree.sh" && nothing_left
}

test_sources() {
	cloned
	mkdir "$work/other" && sed 's/^PATCHLEVEL.*/PATCHLEVEL = 12/' "$work/src/Makefile" >"$work/other/Makefile"
	export KSRC=$work/other
	check "a source of another series is refused" refused "this is Linux 6.12.192, the series is for 6.1.y"
	KSRC=$work/nowhere
	check "so is one that does not exist" refused "KSRC=$work/nowhere does not exist"
	head -c 2000 /dev/urandom >"$work/noise.tar.xz"
	KSRC=$work/noise.tar.xz
	check "so is a tarball of noise" refused "it is damaged"
	# Cut behind the Makefile: seen only when it is unpacked.
	(cd "$work/src" && head -c 300000 /dev/urandom >zz.bin && tar -cJf ../cut.tar.xz --transform 's|^|linux-x/|' Makefile mm zz.bin && rm zz.bin)
	truncate -s 150000 "$work/cut.tar.xz"
	KSRC=$work/cut.tar.xz
	check "so is one that was cut" refused "damaged"
	KSRC=6.1.99-1
	check "a version that the archive does not have: it says which it has" refused "has no linux-source-6.1 6.1.99-1; it has 6.1.192-2"
	unset KSRC
	touch "$work/no-network"
	check "no network" refused "cannot be reached (Could not resolve 'mirror.invalid')"
	rm "$work/no-network"
	touch "$work/cut"
	(setsid -w "$top/scripts/tree/tree.sh") >"$work/out" 2>&1
	rm "$work/cut"
	check "a download that was interrupted: the next call recovers" eval 'tree && [ -z "$(find "$top/build/sources" -name "tmp.*")" ]'
	check "TREE= unknown" fails_saying "there is no TREE=6.99; give one of: 6.1" env TREE=6.99 "$top/scripts/tree/tree.sh"
	cloned
	check "too little disk is said before anything is done" eval 'NEED_MB=99999999 refused "99999999 MB are needed"'
}

test_other_versions() {
	local want

	made
	want=$(lgit rev-parse 'series^{tree}')
	check "the tree is of the version that was asked for" [ "$(sed -n 's/^is //p' "$lin/.git/made/source")" = 6.1.192-2 ]
	export KSRC=$work/src
	check "a directory gives the same, in a place of its own" eval 'tree && [ "$(git -C "$top"/build/6.1-src-*/linux rev-parse "series^{tree}")" = "$want" ]'

	# What stands beside a change of ours has changed; and what alpha has is not there yet.
	cp -a "$work/src" "$work/older"
	sed -i 's/192/187/' "$work/older/Makefile"
	sed -i 's/^memory 9$/memory nine/' "$work/older/mm/memory.c"
	sed -i 's/^rmap 22$/&\nrmap more/' "$work/older/mm/rmap.c"
	echo "none" >"$work/older/arch/alpha/flush.h"
	archive 6.1.187-1 "$work/older"
	KSRC=6.1.187-1
	lin=$top/build/6.1.187-1/linux
	check "a version whose context has moved is merged" says "changes were merged or left out" "$top/scripts/tree/tree.sh"
	check "rightly" eval 'sed -n "9,10p;50p" "$lin/mm/memory.c" | paste -s -d , | grep -qx "memory nine,changed ten,changed fifty" && grep -q "changed twenty" "$lin/mm/rmap.c" && grep -qx none "$lin/arch/alpha/flush.h"'
	check "and listed" eval '[ "$(cut -f 2 "$top/build/6.1.187-1/moved.tsv" | paste -s -d ,)" = file,mm/memory.c,arch/alpha/flush.h,mm/rmap.c ]'
	check "the upgrade fits that version" eval 'succeeds "$top/scripts/tree/export.sh" upgrade && patch -p1 -F 0 -d "$work/older" --dry-run -i "$top/build/6.1.187-1/upgrade.patch" >"$work/out" && ! grep -E "fuzz|offset" "$work/out"'

	sed -i 's/^memory 10$/memory ten/' "$work/older/mm/memory.c"
	rm -r "$work/archive/6.1.187-1"
	archive 6.1.186-1 "$work/older"
	KSRC=6.1.186-1
	check "a change of the same line is named by patch, file and hunk" \
		fails_saying "0001-mm-change-memory.patch does not apply: mm/memory.c, hunk @@ -7,7 +7,7 @@" "$top/scripts/tree/tree.sh"
	check "and there is no half of it" eval '! git -C "$top/build/6.1.186-1/linux" rev-parse -q --verify refs/tags/series'
	lin=$top/build/linux
	unset KSRC
	rm -r "$work/archive/6.1.186-1"

	mv "$work/archive/6.1.192-2" "$work/archive/6.1.193-1"
	cloned
	check "the version is gone from the archive: the newest is taken, and it is said" says "any more, for which the series was made" "$top/scripts/tree/tree.sh"
	mv "$work/archive/6.1.193-1" "$work/archive/6.1.192-2"
}

# --- a series that is wrong -----------------------------------------------

# wrong TEXT: the next call fails, and leaves all as it was
wrong() {
	fails_saying "$1" "$top/scripts/tree/tree.sh" && unchanged
}

test_bad_series() {
	made
	before=$(state)
	sed -i 's/^ memory 49$/ memory/' "$own/fixes/0001-mm-change-memory.patch"
	check "a patch that does not apply is named, with file and hunk" wrong "fixes/0001-mm-change-memory.patch does not apply: mm/memory.c, hunk @@ -47,7 +47,7 @@"
	made
	before=$(state)
	sed -i 1d "$own/core/0001-lib-add-a-device.patch"
	check "a patch without subject is named" wrong "core/0001-lib-add-a-device.patch has no subject"
	made
	before=$(state)
	echo x >"$top/linux/lib/stray.c"
	check "a file in linux/ that no patch claims is named" wrong "linux/lib/stray.c belongs to no patch"
	made
	before=$(state)
	rm "$own/core/0002-mm-change-rmap.patch"
	check "a listed patch that is missing is named" wrong "core/0002-mm-change-rmap.patch is missing"
	made
	before=$(state)
	printf '#!/bin/sh\ncd "$1" && sed -i "s/ CALLBACK//" mm/memory.c\n' >"$own/base/apply.sh"
	check "a base that leaves something is refused" wrong "base/apply.sh left the lines above"
}

# --- the good case --------------------------------------------------------

test_tree() {
	made
	check "base has no callback, stock has it, and files that .gitignore names" \
		eval '! lgit grep -q CALLBACK base && lgit grep -q CALLBACK stock && lgit cat-file -e stock:mm/firmware.o'
	check "one commit per patch, a tag at the end of each series" \
		[ "$(lgit log --format=%s base..end/fixes) $(lgit log --format=%s end/fixes..end/core | paste -s -d '|')" = "mm: change memory mm: change rmap|lib: add a device" ]
	before=$(lgit rev-parse series)
	rm -rf "$top/build"
	check "made from nothing, it is the same to the commit" eval 'tree && [ "$(lgit rev-parse series)" = "$before" ]'
	mkdir -p "$top/trees/7.3"
	cp "$own/kernel" "$top/trees/7.3"
	echo "# none yet" >"$top/trees/7.3/series"
	sed 's/^VERSION.*/VERSION = 7/; s/^PATCHLEVEL.*/PATCHLEVEL = 3/' "$work/src/Makefile" >"$work/Makefile.7.3"
	cp -a "$work/src" "$work/src7.3"
	cp "$work/Makefile.7.3" "$work/src7.3/Makefile"
	check "a kernel without base or patches" eval 'TREE=7.3 KSRC=$work/src7.3 tree && [ "$(git -C "$top"/build/7.3-*/linux log --format=%s series)" = "Linux 7.3.192" ]'
	mkdir "$work/foreign"
	check "clean removes only what the scripts made" fails_saying "remove it yourself" env BUILD="$work/foreign" "$top/scripts/tree/tree.sh" clean
	check "every target of make names the script that is there" targets_are_there
}

# --- files that kernels share ---------------------------------------------

# has TREE LINES: what is in the file that both kernels have
has() {
	[ "$(paste -s -d , "$1"/lib/device.c)" = "$2" ]
}

# Folded into the patch that adds the file.
change_device() { # EXPRESSION OF sed
	edit_lin lib/device.c ""
	sed -i -e '$d' -e "$1" "$lin/lib/device.c"
	lgit commit -q -a --fixup "$(lgit log -1 --format=%H --diff-filter=A -- lib/device.c)" &&
		GIT_SEQUENCE_EDITOR=: lgit rebase -q -i --autosquash refs/tags/base >"$work/out" 2>&1
}

test_shared_files() {
	local other=$top/trees/7.3 both

	made
	printf "it's a device\n" >"$top/linux/lib/device.c"
	check "a text with an apostrophe is whole" eval 'tree && has "$lin" "it'\''s a device"'
	printf 'device\n#if TREE < 703\nold call_back\n#else\nnew call_back\n#endif\nmore\nlast\n' >"$top/linux/lib/device.c"
	check "a kernel has its lines, and none of others" eval 'tree && has "$lin" "device,old call_back,more,last"'
	mkdir -p "$other/tests"
	{ sed 's/^version .*/version 7.3.1-1/' "$own/kernel" && echo "word call_back call_first"; } >"$other/kernel"
	echo tests >"$other/series"
	sed -n 2p "$own/core/series" >"$other/tests/series"
	cp "$own/core/0001-lib-add-a-device.patch" "$other/tests"
	check "another one has the others, and its own word" eval \
		'TREE=7.3 KSRC=$work/src7.3 tree && has "$(echo "$top"/build/7.3-*/linux)" "device,new call_first,more,last"'
	tree
	change_device 's/^last/very last/'
	check "refresh keeps what other kernels have" eval \
		'succeeds "$top/scripts/tree/refresh.sh" && has "$top/linux" "device,#if TREE < 703,old call_back,#else,new call_back,#endif,more,very last"'
	change_device 's/^old/older/'
	both=$(cat "$top/linux/lib/device.c")
	check "a change of such a line is refused" fails_saying "has lines for other kernels where you changed it" "$top/scripts/tree/refresh.sh"
	check "and linux/ is left alone" [ "$(cat "$top/linux/lib/device.c")" = "$both" ]
	made
	printf '#if TREE < 703\nold\n' >"$top/linux/lib/device.c"
	before=$(state)
	check "a line without its #endif is named" wrong "linux/lib/device.c: unifdef fails"
}

# make help has all targets, and the file behind each.
targets_are_there() {
	make -s -C "$project" help >"$work/out" &&
		[ "$(sed -nE 's/^make ([a-z]+) .*/\1/p' "$work/out" | sort | xargs)" = "$(sed -n 's/^\.PHONY: help //p' "$project/Makefile" | tr ' ' '\n' | sort | xargs)" ] &&
		sed -n 's/^make .* //p' "$work/out" | while read -r file; do [ -x "$project/$file" ] || exit 1; done
}

# --- interruptions --------------------------------------------------------

# The command git, called with the argument $1, takes the whole process group down, as a
# power failure would.
killer() {
	stub git <<-EOF
	for arg; do
		[ "\$arg" != $1 ] || { $2; kill -9 0; }
	done
	exec $(PATH=${PATH#"$stubs:"} command -v git) "\$@"
	EOF
}

# after_kill POINT [COMMAND]: the next call recovers
after_kill() {
	killer "$1" "${2:-:}"
	(setsid -w "$top/scripts/tree/tree.sh") >"$work/out" 2>&1
	[ $? -ge 128 ] || return 1
	rm "$stubs/git"
	tree && [ "$(lgit rev-parse HEAD)" = "$want" ] && [ -z "$(lgit status --porcelain)" ] &&
		[ -z "$(find "$top/build" -maxdepth 1 -name 'linux.*' -o -maxdepth 1 -name 'tmp.*')" ]
}

test_interruptions() {
	local point

	made
	want=$(lgit rev-parse series)
	for point in commit apply update-ref; do
		cloned
		check "kill -9 before git $point: the next call recovers" after_kill $point
	done
	made
	sed -i 's/changed twenty/changed again/' "$own/core/0002-mm-change-rmap.patch"
	tree
	want=$(lgit rev-parse series)
	made
	sed -i 's/changed twenty/changed again/' "$own/core/0002-mm-change-rmap.patch"
	check "kill -9 in the middle of git checkout: the next call recovers" \
		after_kill checkout "echo half >'$lin/mm/rmap.c'; echo new >'$lin/mm/new.c'; touch '$lin/.git/index.lock'"
}

# --- the developer's work -------------------------------------------------

take() {
	run bash -c 'set -eu; . "$0/lib/lib.sh"; . "$0/lib/kernel.sh"; take_source series' "$top/scripts"
}

test_own_work() {
	made
	edit_lin mm/rmap.c "mine"
	before=$(state)
	sed -i 's/changed twenty/changed again/' "$own/core/0002-mm-change-rmap.patch"
	check "work that is not committed is not overwritten" wrong "changes that are not committed"
	lgit commit -q -a -m mine
	before=$(state)
	check "nor are commits" wrong "commits of yours"
	check "and refresh does not overwrite what changed in trees/" fails_saying "would be overwritten" "$top/scripts/tree/refresh.sh"
	check "FORCE=1 drops them" eval 'FORCE=1 tree && ! grep -q mine "$lin/mm/rmap.c"'
	made
	lgit checkout -q --detach base
	check "what is checked out in build/linux does not matter to a build" eval \
		'take && grep -q "changed twenty" "$top/build/source/mm/rmap.c" && [ "$(lgit rev-parse HEAD)" = "$(lgit rev-parse base)" ]'
	echo spoilt >"$top/build/source/mm/rmap.c"
	check "nor does what somebody did to build/source" eval \
		'take && grep -q "changed twenty" "$top/build/source/mm/rmap.c"'
}

test_refresh() {
	made
	want=$(lgit log --format='%T %B' base..HEAD)
	check "refresh of what was made gives the same commits" eval 'succeeds "$top/scripts/tree/refresh.sh" && [ "$(lgit log --format="%T %B" base..HEAD)" = "$want" ]'
	cp -a "$top/trees" "$work/trees1"
	check "and done again, it changes nothing" eval 'run "$top/scripts/tree/refresh.sh" && diff -r "$top/trees" "$work/trees1" >"$work/out"'
	lgit reset -q --hard end/fixes
	edit_lin mm/memory.c "a line of mine"
	mkdir "$lin/new"
	echo "new file" >"$lin/new/file.c"
	lgit add -A
	printf 'mm: a commit, of mine (with a title that is longer than what fits into a name)\n\nBody: %%s & \\n stay.\n\n  indented\n' |
		lgit commit -q -F -
	lgit cherry-pick end/core~1 end/core >/dev/null
	want=$(lgit log --format='%T %B' base..HEAD)
	check "refresh of a new commit in the middle" succeeds "$top/scripts/tree/refresh.sh"
	check "it belongs to the series of the one before it, and nothing is renumbered elsewhere" eval \
		'[[ "$(cd "$own" && echo */*.patch)" = "core/0001-lib-add-a-device.patch core/0002-mm-change-rmap.patch fixes/0001-mm-change-memory.patch fixes/0002-mm-a-commit-"*.patch ]] &&
		 grep -q "^0002-.*patch new/file.c$" "$own/fixes/series" && cmp "$lin/new/file.c" "$top/linux/new/file.c"'
	rm -rf "$top/build"
	check "made from nothing, it is the same" eval 'tree && [ "$(lgit log --format="%T %B" base..HEAD)" = "$want" ]'
	made
	edit_lin mm/memory.c "x"
	printf 'mm: odd\n\nabove\n---\nbelow\n' | lgit commit -q -a -F -
	cp -a "$top/trees" "$work/trees2"
	check "a changelog that a mail cannot carry is refused" fails_saying "do not give the same again" "$top/scripts/tree/refresh.sh"
	check "and trees/ is left alone" diff -r "$top/trees" "$work/trees2"
}

# --- exports --------------------------------------------------------------

# cc_of NAME: the Cc: of that mail, unfolded
cc_of() {
	awk '/^$/ { exit } /^[^ ]/ { on = /^Cc: / } on' "$top/build/series/$1"* | tr -d '\n' | tr -s ' '
}

test_export() {
	made
	check "export series" says "build/series/core has 2 patches" "$top/scripts/tree/export.sh" series
	git clone -q "$lin" "$work/clone" 2>/dev/null
	git -C "$work/clone" checkout -q end/fixes
	check "git am of a series on the end of the one before it gives its tree" eval \
		'succeeds git -C "$work/clone" am "$top/build/series/core/series.mbox" && [ "$(git -C "$work/clone" rev-parse "HEAD^{tree}")" = "$(lgit rev-parse "series^{tree}")" ]'
	check "a mail goes to whom get_maintainer.pl says, also names that are not ASCII" \
		[ "$(cc_of fixes/0001-) $(cc_of core/0001-)" = 'Cc: "A. B. Memory" <memory@mm.invalid>, list@lists.invalid Cc: =?UTF-8?q?J=C3=B6rg=20=28the=20O=2E=29?= <lib@lib.invalid>, list@lists.invalid' ]
	cp -a "$top/build/series" "$work/exported"
	check "get_maintainer.pl fails: one line, and the last export is as it was" eval \
		'fails_saying "names nobody for 0001-lib-add-a-device.patch: lost my way;" env GM_FAIL=device.c "$top/scripts/tree/export.sh" series && diff -r "$top/build/series" "$work/exported"'
	rm "$own/core/0000-cover-letter.txt"
	check "no cover letter: refused" fails_saying "core/0000-cover-letter.txt is missing" "$top/scripts/tree/export.sh" series
}

make_source 192 "$work/src"
archive 6.1.192-2 "$work/src"
stub_archive
test_sources
test_other_versions
test_bad_series
test_tree
test_shared_files
test_interruptions
test_own_work
test_refresh
test_export
finish
