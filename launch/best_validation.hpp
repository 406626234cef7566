#pragma once

#include <optional>
#include <vector>

#include "common/io/best_checkpoint.hpp"
#include "worker/train/observer.hpp"

namespace weir {

/// A validation of an earlier job of the run.
struct PastValidation {
  index_t step = 0;
  double loss = 0;  ///< a mean, in nats
};

/// Those in metrics.jsonl that took this number of samples; none without the file. Throws Error if
/// it cannot be read.
std::vector<PastValidation> past_validations(const fs::path& metrics_file, index_t samples);

/// Remembers, on worker 0, which checkpoint validated best, and whether it is time to stop. The
/// validation at the end of a job counts for neither: it takes other samples.
class BestValidation final : public worker::Observer {
 public:
  /// `patience`: validations in a row without a lower loss after which the job stops; 0: any
  /// number. `past`: those of earlier jobs of the run, over the same samples, by step; those up to
  /// the step that the job goes on from count. Throws Error if BEST cannot be read.
  BestValidation(fs::path checkpoints, index_t patience, std::vector<PastValidation> past = {});

  /// An earlier job's best checkpoint counts if it is still there and not after this step.
  void start(const Directive& directive) override;
  void step(const Directive& directive) override;
  void validation(index_t step, const worker::Loss& loss) override;
  /// Writes BEST if the checkpoint that it is about has been committed meanwhile.
  void note_committed();
  /// Whether there is no hope of a lower loss. Once true, it stays true.
  bool is_over() const { return patience_ > 0 && fruitless_ >= patience_; }

 private:
  void count(double loss);

  fs::path checkpoints_;
  index_t patience_;
  std::vector<PastValidation> past_;
  index_t fruitless_ = 0;  ///< validations since the lowest loss
  std::optional<double> lowest_;
  std::optional<BestCheckpoint> best_;     ///< what BEST says
  std::optional<BestCheckpoint> pending_;  ///< better, but perhaps not committed yet
  Order newest_ = {};
};

}  // namespace weir
