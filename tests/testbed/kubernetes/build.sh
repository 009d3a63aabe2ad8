#!/usr/bin/env bash
# Usage: build.sh CACHE_DIR
# Builds CACHE_DIR/bin/{kube,pause}. A binary made from the same inputs is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: $0 CACHE_DIR" >&2; exit 2; }
mkdir -p "$1/bin"
out=$(cd "$1" && pwd)
cd "$here"

version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3} $1 == "k8s.io/kubernetes" && $2 != "=>" {print $2}' go.mod | head -n 1)
minor=${version#v1.}; minor=${minor%%.*}
stamp=$( { cat go.mod go.sum main.go pause/main.go; go version; } | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/bin/stamp" 2>/dev/null)" = "$stamp" ] && [ -x "$out/bin/kube" ] && [ -x "$out/bin/pause" ]; then
	echo "up to date: $out/bin ($version)"
	exit 0
fi

# An archive with a build of these very inputs (its kube.stamp lies beside it) saves ten minutes; without it, or with
# other inputs, it is compiled. $TIDEMILL_KUBE_PREBUILT names it, or a folder beside the checkout has it.
for prebuilt in "${TIDEMILL_KUBE_PREBUILT:-}" "$here/../../../../shared/testbed/kubernetes/prebuilt.tar.xz"; do
	if [ -f "$prebuilt" ] && [ "$(cat "$(dirname "$prebuilt")/kube.stamp" 2>/dev/null)" = "$stamp" ]; then
		tar -C "$out/bin" -xJf "$prebuilt"
		echo "$stamp" >"$out/bin/stamp"
		echo "unpacked $out/bin ($version)"
		exit 0
	fi
done

flags="-s -w"
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	flags="$flags -X $p.gitVersion=$version -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean"
done
export CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false" GOWORK=off
start=$(date +%s)
# The linker's peak is about 2 GiB; -p keeps the compile within the cores.
nice -n 10 go build -p "$(nproc)" -tags grpcnotrace -ldflags "$flags" -o "$out/bin/kube.new" .
nice -n 10 go build -ldflags "-s -w" -o "$out/bin/pause.new" ./pause
mv -f "$out/bin/kube.new" "$out/bin/kube"
mv -f "$out/bin/pause.new" "$out/bin/pause"
echo "$stamp" >"$out/bin/stamp"
echo "built $version in $(($(date +%s) - start)) s: $out/bin"
