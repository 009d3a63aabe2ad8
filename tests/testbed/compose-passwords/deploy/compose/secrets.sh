#!/bin/sh
# Makes keys, passwords and configuration for docker-compose.yml below .tidemill/compose, once; mode 0600.
set -eu
cd "$(dirname "$0")/../.."
umask 077
out=.tidemill/compose
mkdir -p "$out/secrets"
[ -f "$out/done" ] && exit 0
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
bus=$(random) s3=$(random) admin=$(random) database=$(random) events=$(random)

printf 'authorization { user: tidemill, password: "%s" }\nmax_payload: 1MB\njetstream { limits { default_max_consumers: 100000 } }\n' "$bus" > "$out/nats.conf"
printf '{"identities":[{"name":"tidemill","credentials":[{"accessKey":"tidemill","secretKey":"%s"}],"actions":["Admin","Read","Write","List","Tagging"]}]}\n' "$s3" > "$out/s3.json"
printf '%s' "$database" > "$out/postgresql"
printf '%s' "$admin" > "$out/secrets/admin-password"
printf '%s' "$bus" > "$out/secrets/bus-password"
printf '{"%s":"webhook"}\n' "$events" > "$out/secrets/events-tokens.json"
printf '{"providers":{"minio.default":{"endpoint":"http://store:8333","access_key":"tidemill","secret_key":"%s","region":"us-east-1","verify":false}}}\n' "$s3" > "$out/secrets/platform.json"

component() { # file prefix
  printf '%s_BUS__URL=nats://nats:4222\n%s_BUS__USER=tidemill\n%s_BUS__PASSWORD_FILE=/var/lib/tidemill/secrets/bus-password\n%s_SECRETS_DIR=/var/lib/tidemill/secrets\n' \
    "$2" "$2" "$2" "$2" > "$out/$1.env"
}
component gateway TIDEMILL_GATEWAY
cat >> "$out/gateway.env" <<EOF
TIDEMILL_GATEWAY_HOST=0.0.0.0
TIDEMILL_GATEWAY_DATABASE_URL=postgresql+asyncpg://tidemill:$database@postgresql/tidemill
TIDEMILL_GATEWAY_PASSWORD_FILE=/var/lib/tidemill/secrets/admin-password
EOF
component storage-bridge TIDEMILL_BRIDGE
cat >> "$out/storage-bridge.env" <<EOF
TIDEMILL_BRIDGE_HOST=0.0.0.0
TIDEMILL_BRIDGE_PORT=8081
TIDEMILL_BRIDGE_TOKENS_FILE=/var/lib/tidemill/secrets/events-tokens.json
TIDEMILL_BRIDGE_SEAWEEDFS__FILER_GRPC=store:18888
EOF
component scheduler TIDEMILL_SCHEDULER
cat >> "$out/scheduler.env" <<EOF
TIDEMILL_SCHEDULER_METRICS_PORT=9090
TIDEMILL_SCHEDULER_STOP_WORKERS_ON_EXIT=true
TIDEMILL_SCHEDULER_STATE_DIR=/var/lib/tidemill/workers
TIDEMILL_SCHEDULER_WORKSPACE_ROOT=/var/lib/tidemill/workers/workspaces
TIDEMILL_SCHEDULER_LOG_DIR=/var/lib/tidemill/workers/logs
EOF
cp "$out/secrets/admin-password" "$out/admin-password"
# The components' user in their containers (deploy/images/Dockerfile); who may use Docker may do it without being root here.
chown -R 10001 "$out/secrets" 2>/dev/null ||
  docker run --rm --user 0 --volume "$PWD/$out/secrets:/secrets" --entrypoint chown \
    "${NATS_IMAGE:-docker.io/library/nats:2.15-alpine}" -R 10001 /secrets 2>/dev/null ||
  echo "give the files to the containers' user before the first start: sudo chown -R 10001 $out/secrets" >&2
touch "$out/done"
echo "made $out; the administrator is 'oscar' with the password in $out/admin-password"
