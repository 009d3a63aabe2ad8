#!/bin/sh
# down.sh STATE_DIR: ends the dockerd that up.sh started, with its containers.
set -eu
S=$(cd "$1" && pwd)
[ -f "$S/dockerd.pid" ] || exit 0
export DOCKER_HOST="unix://$S/docker.sock"
P=$(cat "$S/dockerd.pid")
docker ps -q 2>/dev/null | xargs -r docker kill > /dev/null 2>&1 || true
kill "$P" 2>/dev/null || true
i=0
while kill -0 "$P" 2>/dev/null && [ "$i" -lt 150 ]; do i=$((i + 1)); sleep 0.1; done
kill -9 "$P" 2>/dev/null || true
umount "$S/exec/netns/default" "$S/root" 2>/dev/null || true
