# SPDX-License-Identifier: GPL-2.0
#
# timeline.tsv becomes commands for gnuplot: rectangles, arrows and labels. A policy is
# a panel of height 1, the first one on top: its moments, and three lanes.

BEGIN {
	FS = "\t"
	n = split("invalidate_range_start()|page-table entries cleared|invalidate_range_end()|page tables unlinked|CPU TLB flush|invalidate_range()|pages freed|page tables freed|munmap() returns", moment, "|")
	for (i = 1; i <= n; i++)
		digit[moment[i]] = i
	text["true", "translations"] = "as the page table"
	text["old", "translations"] = "old, pages not freed yet"
	text["freed", "translations"] = "FREED, in reach"
	text["none", "translations"] = "holds none"
	text["stopped", "translations"] = "stopped: every access faults"
	text["true", "tables"] = "as the page table"
	text["old", "tables"] = "old, tables not freed yet"
	text["freed", "tables"] = "FREED, in reach"
	text["none", "tables"] = "holds none"
	last = 0
}

function grouped(value,  out) {
	value = sprintf("%d", value)
	while (length(value) > 3) {
		out = "," substr(value, length(value) - 2) out
		value = substr(value, 1, length(value) - 3)
	}
	return value out
}

# box LEFT RIGHT BOTTOM TOP COLOUR
function box(left, right, bottom, top, colour) {
	printf "set object rectangle from %d,%.3f to %d,%.3f fillcolor rgb %s fillstyle solid noborder front\n", left, bottom, right, top, colour
}

# Gnuplot would run what stands between backquotes.
function label(x, y, said, how) {
	gsub(/["`\\]/, "", said)
	printf "set label \"%s\" at %d,%.3f %s front\n", said, x, y, how
}

function line(x, bottom, top, how) {
	printf "set arrow from %d,%.3f to %d,%.3f nohead %s\n", x, bottom, x, top, how
}

FNR == 1 { next }

{
	if (!($1 in panel)) {
		panel[$1] = panels++
		policy[panels - 1] = $1
	}
	rows++
	p[rows] = panel[$1]
	who[rows] = $2
	what[rows] = $3
	from[rows] = $4 + 0
	to[rows] = $5 + 0
	number[rows] = $6 + 0
	if ($2 == "kernel" && last < $5 + 0)
		last = $5 + 0
}

# Where it begins and ends, what was before and will be is shown, too.
function lane(i, bottom,  left, right, said) {
	if (!((what[i], who[i]) in text))
		return
	left = from[i] ? from[i] : first
	right = to[i] >= ends[p[i]] ? beyond : to[i]
	box(left, right, bottom, bottom + 0.15, what[i])
	said = text[what[i], who[i]]
	if ((right - left) / (beyond - first) > length(said) * 0.0078)
		label((left + right) / 2, bottom + 0.075, (what[i] == "freed" && right == beyond ? said " →" : said), "center textcolor rgb on_" what[i])
}

# What the device got in a callback.
function uses(i, base,  j, in_callback, served, loaded, refused) {
	in_callback = substr(what[i], length("accesses in ") + 1)
	for (j = 1; j <= rows; j++) {
		if (p[j] != p[i] || who[j] != "device")
			continue
		if (what[j] == "accesses served from the TLB in " in_callback)
			served = number[j]
		else if (what[j] == "translations loaded in " in_callback)
			loaded = number[j]
		else if (what[j] == "accesses refused in " in_callback)
			refused = number[j]
	}
	line(from[i], base + 0.085, base + 0.125, "linewidth 2 linecolor rgb muted")
	label(from[i], base + 0.045, \
	      refused ? refused " of " number[i] " fault" : \
	      loaded ? loaded " loaded, " served " served" : served + 0 " of " number[i] " served", "left textcolor rgb ink")
}

function moment_of(i, base,  x, y, d) {
	d = digit[what[i]]
	if (!d)
		return
	y = base + 0.62
	x = (from[i] + to[i]) / 2
	line(from[i], base + 0.13, y, "linewidth 1 linecolor rgb grid")
	if (to[i] - from[i] > 20)
		printf "set object rectangle from %d,%.3f to %d,%.3f fillcolor rgb ink fillstyle solid noborder front\n", from[i], y, to[i], y + 0.025
	else
		line(from[i], y, y + 0.03, "linewidth 2 linecolor rgb ink front")
	label(x, y + 0.075, d, "center textcolor rgb ink")
}

END {
	first = -last * 0.03
	beyond = last * 1.04
	for (i = 1; i <= rows; i++)
		if (what[i] == "munmap() returns")
			ends[p[i]] = to[i]
	for (i = 1; i <= rows; i++) {
		base = panels - 1 - p[i]
		if (who[i] == "kernel")
			moment_of(i, base)
		else if (who[i] == "translations")
			lane(i, base + 0.37)
		else if (who[i] == "tables")
			lane(i, base + 0.18)
		else if (what[i] ~ /^accesses in /)
			uses(i, base)
	}
	for (i = 0; i < panels; i++) {
		base = panels - 1 - i
		label(first, base + 0.84, policy[i], "left font \",15\" textcolor rgb ink")
		label(first - last * 0.01, base + 0.645, "kernel", "right textcolor rgb muted")
		label(first - last * 0.01, base + 0.445, "translations", "right textcolor rgb muted")
		label(first - last * 0.01, base + 0.255, "table pointers", "right textcolor rgb muted")
		label(first - last * 0.01, base + 0.045, "device", "right textcolor rgb muted")
	}
	printf "set xrange [%d:%d]\nset yrange [-0.05:%d]\n", first, beyond, panels
	printf "set xtics 1000\n"
}
