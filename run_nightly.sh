#!/usr/bin/env bash
# The tests that CI leaves to the night: container images, really built and run; parts of clusters that die; failures that take
# their time. Arguments go to pytest. Needs Linux, root, Go, Java 17, Maven and Debian's packages; buildah and debootstrap are
# installed where they are missing. A quarter of an hour on two cores, and some minutes more the first time.
# What is missing skips the tests that need it; with CI=true it is a failure.
# S3FERRY_TEST_VENV names the virtual environment (default: .venv-test beside this script).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${S3FERRY_TEST_VENV:-$here/.venv-test}
# shellcheck source=local/venv.sh
. "$here/local/venv.sh"
ensure_venv "$here" "$venv" local,test

cd "$here"
PATH=$venv/bin:$PATH tests/install_tools.sh || [ "${CI:-}" != true ]
tests/container/install_tools.sh || [ "${CI:-}" != true ]
PATH=$venv/bin:$PATH
# in one process: the images are built once
exec python -m pytest -m nightly "$@"
