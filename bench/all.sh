#!/usr/bin/env bash
# Every measurement of docs/performance.md and docs/ledger.md, one after another, into bench/results/; then the figures of
# docs/performance.md. About four hours on two cores that do nothing else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/run.sh"
"$here/null.sh"
"$here/null.sh" --workers=1,2 --in_flight=64 --latencies=0 --name=workers
for transport in pyreqwest aiohttp; do
    "$here/null.sh" "--flags=--transport=$transport" "--name=$transport" --in_flight=64 --latencies=0 --large=0
done
"$here/parts.sh"
"$here/scaling.sh"
# shellcheck source=bench/prepare.sh
. "$here/prepare.sh"
"$venv/bin/python" -m bench.summary
