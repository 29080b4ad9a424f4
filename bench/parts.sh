#!/usr/bin/env bash
# The parts of s3ferry by themselves: rows into the ledger, a ledger of 10 million rows, and planning and routing
# inventories of up to 5 million rows.
# Writes bench/results/. Arguments go to bench/inventory.py. Needs Linux and Python >= 3.11.
# S3FERRY_TEST_VENV names the virtual environment (default: the tests' own).
set -euo pipefail

# shellcheck source=bench/prepare.sh
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/prepare.sh"
"$venv/bin/python" -m bench.ledger
"$venv/bin/python" -m bench.ledger_scale
exec "$venv/bin/python" -m bench.inventory "$@"
