#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# boot.sh -k VMLINUX -o LOG [-i INITRD] [-t SECONDS] [-s NCPUS] [-a FUNCTIONS] [-v DEVICES] [-p PLUGIN] [-x ADDRESSES] [-e EVENTS] [-w EXPLAINED] [-c] [-n] [--] KERNEL-ARGUMENT...
#
# Boots under QEMU, without KVM, and judges the console. The kernel runs its KUnit
# suites, by default mmu_notifier*, and powers itself off. With -i, it goes on
# to the init of INITRD (scripts/kernel/initrd.sh), which runs the selftests and powers off, and
# all are judged. LOG.cases gets a line per test case: suite (mmu_notifier_FIXTURE for the
# selftests), pass|fail|skip, case, reason for a skip. With -x, LOG.executed gets address,
# suite and case for each of the ADDRESSES, a file of hex numbers, that was executed
# at the beginning of a block of code, such as behind a call. With -a, the machine has an
# IOMMU, and behind it a device: AMD's, and one of so many FUNCTIONS with ATS, or on arm64
# an SMMUv3, and 1 or 2 devices without; on powerpc, there is only the device, of so many
# FUNCTIONS. With -v, it has Intel's IOMMU in scalable mode, and behind it so many DEVICES with
# ATS; QEMU is one that scripts/kernel/qemu.sh finds or gets. With -e, LOG.events gets QEMU's trace of these EVENTS, a list with commas. With -c, the guest has no other time
# than the number of executed instructions: 1 ns each. With -p, the same, and QEMU loads a
# plugin, FILE[,ARG=VALUE...], and has one CPU. With -n, the kernel has no KUnit suites, only
# the init of INITRD is judged. With -w, what the kernel says is no failure if a line of the file
# EXPLAINED has it: an extended regular expression, a tab, and why. Exit status:
# 0  every test has passed
# 1  tests have failed, and the kernel is well otherwise
# 2  anything else: warning, oops, panic, hang, incomplete KTAP or TAP, QEMU
set -eu
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

# Status 1 is for tests that fail.
die() {
	echo "error: $*" >&2
	exit 2
}

seconds=120
ncpus=2
functions=0
devices=0
kernel=
initrd=
addresses=
events=
explained=
plugin=
count=
kunit=1
log=

usage() {
	die "$1; usage: boot.sh -k VMLINUX -o LOG [-i INITRD] [-t SECONDS] [-s NCPUS] [-a FUNCTIONS] [-v DEVICES] [-p PLUGIN] [-x ADDRESSES] [-e EVENTS] [-w EXPLAINED] [-c] [-n] [--] KERNEL-ARGUMENT..."
}

is_number() {
	[[ $1 =~ ^[1-9][0-9]{0,5}$ ]]
}

# --- QEMU -----------------------------------------------------------------

# The kernel says which machine it is for, in its ELF header.
choose_machine() {
	local em_ppc64=21 em_aarch64=183 em_riscv=243

	cpu=max socket=socket node_mb=512
	case $(od -An -tu2 -j 18 -N 2 "$kernel" 2>/dev/null | tr -d ' ') in
	"$em_aarch64")
		system=aarch64 board=virt console=ttyAMA0 cross=aarch64-linux-gnu-
		packages=(qemu-system-arm binutils-aarch64-linux-gnu)
		# a CPU that has no larger addresses than this SMMU, or no process can be shared
		[ "$functions" = 0 ] || board=virt,gic-version=3,iommu=smmuv3 cpu=cortex-a57
		;;
	"$em_riscv") # QEMU 7.2 has no "max", and calls a CPU of a node a core
		system=riscv64 board=virt console=ttyS0 cross=riscv64-linux-gnu- cpu=rv64 socket=core
		packages=(qemu-system-misc opensbi binutils-riscv64-linux-gnu)
		;;
	"$em_ppc64") # the 12000 pages of a test are 750 MiB; TCG has none of the mitigations that pseries offers
		system=ppc64 console=hvc0 cpu=power9 socket=core node_mb=1024
		board=pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off cross=
		packages=(qemu-system-ppc)
		;;
	*)
		# this IOMMU has no five levels
		[ "$devices" = 0 ] || cpu=max,la57=off
		system=x86_64 board=q35 console="ttyS0 earlyprintk=serial no_timer_check" cross=
		packages=(qemu-system-x86)
		;;
	esac
}

# QEMU loads a kernel of x86-64 (by PVH) and powerpc as vmlinux, others as Image.
make_image() {
	image=$kernel
	[ -n "$cross" ] || return 0
	image=$log.image
	"${cross}objcopy" -O binary -R .note -R .comment -S "$kernel" "$image" ||
		die "$(short "$kernel") does not become an Image; is it a complete vmlinux?"
}

# Two nodes, to migrate pages between. Each CPU is a socket: Linux warns about
# siblings on different nodes.
machine() {
	local i node1=$(((ncpus + 1) / 2))

	args=(
		-accel tcg -M "$board" -cpu "$cpu" -m "$((2 * node_mb))M"
		-smp "$ncpus,sockets=$ncpus,cores=1,threads=1"
		-nodefaults -no-reboot -display none -serial stdio
		-object "memory-backend-ram,id=m0,size=${node_mb}M"
		-object "memory-backend-ram,id=m1,size=${node_mb}M"
		-numa "node,nodeid=0,memdev=m0"
		-numa "node,nodeid=1,memdev=m1"
	)
	for ((i = 0; i < ncpus; i++)); do
		args+=(-numa "cpu,node-id=$((i >= node1)),$socket-id=$i")
	done
}

# An AMD IOMMU, and behind it a device with ATS and some functions, and one that does DMA.
amd_iommu() {
	local i device=virtio-rng-pci,disable-legacy=on,ats=on,iommu_platform=on,bus=rp0

	args+=(-device "amd-iommu,device-iotlb=on" -device "pcie-root-port,id=rp0,slot=1")
	args+=(-device "edu,dma_mask=0xffffffffff")
	for ((i = 0; i < functions; i++)); do
		args+=(-device "$device,addr=0.$i,multifunction=on")
	done
}

# test_devices WHERE: so many that no driver wants; N in WHERE is the number of each
test_devices() {
	local i

	for ((i = 0; i < functions; i++)); do
		args+=(-device "pci-testdev,${1/N/$i}")
	done
}

# Intel's IOMMU, and behind it devices with ATS, each in a group of its own.
intel_iommu() {
	local i

	args+=(-device "intel-iommu,intremap=off,scalable-mode=on,fsts=on,device-iotlb=on,pasid-bits=16,svm=on")
	for ((i = 0; i < devices; i++)); do
		args+=(
			-device "pcie-root-port,id=rp$i,chassis=$i,slot=$i"
			-device "virtio-rng-pci,disable-legacy=on,ats=on,iommu_platform=on,bus=rp$i"
		)
	done
}

# On a busy host the kernel finds that the timer does not work, if it is let to check.
command_line() {
	local line="console=$console oops=panic panic=-1 hugepages=8"

	if [ -n "$initrd" ]; then
		line="$line printk.devkmsg=on"
	else
		line="$line kunit_shutdown=poweroff"
	fi
	case " $* " in
	*" kunit.filter_glob="*) ;;
	*) line="$line kunit.filter_glob=mmu_notifier*" ;;
	esac
	echo "$line $*"
}

trace_events() {
	local event

	args+=(-D "$log.events")
	for event in ${events//,/ }; do
		args+=(-trace "$event")
	done
}

# QEMU says on stderr what it executes. It comes in order with the console.
log_execution() {
	args+=(-d exec -dfilter "$(awk 'NF { printf "%s0x%s+1", n++ ? "," : "", $1 }' "$addresses")")
}

# What QEMU said goes from the console, where it can stand in the middle of a line, to
# LOG.trace: number of that line, address.
split_execution() {
	awk -v OFS='\t' -v trace="$log.trace" '
	BEGIN { printf "" >trace }
	{ line = part $0 }
	match(line, /(Trace [0-9]+: 0x[0-9a-f]+ \[[0-9a-f]+\/[0-9a-f]+\/|Linking TBs ).*$/) {
		part = substr(line, 1, RSTART - 1)
		if (split(substr(line, RSTART), field, "/") > 2)
			print lines + 1, field[2] >trace
		next
	}
	{
		part = ""
		lines++
		print line
	}' "$log" >"$log.tmp"
	mv -f "$log.tmp" "$log"
}

# Sets status. Ends with this script, however that ends.
run_qemu() {
	local messages=$log.err

	[ -z "$addresses" ] || messages=$log
	: >"$log"
	: >"$log.err"
	timeout --foreground -k 5 "$seconds" "$qemu" "${args[@]}" </dev/null >>"$log" 2>>"$messages" 9>&- &
	pid=$!
	trap 'kill "$pid" 2>/dev/null || :; rm -f "$log.err" "$log.image"' EXIT
	trap 'exit 2' INT TERM HUP
	status=0
	wait "$pid" || status=$?
	tr -d "\r" <"$log" >"$log.tmp"
	mv -f "$log.tmp" "$log"
	[ -z "$addresses" ] || split_execution
}

# --- the console ----------------------------------------------------------

# Without the times that printk.time=1 puts in front.
console() {
	sed -E 's/^\[ *[0-9]+\.[0-9]+\] ?//' "$log"
}

# What can be a complaint. What tests say has a #.
unexplained() {
	console | grep -av '^ *#' |
		if [ -n "$explained" ]; then grep -avEf <(sed -E '/^(#|$)/d; s/\t.*//' "$explained"); else cat; fi
}

# The first line in which the kernel complains.
complaint() {
	grep -aE -m 1 \
		-e 'Kernel panic|BUG: |BUG [^ ]+ \(|kernel BUG at|Oops|general protection fault|Unable to handle' \
		-e 'WARNING: |INFO: trying to register non-static key|INFO: .*(blocked for more than|detected stall|self-detected)|UBSAN: |KASAN: |pagealloc: ' \
		<(unexplained) || :
}

# Prints what is missing in the KTAP output of the kernel, or nothing. A plan 1..N at
# some depth wants N results at that depth, in order. A suite with several cases has its
# totals.
ktap_gaps() {
	console | awk '
	function gap(text) {
		if (!found++)
			print text
	}
	function whose(depth) {
		return depth in title ? title[depth] : depth ? "a suite" : "the whole"
	}
	function close_depth(depth) {
		if (depth in plan && seen[depth] < plan[depth])
			gap(whose(depth) " has " seen[depth] + 0 " of " plan[depth] " results")
		if (depth == 4 && seen[depth] > 1 && !(depth in totals))
			gap(whose(depth) " has no totals")
		delete plan[depth]
		delete seen[depth]
		delete totals[depth]
		delete title[depth]
	}
	{
		match($0, /^ */)
		depth = RLENGTH
	}
	!depth && /^KTAP version / { started = 1; next }
	/^TAP version / { over = 1 }
	over { next }
	!started { next }
	/^ *# Subtest: / { title[depth] = $3 }
	/^ *1\.\.[0-9]+$/ {
		if (depth in plan)
			gap(whose(depth) " has two plans")
		plan[depth] = substr($1, 4) + 0
		planned += !depth
	}
	/ pass:[0-9]+ fail:[0-9]+ skip:[0-9]+ total:[0-9]+$/ && $2 == title[4] ":" {
		split($NF, total, ":")
		totals[4] = 1
		if (total[2] != seen[4])
			gap(whose(4) " has " seen[4] + 0 " results, and says " total[2])
	}
	/^ *(not )?ok [0-9]+( |$)/ {
		number = $1 == "not" ? $3 : $2
		close_depth(depth + 4)
		if (number != ++seen[depth])
			gap(whose(depth) " has no result " seen[depth])
	}
	END {
		if (!started)
			print "it has not begun"
		else if (!planned)
			gap("the whole has no plan")
		for (depth = 40; depth >= 0; depth -= 4)
			close_depth(depth)
	}'
}

# The same for the TAP output of the selftests, which is flat, one after the other. A test
# is named only when it begins.
tap_gaps() {
	console | awk '
	function gap(text) {
		if (!found++)
			print "the selftest has " text
	}
	function close_program() {
		if (begun && !plan)
			gap("no plan")
		if (seen < plan)
			gap(seen + 0 " of " plan " results")
		if (begun && !totals)
			gap("no totals")
		planned = plan = seen = sum = totals = 0
		name = ""
	}
	/^init: [0-9]+ programs$/ { programs = $2 + 0 }
	/^TAP version / { close_program(); begun++; next }
	!begun { next }
	/^1\.\.[0-9]+$/ {
		if (planned++)
			gap("two plans")
		plan = substr($1, 4) + 0
	}
	/^# +RUN / { name = $3 }
	/^(not )?ok [0-9]+( |$)/ {
		number = $1 == "not" ? $3 : $2
		if (number != ++seen)
			gap("no result " seen)
		if (name == "")
			gap("no name for result " number)
		name = ""
	}
	/^# Totals: pass:/ {
		for (i = 3; i <= NF; i++) {
			split($i, total, ":")
			sum += total[2]
		}
		totals++
		if (sum != seen)
			gap(seen + 0 " results, and says " sum)
	}
	END {
		if (!begun)
			gap("not begun")
		close_program()
		if (begun != programs)
			gap(begun + 0 " of " programs + 0 " programs")
	}'
}

# number of the line, suite, verdict, case, reason
results() {
	console | awk -v OFS='\t' '
	/^    # Subtest: / { suite = $3 }
	/^TAP version / { tap = 1 }
	tap && /^# +RUN / {
		suite = name = $3
		sub(/\..*/, "", suite)
		suite = "mmu_notifier_" suite
		sub(/^[^.]*\./, "", name)
	}
	(tap ? /^(not )?ok [0-9]+ / : /^    (not )?ok [0-9]+ /) {
		verdict = $1 == "not" ? "fail" : / # SKIP/ ? "skip" : "pass"
		reason = verdict == "skip" ? $0 : ""
		sub(/^.* # SKIP ?/, "", reason)
		print NR, suite, verdict, tap ? name : $1 == "not" ? $4 : $3, reason
	}'
}

# Each address belongs to the case whose result comes next.
executed() {
	awk -F '\t' -v OFS='\t' '
	BEGIN { i = 1 }
	NR == FNR {
		end[++n] = $1
		test[n] = $2 OFS $4
		next
	}
	{
		while (i <= n && end[i] < $1)
			i++
		if (i <= n && !seen[$2, i]++)
			print $2, test[i]
	}' "$log.results" "$log.trace"
}

count() {
	awk -F '\t' -v verdict="$1" '$2 == verdict { n++ } END { print n + 0 }' "$log.cases"
}

broken() {
	note "--- the last lines of $(short "$log"):"
	tail -n 20 "$log" >&2
	note "---"
	echo "error: $(short "$kernel"): $*; the console is in $(short "$log")" >&2
	exit 2
}

judge() {
	local line gaps failed

	results >"$log.results"
	cut -f 2- "$log.results" | atomic "$log.cases"
	[ -z "$addresses" ] || executed | atomic "$log.executed"
	rm -f "$log.results" "$log.trace"
	line=$(complaint)
	gaps=
	[ -z "$kunit" ] || gaps=$(ktap_gaps)
	[ -z "$initrd" ] || gaps=${gaps:-$(tap_gaps)}
	[ -z "$line" ] || broken "the kernel says '$line'"
	case $status in
	0) ;;
	124 | 137) broken "no end after $seconds s; it hangs, or -t is too short" ;;
	*) broken "QEMU failed with status $status: $(head -n 1 "$log.err")" ;;
	esac
	[ -z "$gaps" ] || broken "the test output is incomplete: $gaps"
	grep -qa 'reboot: Power down' "$log" || broken "the machine was reset, the kernel did not power off"

	failed=$(awk -F '\t' '$2 == "fail" { printf " %s", $3 }' "$log.cases")
	if [ -n "$failed" ] || grep -qa '^ *not ok ' <(console); then
		echo "error: $(short "$kernel"): $(count fail) failed, $(count pass) passed:$failed; the console is in $(short "$log")" >&2
		exit 1
	fi
	note "$(short "$kernel"): $(count pass) passed, $(count skip) skipped ($SECONDS s)"
}

# --- arguments ------------------------------------------------------------

while getopts :k:o:i:t:s:a:v:p:x:e:w:cn option; do
	case $option in
	k) kernel=$OPTARG ;;
	o) log=$OPTARG ;;
	i) initrd=$OPTARG ;;
	t) seconds=$OPTARG ;;
	s) ncpus=$OPTARG ;;
	a) functions=$OPTARG ;;
	v) devices=$OPTARG ;;
	p) plugin=$OPTARG ;;
	x) addresses=$OPTARG ;;
	e) events=$OPTARG ;;
	w) explained=$OPTARG ;;
	c) count=1 ;;
	n) kunit= ;;
	*) usage "what is -$OPTARG?" ;;
	esac
done
shift $((OPTIND - 1))

[ -n "$kernel" ] || usage "-k is missing"
[ -n "$log" ] || usage "-o is missing"
is_number "$seconds" || usage "-t $seconds is no number of seconds"
is_number "$ncpus" || usage "-s $ncpus is no number of CPUs"
[ "$ncpus" -le 8 ] || usage "-s $ncpus is more than the 8 CPUs of the kernel"
[[ $functions =~ ^[0-8]$ ]] || usage "-a $functions is no number of functions, which is 8 at most"
[[ $devices =~ ^[0-4]$ ]] || usage "-v $devices is no number of devices, which is 4 at most"
[ "$functions" = 0 ] || [ "$devices" = 0 ] || usage "-a and -v exclude each other"
[ -s "$kernel" ] || die "there is no kernel $kernel; scripts/kernel/build.sh makes one"
[ -z "$initrd" ] || [ -s "$initrd" ] || die "there is no initrd $initrd; scripts/kernel/initrd.sh makes one"
[ -z "$addresses" ] || [ -s "$addresses" ] || die "there are no addresses in $addresses; give a file with one in each line"
[ -z "$addresses" ] || [ -z "$events" ] || usage "-x and -e exclude each other"
[ -z "$explained" ] || [ -f "$explained" ] || die "there is no file $explained; give one with an expression and a reason in each line"
[ -n "$kunit" ] || [ -n "$initrd" ] || usage "-n without -i has nothing to run"
[ -z "$plugin" ] || [ -s "${plugin%%,*}" ] || die "there is no plugin ${plugin%%,*}; give a file that QEMU can load"
[ -z "$plugin" ] || ncpus=1 count=1
choose_machine
case $functions:$system in
0:* | [12]:aarch64 | *:x86_64 | *:ppc64) ;;
*) usage "-a $functions is for x86-64 and powerpc kernels; arm64 has -a 1 and -a 2" ;;
esac
[ "$devices:$system" = "0:$system" ] || [ "$system" = x86_64 ] || usage "-v $devices is for x86-64 kernels"
need_packages "${packages[@]}"
need_commands "qemu-system-$system" awk timeout
qemu=qemu-system-$system
[ "$devices" = 0 ] || qemu=$("$scripts/kernel/qemu.sh") || exit 2
mkdir -p "$(dirname "$log")"
rm -f "$log" "$log.cases" "$log.events"
make_image
machine
case $functions:$system in
0:*) ;;
*:aarch64) test_devices bus=pcie.0 ;;
*:ppc64) test_devices addr=1.N,multifunction=on ;;
*) amd_iommu ;;
esac
[ "$devices" = 0 ] || intel_iommu
[ -z "$initrd" ] || args+=(-initrd "$initrd")
[ -z "$addresses" ] || log_execution
[ -z "$events" ] || trace_events
[ -z "$plugin" ] || args+=(-plugin "$plugin")
[ -z "$count" ] || args+=(-icount "shift=0,sleep=off")
args+=(-kernel "$image" -append "$(command_line "$@")")
run_qemu
judge
