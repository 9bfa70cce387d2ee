# shellcheck shell=bash disable=SC2154 # who sources it sets dir
# SPDX-License-Identifier: GPL-2.0
#
# Sourced, after lib.sh, by the scripts that take packages from Debian's archive. apt and dpkg of this
# machine are only asked, never changed: all they write is in $dir, which is temporary.

# mirror SUITE: where this machine gets its own packages from
mirror() {
	local release

	# shellcheck disable=SC1091 # of the machine
	release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	# shellcheck disable=SC2016 # for apt-get
	apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | awk -v suite="$1" -v own="$release" '
	function security(name) { return name ~ /-security$/ }
	$1 == suite { exact = $2 }
	security($1) == security(suite) && $1 ~ "^" own { like = $2 }
	END { print exact ? exact : like }'
}

# The lists of the suites in question, and nothing else that apt knows.
write_sources_list() { # INSTEAD SUITE...
	local suite uri keys=/usr/share/keyrings/debian-archive-keyring.gpg instead=$1

	shift
	for suite; do
		uri=$(mirror "$suite")
		[ -n "$uri" ] || die "apt of this machine has no mirror of $suite; $instead"
		echo "deb $([ ! -f $keys ] || echo "[signed-by=$keys] ")$uri $suite main"
	done
}

# apt COMMAND...: with all state in $dir
apt_aside() {
	local command=$1

	shift
	"$command" -q -o "Dir::State=$dir/state" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root \
		-o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o APT::Update::Error-Mode=any -o Acquire::Retries=3 "$@" </dev/null
}

apt_error() {
	sed -n 's/^E: //p' "$dir/log" | head -n 1 | grep . || tail -n 1 "$dir/log"
}

# open_archive INSTEAD SUITE...: apt_aside knows what these suites have; INSTEAD says what else one can do
open_archive() {
	local instead=$1

	mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
	write_sources_list "$@" >"$dir/sources.list"
	apt_aside apt-get update >"$dir/log" 2>&1 ||
		die "the archive of Debian cannot be reached ($(apt_error)); try again with a network, or $instead"
}

# A line now and then, until process PID has ended.
show_download() { # PID
	local last=0 now

	while kill -0 "$1" 2>/dev/null; do
		sleep 1
		now=$(du -sm "$dir" | cut -f 1)
		[ $((now - last)) -lt 30 ] || { note "  $now MB"; last=$now; }
	done
}
