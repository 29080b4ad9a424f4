# Sourced by the scripts of this folder: makes the virtual environment and enters the checkout.
# Sets root and venv.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${S3FERRY_TEST_VENV:-$root/.venv-test}
# shellcheck source=local/venv.sh
. "$root/local/venv.sh"
ensure_venv "$root" "$venv" local,test
cd "$root"
export PATH=$venv/bin:$PATH PYTHONPATH=$root
