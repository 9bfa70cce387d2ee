#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# report.sh: build/report/index.html, one page with pictures of what the other targets
# have measured. It needs nothing else: no other file, no script, no network.
#
# What is not there, or damaged, is not shown: its section says which command makes it.
# The timeline is traced here, when the kernel of the series is there and has changed.
# shellcheck disable=SC2094 # both only read
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

parts=$scripts/report
data=$BUILD/report
page=$data/index.html
kernel=$BUILD/kernels/series/vmlinux

# --- inputs ---------------------------------------------------------------

# usable NAME COMMAND COLUMN...: is NAME.tsv there, with these columns, and whole? If not,
# the page says so.
usable() {
	local file=$data/$1.tsv command=$2 wrong

	shift 2
	if [ ! -s "$file" ]; then
		missing "There is no <code>$(short "$file")</code> yet. <code>$command</code> makes it."
		return 1
	fi
	wrong=$(awk -F '\t' -v columns="$*" '
	FNR == 1 {
		n = NF
		for (i = 1; i <= NF; i++)
			known[$i] = 1
		m = split(columns, wanted, " ")
		for (i = 1; i <= m; i++)
			if (!(wanted[i] in known)) {
				print "it has no column " wanted[i]
				exit
			}
		next
	}
	NF != n {
		print "line " FNR " has " NF " columns of " n
		exit
	}
	END {
		if (NR < 2)
			print "it has no rows"
	}' "$file" | head -n 1)
	[ -n "$wrong" ] || return 0
	note "$(short "$file"): $wrong; $command makes it again"
	missing "<code>$(short "$file")</code> is damaged: $(escaped <<<"$wrong"). <code>$command</code> makes it again."
	return 1
}

missing() {
	echo "<p class=\"missing\">$1</p>"
}

made_by() {
	echo "<p class=\"made\">Made by <code>$1</code> from <code>$(short "$data")/$2.tsv</code>.</p>"
}

# What the page has from a file, as columns in this order: cells NAME COLUMN...
cells() {
	local file=$data/$1.tsv

	shift
	awk -F '\t' -v OFS='\t' -v columns="$*" '
	FNR == 1 {
		for (i = 1; i <= NF; i++)
			at[$i] = i
		m = split(columns, wanted, " ")
		next
	}
	{
		line = $at[wanted[1]]
		for (i = 2; i <= m; i++)
			line = line OFS $at[wanted[i]]
		print line
	}' "$file"
}

# --- text -----------------------------------------------------------------

# Control characters are none of XML's.
escaped() {
	tr -d '\000-\010\013\014\016-\037' | iconv -c -f UTF-8 -t UTF-8 |
		sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g'
}

# For awk: 1234567 -> 1,234,567; what is no number stays.
# shellcheck disable=SC2016 # awk expands it
grouped='function grouped(value,  out, rest) {
	if (value !~ /^-?[0-9]+(\.[0-9]+)?$/)
		return value
	rest = ""
	if (match(value, /\..*/)) {
		rest = substr(value, RSTART)
		value = substr(value, 1, RSTART - 1)
	}
	while (value ~ /[0-9][0-9][0-9][0-9]$/) {
		out = "," substr(value, length(value) - 2) out
		value = substr(value, 1, length(value) - 3)
	}
	return value out rest
}'

# table CAPTION HEADING...: of lines with tabs. Columns in which all is numbers or - are to
# the right. A line that begins with "!" and a tab is marked.
table() {
	local caption=$1

	shift
	escaped | awk -F '\t' -v caption="$(escaped <<<"$caption")" -v headings="$(printf '%s\t' "$@" | escaped)" "$grouped"'
	{
		worse[NR] = $1 == "!"
		if (worse[NR])
			sub(/^!\t/, "")
		row[NR] = $0
		for (i = 1; i <= NF; i++)
			if ($i !~ /^([-+]?[0-9.]+( ?%)?|-|whole PASID)$/)
				text[i] = 1
	}
	function class(i) { return i in text ? "" : " class=\"n\"" }
	END {
		n = split(headings, heading, "\t") - 1
		print "<div class=\"scroll\"><table>"
		if (caption != "")
			print "<caption>" caption "</caption>"
		printf "<thead><tr>"
		for (i = 1; i <= n; i++)
			printf "<th scope=\"col\"%s>%s</th>", class(i), heading[i]
		print "</tr></thead><tbody>"
		for (line = 1; line <= NR; line++) {
			printf worse[line] ? "<tr class=\"worse\">" : "<tr>"
			m = split(row[line], cell, "\t")
			for (i = 1; i <= m; i++)
				printf "<td%s>%s</td>", class(i), grouped(cell[i])
			print "</tr>"
		}
		print "</tbody></table></div>"
	}'
}

# --- pictures -------------------------------------------------------------

colours="ink muted grid true old freed none stopped on-true on-old on-freed on-none on-stopped first second"

# Colours become variables of the style sheet; identifiers are made different from those
# of other pictures; tick labels get their commas.
restyle() {
	local id=$1 script='' n=0 name

	for name in $colours; do
		n=$((n + 1))
		script="$script;s/rgb\( *1, *0, *$n\)/var(--$name)/g"
	done
	sed -E -e '/^<\?xml/d' -e '/^<!DOCTYPE/,/>$/d' -e '/^<(title|desc)>/d' \
		-e "$script" -e "s/(id=\"|id='|href='#|url\(#)/\1$id-/g" \
		-e 's/(fill|stroke)( ?= ?)(["'\''])black\3/\1\2\3var(--ink)\3/g' |
		awk -v id="$id" "$grouped"'
		/^<svg/ { in_head = 1 }
		in_head {
			sub(/<svg/, "<svg role=\"img\" aria-labelledby=\"" id "-title " id "-text\"")
			if (/>/) {
				in_head = 0
				sub(/>/, ">\n@title@\n")
			}
		}
		match($0, /> *[0-9]+</) {
			before = substr($0, 1, RSTART)
			behind = substr($0, RSTART + RLENGTH - 1)
			value = substr($0, RSTART + 1, RLENGTH - 2)
			gsub(/ /, "", value)
			$0 = before grouped(value) behind
		}
		{ print }'
}

# picture ID TITLE TEXT FILE.gp SETTINGS: TEXT is for those who do not see it. Files are in $work.
picture() {
	local id=$1 title=$2 text=$3 svg=$work/$1.svg

	if ! (cd "$work" && gnuplot -e "out='$id.svg'; $5" "$4") 2>"$work/errors"; then
		note "gnuplot cannot draw $id: $(grep -v '^ *\^*$' "$work/errors" | head -n 1)"
		missing "gnuplot could not draw this picture: $(grep -v '^ *\^*$' "$work/errors" | head -n 1 | escaped)"
		return
	fi
	echo "<figure>"
	printf '<title id="%s-title">%s</title><desc id="%s-text">%s</desc>\n' \
		"$id" "$(escaped <<<"$title")" "$id" "$(escaped <<<"$text")" >"$work/title"
	restyle "$id" <"$svg" | sed -e "/^@title@\$/r $work/title" -e "/^@title@\$/d"
	echo "</figure>"
}

# key NAME TEXT...
key() {
	echo '<ul class="key">'
	while [ $# -gt 0 ]; do
		echo "<li><span class=\"swatch\" style=\"background: var(--$1)\"></span>$2</li>"
		shift 2
	done
	echo '</ul>'
}

# bars ID TITLE TEXT WHAT linear|log [HEIGHT]: lines of stdin: name, then value, label of the bars. One
# bar is in the second colour; two are in both, one below the other.
bars() {
	local id=$1 places bottom top

	awk -F '\t' -v OFS='\t' -v data="$work/$id.data" -v names="$work/$id.names" '
	BEGIN {
		printf "" >data
		printf "" >names
		top = 1
	}
	{
		print NR, $1 >names
		n = int(NF / 2)
		for (i = 1; i <= n; i++)
			if ($(2 * i) != "-") {
				value = $(2 * i) + 0
				print n == 1 ? NR : NR - 0.2 + (i - 1) * 0.4, value, n == 1 || i == 2 ? 65551 : 65550, $(2 * i + 1) >data
				if (top < value)
					top = value
				if (bottom > value)
					bottom = value
			}
	}
	END { print NR, bottom * 1.1, top * 1.04 }' >"$work/$id.places"
	read -r places bottom top <"$work/$id.places"
	picture "$id" "$2" "$3" bars.gp "data='$id.data'; names='$id.names'; places=$places; what='$4'; scale='$5'; bottom=$bottom; top=$top; height=$((places * ${6:-46} + 70))"
}

# --- the sections ---------------------------------------------------------

section() {
	echo "<section id=\"$1\"><h2>$2</h2>"
}

# Traced here: the others take long, this takes half a minute.
trace() {
	[ -s "$kernel" ] && [ -n "$(find "$kernel" -newer "$data/timeline.tsv" 2>/dev/null || echo new)" ] || return 0
	"$scripts/measure/timeline.sh" || note "the page is made with the timeline that is there, if any"
}

at() {
	awk -F '\t' -v policy="$1" -v what="$2" -v column="$3" '$1 == policy && $3 == what { print $column; exit }' "$data/timeline.tsv"
}

policies() {
	awk -F '\t' 'FNR > 1 && !seen[$1]++ { print $1 }' "$data/timeline.tsv"
}

# What is to be seen, in numbers.
timeline_text() {
	awk -F '\t' "$grouped"'
	FNR > 1 && !($1 in seen) {
		seen[$1] = 1
		policy[++n] = $1
	}
	$2 == "kernel" { at[$1, $3] = $4; upto[$1, $3] = $5 }
	$2 == "device" { number[$1, $3] += $6; when[$1, $3] = $4 }
	END {
		for (i = 1; i <= n; i++) {
			p = policy[i]
			pages = number[p, "pages freed in reach"] + 0
			tables = number[p, "page tables freed in reach"] + 0
			faults = number[p, "accesses refused in invalidate_range_start()"] + number[p, "accesses refused in invalidate_range_end()"]
			said = ""
			if (pages) {
				said = said pages " pages are freed while the device can still reach them"
				until = when[p, "freed pages in reach until"]
				if (until)
					said = said ", and stay in its reach for " grouped(sprintf("%d", until - at[p, "pages freed"])) " instructions, until the process changes the same addresses again"
				said = said ". "
			}
			if (tables)
				said = said tables " page tables are freed while the device can still walk them: they are unlinked and freed after invalidate_range_end(), and no callback says so. "
			if (faults)
				said = said "The device is stopped for " grouped(sprintf("%d", at[p, "invalidate_range_end()"] - at[p, "invalidate_range_start()"])) " instructions, in which " faults " accesses are refused. "
			if ((p, "invalidate_range()") in at)
				said = said "The callback comes " grouped(sprintf("%d", at[p, "invalidate_range()"] - at[p, "CPU TLB flush"])) " instructions after the CPU TLB flush has begun and " grouped(sprintf("%d", at[p, "pages freed"] - at[p, "invalidate_range()"])) " before the first page is freed. "
			if (!pages && !tables)
				said = said "Nothing that is freed is in reach of the device. "
			print p "\t" said
		}
	}' "$data/timeline.tsv"
}

# Moments as rows, policies as columns.
timeline_moments() {
	awk -F '\t' '
	$2 != "kernel" { next }
	!($1 in seen) { seen[$1] = 1; policy[++n] = $1 }
	!($3 in rank) { rank[$3] = 1 }
	{ at[$1, $3] = $4 == $5 ? $4 : $4 " to " $5; last = $1; moment[$1, ++count[$1]] = $3 }
	END {
		for (i = 1; i <= count[last]; i++) {
			line = i " " moment[last, i]
			for (j = 1; j <= n; j++)
				line = line "\t" ((policy[j], moment[last, i]) in at ? at[policy[j], moment[last, i]] : "-")
			print line
		}
	}' "$data/timeline.tsv"
}

# Numbered as they are in the picture.
moments() {
	cat <<-'END'
	<ol class="key"><li>1 invalidate_range_start()</li><li>2 page-table entries are cleared</li><li>3 invalidate_range_end()</li>
	<li>4 page tables are unlinked</li><li>5 CPU TLB flush</li><li>6 invalidate_range()</li><li>7 pages are freed</li>
	<li>8 page tables are freed</li><li>9 munmap() returns</li></ol>
	END
}

show_timeline() {
	local names=()

	section timeline "One munmap(), four policies"
	usable timeline "make run, then make report" policy who what from to number || return 0
	cat <<-'END'
	<p>A process unmaps 8 pages while a device uses them. The picture is a trace of the kernel: a plugin of QEMU
	has noted when the kernel came to the code of each moment, and has counted the instructions up to there. Time is
	instructions of the kernel; what the device itself does, in software, takes none. Above, the moments of the
	kernel. Below, what the device holds in its TLB: translations of the pages, and pointers to the page tables that
	lead to them. The device uses all of its 16 pages in each callback, and again at the end of invalidate_range_end(); 8 of
	them were given back before. Each use is served by its TLB, or by the page table, and loaded, or ends in a fault. Red is
	what must not be: memory that is free, perhaps somebody else's by now, and in reach of the device.</p>
	END
	key true "as the page table has it" old "no longer in the page table, not freed" freed "freed, and still in reach" stopped "device is stopped, accesses fault" none "nothing held"
	moments
	awk -f "$parts/timeline-plot.awk" "$data/timeline.tsv" >"$work/timeline.commands"
	picture timeline-picture "One munmap() under each policy" "$(timeline_text | sed 's/\t/: /' | tr '\n' ' ')" timeline.gp \
		"commands='timeline.commands'; panels=$(policies | wc -l)"
	echo '<ul>'
	timeline_text | escaped | sed 's|^\([^\t]*\)\t\(.*\)$|<li><b>\1</b>: \2</li>|'
	echo '</ul>'
	mapfile -t names < <(policies)
	echo '<details><summary>The same in numbers: instructions since invalidate_range_start()</summary>'
	timeline_moments | table "" moment "${names[@]}"
	echo '</details>'
	made_by "make report" timeline
}

show_demo() {
	section demo "What the policies let through"
	usable demo "make run" policy stale_translations_used pages_freed_while_reachable page_tables_freed_while_reachable device_faults accesses || return 0
	cat <<-'END'
	<p>The whole demonstration: a process maps, forks, writes, gives half of its memory back and unmaps the rest, 16
	times for each policy. Marked is what uses or leaves in reach something that is no longer true.</p>
	END
	cells demo policy stale_translations_used pages_freed_while_reachable page_tables_freed_while_reachable device_faults accesses |
		awk -F '\t' '{ print ($2 + $3 + $4 ? "!\t" : "") $0 }' |
		table "" "policy of the driver" "stale translations used" "pages freed while reachable" "page tables freed while reachable" "device faults" accesses
	made_by "make run" demo
}

# KERNEL[-ARCH] of each table of make found
found_names() {
	local file

	for file in "$data"/found-*.tsv; do
		[ ! -e "$file" ] || basename "$file" .tsv
	done
}

# How many cases showed what: stock, then the series, of which a row can be missing, as it has none.
found_counts() { # NAME ARCH
	cells "$1" state device kind | awk -F '\t' -v OFS='\t' -v arch="$2" '
	BEGIN {
		split("stock-tests series", state, " ")
		split("contains touches", device, " ")
		title["stock-tests"] = "stock"
		title["series"] = "with the patches"
	}
	{
		if ($3 == "crash" || $3 == "hang")
			$3 = "dead"
		count[$1, $2, $3]++
	}
	END {
		for (i = 1; i in state; i++)
			for (j = 1; j in device; j++) {
				s = state[i] SUBSEP device[j]
				bad = count[s, "freed"] + count[s, "stale"] + count[s, "dead"]
				print (bad ? "!\t" : "") arch, title[state[i]], device[j] " it", count[s, "freed"] + 0,
					count[s, "stale"] + 0, count[s, "dead"] + 0, count[s, "imprecise"] + 0
			}
	}'
}

show_found() {
	local name names tree arch

	section found "What the tests found in newer kernels"
	cat <<-'END'
	<p>Linux 6.12 and 7.3 flush secondary TLBs in the code of the architectures. <code>make found</code> boots such a kernel with
	nothing but the tests added, and then with the patches that there are for it, and counts the cases that fail. A device that
	has a pointer to a page table drops it if the range that is flushed contains all that the table maps, or already if it touches
	it: hardware of both kinds is simulated. Marked is what frees memory in reach of the device, leaves a translation that is no
	longer true, crashes or hangs. Imprecise is a flush of more than has changed, or two for one change.</p>
	END
	names=$(found_names)
	if [ -z "$names" ]; then
		missing "There is no <code>$(short "$data")/found-7.3.tsv</code> yet. <code>make found TREE=7.3</code> makes it."
		return
	fi
	for name in $names; do
		IFS=- read -r _ tree arch <<<"$name"
		usable "$name" "make found TREE=$tree${arch:+ ARCH=$arch}" state device case kind pages tables stale || continue
		found_counts "$name" "${arch:-x86-64}" |
			table "Linux $tree" architecture kernel "drops a pointer if the range" "frees in reach" "leaves stale" "crashes or hangs" imprecise
		echo '<details><summary>The cases that are marked</summary>'
		cells "$name" state device case kind pages tables stale | awk -F '\t' '$4 != "imprecise"' | sed 's/^stock-tests/stock/' |
			table "" kernel "drops if it" case shows "pages freed in reach" "tables freed in reach" "stale entries"
		echo '</details>'
		made_by "make found TREE=$tree${arch:+ ARCH=$arch}" "$name"
	done
}

scenario_name() {
	case $1 in
	none) echo "nobody listens" ;;
	interval) echo "an interval notifier" ;;
	noop) echo "one subscriber, without the callback" ;;
	op1) echo "one subscriber with the callback" ;;
	op[0-9]*) echo "${1#op} subscribers with the callback" ;;
	other) echo "subscribers of another process" ;;
	*) echo "$1" ;;
	esac
}

# name, stock and its label, series and its label; of one scenario and unit. What runs for so
# long that the difference is lost in it is left out.
cost_bars() {
	cells bench workload scenario state unit min flushes | awk -F '\t' -v OFS='\t' -v scenario="$1" -v unit="$2" '
	$2 != scenario || $4 != unit { next }
	!($1 in seen) { seen[$1] = 1; workload[++n] = $1 }
	$5 ~ /^[0-9]+$/ { least[$1, $3] = $5 }
	$6 ~ /^[0-9]+$/ { flushes[$1] = $6 }
	function bar(name, state,  more) {
		if (!((name, state) in least) || !((name, "base") in least))
			return "-" OFS "-"
		more = (least[name, state] - least[name, "base"]) / flushes[name]
		return more OFS sprintf("%+.0f", more)
	}
	END {
		for (i = 1; i <= n; i++)
			if (flushes[workload[i]] > 0 && least[workload[i], "base"] / flushes[workload[i]] < 100000)
				print workload[i], bar(workload[i], "stock"), bar(workload[i], "series")
	}'
}

show_cost() {
	local scenario unit id=0

	section cost "What it costs"
	usable bench "make bench" workload scenario state unit median min max flushes ratio || return 0
	cat <<-'END'
	<p>What one flush takes more than in a kernel without any of this, base: in Linux 6.1 as it is, stock, and with the
	series in its place. It is the least of the runs, which nothing has disturbed. The subscribers only count, so what is
	shown is the part of the mm. Each picture has a scale of its own; what takes more than 100,000 for each flush is
	only in the table.</p>
	END
	key first stock second series
	while IFS=$'\t' read -r scenario unit; do
		id=$((id + 1))
		echo "<h3>$(scenario_name "$scenario" | escaped) ($(escaped <<<"$unit"))</h3>"
		cost_bars "$scenario" "$unit" >"$work/cost"
		[ -s "$work/cost" ] || continue
		bars "cost-$id" "Cost: $(scenario_name "$scenario")" \
			"$(awk -F '\t' '{ print $1 ": stock " $3 ", series " $5 ";" }' "$work/cost" | tr '\n' ' ')" \
			"$unit more than base, for one flush" linear 38 <"$work/cost"
	done < <(cells bench scenario unit | awk '!seen[$0]++')
	echo '<details><summary>All measurements: median, least and most of the runs, flushes of secondary TLBs</summary>'
	cells bench workload scenario state unit median min max flushes ratio |
		table "" workload scenario state unit median least most flushes "median / base"
	echo '</details>'
	made_by "make bench" bench
}

# devices DRIVER: with how many it was measured
devices() {
	cells drivers driver devices | awk -F '\t' -v driver="$1" '$1 == driver { print $2 }' | grep -xE "[0-9]{1,3}" | sort -nu || :
}

# driver_rows DRIVER DEVICES: the rest of its rows; times only where an IOMMU has stopped
driver_rows() {
	cells drivers driver devices operation stock_commands commands stock_waits waits pages_changed stock_pages_flushed \
		pages_flushed stock_left_of_1024 left_of_1024 stock_ms ms |
		awk -F '\t' -v OFS='\t' -v driver="$1" -v n="$2" '$1 == driver && $2 == n {
			worse = $5 > $4 || $7 > $6 || $10 > $9 || $12 < $11
			$9 = $9 > 2 ^ 30 ? "whole PASID" : $9
			$10 = $10 > 2 ^ 30 ? "whole PASID" : $10
			if (!($13 + $14))
				$13 = $14 = "-"
			print (worse ? "!\t" : "") substr($0, length($1 FS $2) + 2)
		}'
}

driver_title() {
	case $1 in
	amd) echo "AMD IOMMUv2" ;;
	vtd) echo "SVM of VT-d" ;;
	smmu) echo "SVA of SMMUv3" ;;
	*) echo "$1" ;;
	esac
}

show_driver() {
	local name=$1 n title

	title=$(driver_title "$name")
	n=$(devices "$name" | head -n 1)
	echo "<h3>$title</h3>"
	driver_rows "$name" "$n" | sed 's/^!\t//' | awk -F '\t' -v OFS='\t' '$12 == "-" { print $1, $2, $2, $3, $3 }' >"$work/driver"
	bars "$name-picture" "$title: commands for each operation, $n device" \
		"$(awk -F '\t' '{ print $1 ": stock " $2 ", series " $4 ";" }' "$work/driver" | tr '\n' ' ')" "commands, $n device" log 38 <"$work/driver"
	for n in $(devices "$name"); do
		driver_rows "$name" "$n" >"$work/driver"
		table "$title, $n device$([ "$n" = 1 ] || echo s)" operation "commands, stock" series "waits, stock" series \
			"pages changed" "pages flushed, stock" series "left of 1024, stock" series "ms, stock" series <"$work/driver"
		[ "$(grep -c '^!' "$work/driver" || :)" = 0 ] ||
			echo "<p>Worse than stock: $(grep '^!' "$work/driver" | cut -f 2 | paste -s -d ';' | sed 's/;/; /g' | escaped).</p>"
	done
}

show_drivers() {
	local name

	section drivers "Commands of the IOMMU drivers"
	usable drivers "make drivers" driver operation devices stock_commands commands stock_waits waits pages_changed stock_pages_flushed \
		pages_flushed stock_left_of_1024 left_of_1024 stock_ms ms || return 0
	cat <<-'END'
	<p>What the drivers write into the queue of the IOMMU, decoded. Shown are commands for one device, on a scale in
	which each step is twice the one before. In the tables, the waits are completions that a CPU has to wait for, and
	the columns before the times say what a warm TLB still has afterwards. In the last rows the IOMMU has stopped, for five seconds: for so
	long a CPU waits for one flush, and for the next. A row in which the series is worse than stock is marked.</p>
	END
	key first stock second series
	while read -r name; do
		show_driver "$name"
	done < <(cells drivers driver | grep -xE 'amd|vtd|smmu' | uniq)
	made_by "make drivers" drivers
}

kind_name() {
	case $1 in
	gather) echo "told by mmu_gather" ;;
	helper) echo "told by a clear-and-flush helper" ;;
	call) echo "told by a call beside it" ;;
	told) echo "told otherwise" ;;
	callers) echo "told by its callers" ;;
	exempt) echo "needs no call, for the reason given" ;;
	*) echo "$1" ;;
	esac
}

show_sites() {
	local kind n

	section sites "Where the CPU TLB is flushed"
	usable sites "make sites" file line function flush told reason reached_by mutant || return 0
	cat <<-'END'
	<p>Every place in the kernel that flushes the CPU TLB for user mappings, found by a semantic patch, by how secondary TLBs are
	told of it. Open a kind to see its places, the tests that execute each of them, and what became of its mutants.</p>
	END
	cells sites told | sort | uniq -c | sort -k1,1nr -k2 >"$work/kinds"
	while read -r n kind; do
		printf '%s\t%s\t%s\n' "$(kind_name "$kind")" "$n" "$n"
	done <"$work/kinds" >"$work/sites"
	bars sites-picture "Sites by kind" "$(awk -F '\t' '{ print $1 ": " $2 ";" }' "$work/sites" | tr '\n' ' ')" "places" linear 34 <"$work/sites"
	cells sites told reached_by | awk -F '\t' -v OFS='\t' '
	{
		n[$1]++
		if ($2 == "not built")
			out[$1]++
		else if ($2 == "-")
			not[$1]++
		else
			by[$1]++
	}
	END {
		for (kind in n)
			print n[kind], kind, by[kind] + 0, not[kind] + 0, out[kind] + 0
	}' | sort -k1,1nr -k2 | while IFS=$'\t' read -r n kind by not out; do
		printf '%s\t%s\t%s\t%s\t%s\n' "$(kind_name "$kind")" "$n" "$by" "$not" "$out"
	done | table "" "secondary TLBs are" places "executed by tests" "not executed" "not in this kernel"
	while read -r n kind; do
		echo "<details><summary>$(kind_name "$kind" | escaped): $n</summary>"
		cells sites told file line function flush reason reached_by mutant |
			awk -F '\t' -v OFS='\t' -v kind="$kind" '
			$1 == kind {
				gsub(/,/, ", ", $7)
				print $2 ":" $3, $4 "()", $5, $6, $7, $8
			}' | table "" place function flush reason "executed by" mutants
		echo '</details>'
	done <"$work/kinds"
	made_by "make sites" sites
}

show_mutants() {
	local group

	section mutants "Mutants"
	usable mutants "make mutants" group site place mutation verdict killers || return 0
	cat <<-'END'
	<p>Faults put into the binary of the kernel, one at a time: each is a mutant, and a test has to fail for it. Killed: a test
	has noticed. Equivalent: it cannot be noticed, and why is known. Anything else is a gap in the tests, and marked.</p>
	END
	cells mutants group verdict | awk -F '\t' -v OFS='\t' '
	!($1 in n) { order[++groups] = $1 }
	{ n[$1]++; seen[$1, $2]++ }
	END {
		for (i = 1; i <= groups; i++) {
			g = order[i]
			k = seen[g, "killed"] + 0
			e = seen[g, "equivalent"] + 0
			s = n[g] - k - e
			print g, n[g], k, e, s
		}
	}' >"$work/groups"
	awk -F '\t' -v OFS='\t' '{ print $1, $2, $2 " made", $3, $3 " killed" }' "$work/groups" >"$work/mutants"
	key first made second killed
	bars mutants-picture "Mutants by group" "$(awk -F '\t' '{ print $1 ": " $2 " made, " $3 " killed, " $4 " equivalent, " $5 " not noticed;" }' "$work/groups" | tr '\n' ' ')" mutants linear <"$work/mutants"
	awk -F '\t' '{ print ($5 ? "!\t" : "") $0 }' "$work/groups" | table "" group made killed equivalent "survived or not usable"
	cut -f 1 "$work/groups" | while read -r group; do
		echo "<details><summary>$(escaped <<<"$group")</summary>"
		cells mutants group site place mutation verdict killers | awk -F '\t' -v OFS='\t' -v group="$group" '
		$1 == group {
			gsub(/,/, ", ", $6)
			print ($5 == "killed" || $5 == "equivalent" ? "" : "!\t") $2 OFS $3 OFS $4 OFS $5 OFS $6
		}' | table "" site place fault verdict "killed by, or why not"
		echo '</details>'
	done
	made_by "make mutants" mutants
}

# other NAME TITLE COMMAND: a table of all that is in it
show_other() {
	local headings

	section "$1" "$2"
	usable "$1" "$3" || return 0
	IFS=$'\t' read -r -a headings < <(head -n 1 "$data/$1.tsv")
	tail -n +2 "$data/$1.tsv" | table "" "${headings[@]//_/ }"
	made_by "$3" "$1"
}

# --- the page -------------------------------------------------------------

# From a console, or else from the tree.
version() {
	local log

	for log in "$BUILD/timeline/boot.log" "$data/demo.log"; do
		grep -aosm 1 "Linux version [0-9][^ ]*" "$log" && return
	done
	tgit log -1 --format=%s stock 2>/dev/null || echo "Linux 6.1"
}

# Of the newest of the inputs.
measured() {
	local newest

	newest=$(find "$data" -maxdepth 1 -name '*.tsv' -printf '%T@\n' | sort -n | tail -n 1)
	[ -z "$newest" ] || date -u -d "@${newest%.*}" '+, newest result of %Y-%m-%d %H:%M UTC'
}

# ID TITLE of each section, to be found from the top.
contents() {
	echo '<nav aria-label="Contents"><ul class="key">'
	sed -nE 's|^<section id="([^"]*)"><h2>(.*)</h2>$|<li><a href="#\1">\2</a></li>|p' "$1"
	echo '</ul></nav>'
}

sections() {
	local show

	for show in timeline demo found cost drivers sites mutants; do
		"show_$show"
		echo '</section>'
	done
	for show in "mutants-source:Mutants of the source:make mutants SOURCE=1" "atomics:Atomic accesses:make bench" "size:Size of the kernel:make bench" "scale:More CPUs:make bench"; do
		IFS=: read -r name title command <<<"$show"
		show_other "$name" "$title" "$command"
		echo '</section>'
	done
}

html() {
	cat <<-'END'
	<!DOCTYPE html>
	<html lang="en" xmlns="http://www.w3.org/1999/xhtml">
	<head>
	<meta charset="utf-8"/>
	<meta name="viewport" content="width=device-width, initial-scale=1"/>
	<title>Secondary TLB invalidation for Linux</title>
	<style>
	END
	cat "$parts/style.css"
	cat <<-END
	</style>
	</head>
	<body>
	<main>
	<h1>Secondary TLB invalidation for Linux</h1>
	<p class="about">$(version | escaped), x86-64 in QEMU without KVM$(measured)</p>
	<p><code>invalidate_range()</code> tells hardware that walks the page table of a process what has changed in it, when the CPU
	TLB is flushed: after the entries are cleared, and before anything they led to is freed. This page shows what that is worth,
	what it costs, and how both were tested.</p>
	END
	contents "$1"
	cat "$1"
	echo '</main></body></html>'
}

[ $# = 0 ] || die "usage: report.sh"
need_packages gnuplot-nox
need_commands gnuplot awk sed iconv
mkdir -p "$data" 2>/dev/null || die "cannot create $data; set BUILD= to a directory that can be written"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Gnuplot gets no path: it may have a quote.
cp "$parts"/*.gp "$work"
trace
sections >"$work/sections"
html "$work/sections" >"$work/page"
atomic "$page" <"$work/page"
note "$(short "$page") is ready"
