#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# vtd.sh: what flushes of SVM cost the VT-d driver, stock against the series, as a table
# and in build/report/vtd.tsv.
#
# The same case of the suite intel_svm runs in both kernels on QEMU's IOMMU, with 1 and 2 devices, and
# decodes the commands that the driver wrote. Stock gets the suite, and nothing else: the tag stock-vtd of
# build/linux. As it refuses iommu_sva_bind_device() on x86, the suite goes directly to its driver there.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

name=vtd
suite=drivers/iommu/intel/svm_test.c
driver=drivers/iommu/intel/svm.c
kconfig=drivers/iommu/intel/Kconfig
cases=intel_svm.vt_what_it_costs
machine=-v
numbers="1 2" # of devices; the queue can show no more
arguments=

# What the suite calls and stock does not have, or refuses; the case that runs does not notice.
shim() {
	cat <<-'END'

	#ifdef CONFIG_INTEL_IOMMU_SVM_KUNIT_TEST
	static bool mm_has_secondary_tlb(struct mm_struct *mm)
	{
		return false;
	}

	static pgd_t *mm_device_pgd(struct mm_struct *mm)
	{
		return mm->pgd;
	}

	#define iommu_sva_bind_device(dev, mm, data)	intel_svm_bind(dev, mm, data)

	#include "svm_test.c"
	#endif
	END
}

# shellcheck source=scripts/measure/commands.sh
. "$(dirname "$0")/commands.sh"

[ $# = 0 ] || die "usage: vtd.sh"
main
