#include "tests/faults/chaos.hpp"
#include "tests/faults/damage.hpp"
#include "tests/faults/failed_calls.hpp"
#include "tests/faults/killed_ranks.hpp"
#include "tests/faults/killed_saves.hpp"
#include "tests/faults/layouts.hpp"
#include "tests/faults/part.hpp"
#include "tests/faults/power_loss.hpp"
#include "tests/faults/still_jobs.hpp"
#include "tests/faults/stop_requests.hpp"

namespace weir::test {

std::vector<Row> rows() {
  return {
      {"damage",
       "damaged checkpoints, decision logs, metrics, configurations, records, LOCK, BEST, words of "
       "a command: refused by name or equal; no crash, no hang, at most 64 MiB and the data",
       damage},
#ifndef WEIR_SANITIZE
      {"kill",
       "killed before a call that changes a file: old or new loads, and resumes to the same bits",
       killed_saves},
      {"power",
       "power lost, in a new run folder, too: un-fsynced writes and names dropped, torn, "
       "reordered; what a job was told to be on the disk is there",
       power_loss},
      {"errors",
       "a call fails (EIO, ENOSPC, once or from then on; EINTR; short writes): what is committed "
       "stays whole, training goes on or ends with the reason and its exit code",
       failed_calls},
      {"killed-ranks",
       "a rank killed under `weir run`, half of them in a save: the job ends by itself, same bits",
       killed_ranks},
      {"still",
       "a rank stopped, a message lost, a disk hung: 86 in time, the rank named, then the same "
       "bits; "
       "a slow disk ends nothing",
       still_jobs},
      {"stop", "a request to stop at a random time: 75, and a step is committed", stop_requests},
      {"chaos",
       "ranks killed and stopped at random, again and again: the job goes on to the same bits, and "
       "nothing grows",
       chaos},
      {"layouts",
       "saved on one layout, loaded on another and saved again: every tensor has the same bits",
       layouts},
#endif
  };
}

}  // namespace weir::test
