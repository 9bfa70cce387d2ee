# SPDX-License-Identifier: GPL-2.0
#
# Each target calls one script. ARCH, KSRC, BUILD and FORCE reach it through the
# environment, or from the command line of make: make tree KSRC=...

.PHONY: help tree refresh series upgrade run test sites mutants amd bench debug check report clean
.NOTPARALLEL:

help:
	@echo 'make tree      build/linux: a git tree of Linux 6.1 with tags stock, base, series'
	@echo 'make refresh   commits made in build/linux come back to series/ and linux/'
	@echo 'make series    build/series: the series as mails, checked with git am'
	@echo 'make upgrade   build/upgrade.patch: for an unmodified 6.1, checked with patch'
	@echo 'make run       build the kernel and run the demonstration'
	@echo 'make test      run the tests'
	@echo 'make sites     each CPU TLB flush: how secondary TLBs are told, and what tests it'
	@echo 'make mutants   faults in the kernel, one at a time: which test finds it'
	@echo 'make amd       commands of the AMD IOMMUv2 driver, stock and series'
	@echo 'make bench     what the callback costs, base, stock and series'
	@echo 'make debug     wrong uses of the callback: does the kernel report them?'
	@echo 'make check     each patch by itself: builds, boots, warnings, four architectures'
	@echo 'make report    build/report/index.html: a page with pictures of all of this'
	@echo 'make clean     remove build/'
	@echo
	@echo 'KSRC=   another 6.1.y source, a directory or a tarball; ARCH= another architecture'
	@echo 'BUILD=  another place to build; FORCE=1 drops what would be lost otherwise'

tree:
	@scripts/tree.sh

refresh:
	@scripts/refresh.sh

series:
	@scripts/export.sh series

upgrade:
	@scripts/export.sh upgrade

run:
	@scripts/run.sh

test:
	@scripts/test.sh

sites:
	@scripts/tree.sh
	@scripts/reach.sh
	@scripts/sites.sh

mutants:
	@scripts/mutants.sh

amd:
	@scripts/amd.sh

bench:
	@scripts/bench.sh

debug:
	@scripts/debug.sh

check:
	@scripts/check.sh

report:
	@scripts/report.sh

clean:
	@scripts/tree.sh clean
