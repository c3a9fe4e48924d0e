#!/bin/sh
# Measure the budgets beside their references: install what is missing, build, run.
#
#   make bench                   everything, up to 15 million people
#   QUICK=1 make bench           without the 15 million, and with fewer samples
#   PARTS="drain sqlite" …       only these (import plan drain looks halt exposure restart signals judge drift scale memory replicas scim judge)
set -eu
. "$(dirname "$0")/lib.sh"
cd "$repo"
command -v cargo >/dev/null 2>&1 || fail "Rust is needed: https://rustup.rs"
command -v cc >/dev/null 2>&1 || apt_install build-essential
command -v python3 >/dev/null 2>&1 || apt_install python3 python3-venv
command -v node >/dev/null 2>&1 || apt_install nodejs npm
# Its shell is the reference for imports: the database's own bulk load.
command -v sqlite3 >/dev/null 2>&1 || apt_install sqlite3 || say "no sqlite3: imports have no reference"
tests/setup/ensure-targets.sh || say "SCIM servers could not be installed: their rows will say so"
# shellcheck disable=SC2086
tests/setup/with-postgres.sh cargo bench --quiet -p tidegate-service --bench budgets -- ${PARTS:-}
