# SPDX-License-Identifier: GPL-2.0
#
# Each target calls one script. TREE, ARCH, KSRC, M, BUILD and FORCE reach it through the
# environment, or from the command line of make: make tree KSRC=...

.PHONY: help tree refresh series upgrade run test found fuzz shell module sites mutants drivers kvm bench debug check model workload report clean
.NOTPARALLEL:

help:
	@echo 'make run       the demonstration, in QEMU                          scripts/prove/demo.sh'
	@echo 'make test      the tests                                           scripts/prove/test.sh'
	@echo
	@echo 'make tree      build/linux: Linux as a git tree, with the series   scripts/tree/tree.sh'
	@echo 'make refresh   commits made there come back to trees/ and linux/   scripts/tree/refresh.sh'
	@echo 'make series    build/series: the series as mails                   scripts/tree/export.sh'
	@echo 'make upgrade   build/upgrade.patch: for an unmodified kernel       scripts/tree/export.sh'
	@echo
	@echo 'make shell     a shell in the kernel with the series               scripts/kernel/shell.sh'
	@echo 'make module    build a driver of your own against it, M=DIR        scripts/kernel/module.sh'
	@echo
	@echo 'make found     what the tests find in a kernel as it is, TREE=7.3  scripts/prove/found.sh'
	@echo 'make sites     CPU TLB flushes, and which tests execute them       scripts/prove/reach.sh'
	@echo 'make mutants   faults in the kernel: which test finds each         scripts/prove/mutants.sh'
	@echo 'make fuzz      random operations, and a device that watches         scripts/prove/fuzz.sh'
	@echo 'make debug     a kernel that complains: lockdep and others         scripts/prove/debug.sh'
	@echo 'make check     each patch by itself, on four architectures         scripts/prove/check.sh'
	@echo 'make workload  mm selftests of the kernel, and stress-ng           scripts/prove/workload.sh'
	@echo 'make model     the argument about gathers that meet, by Spin       scripts/prove/model.sh'
	@echo 'make drivers   commands of the AMD, VT-d and SMMUv3 drivers        scripts/measure/drivers.sh'
	@echo 'make kvm       the APIC access page of KVM on VMX, in Bochs        scripts/prove/kvm.sh'
	@echo 'make bench     what the callback costs                             scripts/measure/bench.sh'
	@echo 'make report    all of this as a page with pictures                 scripts/report/report.sh'
	@echo 'make clean     remove build/                                       scripts/tree/tree.sh'
	@echo
	@echo 'TREE=   which kernel: 6.1 (the default), 6.12, 7.3'
	@echo 'KSRC=   another source of it: a directory, a tarball, a version of Debian such as 6.1.187-1'
	@echo 'SECONDS=, SEED=, UNTIL=, THREADS=, DEBUG=debug   of make fuzz; scripts/prove/fuzz.sh says more'
	@echo 'SOURCE=1   of make mutants: in the source, not in the binary            scripts/prove/source-mutants.sh'
	@echo 'ARCH=   another architecture; BUILD= another place; FORCE=1 drops what would be lost otherwise'

tree:
	@scripts/tree/tree.sh

refresh:
	@scripts/tree/refresh.sh

series:
	@scripts/tree/export.sh series

upgrade:
	@scripts/tree/export.sh upgrade

run:
	@scripts/prove/demo.sh

test:
	@scripts/prove/test.sh

found:
	@scripts/prove/found.sh

# bash has a use of its own for SECONDS.
fuzz: export MAKE_SECONDS := $(SECONDS)
fuzz:
	@unset SECONDS; FUZZ_SECONDS="$${FUZZ_SECONDS:-$$MAKE_SECONDS}" scripts/prove/fuzz.sh

shell:
	@scripts/kernel/shell.sh

module:
	@scripts/kernel/module.sh

sites:
	@scripts/tree/tree.sh
	@scripts/prove/reach.sh
	@scripts/prove/sites.sh

mutants:
	@scripts/prove/$(if $(SOURCE),source-)mutants.sh

drivers:
	@scripts/measure/drivers.sh

kvm:
	@scripts/prove/kvm.sh

bench:
	@scripts/measure/bench.sh

debug:
	@scripts/prove/debug.sh

check:
	@scripts/prove/check.sh

model:
	@scripts/prove/model.sh

workload:
	@scripts/prove/workload.sh

report:
	@scripts/report/report.sh

clean:
	@scripts/tree/tree.sh clean
