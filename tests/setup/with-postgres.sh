#!/bin/sh
# Run a command beside a PostgreSQL cluster of its own, thrown away afterwards.
#
#   tests/setup/with-postgres.sh cargo nextest run
#
# The command finds the cluster's admin database in TIDEGATE_TEST_POSTGRES. Durability stays on
# (fsync): the tests are about what survives.
set -eu
. "$(dirname "$0")/lib.sh"
bin=$("$repo/tests/setup/ensure-postgres.sh")
dir=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-pg.XXXXXX")

# PostgreSQL refuses to run as root, so root hands it to the user of the server package.
if [ "$(id -u)" = 0 ]; then
  id postgres >/dev/null 2>&1 || fail "running as root needs a user 'postgres' for the database server"
  chown postgres "$dir"
  run() { su postgres -s /bin/sh -c 'exec "$@"' -- sh "$@"; }
else
  run() { "$@"; }
fi
stop() { run "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true; rm -rf "$dir"; }
trap stop EXIT
trap 'exit 130' INT TERM

port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
cd /
run "$bin/initdb" -D "$dir/data" -U tidegate -A trust -E UTF8 --locale=C >"$dir.log" 2>&1 || { cat "$dir.log" >&2; exit 1; }
rm -f "$dir.log"
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$dir'
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
CONF
run "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -w -t 60 start >/dev/null || { cat "$dir/data/server.log" >&2; exit 1; }
cd "$repo"
TIDEGATE_TEST_POSTGRES="postgres://tidegate@127.0.0.1:$port/postgres"
TIDEGATE_POSTGRES_BIN=$bin
export TIDEGATE_TEST_POSTGRES TIDEGATE_POSTGRES_BIN
"$@"
