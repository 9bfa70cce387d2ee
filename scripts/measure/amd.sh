#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# amd.sh: what flushes cost the AMD IOMMUv2 driver, stock against the series, as a table
# and in build/report/amd.tsv.
#
# The same case of the suite amd_iommu_v2 runs in both kernels on QEMU's IOMMU, with 1, 2
# and 4 devices, and decodes the commands that the driver wrote. Stock gets the suite, and
# nothing else: the tag stock-amd of build/linux.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

name=amd
suite=drivers/iommu/amd/iommu_v2_test.c
driver=drivers/iommu/amd/iommu_v2.c
kconfig=drivers/iommu/amd/Kconfig
cases=amd_iommu_v2.v2_what_it_costs
machine=-a
numbers="1 2 4" # of devices
arguments=iommu=pt

# What the suite calls and stock does not have; the case that runs does not.
shim() {
	cat <<-'END'

	#ifdef CONFIG_AMD_IOMMU_V2_KUNIT_TEST
	static bool mm_has_secondary_tlb(struct mm_struct *mm)
	{
		return false;
	}

	static pgd_t *mm_device_pgd(struct mm_struct *mm)
	{
		return mm->pgd;
	}

	static int amd_iommu_flush_range(struct iommu_domain *dom, u32 pasid,
					 u64 address, size_t size)
	{
		return size > PAGE_SIZE ? amd_iommu_flush_tlb(dom, pasid) :
					  amd_iommu_flush_page(dom, pasid, address);
	}

	#include "iommu_v2_test.c"
	#endif
	END
}

# shellcheck source=scripts/measure/commands.sh
. "$(dirname "$0")/commands.sh"

[ $# = 0 ] || die "usage: amd.sh"
main
