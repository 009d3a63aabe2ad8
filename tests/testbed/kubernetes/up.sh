#!/usr/bin/env bash
# Usage: up.sh STATE_DIR [CACHE_DIR]
# Brings up a one-node cluster and prints the path of an admin kubeconfig.
# CACHE_DIR (default STATE_DIR/cache) is the one given to build.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 STATE_DIR [CACHE_DIR]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "must be root" >&2; exit 1; }
mkdir -p "$1"
state=$(cd "$1" && pwd)
mkdir -p "${2:-$state/cache}"
cache=$(cd "${2:-$state/cache}" && pwd)
. "$here/env.sh"
say() { echo "[$SECONDS s] $*" >&2; }

# Packages.
need=()
command -v containerd >/dev/null || need+=(containerd)
command -v runc >/dev/null || need+=(runc)
[ -x /usr/lib/cni/bridge ] || need+=(containernetworking-plugins)
[ -x /bin/busybox ] || need+=(busybox-static)
command -v iptables >/dev/null || need+=(iptables)
command -v ip >/dev/null || need+=(iproute2)
command -v openssl >/dev/null || need+=(openssl)
command -v curl >/dev/null || need+=(curl)
if [ ${#need[@]} -gt 0 ]; then
	say "installing ${need[*]}"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends "${need[@]}"; } >"$state/apt.log" 2>&1 ||
		{ tail -n 20 "$state/apt.log" >&2; exit 1; }
fi
"$here/build.sh" "$cache" >&2
bin=$(cd "$cache/bin" && pwd)
mkdir -p "$state"/{pids,logs,pki,conf,cni,ipam,etcd,kubelet,containerd,bin}
for p in "$state"/pids/*; do # what has died before is started again below; whatever dies from now on ends a wait
	alive "${p##*/}" || rm -f "$p"
done
ln -sf "$bin/kube" "$state/bin/kubectl"
kubectl() { "$state/bin/kubectl" --kubeconfig "$state/kubeconfig" "$@"; }

# Kernel settings; the old values are kept for down.sh.
keep() { # KEY [VALUE]: remember the value, and set it when one is given
	[ -e "/proc/sys/${1//.//}" ] || return 0
	grep -qs "^$1=" "$state/sysctl" || echo "$1=$(cat "/proc/sys/${1//.//}")" >>"$state/sysctl"
	[ $# -lt 2 ] || echo "$2" >"/proc/sys/${1//.//}"
}
keep net.ipv4.ip_forward 1
keep net.bridge.bridge-nf-call-iptables 1
keep fs.inotify.max_user_instances 8192
for k in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do keep $k; done

# The bridge is made first: its address is the node's.
if ! ip link show "$TESTBED_BRIDGE" >/dev/null 2>&1; then
	ip link add "$TESTBED_BRIDGE" type bridge
	touch "$state/bridge"
fi
ip addr replace "$TESTBED_HOST_IP/${TESTBED_POD_NET#*/}" dev "$TESTBED_BRIDGE"
ip link set "$TESTBED_BRIDGE" up
# A Docker daemon sets the policy of FORWARD to DROP, and leaves it so; last, so that kube-proxy's rejections stand.
for direction in -i -o; do
	iptables -C FORWARD $direction "$TESTBED_BRIDGE" -j ACCEPT 2>/dev/null ||
		iptables -A FORWARD $direction "$TESTBED_BRIDGE" -j ACCEPT
done

# A file that has not changed is left alone: kube-proxy exits when its own is written.
put() { # FILE, content on standard input
	(umask 077; cat >"$1.new")
	if cmp -s "$1.new" "$1"; then rm -f "$1.new"; else mv -f "$1.new" "$1"; fi
}

# Keys and certificates (EC, valid 10 years).
cd "$state/pki"
if [ ! -e done ]; then
	say "certificates"
	key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
	key ca
	openssl req -x509 -new -key ca.key -subj /CN=testbed-ca -days 3650 -out ca.crt \
		-addext "keyUsage=critical,digitalSignature,keyCertSign,cRLSign" 2>/dev/null
	cert() { # NAME SUBJECT [ALT_NAMES]
		key "$1"
		{ echo "extendedKeyUsage=clientAuth,serverAuth"; [ -z "${3:-}" ] || echo "subjectAltName=$3"; } >"$1.ext"
		openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
		openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
		rm -f "$1.csr" "$1.ext"
	}
	cert apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$TESTBED_HOST_IP,IP:$TESTBED_SVC_IP"
	cert kubelet-server "/CN=$TESTBED_NODE" "DNS:$TESTBED_NODE,DNS:localhost,IP:127.0.0.1,IP:$TESTBED_HOST_IP"
	cert admin /O=system:masters/CN=admin
	cert apiserver-kubelet /O=system:masters/CN=apiserver-kubelet
	cert controller-manager /CN=system:kube-controller-manager
	cert scheduler /CN=system:kube-scheduler
	cert proxy /CN=system:kube-proxy
	cert kubelet "/O=system:nodes/CN=system:node:$TESTBED_NODE"
	openssl genrsa -out sa.key 2048 2>/dev/null
	openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
	chmod 600 ./*.key
	touch done
fi
b64() { base64 -w0 <"$1"; }
kubeconfig() { # CERT FILE
	put "$2" <<-END
	apiVersion: v1
	kind: Config
	clusters:
	- name: testbed
	  cluster: {server: "https://127.0.0.1:$PORT_API", certificate-authority-data: $(b64 ca.crt)}
	users:
	- name: $1
	  user: {client-certificate-data: $(b64 "$1.crt"), client-key-data: $(b64 "$1.key")}
	contexts:
	- name: testbed
	  context: {cluster: testbed, user: $1}
	current-context: testbed
	END
}
kubeconfig admin "$state/kubeconfig"
for c in controller-manager scheduler proxy kubelet; do kubeconfig $c "$state/conf/$c.kubeconfig"; done
cd "$state"

put conf/containerd.toml <<END
version = 2
root = "$state/containerd/root"
state = "$state/containerd/run"
[grpc]
  address = "$state/containerd/sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  netns_mounts_under_state_dir = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = true
  max_concurrent_downloads = 1
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
END
put cni/10-testbed.conflist <<END
{"cniVersion": "0.4.0", "name": "testbed", "plugins": [
  {"type": "bridge", "bridge": "$TESTBED_BRIDGE", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/ipam",
            "ranges": [[{"subnet": "$TESTBED_POD_NET", "gateway": "$TESTBED_HOST_IP"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}
]}
END
# Names beyond the cluster do not exist (dns.py); an empty file would mean the host's.
put conf/resolv.conf <<<"nameserver $TESTBED_HOST_IP"
put conf/kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $TESTBED_HOST_IP
port: $PORT_KUBELET
healthzPort: $PORT_KUBELET_HEALTH
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $state/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $state/pki/kubelet-server.crt
tlsPrivateKeyFile: $state/pki/kubelet-server.key
containerRuntimeEndpoint: unix://$state/containerd/sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
resolvConf: $state/conf/resolv.conf
clusterDNS: [$TESTBED_HOST_IP]
clusterDomain: cluster.local
volumePluginDir: $state/kubelet/exec-plugins
podLogsDir: $state/kubelet/pod-logs
maxPods: 500
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
serializeImagePulls: false
volumeStatsAggPeriod: 10s
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
END
put conf/scheduler.yaml <<END
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: $state/conf/scheduler.kubeconfig, qps: 500, burst: 1000}
END
put conf/proxy.yaml <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $state/conf/proxy.kubeconfig}
clusterCIDR: $TESTBED_POD_NET
hostnameOverride: $TESTBED_NODE
bindAddress: $TESTBED_HOST_IP
metricsBindAddress: 127.0.0.1:$PORT_PROXY_METRICS
healthzBindAddress: 127.0.0.1:$PORT_PROXY_HEALTH
nodePortAddresses: [127.0.0.0/8]
iptables: {minSyncPeriod: 100ms, syncPeriod: 30s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END

# Containers first: the images are imported while the API starts.
launch containerd containerd --config "$state/conf/containerd.toml"
launch etcd "$bin/kube" etcd --name testbed --data-dir "$state/etcd" --unsafe-no-fsync --logger zap --log-level warn \
	--listen-client-urls "http://127.0.0.1:$PORT_ETCD" --advertise-client-urls "http://127.0.0.1:$PORT_ETCD" \
	--listen-peer-urls "http://127.0.0.1:$PORT_ETCD_PEER" --initial-advertise-peer-urls "http://127.0.0.1:$PORT_ETCD_PEER" \
	--initial-cluster "testbed=http://127.0.0.1:$PORT_ETCD_PEER" --auto-compaction-retention 1 --quota-backend-bytes 4294967296
launch apiserver "$bin/kube" kube-apiserver --etcd-servers "http://127.0.0.1:$PORT_ETCD" \
	--bind-address 0.0.0.0 --secure-port "$PORT_API" --advertise-address "$TESTBED_HOST_IP" \
	--tls-cert-file pki/apiserver.crt --tls-private-key-file pki/apiserver.key --client-ca-file pki/ca.crt \
	--kubelet-client-certificate pki/apiserver-kubelet.crt --kubelet-client-key pki/apiserver-kubelet.key \
	--kubelet-certificate-authority pki/ca.crt --kubelet-preferred-address-types InternalIP \
	--service-account-key-file pki/sa.pub --service-account-signing-key-file pki/sa.key \
	--service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range "$TESTBED_SVC_NET" \
	--authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --anonymous-auth=false \
	--allow-privileged=true --profiling=false --shutdown-delay-duration 0s ${TESTBED_APISERVER_FLAGS:-}
wait_for 60 containerd ctr -a "$state/containerd/sock" version
say "containerd is up"
"$here/images.sh" "$state" "$cache" >&2
wait_for 90 "the API" kubectl get --raw /readyz
say "the API is ready"
launch dns python3 "$here/dns.py" "$state/bin/kubectl" "$state/kubeconfig" "$TESTBED_HOST_IP"
launch controller-manager "$bin/kube" kube-controller-manager --kubeconfig conf/controller-manager.kubeconfig \
	--bind-address 127.0.0.1 --secure-port "$PORT_CM" --leader-elect=false --use-service-account-credentials \
	--service-account-private-key-file pki/sa.key --root-ca-file pki/ca.crt \
	--cluster-signing-cert-file pki/ca.crt --cluster-signing-key-file pki/ca.key \
	--kube-api-qps 500 --kube-api-burst 1000 --concurrent-job-syncs 20 --concurrent-resource-quota-syncs 20 \
	--profiling=false ${TESTBED_CM_FLAGS:-}
launch scheduler "$bin/kube" kube-scheduler --config conf/scheduler.yaml \
	--bind-address 127.0.0.1 --secure-port "$PORT_SCHED" --profiling=false
launch kubelet "$bin/kube" kubelet --config conf/kubelet.yaml --kubeconfig conf/kubelet.kubeconfig \
	--root-dir "$state/kubelet" --hostname-override "$TESTBED_NODE" --node-ip "$TESTBED_HOST_IP" \
	--cert-dir "$state/pki/kubelet" ${TESTBED_KUBELET_FLAGS:-}
launch proxy "$bin/kube" kube-proxy --config conf/proxy.yaml

ready() { [ "$(kubectl get node "$TESTBED_NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }
healthy() { curl -fsS --noproxy '*' "http://127.0.0.1:$1/healthz"; }
wait_for 60 "the kubelet" healthy "$PORT_KUBELET_HEALTH"
wait_for 120 "the node" ready
wait_for 60 "the default service account" kubectl -n default get serviceaccount default
wait_for 30 "kube-proxy" healthy "$PORT_PROXY_HEALTH"
say "the node is ready"
echo "$state/kubeconfig"
