#!/usr/bin/env bash
# s3ferry against rclone, mc, s3sync and boto3 on this machine, from a fresh clone: installs what it needs, starts
# two MinIO servers on loopback, makes the data, runs everything in turn and writes bench/results/.
# bench/run.sh --help shows the options (sets, peers, rounds, scale). Needs Linux, Python >= 3.11 and Go; cargo for s3sync.
# S3FERRY_TEST_VENV names the virtual environment (default: the tests' own).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=bench/prepare.sh
. "$here/prepare.sh"

case " $* " in
  *" --help "* | *" -h "*) ;;
  *)
    "$root/tests/install_tools.sh" minio
    "$root/tests/install_tools.sh" rclone || echo "bench/run.sh: rclone is left out" >&2
    "$here/install_peers.sh"
    ;;
esac
exec "$venv/bin/python" -m bench.compare "$@"
