#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# fuzz.sh [knock [SITE...]]
#
# Random operations on the memory of a process that a device shares, in QEMU, with the kernel of
# the series. Nothing may be freed that the device can reach, nothing stale be left, and the kernel
# may not complain. A failure is printed with the command that repeats it; the shortest sequence
# that still fails is looked for. build/fuzz/fuzz.log is the console.
#
# With knock, is a missing call found? One call of the callback after the other is left out of the
# kernel's binary, and last all of them; FUZZ_SECONDS each at most. fuzz.unreached of the tree says
# which cannot be found, and why. build/report/fuzz.tsv has site, verdict, seconds, what was found.
#
# FUZZ_SECONDS=  how long, 60 by default (make fuzz SECONDS=)
# SEED=          of the random numbers, 1 to 4294967295; another one each time by default
# UNTIL=         with SEED=, only what a failure needs: the operations of its process, until this one
# THREADS=       1 to 8; by default, one and several take turns
# DEBUG=         debug (or 1), kasan, kcsan: the kernel of that name of scripts/prove/debug.sh
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/fuzz
initrd=$BUILD/guest/fuzz-$arch.cpio
report=$BUILD/report/fuzz.tsv
unreached=$TREE_DIR/fuzz.unreached
state=series
slack=300 # seconds: the boot, the last operations, cutting down
slow=__mmu_notifier_invalidate_range
explained= # for boot.sh -w
arguments=
log=
follower=

# --- what is asked for ----------------------------------------------------

# is_number TEXT LEAST MOST
is_number() {
	[[ $1 =~ ^[0-9]{1,10}$ ]] && ((10#$1 >= $2 && 10#$1 <= $3))
}

# need_number NAME TEXT LEAST MOST: nothing, or a number
need_number() {
	[ -z "$2" ] || is_number "$2" "$3" "$4" ||
		die "$1=$2 is no number from $3 to $4"
}

read_environment() {
	local most=4294967295 name

	kernel=$(kernel_dir "$state")/vmlinux
	need_number SECONDS "${FUZZ_SECONDS:-}" 1 604800
	need_number SEED "${SEED:-}" 1 "$most"
	need_number UNTIL "${UNTIL:-}" 0 "$most"
	need_number THREADS "${THREADS:-}" 1 8
	[ -z "${UNTIL:-}" ] || [ -n "${SEED:-}" ] ||
		die "UNTIL=$UNTIL needs the SEED= that was printed with it"
	case ${DEBUG:-} in
	"" | 0) ;;
	*)
		name=$DEBUG
		[ "$name" != 1 ] || name=debug
		[[ " ${check_kernels[*]} " = *" $name "* ]] ||
			die "DEBUG=$DEBUG is not known; give one of ${check_kernels[*]}, or leave it out"
		state=series-$name
		kernel=$(check_image "$name")
		explained=$(explained_complaints "$name")
		arguments=$(check_arguments "$name")
		;;
	esac
	seconds=${FUZZ_SECONDS:-60}
	seed=${SEED:-$(od -An -N 4 -tu4 /dev/urandom | awk '{ printf "%d\n", $1 + !$1 }')}
}

# --- one boot -------------------------------------------------------------

# The lines in which the program says how far it is, as they come.
follow_log() {
	local seen=0 lines

	while sleep 5 2>/dev/null >&2; do
		lines=$(grep -ac '^# progress: ' "$log" 2>/dev/null) || :
		[ "${lines:-0}" -gt "$seen" ] || continue
		seen=$lines
		grep -a '^# progress: ' "$log" | tail -n 1 | sed 's/^# progress: //' >&2
	done
}

# boot KERNEL LOG [VARIABLE=VALUE...]: the status of boot.sh
boot() {
	local kernel=$1 log=$2 status=0

	shift 2
	rm -f "$log" "$log.cases"
	# shellcheck disable=SC2046 # one word per argument
	"$scripts/kernel/boot.sh" -n -k "$kernel" -o "$log" -i "$initrd" -t $((seconds + slack)) \
		${explained:+-w "$explained"} $(tree_says arguments) ${arguments:+"$arguments"} kunit.filter_glob=none FUZZ_SECONDS="$seconds" FUZZ_SEED="$seed" \
		${THREADS:+FUZZ_THREADS="$THREADS"} "$@" 2>"$log.says" || status=$?
	return "$status"
}

# What the program has printed.
said() {
	sed -nE 's/^(\[ *[0-9.]+\] ?)?# //p' "$1"
}

found_line() {
	said "$1" | sed -n 's/^found: //p' | head -n 1
}

prepare() {
	need_packages "${kernel_packages[@]}"
	"$scripts/tree/tree.sh"
	"$scripts/kernel/build.sh" "$state"
	"$scripts/kernel/initrd.sh" -f "$initrd"
	mkdir -p "$work"
}

# --- fuzz -----------------------------------------------------------------

# From the last thing of interest on: what was found, or the table.
show() {
	said "$1" | awk '/^found: |^operation  / { shown = 1 } shown'
}

# What the kernel did not survive has no end, and its processes are not known.
crashed() {
	local last

	cat "$log.says" >&2
	last=$(said "$log" | sed -nE 's/^operations from [0-9]+ to ([0-9]+)$/\1/p' | tail -n 1)
	[ -z "$last" ] ||
		note "to repeat it: make fuzz SEED=$seed UNTIL=$last; FUZZ_TRACE=1 prints each operation"
	exit 2
}

fuzz() {
	local status=0

	log=$work/fuzz.log
	note "seed $seed, $(minutes "$seconds"), $(short "$kernel")"
	follow_log 8>&- &
	follower=$!
	trap 'kill "$follower" 2>/dev/null || :' EXIT
	boot "$kernel" "$log" ${UNTIL:+FUZZ_UNTIL="$UNTIL"} ${FUZZ_TRACE:+FUZZ_TRACE="$FUZZ_TRACE"} || status=$?
	[ "$status" -le 1 ] || crashed
	show "$log"
	[ "$status" = 0 ] && return
	echo "error: seed $seed fails: $(found_line "$log" | sed 's/^[^:]*: //'); $(short "$log") has the console" >&2
	return 1
}

# --- knock ----------------------------------------------------------------

# Why the fuzz cannot find it, if so.
reason() {
	[ ! -f "$unreached" ] || awk -F '\t' -v site="$1" '$1 == site { print $2; exit }' "$unreached"
}

# verdict LOG STATUS: found or not, seconds, what
verdict() {
	local line

	line=$(found_line "$1")
	if [ -n "$line" ]; then
		sed -E 's/^seed [0-9]+, operation ([0-9]+), ([0-9]+) threads, ([0-9]+) s: (.*)$/found\t\3\toperation \1, \2 threads: \4/' <<<"$line"
	elif [ "$2" = 0 ]; then
		printf 'not found\t%s\t%s\n' "$seconds" "$(said "$1" | sed -n 's/^total: //p')"
	else
		printf 'found\t?\t%s\n' "$(sed -n 's/^error: [^:]*: //p' "$1.says" | sed 's/; the console is in .*//' | head -n 1)"
	fi
}

# knock_out SITE ADDRESS...: a row of the report
knock_out() {
	local site=$1 copy=$work/knock.vmlinux log=$work/knock.log status=0 line

	shift
	"$scripts/prove/mutate.sh" knock "$kernel" "$copy" "$@"
	boot "$copy" "$log" FUZZ_REDUCE=0 || status=$?
	rm -f "$copy"
	line=$(verdict "$log" "$status")
	printf '%s\t%s\n' "$site" "$line" >>"$report.rows"
	note "[$(wc -l <"$report.rows")/$total] $site: ${line//$'\t'/, }"
}

# The sites that are to be tried: address, site. One that cannot be found is tried if it is named.
chosen_sites() {
	local address site

	while read -r address _ _ _ site; do
		if [ $# -gt 0 ]; then
			[[ " $* " != *" $site "* ]] || echo "$address $site"
		elif [ -z "$(reason "$site")" ]; then
			echo "$address $site"
		fi
	done <"$work/sites"
}

knock_summary() {
	local found tried all

	found=$(grep -c $'\tfound\t' "$report" || :)
	tried=$(($(wc -l <"$report") - 1))
	all=$(wc -l <"$work/sites")
	echo
	echo "found $found of $tried in $seconds s each, seed $seed; the kernel has $all calls"
	awk -F '\t' '$2 == "not found" { print "not found: " $1 " (" $4 ")" }' "$report"
	[ ! -f "$unreached" ] || awk -F '\t' '!/^(#|$)/ { print "not tried: " $1 ": " $2 }' "$unreached"
	[ "$found" = "$tried" ]
}

knock() {
	local address site total plan

	[ "$TREE-$arch-$state" = 6.1-x86_64-series ] || die "knock is for Linux 6.1 on x86-64; leave TREE, ARCH and DEBUG out"
	find_sites "$kernel" $slow __mmu_notifier_invalidate_mm __tlb_invalidate_secondary >"$work/sites"
	for site; do
		grep -q " $site\$" "$work/sites" || die "'$site' is no site; $(short "$work/sites") has them all"
	done
	plan=$(chosen_sites "$@")
	total=$(($(wc -l <<<"$plan") + !$#))
	mkdir -p "${report%/*}"
	rm -f "$report" "$report.rows"
	while read -r address site <&3; do
		knock_out "$site" "$address"
	done 3<<<"$plan"
	[ $# -gt 0 ] || knock_out "all of them" all
	{
		printf 'site\tverdict\tseconds\tfound\n'
		cat "$report.rows"
	} | atomic "$report"
	rm -f "$report.rows"
	knock_summary
}

# --- all ------------------------------------------------------------------

read_environment
case ${1:-} in
"") ;;
knock) ;;
*) die "usage: fuzz.sh [knock [SITE...]]" ;;
esac
only_one fuzz
prepare
"${1:-fuzz}" "${@:2}"
