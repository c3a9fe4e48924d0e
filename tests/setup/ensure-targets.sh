#!/bin/sh
# Install other people's servers and senders that tests and the demo run against, when they are missing:
#   ensure-targets.sh [scim2|scimmy|senders|medallion]
# Pinned versions, into a cache directory and never into the repository.
set -eu
. "$(dirname "$0")/lib.sh"

scim2() {
  stamp="$tools/scim2/.installed-$SCIM2_SERVER-$UVICORN"
  [ -f "$stamp" ] && return
  say "installing scim2-server $SCIM2_SERVER"
  rm -rf "$tools/scim2"; mkdir -p "$tools"
  python3 -m venv "$tools/scim2" || { apt_install python3-venv; python3 -m venv "$tools/scim2"; }
  "$tools/scim2/bin/pip" install -q --disable-pip-version-check "scim2-server[cursor]==$SCIM2_SERVER" "uvicorn==$UVICORN" httptools uvloop >&2
  touch "$stamp"
}

scimmy() {
  stamp="$tools/scimmy/.installed-$SCIMMY-$SCIMMY_ROUTERS-$EXPRESS"
  [ -f "$stamp" ] && return
  say "installing scimmy $SCIMMY"
  command -v npm >/dev/null 2>&1 || apt_install nodejs npm
  rm -rf "$tools/scimmy"; mkdir -p "$tools/scimmy"
  (cd "$tools/scimmy" && echo '{"private":true}' >package.json &&
    npm install --silent --no-audit --no-fund "scimmy@$SCIMMY" "scimmy-routers@$SCIMMY_ROUTERS" "express@$EXPRESS" >&2)
  touch "$stamp"
}

# Other people's libraries that send signals, in Python and in JavaScript.
senders() {
  stamp="$tools/senders/.installed-$STANDARDWEBHOOKS_PY-$PYJWT-$CRYPTOGRAPHY-$CLOUDEVENTS_PY-$OCSF_MODELS-$STANDARDWEBHOOKS_JS-$JOSE-$CLOUDEVENTS_JS"
  [ -f "$stamp" ] && return
  say "installing senders of signals"
  command -v npm >/dev/null 2>&1 || apt_install nodejs npm
  rm -rf "$tools/senders"; mkdir -p "$tools/senders"
  python3 -m venv "$tools/senders/venv" || { apt_install python3-venv; python3 -m venv "$tools/senders/venv"; }
  "$tools/senders/venv/bin/pip" install -q --disable-pip-version-check "standardwebhooks==$STANDARDWEBHOOKS_PY" \
    "PyJWT==$PYJWT" "cryptography==$CRYPTOGRAPHY" "cloudevents==$CLOUDEVENTS_PY" "py-ocsf-models==$OCSF_MODELS" >&2
  (cd "$tools/senders" && echo '{"private":true,"type":"module"}' >package.json &&
    npm install --silent --no-audit --no-fund "standardwebhooks@$STANDARDWEBHOOKS_JS" "jose@$JOSE" "cloudevents@$CLOUDEVENTS_JS" >&2)
  touch "$stamp"
}

medallion() {
  stamp="$tools/medallion/.installed-$MEDALLION-$STIX2-$SIX-$PYTZ-$TRUSTME"
  [ -f "$stamp" ] && return
  say "installing medallion $MEDALLION"
  rm -rf "$tools/medallion"; mkdir -p "$tools"
  python3 -m venv "$tools/medallion" || { apt_install python3-venv; python3 -m venv "$tools/medallion"; }
  # It uses six and pytz, and does not say so.
  "$tools/medallion/bin/pip" install -q --disable-pip-version-check "medallion==$MEDALLION" "stix2==$STIX2" "six==$SIX" "pytz==$PYTZ" "trustme==$TRUSTME" >&2
  touch "$stamp"
}

case ${1:-all} in
  scim2) scim2 ;;
  scimmy) scimmy ;;
  senders) senders ;;
  medallion) medallion ;;
  all) scim2; scimmy; senders; medallion ;;
  *) fail "no such server: $1" ;;
esac
