#!/usr/bin/env bash
# A real standalone Spark cluster on this machine, without Docker: a master and a worker, with a pool of Beam's Python
# workers beside it.
# Usage: deploy/spark/local_cluster.sh up|down
#   up    starts what is not running and prints the command to submit a job with
#   down  stops everything
# The Python workers get the environment of `up`: give it LEDGER_DSN, SOURCE_AWS_* and DESTINATION_AWS_* as for a run.
#
# Environment: SPARK_FOLDER (logs and work), SPARK_PORT (7077), SPARK_UI_PORT (8080), WORKER_POOL_PORT (50000), CORES (2),
# WORKER_MEMORY (2g), PYTHON (the one s3ferry is installed for).
# Needs Linux and Java 11 or 17. Spark itself comes from PyPI, into the cache of the tools.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/install_tools.sh
. "$here/../../local/install_tools.sh"
# shellcheck source=deploy/processes.sh
. "$here/../processes.sh"

version=3.5.0
folder=$(realpath -m "${SPARK_FOLDER:-${XDG_STATE_HOME:-$HOME/.local/state}/s3ferry/spark}")
port=${SPARK_PORT:-7077}
ui_port=${SPARK_UI_PORT:-8080}
pool_port=${WORKER_POOL_PORT:-50000}
cores=${CORES:-2}
python=${PYTHON:-$(command -v python3)}
export SPARK_HOME=$cache/spark-$version/pyspark
export SPARK_LOCAL_IP=127.0.0.1

up() {
  command -v java >/dev/null || fail "java is not installed; Spark $version needs Java 11 or 17"
  "$python" -c 'import pipeline.main, apache_beam' 2>/dev/null \
    || fail "$python has no s3ferry: set PYTHON to that of the environment it is installed in"
  # Spark itself would take the next one, where nobody looks for it
  need_port master localhost "$port" SPARK_PORT
  need_port master localhost "$ui_port" SPARK_UI_PORT
  need_port worker-pool-1 127.0.0.1 "$pool_port" WORKER_POOL_PORT
  install_tools "$here/tools.txt" "$python" spark
  mkdir -p "$folder/work"
  start master bash "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master \
    --host localhost --port "$port" --webui-port "$ui_port"
  start worker bash "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker --host localhost \
    --webui-port 0 --cores "$cores" --memory "${WORKER_MEMORY:-2g}" --work-dir "$folder/work" "spark://localhost:$port"
  start worker-pool-1 "$python" -m pipeline.worker_pool "--address=127.0.0.1:$pool_port"
  await lacks master worker worker-pool-1
  echo "Spark $version runs with a worker of $cores cores: http://localhost:$ui_port"
  echo "s3ferry run --runner=SparkRunner --spark_master_url=spark://localhost:$port \\"
  echo "  --environment_config=localhost:$pool_port --manifest=s3://… --destination=s3://…"
}

# lacks: what is still missing.
lacks() {
  listens master "$port" || { echo "master does not listen on port $port" && return; }
  listens master "$ui_port" || { echo "master does not listen on port $ui_port" && return; }
  listens worker-pool-1 "$pool_port" || { echo "worker-pool-1 does not listen on port $pool_port" && return; }
  [ "$(asked "$ui_port" json/ aliveworkers)" -ge 1 ] || echo "the worker has not registered"
}

case ${1:-} in
  up | down) "$1" ;;
  *) fail "say up or down" ;;
esac
