#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# sites.sh [TREE]        where the CPU TLB is flushed, and how secondary TLBs are told:
#                        a table, and build/report/sites.tsv
# sites.sh check [TREE]  the same, but prints what is wrong only: flushes that secondary TLBs are not
#                        told of, exemptions that match nothing, and flushes in the text
#                        that the semantic patch did not see
#
# TREE is a kernel tree, or the part of one that has all flushes; default the series.
# Its scripts/coccinelle/api/secondary_tlb.cocci does the work, and has the exemptions.
# Not arch/: see Documentation/mm/mmu_notifier.rst.
#
# sites.tsv has a head line. reached_by is joined from build/report/reach.tsv (file,
# line, tests), mutant from build/report/mutants.tsv; "-" where there is nothing.
set -eu -o pipefail
# shellcheck source=scripts/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=scripts/lib/kernel.sh
. "$(dirname "$0")/../lib/kernel.sh"

rule=scripts/coccinelle/api/secondary_tlb.cocci
report=$BUILD/report

# In these directories, what looks like a flush by its name has to be known.
core='mm/|fs/|kernel/|virt/|include/linux/|include/asm-generic/'
like='(arch_|local_|huge_|__)*(flush_([a-z]+_)?tlb|tlb_flush|tlb_finish|tlb_end|tlbbatch|set_tlb_ubc|try_to_unmap_flush|(pte|pmd|pud|p4d)p_[a-z_]*(flush|invalidate|access_flags)|huge_pmd_unshare_)[a-z0-9_]*'

# These are none: fields of mm_struct, ranges that a gather notes, and their likes.
others='tlb_flush_batched tlb_flush_pending tlb_flush_reason tlb_flush_mmu_free
	tlb_flush_pte_range tlb_flush_pmd_range tlb_flush_pud_range tlb_flush_p4d_range'

# --- the tree -------------------------------------------------------------

check_tree() {
	need_packages coccinelle bsdextrautils
	need_commands spatch awk git column
	[ -d "$1" ] || die "there is no tree $1; run 'make tree'"
	[ -f "$1/$rule" ] || die "$(short "$1") has no $rule; give a tree with the series"
	names=$(flush_names "$1/$rule")
	[ -n "$names" ] || die "$(short "$1")/$rule names no flushes; has its form changed?"
}

# The names that the semantic patch looks for, one a line.
flush_names() {
	sed -n '/^\\(\\($/,/^\\)\\&f@p\\)/p' "$1" | grep -oE '[a-z_]{2,}' | sort -u
}

tree_grep() {
	hgit -C "$1" grep --no-index "${@:2}" -- '*.[ch]' ':!arch' ':!tools' ':!Documentation' ':!scripts' ||
		[ $? = 1 ]
}

# Files in which there may be a flush.
candidates() {
	{
		tree_grep "$1" -lwE "$(paste -s -d '|' <<<"$names")"
		tree_grep "$1" -lwE "$like" | grep -E "^($core)" || :
	} | sort -u
}

# --- the text -------------------------------------------------------------

# file line name, of what the text uses: comments, strings, declarations, definitions,
# members of structs, and macros by which one flush stands for another are left out.
# An unknown name that looks like a flush comes with a "?".
text_uses() {
	awk -v names="$(xargs <<<"$names")" -v others="$(xargs <<<"$others")" \
		-v core="^($core)" -v like="^($like)$" '
	BEGIN {
		for (n = split(names, list, " "); n; n--)
			known[list[n]] = 1
		for (n = split(others, list, " "); n; n--)
			other[list[n]] = 1
	}
	function code(line,   out, token) {
		while (line != "") {
			if (comment) {
				if (!match(line, /\*\//))
					return out
				line = substr(line, RSTART + 2)
				comment = 0
			} else if (match(line, /"([^"\\]|\\.)*"|\047([^\047\\]|\\.)\047|\/\*|\/\//)) {
				token = substr(line, RSTART, 2)
				out = out substr(line, 1, RSTART - 1) " "
				if (token == "//")
					return out
				comment = token == "/*"
				line = substr(line, RSTART + RLENGTH)
			} else {
				return out line
			}
		}
		return out
	}
	function use(name, before, after) {
		if (macro != "" && (name == macro || macro in known && after !~ /^[ \t]*\(/))
			return
		if (before ~ /(\.|->|\(\*)[ \t]*$/ || before ~ /^TRACE_EVENT\($/)
			return
		if (macro == "" && before ~ /^[A-Za-z_][A-Za-z0-9_ \t*]*[ \t*]$/ && after ~ /^\(/)
			return
		print FILENAME "\t" FNR "\t" name
	}
	FNR == 1 {
		comment = 0
		macro = ""
	}
	{
		text = code($0)
		if (text ~ /^[ \t]*#[ \t]*define[ \t]/) {
			macro = text
			sub(/^[ \t]*#[ \t]*define[ \t]+/, "", macro)
			sub(/[^A-Za-z0-9_].*/, "", macro)
		} else if (text ~ /^[ \t]*#/) {
			next
		}
		before = ""
		rest = text
		while (match(rest, /[A-Za-z_][A-Za-z0-9_]*/)) {
			name = substr(rest, RSTART, RLENGTH)
			before = before substr(rest, 1, RSTART - 1)
			rest = substr(rest, RSTART + RLENGTH)
			if (name in known)
				use(name, before, rest)
			else if (name ~ like && FILENAME ~ core && !(name in other))
				use(name "?", before, rest)
			before = before name
		}
		if ($0 !~ /\\$/)
			macro = ""
	}' "$@"
}
# --- the census -----------------------------------------------------------

# file line function flush how reason, of each site; and: stale flush file function
spatch_census() {
	cut -f 1 "$work/uses" | sort -u |
		(cd "$1" && srctree=. xargs -d '\n' spatch -D census --very-quiet --no-includes \
			--include-headers --cocci-file "$rule") >"$work/census" 2>"$work/err" ||
		die "spatch fails with $(short "$1")/$rule: $(grep -v '^$' "$work/err" | tail -n 1)"
}

# Sets work, with the files uses and census in it.
take_census() {
	check_tree "$1"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	candidates "$1" >"$work/files"
	mapfile -t files <"$work/files"
	[ ${#files[@]} -gt 0 ] || die "there are no flushes in $(short "$1"); is it a kernel tree?"
	(cd "$1" && text_uses "${files[@]}" </dev/null) >"$work/uses"
	spatch_census "$1"
	grep -v '^stale	' "$work/census" | sort -t '	' -k 1,1 -k 2,2n >"$work/sites" || :
}

# --- what is wrong --------------------------------------------------------

mistakes() {
	awk -F '\t' -v rule="$rule" '
	FILENAME == ARGV[1] && $1 == "stale" {
		print rule ": nothing matches the exemption (" $2 ", " $3 ", " $4 "); remove it"
		next
	}
	FILENAME == ARGV[1] {
		seen[$1, $2, $4] = 1
		if ($5 == "-")
			print $1 ":" $2 ": " $3 "(): " $4 ": secondary TLBs are not told on every path; " \
				"call mmu_notifier_invalidate_range() after it, or exempt it in " rule
		next
	}
	$3 ~ /\?$/ {
		print $1 ":" $2 ": " substr($3, 1, length($3) - 1) ": is this a flush? " \
			"if so, add it to " rule ", else to others in sites.sh"
		next
	}
	!(($1, $2, $3) in seen) {
		print $1 ":" $2 ": " $3 ": spatch did not see this flush; " \
			"is it parsed, and a call? if it cannot be, check it by hand"
	}' "$work/census" "$work/uses"
}

# --- the report -----------------------------------------------------------

# join_tests: adds the column reached_by, of a file with file, line, tests
join_tests() {
	awk -F '\t' -v OFS='\t' -v tests="$report/reach.tsv" '
	BEGIN {
		while ((getline <tests) > 0)
			reached[$1, $2] = $3
	}
	{ print $0, ($1, $2) in reached ? reached[$1, $2] : "-" }'
}

# join_mutants: adds the column mutant: what became of the kernel in which the call of this
# site, or in this helper, is not made. mutants.sh knows the site of an address,
# reach.sh its lines; the call is at most ten lines behind the flush.
join_mutants() {
	awk -F '\t' -v OFS='\t' -v mutants="$report/mutants.tsv" -v sites="$BUILD/mutants/sites" -v lines="$BUILD/reach/lines" '
	# The worst of several.
	function add(to, key, verdict) {
		if (to[key] == "" || verdict != "killed")
			to[key] = verdict
	}
	function plain(name) {
		sub(/#[0-9]+$/, "", name)
		return name
	}
	BEGIN {
		while ((getline <mutants) > 0)
			if ($1 == "calls")
				verdict[$2] = $5
		for (site in verdict)
			add(of_name, plain(site), verdict[site])
		FS = " "
		while ((getline <sites) > 0)
			site_of[$1] = $5
		while ((getline <lines) > 0)
			if ($1 in site_of && site_of[$1] in verdict)
				for (i = 2; i <= NF; i++)
					add(of_line, $i, verdict[site_of[$1]])
		FS = "\t"
	}
	{
		said = "-"
		if ($5 == "helper" || $5 == "gather" || $5 == "call") {
			for (i = 0; i <= ($5 == "call" ? 10 : 0) && said == "-"; i++)
				if (($1 ":" $2 + i) in of_line)
					said = of_line[$1 ":" $2 + i]
			if (said == "-" && $4 in of_name)
				said = of_name[$4]
		}
		print $0, said
	}'
}

write_report() {
	mkdir -p "$report"
	{
		printf 'file\tline\tfunction\tflush\ttold\treason\treached_by\tmutant\n'
		join_tests <"$work/sites" | join_mutants
	} >"$work/sites.tsv"
	atomic "$report/sites.tsv" <"$work/sites.tsv"
}

numbers() {
	cut -f 5 "$work/sites" | sort | uniq -c | awk '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $2, $1 }'
}

# --- commands -------------------------------------------------------------

check() {
	take_census "$1"
	write_report
	mistakes | tee "$work/mistakes"
	[ ! -s "$work/mistakes" ]
}

table() {
	take_census "$1"
	write_report
	column -t -s '	' "$report/sites.tsv"
	note "$(numbers); also in $(short "$report/sites.tsv")"
}

what=table
case ${1:-} in
check)
	what=check
	shift
	;;
-*) die "unknown option '$1'; usage: sites.sh [check] [TREE]" ;;
esac
if [ $# = 0 ]; then
	need_packages "${kernel_packages[@]}"
	[ -d "$tree" ] || die "there is no tree yet; run 'make tree'"
	take_source series
	set -- "$source"
fi
$what "$(absolute "$1")"
