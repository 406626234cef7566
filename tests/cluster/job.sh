# Sourced by the tests of this folder, each called as TEST WEIR [TRIALS]. Outside of `hosts within` it
# makes the trials there, one after the other, and ends with 77 where that is not permitted. Inside it
# has what the tests share.
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
set -uo pipefail
weir=$(realpath "$1")

if [[ ! -v CLUSTER_HOSTFILE ]]; then
  trials=${2:-1} failed=0
  trap 'kill $! 2>/dev/null; exit 1' TERM INT HUP
  for ((trial = 1; trial <= trials; ++trial)); do
    "$here/hosts" within "$(realpath "$0")" "$weir" $trial &
    wait $!
    code=$?
    ((code != 77)) || exit 77
    ((code == 0)) || ((++failed))
    ((trials == 1)) || echo "$(basename "$0"): $trial of $trials trials, $failed failed"
  done
  exit $((failed > 0))
fi

trial=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

hosts() { "$here/hosts" "$@"; }
eval "$(hosts env)"
export OMPI_MCA_orte_tmpdir_base=$folder
seq 20000 >"$folder/text"

# small_job RUN OPTIONS: sets `job`, the words of a small training job.
small_job() {
  job=(train --run "$folder/$1" --length 32 --batch 8 --micro-batch 1 --model.layers 2
    --model.width 32 --model.heads 4 --model.feed-forward 64 --model.dropout 0.1
    --attention.left 8 --data.files "$folder/text" --data.held-out 2000 --bucket-bytes 65536
    --eval-every 0 --progress none "${@:2}")
}

# supervise OPTIONS -- WORDS: `weir run` in the background, as $supervisor. What it says goes to
# $folder/log; each program of a rank that ends adds its host, rank and exit code to $folder/ends.
supervise() {
  cat >"$folder/noted" <<END
#!/bin/sh
"$weir" "\$@"
code=\$?
[ -z "\$OMPI_COMM_WORLD_RANK" ] || echo "\$(uname -n) \$OMPI_COMM_WORLD_RANK \$code" >>"$folder/ends"
exit \$code
END
  chmod +x "$folder/noted"
  "$weir" run --binary "$folder/noted" "$@" >"$folder/log" 2>&1 &
  supervisor=$!
}

# said WORDS: the job has said that.
said() { grep -qs -- "$1" "$folder/log"; }

# check WHAT COMMAND …: says WHAT and shows the log if the command fails.
check() {
  "${@:2}" && return
  echo "does not hold: $1"
  tail -n 60 "$folder/log"
  sed 's, *$,,' "$folder"/*/live/*.json 2>/dev/null
  ((++failures))
}

# await WHAT COMMAND …: until it succeeds. Ends the test if the job has ended or a minute has passed.
await() {
  local end=$((SECONDS + 60))
  until "${@:2}"; do
    if ((SECONDS >= end)) || { ! kill -0 $supervisor && ! "${@:2}"; } 2>/dev/null; then
      check "$1" false
      exit 1
    fi
    sleep 0.05
  done
}

# committed_step RUN: the newest one, or 0. committed RUN STEP: that one or a later one is.
committed_step() {
  local newest
  newest=$(cd "$folder/$1/checkpoints" 2>/dev/null && ls -d step-*/MANIFEST 2>/dev/null | tail -n 1)
  newest=${newest#step-}
  echo $((10#0${newest%/MANIFEST}))
}
committed() { (($(committed_step "$1") >= $2)); }

# digests RUN STEP: of all tensors of the checkpoint.
digests() { grep '^digest ' "$folder/$1/checkpoints/$(printf 'step-%08d' "$2")/MANIFEST"; }
same_digests() { [[ -n $(digests "$1" "$3") && $(digests "$1" "$3") == "$(digests "$2" "$3")" ]]; }
