# shellcheck shell=bash disable=SC2034 # those who source it use what is set here
# SPDX-License-Identifier: GPL-2.0
#
# Sourced by the tests of the scripts: a scratch directory (with a blank in its name),
# an environment in which nothing of the user's is left, and how to report.

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/test scripts.XXXXXX")
trap 'rm -rf "$work"' EXIT

top=$work/top
stubs=$work/stubs
passed=0
failed=0
doze=98765.$$ # seconds, for what does not end by itself

unset BUILD STORE KSRC FORCE NEED_MB TREES_DIR TREE LINUX_DIR CONFIG_DIR ARCH
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE TEST_ONLY CHECKS MAKEFLAGS CCACHE_DIR
export LC_ALL=C GIT_CONFIG_GLOBAL=$work/gitconfig GIT_CONFIG_NOSYSTEM=1
printf '[user]\n\tname = Some Body\n\temail = some@body.invalid\n' >"$GIT_CONFIG_GLOBAL"

# check TEXT COMMAND...
check() {
	local text=$1

	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok - $text"
	else
		failed=$((failed + 1))
		echo "not ok - $text"
		sed 's/^/# /' "$work/out"
	fi
}

# Runs and keeps the output; what a failed check shows.
run() {
	"$@" >"$work/out" 2>&1
}

# gives STATUS TEXT COMMAND...: ends with this status and says this
gives() {
	local want=$1 text=$2 got=0

	shift 2
	run "$@" || got=$?
	[ "$got" = "$want" ] && grep -qF -e "$text" "$work/out"
}

# fails_saying TEXT COMMAND...: with one line "error: ..." that has TEXT
fails_saying() {
	local text=$1

	shift
	! run "$@" && [ "$(grep -c '^error: ' "$work/out")" = 1 ] &&
		grep '^error: ' "$work/out" | grep -qF -e "$text"
}

# stub NAME: stdin becomes a script that stands before the real command
stub() {
	mkdir -p "$stubs"
	{ echo '#!/bin/bash'; cat; } >"$stubs/$1"
	chmod +x "$stubs/$1"
}

stubbed() {
	PATH=$stubs:$PATH "$@"
}

# All packages are there. It is faster to say so than to look.
no_packages_missing() {
	stub dpkg-query <<<'echo "ii "'
}

# fresh: the scratch project, with a copy of the scripts and nothing built
fresh() {
	rm -rf "$top"
	mkdir -p "$top/build" "$top/configs" "$top/trees/6.1"
	cp -a "$project/scripts" "$top"
	cp "$project/trees/6.1/kernel" "$top/trees/6.1"
}

# script NAME: stdin becomes one of the scripts of the scratch project
script() {
	{ echo '#!/bin/bash'; cat; } >"$top/scripts/$1"
	chmod +x "$top/scripts/$1"
}

# no_sleep: nothing dozes any more
no_sleep() {
	! pgrep -f "sleep $doze\$" >"$work/out"
}

# end PID, or -PID for kill -9 of all of the process group, once something dozes
end() {
	local i

	for ((i = 0; i < 600; i++)); do
		no_sleep || break
		sleep 0.1
	done
	case $1 in
	-*) kill -KILL -- "$1" ;;
	*) kill "$1" ;;
	esac
	wait "${1#-}"
} 2>/dev/null

# The last line, and the exit status.
finish() {
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}
