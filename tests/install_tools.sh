#!/usr/bin/env bash
# Installs the servers and clients named in tests/fixtures/tools.txt, and the clusters of deploy/,
# into a cache outside the checkout.
# Usage: tests/install_tools.sh [NAME...]   (all of them by default; what is there already is left alone)
# Needs a `python` with pip on PATH.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../local/install_tools.sh"
failed=0
for list in "$here/fixtures/tools.txt" "$here/../deploy/flink/tools.txt" "$here/../deploy/spark/tools.txt"; do
  install_tools "$list" python "$@" || failed=1
done
exit "$failed"
