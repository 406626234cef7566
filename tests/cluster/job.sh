# Sourced by the tests of this folder, each called as TEST WEIR [TRIALS]: goes where hosts can be
# made, and has what the tests share. Each ends with 77 where that is not permitted.
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
[[ -v CLUSTER_HOSTFILE ]] || exec "$here/hosts" within "$(realpath "$0")" "$@"
set -uo pipefail
weir=$(realpath "$1")
trials=${2:-1}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

hosts() { "$here/hosts" "$@"; }
eval "$(hosts env)"
export OMPI_MCA_orte_tmpdir_base=$folder
seq 20000 >"$folder/text"

# small_job RUN: the words of a training job that makes one-millisecond steps; more can follow.
small_job() {
  job=(train --run "$folder/$1" --length 32 --batch 12 --micro-batch 1 --model.layers 2
    --model.width 32 --model.heads 4 --model.feed-forward 64 --model.dropout 0.1
    --attention.left 8 --data.files "$folder/text" --data.held-out 2000 --bucket-bytes 65536
    --eval-every 0 --progress none "${@:2}")
}

# failed WHAT FILE …: says that something does not hold, and shows the files.
failed() {
  echo "does not hold: $1"
  tail -n 60 "${@:2}"
  ((++failures))
}

# await SECONDS COMMAND …: until it succeeds.
await() {
  local end=$((SECONDS + $1))
  until "${@:2}"; do
    ((SECONDS < end)) || return
    sleep 0.05
  done
}

# has_step RUN STEP: metrics.jsonl has its line. committed RUN STEP: it is saved, or a later one.
has_step() { grep -qs "\"kind\":\"step\",\"step\":$2," "$folder/$1/metrics.jsonl"; }
committed_step() {
  local newest
  newest=$(cd "$folder/$1/checkpoints" 2>/dev/null && ls -d step-*/MANIFEST 2>/dev/null | tail -n 1)
  newest=${newest#step-}
  echo $((10#0${newest%/MANIFEST}))
}
committed() { (($(committed_step "$1") >= $2)); }

# digests RUN STEP: of all tensors of the checkpoint.
digests() { grep '^digest ' "$folder/$1/checkpoints/$(printf 'step-%08d' "$2")/MANIFEST"; }
