#!/usr/bin/env bash
# Installs the servers and clients named in tests/fixtures/tools.txt, and the clusters of deploy/ with their job servers, into
# a cache outside the checkout.
# Usage: tests/install_tools.sh [NAME...]   (all of them by default; what is there already is left alone)
# Needs a `python` with pip on PATH.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../local/install_tools.sh"
failed=0
if [ $# -eq 0 ]; then
  # Maven mostly waits for the network, Go and cargo for a core
  for kind in flink spark; do "$here/../deploy/job-server/build.sh" "$kind" || exit 1; done &
  job_servers=$!
fi
for list in "$here/fixtures/tools.txt" "$here/../deploy/flink/tools.txt" "$here/../deploy/spark/tools.txt"; do
  install_tools "$list" python "$@" || failed=1
done
if [ $# -eq 0 ]; then wait "$job_servers" || failed=1; fi
exit "$failed"
