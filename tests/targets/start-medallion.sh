#!/bin/sh
# Run medallion (PyPI), a TAXII 2.1 server that somebody else wrote, on loopback, in the foreground.
#
#   tests/targets/start-medallion.sh --port 18090 --objects 1001 --page 2     # http://127.0.0.1:18090/api1/
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=${TIDEGATE_TOOLS:-$HOME/.cache/tidegate/tools}
exec "$tools/medallion/bin/python" "$here/medallion_app.py" "$@"
