# Shared by the set-up scripts: where tools go, how to become root, how to speak.
# shellcheck shell=sh
repo=$(cd "$(dirname "$0")/../.." && pwd)
. "$repo/tests/setup/versions.env"
tools=${TIDEGATE_TOOLS:-$HOME/.cache/tidegate/tools}

say() { printf '%s\n' "setup: $*" >&2; }
fail() { printf '%s\n' "setup: $*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"
  else fail "'$*' needs root, and there is no sudo: run it yourself, then try again"
  fi
}

apt_install() {
  command -v apt-get >/dev/null 2>&1 || fail "$1 is missing and this system has no apt-get: install it by hand"
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}
