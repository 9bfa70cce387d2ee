#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# drivers.sh [amd|vtd|smmu...]
#
# What flushes cost the IOMMU drivers, stock against the series, as a table and in
# build/report/drivers.tsv. The same cases of the suite of each driver run in both kernels
# on QEMU's IOMMU, with some devices, and decode the commands that the driver wrote; at
# last, the IOMMU stops for 5 s. Stock gets the suites, and nothing else: the tag
# stock-drivers of build/linux. If some drivers are named, the table is of these.
#
# amd     AMD IOMMUv2, on x86-64
# vtd     SVM of VT-d, on x86-64. Stock refuses iommu_sva_bind_device() there, so the suite
#         goes directly to the driver
# smmu    SVA of SMMUv3, on arm64
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

work=$BUILD/drivers
report=$BUILD/report/drivers.tsv
stock="stock-drivers"
all_drivers="amd vtd smmu"

# describe DRIVER: where it is and how it is run; numbers are of devices
describe() {
	case $1 in
	amd)
		title="AMD IOMMUv2" arch=x86_64 numbers="1 2 4" machine=-a arguments=iommu=pt
		dir=drivers/iommu/amd driver=iommu_v2.c suite=iommu_v2_test.c kconfig=drivers/iommu/amd/Kconfig
		cases=amd_iommu_v2.v2_what_
		;;
	vtd) # the queue can show no more
		title="VT-d SVM" arch=x86_64 numbers="1 2" machine=-v arguments=
		dir=drivers/iommu/intel driver=svm.c suite=svm_test.c kconfig=drivers/iommu/intel/Kconfig
		cases=intel_svm.vt_what_
		;;
	smmu)
		title="SMMUv3 SVA" arch=arm64 numbers="1 2" machine=-a arguments=
		dir=drivers/iommu/arm/arm-smmu-v3 driver=arm-smmu-v3-sva.c suite=arm-smmu-v3-test.c kconfig=drivers/iommu/Kconfig
		cases=arm_smmu_v3_sva.v3_what_
		;;
	*) die "'$1' is no driver; give some of $all_drivers, or none for all" ;;
	esac
}

# What the suites call and stock does not have, or refuses; the cases that run do not notice.
shim() {
	case $1 in
	amd)
		cat <<-'END'
		static int amd_iommu_flush_range(struct iommu_domain *dom, u32 pasid,
						 u64 address, size_t size)
		{
			return size > PAGE_SIZE ? amd_iommu_flush_tlb(dom, pasid) :
						  amd_iommu_flush_page(dom, pasid, address);
		}
		#define amd_iommu_add_in_memory(iommu)	do { } while (0)
		#define amd_iommu_remove_in_memory(iommu)	do { } while (0)
		END
		;;
	vtd)
		cat <<-'END'
		static struct iommu_sva *stock_bind(struct device *dev, struct mm_struct *mm)
		{
			struct iommu_sva *sva = iommu_sva_bind_device(dev, mm, NULL);

			pr_info("stock binds: %d\n", PTR_ERR_OR_ZERO(sva));
			return intel_svm_bind(dev, mm, NULL);
		}

		#define iommu_sva_bind_device(dev, mm, data)	stock_bind(dev, mm)
		END
		;;
	esac
	cat <<-'END'
	#define mmu_notifier_invalidate_mm(mm)	mmu_notifier_invalidate_range(mm, 0, TASK_SIZE)
	#define mm_has_secondary_tlb(mm)	false
	#define mm_device_pgd(mm)		((mm)->pgd)
	#define pci_is_quarantined(pdev)	false
	END
}

# --- stock with the suites ------------------------------------------------

# The commit in the series that adds a suite has its Kconfig option, too.
add_suite() {
	local adds title arch numbers machine arguments dir driver suite kconfig cases

	describe "$1"
	adds=$(tgit log -1 --format=%H --diff-filter=A base..series -- "$dir/$suite")
	[ -n "$adds" ] || die "no commit of the series adds $dir/$suite"
	tgit diff "$adds^" "$adds" -- "$kconfig" | tgit apply --cached ||
		die "the option of the suite does not fit stock's $kconfig"
	tgit show "series:$dir/$suite" | index_file "$dir/$suite"
	{
		tgit show "stock:$dir/$driver"
		tgit diff "$adds^" "$adds" -- "$dir/$driver" | sed -n 's/^+\(#if.*KUNIT.*\)/\n\1/p'
		shim "$1"
		printf '#include "%s"\n#endif\n' "$suite"
	} | index_file "$dir/$driver"
}

make_stock() {
	local name

	begin_index stock
	for name in $all_drivers; do
		add_suite "$name"
	done
	commit_index "$stock" stock "stock with the suites of the IOMMU drivers"
}

# --- boots ----------------------------------------------------------------

# run STATE DRIVER DEVICES: its rows
run() {
	local log=$work/$1.$2.$3.log status=0

	# shellcheck disable=SC2086 # one word per argument
	"$scripts/kernel/boot.sh" -k "$(kernel_dir "$1")/vmlinux" -o "$log" "$machine" "$3" -t 240 $arguments \
		"kunit.filter_glob=$cases*" || status=$?
	# The cases print; what they check is for the series.
	[ "$status" -le 1 ] || die "$1 does not run $cases* with $3 devices; the message is above"
	sed -nE "s/^.*# ${cases#*.}[a-z_]*: row\t//p" "$log" | awk -F '\t' -v OFS='\t' -v state="$1" -v driver="$2" '
	$2 ~ /^[0-9]+$/ { print state, driver, $0 }'
}

# In a shell of its own: another architecture for another driver.
measure() (
	describe "$1"
	for state in $stock series; do
		ARCH=$arch "$scripts/kernel/build.sh" "$state" >&2
	done
	for n in $numbers; do
		for state in $stock series; do
			note "$title, $n devices: $state"
			run "$state" "$1" "$n"
		done
	done
)

# --- table ----------------------------------------------------------------

# state, driver, operation, devices, commands, waits, changed, flushed, left, ms -> one line with both
join_states() {
	awk -F '\t' -v OFS='\t' -v stock="$stock" '
	BEGIN {
		print "driver", "operation", "devices", "stock_commands", "commands", "stock_waits", "waits", "pages_changed", \
			"stock_pages_flushed", "pages_flushed", "stock_left_of_1024", "left_of_1024", "stock_ms", "ms"
	}
	{ key = $2 SUBSEP $3 SUBSEP $4 }
	$1 == stock {
		c[key] = $5
		w[key] = $6
		f[key] = $8
		l[key] = $9
		ms[key] = $10
		next
	}
	key in c { print $2, $3, $4, c[key], $5, w[key], $6, $7, f[key], $8, l[key], $9, ms[key], $10 }'
}

# Pages flushed for each page changed, what a warm TLB keeps, and how long an IOMMU that
# has stopped is waited for.
table() {
	awk -F '\t' '
	function per(pages, changed) {
		ratio = pages / changed
		return ratio > 9999 ? "all" : sprintf(ratio == int(ratio) ? "%d" : "%.1f", ratio)
	}
	NR == 1 { next }
	$1 != driver {
		driver = $1
		form = "%-28s %7s  %9s %9s  %9s %9s  %9s %9s\n"
		printf "\n" form, driver, "", "commands", "waits", "flushed", "per page", "left of", "1024"
		printf form, "operation", "devices", "stock", "ours", "stock", "ours", "stock", "ours"
	}
	$13 + $14 {
		printf "%-28s %7d  %9s %9s  waited for: %d ms, ours %d ms\n", $2, $3, $4 "/" $6, $5 "/" $7, $13, $14
		next
	}
	{
		printf "%-28s %7d  %9s %9s  %9s %9s  %9s %9s\n", $2, $3, $4 "/" $6, $5 "/" $7, per($9, $8), per($10, $8), $11, $12
	}' "$report"
}

# The rows of the series would not be there if it refused, too.
refusal() {
	local error

	error=$(sed -n 's/^.*stock binds: //p' "$work/$stock.vtd.1.log" 2>/dev/null | sort -u)
	[ -z "$error" ] || echo "VT-d: iommu_sva_bind_device() in stock returns $error. In the series it works; the rows are from it."
}

# In which rows the series is the worse one.
worse() {
	awk -F '\t' 'NR > 1 && ($5 > $4 || $7 > $6 || $10 > $9 || $12 < $11) { print "  " $1 ": " $2 ", " $3 " devices" }' "$report"
}

names=("$@")
[ $# -gt 0 ] || read -r -a names <<<"$all_drivers"
for name in "${names[@]}"; do
	(describe "$name")
done
only_one drivers
steps $((${#names[@]} + 2))
say "packages, kernel source"
need_packages "${kernel_packages[@]}"
"$scripts/tree/tree.sh"
identity || :
make_stock
mkdir -p "$work" "$BUILD/report"
for name in "${names[@]}"; do
	say "$(describe "$name" && echo "$title"): kernels, boots"
	measure "$name" >"$work/$name.rows"
done
(cd "$work" && cat "${names[@]/%/.rows}") | join_states | atomic "$report"
say "table"
table
echo
refusal
worse >"$work/worse"
if [ -s "$work/worse" ]; then
	echo "More than stock in these rows:"
	cat "$work/worse"
else
	echo "No row has more commands, waits or flushed pages than stock, or less left."
fi
echo "$(short "$report") has the table. This took $(minutes "$SECONDS")."
