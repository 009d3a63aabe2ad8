#!/bin/sh
# Builds what `make test-peers` needs from the Go module proxy into .cache/bin, once: the MinIO server (AGPL-3.0, a peer
# of tests alone). About six minutes on two cores; needs Go >= 1.24.
set -eu
cd "$(dirname "$0")/../.."
version=v0.0.0-20260212201848-7aac2a2c5b7c
bin=$PWD/.cache/bin
[ "$(cat "$bin/minio.version" 2>/dev/null)" = "$version" ] && [ -x "$bin/minio" ] && exit 0
if ! command -v go >/dev/null; then
  echo "please install Go >= 1.24 (tests with MinIO are skipped without, and fail with CI set)" >&2
  exit 0
fi
mkdir -p "$bin"
GOBIN=$bin GOFLAGS=-buildvcs=false nice -n 10 go install -tags kqueue -trimpath -ldflags '-s -w' "github.com/minio/minio@$version"
echo "$version" > "$bin/minio.version"
