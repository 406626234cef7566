#include "tests/worker/models/harness.hpp"

#include <doctest/doctest.h>

#include "tests/worker/numbers.hpp"
#include "tests/worker/shards.hpp"
#include "worker/kernels/cpu.hpp"

namespace weir::test {

using worker::Loss;
using worker::Matrix;
using worker::MicroBatch;
using worker::ModelConfig;
using worker::Pass;

namespace {

/// As even as can be: units of stage s are first_unit(s) … first_unit(s + 1) - 1.
index_t first_unit(const ModelConfig& config, const Cut& cut, index_t stage) {
  return stage * config.unit_count() / cut.stages;
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
  layout.shards = cut.shards;
  return {worker::parameter_specs(config), unit_stage, layout, 1 << 20};
}

/// One worker: its arenas, and its units.
struct Worker {
  const Holding& holding;
  std::vector<float> weights;
  std::vector<float> gradients;
  std::vector<std::unique_ptr<worker::Unit>> units;

  /// Element `begin` of a parameter in an arena of this worker.
  index_t place(const Segment& segment) const {
    const HeldSlice& slice = holding.slice(segment.parameter);
    return slice.offset + segment.range.begin - slice.range.begin;
  }
};

Worker make_worker(const ModelConfig& config, const BucketPlan& plan, const Arrays& parameters,
                   const Cut& cut, Holder holder, index_t micro_batch) {
  const Holding& holding = plan.holding(holder);
  const auto size = static_cast<std::size_t>(holding.element_count);
  Worker worker{holding, std::vector<float>(size), std::vector<float>(cut.training ? size : 0), {}};
  for (const HeldSlice& slice : holding.slices) {
    const auto& whole = parameters.at(plan.specs()[static_cast<std::size_t>(slice.parameter)].name);
    std::copy(whole.begin() + slice.range.begin, whole.begin() + slice.range.end,
              worker.weights.begin() + slice.offset);
  }
  worker.units = worker::make_units(config, holding, first_unit(config, cut, holder.stage),
                                    first_unit(config, cut, holder.stage + 1) - 1, cut.shards,
                                    cut.slots, micro_batch);
  return worker;
}

/// Walks all stages of one shard.
Loss walk(std::vector<Worker*> stages, const ModelConfig& config,
          const std::vector<BatchData>& micro_batches, const Cut& cut, std::uint64_t seed,
          worker::TensorGroup& group) {
  worker::CpuKernels kernels;
  worker::SingleContext whole;
  const auto pass = [&](Worker& worker) {
    return Pass{kernels, group, whole, worker.weights, worker.gradients, seed, cut.training};
  };
  Loss loss;
  const auto count = static_cast<index_t>(micro_batches.size());
  for (index_t first = 0; first < count; first += cut.slots) {
    const index_t end = std::min(count, first + cut.slots);
    for (index_t index = first; index < end; ++index) {
      const MicroBatch batch = micro_batches[static_cast<std::size_t>(index)].view();
      // Never zeros: whoever reads what it should overwrite is found out.
      std::vector<float> x(static_cast<std::size_t>(batch.rows() * config.width), 7.0F);
      const Matrix rows(x.data(), {batch.rows(), config.width});
      for (Worker* worker : stages) {
        for (auto& unit : worker->units) {
          loss += unit->forward(pass(*worker), batch, index - first, rows);
        }
      }
    }
    for (index_t index = first; index < end && cut.training; ++index) {
      const MicroBatch batch = micro_batches[static_cast<std::size_t>(index)].view();
      std::vector<float> gradient(static_cast<std::size_t>(batch.rows() * config.width), 7.0F);
      const Matrix rows(gradient.data(), {batch.rows(), config.width});
      for (auto worker = stages.rbegin(); worker != stages.rend(); ++worker) {
        auto& units = (*worker)->units;
        for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
          (*unit)->backward(pass(**worker), batch, index - first, rows);
          (*unit)->weight_gradient(pass(**worker), batch, index - first);
        }
      }
    }
  }
  return loss;
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
  const BucketPlan plan = plan_of(config, cut);
  const auto micro_batch = static_cast<index_t>(micro_batches.front().lengths.size());
  std::vector<Worker> workers;  // at stage * shards + shard
  for (index_t stage = 0; stage < cut.stages; ++stage) {
    for (index_t shard = 0; shard < cut.shards; ++shard) {
      workers.push_back(make_worker(config, plan, parameters, cut, {.stage = stage, .shard = shard},
                                    micro_batch));
    }
  }
  const auto worker_of = [&](Holder holder) -> Worker& {
    return workers[static_cast<std::size_t>(holder.stage * cut.shards + holder.shard)];
  };

  Outcome outcome;
  outcome.losses.resize(static_cast<std::size_t>(cut.shards));
  ThreadShards(cut.shards).run([&](worker::TensorGroup& group) {
    std::vector<Worker*> stages;
    for (index_t stage = 0; stage < cut.stages; ++stage) {
      stages.push_back(&worker_of({.stage = stage, .shard = group.index()}));
    }
    outcome.losses[static_cast<std::size_t>(group.index())] =
        walk(stages, config, micro_batches, cut, seed, group);
  });

  if (!cut.training) return outcome;
  for (const ParameterSpec& spec : plan.specs()) {
    outcome.gradients[spec.name].resize(static_cast<std::size_t>(spec.element_count()));
  }
  for (const Bucket& bucket : plan.buckets()) {
    for (const Holder& contributor : bucket.contributors) {
      const Worker& worker = worker_of(contributor);
      for (const Segment& segment : bucket.segments) {
        auto& whole =
            outcome.gradients[plan.specs()[static_cast<std::size_t>(segment.parameter)].name];
        const index_t place = worker.place(segment);
        for (index_t i = 0; i < segment.range.count(); ++i) {
          whole[static_cast<std::size_t>(segment.range.begin + i)] +=
              worker.gradients[static_cast<std::size_t>(place + i)];
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
  const Worker worker = make_worker(config, plan, parameters, cut, {}, 1);
  worker::CpuKernels kernels;
  worker::SingleShard alone;
  worker::SingleContext whole;
  std::vector<float> x(static_cast<std::size_t>(batch.length * config.width), 7.0F);
  std::vector<float> logits(static_cast<std::size_t>(config.vocabulary));
  worker::next_token_logits(worker.units, {kernels, alone, whole, worker.weights, {}, 0, false},
                            batch.view(), Matrix(x.data(), {batch.length, config.width}), logits);
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
