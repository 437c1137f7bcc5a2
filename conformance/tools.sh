#!/usr/bin/env bash
# Installs what the tests need besides Go, git and make, without questions.
#
#   tools.sh          everything that tests need
#   tools.sh bench    what `make bench` needs
#   tools.sh deploy   what `make deploy-test` needs
#   tools.sh debian   the Debian packages of the tests
#   tools.sh NAME     one program from the Go module proxy, or one root file
#                     system (rootfs-amd64, rootfs-arm64); prints its path
#   tools.sh collector   the OpenTelemetry collector of `make traces`; prints its path
#   tools.sh kube-apiserver   the API server of `make deploy-apiserver`, which takes
#                     long to build, and etcd; prints its path
#   tools.sh kubernetes | gateway-api | prometheus-operator   the sources of a module;
#                     prints where they are
#   tools.sh providers   the OpenID providers of the tests, and axe, from npm; prints
#                     where they are
#
# Programs are built once per exact version and kept in $TOOLS, outside the
# checkout, so that a clean clone finds them again. Debian packages are asked
# for only where a command is missing.
set -euo pipefail

TOOLS=${TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-tools}
# Where the packages from npm are named.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/providers

# name, package, version. The versions are what the tests were written against:
# change one here and nowhere else.
programs='
conformance               github.com/opencontainers/distribution-spec/conformance              v0.0.0-20260831232431-97274622c111
crane                     github.com/google/go-containerregistry/cmd/crane                     v0.22.1
oras                      oras.land/oras/cmd/oras                                              v1.3.6
containerd                github.com/containerd/containerd/v2/cmd/containerd                   v2.4.2
ctr                       github.com/containerd/containerd/v2/cmd/ctr                          v2.4.2
containerd-shim-runc-v2   github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2      v2.4.2
versitygw                 github.com/versity/versitygw/cmd/versitygw                           v1.8.0
'

# The same, for those who ask by name alone.
asked='
builder                   go.opentelemetry.io/collector/cmd/builder                            v0.165.0
helm                      helm.sh/helm/v3/cmd/helm                                             v3.22.0
kubeconform               github.com/yannh/kubeconform/cmd/kubeconform                         v0.8.0
nfpm                      github.com/goreleaser/nfpm/v2/cmd/nfpm                               v2.45.2
cosign                    github.com/sigstore/cosign/v3/cmd/cosign                             v3.1.3
'

# name, module, version: those of which tests read files that describe what Kubernetes takes.
sources='
kubernetes            k8s.io/kubernetes                                          v1.34.4
gateway-api           sigs.k8s.io/gateway-api                                    v1.4.1
prometheus-operator   github.com/prometheus-operator/prometheus-operator         v0.85.0
'

# name, package, module, version: the peers of `make bench`. They are built with the
# module as a requirement, since not every one may be installed by its version.
peers='
registry   github.com/distribution/distribution/v3/cmd/registry   github.com/distribution/distribution/v3   v3.1.1
olareg     github.com/olareg/olareg/cmd/olareg                    github.com/olareg/olareg                  v0.2.2
'

# command, packages that bring it: the same.
benchcommands='
docker-registry   docker-registry
nginx             nginx-light
wrk               wrk
'

# command, packages that bring it: what `make deploy-test` needs.
deploycommands='
docker-compose        docker-compose
systemd-nspawn        systemd-container
qemu-aarch64-static   qemu-user-static
'

# command, packages that bring it: what an API server of Kubernetes needs.
apicommands='
etcd              etcd-server
'

# command, packages that bring it. gcc and libc6-dev are for the race detector.
commands='
gcc               gcc libc6-dev
strace            strace
redis-server      redis-server
prometheus        prometheus
nginx             nginx-light
skopeo            skopeo
podman            podman fuse-overlayfs
containerd        containerd
runc              runc
dockerd           docker.io
docker            docker.io
docker-registry   docker-registry
mmdebstrap        mmdebstrap
iptables          iptables
ip                iproute2
tc                iproute2
node              nodejs
npm               npm
chromium          chromium fonts-dejavu-core
'

# name, options of mmdebstrap: what the tests make images of. The first is a whole
# Debian; the second is unpacked only, since nothing here can run its scripts.
suite=bookworm
trees='
rootfs-amd64   --variant=minbase --skip=output/dev --architectures=amd64
rootfs-arm64   --variant=extract --skip=output/dev --architectures=arm64 --include=base-files,busybox-static
'
# The same, for those who ask by name alone: a machine that boots, for the Debian package.
machine='
rootfs-machine --variant=minbase --skip=output/dev --architectures=amd64 --include=systemd,systemd-sysv,dbus,adduser,ca-certificates
'

say() { echo "tools: $*" >&2; }

# alone reports whether a file is not there, and has this be the only run before it says so: two
# checkouts may share $TOOLS. What is there needs no lock, however long another run builds.
locked=
alone() {
	[[ -e $1 ]] && return 1
	if [[ -z $locked ]]; then
		exec 9>"$TOOLS/.lock"
		flock 9
		locked=yes
	fi
	[[ ! -e $1 ]]
}

# program builds NAME if $TOOLS does not hold it at its version.
program() {
	local name package version dir made
	read -r name package version < <(grep -hE "^$1 " <<<"$programs$asked") || { say "no program is called $1"; return 2; }
	dir=$TOOLS/$name@$version
	if alone "$dir/$name"; then
		say "building $package@$version"
		made=$(mktemp -d "$TOOLS/.$name.XXXXXX")
		if ! (cd / && GOBIN=$made GOFLAGS=-buildvcs=false CGO_ENABLED=0 go install "$package@$version") >&2; then
			rm -rf "$made"
			return 1
		fi
		mkdir -p "$dir"
		mv -f "$made/$name" "$dir/$name"
		rmdir "$made"
	fi
	echo "$dir/$name"
}

# peer builds NAME of the peers, stripped as weir is, if $TOOLS does not hold it.
peer() {
	local name package module version dir made
	read -r name package module version < <(grep -E "^$1 " <<<"$peers")
	dir=$TOOLS/$name@$version
	if alone "$dir/$name"; then
		say "building $package@$version"
		made=$(mktemp -d "$TOOLS/.$name.XXXXXX")
		printf 'module peer\n\ngo 1.26\n\nrequire %s %s\n' "$module" "$version" >"$made/go.mod"
		if ! (cd "$made" && CGO_ENABLED=0 go build -mod=mod -buildvcs=false -trimpath -ldflags '-s -w' -o "$made/$name" "$package") >&2; then
			rm -rf "$made"
			return 1
		fi
		mkdir -p "$dir"
		mv -f "$made/$name" "$dir/$name"
		rm -rf "$made"
	fi
	echo "$dir/$name"
}

# sources_of downloads the module NAME, whose files are read and not built.
sources_of() {
	local name module version
	read -r name module version < <(grep -E "^$1 " <<<"$sources")
	(cd / && go mod download -json "$module@$version") | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

# apiserver builds Kubernetes' API server. It cannot be installed by its version: its module
# replaces those that it is published with, k8s.io/X at v0.Y for its own v1.Y.
apiserver() {
	local name module version dir made staged flags
	read -r name module version < <(grep -E "^kubernetes " <<<"$sources")
	dir=$TOOLS/kube-apiserver@$version
	if alone "$dir/kube-apiserver"; then
		say "building the API server of $module@$version: this takes long"
		made=$(mktemp -d "$TOOLS/.kube-apiserver.XXXXXX")
		staged=v0.${version#v1.}
		flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
		flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
		{
			printf 'module apiserver\n\ngo 1.26\n\nrequire %s %s\n\n' "$module" "$version"
			sed -n "s|^\t\(k8s.io/[a-z0-9-]*\) => ./staging/.*|replace \1 => \1 $staged|p" "$(sources_of kubernetes)/go.mod"
		} >"$made/go.mod"
		if ! (cd "$made" && CGO_ENABLED=0 nice go build -mod=mod -buildvcs=false -trimpath -ldflags "$flags" -o "$made/kube-apiserver" "$module/cmd/kube-apiserver") >&2; then
			rm -rf "$made"
			return 1
		fi
		mkdir -p "$dir"
		mv -f "$made/kube-apiserver" "$dir/kube-apiserver"
		rm -rf "$made"
	fi
	echo "$dir/kube-apiserver"
}

# collector has builder make what collector/builder.yaml names. It cannot be installed by its
# version: the module is not to be had from the proxy.
collector() {
	local dir made config
	config=$(dirname "$here")/collector/builder.yaml
	dir=$TOOLS/otelcol@$(sha256sum "$config" | cut -c 1-16)
	if alone "$dir/otelcol"; then
		made=$(mktemp -d "$TOOLS/.otelcol.XXXXXX")
		say "building the collector of $config"
		if ! (sed "s|^dist:|&\n  output_path: $made/src|" "$config" >"$made/builder.yaml" && cd "$made" &&
			GOFLAGS=-buildvcs=false CGO_ENABLED=0 "$(program builder)" --config builder.yaml) >&2 </dev/null; then
			rm -rf "$made"
			return 1
		fi
		mkdir -p "$dir"
		mv -f "$made/src/otelcol" "$dir/otelcol"
		rm -rf "$made"
	fi
	echo "$dir/otelcol"
}

# tree makes a root file system, as a tar file, from the machine's own Debian mirror.
tree() {
	local name options dir mirror made
	read -r name options < <(grep -E "^$1 " <<<"$trees$machine")
	dir=$TOOLS/$name@$suite-1
	if alone "$dir/$name.tar"; then
		mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" 'Component: main' 'Identifier: Packages' | head -n 1)
		say "making $name from ${mirror:=http://deb.debian.org/debian}"
		made=$(mktemp -d "$TOOLS/.$name.XXXXXX")
		# shellcheck disable=SC2086 # options are several words
		if ! mmdebstrap --quiet --mode=root $options "$suite" "$made/$name.tar" "$mirror" >&2 </dev/null; then
			rm -rf "$made"
			return 1
		fi
		mkdir -p "$dir"
		mv -f "$made/$name.tar" "$dir/$name.tar"
		rmdir "$made"
	fi
	echo "$dir/$name.tar"
}

# providers installs what providers/package-lock.json names, scripts of packages aside.
providers() {
	local dir made
	dir=$TOOLS/providers@$(sha256sum "$here/package-lock.json" | cut -c 1-16)
	if alone "$dir/node_modules"; then
		say "installing the packages of $here"
		made=$(mktemp -d "$TOOLS/.providers.XXXXXX")
		cp "$here/package.json" "$here/package-lock.json" "$made"
		if ! (cd "$made" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier) >&2 </dev/null; then
			rm -rf "$made"
			return 1
		fi
		mv -f "$made" "$dir"
	fi
	echo "$dir"
}

# debian installs the packages of those commands (a table as above) that are missing. The services
# that come with them are not started: tests start what they need themselves.
debian() {
	local command packages want=() policy=/usr/sbin/policy-rc.d ours=
	while read -r command packages; do
		[[ -z $command ]] || PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || read -ra want <<<"${want[*]} $packages"
	done <<<"$1"
	((${#want[@]})) || return 0
	alone /nonexistent # apt-get has a lock of its own, which it does not wait for
	if ((EUID != 0)); then
		say "missing packages, and only root can install them: ${want[*]}"
		return 1
	fi
	say "installing ${want[*]}"
	if [[ ! -e $policy ]]; then
		ours=$policy
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	{
		DEBIAN_FRONTEND=noninteractive apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Dpkg::Use-Pty=0 -y --no-install-recommends "${want[@]}"
	} >&2 </dev/null
	[[ -z $ours ]] || rm -f "$ours"
	# The package would listen on port 5000 from the next boot on, which is weir's.
	if [[ " ${want[*]} " == *" docker-registry "* ]] && [[ -d /run/systemd/system ]]; then
		systemctl disable docker-registry >&2 || say "docker-registry stays enabled"
	fi
}

mkdir -p "$TOOLS"

case ${1:-all} in
all)
	debian "$commands"
	while read -r name _; do
		[[ -z $name ]] || program "$name" >/dev/null
	done <<<"$programs"
	while read -r name _; do
		[[ -z $name ]] || tree "$name" >/dev/null
	done <<<"$trees"
	providers >/dev/null
	;;
deploy)
	debian "$deploycommands"
	for name in nfpm helm kubeconform cosign; do
		program "$name" >/dev/null
	done
	tree rootfs-machine >/dev/null
	while read -r name _; do
		[[ -z $name ]] || sources_of "$name" >/dev/null
	done <<<"$sources"
	;;
bench)
	debian "$benchcommands"
	program versitygw >/dev/null || say "versitygw is not to be had: rows on S3 will fail"
	while read -r name _; do
		# One that is not to be had is left out of the comparison, and the table says so.
		[[ -z $name ]] || peer "$name" >/dev/null || say "$name is not to be had"
	done <<<"$peers"
	;;
debian) debian "$commands" ;;
registry | olareg) peer "$1" ;;
kubernetes | gateway-api | prometheus-operator) sources_of "$1" ;;
kube-apiserver)
	debian "$apicommands"
	apiserver
	;;
rootfs-*) tree "$1" ;;
providers) providers ;;
collector) collector ;;
*) program "$1" ;;
esac
