#!/usr/bin/env bash
# groups_test.sh WEIR: with --sum-groups a job has the same bits on one, two and four hosts, whether the
# replicas of a group share a host and send once, or not. Four hosts have two ranks each.
source "$(dirname "$(realpath "$0")")/job.sh"

hosts up 4 100mbit  # slow links change the time, not the bits
printf 'n%d slots=4\n' 1 2 >"$folder/hosts"

# run NAME WORDS OF MPIRUN -- WORDS OF THE JOB: six replicas in groups of two, and two servers.
run() {
  local name=$1 where=()
  shift
  while [[ $1 != -- ]]; do
    where+=("$1")
    shift
  done
  shift
  small_job "$name" --replicas 6 --sum-groups 2 --servers 2 --steps 12 --checkpoint-every 6 "$@"
  supervise -- "${where[@]}" -n 8 "${job[@]}"
  check "$name: 0" wait $!
}
four=(--hostfile "$CLUSTER_HOSTFILE")

run one --
run two --hostfile "$folder/hosts" --
check 'on two hosts the first four replicas send twice' said 'replicas push and pull once; messages'
run four "${four[@]}" --
check 'on four hosts each pair sends once' said 'replicas push and pull once; messages'
run spread "${four[@]}" --map-by node --
check 'replicas of a group are on two hosts' said 'are added up by servers: none has'
for run in two four spread; do check "the bits of $run" same_digests one $run 12; done

lossy=(--wire-push int8 --wire-pull bf16)
run lossy-one -- "${lossy[@]}"
check 'on one host each group encodes its sum once' said 'replicas push and pull once; messages'
run lossy-four "${four[@]}" -- "${lossy[@]}"
run lossy-spread "${four[@]}" --map-by node -- "${lossy[@]}"
for run in four spread; do check "the bits of lossy-$run" same_digests lossy-one lossy-$run 12; done
exit $((failures > 0))
