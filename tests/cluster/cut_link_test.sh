#!/usr/bin/env bash
# cut_link_test.sh WEIR [TRIALS]: the link between the two hosts of a job is cut while it trains. The
# watchdog ends the job, the supervisor starts it again as soon as that is possible, and the half behind
# the cut cannot write into its run folder any more. It ends with the bits of an undisturbed job.
source "$(dirname "$(realpath "$0")")/job.sh"

floor=2  # seconds
layout=(--replicas 2 --servers 2 --steps 200 --checkpoint-every 10 --watchdog.floor $floor
  --inject sleep=4ms)

begin_job() {
  small_job "$1" "${layout[@]}"
  supervise -- --hostfile "$CLUSTER_HOSTFILE" -n 4 "${job[@]}"  # workers on n1, servers on n2
  await "a committed step" committed "$1" $((20 + RANDOM % 50))
}

# ends_in_time RUN: since `cut_at` no more than the deadline and two seconds have passed.
ends_in_time() {
  local deadline
  deadline=$(sed -n 's/.*"deadline_s":\([0-9.]*\).*/\1/p' "$folder/$1"/hang/*.json | sort -g | tail -n 1)
  awk -v now="$EPOCHREALTIME" -v cut="$cut_at" -v deadline="$deadline" \
    'BEGIN { exit !(now - cut <= deadline + 2) }'
}

expect_good_end() {
  wait "$supervisor"
  check "$1: the job ends with 0" test $? -eq 0
  check "$1: the bits are those of the undisturbed job" same_digests "$1" undisturbed 200
}

hosts up 2
small_job undisturbed "${layout[@]}"
supervise -- -n 4 "${job[@]}"
check "the undisturbed job ends with 0" wait $supervisor

# Both halves see the run folder all the time.
begin_job awake
cut_at=$EPOCHREALTIME
hosts cut n2
await "the watchdog's words" said 'the job stands still: '
check "the watchdog is in time" ends_in_time awake
check "the hosts at the cut are named" \
  said 'they are on n1 and n2: is a link between these hosts cut?\|all wait for rank [23], server [01], on n2'
await "a restart that cannot reach n2" said 'ssh: connect to host n2'
await "words for that" said 'mpirun started no rank and ended with'
hosts heal n2
expect_good_end awake
check "the job ended with the watchdog's code" said 'the job ended with 86 and is started again at once'
check "n2 ended by itself" grep -q '^n2 2 86' "$folder/ends"

# The other half cannot do anything for a while, as if its files were behind the cut, too; half of the
# trials stop it while it saves. It wakes when another host has taken its place, behind the cut still.
begin_job asleep
is_saving() { compgen -G "$folder/asleep/checkpoints/.tmp-step-*" >/dev/null; }
for ((look = 0; trial % 2 == 0 && look < 500; ++look)); do is_saving && break; done
hosts exec n2 bash -c 'kill -STOP -1'
cut_at=$EPOCHREALTIME
hosts cut n2
await "the watchdog's words" said 'the job stands still: '
check "the watchdog is in time" ends_in_time asleep
check "the lost ranks are named" said 'ranks 2 and 3, on n2, have written no record'
hosts replace n2
before=$(committed_step asleep)
await "a step of the new job" committed asleep $((before + 1))
rm "$folder/ends"
hosts exec n2-old bash -c 'kill -CONT -1'
await "the end of old server 0" grep -qs '^n2 2 74' "$folder/ends"
await "the end of old server 1" grep -qs '^n2 3 74' "$folder/ends"
check "the new job trains still" kill -0 "$supervisor"
expect_good_end asleep
exit $((failures > 0))
