#!/usr/bin/env bash
# Builds the servers named in tests/fixtures/tools.txt with `go install` into a cache outside the checkout.
# Usage: tests/install_tools.sh [NAME...]   (all of them by default; what is there already is left alone)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/s3ferry/tools
mkdir -p "$cache"

while read -r name package version; do
  case $name in '' | '#'*) continue ;; esac
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  target=$cache/$name-$version
  if [ -x "$target" ]; then continue; fi
  if ! command -v go >/dev/null; then
    echo "install_tools.sh: $name is built with Go, which is not installed" >&2
    exit 1
  fi
  echo "building $name $version (some minutes)"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  GOBIN=$scratch GOFLAGS=-trimpath go install "$package@$version"
  mv "$scratch/$name" "$target.$$"
  mv "$target.$$" "$target"
  rm -rf "$scratch"
done <"$here/fixtures/tools.txt"
