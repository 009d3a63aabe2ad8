#!/bin/sh
# images.sh: makes the images of the tests at $DOCKER_HOST, from nothing but a static busybox:
#   testbed/busybox:1   a shell and ten tools, root;   testbed/somebody:1   the same with a user and a variable of its own
set -eu
have() { docker image inspect "$1" > /dev/null 2>&1; }
have testbed/busybox:1 && have testbed/somebody:1 && exit 0
R=$(mktemp -d)
trap 'rm -rf "$R"' EXIT
mkdir -p "$R/bin" "$R/tmp" "$R/etc"
chmod 1777 "$R/tmp"
cp "$(command -v busybox)" "$R/bin/busybox"
for tool in sh ls cat echo sleep env id wc sha256sum nc httpd; do ln -s busybox "$R/bin/$tool"; done
printf 'root:x:0:0:root:/:/bin/sh\nsomebody:x:4321:4321::/:/bin/sh\n' > "$R/etc/passwd"
have testbed/busybox:1 ||
  tar -C "$R" -c . | docker import -c 'CMD ["/bin/sh"]' -c 'ENV PATH=/bin' - testbed/busybox:1 > /dev/null
have testbed/somebody:1 ||
  tar -C "$R" -c . | docker import -c 'ENTRYPOINT ["/bin/echo", "never"]' -c 'USER somebody' \
    -c 'ENV PATH=/bin OF_THE_IMAGE=kept' - testbed/somebody:1 > /dev/null
