// What bounds an update of the server tier: memory, the optimizer, messages, and MPI_Allreduce.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "benchmarks/server_tier_measures.hpp"
#include "common/base/machine.hpp"
#include "common/net/channel.hpp"
#include "ps/update/store.hpp"

namespace weir::benchmark {
namespace {

constexpr index_t kFrameElements = index_t{1} << 18;
constexpr index_t kPings = 1000;

void add(std::span<float> to, std::span<const float> from) {
  float* const sums = to.data();
  const float* const parts = from.data();
#pragma omp simd
  for (std::size_t i = 0; i < to.size(); ++i) sums[i] += parts[i];
}

void measure_store(TierTeam& team) {
  const BucketPlan plan = plan_of(team.job(), kTierUnits, index_t{1} << 20);
  std::optional<ps::Store> store;
  if (team.is_server())
    store.emplace(plan, team.layout().server(team.world().rank()), ps::OptimizerConfig(), 1);
  std::vector<index_t> replicas(team.job().workers);
  std::iota(replicas.begin(), replicas.end(), 0);
  for (index_t update = 1; update <= team.job().updates + 1; ++update) {
    const double seconds = team.seconds_of([&] {
      if (!store) return;
      for (const index_t bucket : store->buckets()) {
        for (index_t each = 0; each < store->contributor_count(bucket); ++each) {
          if (store->arrived(bucket, each)) store->sum(bucket, replicas);
        }
      }
      const Directive directive = {.update = update,
                                   .step = update,
                                   .replicas = {.contributors = replicas},
                                   .rule = {.factor = 1, .rate = 1e-3}};
      for (index_t at = store->buckets().size(); at-- > 0;) {
        store->apply(store->buckets()[at], directive);
      }
    });
    if (update > 1) team.write("store", 0, seconds);
  }
}

void measure_ping(TierTeam& team, int left, int right) {
  const bool takes_part = team.world().rank() == left || team.world().rank() == right;
  Buffer floats(takes_part ? 4 : 0);
  std::optional<SendChannel> there;
  std::optional<ReceiveChannel> back;
  if (takes_part) {
    const int peer = team.world().rank() == left ? right : left;
    there.emplace(team.world(), peer, ChannelKind::push,
                  frames_of(std::vector<std::span<const float>>{floats.span().first(2)}));
    back.emplace(team.world(), peer, ChannelKind::push,
                 frames_of(std::vector<std::span<float>>{floats.span().last(2)}));
  }
  const double seconds = team.seconds_of([&] {
    if (!takes_part) return;
    const auto send = [&] {
      there->offer(0);
      while (!there->idle()) there->progress();
    };
    for (index_t ping = 0; ping < kPings; ++ping) {
      if (team.world().rank() == left) send();
      back->open_round();
      while (back->progress().empty()) continue;
      if (team.world().rank() == right) send();
    }
  });
  team.write("ping", 0, seconds / kPings);
}

}  // namespace

// Rank 0 works alone; the other ranks sleep.
void measure_memory(TierTeam& team) {
  Buffer from(team.world().rank() == 0 ? team.job().elements : 0), to(from.size());
  for (index_t repeat = 0; repeat <= team.job().updates; ++repeat) {
    const double copy = team.seconds_of([&] {
      if (from.size() > 0) std::memcpy(to.data(), from.data(), std::as_bytes(from.span()).size());
    });
    const double added = team.seconds_of([&] { add(to.span(), from.span()); });
    if (repeat == 0) continue;
    team.write("memcpy", 0, copy);
    team.write("add", 0, added);
  }
}

// All servers step at once, each with its share.
void measure_servers(TierTeam& team) {
  const index_t share = team.is_server() ? team.job().elements / team.layout().servers : 0;
  Buffer weights(share), gradient(share), mean(share), variance(share);
  std::ranges::fill(gradient.span(), 1e-3F);
  const auto seconds_of_step = [&](index_t applied) {
    return team.seconds_of([&] {
      if (share == 0) return;
      const std::span<float> slots[] = {mean.span(), variance.span()};
      ps::optimizer_step({}, {.factor = 1, .rate = 1e-3, .applied = applied, .weight_decay = 0.1},
                         weights.span(), gradient.span(), slots);
    });
  };
  for (index_t repeat = 1; repeat <= team.job().updates + 1; ++repeat) {
    const double seconds = seconds_of_step(repeat);
    if (repeat > 1) team.write("adamw", 0, seconds);
  }
  // Memory that has hardly been used for a while is slower, so the slow backward has a bound of its
  // own.
  const index_t naps =
      4 * team.job().elements / PacedBackward::kBucketBytes * PacedBackward::kSlices;
  for (index_t repeat = 1; repeat <= PacedBackward::kUpdates; ++repeat) {
    for (index_t nap = 0; nap < naps; ++nap) sleep_microseconds(PacedBackward::kSleepMicroseconds);
    team.write("adamw-rested", 0, seconds_of_step(team.job().updates + 1 + repeat));
  }
  measure_store(team);
}

void measure_messages(TierTeam& team) {
  const int sender = 0, receiver = team.world().size() - 1;  // a worker, a server
  const bool takes_part = team.world().rank() == sender || team.world().rank() == receiver;
  Buffer buffer(takes_part ? team.job().elements : 0);
  std::vector<std::span<float>> frames;
  for (index_t begin = 0; begin < buffer.size(); begin += kFrameElements) {
    const index_t count = std::min(kFrameElements, buffer.size() - begin);
    frames.push_back(buffer.span().subspan(begin, count));
  }
  std::optional<SendChannel> sends;
  std::optional<ReceiveChannel> receives;
  if (team.world().rank() == sender) {
    sends.emplace(team.world(), receiver, ChannelKind::push,
                  frames_of(std::vector<std::span<const float>>(frames.begin(), frames.end())));
  } else if (team.world().rank() == receiver) {
    receives.emplace(team.world(), sender, ChannelKind::push, frames_of(frames));
  }
  for (index_t repeat = 0; repeat <= team.job().updates; ++repeat) {
    const double seconds = team.seconds_of([&] {
      if (sends) {
        for (std::size_t frame = 0; frame < frames.size(); ++frame) {
          sends->offer(frame);
        }
        while (!sends->idle()) sends->progress();
      } else if (receives) {
        receives->open_round();
        for (std::size_t arrived = 0; arrived < frames.size();) {
          arrived += receives->progress().size();
        }
      }
    });
    if (repeat > 0) team.write("stream", 0, seconds);
  }
  sends.reset();
  receives.reset();
  measure_ping(team, sender, receiver);
}

void measure_allreduce(TierTeam& team) {
  Buffer weights(team.job().elements), gradient(team.job().elements), mean(team.job().elements),
      variance(team.job().elements);
  std::vector<index_t> sizes = team.job().bucket_bytes;
  sizes.push_back(4 * team.job().elements);  // a single call
  index_t applied = 0;
  for (const index_t bytes : sizes) {
    const index_t piece = bytes / 4;
    for (index_t repeat = 0; repeat <= team.job().updates; ++repeat) {
      std::ranges::fill(gradient.span(), 1e-3F);
      ++applied;
      const double seconds = team.seconds_of([&] {
        for (index_t begin = 0; begin < team.job().elements; begin += piece) {
          const index_t count = std::min(piece, team.job().elements - begin);
          check_mpi(MPI_Allreduce(MPI_IN_PLACE, gradient.data() + begin, static_cast<int>(count),
                                  MPI_FLOAT, MPI_SUM, team.world().raw()),
                    "adding up gradients");
        }
        const std::span<float> slots[] = {mean.span(), variance.span()};
        ps::optimizer_step({}, {.factor = 1, .rate = 1e-3, .applied = applied, .weight_decay = 0.1},
                           weights.span(), gradient.span(), slots);
      });
      if (repeat > 0) team.write("allreduce", bytes, seconds);
    }
  }
}

}  // namespace weir::benchmark
