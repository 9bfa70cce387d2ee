# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Sourced, after lib.sh, by the scripts that build and run kernels.

# All that make run and make test call, so that it is installed at once.
# shellcheck disable=SC2034 # for those who source this
kernel_packages=(
	git xz-utils patch coccinelle
	gcc libc6-dev make flex bison bc libelf-dev libssl-dev kmod rsync cpio perl ccache binutils
	qemu-system-x86 python3
)

# 135 -> 2 min 15 s
minutes() {
	if [ "$1" -lt 60 ]; then
		echo "$1 s"
	else
		echo "$(($1 / 60)) min $(($1 % 60)) s"
	fi
}
