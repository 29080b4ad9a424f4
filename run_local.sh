#!/usr/bin/env bash
# The whole job on this machine, with nothing but Python >= 3.11.
#   ./run_local.sh [--fresh] [--format=csv|parquet|orc]       a demonstration against embedded servers
#   ./run_local.sh --manifest=... --destination=... [...]     the same job against the endpoints named
# Without LEDGER_DSN or PG* variables the ledger is an embedded PostgreSQL in the user's data folder.
# S3FERRY_VENV names the virtual environment (default: .venv beside this script).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${S3FERRY_VENV:-$here/.venv}
# shellcheck source=local/venv.sh
. "$here/local/venv.sh"
ensure_venv "$here" "$venv" local

# Otherwise a folder called `local` or `model` where this is called from would be imported instead.
export PYTHONSAFEPATH=1
case " $* " in
  *" --manifest"*) exec "$venv/bin/python" -m local.with_ledger run "$@" ;;
  *) exec "$venv/bin/python" -m local.demo "$@" ;;
esac
