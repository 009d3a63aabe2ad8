#!/bin/sh
# up.sh STATE_DIR: a private dockerd (needs root) with an image made of busybox; prints its DOCKER_HOST.
# DOCKERD_OPTS adds flags, for example "--iptables=false --bridge=none" where there is no netfilter; not beside another
# daemon: it would remove that one's bridge.
set -eu
mkdir -p "$1"
S=$(cd "$1" && pwd)
export DOCKER_HOST="unix://$S/docker.sock"
rm -f "$S/dockerd.pid"
# shellcheck disable=SC2086
setsid dockerd --data-root "$S/root" --exec-root "$S/exec" --pidfile "$S/dockerd.pid" -H "$DOCKER_HOST" \
  ${DOCKERD_OPTS:-} >> "$S/log" 2>&1 < /dev/null &
P=$!
i=0
until docker version > /dev/null 2>&1; do
  kill -0 "$P" 2>/dev/null || { tail -20 "$S/log" >&2; exit 1; }
  i=$((i + 1))
  [ "$i" -lt 300 ] || { echo "dockerd does not answer" >&2; tail -20 "$S/log" >&2; kill "$P"; exit 1; }
  sleep 0.2
done
sh "$(dirname "$0")/images.sh"
echo "$DOCKER_HOST"
