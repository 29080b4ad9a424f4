# Sourced by run_local.sh and run_tests.sh: a virtual environment with the pinned dependencies.

# Prints the first Python >= 3.11 that can make virtual environments; versions that are pinned for come first.
find_python() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  echo "s3ferry: no Python >= 3.11 with its venv module is on PATH: install one (on Debian: python3 and python3-venv)" >&2
  return 1
}

# ensure_venv CHECKOUT FOLDER EXTRAS: installs the checkout with EXTRAS into FOLDER, unless that was done before
# for the same dependencies.
ensure_venv() {
  local checkout=$1 folder=$2 extras=$3 wanted stamp python
  stamp=$folder/.s3ferry-installed
  wanted=$(cat "$checkout/setup.py" "$checkout/model/version.py" "$checkout/constraints.txt" | cksum)
  wanted="$checkout [$extras] $wanted"
  if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  python=$(find_python)
  echo "Installing the dependencies into $folder (once, some minutes)"
  "$python" -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    -c "$checkout/constraints.txt" -e "$checkout[$extras]"
  echo "$wanted" >"$stamp"
}
