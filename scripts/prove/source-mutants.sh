#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# source-mutants.sh [-t COUNT] [NAME...]
#
# Do the tests notice faults that are not one instruction? Each mutant is the kernel of
# the series with one edit of its source, from trees/TREE/mutants.source: a lock or a
# barrier left out, statements in another order, an error ignored. NAME is a group, a
# file, a function, a suite, or what is wrong; without, all are made.
#
# The source and the objects are those of this script, in build/mutants-source: from one
# mutant to the next, one file changes. The case that the list names is run first, then
# its suite, then, for mm, the selftest, until something is noticed: a case that fails, or a
# kernel that complains, crashes or hangs in the tests. Both are killed; survived is what
# nothing notices, equivalent if the list says why. An edit that does not apply as it
# should, or does not build, is broken. build/report/mutants-source.tsv gets them all.
# What was found out is not found out again as long as source, edit and way to boot stay.
# The last line is "N passed, N failed".
#
# -t COUNT: so many of x86-64 for test.sh, others with each day of the last commit; with
# "ok - source mutant ..." lines
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

list=$TREE_DIR/mutants.source
report=$BUILD/report/mutants-source.tsv
work=$BUILD/mutants-source
groups="lock barrier order error reference list range branch check"
usage="source-mutants.sh [-t COUNT] [NAME...]"
disk_mb=2500
count=

# --- the list ---------------------------------------------------------------
#
# A plan has a line per mutant, separated by tabs: number in the list, group, file, function,
# suite, case, places, what is wrong, and why it is equivalent.

arch_of() { # SUITE
	case $1 in
	smmu) echo arm64 ;;
	ocxl) echo powerpc ;;
	*) echo x86_64 ;;
	esac
}

# Paragraphs; those that only have comments do not count.
paragraphs() {
	awk '
	/^#/ { next }
	/^$/ { open = 0; next }
	{
		if (!open++)
			n++
		print n "\t" $0
	}' "$list"
}

read_list() {
	paragraphs | awk -F '\t' -v OFS='\t' '
	function flush_mutant() {
		if (n)
			print n, head, text, reason
	}
	$1 != n {
		flush_mutant()
		n = $1
		lines = 0
		reason = ""
		split(substr($0, length($1) + 2), field, " ")
		split(field[4], suite, ":")
		places = field[5] != "" ? field[5] : field[1] == "order" ? 2 : 1
		head = field[1] OFS field[2] OFS field[3] OFS suite[1] OFS suite[2] OFS places
		next
	}
	{ line = substr($0, length($1) + 2) }
	++lines == 1 { text = line; next }
	line ~ /^= / { reason = substr(line, 3) }
	END { flush_mutant() }'
}

# The sed script of that number.
edit_of() {
	paragraphs | awk -F '\t' -v n="$1" '
	$1 == n && ++lines > 2 {
		line = substr($0, length($1) + 2)
		if (line !~ /^= /)
			print line
	}'
}

check_list() {
	local number group file function suite name places text reason

	while IFS=$'\t' read -r number group file function suite name places text reason; do
		[[ " $groups " = *" $group "* ]] || die "$(short "$list"): '$group' of '$text' is no group; give one of $groups"
		boot_arguments "$suite" "" >/dev/null
		[[ $places =~ ^[1-9]$ ]] || die "$(short "$list"): '$places' of '$text' is no number of places"
		[ -n "$(edit_of "$number")" ] || die "$(short "$list"): '$text' has no edit; give a script of sed"
	done <<<"${all//$'\t\t'/$'\t-\t'}"
	text=$(cut -f 4,8 <<<"$all" | sort | uniq -d | head -n 1)
	[ -z "$text" ] || die "$(short "$list"): '${text//$'\t'/: }' is there twice; say what is different"
}

# choose NAME...: the lines of these
choose() {
	local name

	for name; do
		awk -F '\t' -v name="$name" '
		$2 == name || $3 == name || $4 == name || $5 == name || $8 == name { found = 1 }
		END { exit !found }' <<<"$all" ||
			die "'$name' is neither a group ($groups), nor a file, a function, a suite or a fault of $(short "$list")"
	done
	awk -F '\t' -v names="$(printf '%s\n' "$@")" '
	BEGIN {
		n = split(names, list, "\n")
		for (i = 1; i <= n; i++)
			wanted[list[i]] = 1
	}
	names == "" || $2 in wanted || $3 in wanted || $4 in wanted || $5 in wanted || $8 in wanted' <<<"$all"
}

# rotate COUNT DAY: from all of the list, and the same ones for the same day
rotate() {
	awk -F '\t' -v count="$1" -v day="$2" '
	$5 !~ /^(smmu|ocxl|sample)$/ { line[n++] = $0 }
	END {
		if (count > n)
			count = n
		for (i = 0; i < count; i++)
			print line[(day + int(i * n / count)) % n]
	}' <<<"$all" | sort -n
}

# --- edits ------------------------------------------------------------------

# function_lines FILE FUNCTION: first and last line of the first definition
function_lines() {
	awk -v name="$2" '
	!first && /^[A-Za-z_]/ && match($0, "(^|[^A-Za-z0-9_])" name "\\(") { first = NR }
	first && !body && /;[ \t]*$/ { first = 0 }
	first && /\{$/ { body = 1 }
	first && body && /^}/ {
		print first, NR
		exit
	}' "$1"
}

# edited FILE FUNCTION SCRIPT: the file with that function edited
edited() {
	local first last

	if [ "$2" = - ]; then
		sed -E -f "$3" "$1"
		return
	fi
	read -r first last <<<"$(function_lines "$1" "$2")"
	[ -n "$last" ] || return 1
	head -n "$((first - 1))" "$1"
	sed -n "$first,${last}p" "$1" | sed -E -f "$3" || return 1
	tail -n "+$((last + 1))" "$1"
}

# prepare FILE FUNCTION PLACES: makes mutant.c of it with edit.sed, or says why not
prepare() {
	local from=$source/$1 places

	[ -f "$from" ] || { echo "there is no $1"; return; }
	edited "$from" "$2" "$here/edit.sed" >"$here/mutant.c" 2>"$here/edit.says" ||
		{ echo "$1 has no function $2, or the edit is no script of sed: $(head -n 1 "$here/edit.says")"; return; }
	places=$(diff -U 0 "$from" "$here/mutant.c" | grep -c '^@@') || :
	[ "$places" = "$3" ] || echo "the edit changes $places places in $2 of $1, not $3"
}

# --- one mutant -------------------------------------------------------------

mm_boot="srcutree.convert_to_big=1 kunit.filter_glob=mmu_notifier_[as]*"

# boot_arguments SUITE CASE: of boot.sh
boot_arguments() {
	local only=${2:+.$2}

	case $1 in
	all) echo "-t 240 $mm_boot$only" ;;
	pti) echo "-t 240 pti=on kunit.filter_glob=mmu_notifier_api$only" ;;
	amd) echo "-a 2 -t 240 iommu=pt kunit.filter_glob=amd_iommu_v2*$only" ;;
	vtd) echo "-v 2 -t 240 kunit.filter_glob=intel_svm*$only" ;;
	smmu) echo "-a 1 -t 240 kunit.filter_glob=arm_smmu_v3*$only" ;;
	ocxl) echo "-a 2 -t 240 kunit.filter_glob=ocxl_link*$only" ;;
	user | sample) echo "-i $here/initrd.cpio ${selftest_boot[*]} kunit.filter_glob=none" ;;
	*) die "$(short "$list"): '$1' is no suite; give all, user, pti, amd, vtd, smmu, ocxl or sample" ;;
	esac
}

# What other suites are made of does not change what this one notices.
tree_of() { # SUITE
	local others='Documentation/|scripts/coccinelle/' own

	case $1 in
	amd) own=iommu_v2_test ;;
	vtd) own=svm_test ;;
	smmu) own=arm-smmu-v3-test ;;
	ocxl) own=link_test ;;
	*) own=lib/test_mmu_notifier ;;
	esac
	tgit ls-tree -r "$source_tree" | grep -vE "	($others)" |
		awk -v own="$own" '!/(iommu_v2_test|svm_test|arm-smmu-v3-test|link_test|lib\/test_mmu_notifier|selftests\/mmu_notifier)/ || index($0, own) || (own ~ /^lib/ && /selftests/)'
}

# key NUMBER FILE FUNCTION SUITE CASE: of the result that this mutant had or will have
key() {
	{
		tree_of "$4"
		edit_of "$1"
		echo "${@:2}"
		boot_arguments "$4" ""
		sed '/^#/d' "$scripts/kernel/boot.sh"
		cat "$CONFIG_DIR/common.config" "$CONFIG_DIR/$arch.config"
	} | sha256sum | cut -d ' ' -f 1
}

# make_kernel TARGET...: of what the source is now; mutant.vmlinux gets it
make_kernel() {
	local status=0

	touch "$BUILD/$arch/.running"
	"${kmake[@]}" -j"$(nproc)" "$@" >"$here/make.log" 2>&1 || status=$?
	rm "$BUILD/$arch/.running"
	[ "$status" = 0 ] && "${cross}objcopy" --strip-debug "$BUILD/$arch/vmlinux" "$here/mutant.vmlinux"
}

# The guest has the module of the mutant.
make_guest() {
	local modules file

	modules=$(echo "$(kernel_dir series)"/modules/lib/modules/*/kernel)
	while read -r file; do
		"${cross}objcopy" --strip-debug "$BUILD/$arch/$file" "$modules/$file"
	done < <(cd "$BUILD/$arch" && find samples -name '*.ko')
	"$scripts/kernel/initrd.sh" "$here/initrd.cpio" 2>"$here/make.log"
}

# judge LOG STATUS: "VERDICT<tab>why". What the kernel says once it runs the tests is noticed.
judge() {
	local by says

	by=$(awk -F '\t' '$2 == "fail" { printf "%s%s", n++ ? ", " : "", $3 }' "$1.cases" 2>/dev/null || :)
	says=$(sed -n 's/^error: [^:]*: //p' "$1.says" | sed 's/; the console is in .*//; s/; it hangs.*//' | head -n 1)
	if [ "$2" = 0 ]; then
		printf 'survived\t\n'
	elif [ "$2" = 1 ] && [ -n "$by" ]; then
		printf 'killed\t%s\n' "$by"
	elif grep -qaE '# Subtest: |^TAP version ' "$1"; then
		printf 'killed\t%s\n' "${by:+$by; }${says:-the kernel breaks}"
	else
		printf 'broken\tdoes not come to the tests: %s\n' "${says:-$(head -n 1 "$1.says")}"
	fi
}

# boot SUITE CASE: its verdict
boot() {
	local status=0 log=$here/$number.log

	rm -f "$log" "$log.cases"
	# shellcheck disable=SC2046 # several arguments
	"$scripts/kernel/boot.sh" -k "$here/mutant.vmlinux" -o "$log" $(boot_arguments "$1" "$2") 2>"$log.says" || status=$?
	judge "$log" "$status"
}

is_busy() {
	awk -v cpus="$(nproc)" '{ exit !($1 > 2 * cpus) }' /proc/loadavg
}

# A machine with much else to do has hangs that are not about the mutant.
boot_surely() {
	local result

	result=$(boot "$@")
	if [[ $result = *"no end after"* || $result = broken* ]] && is_busy; then
		result=$(boot "$@")
	fi
	echo "$result"
}

# The case, the suite, the selftest, if the list does not say that none can: until one notices.
notice() {
	local result=survived$'\t'

	[ -z "$name" ] || result=$(boot_surely "$suite" "$name")
	[[ $result != survived* ]] || result=$(boot_surely "$suite" "")
	[[ $result != survived* || $suite != all || -n $reason ]] || result=$(boot_surely user "")
	# What the list has a reason for may have met a case that fails now and then.
	[[ $result != killed* || -z $reason ]] || result=$(boot_surely "$suite" "")
	echo "$result"
}

put_back() {
	[ "${suite:-}" != sample ] || rm -f "$(kernel_dir series)/stamp"
	[ -z "$changed" ] || sgit checkout-index -q -f -- "$changed"
	changed=
}

# Prints the verdict.
try() {
	local says targets=vmlinux

	edit_of "$number" >"$here/edit.sed"
	says=$(prepare "$file" "$function" "$places")
	if [ -n "$says" ]; then
		printf 'broken\t%s\n' "$says"
		return
	fi
	[ "$suite" != sample ] || targets="vmlinux modules"
	cat "$here/mutant.c" >"$source/$file"
	# shellcheck disable=SC2086 # one word per target
	if ! make_kernel $targets; then
		printf 'broken\tdoes not build: %s\n' "$(first_build_error "$here/make.log")"
	elif [ "$suite" = sample ]; then
		make_guest && notice
	elif cmp -s "$here/mutant.vmlinux" "$(kernel_dir series)/vmlinux"; then
		printf 'survived\tthe kernel is the same\n'
	else
		notice
	fi
}

# What the list has a reason for is equivalent if it survived, and stale if not.
explained() { # RESULT REASON
	case $1:$2 in
	*:) echo "$1" ;;
	survived*) printf 'equivalent\t%s\n' "$2" ;;
	killed*) printf 'stale\t%s\n' "${1#*$'\t'}" ;;
	*) echo "$1" ;;
	esac
}

mutant() {
	local start=$SECONDS kept result

	kept=$here/kept/$(key "$number" "$file" "$function" "$suite" "$name" "$places")
	if [ ! -s "$kept" ]; then
		changed=$file
		result=$(try)
		put_back
		# What proves nothing is tried again the next time.
		[[ $result = broken* ]] || atomic "$kept" <<<"$result"
	else
		result=$(cat "$kept")
	fi
	result=$(explained "$result" "$reason")
	printf '%s\t%s\t%s\t%s\t%s\n' "$group" "$file" "$function" "$text" "$result" | atomic "$here/rows/$number"
	note "[$((++done_before))/$(wc -l <"$here/plan")] $group, $function, $text: ${result//$'\t'/ } ($((SECONDS - start)) s)"
}

# --- one architecture ---------------------------------------------------------
#
# In a process of its own, in which BUILD is build/mutants-source: build.sh makes the kernel
# of the series in there, with what ccache has, and one file at a time is made again.

one_arch() {
	local number group file function suite name places text reason kmake

	mkdir -p "$here/kept" "$here/rows"
	# After a kill -9 there may be half an object, or the module of a mutant.
	[ ! -e "$BUILD/$arch/.running" ] || rm -f "$(kernel_dir series)/stamp"
	"$scripts/kernel/build.sh" series
	[ "$arch" != x86_64 ] || "$scripts/kernel/initrd.sh" "$here/initrd.cpio"
	source_tree=$(state_tree series)
	take_tree "$source_tree"
	kbuild_environment
	set_kmake "$BUILD/$arch"
	done_before=$(find "$here/rows" -type f | wc -l)
	while IFS=$'\t' read -r number group file function suite name places text reason; do
		[ "$(arch_of "$suite")" = "$arch" ] || continue
		[ "$name" != - ] || name=
		[ "$reason" != - ] || reason=
		mutant
	done < <(sed 's/\t\t/\t-\t/g; s/\t$/\t-/' "$here/plan")
}

# --- all ----------------------------------------------------------------------

table() {
	verdict_table broken
	awk -F '\t' '
	$5 == "survived" || $5 == "broken" { print $5 ": " $1 ", " $3 "() of " $2 ", " $4 ($6 == "" ? "" : ": " $6) }
	$5 == "stale" { print "killed all the same: " $1 ", " $3 "() of " $2 ", " $4 ": by " $6 }' <<<"$rows"
	echo "$(short "$report") has them all. This took $(minutes "$SECONDS")."
}

# For test.sh: a result per line.
tap() {
	awk -F '\t' -v file="$(short "$list")" '
	{ what = "source mutant " $3 " (" $4 "): " }
	$5 == "killed" { print "ok - " what "killed by " $6 }
	$5 == "survived" { print "not ok - " what "nothing notices it" }
	$5 == "equivalent" { print "skip - " what $6 }
	$5 == "stale" { print "not ok - " what "killed by " $6 "; take its reason out of " file }
	$5 == "broken" { print "not ok - " what $6 }' <<<"$rows"
}

main() {
	local all rows a passed failed

	[ -f "$list" ] || die "Linux $TREE has no $(short "$list"); take TREE=6.1"
	here=$work
	all=$(read_list)
	check_list
	if [ -n "$count" ]; then
		plan=$(rotate "$count" "$(($(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0) / 86400))")
	else
		plan=$(choose "$@")
	fi
	need_packages "${kernel_packages[@]}"
	[ -d "$work/source" ] || need_disk "$disk_mb" "$BUILD"
	"$scripts/tree/tree.sh"
	only_one mutants-source
	mkdir -p "$work" "${report%/*}"
	rm -rf "$work/rows" "$report"
	ln -sfn ../linux "$work/linux"
	atomic "$work/plan" <<<"$plan"
	note "$(wc -l <"$work/plan") mutants of the source"
	for a in x86_64 arm64 powerpc; do
		! cut -f 5 "$work/plan" | while read -r a_suite; do arch_of "$a_suite"; done | grep -qx "$a" ||
			ARCH=$a BUILD=$work "$scripts/prove/source-mutants.sh" arch
	done
	rows=$(cut -f 1 "$work/plan" | sed "s|.*|$work/rows/&|" | xargs -d '\n' cat)
	{
		printf 'group\tfile\tfunction\tmutation\tverdict\tkillers\n'
		echo "${rows//$'\t'stale$'\t'/$'\t'killed$'\t'}"
	} | atomic "$report"
	if [ -n "$count" ]; then
		tap
	else
		table
	fi
	passed=$(($(count_verdicts killed) + $(count_verdicts equivalent)))
	failed=$(($(count_verdicts survived) + $(count_verdicts broken) + $(count_verdicts stale)))
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}

case ${1:-} in
arch)
	here=$BUILD
	changed=
	trap 'put_back; rm -f "$BUILD/$arch/.running"' EXIT
	trap 'exit 1' INT TERM HUP
	one_arch
	exit
	;;
-t)
	[[ ${2:-} =~ ^[1-9][0-9]?$ ]] || die "-t ${2:-} is no number of mutants; usage: $usage"
	count=$2
	shift 2
	[ $# = 0 ] || die "-t chooses by itself; usage: $usage"
	;;
-*) die "usage: $usage; groups are $groups" ;;
esac
main "$@"
