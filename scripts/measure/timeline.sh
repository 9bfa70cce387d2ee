#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# timeline.sh: when things happen in one munmap() of the demonstration, for each policy.
#
# The kernel of the series runs the suite mmu_notifier_demo in QEMU, where a plugin
# notes when it comes to certain instructions, and where these write to. Which they are,
# the line numbers of the compiler say. Nothing in the kernel is changed, and time is
# the number of instructions that it has executed; those of the device in software are
# not counted. Writes build/report/timeline.tsv.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

kernel=$BUILD/kernels/series/vmlinux
work=$BUILD/timeline
report=$BUILD/report/timeline.tsv
device=lib/shadow_tlb.c

# --- what is looked for ---------------------------------------------------

# name, function, how, file, text of the line
# entry: of the function; exit: each of its ret; write, call, next: the line's
# instructions that write to memory, the one that calls, the first one of the line after it;
# xchg: those that write to memory and read in one
events() {
	cat <<-END
	bound	shadow_tlb_bind	entry
	munmap	vm_munmap	entry
	start	__mmu_notifier_invalidate_range_start	entry
	cleared	unmap_page_range	xchg	mm/memory.c	ptent = ptep_get_and_clear_full(mm, addr, pte,
	end	__mmu_notifier_invalidate_range_end	entry
	unlinked	free_pgd_range	write	mm/memory.c	pmd_clear(pmd);
	unlinked	free_pgd_range	write	mm/memory.c	pud_clear(pud);
	unlinked	free_pgd_range	write	mm/memory.c	p4d_clear(p4d);
	flush	flush_tlb_mm_range	entry
	callback	__mmu_notifier_invalidate_range	entry
	listed	free_unref_page_commit	write	mm/page_alloc.c	list_add(&page->pcp_list, &pcp->lists[pindex]);
	batched	shadow_probe_free_batched	entry
	interrupt	asm_sysvec_apic_timer_interrupt	entry
	interrupt	asm_common_interrupt	entry
	in_start	shadow_start	entry
	in_end	shadow_end	entry
	in_callback	shadow_invalidate_range	entry
	in_free	shadow_probe_free	entry
	in_touch	shadow_tlb_touch	entry
	in_run	shadow_tlb_run_on	entry
	out	shadow_start	exit
	out	shadow_end	exit
	out	shadow_invalidate_range	exit
	out	shadow_probe_free	exit
	out	shadow_tlb_touch	exit
	out	shadow_tlb_run_on	exit
	access	shadow_access	write	$device	dev->stats.accesses++;
	access	shadow_touch	write	$device	dev->stats.accesses++;
	refused	shadow_access	write	$device	dev->stats.faults += allowed;
	stopped	shadow_start	write	$device	dev->blocked++;
	resumed	shadow_end	write	$device	dev->blocked--;
	hit	shadow_access	next	$device	dev->stats.stale_used++;
	pointer	shadow_access	call	$device	shadow_insert(dev, level, &walk);
	translation	shadow_access	call	$device	shadow_insert(dev, 0, &walk);
	held	shadow_insert	write	$device	e->freed = false;
	dropped	shadow_insert	write	$device	e->valid = false;
	dropped	shadow_invalidate	write	$device	e->valid = false;
	reached	shadow_probe_free	write	$device	e->freed = true;
	reached_table	shadow_probe_free	write	$device	dev->stats.freed_tables++;
	reached_page	shadow_probe_free	write	$device	dev->stats.freed_pages++;
	END
}

# --- where it is in the kernel --------------------------------------------

# disassemble FUNCTION: address, mnemonic
disassemble() {
	objdump -d --no-show-raw-insn "--disassemble=$1" "$kernel" |
		awk '$1 ~ /^[0-9a-f]+:$/ { print substr($1, 1, length($1) - 1), $2 }'
}

# Each address of the functions: function, address, mnemonic, file:line of it and of
# what it is inlined into.
instructions() {
	local name

	events | cut -f 2 | sort -u | while read -r name; do
		disassemble "$name" | sed "s/^/$name /"
	done >"$work/code"
	cut -d ' ' -f 2 "$work/code" | addr2line -a -i -e "$kernel.debug" | awk '
	/^0x/ {
		if (NR > 1)
			print line
		line = ""
		next
	}
	{
		sub(/ \(discriminator.*/, "")
		sub(/^.*\/\.\.\/source\//, "")
		line = line " " $0
	}
	END { print line }' | paste -d ' ' "$work/code" -
}

# The same lines, with file:line for the text. The source is that of the kernel, whose
# tree is in the first line of its stamp.
with_lines() {
	local name function how file text id line

	id=$(head -n 1 "${kernel%/*}/stamp")
	while IFS=$'\t' read -r name function how file text; do
		if [ -z "$file" ]; then
			printf '%s\t%s\t%s\n' "$name" "$function" "$how"
			continue
		fi
		[ -f "$work/${file##*/}" ] || tgit show "$id:$file" >"$work/${file##*/}" ||
			die "$(short "$tree") does not have the source of $(short "$kernel"); run 'make run'"
		while read -r line; do
			[ "$how" != next ] || line=$((line + 1))
			printf '%s\t%s\t%s\t%s\n' "$name" "$function" "$how" "$file:$line"
		done < <(grep -nF -e "$text" "$work/${file##*/}" | cut -d : -f 1)
	done < <(events)
}

# x|w, address, name
points() {
	awk '
	FILENAME == ARGV[1] {
		split($0, f, "\t")
		n++
		name[n] = f[1]
		where[n] = f[2]
		how[n] = f[3]
		line[n] = " " f[4] " "
		next
	}
	{
		chain = " "
		for (i = 4; i <= NF; i++)
			chain = chain $i " "
		for (i = 1; i <= n; i++) {
			if (where[i] != $1)
				continue
			if (how[i] == "entry" ? !entered[i]++ : \
			    how[i] == "exit" ? $3 ~ /^ret/ : \
			    !index(chain, line[i]) ? 0 : \
			    how[i] == "call" || how[i] == "xchg" ? $3 == how[i] : \
			    how[i] == "next" ? !nexts[i]++ : 1)
				print how[i] == "write" || how[i] == "xchg" ? "w" : "x", $2, name[i]
		}
	}' "$work/lines" "$work/instructions" | sort -u
}

check_points() {
	local missing

	missing=$(events | cut -f 1 | sort -u | while read -r name; do
		grep -q " $name\$" "$work/points" || printf '%s ' "$name"
	done)
	[ -z "$missing" ] ||
		die "the kernel has no code for: ${missing% }; the table in timeline.sh no longer fits the source"
}

# --- the trace ------------------------------------------------------------

compile() {
	gcc -shared -fPIC -O2 -Wall -o "$work/instructions.so" "$scripts/measure/instructions.c" 2>"$work/errors" ||
		die "instructions.c does not compile: $(head -n 1 "$work/errors")"
}

# Status 1 is for tests that fail, and the rows will not fit.
boot() {
	rm -f "$work/trace"
	cut -d ' ' -f 1,2 "$work/points" >"$work/addresses"
	"$scripts/kernel/boot.sh" -k "$kernel" -o "$work/boot.log" -t 240 \
		-p "$work/instructions.so,points=$work/addresses,out=$work/trace" \
		kunit.filter_glob=mmu_notifier_demo
	[ -s "$work/trace" ] || die "QEMU has traced nothing; it needs TCG plugins"
}

# number of instructions, event, address written to. An instruction that reads and writes
# comes twice.
named() {
	awk -v OFS='\t' '
	FILENAME == ARGV[1] { name[$2] = name[$2] " " $3; next }
	$0 == last { next }
	{
		last = $0
		n = split(name[$2], f, " ")
		for (i = 1; i <= n; i++)
			print $1, f[i], $3
	}' "$work/points" "$work/trace"
}

# What the demonstration counted.
rows() {
	sed -nE 's/^(\[ *[0-9.]+\] ?)? *# mn_[a-z_]+: row\t([^\r]*)\r?$/\2/p' "$work/boot.log"
}

# policy, who, what, from, to, how often; see timeline.awk
table() {
	awk -f "$scripts/measure/timeline.awk" "$work/rows" "$work/events"
}

[ $# = 0 ] || die "usage: timeline.sh"
[ "$arch" = x86_64 ] || die "ARCH=$arch: the timeline is that of x86-64"
for file in "$kernel" "$kernel.debug" "${kernel%/*}/stamp"; do
	[ -s "$file" ] || die "there is no $(short "$file"); run 'make run'"
done
need_packages gcc libc6-dev binutils git qemu-system-x86
need_commands gcc objdump addr2line git awk
mkdir -p "$work" "$BUILD/report"
rm -f "$work"/*.c
case $work in
*,*) die "QEMU takes no plugin from '$work', which has a comma; set BUILD= to another directory" ;;
esac
with_lines >"$work/lines"
instructions >"$work/instructions"
points >"$work/points"
check_points
compile
boot
rows >"$work/rows"
named >"$work/events"
table >"$work/table"
atomic "$report" <"$work/table"
note "$(short "$report") is ready"
