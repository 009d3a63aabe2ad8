#!/usr/bin/env bash
# Usage: addons.sh CACHE_DIR
# Builds CACHE_DIR/bin/{traefik,metrics-server} from Go modules, for the tests of exposed Services, and copies the
# resource definitions that Traefik needs to CACHE_DIR/crds. What is there is kept. Traefik takes about twenty minutes
# on two cores and 3 GiB of GOCACHE, metrics-server five.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 CACHE_DIR" >&2; exit 2; }
# Traefik 3.6 and not newer: its module needs no version that the module proxy lacks.
traefik=github.com/traefik/traefik/v3@v3.6.12
metrics=sigs.k8s.io/metrics-server@v0.9.0
gateway=sigs.k8s.io/gateway-api@v1.4.0
mkdir -p "$1/bin" "$1/crds"
out=$(cd "$1" && pwd)
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" GOWORK=off

fetched() { # MODULE: its folder
	(cd / && go mod download -json "$1") | awk -F'"' '$2 == "Dir" {print $4}'
}
built() { # NAME MODULE PACKAGE
	if [ -x "$out/bin/$1" ] && [ "$(cat "$out/bin/$1.module" 2>/dev/null)" = "$2" ]; then return; fi
	# `go install module@version` refuses modules with `replace`; a build inside the module does not.
	(cd "$(fetched "$2")" && nice -n 10 go build -p "$(nproc)" -ldflags "-s -w" -o "$out/bin/$1.new" "$3")
	mv -f "$out/bin/$1.new" "$out/bin/$1"
	echo "$2" >"$out/bin/$1.module"
}
built metrics-server "$metrics" ./cmd/metrics-server
built traefik "$traefik" ./cmd/traefik
cp -f "$(fetched "$traefik")/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml" "$out/crds/traefik.yaml"
for kind in gatewayclasses gateways httproutes grpcroutes referencegrants backendtlspolicies; do
	cp -f "$(fetched "$gateway")/config/crd/standard/gateway.networking.k8s.io_$kind.yaml" "$out/crds/gateway-$kind.yaml"
done
chmod -R u+w "$out/crds"
echo "built: $out/bin/traefik, $out/bin/metrics-server"
