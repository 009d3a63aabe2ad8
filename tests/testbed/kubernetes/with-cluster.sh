#!/usr/bin/env bash
# Usage: with-cluster.sh COMMAND…
# Runs COMMAND with helm in PATH and KUBECONFIG set: as it is when it is set, else of a cluster and a Docker daemon that
# are made for it, with the images of this tree, and taken down afterwards in any case.
# A cluster of one's own must be able to pull the images; $TIDEMILL_TEST_VALUES (Helm values) says where they are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=$root/.cache/kubernetes
cd "$root"
"$here/helm.sh" "$root/.cache/bin"
export PATH=$root/.cache/bin:$PATH
if [ -n "${KUBECONFIG:-}" ]; then
	PATH=$PATH:$(dirname "$KUBECONFIG")/bin exec "$@" # where up.sh puts a kubectl
fi

mkdir -p "$cache"
state=$(mktemp -d)
private_docker=
down() {
	"$here/down.sh" "$state" --wipe || true
	if [ -n "$private_docker" ]; then sh "$root/tests/testbed/docker/down.sh" "$state/docker" || true; fi
	if grep -q " $state/" /proc/mounts; then echo "still mounted below $state; not removed" >&2; else rm -rf "$state"; fi
}
trap down EXIT
trap 'exit 130' INT TERM
if [ -z "${DOCKER_HOST:-}" ]; then
	private_docker=yes
	sh "$root/tests/testbed/docker/up.sh" "$state/docker" ||
		DOCKERD_OPTS="--iptables=false --bridge=none" sh "$root/tests/testbed/docker/up.sh" "$state/docker"
	export DOCKER_HOST=unix://$state/docker/docker.sock
fi
KUBECONFIG=$("$here/up.sh" "$state" "$cache")
export KUBECONFIG PATH=$state/bin:$PATH
sh "$root/tests/testbed/images/build.sh" --push-to "$state/containerd/sock"
export TIDEMILL_TESTBED_STATE=$state TIDEMILL_TESTBED_CACHE=$cache # for tests that kill parts of the node
export TIDEMILL_TEST_SUPERVISOR_IMAGE=localhost/tidemill/supervisor:test
"$@"
