#!/usr/bin/env bash
# A plain Debian bookworm with python3 and python3-venv as a container image, made without an image registry.
# Usage: tests/container/base_image.sh IMAGE
# Its files are fetched once, into the cache of the tools. It trusts whom this machine trusts and asks the package index
# that this machine's /etc/pip.conf names. Needs root, buildah and debootstrap; buildah's variables say where images go.
set -euo pipefail

image=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../../local/install_tools.sh"
files=$cache/debian-bookworm-python.tar

if [ ! -e "$files" ]; then
  mkdir -p "$cache"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$scratch/root" \
    >"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; exit 1; }
  rm -rf "$scratch"/root/var/{cache/apt,lib/apt/lists,log}/* "$scratch"/root/usr/share/{doc,man,locale}/*
  tar -C "$scratch/root" -cf "$files.$$" .
  mv "$files.$$" "$files"
fi

container=$(buildah from scratch)
buildah add --quiet "$container" "$files" / >/dev/null
buildah copy --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
if [ -e /etc/pip.conf ]; then buildah copy --quiet "$container" /etc/pip.conf /etc/ >/dev/null; fi
buildah commit --quiet --rm "$container" "$image" >/dev/null
