#include "launch/plan/rank_plan.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"
#include "launch/cut.hpp"
#include "launch/terminal/quantities.hpp"
#include "worker/groups/pipeline_link.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir {
namespace {

/// Adds what a worker holds for a chunk beside its parameters.
void plan_chunk(const RunConfig& config, const worker::Kernels& kernels,
                const std::vector<index_t>& first_units, const worker::Schedule& schedule,
                index_t chunk, RankPlan& rank) {
  const worker::TransformerModel model(config.model);
  const auto cut = chunk_cut(config, first_units, chunk);
  const worker::BatchShape largest = largest_batch(model, cut);
  const auto link_bytes = [&](index_t border) {  // both directions
    index_t bytes = 0;
    for (const worker::TensorShape& tensor : model.frame(border, largest)) bytes += tensor.bytes();
    return 2 * worker::kLinkSlots * bytes;
  };
  worker::UnitMemory memory = model.memory(cut, kernels);
  rank.packed_memory_bytes += std::exchange(memory.packed_bytes, 0);
  index_t bytes = worker::frame_bytes(model, cut);
  if (chunk > 0) bytes += link_bytes(cut.first_unit);
  if (chunk + 1 < schedule.chunks()) bytes += link_bytes(cut.last_unit + 1);
  const worker::SlotCounts slots = {schedule.activation_slots[chunk],
                                    schedule.gradient_slots[chunk]};
  // Computed in double first: for an absurd configuration it may be larger than any integer.
  const double all =
      static_cast<double>(memory.bytes_an_activation_slot) *
          static_cast<double>(slots.activations) +
      static_cast<double>(memory.bytes_a_gradient_slot) * static_cast<double>(slots.gradients);
  constexpr index_t kMost = index_t{1} << 60;
  rank.activation_memory_bytes =
      all > 0x1p60 ? kMost
                   : std::min(kMost, rank.activation_memory_bytes + bytes + memory.total(slots));
}

/// Sets what a worker holds beside its parameters.
void plan_activations(const RunConfig& config, const worker::Kernels& kernels,
                      const std::vector<index_t>& first_units, const worker::Schedule& schedule,
                      RankPlan& rank) {
  index_t shard_bytes = 0;
  for (const index_t chunk : chunks_of_stage(config, rank.place.stage)) {
    rank.units.push_back(units_of_chunk(config, first_units, chunk));
    plan_chunk(config, kernels, first_units, schedule, chunk, rank);
    shard_bytes = std::max(
        shard_bytes,
        worker::TransformerModel(config.model).shard_bytes(chunk_cut(config, first_units, chunk)));
  }
  rank.activation_memory_bytes += 2 * shard_bytes;            // as PartExchange keeps it
  if (config.model.positions == worker::Positions::rotary) {  // one table for all layers
    const index_t length = longest_part(config.model.length, config.layout.contexts);
    rank.activation_memory_bytes +=
        worker::CpuKernels::rotary_bytes(length, config.model.head_size());
  }
}

/// What a server keeps for elements that it owns: weights and moments, and a copy of both while it
/// writes a checkpoint.
index_t owned_memory(const RunConfig& config, index_t elements) {
  const index_t moments = std::ssize(ps::slot_names(config.server.optimizer.kind));
  return 2 * (1 + moments) * elements * bytes_of(kArenaDtype);
}

/// What a worker has that is its own server: that, gradients, and the weights as layers read them
/// if they are not the f32 ones.
index_t own_server_memory(const RunConfig& config, index_t elements) {
  const Dtype dtype = config.model.dtype;
  return owned_memory(config, elements) + elements * bytes_of(kArenaDtype) +
         (dtype == kArenaDtype ? 0 : elements * bytes_of(dtype));
}

RankPlan worker_plan(const RunConfig& config, const BucketPlan& plan,
                     const worker::Kernels& kernels, const std::vector<index_t>& first_units,
                     const worker::Schedule& schedule, index_t rank) {
  RankPlan result;
  result.rank = rank;
  result.place = config.layout.worker(rank);
  const Holding& holding = plan.holding(holder_of(result.place));
  result.elements = holding.element_count;
  const auto& [push, pull] = plan.wire();
  const bool is_led = !config.layout.leads(result.place.replica);
  for (const HeldBucket& held : holding.buckets) {
    const index_t count = plan.buckets()[held.bucket].element_count;
    result.buckets.push_back(held.bucket);
    if (is_led) continue;
    result.pulled_bytes += plan.pulled_bytes(held.bucket);
    if (held.pushes) result.pushed_bytes += push.bytes(count);
  }
  std::ranges::sort(result.buckets);
  const index_t f32_arenas = push.keeps_residual() ? 2 : 1;  // gradients, residuals
  result.parameter_memory_bytes =
      holding.bytes(plan.weight_dtype()) + f32_arenas * holding.bytes(kArenaDtype) +
      (push.is_raw() ? 0 : result.pushed_bytes) + (pull.is_raw() ? 0 : result.pulled_bytes);
  if (is_led) result.parameter_memory_bytes = holding.bytes(kArenaDtype);  // gradients alone
  plan_activations(config, kernels, first_units, schedule, result);
  if (config.layout.placement == Placement::local) {
    result.parameter_memory_bytes = own_server_memory(config, holding.element_count);
    result.pushed_bytes = result.pulled_bytes = 0;  // nothing travels
  }
  if (config.server.consistency.mode == ps::Consistency::local) {
    result.parameter_memory_bytes += own_server_memory(config, holding.element_count);
  }
  return result;
}

RankPlan server_plan(const RunConfig& config, const BucketPlan& plan, index_t server) {
  RankPlan result;
  result.rank = config.layout.rank_of_server(server);
  result.is_server = true;
  result.buckets = plan.buckets_of(server);
  const index_t groups = config.layout.group_count();
  const auto& [push, pull] = plan.wire();
  index_t sum_bytes = 0;  // coded contributions are summed elsewhere
  index_t sent_bytes = 0;
  index_t residual_bytes = 0;
  for (const index_t index : result.buckets) {
    const Bucket& bucket = plan.buckets()[index];
    result.elements += bucket.element_count;
    const index_t count = bucket.element_count;
    result.pushed_bytes += push.bytes(count) * plan.group_sum_count(index);
    result.pulled_bytes += plan.pulled_bytes(index) * groups * bucket.readers.size();
    if (!push.is_raw()) sum_bytes += count * bytes_of(kArenaDtype);
    if (push.keeps_residual()) {
      residual_bytes += count * bytes_of(kArenaDtype) * plan.group_sum_count(index);
    }
    if (!pull.is_raw() || plan.weight_dtype() != kArenaDtype) {
      sent_bytes += plan.pulled_bytes(index);  // beside the weights that the server steps
    }
  }
  // Every contribution has a place of its own: as large as all that is pushed.
  result.parameter_memory_bytes = owned_memory(config, result.elements) + result.pushed_bytes +
                                  sum_bytes + sent_bytes + residual_bytes +
                                  sent_weights_memory(plan, result.elements);
  return result;
}

}  // namespace

index_t sent_weights_memory(const BucketPlan& plan, index_t elements) {
  return plan.wire().pull.keeps_residual() ? 2 * elements * bytes_of(kArenaDtype) : 0;
}

std::vector<RankPlan> rank_plans(const RunConfig& config) {
  const std::vector<index_t> cuts = first_units(config);
  const BucketPlan plan = make_bucket_plan(config, cuts);
  constexpr double kEntriesMax = 1 << 27;  // 1 GiB of numbers
  const auto bucket_count = static_cast<double>(plan.buckets().size());
  if (bucket_count * static_cast<double>(config.layout.worker_count()) > kEntriesMax) {
    throw UsageError(text(grouped(config.layout.worker_count()), " workers with ",
                          grouped(plan.buckets().size()),
                          " buckets are more than a plan can list; take larger --bucket-bytes"));
  }
  const worker::Schedule schedule = schedule_of(
      config.train, config.layout, most_micro_batches(config.train, config.layout.replicas));
  const worker::CpuKernels kernels(config.threads, config.products);
  std::vector<RankPlan> ranks;
  for (index_t rank = 0; rank < config.layout.worker_count(); ++rank) {
    ranks.push_back(worker_plan(config, plan, kernels, cuts, schedule, rank));
  }
  if (config.layout.placement == Placement::local) return ranks;
  for (index_t server = 0; server < config.layout.servers; ++server) {
    ranks.push_back(server_plan(config, plan, server));
  }
  return ranks;
}

}  // namespace weir
