#!/bin/sh
# Print the directory of the PostgreSQL server programs; install the server when it is missing.
set -eu
. "$(dirname "$0")/lib.sh"

find_bin() {
  for dir in "${TIDEGATE_POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin; do
    if [ -n "$dir" ] && [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ]; then echo "$dir"; return; fi
  done
  if command -v initdb >/dev/null 2>&1; then dirname "$(command -v initdb)"; fi
}

bin=$(find_bin)
if [ -z "$bin" ]; then
  apt_install "postgresql-$POSTGRES_MAJOR" || apt_install postgresql
  bin=$(find_bin)
fi
[ -n "$bin" ] || fail "PostgreSQL $POSTGRES_MAJOR or newer is needed: install it, or set TIDEGATE_POSTGRES_BIN"
echo "$bin"
