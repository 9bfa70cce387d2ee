#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-scripts.sh: the scripts on hostile input. Everything happens in a scratch
# directory (with a blank in its name), on a kernel source of a few files.
# shellcheck disable=SC2016 # eval expands it
set -u

# shellcheck source=scripts/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

lin=$top/build/linux
src=$work/src

# --- reporting ------------------------------------------------------------

succeeds() {
	run "$@"
}

says() {
	local text=$1

	shift
	run "$@" && grep -qF -e "$text" "$work/out"
}

no_build() {
	[ ! -e "$top/build" ]
}

# --- the scratch project --------------------------------------------------

numbered() {
	local i

	for i in $(seq 1 "$2"); do
		echo "$1 $i"
	done
}

# Who has to get a mail: those of the lines of MAINTAINERS whose first word is in it.
# Nobody, if GM_SILENT is in it; and when all is said, it fails if GM_FAIL is.
make_get_maintainer() {
	mkdir -p "$src/scripts"
	cat >"$src/scripts/get_maintainer.pl" <<-'EOF'
	my $patch = pop @ARGV;
	my ($list) = "@ARGV" =~ /--mpath (.*MAINTAINERS)/ or die "no --mpath\n";
	"@ARGV" =~ /--nogit --nogit-fallback .*--norolestats/ or die "not with git or roles\n";
	open(my $in, "<", $patch) or die "no mail: $!\n";
	my $text = do { local $/; <$in> };
	for my $word ($ENV{GM_SILENT} // ()) { exit 0 if $text =~ /$word/ }
	open($in, "<", $list) or die "no list: $!\n";
	while (<$in>) { my ($word, $who) = /(\S+)\t(.*)/; print "$who\n" if $text =~ $word }
	for my $word ($ENV{GM_FAIL} // ()) { die "lost my way\nand my mind\n" if $text =~ /$word/ }
	EOF
	printf '%s\t%s\n' \
		change.memory '"A. B. Memory" <memory@mm.invalid>' \
		change.rmap 'Another Name <memory@mm.invalid>' \
		device '"Jörg (the O.)" <lib@lib.invalid>' \
		Subject 'list@lists.invalid' \
		Subject 'Zoe <zoe@mm.invalid>' >"$src/MAINTAINERS"
}

make_source() {
	mkdir -p "$src/mm" "$src/include/linux" "$src/drivers/gpu"
	printf 'VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n' >"$src/Makefile"
	printf '*.o\n/*\n!/debian/\n' >"$src/.gitignore"
	numbered "memory" 60 | sed '30s/$/ CALLBACK/' >"$src/mm/memory.c"
	numbered "rmap" 40 >"$src/mm/rmap.c"
	numbered "notifier" 20 | sed '5s/$/ CALLBACK/' >"$src/mm/mmu_notifier.c"
	echo CALLBACK >"$src/mm/gone.c"
	echo "header" >"$src/include/linux/mm.h"
	echo "shipped object" >"$src/drivers/gpu/firmware.o"
	printf '#!/bin/sh\n' >"$src/mm/tool.sh"
	chmod +x "$src/mm/tool.sh"
	make_get_maintainer
}

make_base() {
	mkdir -p "$top/base"
	cat >"$top/base/files.sh" <<-'EOF'
	#!/bin/sh
	cd "$1" && { grep -rl CALLBACK . | sed "s,^[.]/,,"; }
	EOF
	cat >"$top/base/apply.sh" <<-'EOF'
	#!/bin/sh
	cd "$1" && rm mm/gone.c && sed -i 's/ CALLBACK//' mm/*.c && echo "converted"
	EOF
	cat >"$top/base/check.sh" <<-'EOF'
	#!/bin/sh
	! grep -r CALLBACK "$1"
	EOF
	chmod +x "$top"/base/*.sh
}

# patch_of FILE LINE NEW: a diff that changes that line, made from the base's text
patch_of() {
	local file=$1 line=$2 text=$3

	sed 's/ CALLBACK//' "$src/$file" >"$work/a"
	sed "${line}s/.*/$text/" "$work/a" >"$work/b"
	echo "diff --git a/$file b/$file"
	diff -u --label "a/$file" --label "b/$file" "$work/a" "$work/b"
}

make_series() {
	mkdir -p "$top/series" "$top/linux/lib" "$top/linux/mm"
	cat >"$top/series/series" <<-'EOF'
	# The order matters.
	0001-mm-change-memory.patch
	0002-lib-add-a-device.patch lib/device.c lib/device.sh
	0003-mm-change-rmap-and-add.patch mm/extra.c
	EOF
	{
		printf 'Subject: [PATCH] mm: change memory\n\nBecause.\n\nAnd a "second" paragraph: 100%% & more.\n---\nA note.\n\n'
		patch_of mm/memory.c 10 "changed ten"
		patch_of mm/memory.c 50 "changed fifty" | sed 1,3d
	} >"$top/series/0001-mm-change-memory.patch"
	printf 'Subject: [PATCH] lib: add a\n device\n\nOnly files.\n---\n' >"$top/series/0002-lib-add-a-device.patch"
	{
		printf 'Subject: [PATCH] mm: change rmap, and add\n\nBoth.\n---\n'
		patch_of mm/rmap.c 20 "changed twenty"
	} >"$top/series/0003-mm-change-rmap-and-add.patch"
	echo "device" >"$top/linux/lib/device.c"
	echo "script" >"$top/linux/lib/device.sh"
	chmod +x "$top/linux/lib/device.sh"
	echo "extra" >"$top/linux/mm/extra.c"
	printf 'Subject: flush at the right moment\n\nThe text & its \\ reasons.\n\nMore.\n' >"$top/series/0000-cover-letter.txt"
}

# The scratch project as it would be cloned.
fresh() {
	rm -rf "$top"
	mkdir -p "$top"
	cp -a "$here" "$top/scripts"
	make_base
	make_series
	export KSRC=$src
}

# The same with the tree made.
made() {
	if [ ! -d "$work/made" ]; then
		fresh
		tree || { cat "$work/out"; exit 1; }
		cp -a "$top" "$work/made"
	fi
	rm -rf "$top"
	cp -a "$work/made" "$top"
	export KSRC=$src
	lgit status >/dev/null
}

tree() {
	run "$top/scripts/tree.sh" "$@"
}

lgit() {
	git -C "$lin" "$@"
}

# Everything that a failed call has to leave alone.
state() {
	lgit for-each-ref
	lgit symbolic-ref -q HEAD
	lgit rev-parse HEAD
	lgit ls-files -s | sha256sum
	mtimes
}

mtimes() {
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

# --- sources that are refused ---------------------------------------------

tarball() {
	tar -C "$1" -caf "$2" --transform 's|^\.|linux-x|' .
}

test_sources() {
	cp -a "$src" "$work/wrong"
	sed -i 's/^PATCHLEVEL.*/PATCHLEVEL = 12/;s/^SUBLEVEL.*/SUBLEVEL = 3/' "$work/wrong/Makefile"
	tarball "$work/wrong" "$work/wrong.tar.xz"
	fresh
	KSRC=$work/wrong
	check "a directory of another version is refused by name" fails_saying "this is Linux 6.12.3, the series is for 6.1.y" "$top/scripts/tree.sh"
	check "and nothing was written" no_build
	KSRC=$work/wrong.tar.xz
	check "a tarball of another version is refused by name" fails_saying "this is Linux 6.12.3, the series is for 6.1.y" "$top/scripts/tree.sh"
	check "and nothing was written" no_build

	cp -a "$src" "$work/nomakefile"
	rm "$work/nomakefile/Makefile"
	KSRC=$work/nomakefile
	check "a directory without Makefile is refused" fails_saying "has no Makefile" "$top/scripts/tree.sh"
	echo "all:" >"$work/nomakefile/Makefile"
	check "so is a Makefile that is not the kernel's" fails_saying "names no kernel version" "$top/scripts/tree.sh"
	KSRC=$work/nowhere
	check "so is a source that does not exist" fails_saying "does not exist" "$top/scripts/tree.sh"
	cp -a "$src" "$work/built"
	touch "$work/built/.config"
	KSRC=$work/built
	check "so is a source that has been built in" fails_saying "make mrproper" "$top/scripts/tree.sh"
	check "and nothing was written" no_build

	head -c 2000 /dev/urandom >"$work/noise.tar.xz"
	KSRC=$work/noise.tar.xz
	check "a tarball of noise is refused" fails_saying "it is damaged" "$top/scripts/tree.sh"
	check "and nothing was written" no_build

	# Cut behind the Makefile: seen only when it is unpacked.
	head -c 300000 /dev/urandom >"$work/cut.bin"
	cp -a "$src" "$work/long"
	mv "$work/cut.bin" "$work/long/zz.bin"
	(cd "$work" && tar -cJf cut.tar.xz --transform 's|^long|linux-x|' long/Makefile long/mm long/zz.bin)
	truncate -s 150000 "$work/cut.tar.xz"
	KSRC=$work/cut.tar.xz
	check "a truncated tarball is refused" fails_saying "damaged" "$top/scripts/tree.sh"
	check "and no tree is left" eval '[ -z "$(ls -A "$top/build" | grep -v "^.lock$")" ]'

	KSRC=$src
	check "too little disk is said before unpacking" fails_saying "99999999 MB are needed" env NEED_MB=99999999 "$top/scripts/tree.sh"
	check "and no tree is there" eval '[ ! -e "$lin" ]'
}

test_kinds_of_source() {
	local want kind

	made
	want=$(lgit rev-parse 'series^{tree}')
	for kind in tar tar.gz tar.xz git; do
		fresh
		case $kind in
		git)
			rm -rf "$work/gitsrc"
			cp -a "$src" "$work/gitsrc"
			git init -q "$work/gitsrc"
			git -C "$work/gitsrc" add -f .
			git -C "$work/gitsrc" commit -q -m x
			KSRC=$work/gitsrc
			;;
		*)
			tarball "$src" "$work/src.$kind"
			KSRC=$work/src.$kind
			;;
		esac
		tree
		check "a source as $kind gives the same tree" [ "$(lgit rev-parse 'series^{tree}')" = "$want" ]
	done
	unset KSRC
	check "without KSRC, the tree keeps its source" says "up to date" "$top/scripts/tree.sh"
	rm -rf "$work/gitsrc"
	check "even when that is gone" says "up to date" "$top/scripts/tree.sh"

	made
	cp -a "$src" "$work/newer"
	sed -i 's/192/193/' "$work/newer/Makefile"
	KSRC=$work/newer
	check "another source is imported" succeeds "$top/scripts/tree.sh"
	check "as 'stock'" [ "$(lgit log -1 --format=%s stock)" = "Linux 6.1.193" ]
	edit_lin mm/rmap.c mine
	KSRC=$src
	check "not over uncommitted work" fails_saying "not committed" "$top/scripts/tree.sh"
}

# --- packages -------------------------------------------------------------

packages() {
	stubbed bash -c 'set -eu; . "$0"; need_packages git bogus-one bogus-two' "$top/scripts/lib.sh"
}

test_packages() {
	local line="apt-get install -y --no-install-recommends bogus-one bogus-two"

	fresh
	stub dpkg-query <<<'case ${*: -1} in bogus*) exit 1 ;; esac; echo "ii "'
	stub apt-get <<<"echo \"\$*\" >>'$work/apt'; [ ! -e '$work/apt-fails' ]"
	stub id <<<'echo 1000'
	check "not root, packages missing: the exact line" fails_saying "as root: $line" packages
	check "and apt-get is not called" [ ! -e "$work/apt" ]
	stub id <<<'echo 0'
	check "root, packages missing: they are installed" succeeds packages
	check "after an update" eval '[ "$(sed "s/.*Timeout=[0-9]* //" "$work/apt" | paste -s -d ,)" = "update,install -y --no-install-recommends bogus-one bogus-two" ]'
	touch "$work/apt-fails"
	check "an apt-get that fails is reported with its line" fails_saying "$line" packages
	rm -r "$stubs"
	mkdir "$stubs"
	ln -s "$(command -v bash)" "$(command -v realpath)" "$(command -v dirname)" "$stubs"
	check "not Debian: packages are not looked at" succeeds env PATH="$stubs" bash -c 'set -eu; . "$0"; need_packages bogus' "$top/scripts/lib.sh"
	check "but commands are" fails_saying "'bogus' is missing" env PATH="$stubs" bash -c 'set -eu; . "$0"; need_commands bogus' "$top/scripts/lib.sh"
	rm -r "$stubs"
}

# --- a series that is wrong -----------------------------------------------

test_bad_series() {
	made
	before=$(state)
	sed -i 's/^ rmap 19$/ rmap nineteen/' "$top/series/0003-mm-change-rmap-and-add.patch"
	check "a patch that does not apply is named, with file and hunk" \
		fails_saying "series/0003-mm-change-rmap-and-add.patch does not apply: mm/rmap.c, hunk @@ -17,7 +17,7 @@" "$top/scripts/tree.sh"
	check "refs, index and work tree are as they were" unchanged
	made
	before=$(state)
	sed -i 's/^ memory 49$/ memory/' "$top/series/0001-mm-change-memory.patch"
	check "so is the second hunk of a file" fails_saying "mm/memory.c, hunk @@ -47,7 +47,7 @@" "$top/scripts/tree.sh"
	check "refs, index and work tree are as they were" unchanged
	made
	sed -i '/^ memory 49$/d' "$top/series/0001-mm-change-memory.patch"
	check "a corrupt patch is named, with the line" fails_saying "0001-mm-change-memory.patch does not apply: corrupt patch at line" "$top/scripts/tree.sh"
	made
	sed -i 's|mm/rmap.c|mm/nosuch.c|' "$top/series/0003-mm-change-rmap-and-add.patch"
	check "a patch to a file that is not there is named" fails_saying "mm/nosuch.c: does not exist" "$top/scripts/tree.sh"
	made
	sed -i 1d "$top/series/0002-lib-add-a-device.patch"
	check "a patch without subject is named" fails_saying "series/0002-lib-add-a-device.patch has no subject" "$top/scripts/tree.sh"

	made
	before=$(state)
	echo x >"$top/linux/lib/stray.c"
	check "a file in linux/ that no patch claims is named" fails_saying "linux/lib/stray.c belongs to no patch" "$top/scripts/tree.sh"
	made
	rm "$top/linux/mm/extra.c"
	check "a claimed file that is missing is named" fails_saying "linux/mm/extra.c is missing" "$top/scripts/tree.sh"
	made
	sed -i '2s|$| mm/extra.c|' "$top/series/series"
	check "a file claimed twice is named" fails_saying "lists mm/extra.c twice" "$top/scripts/tree.sh"
	made
	echo x >"$top/linux/mm/memory.c"
	sed -i '2s|$| mm/memory.c|' "$top/series/series"
	check "a claimed file that base has is named" fails_saying "adds mm/memory.c, which is there before it" "$top/scripts/tree.sh"
	made
	rm "$top/series/0002-lib-add-a-device.patch"
	check "a listed patch that is missing is named" fails_saying "series/0002-lib-add-a-device.patch is missing" "$top/scripts/tree.sh"
	made
	touch "$top/series/0009-forgotten.patch"
	check "a patch that is not listed is named" fails_saying "series/0009-forgotten.patch is not in series/series" "$top/scripts/tree.sh"
}

test_bad_base() {
	made
	before=$(state)
	printf '#!/bin/sh\ncd "$1" && sed -i "s/ CALLBACK//" mm/memory.c\n' >"$top/base/apply.sh"
	check "a base that leaves something is refused" fails_saying "base/apply.sh left the lines above" "$top/scripts/tree.sh"
	check "naming it" grep -q 'mm/gone.c:CALLBACK' "$work/out"
	check "refs, index and work tree are as they were" unchanged
	made
	printf '#!/bin/sh\necho mm/rmap.c: oops >&2; exit 1\n' >"$top/base/apply.sh"
	check "a base that fails is refused" fails_saying "base/apply.sh failed" "$top/scripts/tree.sh"
	made
	printf '#!/bin/sh\nexit 1\n' >"$top/base/files.sh"
	check "so is one that cannot say which files it converts" fails_saying "base/files.sh failed" "$top/scripts/tree.sh"
}

# --- the good case --------------------------------------------------------

test_tree() {
	local start

	made
	check "base has the callback removed" eval '! lgit grep -q CALLBACK base && ! lgit cat-file -e base:mm/gone.c 2>/dev/null'
	check "stock has it, and files that .gitignore names" eval 'lgit grep -q CALLBACK stock && lgit cat-file -e stock:drivers/gpu/firmware.o'
	check "one commit per patch" [ "$(lgit log --format=%s base..series | paste -s -d '|')" = "mm: change rmap, and add|lib: add a device|mm: change memory" ]
	check "new files are seen, even if the source ignores all of itself" eval 'echo x >"$lin/mm/untracked.c" && [ "$(lgit status --porcelain)" = "?? mm/untracked.c" ] && rm "$lin/mm/untracked.c"'
	check "notes stay out of the changelog" [ "$(lgit log -1 --format=%b series~2 | grep -c -e note -e Because)" = 1 ]
	check "files are added with their mode" [ "$(lgit ls-tree series lib/device.sh | cut -d ' ' -f 1)" = 100755 ]
	check "the work tree is clean, on branch 'series'" eval '[ -z "$(lgit status --porcelain)" ] && [ "$(lgit symbolic-ref HEAD)" = refs/heads/series ]'

	before=$(state)
	start=$(date +%s%N)
	check "a second call does nothing" says "up to date" "$top/scripts/tree.sh"
	check "in less than 2 s" [ $((($(date +%s%N) - start) / 1000000)) -lt 2000 ]
	check "and touches nothing" unchanged
	rm "$lin/.git/made/key"
	tree
	check "made again, it is the same to the commit" unchanged
	before=$(lgit rev-parse series)
	rm -rf "$top/build"
	tree
	check "made from nothing, too" [ "$(lgit rev-parse series)" = "$before" ]

	made
	mtimes >"$work/mtimes"
	sed -i 's/changed twenty/changed to twenty-one/' "$top/series/0003-mm-change-rmap-and-add.patch"
	tree
	check "editing one patch touches the file it changes, and no other" \
		[ "$(mtimes | diff - "$work/mtimes" | sed -n 's/^< \([^ ]*\).*/\1/p')" = mm/rmap.c ]
	mtimes >"$work/mtimes"
	echo more >>"$top/linux/lib/device.c"
	tree
	check "editing a file in linux/ likewise" \
		[ "$(mtimes | diff - "$work/mtimes" | sed -n 's/^< \([^ ]*\).*/\1/p')" = lib/device.c ]
	mtimes >"$work/mtimes"
	echo "# comment" >>"$top/base/apply.sh"
	check "a change in base/ is noticed" says "removing the callback" "$top/scripts/tree.sh"
	check "and what comes out the same is not written" eval 'mtimes | diff - "$work/mtimes" >"$work/out"'

	made
	check "checkout base" eval 'tree checkout base && [ "$(lgit rev-parse HEAD)" = "$(lgit rev-parse base)" ]'
	check "checkout stock" eval 'tree checkout stock && [ -f "$lin/mm/gone.c" ]'
	check "make tree goes back to series" eval 'tree && [ "$(lgit symbolic-ref HEAD)" = refs/heads/series ] && [ ! -f "$lin/mm/gone.c" ]'
	check "checkout of something else is refused" fails_saying "which state?" "$top/scripts/tree.sh" checkout nonsense
	mkdir -p "$work/foreign"
	check "clean removes only what the scripts made" fails_saying "remove it yourself" env BUILD="$work/foreign" "$top/scripts/tree.sh" clean
	tree clean
	check "clean removes build/" no_build
	mkdir -p "$lin"
	echo mine >"$lin/file"
	check "a build/linux of somebody else's is left alone" fails_saying "not what these scripts made" "$top/scripts/tree.sh"
}

# --- interruptions --------------------------------------------------------

# The command $1, called with the argument $2, does the line $3 and then takes the
# whole process group down, as a power failure would.
killer() {
	stub "$1" <<-EOF
	for arg; do
		if [ "\$arg" = $2 ]; then
			$3
			kill -9 0
		fi
	done
	exec $(command -v "$1") "\$@"
	EOF
}

killed() {
	(stubbed setsid -w "$top/scripts/tree.sh") >"$work/out" 2>&1
	[ $? -ge 128 ]
}

recovers() {
	local want=$1

	tree && [ "$(lgit rev-parse series)" = "$want" ] && [ "$(lgit rev-parse HEAD)" = "$want" ] &&
		[ -z "$(lgit status --porcelain)" ] && [ -z "$(find "$top/build" -maxdepth 1 -name 'linux.*' -o -name 'tmp.*')" ] &&
		says "up to date" "$top/scripts/tree.sh"
}

test_interruptions() {
	local want point

	made
	want=$(lgit rev-parse series)
	tarball "$src" "$work/src.tar"
	fresh
	KSRC=$work/src.tar
	# shellcheck disable=SC2016 # for the stub
	killer tar -xf "$(command -v tar)"' "$@"; rm -r "${@: -1}/include"'
	check "kill -9 while it unpacks" killed
	check "leaves a part behind" [ -d "$top/build/linux.new" ]
	check "and the next call recovers" eval 'tree && [ "$(lgit rev-parse "series^{tree}")" = "$(git -C "$work/made/build/linux" rev-parse "series^{tree}")" ]'
	rm -r "$stubs"

	KSRC=$src
	for point in add commit tag apply commit-tree write-tree checkout update-ref symbolic-ref; do
		fresh
		killer git $point :
		check "kill -9 before git $point" killed
		check "and the next call recovers" recovers "$want"
		rm -r "$stubs"
	done

	# Half a checkout: files written and to be written, git's lock left.
	made
	sed -i 's/changed twenty/changed again/' "$top/series/0003-mm-change-rmap-and-add.patch"
	tree
	want=$(lgit rev-parse series)
	made
	sed -i 's/changed twenty/changed again/' "$top/series/0003-mm-change-rmap-and-add.patch"
	killer git checkout "echo half >'$lin/mm/rmap.c'; echo new >'$lin/mm/new.c'; touch '$lin/.git/index.lock'"
	check "kill -9 in the middle of git checkout" killed
	check "and the next call recovers" recovers "$want"
	rm -r "$stubs"
}

# --- the developer's work -------------------------------------------------

test_own_work() {
	made
	edit_lin mm/rmap.c "mine"
	check "uncommitted work, series not changed: left alone" says "up to date" "$top/scripts/tree.sh"
	before=$(state)
	sed -i 's/changed twenty/changed again/' "$top/series/0003-mm-change-rmap-and-add.patch"
	check "uncommitted work, series changed: refused" fails_saying "changes that are not committed" "$top/scripts/tree.sh"
	check "and left alone" unchanged
	check "and 'make refresh' too refuses it" fails_saying "commit them first" "$top/scripts/refresh.sh"
	check "and checkout" fails_saying "commit them" "$top/scripts/tree.sh" checkout base
	lgit commit -q -a -m mine
	before=$(state)
	check "own commits, series changed: refused" fails_saying "commits of yours" "$top/scripts/tree.sh"
	check "and left alone" unchanged
	check "refresh does not overwrite what changed in series/" fails_saying "would be overwritten" "$top/scripts/refresh.sh"
	check "FORCE=1 drops them" eval 'FORCE=1 tree && [ -z "$(lgit log --format=%s base..HEAD | grep mine)" ] && ! grep -q mine "$lin/mm/rmap.c"'
	made
	edit_lin mm/rmap.c "mine"
	lgit commit -q -a -m mine
	tree checkout base
	check "own commits outlive a checkout of base and back" eval 'tree && [ "$(lgit log -1 --format=%s)" = mine ]'
}

test_refresh() {
	made
	check "refresh of what was made" succeeds "$top/scripts/refresh.sh"
	check "then the tree is up to date" says "up to date" "$top/scripts/tree.sh"
	cp -a "$top/series" "$work/series1"
	check "a second refresh changes nothing" eval 'run "$top/scripts/refresh.sh" && diff -r "$top/series" "$work/series1" >"$work/out"'

	edit_lin mm/memory.c "a line of mine"
	mkdir "$lin/new"
	echo "new file" >"$lin/new/file.c"
	lgit rm -q mm/tool.sh
	lgit add -A
	printf 'mm: a commit, of mine (with a title that is longer than what fits into a name)\n\nBody: %%s & \\n stay.\n\n  indented\n\nSigned-off-by: Dev <dev@dev.invalid>\n' |
		lgit commit -q -F -
	want=$(lgit log --format='%T %B' base..HEAD)
	check "refresh of a new commit" succeeds "$top/scripts/refresh.sh"
	check "trees and changelogs are the same" eval '[ "$(lgit log --format="%T %B" base..HEAD)" = "$want" ]'
	check "then the tree is up to date" says "up to date" "$top/scripts/tree.sh"
	check "named as git format-patch does" eval '(cd "$top/series" && ls 0*.patch) | diff - <(lgit format-patch -o "$work/fp" base..HEAD | sed "s|.*/||") >"$work/out"'
	check "added files are in linux/, not in the patch" eval 'cmp "$lin/new/file.c" "$top/linux/new/file.c" && ! grep -q "^diff.*new/file.c" "$top/series/"0004*'
	check "series/series keeps its comment, and lists the file" eval 'grep -q "^# The order matters" "$top/series/series" && grep -q "^0004-.*patch new/file.c$" "$top/series/series"'
	check "the cover letter is still there" [ -f "$top/series/0000-cover-letter.txt" ]
	rm -rf "$top/build"
	check "made from nothing, it is the same" eval 'tree && [ "$(lgit log --format="%T %B" base..HEAD)" = "$want" ]'

	lgit reset -q --hard series~3
	check "refresh of fewer commits" succeeds "$top/scripts/refresh.sh"
	check "removes their patches and files" eval '[ "$(ls "$top/series"/*.patch | wc -l)" = 1 ] && [ -z "$(find "$top/linux" -type f)" ]'
	check "then the tree is up to date" says "up to date" "$top/scripts/tree.sh"

	made
	edit_lin lib/device.c "more"
	lgit commit -q -a -m "lib: more"
	cp -a "$top/series" "$work/series2"
	check "a later change to an added file is refused" fails_saying "changes lib/device.c, which an earlier one adds; fold it" "$top/scripts/refresh.sh"
	check "and series/ is left alone" diff -r "$top/series" "$work/series2"
	made
	edit_lin mm/memory.c "x"
	printf 'mm: odd\n\nabove\n---\nbelow\n' | lgit commit -q -a -F -
	check "a changelog that a mail cannot carry is refused" fails_saying "do not give the same again" "$top/scripts/refresh.sh"
	check "and series/ is left alone" diff -r "$top/series" "$work/series2"
}

# --- exports --------------------------------------------------------------

# cc_of NUMBER-: the Cc: of that mail, unfolded
cc_of() {
	awk '/^$/ { exit } /^[^ ]/ { on = /^Cc: / } on' "$top/build/series/$1"* | tr -d '\n' | tr -s ' '
}

exports_as_before() {
	diff -r "$top/build/series" "$work/exported" >"$work/out" && [ -z "$(find "$top/build" -maxdepth 1 -name 'tmp.*')" ]
}

# $work/exported is the last export.
test_recipients() {
	check "a mail goes to whom get_maintainer.pl says" \
		[ "$(cc_of 0001-)" = 'Cc: "A. B. Memory" <memory@mm.invalid>, Zoe <zoe@mm.invalid>, list@lists.invalid' ]
	check "a name that is not ASCII is encoded" \
		[ "$(cc_of 0002-)" = 'Cc: =?UTF-8?q?J=C3=B6rg=20=28the=20O=2E=29?= <lib@lib.invalid>, Zoe <zoe@mm.invalid>, list@lists.invalid' ]
	check "the cover letter goes to all of them, once" \
		[ "$(cc_of 0000-)" = 'Cc: "A. B. Memory" <memory@mm.invalid>, =?UTF-8?q?J=C3=B6rg=20=28the=20O=2E=29?= <lib@lib.invalid>, Zoe <zoe@mm.invalid>, list@lists.invalid' ]
	check "one address a line, no line longer than a mail's may be" eval \
		'! awk "/^\$/ { nextfile } /@.*@/ || length > 78" "$top/build/series/"0*.patch | grep .'
	check "git am does not put it into the changelog" eval '! git -C "$work/clone" log --format=%B | grep -q "^Cc:"'
	check "b4 gets it in one line" [ "$(grep -c '^Cc: .*, list@lists.invalid$' "$top/build/series/series.mbox")" = 3 ]

	edit_lin MAINTAINERS "Subject	Not Yet <uncommitted@mm.invalid>"
	check "MAINTAINERS is that of the series, not of the work tree" \
		eval 'run "$top/scripts/export.sh" series && exports_as_before'
	lgit checkout -q MAINTAINERS

	check "get_maintainer.pl fails: one line" \
		fails_saying "names nobody for 0002-lib-add-a-device.patch: lost my way;" env GM_FAIL=device.c "$top/scripts/export.sh" series
	check "and the last export is as it was" exports_as_before
	check "it names nobody: one line" \
		fails_saying "names nobody for 0003-mm-change-rmap-and-add.patch: it printed no address;" env GM_SILENT=rmap "$top/scripts/export.sh" series
	check "and the last export is as it was" exports_as_before

	cp -a "$src" "$work/nobody"
	rm "$work/nobody/scripts/get_maintainer.pl"
	KSRC=$work/nobody
	check "a source without it: one line" \
		fails_saying "has no scripts/get_maintainer.pl" "$top/scripts/export.sh" series
	check "and the last export is as it was" exports_as_before
	made

	check "nobody has written a Cc: by hand" eval \
		'! grep -rniE "^[^[:alnum:]]*cc: .*@" "$here/../series" "$here/../linux" >"$work/out"'
}

test_export() {
	made
	check "export series" says "has 3 patches" "$top/scripts/export.sh" series
	git clone -q "$lin" "$work/clone" 2>/dev/null
	git -C "$work/clone" checkout -q "$(lgit rev-parse base)"
	check "git am takes the mbox" succeeds git -C "$work/clone" am "$top/build/series/series.mbox"
	check "and gives the tree of 'series'" [ "$(git -C "$work/clone" rev-parse 'HEAD^{tree}')" = "$(lgit rev-parse 'series^{tree}')" ]
	check "b4 finds its Message-Ids" [ "$(grep -c "^Message-Id: <.*@" "$top/build/series/series.mbox")" = 3 ]
	check "and no header of several lines" eval '! awk "FNR == 1 || /^From [0-9a-f]+ Mon/ { header = 1 } /^\$/ { header = 0 } header" "$top/build/series/series.mbox" | grep -q "^ "'
	check "the cover letter has subject, text and diffstat" eval \
		'grep -q "^Subject: \[PATCH 0/3\] flush at the right moment$" "$top/build/series/0000-cover-letter.patch" &&
		 grep -qF "The text & its \\ reasons." "$top/build/series/0000-cover-letter.patch" &&
		 grep -q "mm/rmap.c *|" "$top/build/series/0000-cover-letter.patch" &&
		 ! grep -qF "***" "$top/build/series/0000-cover-letter.patch"'
	check "the mails are from the configured identity" grep -q '^From: Some Body <some@body.invalid>' "$top/build/series/0001-mm-change-memory.patch"
	cp -a "$top/build/series" "$work/exported"
	run "$top/scripts/export.sh" series
	check "exported again, it is the same" diff -r "$top/build/series" "$work/exported"
	test_recipients
	check "without an identity, the sender is told to set one" says "should set user.name" env GIT_CONFIG_GLOBAL=/dev/null "$top/scripts/export.sh" series

	made
	check "export upgrade" succeeds "$top/scripts/export.sh" upgrade
	cp -a "$src" "$work/unmodified"
	check "patch applies it to the unmodified source" succeeds patch -p1 -F 0 -d "$work/unmodified" -i "$top/build/upgrade.patch"
	check "without an offset" eval '! grep -q -e offset -e fuzz "$work/out"'
	check "and gives the work tree of 'series'" diff -r -x .git -x .gitignore "$work/unmodified" "$lin"

	made
	rm "$top/series/0000-cover-letter.txt"
	check "no cover letter: refused" fails_saying "series/0000-cover-letter.txt is missing" "$top/scripts/export.sh" series
}

test_overrides() {
	fresh
	mv "$top/series" "$work/S"
	mv "$top/linux" "$work/L"
	mv "$top/base" "$work/B"
	check "BUILD, SERIES_DIR, LINUX_DIR, BASE_DIR are honoured" \
		succeeds env BUILD="$work/elsewhere" SERIES_DIR="$work/S" LINUX_DIR="$work/L" BASE_DIR="$work/B" "$top/scripts/tree.sh"
	check "and build/ is not made" no_build
}

make_source
test_sources
test_kinds_of_source
test_packages
test_bad_series
test_bad_base
test_tree
test_interruptions
test_own_work
test_refresh
test_export
test_overrides
finish
