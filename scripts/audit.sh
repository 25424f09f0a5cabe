#!/usr/bin/env bash
# Lists the Python packages that are installed (.venv) in var/audit/sbom.json, a CycloneDX document, and asks whether a version
# in any of the lock files has a known vulnerability (pip-audit: the vulnerabilities that PyPI knows of).
# Exit code: 0 none has; 1 some have; 2 wrong use, or the tools could not be installed; 3 not all could be asked about.
# Usage: scripts/audit.sh
# Settings: KEYMISS_PIP_ARGS (scripts/setup.sh)
set -euo pipefail

# shellcheck source=scripts/setup.sh
source "$(dirname "$0")/setup.sh"
[ $# = 0 ] || read_options --help
cd "$KEYMISS_HOME"
[ -x .venv/bin/python ] || give_up "Nothing was set up in this folder yet: scripts/start.sh does it."
set_up_audit
exec "$KEYMISS_HOME/.venv-audit/bin/python" scripts/audit.py
