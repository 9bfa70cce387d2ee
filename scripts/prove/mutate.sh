#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate.sh list VMLINUX [FUNCTION...]   where control goes to the callback's slow path,
#                                        or to these functions
# mutate.sh knock VMLINUX OUT all|ADDR.. a copy in which these places do not
# mutate.sh ret VMLINUX OUT SYMBOL       a copy in which the function returns at once
# mutate.sh hook VMLINUX OUT PIECE=ADDR..  a copy in which these places lead to the
#                                        pieces of mutants.S
# mutate.sh insn VMLINUX OUT FUNCTION REGEX INSN  a copy in which one instruction is
#                                        another one, in assembly language
#
# For x86-64; ret is for arm64, riscv and powerpc, too. The list has a line per instruction: address, kind
# (call, jmp of a tail call, jcc), function+offset, where to. REGEX is compared with the disassembly
# "the one before <the instruction> the one after", and has to fit once.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

# The slow path, and two ways to it that are calls themselves.
target=__mmu_notifier_invalidate_range
targets="$target __mmu_notifier_invalidate_mm __tlb_invalidate_secondary"
endbr64=f30f1efa
pieces=$(dirname "$0")/mutants.S
cave=__do_adjtimex

# --- reading --------------------------------------------------------------

# Sets arch.
read_machine() {
	case $(readelf -h "$kernel" 2>/dev/null) in
	*Machine:*X86-64*) arch=x86_64 ;;
	*Machine:*AArch64*) arch=arm64 ;;
	*Machine:*RISC-V*) arch=riscv ;;
	*Machine:*PowerPC64*) arch=powerpc ;;
	*) die "$(short "$kernel") is no ELF file of x86-64, arm64, riscv or powerpc; give a vmlinux" ;;
	esac
}

check_kernel() {
	need_commands objdump readelf nm od dd awk
	[ -s "$kernel" ] || die "there is no kernel $kernel; scripts/kernel/build.sh makes one"
	read_machine
	segments=$(readelf -lW "$kernel" 2>/dev/null | awk '$1 == "LOAD" { print $2, $3, $5 }') || :
	[ -n "$segments" ] || die "$(short "$kernel") has nothing to load; give a vmlinux"
	symbols=$(nm -S "$kernel" 2>/dev/null) || :
}

# find_symbols TYPES NAME...: name, address and size of those that there are
find_symbols() {
	awk -v types="$1" -v names="${*:2}" '
	BEGIN {
		split(names, list, " ")
		for (i in list)
			wanted[list[i]] = 1
	}
	$NF in wanted && index(types, $(NF - 1)) {
		print $NF, $1, NF == 4 ? $2 : 0
	}' <<<"$symbols"
}

# Addresses are 64 bits: bash can do that, awk cannot.
symbol_address() {
	local found

	found=$(find_symbols "${2:-tTwW}" "$1")
	[ -n "$found" ] || die "$(short "$kernel") has no function $1"
	[ "$(wc -l <<<"$found")" = 1 ] || die "$(short "$kernel") has several functions $1"
	read -r _ found _ <<<"$found"
	echo $((16#$found))
}

# What is not known is 0.
symbol_size() {
	local found

	symbol_address "$1" >/dev/null
	found=$(find_symbols tTwW "$1")
	echo $((16#${found##* }))
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

# The bytes of stdin as one word of hex digits.
digits() {
	od -An -v -tx1 | tr -d ' \n'
}

# bytes ADDRESS COUNT
bytes() {
	local offset

	offset=$(file_offset "$1")
	od -An -v -tx1 -j "$offset" -N "$2" "$kernel" | tr -d ' \n'
}

# --- list -----------------------------------------------------------------

x86_64_only() {
	[ "$arch" = x86_64 ] || die "$(short "$kernel") is for $arch, of which calls are not known; only ret is for it"
}

# address kind function function's-address target, of what goes to the targets from
# elsewhere
transfers() {
	objdump -d --no-show-raw-insn "$kernel" | awk -v targets="$*" '
	BEGIN {
		split(targets, names, " ")
		for (i in names)
			wanted["<" names[i] ">"] = names[i]
	}
	/^[0-9a-f]+ <.*>:$/ {
		start = $1
		name = substr($2, 1, length($2) - 1)
	}
	$NF in wanted && NF >= 4 && name != $NF {
		kind = $(NF - 2) ~ /^call/ ? "call" : $(NF - 2) ~ /^jmp/ ? "jmp" : "jcc"
		print substr($1, 1, length($1) - 1), kind, substr(name, 2, length(name) - 2), start, wanted[$NF]
	}'
}

list() {
	local address kind name start goal all

	[ $# -gt 0 ] || set -- "$target"
	check_kernel
	x86_64_only
	for name; do
		symbol_address "$name" >/dev/null
	done
	all=$(transfers "$@")
	[ -n "$all" ] || return 0
	while read -r address kind name start goal; do
		printf '%s %s %s+0x%x %s\n' "$address" "$kind" "$name" $((16#$address - 16#$start)) "$goal"
	done <<<"$all"
}

# --- writing --------------------------------------------------------------

begin_copy() {
	[ ! "$1" -ef "$kernel" ] || die "$(short "$1") is the kernel itself; give another name for the copy"
	copy=$1.tmp.$$
	trap 'rm -f "$copy" "$copy".*' EXIT
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

# --- knock, ret -----------------------------------------------------------

reversed() {
	fold -w 2 <<<"$1" | tac | tr -d '\n'
}

# read_transfer ADDRESS: sets address, insn, width (the digits of its displacement),
# goes_to, and nop (what does not go there)
read_transfer() {
	local length shift

	[[ $1 =~ ^(0x)?[0-9a-f]{1,16}$ ]] || die "'$1' is no address"
	address=$((16#${1#0x}))
	insn=$(bytes "$address" 6)
	case $insn in
	e8*) length=5 width=8 nop=0f1f440000 ;;
	e9*) length=5 width=8 nop=c390909090 ;;
	eb*) length=2 width=2 nop=c390 ;;
	0f8*) length=6 width=8 nop=660f1f440000 ;;
	7*) length=2 width=2 nop=6690 ;;
	*) die "at $(hex "$address") is no call or jump, but $insn; 'mutate.sh list' has the addresses" ;;
	esac
	insn=${insn:0:length*2}
	shift=$((64 - width * 4))
	goes_to=$((address + length + (16#$(reversed "${insn: -width}") << shift >> shift)))
}

# leads_to NAME=ADDRESS...: only what is what it is thought to be
leads_to() {
	local goal

	for goal; do
		[ "$goes_to" != "${goal#*=}" ] || return 0
	done
	goal=${*%%=*}
	die "at $(hex "$address"), $insn does not go to ${goal// /, }; 'mutate.sh list' has the addresses"
}

# goals NAME...: NAME=ADDRESS of those that the kernel has
goals() {
	local name address

	find_symbols tTwWdDbB "$@" | while read -r name address _; do
		echo "$name=$((16#$address))"
	done
}

knock() {
	local out=$1 place names

	shift
	check_kernel
	x86_64_only
	symbol_address "$target" >/dev/null
	if [ "$1" = all ]; then
		# shellcheck disable=SC2046 # one word per address
		set -- $(transfers "$target" | cut -d ' ' -f 1)
		[ $# -gt 0 ] || die "nothing in $(short "$kernel") goes to $target"
	fi
	# shellcheck disable=SC2086 # one word per name
	names=$(goals $targets)
	begin_copy "$out"
	for place; do
		read_transfer "$place"
		# shellcheck disable=SC2086 # one word per name
		leads_to $names
		put "$address" "$nop"
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
	riscv) put "$address" 67800000 ;;
	powerpc) # callers with the same TOC skip the two instructions that load it
		put "$address" 2000804e
		put $((address + 8)) 2000804e
		;;
	esac
	end_copy "$out"
}

# --- hook -----------------------------------------------------------------

# assemble [OPTION...]: stdin; becomes $copy.o
assemble() {
	as "$@" -o "$copy.o" - 2>"$copy.err" ||
		die "as does not take this: $(grep -m 1 Error "$copy.err" || tail -n 1 "$copy.err")"
}

# link_pieces ADDRESS: $copy.o becomes $copy.elf, and finds what it needs in the kernel
link_pieces() {
	local names defined=() name

	names=$(nm -u "$copy.o" | awk '{ print $2 }')
	# shellcheck disable=SC2086 # one word per name
	known=$(goals $names)
	for name in $names; do
		[[ $known == *"$name="* ]] || die "$(short "$kernel") has no $name, which $(short "$pieces") needs"
	done
	for name in $known; do
		defined+=(--defsym "${name%=*}=0x$(hex "${name#*=}")")
	done
	ld -o "$copy.elf" -e 0 -Ttext="0x$(hex "$1")" "${defined[@]}" "$copy.o" 2>"$copy.err" ||
		die "ld does not take $(short "$pieces"): $(head -n 1 "$copy.err")"
}

# offset NAME: what mutants.S has set
offset() {
	nm "$copy.o" | awk -v name="$1" '$3 == name { sub(/^0*/, "", $1); print "0x" ($1 == "" ? "0" : $1) }'
}

# mm_flags: where mm_struct has its flags, by the instruction before the one that tests them
mm_flags() {
	local at

	at=$(instructions ptep_clear_flush | awk '/\$0x10000000,/ { print before; exit } { before = $0 }' |
		sed -nE 's/^[0-9a-f]+ mov (0x[0-9a-f]+)\(.*/\1/p')
	[ -n "$at" ] || die "ptep_clear_flush() of $(short "$kernel") does not test the flags of the mm as it did; see mm_flags() of mutate.sh"
	echo "$at"
}

# same_layout TEXT NAME: the text, read from stdin, has the value of this member
same_layout() {
	grep -qF -e "$1" ||
		die "there is no '$1'; correct $2 in $(short "$pieces") for this kernel"
}

# The pieces know where structs have their members. If they are wrong about that,
# they change something else than they say.
check_layout() {
	local helper gather

	helper=$(instructions ptep_clear_flush)
	gather=$(instructions __tlb_invalidate_secondary)
	same_layout "mov $(offset vma_mm)(%rdi)" vma_mm <<<"$helper"
	same_layout " \$$(offset mm_has_secondary_tlb)," mm_has_secondary_tlb <<<"$helper"
	same_layout "mov $(offset gather_start)(%rdi),%rsi" gather_start <<<"$gather"
	same_layout "mov $(offset gather_end)(%rdi),%rdx" gather_end <<<"$gather"
	same_layout ",$(offset gather_bits)(%rdi)" gather_bits <<<"$gather"
}

hook() {
	local out=$1 known place at code room piece flags

	shift
	need_commands as ld objcopy
	check_kernel
	at=$(symbol_address "$cave")
	room=$(symbol_size "$cave")
	begin_copy "$out"
	flags=$(mm_flags)
	assemble --defsym "mm_flags=$flags" <"$pieces"
	link_pieces "$at"
	check_layout
	objcopy -O binary -j .text "$copy.elf" "$copy.bin"
	code=$(digits <"$copy.bin")
	[ $((${#code} / 2)) -le "$room" ] ||
		die "$(short "$pieces") has $((${#code} / 2)) bytes, $cave() only $room; take a larger function"
	put "$at" "$code"
	for place; do
		[[ $place == ?*=?* ]] || usage
		piece=$(nm "$copy.elf" | awk -v name="${place%%=*}" '$3 == name && $2 == "t" { print $1 }')
		[ -n "$piece" ] || die "$(short "$pieces") has no piece '${place%%=*}'"
		read_transfer "${place#*=}"
		# shellcheck disable=SC2086 # one word per name
		leads_to $known
		[ "$width" = 8 ] || die "at $(hex "$address"), $insn is too short to lead to $(short "$pieces")"
		piece=$(printf '%08x' $(((16#$piece - address - ${#insn} / 2) & 0xffffffff)))
		put "$address" "${insn::-8}$(reversed "$piece")"
	done
	end_copy "$out"
}

# --- insn -----------------------------------------------------------------

# address text, for each instruction of a function
instructions() {
	local start size

	start=$(symbol_address "$1")
	size=$(symbol_size "$1")
	[ "$size" -gt 0 ] || die "$(short "$kernel") does not say how long $1() is"
	objdump -d --no-show-raw-insn --start-address="$start" --stop-address=$((start + size)) "$kernel" |
		sed -nE '/^ *[0-9a-f]+:\t/ { s/^ *([0-9a-f]+):\t/\1 /; s/ *(<[^ ]*>|#.*)$//; s/ +/ /g; p }'
}

insn() {
	local out=$1 function=$2 regex=$3 asm=$4 lines i context found=() code length

	need_commands as objcopy
	check_kernel
	lines=$(instructions "$function")
	mapfile -t lines <<<"$lines"
	for ((i = 1; i < ${#lines[@]} - 1; i++)); do
		context="${lines[i - 1]#* } <${lines[i]#* }> ${lines[i + 1]#* }"
		! grep -qE -e "$regex" <<<"$context" || found+=("$i")
	done
	[ ${#found[@]} = 1 ] ||
		die "in $function(), ${#found[@]} instructions are '$regex', not one; look at objdump -d --disassemble=$function"
	i=${found[0]}
	begin_copy "$out"
	assemble <<<"$asm"
	objcopy -O binary -j .text "$copy.o" "$copy.bin"
	code=$(digits <"$copy.bin")
	length=$((16#${lines[i + 1]%% *} - 16#${lines[i]%% *}))
	[ $((${#code} / 2)) -le $length ] || die "'$asm' is longer than '${lines[i]#* }'"
	while [ $((${#code} / 2)) -lt $length ]; do
		code+=90
	done
	put $((16#${lines[i]%% *})) "$code"
	end_copy "$out"
}

usage() {
	die "usage: mutate.sh list VMLINUX [FUNCTION...] | knock VMLINUX OUT all|ADDRESS... | ret VMLINUX OUT SYMBOL | hook VMLINUX OUT PIECE=ADDRESS... | insn VMLINUX OUT FUNCTION REGEX INSN"
}

[ $# -ge 2 ] || usage
kernel=$2
case $1:$# in
list:*) list "${@:3}" ;;
knock:[0-3] | hook:[0-3]) usage ;;
knock:* | hook:*) "$1" "${@:3}" ;;
ret:4) ret "$3" "$4" ;;
insn:6) insn "${@:3}" ;;
*) usage ;;
esac
