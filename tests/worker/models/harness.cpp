#include "tests/worker/models/harness.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "tests/worker/contexts.hpp"
#include "tests/worker/low_types.hpp"
#include "tests/worker/numbers.hpp"
#include "tests/worker/shards.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::test {

using worker::Loss;
using worker::MicroBatch;
using worker::ModelConfig;
using worker::Pass;

namespace {

/// As even as can be: units of stage s are first_unit(s) … first_unit(s + 1) - 1.
index_t first_unit(const ModelConfig& config, const Cut& cut, index_t stage) {
  return stage * worker::TransformerModel(config).unit_count() / cut.stages;
}

BucketPlan plan_of(const ModelConfig& config, const Cut& cut) {
  std::vector<index_t> unit_stage;
  for (index_t stage = 0; stage < cut.stages; ++stage) {
    const index_t end = first_unit(config, cut, stage + 1);
    for (index_t unit = first_unit(config, cut, stage); unit < end; ++unit) {
      unit_stage.push_back(stage);
    }
  }
  Layout layout;
  layout.stages = cut.stages;
  layout.contexts = cut.contexts;
  layout.shards = cut.shards;
  return {worker::parameter_specs(config), unit_stage, layout, 1 << 20};
}

/// One worker: its arenas, and its units.
struct Worker {
  const Holding& holding;
  std::vector<float> weights;
  std::vector<float> gradients;
  Memory read;  ///< the weights in the model's dtype
  std::unique_ptr<worker::UnitChain> units;

  /// Element `begin` of a parameter in an arena of this worker.
  index_t place(const Segment& segment) const {
    const HeldSlice& slice = holding.slice(segment.parameter);
    return slice.offset + segment.range.begin - slice.range.begin;
  }
};

Worker make_worker(const worker::TransformerModel& model, const BucketPlan& plan,
                   const Arrays& parameters, const Cut& cut, Holder holder, index_t micro_batch) {
  const ModelConfig& config = model.config();
  const Holding& holding = plan.holding(holder);
  const auto size = static_cast<std::size_t>(holding.element_count);
  Worker worker{
      holding, std::vector<float>(size), std::vector<float>(cut.training ? size : 0), {}, {}};
  for (const HeldSlice& slice : holding.slices) {
    const auto& whole = parameters.at(plan.specs()[slice.parameter].name);
    std::copy(whole.begin() + slice.range.begin, whole.begin() + slice.range.end,
              worker.weights.begin() + slice.offset);
  }
  worker.read = Memory(holding.element_count, bytes_of(config.dtype));
  round_to(worker.weights, worker.read.elements(config.dtype));
  static const worker::CpuKernels kernels;
  worker.units = std::make_unique<worker::UnitChain>(
      model, holding,
      worker::StageCut{.first_unit = first_unit(config, cut, holder.stage),
                       .last_unit = first_unit(config, cut, holder.stage + 1) - 1,
                       .contexts = cut.contexts,
                       .shards = cut.shards,
                       .micro_batch = micro_batch,
                       .recompute = cut.recompute,
                       .training = cut.training},
      worker::SlotCounts{cut.slots, cut.defers_weights ? cut.slots : 0}, kernels);
  return worker;
}

/// What a context holds of a micro-batch: positions [c N / C, (c + 1) N / C) of each sequence.
BatchData part_of_context(const BatchData& batch, const ModelConfig& config, index_t context,
                          index_t contexts) {
  BatchData part = {
      .length = 0, .tokens = {}, .targets = {}, .lengths = batch.lengths, .samples = batch.samples};
  part.first = context * batch.length / contexts;
  part.length = (context + 1) * batch.length / contexts - part.first;
  const auto cut = [&](const std::vector<std::int32_t>& rows) {
    std::vector<std::int32_t> here;
    for (auto row = rows.begin(); row != rows.end(); row += batch.length) {
      here.insert(here.end(), row + part.first, row + part.first + part.length);
    }
    return here;
  };
  part.tokens = cut(batch.tokens);
  part.targets = config.task == worker::Task::language ? cut(batch.targets) : batch.targets;
  return part;
}

void fill(const worker::Frame& frame, float value) {
  for (const Matrix& tensor : frame) {
    round_to(std::vector<float>(static_cast<std::size_t>(tensor.size()), value), tensor.flat());
  }
}
void copy(const worker::Frame& from, const worker::Frame& to) {
  for (std::size_t at = 0; at < to.size(); ++at) {
    round_to(floats_of(from[at].flat()), to[at].flat());
  }
}

/// Walks all stages of one shard and context.
Loss walk(std::vector<Worker*> stages, const std::vector<BatchData>& micro_batches, const Cut& cut,
          Dtype dtype, std::uint64_t seed, worker::ContextGroup& contexts,
          worker::TensorGroup& shards) {
  worker::CpuKernels kernels;
  const auto pass = [&](Worker& worker) {
    return Pass{kernels,          shards, contexts,    worker.read.elements(dtype),
                worker.gradients, seed,   cut.training};
  };
  for (Worker* worker : stages) worker->units->pack(pass(*worker));
  Loss loss;
  const index_t count = std::ssize(micro_batches);
  for (index_t first = 0; first < count; first += cut.slots) {
    const index_t end = std::min(count, first + cut.slots);
    for (index_t index = first; index < end; ++index) {
      const MicroBatch batch = micro_batches[index].view();
      const auto shape = worker::UnitChain::shape_of(batch, shards);
      for (std::size_t stage = 0; stage < stages.size(); ++stage) {
        // Never zeros: whoever reads what it should overwrite is found out.
        fill(stages[stage]->units->leaving(shape), 7);
        if (stage > 0) {
          copy(stages[stage - 1]->units->leaving(shape), stages[stage]->units->entering(shape));
        }
        loss += stages[stage]->units->forward(pass(*stages[stage]), batch, {index - first}, {}, {});
      }
    }
    for (index_t index = first; index < end && cut.training; ++index) {
      const MicroBatch batch = micro_batches[index].view();
      const auto shape = worker::UnitChain::shape_of(batch, shards);
      const worker::Slots slots = {index - first, cut.defers_weights ? index - first : 0};
      for (std::size_t stage = stages.size(); stage-- > 0;) {
        worker::UnitChain& units = *stages[stage]->units;
        fill(units.entering_gradient(shape), 7);
        if (stage + 1 < stages.size()) {
          copy(stages[stage + 1]->units->entering_gradient(shape), units.leaving_gradient(shape));
        }
        if (cut.defers_weights) {
          units.backward_alone(pass(*stages[stage]), batch, slots);
        } else {
          units.backward(pass(*stages[stage]), batch, slots, {});
        }
      }
    }
    for (index_t index = first; index < end && cut.training && cut.defers_weights; ++index) {
      const MicroBatch batch = micro_batches[index].view();
      for (Worker* worker : stages) {
        worker->units->weight_gradient(pass(*worker), batch, {index - first, index - first}, {});
      }
    }
  }
  return loss;
}

/// Calls body(contexts, shards) on a thread for each context and shard; what they return, at
/// context * shards + shard.
template <class Body>
std::vector<Loss> run_as_threads(const Cut& cut, const Body& body) {
  std::vector<std::unique_ptr<ThreadContexts>> contexts;  // by shard
  for (index_t shard = 0; shard < cut.shards; ++shard) {
    contexts.push_back(std::make_unique<ThreadContexts>(cut.contexts));
  }
  std::vector<std::unique_ptr<ThreadShards>> shards;  // by context
  for (index_t context = 0; context < cut.contexts; ++context) {
    shards.push_back(std::make_unique<ThreadShards>(cut.shards));
  }
  std::vector<Loss> losses(cut.contexts * cut.shards);
  std::vector<std::thread> threads;
  for (std::size_t at = 0; at < losses.size(); ++at) {
    threads.emplace_back([&, at] {
      const std::size_t context = at / contexts.size(), shard = at % contexts.size();
      const auto of_shard = contexts[shard]->group(context);
      const auto of_context = shards[context]->group(shard);
      losses[at] = body(*of_shard, *of_context);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return losses;
}

}  // namespace

Arrays random_parameters(const ModelConfig& config, std::uint64_t seed) {
  Arrays parameters;
  for (const ParameterSpec& spec : worker::parameter_specs(config)) {
    const float mean = spec.initial == Initial::ones ? 1 : 0;
    const float deviation = spec.shape.size() == 2 ? 0.5F : 0.2F;
    parameters[spec.name] = random_values(spec.element_count(), seed, spec.name, deviation, mean);
  }
  return parameters;
}

Twin twin_of(const ModelConfig& config, const Arrays& parameters) {
  Twin::Parameters values;
  for (const auto& [name, array] : parameters) values[name] = in_double(array);
  return {config, std::move(values)};
}

Outcome run(const ModelConfig& config, const Arrays& parameters,
            const std::vector<BatchData>& micro_batches, const Cut& cut, std::uint64_t seed) {
  const worker::TransformerModel model(config);
  const BucketPlan plan = plan_of(config, cut);
  const index_t micro_batch = std::ssize(micro_batches.front().lengths);
  std::vector<Worker> workers;  // at (stage * contexts + context) * shards + shard
  for (index_t stage = 0; stage < cut.stages; ++stage) {
    for (index_t context = 0; context < cut.contexts; ++context) {
      for (index_t shard = 0; shard < cut.shards; ++shard) {
        workers.push_back(
            make_worker(model, plan, parameters, cut, {stage, context, shard}, micro_batch));
      }
    }
  }
  const auto worker_of = [&](Holder holder) -> Worker& {
    const index_t at = (holder.stage * cut.contexts + holder.context) * cut.shards + holder.shard;
    return workers[at];
  };

  const std::vector<Loss> losses =
      run_as_threads(cut, [&](worker::ContextGroup& contexts, worker::TensorGroup& shards) {
        std::vector<Worker*> stages;
        for (index_t stage = 0; stage < cut.stages; ++stage) {
          stages.push_back(&worker_of({stage, contexts.index(), shards.index()}));
        }
        std::vector<BatchData> parts;
        for (const BatchData& batch : micro_batches) {
          parts.push_back(part_of_context(batch, config, contexts.index(), contexts.size()));
        }
        return walk(stages, parts, cut, config.dtype, seed, contexts, shards);
      });
  Outcome outcome;
  outcome.losses.resize(cut.shards);
  for (std::size_t at = 0; at < losses.size(); ++at) {
    outcome.losses[at % outcome.losses.size()] += losses[at];
  }

  if (!cut.training) return outcome;
  for (const ParameterSpec& spec : plan.specs()) {
    outcome.gradients[spec.name].resize(spec.element_count());
  }
  for (const Bucket& bucket : plan.buckets()) {
    for (const Holder& contributor : bucket.contributors) {
      const Worker& worker = worker_of(contributor);
      for (const Segment& segment : bucket.segments) {
        auto& whole = outcome.gradients[plan.specs()[segment.parameter].name];
        const index_t place = worker.place(segment);
        for (index_t i = 0; i < segment.range.count(); ++i) {
          whole[segment.range.begin + i] += worker.gradients[place + i];
        }
      }
    }
  }
  return outcome;
}

std::vector<float> next_logits(const ModelConfig& config, const Arrays& parameters,
                               const BatchData& batch) {
  const Cut cut = {.training = false};
  const BucketPlan plan = plan_of(config, cut);
  const worker::TransformerModel model(config);
  const Worker worker = make_worker(model, plan, parameters, cut, {}, 1);
  worker::CpuKernels kernels;
  worker::SingleShard alone;
  worker::SingleContext whole;
  std::vector<float> logits(config.vocabulary);
  const index_t last = batch.lengths.front() - 1;
  const Pass pass{kernels, alone, whole, worker.read.elements(config.dtype), {}, 0, false};
  worker.units->pack(pass);
  worker.units->predict(pass, batch.view(), {&last, 1}, Matrix(logits, 1, config.vocabulary));
  return logits;
}

void check_against_twin(const ModelConfig& config, const BatchData& batch,
                        const std::vector<Cut>& cuts) {
  constexpr std::uint64_t kSeed = 11;
  const Arrays parameters = random_parameters(config, kSeed);
  Twin twin = twin_of(config, parameters);
  const double loss = twin.loss(batch.view(), kSeed, true);
  const Twin::Parameters gradients = twin.gradients(batch.view(), kSeed);
  index_t count = 0;
  for (const std::int32_t target : batch.targets) count += target >= 0 ? 1 : 0;
  for (const Cut& cut : cuts) {
    CAPTURE(cut.stages);
    CAPTURE(cut.contexts);
    CAPTURE(cut.shards);
    const Outcome outcome = run(config, parameters, {batch}, cut, kSeed);
    for (const Loss& found : outcome.losses) {
      CHECK(std::abs(found.sum - loss) < 1e-5 * loss);
      CHECK(found.sum == outcome.losses[0].sum);  // the same bits on every shard
      CHECK(found.count == count);
    }
    for (const auto& [name, truth] : gradients) {
      CAPTURE(name);
      check_close(outcome.gradients.at(name), truth, 2e-5);
    }
  }
}

}  // namespace weir::test
