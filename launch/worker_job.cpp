#include "launch/worker_job.hpp"

#include <optional>

#include "common/base/machine.hpp"
#include "launch/cut.hpp"
#include "worker/groups/mpi_context_group.hpp"
#include "worker/groups/mpi_tensor_group.hpp"
#include "worker/groups/pipeline_link.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/train/stage.hpp"

namespace weir {

using namespace worker;

WorkerResult run_worker(const Job& job, const WorkerPlace& place, const Comm& workers,
                        ParameterService& parameters, const WorkerEvents& events) {
  const Layout& layout = job.config.layout;
  const TrainConfig& train = job.config.train;
  const TransformerModel model(job.config.model);
  CpuKernels kernels(job.config.threads);
  SingleShard single;
  SingleContext whole;
  std::optional<MpiTensorGroup> shards;
  std::optional<MpiContextGroup> contexts;
  std::optional<PipelineLink> link;
  const StageCut cut = stage_cut(job.config, job.first_unit, place.stage);
  // A group's color is the rank of its first member.
  const auto group_of = [&](const WorkerPlace& first, index_t index) {
    return workers.split(static_cast<int>(layout.rank_of(first)), static_cast<int>(index));
  };
  const auto [replica, stage_index, context, shard] = place;
  const std::function<bool()> progress = [&] { return parameters.progress(); };
  // A shard on its way to a sum may await weights from this rank.
  const auto serve = layout.placement == Placement::colocated ? progress : std::function<bool()>();
  if (layout.shards > 1) {
    shards.emplace(group_of({replica, stage_index, context, 0}, shard), serve);
  }
  if (layout.contexts > 1) {
    contexts.emplace(group_of({replica, stage_index, 0, shard}, context), serve);
  }
  if (layout.stages > 1) {
    const BatchShape largest = largest_batch(model, cut);
    link.emplace(group_of({replica, 0, context, shard}, stage_index),
                 model.frame(cut.first_unit, largest), model.frame(cut.last_unit + 1, largest),
                 kLinkSlots, progress);
  }

  const Schedule schedule = schedule_of(train, layout, most_micro_batches(train, layout.replicas));
  StageParts parts;
  parts.stage = place.stage;
  parts.model = &model;
  parts.holding = &job.plan->holding(holder_of(place));
  parts.cut = cut;
  parts.slots.activations = schedule.activation_slots[static_cast<std::size_t>(place.stage)];
  parts.dataset = job.dataset.get();
  parts.parameters = &parameters;
  parts.kernels = &kernels;
  parts.shards = shards ? static_cast<TensorGroup*>(&*shards) : &single;
  parts.contexts = contexts ? static_cast<ContextGroup*>(&*contexts) : &whole;
  parts.link = link ? &*link : nullptr;
  parts.seed = static_cast<std::uint64_t>(train.seed);
  Stage stage(std::move(parts));

  kernels.set_progress([](void* service) { static_cast<ParameterService*>(service)->progress(); },
                       &parameters);

  const auto pipeline_seconds = [&] { return link ? link->waited_seconds() : 0; };
  double pipeline_seconds_of_validation = 0;

  Trainer trainer({.config = train,
                   .layout = layout,
                   .place = place,
                   .parameters = &parameters,
                   .stage = &stage,
                   .dataset = job.dataset.get(),
                   .sum_over_workers =
                       [&](std::span<double> values) {
                         if (workers) workers.sum(values, progress);
                       },
                   .on_start = events.on_start,
                   .on_step = events.on_step,
                   .on_validation_begin =
                       [&](index_t step, index_t samples) {
                         pipeline_seconds_of_validation -= pipeline_seconds();
                         if (events.on_validation_begin) events.on_validation_begin(step, samples);
                       },
                   .on_validation =
                       [&](index_t step, const Loss& loss) {
                         pipeline_seconds_of_validation += pipeline_seconds();
                         if (events.on_validation) events.on_validation(step, loss);
                       }});
  const double begin = seconds_now();
  WorkerResult result;
  result.last = trainer.run();
  result.times = {.total_seconds = seconds_now() - begin,
                  .waited_seconds = parameters.waited_seconds(),
                  .pipeline_seconds = pipeline_seconds() - pipeline_seconds_of_validation};
  return result;
}

}  // namespace weir
