#!/usr/bin/env bash
# Usage: addons.sh CACHE_DIR
# Builds CACHE_DIR/bin/{traefik,metrics-server,kueue} from Go modules, for the tests of exposed Services and of queues,
# and copies their resource definitions to CACHE_DIR/crds. What is there is kept. Nine minutes on two cores, once:
# Traefik is built without the clients of 180 DNS providers, which only certificates need, and which take twenty more.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 CACHE_DIR" >&2; exit 2; }
# Traefik 3.6 and not newer: its module needs no version that the module proxy lacks.
traefik=github.com/traefik/traefik/v3@v3.6.12
metrics=sigs.k8s.io/metrics-server@v0.9.0
gateway=sigs.k8s.io/gateway-api@v1.4.0
kueue=sigs.k8s.io/kueue@v0.12.3 # the last one with a single version of its kinds, which needs no web hooks
mkdir -p "$1/bin" "$1/crds/kueue"
out=$(cd "$1" && pwd)
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" GOWORK=off

fetched() { # MODULE: its folder
	(cd / && go mod download -json "$1") | awk -F'"' '$2 == "Dir" {print $4}'
}
is_built() { # NAME MODULE
	[ -x "$out/bin/$1" ] && [ "$(cat "$out/bin/$1.module" 2>/dev/null)" = "$2" ]
}
built() { # NAME MODULE PACKAGE [FLAG…]
	local name=$1 module=$2 package=$3
	# `go install module@version` refuses modules with `replace`; a build inside the module does not.
	(cd "$(fetched "$module")" && go build -p "$(nproc)" -ldflags "-s -w" "${@:4}" -o "$out/bin/$name.new" "$package")
	mv -f "$out/bin/$name.new" "$out/bin/$name"
	echo "$module" >"$out/bin/$name.module"
}
without_dns_providers() { # MODULE SCRATCH: its go.mod, with a copy of lego that knows none
	local source version lego=github.com/go-acme/lego/v4
	source=$(fetched "$1")
	version=$(cd "$source" && go list -m -f '{{.Version}}' $lego)
	cp -r "$(fetched "$lego@$version")" "$2/lego"
	cp "$source/go.mod" "$source/go.sum" "$2"
	chmod -R u+w "$2"
	cat >"$2/lego/providers/dns/zz_gen_dns_providers.go" <<-'GO'
		package dns

		import (
			"errors"

			"github.com/go-acme/lego/v4/challenge"
		)

		func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
			return nil, errors.New("built without DNS provider " + name)
		}
	GO
	go mod edit -replace "$lego=$2/lego" "$2/go.mod"
	echo "$2/go.mod"
}
is_built metrics-server "$metrics" || built metrics-server "$metrics" ./cmd/metrics-server
is_built kueue "$kueue" || built kueue "$kueue" ./cmd/kueue
if ! is_built traefik "$traefik"; then
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	built traefik "$traefik" ./cmd/traefik -modfile "$(without_dns_providers "$traefik" "$scratch")"
fi
cp -f "$(fetched "$traefik")/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml" "$out/crds/traefik.yaml"
for kind in gatewayclasses gateways httproutes grpcroutes referencegrants backendtlspolicies; do
	cp -f "$(fetched "$gateway")/config/crd/standard/gateway.networking.k8s.io_$kind.yaml" "$out/crds/gateway-$kind.yaml"
done
cp -f "$(fetched "$kueue")"/config/components/crd/bases/*.yaml "$out/crds/kueue"
chmod -R u+w "$out/crds"
echo "built: $out/bin/traefik, $out/bin/metrics-server, $out/bin/kueue"
