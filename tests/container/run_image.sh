#!/usr/bin/env bash
# Runs a command in the root folder of an image as a container engine does: as process 1 of its process namespace, the
# root file system read-only, a tmpfs at /tmp, the network the machine's. It is called in new namespaces:
#   unshare --mount --pid --fork tests/container/run_image.sh ROOT USER:GROUP FOLDER COMMAND [ARGUMENT...]
# The command gets this script's environment.
set -euo pipefail

root=$1 user=$2 folder=$3
shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
for file in etc/hosts etc/resolv.conf; do
  touch "$root/$file"
  mount --bind "/$file" "$root/$file"
done
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" env --chdir="$folder" "$@"
