#!/usr/bin/env bash
# A real standalone Flink cluster on this machine, without Docker: a JobManager and two TaskManagers of one slot each, with
# a pool of Beam's Python workers beside each TaskManager.
# Usage: deploy/flink/local_cluster.sh up|down|status
#   up      starts what is not running and prints the command to submit a job with
#   down    stops everything
#   status  says what is running; exit code 1 when something is not
# The workers get the environment of `up`: give it LEDGER_DSN, SOURCE_AWS_* and DESTINATION_AWS_* as for a run.
#
# Environment: FLINK_FOLDER (configuration and logs), FLINK_PORT (8081), FLINK_RPC_PORT (6123), WORKER_POOL_PORT (50000),
# TASK_MANAGERS (2), SLOTS (1, of each), TASK_MANAGER_MEMORY (1536m), RESTARTS (6, of the tasks of one job), PYTHON (the one
# s3ferry is installed for).
# Needs Linux and Java 11 or 17. Flink itself comes from PyPI, into the cache of the tools.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../../local/install_tools.sh"
# shellcheck source=deploy/processes.sh
. "$here/../processes.sh"

version=1.19.3
folder=$(realpath -m "${FLINK_FOLDER:-${XDG_STATE_HOME:-$HOME/.local/state}/s3ferry/flink}")
port=${FLINK_PORT:-8081}
rpc_port=${FLINK_RPC_PORT:-6123}
pool_port=${WORKER_POOL_PORT:-50000}
task_managers=${TASK_MANAGERS:-2}
python=${PYTHON:-$(command -v python3)}
flink=$cache/flink-$version
# Beam's job server, where it is at hand
job_server=${S3FERRY_JOB_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/s3ferry/job-servers}/beam-flink-1.19-job-server.jar
if [ ! -e "$job_server" ]; then job_server=; fi

# what Flink's own scripts pass to Java 17 (flink-conf.yaml, env.java.opts.all)
opens=()
for package in java.base/java.lang java.base/java.net java.base/java.io java.base/java.nio java.base/sun.nio.ch \
  java.base/java.lang.reflect java.base/java.text java.base/java.time java.base/java.util java.base/java.util.concurrent \
  java.base/java.util.concurrent.atomic java.base/java.util.concurrent.locks; do
  opens+=("--add-opens=$package=ALL-UNNAMED")
done

# parameters COMMAND: the two lines of Java and Flink parameters that Flink computes from config.yaml.
parameters() {
  java -cp "$flink/pyflink/bin/bash-java-utils.jar:$flink/pyflink/lib/*" \
    org.apache.flink.runtime.util.bash.BashJavaUtils "$1" --configDir "$folder/conf" 2>/dev/null \
    | sed -n 's/^BASH_JAVA_UTILS_EXEC_RESULT://p'
}

# start_java NAME CLASS COMMAND [ARGUMENT...]
start_java() {
  local name=$1 class=$2 lines jvm dynamic
  mapfile -t lines < <(parameters "$3")
  [ ${#lines[@]} -eq 2 ] || give_up "Flink does not take $folder/conf/config.yaml"
  read -ra jvm <<<"${lines[0]}"
  read -ra dynamic <<<"${lines[1]}"
  if [ -n "${hosts:-}" ]; then jvm+=("-Djdk.net.hosts.file=$hosts"); fi
  shift 3
  FLINK_CONF_DIR=$folder/conf start "$name" java "${jvm[@]}" "${opens[@]}" \
    "-Dlog4j.configurationFile=file:$folder/conf/log4j.properties" "-Dlog.file=$folder/$name.log" \
    -cp "$flink/pyflink/lib/*${job_server:+:$job_server}" "$class" --configDir "$folder/conf" "${dynamic[@]}" "$@"
}

configure() {
  mkdir -p "$folder/conf" "$folder/tmp"
  cat >"$folder/conf/config.yaml" <<YAML
jobmanager.rpc.address: localhost
jobmanager.rpc.port: $rpc_port
jobmanager.bind-host: localhost
jobmanager.memory.process.size: 1g
taskmanager.bind-host: localhost
taskmanager.host: localhost
taskmanager.memory.process.size: ${TASK_MANAGER_MEMORY:-1536m}
taskmanager.memory.managed.fraction: 0.1
taskmanager.memory.network.fraction: 0.2
# the graph has many exchanges of few elements; each task that writes to one reserves so many buffers of 32 KiB
taskmanager.network.sort-shuffle.min-buffers: 64
taskmanager.numberOfTaskSlots: ${SLOTS:-1}
rest.address: localhost
rest.bind-address: localhost
rest.port: $port
io.tmp.dirs: $folder/tmp
# Beam's classes from Flink's own class path where they are there: only then are Python workers kept between stages
classloader.resolve-order: parent-first
# and then threads of an earlier job serve the next one
classloader.check-leaked-classloader: false
# a job that loses a worker or a TaskManager starts its tasks again; each task that was lost counts as an attempt
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: ${RESTARTS:-6}
restart-strategy.fixed-delay.delay: 15 s
# a TaskManager that is gone is noticed within seconds
heartbeat.interval: 2000
heartbeat.timeout: 10000
YAML
  cat >"$folder/conf/log4j.properties" <<'PROPERTIES'
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = File
appender.file.name = File
appender.file.type = FILE
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
PROPERTIES
}

up() {
  local number names
  command -v java >/dev/null || fail "java is not installed; Flink $version needs Java 11 or 17"
  "$python" -c 'import pipeline.main, apache_beam' 2>/dev/null \
    || fail "$python has no s3ferry: set PYTHON to that of the environment it is installed in"
  need_port jobmanager localhost "$port" FLINK_PORT
  need_port jobmanager localhost "$rpc_port" FLINK_RPC_PORT
  for number in $(seq "$task_managers"); do
    need_port "worker-pool-$number" "127.0.1.$number" "$pool_port" WORKER_POOL_PORT
  done
  install_tools "$here/tools.txt" "$python" flink
  configure
  start_java jobmanager org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint GET_JM_RESOURCE_PARAMS
  for number in $(seq "$task_managers"); do
    start "worker-pool-$number" "$python" -m pipeline.worker_pool "--address=127.0.1.$number:$pool_port"
    # one name for the pool, and to each TaskManager it is its own
    printf '127.0.0.1 localhost %s\n127.0.1.%s worker-pool\n' "$(hostname)" "$number" >"$folder/conf/hosts-$number"
    hosts=$folder/conf/hosts-$number start_java "taskmanager-$number" \
      org.apache.flink.runtime.taskexecutor.TaskManagerRunner GET_TM_RESOURCE_PARAMS
  done
  mapfile -t names < <(names)
  await lacks "${names[@]}"
  echo "Flink $version runs with $task_managers TaskManagers: http://localhost:$port"
  echo "s3ferry run --runner=FlinkRunner --flink_master=localhost:$port --environment_config=worker-pool:$pool_port \\"
  echo "  --manifest=s3://… --destination=s3://…"
}

# names: of all processes of the cluster, one a line.
names() {
  echo jobmanager
  seq -f 'taskmanager-%g' "$task_managers"
  seq -f 'worker-pool-%g' "$task_managers"
}

# lacks: what is still missing.
lacks() {
  local number
  listens jobmanager "$port" || { echo "jobmanager does not listen on port $port" && return; }
  for number in $(seq "$task_managers"); do
    listens "worker-pool-$number" "$pool_port" || { echo "worker-pool-$number does not listen on port $pool_port" && return; }
  done
  [ "$(asked "$port" overview taskmanagers)" -ge "$task_managers" ] || echo "not all TaskManagers have registered"
}

status() {
  local name missing=0
  for name in $(names); do
    if is_running "$name"; then echo "$name runs, pid $(cat "$folder/$name.pid")"; else
      echo "$name does not run"
      missing=1
    fi
  done
  return "$missing"
}

case ${1:-} in
  up | down | status) "$1" ;;
  *) fail "say up, down or status" ;;
esac
