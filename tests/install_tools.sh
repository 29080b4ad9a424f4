#!/usr/bin/env bash
# Installs the servers and clients named in tests/fixtures/tools.txt into a cache outside the checkout.
# Usage: tests/install_tools.sh [NAME...]   (all of them by default; what is there already is left alone)
# Needs a `python` with pip on PATH.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../local/install_tools.sh"
install_tools "$here/fixtures/tools.txt" python "$@"
