#include "launch/job.hpp"

#include <algorithm>

#include "launch/cut.hpp"
#include "worker/train/faults.hpp"

namespace weir {

Job make_job(RunConfig config) {
  Job job;
  fit_model_to_data(config);
  check(config);
  job.dataset =
      worker::make_dataset(config.data, config.train.length, config.train.training.random_seed());
  const worker::Injection injection = worker::parse_injection(config.train.inject);
  const auto is_bad = [](const worker::Fault& fault) {
    return fault.kind == worker::FaultKind::bad;
  };
  if (std::ranges::any_of(injection.faults, is_bad)) {
    job.dataset = std::make_unique<worker::FaultyDataset>(std::move(job.dataset), injection,
                                                          config.train.training.batch,
                                                          config.train.training.random_seed());
  }
  job.first_unit = first_units(config);
  job.plan = std::make_unique<BucketPlan>(make_bucket_plan(config, job.first_unit));
  job.config = std::move(config);
  return job;
}

}  // namespace weir
