#!/usr/bin/env bash
# full_disk_test.sh WEIR: a disk that becomes full while a job trains costs neither its last
# checkpoint nor its exit code, and one that is full before is told before the first step.
# Needs a small file system of its own: root, in a private mount. Ends with 77 without that.
set -uo pipefail
weir=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/disk"
if ! unshare -m mount -t tmpfs -o size=1m none "$folder/disk" 2>/dev/null; then
  echo "skipped: a private mount is not permitted here"
  exit 77
fi

# Runs in the private mount. Arguments: weir, folder.
in_mount() {
  local weir=$1 folder=$2 job failures=0
  mount -t tmpfs -o size=4m none "$folder/disk" || return 1
  seq 20000 >"$folder/text"
  train() {
    "$weir" train --placement local --length 32 --batch 2 --micro-batch 1 --model.layers 1 \
      --model.width 32 --model.heads 2 --model.feed-forward 64 --attention.left 8 \
      --data.files "$folder/text" --data.held-out 2000 --checkpoint-every 0 --progress none "$@"
  }
  wait_until() {  # at most 20 s
    for _ in {1..400}; do
      "$@" && return
      sleep 0.05
    done
    echo "waited in vain: $*"
    cat "$folder/log"
    ((++failures))
  }
  check() {
    "$@" && return
    echo "does not hold: $*"
    cat "$folder/log"
    ((++failures))
  }

  train --run "$folder/disk/run" --steps 10000000 --checkpoint.wait 50 >"$folder/log" 2>&1 &
  wait_until grep -qs '"step":2,' "$folder/disk/run/metrics.jsonl"
  cat /dev/zero >"$folder/disk/fill" 2>/dev/null
  job=$(pgrep -P $! -x weir || echo $!)
  kill -USR1 "$job"
  wait_until grep -q 'make room there; tries again' "$folder/log"
  check grep -q 'No space left on device' "$folder/log"
  rm "$folder/disk/fill"
  wait %1
  check test $? -eq 75
  check "$weir" inspect "$folder/disk/run" --verify >"$folder/inspected"
  check grep -q 'complete, all digests hold' "$folder/inspected"
  check grep -q '"kind":"summary"' "$folder/disk/run/metrics.jsonl"

  # 100 KiB are left: enough for small files, too little for a checkpoint.
  head -c $((($(df --output=avail -k "$folder/disk" | tail -1) - 100) * 1024)) /dev/zero \
    >"$folder/disk/fill"
  train --run "$folder/disk/none" --steps 4 >"$folder/log" 2>&1
  check test $? -eq 1
  check grep -q 'a checkpoint of this job needs .*make room there, or choose another --run' \
    "$folder/log"

  rm "$folder/disk/fill"
  (ulimit -f 100 && train --run "$folder/disk/limit" --steps 4) >"$folder/log" 2>&1
  check test $? -eq 1
  check grep -q 'ulimit -f' "$folder/log"
  return $((failures > 0))
}
export -f in_mount
unshare -m bash -c 'in_mount "$@"' bash "$weir" "$folder"
