#include "launch/job.hpp"

#include "common/base/error.hpp"
#include "worker/models/config.hpp"
#include "worker/models/cost.hpp"
#include "worker/parallel/partition.hpp"

namespace weir {

Job make_job(RunConfig config) {
  Job job;
  fit_model_to_data(config);
  check(config);
  job.dataset = worker::make_dataset(config.data, config.train.length,
                                     static_cast<std::uint64_t>(config.train.seed));
  std::vector<double> unit_costs;
  for (index_t unit = 0; unit < config.model.unit_count(); ++unit) {
    unit_costs.push_back(worker::unit_flops(config.model, unit));
  }
  job.first_unit = worker::partition_units(unit_costs, config.layout.stages);
  std::vector<index_t> unit_stage;
  for (index_t unit = 0; unit < config.model.unit_count(); ++unit) {
    const auto stage = static_cast<index_t>(unit_stage.empty() ? 0 : unit_stage.back());
    const bool next = stage + 1 < config.layout.stages &&
                      job.first_unit[static_cast<std::size_t>(stage + 1)] == unit;
    unit_stage.push_back(next ? stage + 1 : stage);
  }
  job.plan = std::make_unique<BucketPlan>(worker::parameter_specs(config.model), unit_stage,
                                          config.layout, config.bucket_bytes);
  job.config = std::move(config);
  return job;
}

ElementRange units_of(const Job& job, index_t stage) {
  const auto next = static_cast<std::size_t>(stage + 1);
  return {job.first_unit[static_cast<std::size_t>(stage)],
          next < job.first_unit.size() ? job.first_unit[next] : job.config.model.unit_count()};
}

}  // namespace weir
