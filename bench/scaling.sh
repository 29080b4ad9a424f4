#!/usr/bin/env bash
# How throughput grows with parallelism on a standalone Flink cluster, and whether large objects hold up small ones; writes
# bench/results/. bench/scaling.sh --help shows the options. Needs Linux, Python >= 3.11, Go, Java 17 and Maven.
# S3FERRY_TEST_VENV names the virtual environment (default: the tests' own).
set -euo pipefail

# shellcheck source=bench/prepare.sh
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/prepare.sh"
deploy/job-server/build.sh flink
exec "$venv/bin/python" -m bench.scaling "$@"
