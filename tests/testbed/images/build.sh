#!/bin/sh
# build.sh [--push-to CONTAINERD_SOCKET] [NAME…]: test images in the Docker daemon at DOCKER_HOST, without a registry.
#   gateway storage-bridge scheduler supervisor cli   localhost/tidemill/NAME:test, by deploy/images/Dockerfile
#   nats seaweedfs postgresql                         localhost/testbed/NAME:test, what docker-compose.yml takes from a registry
#   python busybox                                    localhost/testbed/python:3.11 (their base), localhost/testbed/busybox:1, for Services
# Without NAME: all. --push-to: into a cluster's containerd as well, under the same names; use imagePullPolicy Never or
# IfNotPresent there. CACHE (default .cache/images) keeps the base. What has not changed comes from the daemon's layers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
cache=${CACHE:-.cache/images}
bin=${TIDEMILL_BIN:-.venv/bin}
socket=
if [ "${1:-}" = --push-to ]; then
  socket=$2
  shift 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

build() { docker build -q --network host "$@" > /dev/null; }

component() {
  set -- "$1" -f deploy/images/Dockerfile --build-arg BASE_IMAGE=localhost/testbed/python:3.11 --build-arg COMPONENT="$1" \
    -t "localhost/tidemill/$1:test"
  shift
  for option in index-url extra-index-url; do # as this machine's pip is set up
    value=$("$bin/python" -m pip config get "global.$option" 2> /dev/null) || continue
    set -- "$@" --build-arg "PIP_$(echo "$option" | tr a-z- A-Z_)=$value"
  done
  build "$@" .
}

busybox_root() { # DIR: a file system of the static busybox
  mkdir -p "$1/bin" "$1/etc" "$1/tmp" "$1/root" "$1/usr/bin"
  chmod 1777 "$1/tmp"
  cp "$(command -v busybox)" "$1/bin/busybox"
  for applet in $("$1/bin/busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"; done
  ln -s ../../bin/env "$1/usr/bin/env"
  printf 'root:x:0:0::/root:/bin/sh\nseaweed:x:1000:1000::/data:/bin/sh\n' > "$1/etc/passwd"
  printf 'root:x:0:\nseaweed:x:1000:\n' > "$1/etc/group"
}

rooted() { # NAME CHANGE: an image of $scratch/root
  tar -C "$scratch/root" --sort=name --mtime=@0 -c . |
    docker import -c 'ENV PATH=/usr/local/bin:/usr/bin:/bin' -c "$2" - "$1" > /dev/null
}

server() {
  rm -rf "$scratch/root" && mkdir "$scratch/root"
  busybox_root "$scratch/root"
  case $1 in
    busybox) rooted localhost/testbed/busybox:1 'CMD ["/bin/sh"]' ;;
    nats)
      install -D "$bin/nats-server" "$scratch/root/usr/local/bin/nats-server"
      rooted localhost/testbed/nats:test 'ENTRYPOINT ["nats-server"]' ;;
    seaweedfs)
      install -D "$bin/weed" "$scratch/root/usr/bin/weed"
      install -d -o 1000 -g 1000 "$scratch/root/data"
      rooted localhost/testbed/seaweedfs:test 'ENTRYPOINT ["/usr/bin/weed"]' ;;
  esac
}

image_of() {
  case $1 in
    python) echo localhost/testbed/python:3.11 ;;
    busybox) echo localhost/testbed/busybox:1 ;;
    nats | seaweedfs | postgresql) echo "localhost/testbed/$1:test" ;;
    *) echo "localhost/tidemill/$1:test" ;;
  esac
}

sh "$here/base.sh" "$cache"
[ $# -gt 0 ] || set -- python busybox nats seaweedfs postgresql supervisor gateway storage-bridge scheduler cli
for name; do
  case $name in
    python) ;;
    postgresql) build -f "$here/postgresql.Dockerfile" -t localhost/testbed/postgresql:test "$here" ;;
    busybox | nats | seaweedfs) server "$name" ;;
    *) component "$name" ;;
  esac
  [ -z "$socket" ] || docker save "$(image_of "$name")" | ctr -a "$socket" -n k8s.io images import - > /dev/null
  image_of "$name"
done
