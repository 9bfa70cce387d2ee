#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# reach.sh: which tests execute the TLB flush sites in the kernel of the series.
#
# The sites are those of sites.sh, with file and line. The line numbers of the
# compiler say which call instructions of vmlinux belong to a site, QEMU which of
# them came back while a test ran. Writes build/report/reach.tsv: file, line, tests; with
# "not built" for a site that the configuration leaves out, and "-" for one that no
# test has executed.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

kernel=$BUILD/kernels/series/vmlinux
work=$BUILD/reach
report=$BUILD/report/reach.tsv
sites=$BUILD/report/sites.tsv
initrd=$BUILD/guest/initrd-$arch.cpio

# address, address behind it, of each call of something that may have to do with TLBs
calls() {
	objdump -d --no-show-raw-insn "$kernel" | awk '
	call { print call, substr($1, 1, length($1) - 1) }
	{ call = "" }
	$2 == "call" && $NF ~ /tlb|clear_flush|p[mu]dp_|ptep_|mmu_notifier|unshare/ {
		call = substr($1, 1, length($1) - 1)
	}'
}

# address, then file:line of the call, and of each inlined function that it is in
lines() {
	addr2line -a -i -e "$kernel.debug" | awk '
	/^0x/ {
		if (NR > 1)
			print line
		line = substr($0, 3)
		next
	}
	{
		sub(/ \(discriminator.*/, "")
		sub(/^.*\/\.\.\/source\//, "")
		line = line " " $0
	}
	END { print line }'
}

# address behind the call, file:line, of the calls that belong to sites. A flush that is no
# call, such as one that is deferred, has that of the callback, which comes next.
places() {
	calls >"$work/calls"
	cut -d ' ' -f 1 "$work/calls" | lines >"$work/lines"
	awk '
	FILENAME == ARGV[1] {
		if (split($0, f, "\t") > 1 && f[2] ~ /^[0-9]+$/) {
			site[f[1] ":" f[2]] = 1
			if (f[5] == "call")
				for (i = 1; i <= 10; i++)
					before[f[1] ":" f[2] + i] = f[1] ":" f[2]
		}
		next
	}
	FILENAME == ARGV[2] {
		behind[$1] = $2
		next
	}
	{
		for (i = 2; i <= NF; i++)
			if ($i in site)
				print behind[$1], $i
			else if ($i in before && $2 ~ /^include\/linux\/mmu_notifier.h:/)
				print behind[$1], before[$i]
	}' "$sites" "$work/calls" "$work/lines" | sort -u
}

# boot NAME [ARGUMENT OF boot.sh...]
boot() {
	local log=$work/$1.log status=0

	shift
	"$scripts/kernel/boot.sh" -k "$kernel" -o "$log" -x "$work/addresses" "$@" || status=$?
	# With 1, tests have failed: what they executed, they did.
	[ "$status" -le 1 ] || exit "$status"
	cat "$log.executed" >>"$work/executed"
}

# All suites, also those of the AMD and VT-d drivers, which need machines of their own, and the selftest.
boots() {
	cut -d ' ' -f 1 "$work/places" | sort -u >"$work/addresses"
	: >"$work/executed"
	boot boot -i "$initrd" -a 2 -t 400 iommu=pt 'kunit.filter_glob=[am]m[du]_[in]o*'
	boot vtd -v 1 -t 240 'kunit.filter_glob=intel_svm*'
}

# file, line, tests
table() {
	printf 'file\tline\ttests\n'
	awk -F '\t' -v OFS='\t' '
	FILENAME == ARGV[1] {
		split($0, f, " ")
		tests[f[1]] = tests[f[1]] (tests[f[1]] ? "," : "") f[3]
		next
	}
	FILENAME == ARGV[2] {
		split($0, f, " ")
		built[f[2]] = 1
		n = split(tests[f[1]], t, ",")
		for (i = 1; i <= n; i++)
			if (!((f[2], t[i]) in seen)) {
				seen[f[2], t[i]] = 1
				by[f[2]] = by[f[2]] (by[f[2]] ? "," : "") t[i]
			}
		next
	}
	$2 ~ /^[0-9]+$/ {
		where = $1 ":" $2
		print $1, $2, !(where in built) ? "not built" : where in by ? by[where] : "-"
	}' "$work/executed" "$work/places" "$sites"
}

[ $# = 0 ] || die "usage: reach.sh"
need_packages "${kernel_packages[@]}"
need_commands objdump addr2line awk
only_one reach
mkdir -p "$work" "$BUILD/report"
"$scripts/kernel/build.sh" series
"$scripts/kernel/initrd.sh" "$initrd"
"$scripts/prove/sites.sh" >"$work/table"
places >"$work/places"
[ -s "$work/places" ] || die "no call in $(short "$kernel") belongs to a site of $sites; do the line numbers fit?"
boots
table | atomic "$report"
