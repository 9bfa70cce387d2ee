#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh: all tests, from an empty machine. A step that fails does not stop the
# others. The last line is "N passed, N failed", or "N passed, N failed, N skipped".
#
# scripts  the scripts on hostile input
# sites    each CPU TLB flush is told to secondary TLBs, or exempt; the census finds what is not
# base     stock without the callback: nothing is left of it, builds, boots
# kunit    the series builds without warnings; its suites and its selftest in QEMU; with page
#          table isolation, and with five levels of page tables
# reach    each site that is told was executed by a test
# amd      the suite of the AMD IOMMUv2 driver, on QEMU's IOMMU
# vtd      the suite of SVM with VT-d, on that of a newer QEMU, and with iommu.sva=0
# control  the same kernel without its calls: each case of mmu_notifier_sites fails
# mutants  one fault at a time in the kernel: a case fails (make mutants has more of them)
# source   ten faults in its source, others with each day of the last commit (make mutants SOURCE=1 has all); only if TEST_ONLY names it
# fuzz     a minute of random operations, always the same ones; only if TEST_ONLY names it
# shell    make shell and make module, as somebody types them
# exports  series and upgrade apply, checkpatch is content, the documentation builds
# newer    the step kunit for Linux 7.3
# arm64    the step smmu of ARCH=arm64
# powerpc  the step ocxl of ARCH=powerpc
#
# With TREE=6.12 and 7.3, which have no base: kunit, control, exports, and
# found    stock with the tests beside the series: nothing is freed in reach, nothing is stale
# flushes  the semantic patch of 7.3 reports functions of stock, and none of the series
# A case that only shows imprecision which the series does not mend is skipped: trees/TREE/imprecise.
#
# With ARCH=arm64: kunit, once more with contiguous hugetlb pages, control, and
# smmu     the suites of the SMMUv3 driver, on QEMU's SMMU; where there is no base, the suite whose queue is memory, and found
# With ARCH=riscv: kunit and control. With ARCH=powerpc: kunit, control, and
# ocxl     the suite of the OpenCAPI driver, whose link is memory; where there is no base, found, too
# A kernel whose series has no tests yet: boots, the kernel builds and boots.
#
# TEST_ONLY="STEP..." runs only these, in that order. Each takes what it needs from git and from what it
# builds itself, so the order does not matter, and none needs another.
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

kernel=$(kernel_dir series)/vmlinux
initrd=$BUILD/guest/initrd-$arch.cpio
work=$BUILD/test-$arch
more_steps=fuzz
case $arch in
arm64)
	all_steps="kunit smmu control"
	[ -d "$BASE_DIR" ] || all_steps="kunit smmu found control"
	;;
riscv) all_steps="kunit control" ;;
powerpc)
	all_steps="kunit ocxl control"
	[ -d "$BASE_DIR" ] || all_steps="kunit ocxl found control"
	;;
*)
	work=$BUILD/test
	all_steps="scripts sites base kunit reach amd vtd control mutants shell exports"
	[ "$BUILD" != "$STORE" ] || all_steps="$all_steps newer arm64 powerpc"
	if [ -d "$BASE_DIR" ]; then more_steps="fuzz source"; else all_steps="kunit found control flushes exports"; fi
	;;
esac
has_tests=$(series_names | grep -x tests || :)
[ -n "$has_tests" ] || all_steps=boots
sites=mmu_notifier_sites

# --- results --------------------------------------------------------------

# result ok|"not ok"|skip TEXT
result() {
	echo "$1 - $2" | tee -a "$results"
}

# attempt TEXT COMMAND...
attempt() {
	local text=$1

	shift
	if "$@"; then
		result ok "$text"
	else
		result "not ok" "$text"
	fi
}

# first_error FILE
first_error() {
	sed -n 's/^error: //p' "$1" | head -n 1
}

# Without the kernel there is nothing to judge.
built() {
	"$scripts/kernel/build.sh" "$1" && return
	result "not ok" "$1 builds"
	return 1
}

# What runs in user space.
guest() {
	"$scripts/kernel/initrd.sh" "$initrd" && return
	result "not ok" "the guest's user space builds"
	return 1
}

no_warnings() {
	local file

	file=$(kernel_dir "$1")/warnings
	[ ! -s "$file" ] || { head -n 5 "$file" >&2; return 1; }
}

# --- prepare --------------------------------------------------------------

step_prepare() {
	need_packages "${kernel_packages[@]}" bsdextrautils gnuplot-nox libxml2-utils python3-sphinx busybox-static expect procps
	result ok "packages are there"
	attempt "the tree has stock, base and series" "$scripts/tree/tree.sh"
	[ ! -f "$BUILD/moved.tsv" ] || note "$(short "$BUILD")/moved.tsv lists the patches that were merged"
}

# --- scripts --------------------------------------------------------------

# Scripts that print "ok - ..." and "not ok - ..." lines, and at the end their numbers.
script_tests="test-tree.sh test-boot.sh test-mutants.sh test-measure.sh test-check.sh test-fuzz.sh"

# In a process of its own: they run at the same time.
script_test() {
	"$scripts/tests/$1" >"$work/$1.log" 2>&1 || :
}

# Failures are shown with what follows them.
count_script() {
	local name=$1 log=$work/$1.log passed failed

	grep -aE '^(not )?ok - ' "$log" >>"$results" || :
	awk '/^(not )?ok - / { shown = /^not/ } shown' "$log"
	passed=$(grep -ac '^ok - ' "$log" || :)
	failed=$(grep -ac '^not ok - ' "$log" || :)
	attempt "$name came to its end: $passed passed, $failed failed" \
		[ "$(tail -n 1 "$log")" = "$passed passed, $failed failed" ]
}

step_scripts() {
	local name

	# shellcheck disable=SC2086 # one word per script
	printf '%s\n' $script_tests | xargs -L 1 -P 2 "$scripts/prove/test.sh" script_test
	for name in $script_tests; do
		count_script "$name"
	done
}

# --- sites ----------------------------------------------------------------

says_nothing() {
	local says=$work/says

	"$@" >"$says" 2>&1 && [ ! -s "$says" ] && return
	cat "$says" >&2
	return 1
}

# Two runs of the census: once per tree and scripts.
census_test() {
	local log=$work/test-sites.sh.log id

	id=$({
		state_tree series
		cat "$scripts"/prove/sites.sh "$scripts"/tests/test-{sites,lib}.sh
	} | sha256sum)
	[ "$(cat "$work/census.stamp" 2>/dev/null)" != "$id" ] || [ ! -f "$log" ] || return 0
	script_test test-sites.sh
	grep -q '^not ok' "$log" || atomic "$work/census.stamp" <<<"$id"
}

step_sites() {
	attempt "each CPU TLB flush is told to secondary TLBs, or exempt" says_nothing "$scripts/prove/sites.sh" check
	census_test
	count_script test-sites.sh
}

# --- base -----------------------------------------------------------------

# Reads all of the tree: once per base.
base_is_clean() {
	local stamp=$work/base.clean id

	id=$({
		state_tree base
		sha256sum <"$BASE_DIR/check.sh"
	})
	[ "$(cat "$stamp" 2>/dev/null)" != "$id" ] || return 0
	(take_source base && "$BASE_DIR/check.sh" "$source" >&2) && atomic "$stamp" <<<"$id"
}

# Without the test's own option, KUnit has nothing to run.
base_boots() {
	"$scripts/kernel/boot.sh" -k "$BUILD/kernels/base/vmlinux" -o "$work/base.log" &&
		grep -qx '1\.\.0' "$work/base.log"
}

step_base() {
	attempt "base has no trace of the callback" base_is_clean
	built base || return 0
	attempt "base builds without warnings" no_warnings base
	attempt "base boots, runs no test, powers off" base_boots
}

# --- kunit ----------------------------------------------------------------

# boot KERNEL LOG FILTER [ARGUMENT OF boot.sh...]: its status, with the messages in
# LOG.says
boot() {
	local kernel=$1 log=$2 filter=$3

	shift 3
	# shellcheck disable=SC2046 # one word per argument
	"$scripts/kernel/boot.sh" -k "$kernel" -o "$log" "$@" $(tree_says arguments) "kunit.filter_glob=$filter" 2>"$log.says"
}

# The kernel's own parser, for people to read.
summary() {
	export_files series "$work/kunit" tools/testing/kunit
	PYTHONDONTWRITEBYTECODE=1 python3 "$work/kunit/tools/testing/kunit/kunit.py" parse "$1"
}

# The cases that may fail here if they show nothing worse: name, tab, reason
imprecise_here() {
	[ ! -f "$TREE_DIR/imprecise" ] ||
		awk -F '\t' -v OFS='\t' -v arch="$arch" '!/^#/ && NF > 1 && ($3 == "" || $3 == arch) { print $1, $2 }' "$TREE_DIR/imprecise"
}

# imprecise LOG CASE: why it may fail, if it shows nothing worse
imprecise() {
	awk -f "$scripts/prove/findings.awk" "$1" | awk -F '\t' -v name="$2" '
	NR == FNR { kind[$1] = $2; next }
	$1 == name && kind[name] == "imprecise" { print $2; exit }' - <(imprecise_here)
}

report_cases() {
	local suite verdict name reason

	while IFS=$'\t' read -r suite verdict name reason; do
		[ "$verdict" != fail ] || reason=$(imprecise "$1" "$name")
		case $verdict:$reason in
		pass:*) echo "ok - $suite: $name" >>"$results" ;;
		skip:*) result skip "$suite: $name: ${reason:-no reason given}" ;;
		fail:?*) result skip "$suite: $name: imprecise: $reason" ;;
		*) result "not ok" "$suite: $name" ;;
		esac
	done <"$1.cases"
}

# run_suites LOG SUITE FILTER [ARGUMENT OF boot.sh...]: SUITE has to be among them
run_suites() {
	local log=$1 suite=$2 status=0

	shift 2
	boot "$kernel" "$log" "$@" || status=$?
	if [ -n "$(imprecise_here)" ]; then
		summary "$log" || :
	else
		attempt "kunit.py finds no failure" summary "$log"
	fi
	if [ "$status" = 2 ]; then
		cat "$log.says" >&2
		result "not ok" "the kernel runs the suites: $(first_error "$log.says")"
	fi
	if [ -f "$log.cases" ]; then
		report_cases "$log"
		attempt "there are cases of $suite" grep -q "^$suite	" "$log.cases"
	fi
}

# The cases about the top level of the page table, which differs. A vmlinux always has four
# levels; a bzImage has what the CPU has.
other_page_tables() {
	local kernel=$kernel

	run_suites "$work/pti.log" mmu_notifier_api mmu_notifier_api pti=on
	attempt "with page table isolation" grep -q 'page tables isolation: enabled' "$work/pti.log"
	kernel=${kernel%vmlinux}bzImage
	run_suites "$work/la57.log" "$sites" 'mmu_notifier_[as]*'
	attempt "with five levels" grep -q 'the page table has 5 levels' "$work/la57.log"
}

# The size of a hugetlb page of contiguous PTEs on arm64: 16 of 4K, or 128 of 16K.
contiguous() {
	if grep -qx CONFIG_ARM64_16K_PAGES=y "${kernel%vmlinux}config"; then
		echo 2M
	else
		echo 64K
	fi
}

step_kunit() {
	built series || return 0
	attempt "the series builds without warnings" no_warnings series
	guest || return 0
	run_suites "$work/kunit.log" "$sites" 'mmu_notifier*' -i "$initrd" "${selftest_boot[@]}"
	attempt "there are cases of the selftest" grep -q '^mmu_notifier_user	' "$work/kunit.log.cases"
	[ "$arch" != x86_64 ] || other_page_tables
	[ "$arch" != arm64 ] || run_suites "$work/hugetlb.log" "$sites" "$sites.mn_hugetlb*" "default_hugepagesz=$(contiguous)"
}

# --- found ----------------------------------------------------------------

# What the series is to mend, and what it leaves as trees/TREE/imprecise says.
step_found() {
	local table name kind

	table=$(found_table)
	if ! "$scripts/prove/found.sh" >"$work/found.out"; then
		result "not ok" "found.sh comes to its end"
		return
	fi
	cat "$work/found.out"
	attempt "stock has what the series mends" grep -qP '^stock-tests\ttouches\t.*\t(freed|stale|crash)\t' "$table"
	awk -F '\t' '$1 == "series" && $2 == "touches" && $4 != "imprecise" { print $3, $4 }' "$table" >"$work/left"
	while read -r name kind; do
		result "not ok" "with the series, $name shows none that is $kind"
	done <"$work/left"
	attempt "with the series, nothing is freed in reach or stale" [ ! -s "$work/left" ]
}

# --- flushes --------------------------------------------------------------

flush_rule=scripts/coccinelle/api/arch_invalidate_secondary_tlbs.cocci

# What it looks at: generic code, and the architectures that make the call.
flush_reports() { # STATE
	local dir=$work/flushes

	export_files "$1" "$dir" mm include/asm-generic arch/{arm64,powerpc,riscv}/{mm,include} arch/x86/{mm,include}
	(cd "$dir" && spatch --very-quiet --no-includes --include-headers -D report --sp-file "$LINUX_DIR/$flush_rule" --dir .) \
		2>"$work/flushes.err" >"$work/flushes.out" || { cat "$work/flushes.err" >&2; return 1; }
	cat "$work/flushes.out"
}

reports_functions() {
	flush_reports "$1" | grep -q WARNING
}

step_flushes() {
	all_patches | claimed_files | grep -qx "$flush_rule" || return 0
	need_packages coccinelle
	attempt "the semantic patch reports functions of stock" reports_functions stock
	attempt "the semantic patch reports nothing of the series" says_nothing flush_reports series
}

# --- reach ----------------------------------------------------------------

# function, flush, place, tests: of the sites that are told
told() {
	awk -F '\t' -v OFS='\t' '
	NR == FNR { tests[$1, $2] = $3; next }
	FNR > 1 && $5 != "exempt" && $5 != "callers" { print $3, $4, $1 ":" $2, tests[$1, $2] }' \
		"$BUILD/report/reach.tsv" "$BUILD/report/sites.tsv"
}

# Why no test can execute this flush, if so.
why_unreached() {
	awk -F '\t' -v name="$1" -v flush="$2" '$1 == name && $2 == flush { print $3; exit }' "$TREE_DIR/sites.unreached"
}

step_reach() {
	local name flush place tests what reason

	built series || return 0
	"$scripts/prove/reach.sh"
	told >"$work/told"
	while IFS=$'\t' read -r name flush place tests; do
		what="$name(): $flush() ($place)"
		reason=$(why_unreached "$name" "$flush")
		case $tests:${reason:+known} in
		-:) result "not ok" "$what is reached by no test" ;;
		-:known) note "$what cannot be reached: $reason" ;;
		"not built":*) note "$what is not in this kernel" ;;
		*) echo "ok - $what is reached by ${tests//,/, }" >>"$results" ;;
		esac
	done <"$work/told"
}

# --- amd ------------------------------------------------------------------

# contains_lines FILE LINES: those of the file LINES, one after the other
contains_lines() {
	awk '
	NR == FNR { wanted[n++] = $0; next }
	{ line[m++] = $0 }
	END {
		for (i = 0; i + n <= m; i++) {
			for (j = 0; j < n && line[i + j] == wanted[j]; j++)
				;
			if (j == n)
				exit 0
		}
		exit 1
	}' "$2" "$1"
}

# What the case that shows its commands has decoded, with their places in the buffer.
decoded() {
	sed -nE 's/^.*# v2_as_qemu_sees_it: cmd\t//p' "$1" | tr '\t' ' '
}

# QEMU's trace in the same form.
executed() {
	awk '
	function number(text) { return substr(text, 3) }
	$1 == "amdvi_command_exec" { place = number($6) }
	$1 == "amdvi_completion_wait" { print place, "completion_wait", number($8), number($12) }
	$1 == "amdvi_pages_inval" { print place, "pages_inval", number($6) }
	$1 == "amdvi_iotlb_inval" { print place, "iotlb_inval" }
	$1 == "amdvi_ppr_exec" { print place, "ppr_exec" }' "$1"
}

# QEMU executed just these commands one after the other.
as_executed() {
	decoded "$1" >"$work/decoded"
	executed "$1.events" >"$work/executed"
	[ "$(wc -l <"$work/decoded")" -ge 8 ] && contains_lines "$work/executed" "$work/decoded"
}

step_amd() {
	local events=amdvi_command_exec,amdvi_completion_wait,amdvi_pages_inval,amdvi_iotlb_inval,amdvi_ppr_exec

	built series || return 0
	run_suites "$work/amd.log" amd_iommu_v2 'amd_iommu_v2*' -a 2 -t 240 -e "$events" iommu=pt
	attempt "QEMU has executed the commands as they were decoded, in that order" as_executed "$work/amd.log"
}

# --- vtd ------------------------------------------------------------------

# The same of VT-d: place in the queue, type, upper and lower quadword; what a wait stores, and where.
vtd_decoded() {
	sed -nE 's/^.*# vt_as_qemu_sees_it: cmd\t//p' "$1" | tr '\t' ' '
}

vtd_executed() {
	awk '
	function number(text) { return substr(text, 3) }
	$1 == "vtd_inv_qi_head" { place = $4 }
	$1 == "vtd_inv_desc" { print place, $5, number($7), number($9) }
	$1 == "vtd_inv_desc_wait_sw" { print "stores", number($7), number($9) }' "$1"
}

as_vtd_executed() {
	vtd_decoded "$1" >"$work/decoded"
	vtd_executed "$1.events" >"$work/executed"
	[ "$(wc -l <"$work/decoded")" -ge 16 ] && contains_lines "$work/executed" "$work/decoded"
}

newer_qemu() {
	"$scripts/kernel/qemu.sh" >/dev/null
}

# All that is shared is refused, and nothing else is tried.
sva_is_off() {
	boot "$kernel" "$work/vtd-off.log" 'intel_svm*' -v 1 iommu.sva=0 &&
		grep -q '^intel_svm	pass	vt_bind_what_is_refused' "$work/vtd-off.log.cases"
}

step_vtd() {
	local events=vtd_inv_qi_head,vtd_inv_desc,vtd_inv_desc_wait_sw

	built series || return 0
	attempt "there is a QEMU with PASIDs for VT-d" newer_qemu
	run_suites "$work/vtd.log" intel_svm 'intel_svm*' -v 2 -t 240 -e "$events"
	attempt "QEMU has executed VT-d's commands as they were decoded, in that order" as_vtd_executed "$work/vtd.log"
	attempt "iommu.sva=0 keeps processes from being bound" sva_is_off
}

# --- smmu -----------------------------------------------------------------

# What QEMU made of the range commands: ASID, address, pages. The case that shows its
# commands has the same, in that order.
as_invalidated() {
	sed -nE 's/^.*# v3_as_qemu_sees_it: cmd\t//p' "$1" | tr '\t' ' ' >"$work/decoded"
	sed -nE 's/^.*smmuv3_s1_range_inval .*asid=([0-9]+) addr=(0x[0-9a-f]+) .*num_pages=(0x[0-9a-f]+) .*$/\1 \2 \3/p' \
		"$1.events" >"$work/executed"
	[ "$(wc -l <"$work/decoded")" -ge 4 ] && contains_lines "$work/executed" "$work/decoded"
}

step_smmu() {
	built series || return 0
	if [ ! -d "$BASE_DIR" ]; then
		run_suites "$work/smmu.log" arm-smmu-v3-kunit-test 'arm-smmu-v3*'
		return
	fi
	run_suites "$work/smmu.log" arm_smmu_v3_sva 'arm_smmu_v3*' -a 1 -t 240 -e smmuv3_s1_range_inval
	attempt "QEMU has invalidated what was decoded, in that order" as_invalidated "$work/smmu.log"
}

# --- ocxl -----------------------------------------------------------------

step_ocxl() {
	built series || return 0
	run_suites "$work/ocxl.log" ocxl_link 'ocxl_link*' -a 2 -t 240
}

# --- control --------------------------------------------------------------

report_control() {
	local verdict name reason

	while IFS=$'\t' read -r _ verdict name reason; do
		case $verdict in
		fail) result ok "negative control: $name fails without its call" ;;
		skip) result skip "negative control: $name: ${reason:-no reason given}" ;;
		*) result "not ok" "negative control: $name passes, and nothing was called" ;;
		esac
	done <"$1.cases"
}

step_control() {
	local mutant=$work/control.vmlinux log=$work/control.log status=0

	built series || return 0
	case $TREE-$arch in
	6.1-x86_64) "$scripts/prove/mutate.sh" knock "$kernel" "$mutant" all ;;
	6.1-*) "$scripts/prove/mutate.sh" ret "$kernel" "$mutant" __mmu_notifier_invalidate_range ;;
	*) "$scripts/prove/mutate.sh" ret "$kernel" "$mutant" __mmu_notifier_arch_invalidate_secondary_tlbs ;;
	esac
	boot "$mutant" "$log" "$sites" || status=$?
	rm -f "$mutant"
	case $status in
	0) result "not ok" "negative control: no case fails" ;;
	1) report_control "$log" ;;
	*)
		cat "$log.says" >&2
		result "not ok" "negative control: $(first_error "$log.says")"
		;;
	esac
}

# --- mutants --------------------------------------------------------------

step_mutants() {
	built series || return 0
	guest || return 0
	"$scripts/prove/mutants.sh" -t calls order gate amd qi_submit_sync >"$work/mutants.out" || :
	cat "$work/mutants.out" >>"$results"
	grep -v '^ok - ' "$work/mutants.out" || :
	attempt "there are mutants" grep -q ' - mutant ' "$work/mutants.out"
}

# --- source ---------------------------------------------------------------

step_source() {
	"$scripts/prove/source-mutants.sh" -t 10 >"$work/source.out" || :
	grep -E '^(ok|not ok|skip) - ' "$work/source.out" >>"$results" || :
	grep -v '^ok - ' "$work/source.out" || :
	attempt "there are mutants of the source" grep -q ' - source mutant ' "$work/source.out"
}

# --- fuzz -----------------------------------------------------------------

fuzz_finds_nothing() {
	FUZZ_SECONDS=60 SEED=1 UNTIL='' THREADS='' DEBUG='' "$scripts/prove/fuzz.sh" >"$work/fuzz.out" && return
	cat "$work/fuzz.out" >&2
	return 1
}

# fuzz_operations LEAST
fuzz_operations() {
	awk -v least="$1" '/^total: / { made = $2 } END { exit made < least }' "$work/fuzz.out"
}

step_fuzz() {
	attempt "fuzz finds nothing in a minute" fuzz_finds_nothing
	tail -n 1 "$work/fuzz.out"
	attempt "fuzz makes 300 operations" fuzz_operations 300
}

# --- boots ----------------------------------------------------------------

# What the tests would be has no suite: KUnit has nothing to run.
kernel_boots() {
	"$scripts/kernel/boot.sh" -k "$kernel" -o "$work/boots.log" -t 240 && grep -qx '1\.\.0' "$work/boots.log"
}

step_boots() {
	built series || return 0
	attempt "$(tgit log -1 --format=%s stock) with $(all_patches | wc -l) patches boots, runs no test, powers off" kernel_boots
}

# --- exports --------------------------------------------------------------

# make shell and make module, in the kernel that there is.
step_shell() {
	built series || return 0
	script_test test-shell.sh
	count_script test-shell.sh
}

# Other pages of mm refer to what is not in this part of the documentation, and are
# warned about.
documentation() (
	rm -rf "$BUILD/doc"
	kbuild_environment
	take_source series
	if ! make -C "$source" O="$BUILD/doc" SPHINXDIRS=mm htmldocs >"$work/doc.log" 2>&1 ||
		[ ! -s "$BUILD/doc/Documentation/output/mm/mmu_notifier.html" ]; then
		show_build_errors "$work/doc.log"
		return 1
	fi
	! grep mmu_notifier "$work/doc.log" >&2
)

# A patch of this kernel adds the page, or changes that of stock.
has_page() {
	all_patches | claimed_files | grep -qx Documentation/mm/mmu_notifier.rst ||
		grep -qsx '+++ b/Documentation/mm/mmu_notifier.rst' "$TREE_DIR"/*/*.patch
}

step_exports() {
	local patch

	attempt "git am of the exported series gives the series" "$scripts/tree/export.sh" series
	attempt "patch of the exported upgrade gives the series" "$scripts/tree/export.sh" upgrade
	! has_page || attempt "make htmldocs has no warning about mmu_notifier.rst" documentation
	for patch in "$BUILD"/series/*/[0-9]*.patch; do
		case ${patch##*/} in
		0000-*) ;;
		*) attempt "checkpatch --strict: ${patch#"$BUILD"/series/}" "$scripts/tree/checkpatch.sh" "$patch" ;;
		esac
	done
}

# --- newer, arm64, powerpc ------------------------------------------------

# also WHERE OUTPUT RESULTS ENVIRONMENT...: what one step says there
also() {
	local where=$1 output=$2 tests=$3

	shift 3
	rm -f "$tests"
	env "$@" "$scripts/prove/test.sh" >"$output" || :
	grep -E '^(not ok|skip) - ' "$output" || :
	attempt "the tests of $where run" [ -s "$tests" ]
	sed "s/ - / - $where: /" "$tests" >>"$results"
}

step_newer() {
	also "Linux 7.3" "$work/newer.out" "$STORE/7.3/test/kunit.results" -u STORE "BUILD=$STORE" TREE=7.3 TEST_ONLY=kunit
}

step_arm64() {
	also arm64 "$work/arm64.out" "$BUILD/test-arm64/smmu.results" ARCH=arm64 TEST_ONLY=smmu
}

step_powerpc() {
	also powerpc "$work/powerpc.out" "$BUILD/test-powerpc/ocxl.results" ARCH=powerpc TEST_ONLY=ocxl
}

# --- all ------------------------------------------------------------------

# Each in a subshell: what fails in one ends that one.
run_step() {
	local name=$1 start=$SECONDS status

	say "$name"
	results=$work/$name.results
	: >"$results"
	set +e
	(
		set -e
		"step_$name"
	)
	status=$?
	set -e
	[ "$status" = 0 ] || result "not ok" "$name: the step has broken off, its message is above"
	echo "$name $((SECONDS - start))" >>"$work/times"
}

# count ok|"not ok"|skip FILE...
count() {
	local what=$1

	shift
	cat "$@" | grep -ac "^$what - " || :
}

show_summary() {
	local name seconds results

	echo
	printf '%-10s %7s %7s %7s   %s\n' step passed failed skipped time
	while read -r name seconds; do
		results=$work/$name.results
		printf '%-10s %7s %7s %7s   %s\n' "$name" "$(count ok "$results")" \
			"$(count "not ok" "$results")" "$(count skip "$results")" "$(minutes "$seconds")"
	done <"$work/times"
	echo
	grep -ah '^not ok - ' "$work"/*.results || :
	echo "This took $(minutes "$SECONDS"). Logs are in $(short "$work")."
}

finish() {
	local passed failed skipped

	show_summary
	passed=$(count ok "$work"/*.results)
	failed=$(count "not ok" "$work"/*.results)
	skipped=$(count skip "$work"/*.results)
	echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
	[ "$failed" = 0 ]
}

main() {
	local name names only

	for name in ${TEST_ONLY:+${TEST_ONLY//,/ }}; do
		[[ " $all_steps $more_steps " = *" $name "* ]] || die "there is no step '$name' for Linux $TREE on $arch; TEST_ONLY= takes $all_steps $more_steps"
	done
	only=${TEST_ONLY:-$all_steps}
	names="prepare ${only//,/ }"
	only_one "test-$arch"
	mkdir -p "$work"
	rm -f "$work"/*.results "$work/times"
	# shellcheck disable=SC2086 # one word per step
	set -- $names
	steps $#
	for name; do
		run_step "$name"
	done
	finish
}

case ${1:-} in
"") main ;;
script_test) "$@" ;;
*) die "usage: test.sh; TEST_ONLY= takes names of steps" ;;
esac
