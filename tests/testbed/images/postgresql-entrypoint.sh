#!/bin/sh
# Like the official image's: a database, a user and a password from POSTGRES_*, when the data directory is empty.
set -eu
data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if ! [ -s "$data/PG_VERSION" ]; then
  chown postgres:postgres "$data"
  password=$(mktemp) && cat "$POSTGRES_PASSWORD_FILE" > "$password" && chown postgres "$password"
  as_postgres initdb -D "$data" -U "$POSTGRES_USER" --pwfile="$password" -A scram-sha-256 -E UTF8 --locale=C.UTF-8
  rm -f "$password"
  echo 'host all all all scram-sha-256' >> "$data/pg_hba.conf"
  as_postgres postgres --single -D "$data" -j postgres > /dev/null <<EOF
CREATE DATABASE $POSTGRES_DB;
EOF
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@" -D "$data" -c listen_addresses='*'
