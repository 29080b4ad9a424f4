#!/usr/bin/env bash
# s3ferry and a bare loop against the null server, side by side; writes bench/results/. bench/null.sh --help shows the
# options. Needs Linux, Python >= 3.11 and Go. S3FERRY_TEST_VENV names the virtual environment (default: the tests' own).
set -euo pipefail

# shellcheck source=bench/prepare.sh
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/prepare.sh"
exec "$venv/bin/python" -m bench.null "$@"
