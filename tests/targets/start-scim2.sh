#!/bin/sh
# Run scim2-server (PyPI), a SCIM 2.0 server that somebody else wrote, on loopback, in the foreground.
#
#   tests/targets/start-scim2.sh --port 18080        # http://127.0.0.1:18080/v2
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=${TIDEGATE_TOOLS:-$HOME/.cache/tidegate/tools}
exec "$tools/scim2/bin/python" "$here/scim2_app.py" "$@"
