#pragma once

#include <optional>
#include <vector>

#include "common/job/parameter_service.hpp"
#include "launch/job.hpp"
#include "launch/run/metrics.hpp"
#include "launch/terminal/progress_bar.hpp"
#include "worker/train/observer.hpp"

namespace weir {

/// Keeps the books of a job on worker 0: times each step, writes metrics.jsonl and draws the
/// progress. Other workers have none.
class BookKeeper final : public worker::Observer {
 public:
  /// gemm_peak: FLOP/s of sgemm measured on all workers' cores at the same time.
  BookKeeper(const Job& job, const ParameterService& parameters, double gemm_peak,
             const std::filesystem::path& metrics_file);

  void start(const Directive& directive) override;
  void step(const Directive& directive) override;
  void validation_begin(index_t step, index_t samples) override;
  void validation(index_t step, const worker::Loss& loss) override;
  /// Whether what was trained is of no use: the newest validation, or without one the newest step,
  /// found a loss that is not finite.
  bool diverged() const;
  /// Writes and prints the summary. `metrics`: holds what only the whole job knows. `last`: the
  /// directive that ended the training. pipeline_seconds: this worker's time in waits for other
  /// stages, validations left out.
  void summary(SummaryMetrics metrics, const Directive& last, double pipeline_seconds);

 private:
  const Job& job_;
  const ParameterService& parameters_;
  std::vector<worker::Score> scores_;  ///< the scores of the data
  double gemm_peak_;
  double flops_a_sample_;
  MetricsFile file_;
  ProgressBar progress_;
  double began_at_;
  double step_began_at_;
  double waited_before_ = 0;
  double training_seconds_ = 0;
  double training_waited_seconds_ = 0;
  std::vector<ServerTime> server_times_;  ///< what the newest directive says
  double bytes_imbalance_;
  index_t validation_samples_ = 0;
  index_t first_step_ = 0;
  SkipCounts skips_;
  std::optional<StepMetrics> newest_;
  std::optional<ValidationMetrics> validation_;
  double validation_seconds_ = 0;
};

}  // namespace weir
