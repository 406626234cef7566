#include "worker/models/model.hpp"

#include <algorithm>

#include "common/base/machine.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/simulated/simulated_kernels.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir::worker {

BatchShape largest_batch(const Model& model, const StageCut& cut) {
  const index_t length = longest_part(model.length(), cut.contexts);
  return {cut.micro_batch, length, longest_part(cut.micro_batch * length, cut.shards)};
}

namespace {

/// Runs the units of a model one by one, on a micro-batch of zeros.
class UnitTrial {
 public:
  UnitTrial(const Model& model, Kernels& kernels, index_t sequences, Recompute recompute)
      : model_(model),
        kernels_(kernels),
        recompute_(recompute),
        plan_(model.parameters(), std::vector<index_t>(model.unit_count()), {},
              kBlockElements * bytes_of(Dtype::f32)),
        weights_(plan_.holding({}).element_count, bytes_of(model.weight_dtype()), kernels.memory()),
        gradients_(plan_.holding({}).element_count, bytes_of(Dtype::f32), kernels.memory()),
        data_(model.data()),
        lengths_(sequences, model.length()),
        samples_(sequences, 0) {
    batch_.sequences = sequences;
    batch_.length = model.length();
    batch_.lengths = lengths_;
    batch_.samples = samples_;
    for (const ColumnShape& column : data_.columns) {
      const index_t elements = sequences * column.elements * (column.ragged ? model.length() : 1);
      columns_.emplace_back(elements * bytes_of(column.dtype), 1);
      batch_.columns.push_back({column.name, columns_.back().elements(column.dtype)});
    }
  }

  /// `reading`: what the kernels have cost so far.
  template <class Reading>
  UnitCost cost_of(index_t unit, const Reading& reading) {
    UnitChain chain(model_, plan_.holding({}),
                    {.first_unit = unit,
                     .last_unit = unit,
                     .micro_batch = batch_.sequences,
                     .recompute = recompute_},
                    {}, kernels_);
    const Pass pass = {kernels_, alone_, whole_, weights_.elements(model_.weight_dtype()),
                       gradients_.elements(Dtype::f32)};
    chain.pack(pass);
    const double begin = reading();
    chain.forward(pass, batch_, {}, {}, {});
    const double forward = reading();
    chain.backward_alone(pass, batch_, {});
    const double backward = reading();
    chain.weight_gradient(pass, batch_, {}, {});
    return {forward - begin, backward - forward, reading() - backward};
  }

 private:
  const Model& model_;
  Kernels& kernels_;
  const Recompute recompute_;
  const BucketPlan plan_;
  SingleShard alone_;
  SingleContext whole_;
  Memory weights_;
  Memory gradients_;
  const DataShape data_;  ///< which the columns' names point into
  std::vector<index_t> lengths_;
  std::vector<index_t> samples_;
  std::vector<Memory> columns_;
  MicroBatch batch_;
};

/// cost_of(unit) of the first unit of each kind, for all units.
template <class CostOf>
std::vector<UnitCost> costs_of_units(const Model& model, const CostOf& cost_of) {
  std::vector<UnitCost> costs;
  for (index_t unit = 0; unit < model.unit_count(); ++unit) {
    const index_t like = model.first_like(unit);
    costs.push_back(like < unit ? costs[like] : cost_of(unit));
  }
  return costs;
}

}  // namespace

UnitCost& UnitCost::operator+=(const UnitCost& other) {
  forward += other.forward;
  input_gradient += other.input_gradient;
  weight_gradient += other.weight_gradient;
  return *this;
}

UnitCost UnitCost::operator*(double factor) const {
  return {factor * forward, factor * input_gradient, factor * weight_gradient};
}

std::vector<UnitCost> unit_flops(const Model& model, Recompute recompute) {
  SimulatedKernels kernels({});
  UnitTrial trial(model, kernels, 1, recompute);
  return costs_of_units(model, [&](index_t unit) {
    return trial.cost_of(unit, [&] { return kernels.charged().flops; });
  });
}

std::vector<UnitCost> unit_seconds(const Model& model, Kernels& kernels, index_t sequences,
                                   Recompute recompute, int rounds) {
  UnitTrial trial(model, kernels, sequences, recompute);
  return costs_of_units(model, [&](index_t unit) {
    trial.cost_of(unit, seconds_now);
    UnitCost least = trial.cost_of(unit, seconds_now);
    for (int round = 1; round < rounds; ++round) {
      const UnitCost cost = trial.cost_of(unit, seconds_now);
      least.forward = std::min(least.forward, cost.forward);
      least.input_gradient = std::min(least.input_gradient, cost.input_gradient);
      least.weight_gradient = std::min(least.weight_gradient, cost.weight_gradient);
    }
    return least;
  });
}

}  // namespace weir::worker
