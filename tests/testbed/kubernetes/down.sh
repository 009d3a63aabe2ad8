#!/usr/bin/env bash
# Usage: down.sh STATE_DIR [--wipe]
# Stops what up.sh started with this STATE_DIR and undoes its mounts, cgroups,
# network and kernel settings. --wipe also removes the cluster's data.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] && [ -d "$1" ] || { echo "usage: $0 STATE_DIR [--wipe]" >&2; exit 2; }
state=$(cd "$1" && pwd)
. "$here/env.sh"
kube=$(readlink -f "$state/bin/kubectl" 2>/dev/null)
cd "$state" || exit 1

stop kwok
stop dns
stop kubelet
stop scheduler
stop controller-manager
# All pods go through the runtime, so that addresses and shims are released.
if alive containerd && [ -x "$kube" ]; then
	timeout 120 "$kube" cri-clean "unix://$state/containerd/sock" || echo "some pods are left" >&2
fi
stop proxy
# The rules of kube-proxy and the kubelet are all in chains named KUBE-*.
for ip in iptables ip6tables; do
	for t in nat filter mangle; do
		rules=$($ip-save -t $t 2>/dev/null)
		grep -q '^:KUBE-' <<<"$rules" || continue
		{
			echo "*$t"
			sed -n '/^-A KUBE-/d; s/^-A \(.* -j KUBE-.*\)$/-D \1/p' <<<"$rules"
			sed -n 's/^:\(KUBE-[^ ]*\) .*/-F \1/p' <<<"$rules"
			sed -n 's/^:\(KUBE-[^ ]*\) .*/-X \1/p' <<<"$rules"
			echo COMMIT
		} | $ip-restore --noflush
	done
done
for direction in -i -o; do iptables -D FORWARD $direction "$TESTBED_BRIDGE" -j ACCEPT 2>/dev/null; done
stop apiserver 15
stop etcd
stop containerd
awk -v p="$state/" 'index($2, p) == 1 {print $2}' /proc/mounts | sort -r | while read -r m; do
	umount "$m" 2>/dev/null || umount -l "$m"
done
for g in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
	[ ! -d "$g" ] || find "$g" -depth -type d -exec rmdir {} + 2>/dev/null
done
if [ -e bridge ]; then ip link del "$TESTBED_BRIDGE" 2>/dev/null; rm -f bridge; fi
if [ -e sysctl ]; then
	while IFS='=' read -r k v; do echo "$v" >"/proc/sys/${k//.//}"; done <sysctl
	rm -f sysctl
fi
if [ "${2:-}" = --wipe ]; then
	if grep -q " $state/" /proc/mounts; then echo "still mounted below $state; not wiped" >&2; exit 1; fi
	rm -rf pids logs pki conf cni ipam etcd kubelet containerd bin images kubeconfig apt.log
fi
