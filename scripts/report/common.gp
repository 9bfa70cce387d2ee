# SPDX-License-Identifier: GPL-2.0
#
# Colours are names for report.sh, which makes variables of the style sheet of them.
ink = 0x010001
muted = 0x010002
grid = 0x010003
true = 0x010004
old = 0x010005
freed = 0x010006
none = 0x010007
stopped = 0x010008
on_true = 0x010009
on_old = 0x01000a
on_freed = 0x01000b
on_none = 0x01000c
on_stopped = 0x01000d
first = 0x01000e
second = 0x01000f

set encoding utf8
set border 1 linecolor rgb muted
set tics nomirror out textcolor rgb ink
set format x "%'.0f"
unset key
