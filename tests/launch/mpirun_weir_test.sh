#!/usr/bin/env bash
# mpirun_weir_test.sh WEIR: launch/mpirun-weir names a rank that died, with its role, passes on what
# the job and mpirun say themselves, and stops a job on signals. It starts the WEIR beside it.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin"
cp "$root/launch/mpirun-weir" "$folder/bin"
ln -s "$(realpath "$1")" "$folder/bin/weir"

# Takes weir's place: what `plan --rank` says of three ranks, and a job whose rank 2 ends as told.
cat >"$folder/weir" <<'END'
#!/usr/bin/env bash
if [[ $1 == plan && $2 == --rank ]]; then
  case $3 in
    0) echo "replica 0, stage 0, context 0, shard 0" ;;
    1) echo "replica 0, stage 0, context 1, shard 0$([[ $4 == both ]] && echo ", server 1")" ;;
    2) echo "server 0" ;;
  esac
  exit
fi
[[ $OMPI_COMM_WORLD_RANK == 1 && ($2 == context || $2 == both) ]] && kill -KILL $$
if [[ $OMPI_COMM_WORLD_RANK == 2 ]]; then
  case $2 in
    killed) kill -KILL $$ ;;
    vanished) exit 9 ;;
    refused) echo "weir: no such thing" >&2; exit 2 ;;
    fine) exit 0 ;;
    stopped) exit 75 ;;
  esac
fi
[[ $2 == fine ]] && exit 0
[[ $2 == stopped ]] && exit 75
sleep 20
END
chmod +x "$folder/weir"

failures=0
launcher=$folder/bin/mpirun-weir
# expect HOW CODE LINES TEXT: the job ends within 8 s with this code, this many lines and this text.
expect() {
  local how=$1 code=$2 lines=$3 text=$4 output found
  output=$(timeout -s KILL 8 "$launcher" --binary "$folder/weir" -n 3 train "$how" 2>&1)
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
expect stopped 75 0 ""
ln -s "$launcher" "$folder/link"
launcher=$folder/link expect fine 0 0 ""

# refused CODE TEXT ARGUMENTS: the launcher ends with this code and text.
refused() {
  local code=$1 text=$2 output found
  shift 2
  output=$(timeout -s KILL 8 "$launcher" --binary "$folder/weir" "$@" 2>&1)
  found=$?
  if [[ $found != "$code" || $output != *"$text"* ]]; then
    echo "$*: exit code $found, expected $code and '$text':"
    echo "$output"
    failures=1
  fi
}
refused 1 'unable to open the hostfile' -n 3 --hostfile "$folder/nosuch" train fine
refused 1 'Working directory: /nosuch' -n 3 --wdir /nosuch train fine
refused 1 'mpirun started no rank and ended with' -n 3 --wdir /nosuch train fine
refused 1 'unknown option "--nosuch"' -n 3 --nosuch train fine
SLURM_JOB_ID=1 refused 1 'not enough slots' -n 99 train fine
refused 2 "'trian' is none of train, eval and plan" -n 3 --mca a b --wdir train trian --steps 3
refused 2 'generate runs without mpirun' --oversubscribe generate run
refused 2 'Runs a job of several ranks' -n 3

# A host that is lost, as far as one machine can play two: the daemon of the other one is killed.
cat >"$folder/ssh" <<'END'
#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
shift  # the host
eval "$* & echo \$! >$0.daemon; wait"
END
chmod +x "$folder/ssh"
(
  until [[ $(grep -c . "$folder/began" 2>/dev/null) == 2 ]]; do sleep 0.1; done
  sleep 0.5  # until mpirun knows
  kill -KILL "$(<"$folder/ssh.daemon")"
) &
cat >"$folder/lost" <<END
#!/usr/bin/env bash
[[ \$1 == plan ]] || echo x >>"$folder/began"
sleep 5
END
chmod +x "$folder/lost"
lost=$(timeout -s KILL 20 "$launcher" --binary "$folder/lost" -n 2 --mca plm_rsh_agent "$folder/ssh" \
  --host localhost:1,elsewhere:1 train 2>&1)
if [[ $? != 1 || $lost != *'on node elsewhere'* || $lost != *'weir: mpirun gave the job up'* ]]; then
  echo "lost host: expected exit code 1 and its name:"
  echo "$lost"
  failures=1
fi

# begin_job RUN: the real thing.
begin_job() {
  # A shell's background ignores SIGINT, and what it starts would, too.
  env --default-signal=INT "$launcher" --binary "$weir" -n 4 train --stages 2 --servers 2 \
    --length 32 --data.files "$root/LICENSE" --data.held-out 100 --steps 1000000 \
    --run "$folder/$1" --progress none >"$folder/said" 2>&1 &
  job=$!
}
# await_step RUN: until it has trained three steps.
await_step() {
  for ((i = 0; i < 200; i++)); do
    grep -qs '"step":3,' "$folder/$1/metrics.jsonl" && break
    sleep 0.1
  done
}
# expect_end WHAT CODE TEXT RUN: the job ends within 8 s, with a checkpoint if a run is named.
expect_end() {
  local what=$1 code=$2 text=$3 run=${4:-} begun=$SECONDS found
  timeout 15 tail --pid="$job" -f /dev/null || kill -KILL "$job"
  wait "$job"
  found=$?
  if [[ $found != "$code" || $((SECONDS - begun)) -gt 8 || $(<"$folder/said") != *"$text"* ]] ||
    { [[ -n $run ]] && ! ls "$folder/$run"/checkpoints/step-*/MANIFEST >/dev/null; }; then
    echo "$what: exit code $found after $((SECONDS - begun)) s, expected $code and '$text':"
    cat "$folder/said"
    failures=1
  fi
}

# A server that is killed while the job trains. Open MPI may say first that it could not read from it.
weir=$1
begin_job run
await_step run
for process in /proc/[0-9]*; do
  if [[ $(readlink "$process/exe" 2>/dev/null) == "$(realpath "$1")" ]] &&
    tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx 'OMPI_COMM_WORLD_RANK=3' &&
    tr '\0' '\n' <"$process/cmdline" | grep -qxF "$folder/run" &&
    ! grep -qaF as-rank "$process/cmdline"; then
    kill -KILL "${process#/proc/}"
  fi
done
expect_end "killed server" 137 \
  "weir: rank 3, server 1, on $(uname -n), was killed by signal 9 (KILL); the job ends."

# Asked to stop: a checkpoint, exit code 75, and nobody speaks of a rank that died.
begin_job stopped
await_step stopped
kill -USR1 $job
expect_end USR1 75 '(stopped on request)' stopped
if grep 'the job ends' "$folder/said"; then failures=1; fi

# Asked before there is any rank: held until there is one, and answered after the first step.
begin_job early
# The launcher catches SIGUSR1 (bit 9) last; before it is there, this shell's handlers show.
until [[ $(readlink "/proc/$job/exe") == "$(realpath "$1")" ]] &&
  grep -q '^SigCgt:.*[2367abef]..$' "/proc/$job/status"; do sleep 0.01; done
kill -TERM $job
expect_end 'early TERM' 75 '(stopped on request)' early
grep -q '"step":1,' "$folder/early/metrics.jsonl" || { echo "early TERM: no step"; failures=1; }

# A second request ends it at once.
begin_job twice
await_step twice
for child in $(<"/proc/$job/task/$job/children"); do
  [[ $(<"/proc/$child/comm") == mpirun ]] && mpirun=$child
done
kill -STOP "$mpirun"  # else the first request may end the job before the second
kill -INT $job
until grep -q 'a second SIGTERM or SIGINT ends it at once' "$folder/said"; do sleep 0.01; done
kill -INT $job
kill -CONT "$mpirun"
expect_end 'second INT' 130 'weir: ended at once by SIGINT'

"$launcher" --binary "$folder/none" -n 3 train >/dev/null 2>&1
[[ $? == 1 ]] || { echo "no binary: expected exit code 1"; failures=1; }
exit $failures
