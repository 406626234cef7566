#include "launch/best_validation.hpp"

#include <cmath>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/io/checkpoint_format.hpp"

namespace weir {

BestValidation::BestValidation(fs::path checkpoints, index_t patience)
    : checkpoints_(std::move(checkpoints)), patience_(patience), best_(read_best(checkpoints_)) {}

void BestValidation::start(const Directive& directive) {
  newest_ = directive.order;
  const bool counts = best_ && best_->step <= directive.step &&
                      is_checkpoint(checkpoint_folder(checkpoints_, best_->step));
  if (!counts) best_.reset();
  if (best_) lowest_ = best_->loss;
}

void BestValidation::step(const Directive& directive) {
  newest_ = directive.order;
  note_committed();
}

void BestValidation::validation(index_t step, const worker::Loss& loss) {
  if (newest_.stop || is_over()) return;
  const double mean = loss.sum / static_cast<double>(loss.count);
  if (!std::isfinite(mean) || (lowest_ && mean >= *lowest_)) {
    ++fruitless_;
    if (is_over()) {
      log_info(text("will stop after step ", step, ": ", fruitless_,
                    " validations in a row found no ",
                    lowest_ ? text("loss below ", *lowest_) : "finite loss", " (--eval-patience)"));
    }
  } else {
    lowest_ = mean;
    fruitless_ = 0;
  }
  const std::optional<BestCheckpoint>& best = pending_ ? pending_ : best_;
  const bool is_better = std::isfinite(mean) && (!best || mean < best->loss);
  if (newest_.checkpoint && is_better) pending_ = {step, mean};
  note_committed();
}

void BestValidation::note_committed() {
  if (!pending_ || !is_checkpoint(checkpoint_folder(checkpoints_, pending_->step))) return;
  try {
    write_best(checkpoints_, *pending_);
    best_ = pending_;
  } catch (const Error& error) {  // training goes on, as where a save fails
    log_warning(text("cannot note the best checkpoint: ", error.what()));
  }
  pending_.reset();
}

}  // namespace weir
