# SPDX-License-Identifier: GPL-2.0
#
# The timeline of a munmap(), from the rows of the demonstration and the events that
# were traced. For each policy the first munmap() is told of, from the call of
# invalidate_range_start() to the return; the device then uses what it holds.
#
# Columns of the output: policy, who (kernel, device, or the lanes of the drawing:
# translations, tables), what, from, to: instructions, number
#
# Lanes say what the device holds: none; true, as the page table is; old, which the page
# table has no longer; freed, of which a page was freed; and stopped.

function die(text) {
	print "error: " text >"/dev/stderr"
	failed = 1
	exit 1
}

# --- numbers --------------------------------------------------------------

# The lower 40 bits: mawk has 53.
function low(hex,  i, value) {
	hex = substr(hex, length(hex) - 9)
	for (i = 1; i <= length(hex); i++)
		value = value * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
	return value
}

# Frame of a page-table entry, which is in the direct mapping from ffff888000000000.
function frame_of_entry(hex) {
	return int((low(hex) - 549755813888) / 4096)
}

# Frame of a page that was linked by its lru, at 8 in a struct page of 64 bytes, in the
# array from ffffea0000000000; -1 for the other pointers that a list has.
function frame_of_page(hex) {
	if (substr(hex, 1, 6) != "ffffea" || low(hex) % 64 != 8)
		return -1
	return int(low(hex) / 64)
}

# --- the table ------------------------------------------------------------

# Of one policy. What happens again is one line.
function happens(who, what,  key) {
	if (!telling)
		return
	key = who SUBSEP what
	if (!(key in number)) {
		order[++lines] = key
		from[key] = clock - zero
	}
	to[key] = clock - zero
	number[key]++
}

function lane(who, what) {
	if (!telling || lane_is[who] == what)
		return
	close_lane(who)
	lane_is[who] = what
	lane_from[who] = clock - zero
}

# Not at all, if it took no time.
function close_lane(who,  key) {
	if (lane_is[who] == "" || lane_from[who] == clock - zero)
		return
	key = who SUBSEP lane_is[who] SUBSEP lane_from[who]
	order[++lines] = key
	from[key] = lane_from[who]
	to[key] = clock - zero
	number[key] = 1
}

function show_lanes() {
	if (!freed_pages)
		pages_free = 0
	if (!freed_tables)
		tables_free = 0
	lane("translations", stopped ? "stopped" : pages_free ? "freed" : !pages ? "none" : cleared ? "old" : "true")
	lane("tables", tables_free ? "freed" : !tables ? "none" : unlinked ? "old" : "true")
}

function write_lines(  i, key, part) {
	for (i = 1; i <= lines; i++) {
		key = order[i]
		split(key, part, SUBSEP)
		printf "%s\t%s\t%s\t%d\t%d\t%d\n", policy[nr], part[1], part[2], from[key], to[key], number[key]
	}
	for (key in number)
		delete number[key]
	lines = 0
}

function forget_slots(  slot) {
	for (slot in level)
		delete level[slot]
	for (slot in is_freed)
		delete is_freed[slot]
	pages = tables = freed_pages = freed_tables = 0
}

# --- the device -----------------------------------------------------------

# A slot of the device is known by the address of its "valid", one behind "freed".
function slot_at(hex, offset) {
	return sprintf("%.0f", low(hex) + offset)
}

function hold(slot) {
	level[slot] = inserts
	if (inserts == "page")
		pages++
	else
		tables++
	happens("device", inserts == "page" ? "translations loaded " where : "table pointers loaded " where)
}

function drop(slot) {
	if (!(slot in level))
		return
	if (level[slot] == "page")
		pages--
	else
		tables--
	happens("device", level[slot] == "page" ? "translations dropped " where : "table pointers dropped " where)
	if (slot in is_freed) {
		if (level[slot] == "page")
			freed_pages--
		else
			freed_tables--
		if (!telling && is_freed[slot] == "told" && level[slot] == "page")
			after = clock - zero
	}
	delete level[slot]
	delete is_freed[slot]
}

function reach(slot) {
	is_freed[slot] = telling ? "told" : "before"
	if (level[slot] == "page") {
		freed_pages++
		sum_pages++
	} else {
		freed_tables++
		sum_tables++
	}
}

# --- the policies ---------------------------------------------------------

# The trace has to have found what the demonstration found.
function finish_policy() {
	if (!nr)
		return
	if (told != 1)
		die("no munmap() was traced for policy " nr)
	if (sum_pages != row[nr, 3] || sum_tables != row[nr, 4] || sum_accesses != row[nr, 6])
		die("policy " nr ": the trace has " sum_pages + 0 " pages, " sum_tables + 0 " tables, " sum_accesses + 0 \
		    " accesses, the demonstration " row[nr, 3] ", " row[nr, 4] ", " row[nr, 6])
	if (after != "")
		printf "%s\tdevice\tfreed pages in reach until\t%d\t%d\t1\n", policy[nr], after, after
}

function begin_policy() {
	finish_policy()
	nr++
	told = sum_pages = sum_tables = sum_accesses = stopped = 0
	after = ""
	forget_slots()
}

function begin_munmap() {
	if (told || !nr)
		return
	told = 1
	waiting = 1
	cleared = unlinked = 0
	for (frame in is_table)
		delete is_table[frame]
	lane_is["translations"] = lane_is["tables"] = ""
}

# All at the moment of the callback is at 0: the lanes begin with what was before.
function begin_telling() {
	waiting = 0
	telling = pages_free = tables_free = 1
	zero = clock
}

function end_telling() {
	happens("kernel", "munmap() returns")
	close_lane("translations")
	close_lane("tables")
	telling = 0
	write_lines()
}

BEGIN {
	FS = OFS = "\t"
	print "policy\twho\twhat\tfrom\tto\tnumber"
}

FILENAME == ARGV[1] {
	policies++
	policy[policies] = $1
	for (i = 1; i <= NF; i++)
		row[policies, i] = $i
	next
}

# --- events ---------------------------------------------------------------

# What the device does takes no time.
{
	clock = $1 - device
}

$2 ~ /^in_/ {
	if (!depth++) {
		since = $1
		clock = $1 - device
		where = "in " ($2 == "in_start" ? "invalidate_range_start()" : $2 == "in_end" ? "invalidate_range_end()" : \
			       $2 == "in_callback" ? "invalidate_range()" : $2 == "in_free" ? "free" : "other")
	}
}
depth { clock = since - device }
$2 == "out" {
	show_lanes()
	if (!--depth) {
		device += $1 - since
		clock = $1 - device
		where = ""
	}
	next
}

$2 == "bound" { begin_policy() }
$2 == "munmap" { begin_munmap() }
$2 == "start" && waiting {
	begin_telling()
	show_lanes()
	happens("kernel", "invalidate_range_start()")
}
$2 == "cleared" {
	cleared = 1
	if (telling)
		is_table[frame_of_entry($3)] = 1
	happens("kernel", "page-table entries cleared")
	show_lanes()
}
$2 == "end" { happens("kernel", "invalidate_range_end()") }
$2 == "unlinked" {
	unlinked = 1
	if (telling)
		is_table[frame_of_entry($3)] = 1
	happens("kernel", "page tables unlinked")
	show_lanes()
}
$2 == "flush" { happens("kernel", "CPU TLB flush") }
$2 == "callback" { happens("kernel", "invalidate_range()") }
$2 == "interrupt" { happens("kernel", "interrupt") }
# Pages of a gather are freed as a batch; what it was kept in is not.
$2 == "batched" { batched = 1 }
$2 == "listed" && batched && (frame = frame_of_page($3)) >= 0 {
	batched = 0
	if (frame in is_table) {
		tables_free = 1
		happens("kernel", "page tables freed")
	} else {
		pages_free = 1
		happens("kernel", "pages freed")
	}
	show_lanes()
}

$2 == "access" {
	sum_accesses++
	happens("device", "accesses " where)
}
$2 == "refused" { happens("device", "accesses refused " where) }
$2 == "stopped" { stopped = 1 }
$2 == "resumed" { stopped = 0 }
$2 == "hit" { happens("device", "accesses served from the TLB " where) }
$2 == "translation" { inserts = "page" }
$2 == "pointer" { inserts = "table" }
$2 == "held" { hold(slot_at($3, 1)) }
$2 == "dropped" { drop(slot_at($3, 0)) }
$2 == "reached" { reach(slot_at($3, 1)) }
$2 == "reached_page" { happens("device", "pages freed in reach") }
$2 == "reached_table" { happens("device", "page tables freed in reach") }

$2 == "in_touch" && telling { end_telling() }

END {
	if (failed)
		exit 1
	finish_policy()
	if (nr != policies || !nr)
		die("the trace has " nr + 0 " policies, the demonstration " policies + 0)
}
