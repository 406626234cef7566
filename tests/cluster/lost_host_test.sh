#!/usr/bin/env bash
# lost_host_test.sh WEIR [TRIALS]: one host of three, drawn, dies twice, with all its processes. The job
# goes on without it and with fewer replicas, and takes each sample exactly once. Every second trial
# has servers on ranks of their own.
source "$(dirname "$(realpath "$0")")/job.sh"

steps=200 batch=8  # that of small_job
layout=(--placement colocated --replicas 6)
fewer='4 of 6 replicas'
if ((trial % 2 == 0)); then
  layout=(--replicas 4 --servers 2)
  fewer='2 of 4 replicas'
fi
layout+=(--steps $steps --checkpoint-every 10 --watchdog.floor 10 --inject sleep=4ms)

# steps_of RUN: step, cursor and loss of each step; of several lines for a step the last.
steps_of() {
  sed -nE 's/^\{"kind":"step","step":([0-9]+),.*/\1 &/p' "$folder/$1/metrics.jsonl" |
    awk '{ match($0, /"cursor":[0-9]+/); cursor = substr($0, RSTART + 9, RLENGTH - 9)
           match($0, /"loss":[-+.0-9e]+/); loss = substr($0, RSTART + 7, RLENGTH - 7)
           line[$1] = $1 " " cursor " " loss; if ($1 > last) last = $1 }
         END { for (step = 1; step <= last; ++step) print line[step] }'
}

# each_sample_once RUN: every step is there and begins where the one before ended.
each_sample_once() {
  steps_of "$1" | awk -v steps=$steps -v batch=$batch \
    '$1 != NR || $2 != NR * batch { exit 1 } END { exit NR != steps }'
}

# same_losses RUN RUN: within rounding, which is all that another number of replicas changes.
same_losses() {
  paste -d ' ' <(steps_of "$1") <(steps_of "$2") |
    awk '{ gap = $3 - $6; if (gap > 1e-3 || gap < -1e-3) exit 1 }'
}

hosts up 3
small_job undisturbed "${layout[@]}"
supervise -- -n 6 "${job[@]}"
check "the undisturbed job ends with 0" wait $supervisor

host=n$((1 + RANDOM % 3))
small_job run "${layout[@]}"
supervise --min-replicas 2 -- --hostfile "$CLUSTER_HOSTFILE" -n 6 "${job[@]}"
for death in 1 2; do
  await "a committed step" committed run $(($(committed_step run) + 10 + RANDOM % 30))
  hosts kill $host
  await "restart $death" said "(restart $death of 10)"
done
wait $supervisor
check "the job ends with 0" test $? -eq 0
check "the host and the replicas are named" \
  said "$host failed twice and is left out from now on. The job goes on with $fewer"
check "the remaining hosts do the rest" test "$(grep -c . "$folder/run/hostfile.remaining")" -eq 2
check "each sample is taken once" each_sample_once run
check "the losses are those of the undisturbed job" same_losses run undisturbed
exit $((failures > 0))
