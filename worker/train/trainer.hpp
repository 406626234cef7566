#pragma once

#include <functional>
#include <span>
#include <vector>

#include "common/job/layout.hpp"
#include "common/job/parameter_service.hpp"
#include "common/job/share.hpp"
#include "worker/train/config.hpp"
#include "worker/train/inject.hpp"
#include "worker/train/observer.hpp"
#include "worker/train/stage.hpp"

namespace weir::worker {

/// What a trainer is made of. What is pointed to outlives it; the function may be empty.
struct TrainerParts {
  TrainConfig config;
  Layout layout;
  WorkerPlace place;
  ParameterService* parameters = nullptr;
  Stage* stage = nullptr;
  const Dataset* dataset = nullptr;
  /// values[i] = sum over all workers, on all workers.
  std::function<void(std::span<double>)> sum_over_workers;
  std::vector<Observer*> observers;  ///< told one after the other
};

/// A worker's part of a job: update after update until the servers say stop.
class Trainer {
 public:
  explicit Trainer(TrainerParts parts);

  /// Returns the last directive. Validates as configured; at the end, unless the job was stopped
  /// early, on all validation samples.
  Directive run();

  /// Loss of these validation samples with the present weights, over all workers.
  Loss validate(std::span<const index_t> samples);

 private:
  /// The first samples of this replica's micro-batches in the step after the directive.
  std::vector<index_t> first_samples(const Directive& directive) const;
  /// What the step after the directive multiplies its loss by.
  float loss_factor_of(const Directive& directive) const;
  /// Takes the share that the directive says.
  void take_share(const Directive& directive);
  /// Waits as --inject wants this replica to before its step; how long, in seconds.
  double be_slow(index_t step);
  void validate_at(const Directive& directive, index_t sample_count);

  TrainerParts parts_;
  index_t loss_terms_;  ///< the most that a batch has
  Interval share_;      ///< the present step's
  Schedule schedule_;   ///< for the micro-batches of share_
  Injection injection_;
  double step_seconds_ = 0;  ///< that this worker computed in its last step
};

/// `count` of 0 … size - 1, evenly spread, or all of them.
std::vector<index_t> spread(index_t size, index_t count);

}  // namespace weir::worker
