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

# arch: the kernel's name of ARCH. cross: what its compiler and so on have before theirs.
# shellcheck disable=SC2034 # for those who source this
case ${ARCH:-x86_64} in
x86_64 | x86)
	arch=x86_64
	cross=
	;;
arm64)
	arch=arm64
	cross=aarch64-linux-gnu-
	kernel_packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm)
	;;
*) die "ARCH=$ARCH is not supported; give x86_64, which is the default, or arm64" ;;
esac

# kernel_dir STATE: where build.sh puts its kernel
kernel_dir() {
	case $arch in
	x86_64) echo "$BUILD/kernels/$1" ;;
	*) echo "$BUILD/kernels/$1-$arch" ;;
	esac
}

# 135 -> 2 min 15 s
minutes() {
	if [ "$1" -lt 60 ]; then
		echo "$1 s"
	else
		echo "$(($1 / 60)) min $(($1 % 60)) s"
	fi
}
