#!/usr/bin/env bash
# Usage: kueue.sh CACHE_DIR
# Builds CACHE_DIR/bin/kueue from its Go module, for the test of queues, and copies its resource definitions to
# CACHE_DIR/crds/kueue. What is there is kept. Four minutes on two cores, once.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 CACHE_DIR" >&2; exit 2; }
kueue=sigs.k8s.io/kueue@v0.12.3 # the last one with a single version of its kinds, which needs no web hooks
mkdir -p "$1/bin" "$1/crds/kueue"
out=$(cd "$1" && pwd)
if [ -x "$out/bin/kueue" ] && [ "$(cat "$out/bin/kueue.module" 2>/dev/null)" = "$kueue" ]; then exit 0; fi
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" GOWORK=off
source=$(cd / && go mod download -json "$kueue" | awk -F'"' '$2 == "Dir" {print $4}')
(cd "$source" && go build -p "$(nproc)" -ldflags "-s -w" -o "$out/bin/kueue.new" ./cmd/kueue)
cp -f "$source"/config/components/crd/bases/*.yaml "$out/crds/kueue"
chmod -R u+w "$out/crds/kueue"
mv -f "$out/bin/kueue.new" "$out/bin/kueue"
echo "$kueue" >"$out/bin/kueue.module"
echo "built: $out/bin/kueue"
