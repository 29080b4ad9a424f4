# Sourced. Processes of a local cluster: each in a session of its own, with NAME.pid and NAME.out in $folder. $python is its Python.

# Otherwise a folder called `model` or `storage` where this is called from would be imported instead of ours.
export PYTHONSAFEPATH=1
# What this call has started.
started=()

fail() {
  echo "local_cluster.sh: $1" >&2
  exit 1
}

# give_up MESSAGE: fails, and leaves nothing running that this call has started.
give_up() {
  stop "${started[@]}"
  fail "$1"
}

# is_ours PID NAME: whether the process was started as NAME, here. A number in a file may since be another's process.
is_ours() {
  grep -qzxF "S3FERRY_PROCESS=$folder/$2" "/proc/$1/environ" 2>/dev/null
}

is_running() {
  [ -f "$folder/$1.pid" ] && is_ours "$(<"$folder/$1.pid")" "$1"
}

# start NAME COMMAND...: in the background and a session of its own, with its output in $folder/NAME.out.
start() {
  local name=$1
  shift
  if is_running "$name"; then return; fi
  S3FERRY_PROCESS=$folder/$name setsid "$@" >"$folder/$name.out" 2>&1 </dev/null &
  echo $! >"$folder/$name.pid"
  started+=("$name")
  # it has its environment, by which it is known, a moment after its number
  for _ in $(seq 100); do
    if is_running "$name" || ! kill -0 $! 2>/dev/null; then break; fi
    sleep 0.01
  done
}

# group NAME: the number of its process group, where a process that we started as NAME, or a child of it, is left in it.
group() {
  local leader stat line fields pid
  [ -f "$folder/$1.pid" ] || return 1
  leader=$(<"$folder/$1.pid")
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    # behind the command's name, which may have blanks: state, parent, group
    read -ra fields <<<"${line##*) }"
    pid=${stat//[!0-9]/}
    if [ "${fields[2]:-}" = "$leader" ] && is_ours "$pid" "$1"; then
      echo "$leader"
      return
    fi
  done
  return 1
}

# stop NAME...: with all they have started. What is not ours is left alone.
stop() {
  local name leader left=()
  for name in "$@"; do
    if leader=$(group "$name"); then
      left+=("$name")
      # the whole group: the pool's workers too
      kill -TERM -- "-$leader" 2>/dev/null || true
    fi
  done
  for name in "${left[@]}"; do
    for _ in $(seq 50); do
      group "$name" >/dev/null || break
      sleep 0.1
    done
    if leader=$(group "$name"); then kill -KILL -- "-$leader" 2>/dev/null || true; fi
  done
  for name in "$@"; do rm -f "$folder/$name.pid"; done
}

down() {
  local file names=()
  for file in "$folder"/*.pid; do
    if [ -e "$file" ]; then names+=("$(basename "$file" .pid)"); fi
  done
  stop "${names[@]}"
}

# need_port NAME HOST PORT VARIABLE: fails when NAME is to be started and something else listens there.
need_port() {
  if is_running "$1"; then return; fi
  "$python" - "$2" "$3" <<'PY' || fail "$2:$3, where $1 is to listen, is taken: end what listens there, or set $4 to another port"
import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((sys.argv[1], int(sys.argv[2])))
    except OSError:
        sys.exit(1)
PY
}

# listens NAME PORT: whether it is NAME itself that listens on this port.
listens() {
  local sockets
  sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null \
    | awk -v port="$(printf ':%04X' "$2")" '$4 == "0A" && $2 ~ port "$" { print "socket:[" $10 "]" }')
  [ -n "$sockets" ] && readlink "/proc/$(<"$folder/$1.pid")"/fd/* 2>/dev/null | grep -xF "$sockets" >/dev/null
}

# await LACKS NAME...: until LACKS, a command that prints what a cluster still lacks, prints nothing. Gives up once one of the
# processes has ended, and after a minute.
await() {
  local lacks=$1 name missing=
  shift
  for _ in $(seq 120); do
    for name in "$@"; do
      is_running "$name" || give_up "$name has ended ($(last_line "$name")): see $folder/$name.* and call up again"
    done
    missing=$("$lacks")
    if [ -z "$missing" ]; then return; fi
    sleep 0.5
  done
  give_up "$missing, after a minute: see $folder/*.out and *.log, and call up again"
}

# last_line NAME: of its output.
last_line() {
  grep -v '^[[:space:]]*$' "$folder/$1.out" | tail -n 1 | cut -c -200
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
