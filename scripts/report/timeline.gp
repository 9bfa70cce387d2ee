# SPDX-License-Identifier: GPL-2.0
# panels, commands and out are set by report.sh
load "common.gp"
set terminal svg size 1040, 80 + panels * 165 dynamic noenhanced font "sans-serif,13"
set output out
set lmargin 15
set rmargin 2
set tmargin 0.5
set bmargin 4
unset ytics
set xlabel "instructions that the kernel has executed since invalidate_range_start()" textcolor rgb ink
load commands
plot NaN notitle
