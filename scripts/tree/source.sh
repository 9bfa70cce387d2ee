# shellcheck shell=bash disable=SC2154 # tree.sh has set it
# SPDX-License-Identifier: GPL-2.0
#
# Sourced by tree.sh, after archive.sh: where the kernel source comes from, and whether it is the right one.
#
# KSRC= is a directory, a tarball, or a version of Debian's package. Without it, it is the
# version that trees/TREE/kernel names, or the newest one if the archive has dropped that.
# A package is downloaded and unpacked in build/sources; apt and dpkg of this machine are only
# asked, never changed.

package=$(tree_says package)
sources=$STORE/sources

# --- which source ---------------------------------------------------------

# Sets src, or debian, a version.
find_source() {
	src=
	debian=
	if [ -z "${KSRC:-}" ]; then
		debian=$(tree_says version)
	elif is_version "$KSRC"; then
		debian=$KSRC
	else
		[ -e "$KSRC" ] ||
			die "KSRC=$KSRC does not exist; give a kernel source directory, a tarball, or a version of Debian's $package"
		src=$(realpath "$KSRC")
	fi
}

is_git() {
	[ -e "$src/.git" ]
}

# What changes when another source is wanted.
source_stamp() {
	if [ -n "$debian" ]; then
		echo "debian $package $debian"
		return
	fi
	echo "path $src"
	if [ -f "$src" ]; then
		stat -L -c 'tarball %s %Y' "$src"
	elif is_git; then
		git -C "$src" rev-parse --verify HEAD ||
			die "cannot read the git repository $src; give a tarball of it"
	else
		echo "directory $(find "$src" -type f -printf '%P %s %T@\n' | sort | sha256sum)"
	fi
}

# --- Debian's archive -----------------------------------------------------

installed_version() {
	dpkg-query -W -f '${Version}' "$package" 2>/dev/null || :
}

# have_version VERSION: what the archive has, newest first, is in $dir/versions
have_version() {
	grep -qxF "$1" "$dir/versions"
}

# Prints the version that there is.
choose_version() {
	apt_aside apt-cache madison "$package" | awk -F ' *[|] *' '{ print $2 }' >"$dir/versions"
	[ -s "$dir/versions" ] || die "the archive has no $package; give KSRC= a source of Linux $TREE.y"
	if have_version "$debian"; then
		echo "$debian"
	elif [ -n "${KSRC:-}" ]; then
		die "the archive has no $package $debian; it has $(xargs <"$dir/versions")"
	else
		note "the archive has no $package $debian any more, for which the series was made; taking the newest"
		head -n 1 "$dir/versions"
	fi
}

# Prints the name of the tarball, which is there whole or not at all.
download() (
	set -o pipefail
	exec 6>"$sources/.lock"
	flock 6
	rm -rf "$sources"/tmp.*
	dir=$(mktemp -d "$sources/tmp.XXXXXX")
	trap 'rm -rf "$dir"' EXIT
	# shellcheck disable=SC2046 # one word per suite
	open_archive "give KSRC= a source of Linux $TREE.y" $(tree_says suites)
	version=$(choose_version)
	tarball=$sources/${package}_$version.tar.xz
	if [ ! -f "$tarball" ]; then
		note "downloading $package $version"
		cd "$dir" || exit 1
		apt_aside apt-get download "$package=$version" >"$dir/log" 2>&1 &
		show_download $!
		wait $! || die "$package $version cannot be downloaded ($(apt_error)); try again"
		dpkg-deb --fsys-tarfile "$dir/$package"*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' >"$dir/tarball" ||
			die "$package $version cannot be unpacked; is the disk full? free some, and try again"
		mv "$dir/tarball" "$tarball"
	fi
	echo "$tarball"
)

# For a version: sets src and debian, which may be a newer one than was wanted.
get_source() {
	[ -n "$debian" ] || return 0
	src=/usr/src/$package.tar.xz
	[ "$(installed_version)" != "$debian" ] || [ ! -f "$src" ] || return 0
	need_commands apt-get apt-cache dpkg-deb
	mkdir -p "$sources" 2>/dev/null || die "cannot create $sources; set BUILD= to a directory that can be written"
	need_disk 1000 "$sources"
	src=$(download)
	debian=${src##*_}
	debian=${debian%.tar.xz}
}

# What was downloaded is in stock now.
drop_source() {
	case $src in
	"$sources"/*) rm -f "$src" ;;
	esac
}

# --- is it what is wanted? ------------------------------------------------

# One member only: to unpack all would take half a minute.
tar_makefile() {
	tar -xOf "$src" --wildcards --no-wildcards-match-slash --occurrence=1 '*/Makefile' 2>/dev/null ||
		die "$src has no */Makefile that tar can read; it is damaged, or not a kernel tarball as kernel.org and Debian make it"
}

source_makefile() {
	local text

	if [ -f "$src" ]; then
		tar_makefile
		return
	elif is_git; then
		text=$(git -C "$src" show HEAD:Makefile 2>/dev/null) || text=
	else
		text=$(cat "$src/Makefile" 2>/dev/null) || text=
	fi
	[ -n "$text" ] || die "$src has no Makefile; KSRC= has to be the top of a kernel source"
	echo "$text"
}

read_version() {
	awk '
	/^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=/ {
		name = value = $0
		sub(/[ \t]*=.*/, "", name)
		sub(/[^=]*=[ \t]*/, "", value)
		if (!(name in v))
			v[name] = value
	}
	END {
		if (v["VERSION"] != "")
			print v["VERSION"] "." v["PATCHLEVEL"] "." v["SUBLEVEL"] v["EXTRAVERSION"]
	}'
}

# Sets version. All that can be wrong with a source and be known without writing anything.
check_source() {
	local makefile

	[ ! "$src" -ef "$tree" ] || die "KSRC is the tree to be made; give the source it was made from"
	makefile=$(source_makefile)
	version=$(read_version <<<"$makefile")
	case $version in
	"$TREE".*) ;;
	"") die "the Makefile of $src names no kernel version; KSRC= has to be a source of Linux $TREE.y" ;;
	*) die "$src: this is Linux $version, the series is for $TREE.y; set KSRC= to a source of that" ;;
	esac
	if [ -d "$src" ] && ! is_git; then
		if [ -e "$src/.config" ] || [ -e "$src/include/config" ]; then
			die "$src has been built in; run 'make mrproper' there, or give a tarball"
		fi
	fi
}

unpack_source() {
	if [ -f "$src" ]; then
		tar -xf "$src" --strip-components=1 --no-same-owner -C "$new"
	elif is_git; then
		git -C "$src" archive HEAD | tar -xf - -C "$new"
	else
		cp -a "$src/." "$new/"
	fi
}

source_date() {
	if is_git; then
		git -C "$src" log -1 --format=%ct
	else
		stat -c %Y "$new/Makefile"
	fi
}
