#!/usr/bin/env bash
# mpirun_weir_test.sh WEIR: launch/mpirun-weir names a rank that died, with its role, and passes on
# what the job says itself.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# In weir's place: a plan of three ranks, and a job whose rank 2 ends as told.
cat >"$folder/weir" <<'END'
#!/usr/bin/env bash
if [[ $1 == plan ]]; then
  echo "rank 0  replica 0, stage 0, context 0, shard 0"
  echo "rank 1  replica 0, stage 0, context 1, shard 0"
  echo "rank 2  server 0"
  [[ $2 == both ]] && echo "rank 1  server 1"
  exit
fi
[[ $OMPI_COMM_WORLD_RANK == 1 && ($2 == context || $2 == both) ]] && kill -KILL $$
if [[ $OMPI_COMM_WORLD_RANK == 2 ]]; then
  case $2 in
    killed) kill -KILL $$ ;;
    vanished) exit 9 ;;
    refused) echo "weir: no such thing" >&2; exit 2 ;;
    fine) exit 0 ;;
  esac
fi
[[ $2 == fine ]] && exit 0
sleep 20
END
chmod +x "$folder/weir"

failures=0
# expect HOW CODE LINES TEXT: the job ends within 8 s with this code, this many lines and this text.
expect() {
  local how=$1 code=$2 lines=$3 text=$4 output found
  output=$(timeout 8 "$root/launch/mpirun-weir" --binary "$folder/weir" -n 3 train "$how" 2>&1)
  found=$?
  if [[ $found != "$code" || $(grep -c . <<<"$output") != "$lines" || $output != *"$text"* ]]; then
    echo "$how: exit code $found, expected $code, $lines lines and '$text':"
    echo "$output"
    failures=1
  fi
}
expect killed 137 1 "weir: rank 2, server 0, on $(uname -n), was killed by signal 9 (KILL)"
expect context 137 1 "weir: rank 1, replica 0, stage 0, context 1, shard 0, on $(uname -n), was killed"
expect both 137 1 "weir: rank 1, replica 0, stage 0, context 1, shard 0, server 1, on $(uname -n), was killed"
expect vanished 9 1 "weir: rank 2, server 0, on $(uname -n), ended with exit code 9"
expect refused 2 1 "weir: no such thing"
expect fine 0 0 ""

# begin_job RUN: the real thing, until it has trained three steps.
begin_job() {
  "$root/launch/mpirun-weir" --binary "$weir" -n 4 train --stages 2 --servers 2 --length 32 \
    --data.files "$root/LICENSE" --data.held-out 100 --steps 1000000 --run "$folder/$1" \
    --progress none >"$folder/said" 2>&1 &
  job=$!
  for ((i = 0; i < 200; i++)); do
    grep -qs '"step":3,' "$folder/$1/metrics.jsonl" && break
    sleep 0.1
  done
}

# A server that is killed while the job trains. Open MPI may say first that it could not read from it.
weir=$1
begin_job run
for process in /proc/[0-9]*; do
  if [[ $(readlink "$process/exe" 2>/dev/null) == "$(realpath "$1")" ]] &&
    tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx 'OMPI_COMM_WORLD_RANK=3' &&
    tr '\0' '\n' <"$process/cmdline" | grep -qxF "$folder/run"; then
    kill -KILL "${process#/proc/}"
  fi
done
begun=$SECONDS
wait $job
found=$?
text="weir: rank 3, server 1, on $(uname -n), was killed by signal 9 (KILL); the job ends."
if [[ $found != 137 || $((SECONDS - begun)) -gt 8 || $(<"$folder/said") != *"$text"* ]]; then
  echo "killed server: exit code $found after $((SECONDS - begun)) s, expected 137 and '$text':"
  cat "$folder/said"
  failures=1
fi

# Asked to stop: a checkpoint, exit code 75, and nobody speaks of a rank that died.
begin_job stopped
kill -USR1 $job
begun=$SECONDS
wait $job
found=$?
if [[ $found != 75 || $((SECONDS - begun)) -gt 8 || $(<"$folder/said") != *"(stopped on request)"* ]] ||
  grep -q 'the job ends' "$folder/said" || ! ls "$folder"/stopped/checkpoints/step-*/MANIFEST >/dev/null; then
  echo "USR1: exit code $found after $((SECONDS - begun)) s, expected 75 and a checkpoint:"
  cat "$folder/said"
  failures=1
fi

"$root/launch/mpirun-weir" -n 3 >/dev/null 2>&1
[[ $? == 2 ]] || { echo "no subcommand: expected exit code 2"; failures=1; }
"$root/launch/mpirun-weir" --binary "$folder/none" -n 3 train >/dev/null 2>&1
[[ $? == 1 ]] || { echo "no binary: expected exit code 1"; failures=1; }
exit $failures
