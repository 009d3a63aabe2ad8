#!/bin/sh
# compose.sh CACHE_DIR: prints a command that is Docker Compose v2: this machine's, or one that is built here, once, from
# its Go module (three minutes of CPU; 60 MB are kept).
set -eu
version=v2.40.3
if docker compose version > /dev/null 2>&1; then
  echo "docker compose"
  exit 0
fi
cache=$(mkdir -p "$1" && cd "$1" && pwd)
command=$cache/docker-compose-$version
if ! [ -x "$command" ]; then
  command -v go > /dev/null || { echo "neither docker compose nor go is here" >&2; exit 1; }
  source=$(GOFLAGS=-mod=mod go mod download -json "github.com/docker/compose/v2@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # built in a copy: as the main module its `replace` directives count
  cp -r "$source" "$scratch/source" && chmod -R u+w "$scratch/source"
  (cd "$scratch/source" && CGO_ENABLED=0 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" -o "$command.part" ./cmd) >&2
  mv "$command.part" "$command"
fi
echo "$command"
