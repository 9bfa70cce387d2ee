# shellcheck shell=bash disable=SC2154 # who sources it has set them
# SPDX-License-Identifier: GPL-2.0
#
# Sourced, after lib.sh and kernel.sh, by amd.sh and vtd.sh: what the commands of an IOMMU's driver
# are in stock and in the series, as a table. The same case of the suite of that driver runs in both
# kernels on QEMU's IOMMU, and decodes the commands that the driver wrote. Stock gets the suite, and
# nothing else: a tag of build/linux.
#
# name       of the report, build/report/NAME.tsv, and of the tag, stock-NAME
# suite, driver, kconfig   files in the kernel; the driver includes the suite
# shim       a function that prints what the driver gets at its end
# cases      SUITE.CASE, the one that prints the rows
# machine    the option of boot.sh that takes a number of devices, and numbers, which these are
# arguments  of the kernel

work=$BUILD/$name
report=$BUILD/report/$name.tsv
stock=stock-$name

# --- stock with the suite -------------------------------------------------

# The commit in the series that adds the suite has its Kconfig option, too.
make_stock() {
	local adds

	adds=$(tgit log -1 --format=%H --diff-filter=A base..series -- "$suite")
	[ -n "$adds" ] || die "no commit of the series adds $suite"
	begin_index stock
	tgit diff "$adds^" "$adds" -- "$kconfig" | tgit apply --cached ||
		die "the option of the suite does not fit stock's $kconfig"
	tgit show "series:$suite" | index_file "$suite"
	{
		tgit show "stock:$driver"
		shim
	} | index_file "$driver"
	commit_index "$stock" stock "stock with the suite ${cases%.*}"
}

# --- boots ----------------------------------------------------------------

# run STATE DEVICES: its rows
run() {
	local log=$work/$1.$2.log status=0

	# shellcheck disable=SC2086 # one word per argument
	"$scripts/kernel/boot.sh" -k "$(kernel_dir "$1")/vmlinux" -o "$log" "$machine" "$2" -t 240 $arguments \
		"kunit.filter_glob=$cases" || status=$?
	# The case prints; what it checks is for the series.
	[ "$status" -le 1 ] || die "$1 does not run $cases with $2 devices; the message is above"
	sed -nE "s/^.*# ${cases#*.}: row\t//p" "$log" | awk -F '\t' -v OFS='\t' -v state="$1" '$2 ~ /^[0-9]+$/ { print state, $0 }'
}

rows() {
	local n state

	for n in $numbers; do
		for state in $stock series; do
			run "$state" "$n"
		done
	done
}

# --- table ----------------------------------------------------------------

# state, operation, devices, commands, waits, changed, flushed, left -> one line with both
join_states() {
	awk -F '\t' -v OFS='\t' -v stock="$stock" '
	BEGIN {
		print "operation", "devices", "stock_commands", "commands", "stock_waits", "waits", \
			"pages_changed", "stock_pages_flushed", "pages_flushed", "stock_left_of_1024", "left_of_1024"
	}
	$1 == stock {
		c[$2, $3] = $4
		w[$2, $3] = $5
		f[$2, $3] = $7
		l[$2, $3] = $8
		next
	}
	($2, $3) in c {
		k = $2 SUBSEP $3
		print $2, $3, c[k], $4, w[k], $5, $6, f[k], $7, l[k], $8
	}'
}

# Pages flushed for each page changed, and what a warm device TLB keeps.
table() {
	awk -F '\t' '
	function per(pages, changed) {
		ratio = pages / changed
		return ratio > 9999 ? "all" : sprintf(ratio == int(ratio) ? "%d" : "%.1f", ratio)
	}
	NR == 1 {
		form = "%-24s %7s  %9s %9s  %9s %9s  %9s %9s\n"
		printf form, "", "", "commands", "waits", "flushed", "per page", "left of", "1024"
		printf form, "operation", "devices", "stock", "ours", "stock", "ours", "stock", "ours"
		next
	}
	{
		printf "%-24s %7d  %9s %9s  %9s %9s  %9s %9s\n", $1, $2, $3 "/" $5, $4 "/" $6, per($8, $7), per($9, $7), $10, $11
	}' "$report"
}

# In which rows the series is the worse one.
worse() {
	awk -F '\t' 'NR > 1 && ($4 > $3 || $6 > $5 || $9 > $8 || $11 < $10) { print "  " $1 ", " $2 " devices" }' "$report"
}

main() {
	only_one "$name"
	steps 5
	say "packages, kernel source"
	need_packages "${kernel_packages[@]}"
	"$scripts/tree/tree.sh"
	identity || :
	make_stock
	say "kernel of the series"
	"$scripts/kernel/build.sh" series
	say "stock with the suite"
	"$scripts/kernel/build.sh" "$stock"
	say "boots, with $numbers devices"
	mkdir -p "$work" "$BUILD/report"
	rows >"$work/rows"
	join_states <"$work/rows" | atomic "$report"
	say "table"
	echo
	table
	echo
	worse >"$work/worse"
	if [ -s "$work/worse" ]; then
		echo "More than stock in these rows:"
		cat "$work/worse"
	else
		echo "No row has more commands, waits or flushed pages than stock, or less left."
	fi
	echo "$(short "$report") has the table. This took $(minutes "$SECONDS")."
}
