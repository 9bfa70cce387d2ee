# shellcheck shell=bash disable=SC2034 # those who source it use what is set here
# SPDX-License-Identifier: GPL-2.0
#
# Sourced by the tests of the scripts: a scratch directory (with a blank in its name),
# an environment in which nothing of the user's is left, and how to report.

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/test scripts.XXXXXX")
trap 'rm -rf "$work"' EXIT

top=$work/top
stubs=$work/stubs
passed=0
failed=0

unset BUILD KSRC FORCE NEED_MB BASE_DIR LINUX_DIR SERIES_DIR ARCH GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE
unset TEST_ONLY MUTANTS_KERNEL MUTANTS_EQUIVALENT MAKEFLAGS CCACHE_DIR
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

# The last line, and the exit status.
finish() {
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}
