# Sourced. Processes of a local cluster: each in a session of its own, with NAME.pid and NAME.out in $folder. $python is its Python.

fail() {
  echo "local_cluster.sh: $1" >&2
  exit 1
}

is_running() {
  [ -f "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null
}

# start NAME COMMAND...: in the background and a session of its own, with its output in $folder/NAME.out.
start() {
  local name=$1
  shift
  if is_running "$name"; then return; fi
  setsid "$@" >"$folder/$name.out" 2>&1 </dev/null &
  echo $! >"$folder/$name.pid"
}

down() {
  local file
  for file in "$folder"/*.pid; do
    [ -e "$file" ] || continue
    # the whole session: the pool's workers too
    kill -TERM -- "-$(cat "$file")" 2>/dev/null || true
  done
  for file in "$folder"/*.pid; do
    [ -e "$file" ] || continue
    for _ in $(seq 50); do
      kill -0 -- "-$(cat "$file")" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL -- "-$(cat "$file")" 2>/dev/null || true
    rm -f "$file"
  done
}

# asked PORT PATH FIELD: a number in the JSON that a server on this machine answers with; 0 while it does not answer.
asked() {
  "$python" - "$@" <<'PY'
import json, sys, urllib.request
port, path, field = sys.argv[1:]
try:
    with urllib.request.urlopen(f"http://localhost:{port}/{path}", timeout=2) as answer:
        print(json.load(answer)[field])
except OSError:
    print(0)
PY
}
