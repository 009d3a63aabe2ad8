#!/bin/sh
# shell.sh COMPONENT DIR: the shell that Workers bring into user images without one. DIR gets Debian's static busybox, links
# to it by the names of its applets, its licence (GPL-2) and the version, whose source Debian keeps. It is a program of its
# own, beside tidemill's and not linked with them. In the supervisor's image alone; others stay as they are.
# On a base without apt-get it is left out: images without /bin/sh then cannot be run.
set -eu
mkdir -p "$2"
[ "$1" = supervisor ] || exit 0
command -v apt-get > /dev/null || { echo "shell.sh: no apt-get, so no busybox" >&2; exit 0; }
scratch=$(mktemp -d)
cd "$scratch"
apt-get -qq update
apt-get -qq -o APT::Sandbox::User=root download busybox-static
dpkg-deb -x busybox-static_*.deb .
install -m 0755 "$(find . -name busybox -type f -path '*bin/*')" "$2/busybox"
install -m 0644 usr/share/doc/busybox-static/copyright "$2/COPYRIGHT.busybox"
dpkg-deb -f busybox-static_*.deb Package Version Source > "$2/VERSION.busybox"
for applet in $("$2/busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$2/$applet"; done
cd /
rm -rf "$scratch" /var/lib/apt/lists/*
