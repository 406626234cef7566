#include "launch/cut.hpp"

#include "worker/models/cost.hpp"
#include "worker/parallel/partition.hpp"

namespace weir {

std::vector<index_t> first_units(const RunConfig& config) {
  std::vector<double> costs;
  for (index_t unit = 0; unit < config.model.unit_count(); ++unit) {
    costs.push_back(worker::unit_flops(config.model, unit));
  }
  return worker::partition_units(costs, config.layout.stages);
}

ElementRange units_of_stage(const RunConfig& config, const std::vector<index_t>& first_units,
                            index_t stage) {
  const auto next = static_cast<std::size_t>(stage + 1);
  return {first_units[next - 1],
          next < first_units.size() ? first_units[next] : config.model.unit_count()};
}

worker::StageCut stage_cut(const RunConfig& config, const std::vector<index_t>& first_units,
                           index_t stage) {
  const ElementRange units = units_of_stage(config, first_units, stage);
  return {.first_unit = units.begin,
          .last_unit = units.end - 1,
          .contexts = config.layout.contexts,
          .shards = config.layout.shards,
          .micro_batch = config.train.micro_batch,
          .recompute = config.train.recompute};
}

BucketPlan make_bucket_plan(const RunConfig& config, const std::vector<index_t>& first_units) {
  std::vector<index_t> unit_stage;
  for (index_t stage = 0; stage < config.layout.stages; ++stage) {
    const ElementRange units = units_of_stage(config, first_units, stage);
    unit_stage.insert(unit_stage.end(), static_cast<std::size_t>(units.count()), stage);
  }
  return BucketPlan(worker::parameter_specs(config.model), std::move(unit_stage), config.layout,
                    config.bucket_bytes, config.wire);
}

}  // namespace weir
