#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# files.sh TREE: print every file in TREE that has a trace of invalidate_range().
set -eu

tree=${1:?usage: files.sh TREE}
left=$("$(dirname "$0")/check.sh" "$tree") || [ $? -eq 1 ]
printf '%s\n' "$left" | sed '/^$/d;s/:.*//' | sort -u
