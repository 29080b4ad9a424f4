#!/usr/bin/env bash
# Installs the peers named in bench/peers.txt into the cache that tests/install_tools.sh uses, outside the checkout.
# Usage: bench/install_peers.sh PYTHON NAME...   (PYTHON has pip; what is there already is left alone)
# A peer that cannot be built is said so and left out: the benchmark runs without it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/s3ferry/tools
python=$1
shift
mkdir -p "$cache"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

needs() {
  command -v "$1" >/dev/null && return
  echo "install_peers.sh: $2 is built with $1, which is not installed: it is left out" >&2
  return 1
}

# install KIND NAME PACKAGE VERSION: leaves the binary in $scratch/NAME.
install() {
  local kind=$1 name=$2 package=$3 version=$4
  case $kind in
    wheel)
      "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        --prefix "$scratch/wheel" "$package==$version" && mv "$scratch/wheel/bin/$name" "$scratch/$name"
      ;;
    go)
      needs go "$name" && GOBIN=$scratch GOFLAGS=-trimpath go install "$package@$version"
      ;;
    cargo)
      needs cargo "$name" && CARGO_TARGET_DIR=$scratch/target cargo install --quiet --locked --no-track \
        --root "$scratch/cargo" "$package" --version "$version" && mv "$scratch/cargo/bin/$name" "$scratch/$name"
      ;;
    *)
      echo "install_peers.sh: peers.txt says $kind for $name; wheel, go and cargo are known" >&2
      return 1
      ;;
  esac
}

while read -r name kind package version; do
  case $name in '' | '#'*) continue ;; esac
  if [[ " $* " != *" $name "* ]]; then continue; fi
  target=$cache/$name-$version
  if [ -x "$target" ]; then continue; fi
  echo "installing $name $version (some minutes)"
  if install "$kind" "$name" "$package" "$version" </dev/null; then
    mv "$scratch/$name" "$target.$$"
    mv "$target.$$" "$target"
  else
    echo "install_peers.sh: $name $version could not be installed: it is left out" >&2
  fi
done <"$here/peers.txt"
