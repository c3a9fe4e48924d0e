#!/bin/sh
# Set up what the demo needs, build, and run it: `tidegate demo` tells the story.
#
#   make demo            in a terminal the service stays up at the end
#   ONESHOT=1 make demo  ends after the summary
#   PEOPLE=150000 …      fewer people
set -eu
. "$(dirname "$0")/lib.sh"
cd "$repo"
command -v cargo >/dev/null 2>&1 || fail "Rust is needed: https://rustup.rs"
command -v cc >/dev/null 2>&1 || apt_install build-essential
command -v python3 >/dev/null 2>&1 || apt_install python3 python3-venv

say "building (release)"
cargo build --release --quiet --bin tidegate

# The second part needs a SCIM server that somebody else wrote. No registry, no second part.
scim=
log=$(mktemp "${TMPDIR:-/tmp}/tidegate-scim.XXXXXX")
stop() { [ -z "$scim" ] || kill "$scim" 2>/dev/null || true; rm -f "$log"; }
trap stop EXIT
trap 'exit 130' INT TERM
if tests/setup/ensure-targets.sh scim2 >"$log" 2>&1; then
  port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
  tests/targets/start-scim2.sh --port "$port" >"$log" 2>&1 &
  scim=$!
  TIDEGATE_DEMO_SCIM_URL="http://127.0.0.1:$port/v2"
  if tests/targets/await.sh "$TIDEGATE_DEMO_SCIM_URL/ServiceProviderConfig"; then export TIDEGATE_DEMO_SCIM_URL; else
    say "the SCIM server did not come up, so its part is left out: $(tail -1 "$log")"
    unset TIDEGATE_DEMO_SCIM_URL
  fi
else
  say "the SCIM server could not be installed, so its part is left out: $(tail -1 "$log")"
fi

set -- --people "${PEOPLE:-1500000}"
if [ -n "${ONESHOT:-}" ]; then set -- "$@" --oneshot; fi
target/release/tidegate demo "$@"
