#include "worker/models/model.hpp"

#include "common/number/memory.hpp"
#include "worker/kernels/simulated/simulated_kernels.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir::worker {

BatchShape largest_batch(const Model& model, const StageCut& cut) {
  return {cut.micro_batch, longest_part(model.length(), cut.contexts)};
}

std::vector<double> unit_costs(const Model& model) {
  const index_t length = model.length();
  const BucketPlan plan(model.parameters(), std::vector<index_t>(model.unit_count()), {},
                        kBlockElements * bytes_of(Dtype::f32));
  const Holding& holding = plan.holding({});
  SimulatedKernels kernels({});
  SingleShard alone;
  SingleContext whole;
  const index_t elements = holding.element_count;
  const Vector weights(nullptr, model.weight_dtype(), kernels.memory(), elements);
  const Vector gradients(nullptr, Dtype::f32, kernels.memory(), elements);
  const Pass pass = {kernels, alone, whole, weights, gradients};
  // A sample of zeros: nothing is computed, so its contents do not matter.
  const DataShape data = model.data();
  const index_t sample = 0;
  MicroBatch batch = {.sequences = 1,
                      .length = length,
                      .columns = {},
                      .lengths = {&length, 1},
                      .samples = {&sample, 1}};
  std::vector<Memory> memory;
  for (const ColumnShape& column : data.columns) {
    const index_t elements = column.elements * (column.ragged ? length : 1);
    memory.emplace_back(elements * bytes_of(column.dtype), 1);
    batch.columns.push_back({column.name, memory.back().elements(column.dtype)});
  }
  std::vector<double> costs;
  for (index_t unit = 0; unit < model.unit_count(); ++unit) {
    const index_t like = model.first_like(unit);
    if (like < unit) {
      costs.push_back(costs[like]);
      continue;
    }
    const double before = kernels.charged().flops;
    UnitChain chain(model, holding, {.first_unit = unit, .last_unit = unit}, {}, kernels);
    chain.forward(pass, batch, {}, {}, {});
    chain.backward(pass, batch, {}, {});
    costs.push_back(kernels.charged().flops - before);
  }
  return costs;
}

}  // namespace weir::worker
