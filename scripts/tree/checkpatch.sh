#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# checkpatch.sh PATCH: fails if checkpatch.pl --strict of the series' tree says anything.
#
# Left out is what only a missing sign-off, a missing git identity, a tree without its history, or
# MAINTAINERS would be about, and what it does not know of the macros of trace events, which are laid out in
# one way everywhere. On stderr, its check of license names asks for Python modules.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

[ $# = 1 ] || die "which patch? usage: checkpatch.sh PATCH"
patch=$(absolute "$1")
[ -f "$patch" ] || die "there is no patch $1; 'make series' writes build/series"
[ -d "$tree" ] || die "there is no tree yet; run 'make tree'"
need_commands perl

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
export_files series "$tmp/tree" scripts/checkpatch.pl scripts/spelling.txt scripts/const_structs.checkpatch
(cd "$tmp/tree" && perl scripts/checkpatch.pl --no-tree --strict --terse --showfile --no-summary --no-signoff \
	--ignore FILE_PATH_CHANGES,FROM_SIGN_OFF_MISMATCH,UNKNOWN_COMMIT_ID "$patch") >"$tmp/says" 2>"$tmp/err" || status=$?
if grep -vE 'include/trace/events/.*CHECK: (Alignment should match|Lines should not end)' "$tmp/says" >&2; then
	exit 1
fi
[ "$status" = 0 ] || [ -s "$tmp/says" ] || die "checkpatch.pl itself fails: $(tail -n 1 "$tmp/err")"
