#!/usr/bin/env bash
# install_test.sh CMAKE BUILD_FOLDER SOURCE_FOLDER: what `cmake --install` leaves trains a model
# anywhere, names a rank that died with its role, and knows no path of the tree it came from.
set -uo pipefail
cmake=$1 build=$2 source=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
  echo "$*"
  [[ -e $folder/said ]] && cat "$folder/said"
  exit 1
}

"$cmake" --install "$build" --prefix "$folder/first" >"$folder/said" 2>&1 || fail "no installation"
mv "$folder/first" "$folder/prefix"  # what it says of itself does not hold there
prefix=$folder/prefix
for file in bin/weir bin/mpirun-weir share/weir/{README.md,LICENSE,hostfile.example,configs/quickstart.ini}; do
  [[ -f $prefix/$file ]] || fail "$file is not installed"
done
for path in "$source" "$build" "$folder/first"; do
  grep -rlF "$path" "$prefix" && fail "installed files contain $path"
done

# Two ranks, a worker and a server, somewhere else.
mkdir "$folder/elsewhere"
cd "$folder/elsewhere" || exit 1
seq 20000 >text
cp "$prefix/share/weir/configs/quickstart.ini" job.ini
train() {
  "$prefix/bin/mpirun-weir" -n 2 train --config job.ini --replicas 1 --length 32 --batch 2 --micro-batch 1 \
    --model.layers 1 --model.width 32 --model.heads 2 --model.feed-forward 64 --attention.left 8 \
    --data.files text --data.held-out 2000 --data.stride 0 --progress none "$@" >"$folder/said" 2>&1
}
train --steps 2 --run run || fail "a job of two steps ended with $?"
ls run/checkpoints/step-00000002/MANIFEST >/dev/null || fail "no checkpoint"

# The server of a job dies.
train --steps 1000000 --run killed &
job=$!
for ((i = 0; i < 400; i++)); do
  grep -qs '"kind":"step"' killed/metrics.jsonl && break
  sleep 0.05
done
for process in /proc/[0-9]*; do
  if [[ $(readlink "$process/exe" 2>/dev/null) == "$(realpath "$prefix/bin/weir")" ]] &&
    tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx 'OMPI_COMM_WORLD_RANK=1' &&
    ! grep -qaF as-rank "$process/cmdline"; then
    kill -KILL "${process#/proc/}"
  fi
done
wait $job
code=$?
[[ $code == 137 && $(<"$folder/said") == *"weir: rank 1, server 0, on $(uname -n), was killed"* ]] ||
  fail "a killed server: exit code $code, expected 137 and the server's name"
