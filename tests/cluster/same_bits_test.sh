#!/usr/bin/env bash
# same_bits_test.sh WEIR: a job on two hosts of two ranks each computes the bits of the same layout
# on one host.
source "$(dirname "$(realpath "$0")")/job.sh"

hosts up 2
layout=(--replicas 2 --servers 2 --steps 24 --checkpoint-every 24)
small_job one "${layout[@]}"
supervise -- -n 4 "${job[@]}"
check "one host: 0" wait $supervisor
small_job two "${layout[@]}"
# A worker and a server on each host: weights travel in shared memory and over the link.
supervise -- --hostfile "$CLUSTER_HOSTFILE" --map-by node -n 4 "${job[@]}"
check "two hosts: 0" wait $supervisor
check "the ranks know of two hosts" said 'window between 2 of 4 pairs'
check "the bits are the same" same_digests one two 24

# Four shards: two on each host, whose sums travel, against all in the memory of one host.
hosts_of_shards=$folder/hosts_of_shards
sed 's/slots=.*/slots=3/' "$CLUSTER_HOSTFILE" >"$hosts_of_shards"
layout=(--shards 4 --servers 2 --steps 4 --checkpoint-every 4)
small_job one-shards "${layout[@]}"
supervise -- -n 6 "${job[@]}"
check "shards on one host: 0" wait $supervisor
small_job two-shards "${layout[@]}"
supervise -- --hostfile "$hosts_of_shards" --map-by node -n 6 "${job[@]}"
check "shards on two hosts: 0" wait $supervisor
check "the ranks know of two hosts" said 'window between 4 of 8 pairs'
check "the bits of shards are the same" same_digests one-shards two-shards 4
exit $((failures > 0))
