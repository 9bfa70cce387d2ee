#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate.sh list VMLINUX                 where control goes to the callback's slow path
# mutate.sh knock VMLINUX OUT all|ADDR.. a copy in which these places do not
# mutate.sh ret VMLINUX OUT SYMBOL       a copy in which the function returns at once
#
# For x86-64; ret is for arm64, too. The list has a line per instruction: address, kind
# (call, jmp of a tail call, jcc), function+offset.
set -eu -o pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

target=__mmu_notifier_invalidate_range
endbr64=f30f1efa

# --- reading --------------------------------------------------------------

# Sets arch.
read_machine() {
	case $(readelf -h "$kernel" 2>/dev/null) in
	*Machine:*X86-64*) arch=x86_64 ;;
	*Machine:*AArch64*) arch=arm64 ;;
	*) die "$(short "$kernel") is no ELF file of x86-64 or arm64; give a vmlinux" ;;
	esac
}

check_kernel() {
	need_commands objdump readelf nm od dd awk
	[ -s "$kernel" ] || die "there is no kernel $kernel; scripts/build.sh makes one"
	read_machine
	segments=$(readelf -lW "$kernel" 2>/dev/null | awk '$1 == "LOAD" { print $2, $3, $5 }') || :
	[ -n "$segments" ] || die "$(short "$kernel") has nothing to load; give a vmlinux"
}

# Addresses are 64 bits: bash can do that, awk cannot.
symbol_address() {
	local found

	found=$(nm "$kernel" 2>/dev/null | awk -v name="$1" '$3 == name && $2 ~ /^[tTwW]$/ { print $1 }') || :
	[ -n "$found" ] || die "$(short "$kernel") has no function $1"
	[ "$(wc -l <<<"$found")" = 1 ] || die "$(short "$kernel") has several functions $1"
	echo $((16#$found))
}

file_offset() {
	local offset start size

	while read -r offset start size; do
		if (($1 - start >= 0 && $1 - start < size)); then
			echo $(($1 - start + offset))
			return
		fi
	done <<<"$segments"
	die "the address $(hex "$1") is not in $(short "$kernel")"
}

hex() {
	printf '%016x' "$1"
}

# bytes ADDRESS COUNT: as one word of hex digits
bytes() {
	local offset

	offset=$(file_offset "$1")
	od -An -v -tx1 -j "$offset" -N "$2" "$kernel" | tr -d ' \n'
}

# --- list -----------------------------------------------------------------

x86_64_only() {
	[ "$arch" = x86_64 ] || die "$(short "$kernel") is for $arch, of which calls are not known; only ret is for it"
}

# address kind function function's-address, of what goes to the target from elsewhere
transfers() {
	objdump -d --no-show-raw-insn "$kernel" | awk -v target="<$target>" '
	/^[0-9a-f]+ <.*>:$/ {
		start = $1
		name = substr($2, 1, length($2) - 1)
	}
	$NF == target && NF >= 4 && name != target {
		kind = $(NF - 2) ~ /^call/ ? "call" : $(NF - 2) ~ /^jmp/ ? "jmp" : "jcc"
		print substr($1, 1, length($1) - 1), kind, substr(name, 2, length(name) - 2), start
	}'
}

list() {
	local address kind name start all

	check_kernel
	x86_64_only
	symbol_address "$target" >/dev/null
	all=$(transfers)
	[ -n "$all" ] || return 0
	while read -r address kind name start; do
		printf '%s %s %s+0x%x\n' "$address" "$kind" "$name" $((16#$address - 16#$start))
	done <<<"$all"
}

# --- writing --------------------------------------------------------------

begin_copy() {
	[ ! "$1" -ef "$kernel" ] || die "$(short "$1") is the kernel itself; give another name for the copy"
	copy=$1.tmp.$$
	trap 'rm -f "$copy"' EXIT
	cp "$kernel" "$copy"
}

end_copy() {
	mv -f "$copy" "$1"
}

# put ADDRESS HEX
put() {
	local offset

	offset=$(file_offset "$1")
	# shellcheck disable=SC2001,SC2059 # the format is the bytes
	printf "$(sed 's/../\\x&/g' <<<"$2")" | dd of="$copy" bs=1 seek="$offset" conv=notrunc status=none
}

# goes_to ADDRESS INSTRUCTION DIGITS: where the displacement, its last DIGITS, leads
goes_to() {
	local shift=$((64 - $3 * 4)) reversed

	reversed=$(fold -w 2 <<<"${2: -$3}" | tac | tr -d '\n')
	echo $(($1 + ${#2} / 2 + (16#$reversed << shift >> shift)))
}

# knock_one ADDRESS: only what is what it is thought to be
knock_one() {
	local address=$1 insn length digits patch

	insn=$(bytes "$address" 6)
	case $insn in
	e8*) length=5 digits=8 patch=0f1f440000 ;;
	e9*) length=5 digits=8 patch=c390909090 ;;
	eb*) length=2 digits=2 patch=c390 ;;
	0f8*) length=6 digits=8 patch=660f1f440000 ;;
	7*) length=2 digits=2 patch=6690 ;;
	*) die "at $(hex "$address") is no call or jump, but $insn; 'mutate.sh list' has the addresses" ;;
	esac
	insn=${insn:0:length*2}
	[ "$(goes_to "$address" "$insn" $digits)" = "$goal" ] ||
		die "at $(hex "$address"), $insn does not go to $target; 'mutate.sh list' has the addresses"
	put "$address" $patch
}

knock() {
	local out=$1 address

	shift
	check_kernel
	x86_64_only
	goal=$(symbol_address "$target")
	if [ "$1" = all ]; then
		# shellcheck disable=SC2046 # one word per address
		set -- $(transfers | cut -d ' ' -f 1)
		[ $# -gt 0 ] || die "nothing in $(short "$kernel") goes to $target"
	fi
	begin_copy "$out"
	for address; do
		[[ $address =~ ^(0x)?[0-9a-f]{1,16}$ ]] || die "'$address' is no address"
		knock_one $((16#${address#0x}))
	done
	end_copy "$out"
}

# The function may begin with a landing pad for indirect calls.
ret() {
	local out=$1 address

	check_kernel
	address=$(symbol_address "$2")
	begin_copy "$out"
	case $arch in
	x86_64)
		[ "$(bytes "$address" 4)" != "$endbr64" ] || address=$((address + 4))
		put "$address" c3
		;;
	arm64) put "$address" c0035fd6 ;;
	esac
	end_copy "$out"
}

usage() {
	die "usage: mutate.sh list VMLINUX | knock VMLINUX OUT all|ADDRESS... | ret VMLINUX OUT SYMBOL"
}

[ $# -ge 2 ] || usage
kernel=$2
case $1:$# in
list:2) list ;;
knock:[0-3]) usage ;;
knock:*) knock "${@:3}" ;;
ret:4) ret "$3" "$4" ;;
*) usage ;;
esac
