#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# check.sh TREE: print what is left of invalidate_range(); exit 1 if anything is.
set -eu

tree=${1:?usage: check.sh TREE}
cd "$tree"

# Whole words only. That leaves alone the start and the end of a range, interval
# notifiers and drivers with names of their own, and KVM's flush function
# kvm_arch_mmu_notifier_invalidate_range(), which the series removes.
traces='invalidate_range|only_end'
traces="$traces|(__)?mmu_notifier_invalidate_range(_only_end)?"
traces="$traces|(ptep|pmdp_huge|pudp_huge)_(clear_flush|get_and_clear)_notify"
traces="$traces|(kvm_mmu_notifier|mn|intel|arm_smmu_mm)_invalidate_range"
traces="\\b($traces)\\b|\\bmm/mmu_notifier\\.rst|^ +mmu_notifier\$"

# The directories that are there: TREE may hold a few files only.
there() {
	for dir in Documentation arch drivers fs include kernel lib mm virt; do
		[ ! -d "$dir" ] || echo "$dir"
	done
}

# shellcheck disable=SC2046 # directory names without blanks
set -- $(there)
[ $# -gt 0 ] || { echo "check.sh: $tree: not a kernel tree" >&2; exit 2; }

left=$(LC_ALL=C grep -rnE --exclude-dir=asic_reg --include='*.[ch]' --include='*.rst' --include='*.txt' "$traces" "$@" || true)
[ -n "$left" ] || exit 0
printf '%s\n' "$left" | sed 's/^\([^:]*:[0-9]*:\)[[:space:]]*/\1 /'
exit 1
