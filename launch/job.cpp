#include "launch/job.hpp"

#include "launch/cut.hpp"

namespace weir {

Job make_job(RunConfig config) {
  Job job;
  fit_model_to_data(config);
  check(config);
  job.dataset = worker::make_dataset(config.data, config.train.length,
                                     static_cast<std::uint64_t>(config.train.seed));
  job.first_unit = first_units(config);
  job.plan = std::make_unique<BucketPlan>(make_bucket_plan(config, job.first_unit));
  job.config = std::move(config);
  return job;
}

}  // namespace weir
