#!/usr/bin/env bash
# build.sh DIR ARCH...   makes weir's Debian package for each of the architectures in DIR, and prints its path.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# v1.2.3 is 1.2.3, v1.3.0-rc.1 comes before 1.3.0, and four commits later is 1.2.3+4.gabcdef012345.
version=$(git describe --tags --match 'v[0-9]*' --always --dirty --abbrev=12 2>/dev/null || echo unknown)
if [[ -n ${DEB_VERSION:-} ]]; then
	: # whoever asks knows
elif [[ $version == v[0-9]* ]]; then
	DEB_VERSION=$(sed -E 's/^v//; s/-(rc|beta|alpha)/~\1/; s/-/+/; s/-/./g' <<<"$version")
else
	DEB_VERSION=0.0.0+git$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S 2>/dev/null || echo 0).${version//-/.}
fi
# The same commit makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export DEB_VERSION DEB_ARCH DEB_BINARY DEB_COPYRIGHT SOURCE_DATE_EPOCH

nfpm=$(conformance/tools.sh nfpm)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
DEB_COPYRIGHT=$made/copyright
GOFLAGS='' GOOS='' GOARCH='' go run ./deploy/licences >"$DEB_COPYRIGHT"
for DEB_ARCH in "$@"; do
	DEB_BINARY=$made/weir-$DEB_ARCH
	# As `make release`: nothing of this machine's settings.
	GOFLAGS='' GOEXPERIMENT='' GOAMD64=v1 GOARM64=v8.0 GOOS=linux GOARCH=$DEB_ARCH make --no-print-directory build BIN="$DEB_BINARY" >&2
	"$nfpm" package --config deploy/debian/nfpm.yaml --packager deb --target "$out/weir_${DEB_VERSION}_$DEB_ARCH.deb" >&2
	echo "$out/weir_${DEB_VERSION}_$DEB_ARCH.deb"
done
