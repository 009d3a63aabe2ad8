#!/bin/sh
# base.sh CACHE_DIR: the base of all test images, from Debian packages: localhost/testbed/python:3.11 in the Docker daemon.
# Needs root and mmdebstrap, once; afterwards the archive in CACHE_DIR is loaded in a second.
set -eu
cache=$(mkdir -p "$1" && cd "$1" && pwd)
image=localhost/testbed/python:3.11
docker image inspect "$image" > /dev/null 2>&1 && exit 0
if ! [ -f "$cache/base.tar" ]; then
  command -v mmdebstrap > /dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap > /dev/null
  }
  # this machine's certificates: a build reaches the package index as its host does
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='cat /etc/ssl/certs/ca-certificates.crt > "$1/etc/ssl/certs/ca-certificates.crt"' \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
    bookworm "$cache/base.part.tar"
  mv "$cache/base.part.tar" "$cache/base.tar"
fi
docker import -c 'CMD ["python3"]' -c 'ENV LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  "$cache/base.tar" "$image" > /dev/null
