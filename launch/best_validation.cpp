#include "launch/best_validation.hpp"

#include <cmath>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir {

BestValidation::BestValidation(fs::path checkpoints, index_t patience)
    : checkpoints_(std::move(checkpoints)), patience_(patience), best_(read_best(checkpoints_)) {
  if (best_) lowest_ = best_->loss;
}

void BestValidation::validation(index_t step, const worker::Loss& loss) {
  if (newest_.stop || is_over()) return;
  const double mean = loss.sum / static_cast<double>(loss.count);
  if (!std::isfinite(mean) || (lowest_ && mean >= *lowest_)) {
    ++fruitless_;
    if (is_over()) {
      log_info(text("stops after step ", step, ": ", fruitless_,
                    " validations in a row found no loss below ", lowest_.value_or(mean),
                    " (--eval-patience)"));
    }
  } else {
    lowest_ = mean;
    fruitless_ = 0;
  }
  if (!newest_.checkpoint || !std::isfinite(mean) || (best_ && mean >= best_->loss)) return;
  best_ = {step, mean};
  try {
    write_best(checkpoints_, *best_);
  } catch (const Error& error) {  // training goes on, as where a save fails
    log_warning(text("cannot note the best checkpoint: ", error.what()));
  }
}

}  // namespace weir
