#!/usr/bin/env bash
# Installs the peers named in bench/peers.txt into the cache that tests/install_tools.sh uses, outside the checkout.
# Usage: bench/install_peers.sh NAME...   (what is there already is left alone). Needs a `python` with pip on PATH.
# A peer that cannot be installed is said so and left out: the benchmark runs without it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../local/install_tools.sh"
install_tools "$here/peers.txt" python "$@" || echo "install_peers.sh: the benchmark runs without what is missing" >&2
