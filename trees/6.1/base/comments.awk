# SPDX-License-Identifier: GPL-2.0
#
# Take text that matches the regular expression $RE out of block comments.
# $SCOPE says how much goes with it:
#   comment    the whole comment
#   paragraph  its paragraph
#   reason     its paragraph and the one before, which it only backs up
#   sentence   its sentence
#   tail       from the match to the end of the paragraph
# Comments that become empty go; paragraphs that become shorter are filled anew.

BEGIN { re = ENVIRON["RE"]; scope = ENVIRON["SCOPE"] }

# Width of a string, tabs expanded.
function width(s,	i, w) {
	for (i = w = 0; i < length(s); i++)
		w += substr(s, i + 1, 1) == "\t" ? 8 - w % 8 : 1
	return w
}

# The words on comment line i, without its frame.
function words(i,	s) {
	s = line[i]
	sub(/^[ \t]*(\/\*+|\*\/|\*)[ \t]*/, "", s)
	sub(/[ \t]*(\*\/)?[ \t]*$/, "", s)
	return s
}

# Number the paragraphs: par[i] is that of line i, 0 between paragraphs.
function split_paragraphs(	i, s) {
	npar = 0
	for (i = 1; i <= n; i++) {
		s = words(i)
		par[i] = s == "" ? 0 : i > 1 && par[i - 1] ? npar : ++npar
		if (par[i])
			text[npar] = par[i - 1] == npar && i > 1 ? text[npar] " " s : s
	}
}

function cut_sentence(s,	out, end, one) {
	for (out = ""; s != ""; s = substr(s, end + 1)) {
		end = match(s, /\.[ ]+[A-Z]/) ? RSTART + RLENGTH - 2 : length(s)
		one = substr(s, 1, end)
		if (one !~ re)
			out = out one
	}
	sub(/[ ]+$/, "", out)
	return out
}

function cut_tail(s) {
	if (match(s, re))
		s = substr(s, 1, RSTART - 1) "."
	return s
}

# What remains of paragraph p; empty if it goes.
function edited(p) {
	if (scope == "sentence")
		return cut_sentence(text[p])
	if (scope == "tail")
		return cut_tail(text[p])
	if (text[p] ~ re || scope == "reason" && p < npar && text[p + 1] ~ re)
		return ""
	return text[p]
}

# Fill s into lines as wide as those from line i on, its paragraph: the first one
# behind `first`, the others behind `rest`.
function fill(s, i, first, rest,	w, k, p, max, cur) {
	for (p = par[i]; i <= n && par[i] == p; i++)
		if (width(line[i]) > max)
			max = width(line[i])
	k = split(s, w, /[ ]+/)
	cur = first w[1]
	for (i = 2; i <= k; i++)
		if (width(cur " " w[i]) > max) {
			out[++nout] = cur
			cur = rest w[i]
		} else
			cur = cur " " w[i]
	out[++nout] = cur
}

# Write out what remains of the comment in line[1..n].
function finish(	i, p, all, indent, last, gap) {
	split_paragraphs()
	for (p = 1; p <= npar; p++)
		all = all " " text[p]
	if (all !~ re) {
		for (i = 1; i <= n; i++)
			put(line[i])
		return
	}
	match(line[1], /^[ \t]*/)
	indent = substr(line[1], 1, RLENGTH)
	nout = last = 0
	if (scope != "comment")
		for (i = 1; i <= n; i++) {
			p = par[i]
			if (!p || p == last || edited(p) == "")
				continue
			if (last)
				out[++nout] = indent " *"
			last = p
			if (edited(p) != text[p])
				fill(edited(p), i, indent (i > 1 ? " * " : "/* "), indent " * ")
			else
				for (gap = i; gap <= n && par[gap] == p; gap++)
					out[++nout] = line[gap]
		}
	if (!nout)
		gone = 1
	else
		frame(indent)
}

# Put back the lines that open and close the comment.
function frame(indent,	i, one) {
	one = out[1]
	sub(/^[ \t]*\* /, indent "/* ", one)
	if (nout == 1 && out[1] ~ /^[ \t]*\* / && width(one " */") <= 80) {
		put(one " */")
		return
	}
	if (out[1] !~ /^[ \t]*\/\*/)
		put(indent "/*")
	for (i = 1; i <= nout; i++)
		put(out[i])
	if (out[nout] !~ /\*\/[ \t]*$/)
		put(indent " */")
}

# Print a line; a comment that went must not leave two blank lines.
function put(s) {
	if (!(gone && s == "" && prev == ""))
		print s
	gone = 0
	prev = s
}

# Code behind a comment on its line: not a block comment.
!n && /^[ \t]*\/\*.*\*\/[ \t]*[^ \t]/ { put($0); next }

n || /^[ \t]*\/\*/ {
	line[++n] = $0
	if (/\*\//) {
		finish()
		n = 0
	}
	next
}

{ put($0) }
