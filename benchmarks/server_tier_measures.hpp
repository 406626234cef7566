#pragma once

#include "benchmarks/server_tier_team.hpp"
#include "common/job/data_plane.hpp"

namespace weir::benchmark {

// All ranks of `team` call each of these together; the results go to its file under the names that
// server_tier_rank.hpp lists.

constexpr index_t kTierUnits = 25;  ///< layers that the plan has

/// A backward that takes its time: it makes a bucket a layer, each at 100 MB/s, and moves what
/// travels a few times meanwhile.
struct PacedBackward {
  static constexpr index_t kBucketBytes = 524288;
  static constexpr index_t kSlices = 5;  ///< sleeps for each bucket
  static constexpr auto kSleepMicroseconds = static_cast<index_t>(kBucketBytes / 100.0 / kSlices);
  static constexpr index_t kUpdates = 2;  ///< measured
};

/// What the machine can do at best: memcpy, add.
void measure_memory(TierTeam& team);
/// The servers' work without any traffic: adamw, adamw-rested, store.
void measure_servers(TierTeam& team);
/// Messages from the first worker to the last server: stream, ping.
void measure_messages(TierTeam& team);
/// The peer without servers, where every worker adds up and steps everything: allreduce.
void measure_allreduce(TierTeam& team);

/// Whole updates; all gradients are pushed at once: window, messages.
void measure_burst(TierTeam& team, Transport transport, index_t bucket_bytes);
/// Whole updates after a PacedBackward: first-, all- and the transport.
void measure_paced(TierTeam& team, Transport transport);

}  // namespace weir::benchmark
