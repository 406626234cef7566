#include "launch/faults.hpp"

#include <algorithm>

#include "common/number/random.hpp"

namespace weir {

void FaultyDataset::training_sample(index_t cursor, worker::Sample& sample) const {
  clean_->training_sample(cursor, sample);
  if (!worker::is_bad_step(injection_, cursor / batch_ + 1, seed_)) return;
  const std::uint64_t stream = stream_of("inject targets");
  const auto draw = [&](index_t at, index_t below) {
    const auto index = static_cast<std::uint64_t>(cursor * sample_length() + at);
    return static_cast<std::int32_t>(random_word(seed_, stream, index) %
                                     static_cast<std::uint64_t>(below));
  };
  if (classes() > 0) {
    sample.label = draw(0, classes());
    return;
  }
  for (std::size_t at = 0; at < sample.targets.size(); ++at) {
    std::int32_t& target = sample.targets[at];
    if (target >= 0) target = draw(static_cast<index_t>(at), vocabulary());
  }
}

FaultyService::FaultyService(ParameterService& service, const Job& job, const WorkerPlace& place)
    : service_(service),
      plan_(*job.plan),
      place_(place),
      injection_(worker::parse_injection(job.config.train.inject)),
      seed_(static_cast<std::uint64_t>(job.config.train.seed)) {}

void FaultyService::ready(index_t unit) {
  if (worker::is_bad_step(injection_, step_, seed_)) {
    const auto is_here = [&](index_t each) {
      return plan_.unit_stage()[static_cast<std::size_t>(each)] == place_.stage;
    };
    for (const HeldSlice& slice : plan_.holding(holder_of(place_)).slices) {
      const auto& units = plan_.specs()[static_cast<std::size_t>(slice.parameter)].units;
      // Units come in descending order: with the lowest one here its gradient is complete.
      if (*std::ranges::find_if(units, is_here) != unit) continue;
      const std::span<float> gradient = service_.gradients().subspan(
          static_cast<std::size_t>(slice.offset), static_cast<std::size_t>(slice.range.count()));
      for (float& value : gradient) value *= static_cast<float>(injection_.bad_factor);
    }
  }
  service_.ready(unit);
}

}  // namespace weir
