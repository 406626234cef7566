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
  /// number. Goes on from what an earlier job of this run has found.
  BestValidation(fs::path checkpoints, index_t patience);

  void step(const Directive& directive) override { newest_ = directive.order; }
  void validation(index_t step, const worker::Loss& loss) override;
  /// Whether there is no hope of a lower loss. Once true, it stays true.
  bool is_over() const { return patience_ > 0 && fruitless_ >= patience_; }

 private:
  fs::path checkpoints_;
  index_t patience_;
  index_t fruitless_ = 0;  ///< validations since the lowest loss
  std::optional<double> lowest_;
  std::optional<BestCheckpoint> best_;
  Order newest_ = {};
};

}  // namespace weir
