#!/usr/bin/env bash
# All checks and all tests but those of run_nightly.sh; arguments go to pytest. Needs Python >= 3.11, Go for the servers of the tests,
# Java 17 and Maven for the clusters.
# A server that is missing skips the tests that need it; with CI=true it is a failure.
# S3FERRY_TEST_VENV names the virtual environment (default: .venv-test beside this script).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${S3FERRY_TEST_VENV:-$here/.venv-test}
# shellcheck source=local/venv.sh
. "$here/local/venv.sh"
ensure_venv "$here" "$venv" local,test

cd "$here"
PATH=$venv/bin:$PATH tests/install_tools.sh || [ "${CI:-}" != true ]
PATH=$venv/bin:$PATH
ruff check --extend-exclude .venv-test .
ruff format --check --extend-exclude .venv-test .
mypy
lint-imports
if command -v go > /dev/null; then
    (cd bench/nullserver && go vet . && go test .)
elif [ "${CI:-}" = true ]; then
    echo "run_tests.sh: go is not installed, and with CI=true that is a failure" >&2
    exit 1
fi
# a module at a time to a process: many modules describe one run in several tests
exec python -m pytest -n 2 --dist loadscope "$@"
