#!/usr/bin/env bash
# same_bits_test.sh WEIR: a job on two hosts of two ranks each computes the bits of the same layout
# on one host.
source "$(dirname "$(realpath "$0")")/job.sh"

hosts up 2
layout=(--replicas 2 --servers 2 --steps 24 --checkpoint-every 24)
small_job one "${layout[@]}"
"$weir" run -- -n 4 "${job[@]}" >"$folder/log" 2>&1 || failed "one host: 0" "$folder/log"
small_job two "${layout[@]}"
# A worker and a server on each host: weights travel in shared memory and over the link.
"$weir" run -- --hostfile "$CLUSTER_HOSTFILE" --map-by node -n 4 "${job[@]}" >"$folder/log" 2>&1 ||
  failed "two hosts: 0" "$folder/log"
grep -q "between 2 of 4 pairs" "$folder/log" || failed "the ranks know of two hosts" "$folder/log"
[[ -n $(digests one 24) && $(digests one 24) == "$(digests two 24)" ]] ||
  failed "the bits are the same" "$folder/log"
exit $((failures > 0))
