#!/bin/sh
# Installs a lock file in a build: what is in /opt/keymiss/venv already stays there, the rest goes to the folder
# named first. torch's CPU build is looked for in KEYMISS_TORCH_INDEX when pip does not find it by itself.
# Usage: install.sh <folder> <lock file>
set -eu

[ $# = 2 ] || { sed -n 's/^# Usage: /usage: /p' "$0" >&2; exit 2; }
folder=$1 lock=$2

pip() {
    # shellcheck disable=SC2086
    /opt/pip/bin/pip --python /opt/keymiss/venv/bin/python install -q --no-cache-dir --no-compile --no-input \
        --disable-pip-version-check --root-user-action ignore --prefix "$folder" --require-hashes \
        ${KEYMISS_PIP_ARGS:-} "$@" -r "$lock"
}

pip 2>/tmp/pip.log || { grep -q 'torch==' /tmp/pip.log && pip --extra-index-url "$KEYMISS_TORCH_INDEX"; } || {
    cat /tmp/pip.log >&2
    exit 1
}
"$(dirname "$0")/prune.sh" "$folder"
