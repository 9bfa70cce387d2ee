#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# found.sh: what the tests show of stock, and of the series. Stock has nothing but the tests
# added, which is the state stock-tests. Both boot twice, with the two kinds of device that there
# are: "contains" drops a pointer to a page table only when a range contains all that the table
# maps, "touches" also when it touches that.
#
# One line for each case that fails anywhere, with what it shows: findings.awk explains the
# words. "freed 511+0" is 511 pages and no page table. build/report/found-TREE.tsv has the
# same, one line for each boot; with ARCH=arm64, found-TREE-arm64.tsv, and so with ARCH=powerpc.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/found
[ "$arch" = x86_64 ] || work=$work-$arch
table=$(found_table)
initrd=$BUILD/guest/initrd-$arch.cpio

# The tag stock-tests: stock, and what the patches of tests change.
make_tag() {
	local before

	before=$(series_names | grep -B 1 -x tests | head -n 1)
	case $before in
	tests) before=base ;;
	*) before=end/$before ;;
	esac
	begin_index stock
	tgit diff --binary "refs/tags/$before" refs/tags/end/tests | tgit apply --cached --whitespace=nowarn - ||
		die "the tests do not apply to stock; they must not depend on the patches before them"
	commit_index stock-tests stock "stock with the tests"
}

# boot STATE DEVICE
boot() {
	local state=$1 device=$2 log=$work/$1-$2.log lenient=0 status=0

	[ "$device" = contains ] || lenient=1
	"$scripts/kernel/boot.sh" -k "$(kernel_dir "$state")/vmlinux" -o "$log" -i "$initrd" "${selftest_boot[@]}" \
		"shadow_tlb.lenient=$lenient" 'kunit.filter_glob=mmu_notifier*' 2>"$log.says" || status=$?
	if [ "$status" -gt 1 ]; then
		cat "$log.says" >&2
		[ -s "$log.cases" ] || die "$state does not run the tests"
	fi
	awk -f "$scripts/prove/findings.awk" "$log" | awk -v OFS='\t' -v state="$state" -v device="$device" '{ print state, device, $0 }'
}

# Whom a row can hurt: a device that keeps pointers to tables which the range only touches, one
# that keeps parts of a huge page, or any.
show() {
	awk -F '\t' -v arch="$arch" '
	NR == 1 { next }
	!($3 in known) { known[$3]; order[++n] = $3 }
	{
		text = $4
		if ($4 == "freed") text = "freed " $5 "+" $6
		if ($4 == "stale") text = "stale " $7
		says[$1, $2, $3] = text
		if ($1 == "stock-tests" && $4 != "imprecise") bad[$2, $3]
		if ($4 == "crash" || $4 == "hang") bad["touches", $3] # by chance in one boot only
	}
	function get(state, device, name) { return (state, device, name) in says ? says[state, device, name] : "-" }
	# any, parts, pointers, none
	function hurts(name) {
		if (("touches", name) in bad)
			return arch == "x86_64" && name ~ /hugetlb/ ? 2 : 1
		return ("contains", name) in bad ? 3 : 4
	}
	function row(name) {
		printf "%-40s %-13s %-14s %-13s %-14s %s\n", name,
			get("stock-tests", "contains", name), get("stock-tests", "touches", name),
			get("series", "contains", name), get("series", "touches", name), class[hurts(name)]
	}
	END {
		printf "%-40s %-28s %-28s %s\n", "", "stock", "with the series", "can"
		printf "%-40s %-13s %-14s %-13s %-14s %s\n", "case", "contains", "touches", "contains", "touches", "hurt"
		split("any parts pointers none", class, " ")
		for (k = 1; k <= 4; k++)
			for (i = 1; i <= n; i++)
				if (hurts(order[i]) == k)
					row(order[i])
	}' "$table"
	cat <<-'EOF'

	freed N+M  N pages and M page tables were freed while the device could still reach them
	stale N    N entries allowed what the page table did not
	crash      the kernel crashed
	hang       the case did not end; here, a system call did not return
	imprecise  neither: a range that is too large, a call too many, or one that is late
	pointers   hurts hardware that drops a pointer to a page table only if the range contains all that the
	           table maps; with "touches", the device drops it when the range touches that
	parts      hurts hardware that keeps a part of a huge page when it is told of another part
	any        hurts any hardware that caches translations
	Whether hardware of the first two kinds exists depends on its specification, which was not read for this.
	EOF
}

main() {
	local state device

	[ ! -d "$BASE_DIR" ] || die "the series for Linux $TREE replaces the callback, it does not mend it; give TREE=6.12 or TREE=7.3"
	need_packages "${kernel_packages[@]}"
	only_one found
	steps 5
	say "tree"
	"$scripts/tree/tree.sh"
	identity || :
	lock
	make_tag
	unlock
	mkdir -p "$work" "${table%/*}"
	printf 'state\tdevice\tcase\tkind\tpages\ttables\tstale\n' >"$work/found"
	for state in stock-tests series; do
		say "$state: kernel"
		"$scripts/kernel/build.sh" "$state"
	done
	"$scripts/kernel/initrd.sh" "$initrd"
	for state in stock-tests series; do
		say "$state: boots"
		for device in contains touches; do
			boot "$state" "$device" >>"$work/found"
		done
	done
	atomic "$table" <"$work/found"
	show
	note "$(short "$table") has the same, $(short "$work") the consoles ($(minutes "$SECONDS"))"
}

main
