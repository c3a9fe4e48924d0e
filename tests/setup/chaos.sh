#!/bin/sh
# Attack the stop with real processes, as many times as TIDEGATE_CHAOS_SEEDS says (500), on three
# replicas with PostgreSQL and on one with SQLite; a line for each attack, and a summary.
#
#   make chaos
#   TIDEGATE_CHAOS_SEEDS=60 make chaos     fewer
#   TIDEGATE_CHAOS_LANES=2 make chaos      fewer at once, for a small machine (4)
#   TIDEGATE_CHAOS_MINUTES=15 make chaos   none is begun after that
#   TIDEGATE_CHAOS_ON=sqlite make chaos    only there, or only on postgres
#   TIDEGATE_SEED=17 make chaos            from this seed on, so that an attack can be run again (docs/CHAOS.md)
set -eu
. "$(dirname "$0")/lib.sh"
cd "$repo"
command -v cargo >/dev/null 2>&1 || fail "Rust is needed: https://rustup.rs"
command -v cc >/dev/null 2>&1 || apt_install build-essential
command -v faketime >/dev/null 2>&1 || apt_install faketime || say "no libfaketime: no clock is wrong"
TIDEGATE_POSTGRES_BIN=$(tests/setup/ensure-postgres.sh)
TIDEGATE_CHAOS_SEEDS=${TIDEGATE_CHAOS_SEEDS:-500}
export TIDEGATE_POSTGRES_BIN TIDEGATE_CHAOS_SEEDS
exec cargo test --quiet -p tidegate-service --test it chaos::long:: -- --nocapture
