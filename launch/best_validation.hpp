#pragma once

#include <optional>

#include "common/io/best_checkpoint.hpp"
#include "worker/train/observer.hpp"

namespace weir {

/// Remembers, on worker 0, which checkpoint validated best, and whether it is time to stop. The
/// validation at the end of a job counts for neither: it takes other samples.
class BestValidation final : public worker::Observer {
 public:
  /// `patience`: validations in a row without a lower loss after which the job stops; 0: any
  /// number. They are counted anew in each job. Throws Error if BEST cannot be read.
  BestValidation(fs::path checkpoints, index_t patience);

  /// An earlier job's best checkpoint counts if it is still there and not after this step.
  void start(const Directive& directive) override;
  void step(const Directive& directive) override;
  void validation(index_t step, const worker::Loss& loss) override;
  /// Writes BEST if the checkpoint that it is about has been committed meanwhile.
  void note_committed();
  /// Whether there is no hope of a lower loss. Once true, it stays true.
  bool is_over() const { return patience_ > 0 && fruitless_ >= patience_; }

 private:
  fs::path checkpoints_;
  index_t patience_;
  index_t fruitless_ = 0;  ///< validations since the lowest loss
  std::optional<double> lowest_;
  std::optional<BestCheckpoint> best_;     ///< what BEST says
  std::optional<BestCheckpoint> pending_;  ///< better, but perhaps not committed yet
  Order newest_ = {};
};

}  // namespace weir
