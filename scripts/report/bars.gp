# SPDX-License-Identifier: GPL-2.0
#
# Horizontal bars. Lines of data, between tabs: place from the top, value, colour,
# what stands at the bar; names of the places are in the second file: place, name.
# data, names, places, what, height, scale (linear or log), bottom, top and out are set by report.sh.
load "common.gp"
set terminal svg size 1040, height dynamic noenhanced font "sans-serif,13"
set output out
set datafile separator tab
set lmargin 26
set rmargin 12
set tmargin 0.5
set bmargin 4
set xlabel what textcolor rgb ink
set grid xtics linecolor rgb grid
set border 1
set yrange [places + 0.6 : 0.4]
set ytics scale 0
left = scale eq "log" ? 0.7 : 0
if (scale eq "log") { set logscale x 2 }
set xrange [scale eq "log" ? left : bottom : top]
set arrow from left, graph 0 to left, graph 1 nohead linecolor rgb muted front
wide(v) = scale eq "log" && v < left ? left : v
plot names using (scale eq "log" ? left : bottom):1:ytic(2) with points pointtype 0 notitle, \
     data using (left):1:(left):(wide($2)):($1 - 0.19):($1 + 0.19):3 with boxxyerror fillstyle solid noborder linecolor rgb variable notitle, \
     data using (wide($2) > left ? wide($2) : left):1:4 with labels left offset 0.6, 0 textcolor rgb ink notitle
