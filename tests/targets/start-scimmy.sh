#!/bin/sh
# Run a server made of scimmy and scimmy-routers (npm), which somebody else wrote, on loopback, in the foreground.
#
#   PORT=18081 tests/targets/start-scimmy.sh         # http://127.0.0.1:18081/scim/v2
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=${TIDEGATE_TOOLS:-$HOME/.cache/tidegate/tools}
NODE_ROOT="$tools/scimmy"; export NODE_ROOT
exec node "$here/scimmy_server.mjs"
