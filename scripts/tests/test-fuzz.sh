#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-fuzz.sh: make fuzz says what is wrong with its variables before anything is written,
# and what a console has of a run. Kernels and boots are made up.
set -u

# shellcheck source=scripts/tests/test-lib.sh
. "$(dirname "$0")/test-lib.sh"

unset SEED UNTIL THREADS DEBUG FUZZ_SECONDS FUZZ_TRACE
export BUILD=$top/build
console=$work/console

# refuses TEXT VARIABLE=VALUE...: one line, and nothing is there that was not before
refuses() {
	local text=$1

	shift
	fails_saying "$text" env "$@" "$top/scripts/prove/fuzz.sh" &&
		[ -z "$(ls -A "$BUILD")" ]
}

test_variables() {
	local value

	fresh
	# shellcheck disable=SC2016 # it must not
	for value in abc 0 -1 1.5 ' 1' 99999999999 0x10 '$(touch x)'; do
		check "SEED=$value is refused" refuses "SEED=$value is no number from 1" SEED="$value"
	done
	check "SECONDS=0 is refused" refuses "SECONDS=0 is no number from 1" FUZZ_SECONDS=0
	check "SECONDS=x is refused" refuses "SECONDS=x is no number from 1" FUZZ_SECONDS=x
	check "THREADS=9 is refused" refuses "THREADS=9 is no number from 1 to 8" THREADS=9
	check "DEBUG=2 is refused" refuses "DEBUG=2 is not known" DEBUG=2
	check "UNTIL= without SEED= is refused" refuses "UNTIL=5 needs the SEED=" UNTIL=5
	check "UNTIL=x is refused" refuses "UNTIL=x is no number from 0" SEED=1 UNTIL=x
	check "another word than knock is refused" fails_saying "usage: fuzz.sh" "$top/scripts/prove/fuzz.sh" nock
}

# A kernel that says what $console has, and ends with $work/status.
make_up() {
	fresh
	no_packages_missing
	script tree/tree.sh </dev/null
	script kernel/build.sh </dev/null
	script kernel/initrd.sh </dev/null
	script kernel/boot.sh <<-END
		while [ "\$1" != -o ]; do shift; done
		cp "$console" "\$2"
		echo "error: the kernel says 'BUG: made up'; the console is in x" >&2
		exit \$(cat "$work/status")
	END
}

# ends STATUS TEXT: so does fuzz.sh, with SEED=7
ends() {
	gives "$1" "$2" stubbed env SEED=7 "$top/scripts/prove/fuzz.sh"
}

test_results() {
	make_up
	echo 0 >"$work/status"
	printf '%s\n' "# operations from 0 to 499" "# operation  tried" "# map  5" "# total: 5 operations" >"$console"
	check "nothing was found: the table is shown" ends 0 "map  5"
	echo 1 >"$work/status"
	printf '%s\n' "# found: seed 7, operation 12, 1 threads, 3 s: stale entries 4" "# to repeat it: make fuzz SEED=7 UNTIL=12" >"$console"
	check "something was found: it fails" ends 1 "error: seed 7 fails: stale entries 4"
	check "the command that repeats it is shown" ends 1 "make fuzz SEED=7 UNTIL=12"
	echo 2 >"$work/status"
	printf '%s\n' "[   1.5] # operations from 0 to 499" "[   2.5] # operations from 500 to 999" "BUG: made up" >"$console"
	check "the kernel crashes: it fails with what the kernel says" ends 2 "BUG: made up"
	check "the process that it did not survive is named" ends 2 "make fuzz SEED=7 UNTIL=999"
}

test_variables
test_results
finish
