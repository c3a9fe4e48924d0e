#!/bin/sh
# The whole gate: install what is missing, then formatting, lints, tidiness and every test,
# on SQLite and on a PostgreSQL cluster of its own, against real SCIM servers.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$repo"
command -v cargo >/dev/null 2>&1 || fail "Rust is needed: https://rustup.rs"
command -v cc >/dev/null 2>&1 || apt_install build-essential
command -v python3 >/dev/null 2>&1 || apt_install python3 python3-venv
command -v gpgv >/dev/null 2>&1 || apt_install gpgv
command -v node >/dev/null 2>&1 || apt_install nodejs npm
tests/setup/ensure-targets.sh || say "SCIM servers could not be installed: their tests will say so"

cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
if cargo nextest --version >/dev/null 2>&1; then runner="cargo nextest run"; else runner="cargo test --quiet"; fi
# CI must not skip what it is there to prove.
if [ -n "${CI:-}" ]; then TIDEGATE_REQUIRE_TARGETS=1; export TIDEGATE_REQUIRE_TARGETS; fi
# Most tests wait for something most of the time: twice as many at once as there are processors. Those that
# do not count for two (.config/nextest.toml).
threads=$(($(nproc) * 2))
export NEXTEST_TEST_THREADS="$threads" RUST_TEST_THREADS="$threads"
# A failed claim says what is wrong; below it, the frames of the runtime would only hide it.
export RUST_BACKTRACE=0
# shellcheck disable=SC2086
tests/setup/with-postgres.sh $runner --workspace
cargo doc --workspace --no-deps --quiet
