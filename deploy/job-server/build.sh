#!/usr/bin/env bash
# Builds Beam's job server for Flink or Spark with Maven, for where Beam cannot download its own. s3ferry finds it.
# Usage: deploy/job-server/build.sh flink|spark   (what is there already is left alone). Needs Java 17 and Maven; about 3 minutes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${S3FERRY_JOB_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/s3ferry/job-servers}
kind=${1:-}
case $kind in
  flink) name=beam-flink-1.19-job-server.jar ;;
  spark) name=beam-spark-3-job-server.jar ;;
  *)
    echo "build.sh: say flink or spark" >&2
    exit 2
    ;;
esac
if [ -e "$folder/$name" ]; then exit 0; fi
command -v mvn >/dev/null || {
  echo "build.sh: Maven is not installed" >&2
  exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "$here/pom.xml" "$scratch"
mvn --quiet --batch-mode -P "$kind" package -f "$scratch/pom.xml"
mkdir -p "$folder"
mv "$scratch/target/$name" "$folder/$name.$$"
mv "$folder/$name.$$" "$folder/$name"
echo "$folder/$name"
