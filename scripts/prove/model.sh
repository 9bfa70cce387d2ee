#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# model.sh: the model of gathers that meet (gathers.pml), checked by Spin in each scenario: the
# design of mm/mmu_gather.c holds, and each of the wrong ones fails in one. A line each; the
# last line is "N passed, N failed".
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

work=$BUILD/model
passed=0
failed=0

# Of each gather: first address, last address, and 0 to zap, 1 to write-protect, 2 to zap and
# free the table. Meanwhile, two faults map pages again, or one where there are three gathers.
scenarios="
zap0+zap01            000 010
zap01+protect01       010 011
protect0+protect01    001 011
zap0+munmap01         000 012
munmap1+zap0          112 000
zap0+zap0+zap01       000 000 010"

# flags, expected, what it is
variants="
P_OP              holds  what was looked at, what was changed, and the table
P_WHOLE           holds  all of the mm
P_OWN             fails  what was changed only
P_EMPTY           fails  nothing if nothing was changed
P_OPONLY          fails  without the table
P_OP,M_RESETMID   fails  a flush in the middle forgets what was looked at
P_OP,M_NESTEARLY  fails  other gathers are looked for at the start
P_OP,M_DECEARLY   fails  the gather is off the list before its flush
P_OP,M_FREEFIRST  fails  pages are freed before the flush"

# verify FLAGS GATHER...: prints the number of states, or fails
verify() {
	local flags i=0 gather limit=300

	flags="-D${1//,/ -D}"
	shift
	[ $# = 2 ] || flags="$flags -DMAPS=1"
	for gather; do
		flags="$flags -DG${i}LO=${gather:0:1} -DG${i}HI=${gather:1:1} -DG${i}K=${gather:2:1}"
		i=$((i + 1))
	done
	rm -rf "$work"
	mkdir -p "$work"
	# shellcheck disable=SC2086 # one word per flag
	(cd "$work" && spin -a $flags "$scripts/prove/gathers.pml" >spin.log 2>&1 &&
		gcc -O2 -DSAFETY -DCOLLAPSE -DNOREDUCE -DMEMLIM=3000 -o pan pan.c >gcc.log 2>&1) ||
		die "Spin cannot read scripts/prove/gathers.pml with $flags: $(head -n 1 "$work/spin.log")"
	(cd "$work" && timeout "$limit" ./pan -m200000 -E -w25 >pan.log 2>&1) ||
		die "the model with $flags has no end after $limit s"
	grep -q 'errors: 0' "$work/pan.log" || return 1
	awk '/states, stored/ { print $1 }' "$work/pan.log"
}

# variant FLAGS holds|fails TEXT
variant() {
	local flags=$1 wanted=$2 text=$3 name gathers states sum=0 broken=

	while read -r name gathers; do
		[ -n "$name" ] || continue
		# shellcheck disable=SC2086 # one word per gather
		if states=$(verify "$flags" $gathers); then
			sum=$(awk "BEGIN { printf \"%.0f\", $sum + $states }")
		else
			broken=$name
			break
		fi
	done <<<"$scenarios"
	if [ "$wanted" = holds ] && [ -z "$broken" ]; then
		echo "ok - holds: $text ($sum states)"
	elif [ "$wanted" = fails ] && [ -n "$broken" ]; then
		echo "ok - fails, as it should: $text ($broken)"
	else
		echo "not ok - $wanted is wanted: $text${broken:+ ($broken)}"
		failed=$((failed + 1))
		return
	fi
	passed=$((passed + 1))
}

need_packages spin gcc libc6-dev
need_commands spin gcc timeout
only_one model
while read -r flags wanted text; do
	[ -z "$flags" ] || variant "$flags" "$wanted" "$text"
done <<<"$variants"
rm -rf "$work"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
