# SPDX-License-Identifier: GPL-2.0
#
# Of a console, the cases that fail: case, kind, pages, tables, entries. Kind is
#   freed      so many pages and page tables were freed while the device could still reach them
#   stale      so many entries allow what the page table does not, or were used so
#   imprecise  neither; the calls were others than expected, or more
#   crash      the kernel did not survive it
#   hang       the case did not come to its end
BEGIN { OFS = "\t" }

function most(a, b) { return a > b ? a : b }

{ sub(/\r$/, ""); sub(/^\[[^]]*\] /, "") }

# KUnit, and the harness of the selftests
/^ *(stats\.|watch\.|t->|shadow_tlb_)[a-z_]+(\(dev\))? == / { value = $3 + 0 }
/:Expected 0 \(0\) == report->[a-z_]+ \([0-9]+\)/ { value = substr($NF, 2) + 0 }

value {
	if (/freed_pages/)
		pages = most(pages, value)
	else if (/freed_tables|reachable/)
		tables = most(tables, value)
	else if (/stale|shadow_tlb_touch|bad_ranges/)
		stale = most(stale, value)
	value = 0
}

/^# +RUN +/ {
	running = $3
	sub(/.*\./, "", running)
}

/: Test terminated by timeout$/ { late = 1 }

/^(BUG: unable to handle|Kernel panic)/ && running {
	print running, "crash", 0, 0, 0
	running = ""
}

/^ *(not )?ok [0-9]+ / {
	name = $4
	sub(/.*\./, "", name)
	if (/^ *not ok/ && name !~ /^mmu_notifier/)
		print name, pages + tables ? "freed" : stale ? "stale" : late ? "hang" : "imprecise", pages + 0, tables + 0, stale + 0
	pages = tables = stale = late = 0
}
