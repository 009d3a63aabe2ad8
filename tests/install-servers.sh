#!/bin/sh
# Servers and peers that only tests and benchmarks need. Debian and root: installs what is missing; elsewhere: says what to install.
set -eu
missing=""
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v rclone >/dev/null || missing="$missing rclone"
command -v wrk >/dev/null || missing="$missing wrk"
command -v docker >/dev/null || missing="$missing docker.io"
command -v dockerd >/dev/null || [ -n "${DOCKER_HOST:-}" ] || missing="$missing docker.io"
command -v iptables >/dev/null || missing="$missing iptables"
command -v busybox >/dev/null || missing="$missing busybox-static"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "please install:$missing (tests that need them are skipped without, and fail with CI set)" >&2
  exit 0
fi
mkdir -p /etc/postgresql-common
grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf ||
  echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf
# no package may start its service here
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
