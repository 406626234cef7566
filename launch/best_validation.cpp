#include "launch/best_validation.hpp"

#include <cmath>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/run_log.hpp"

namespace weir {

std::vector<PastValidation> past_validations(const fs::path& metrics_file, index_t samples) {
  std::error_code error;
  if (!fs::exists(metrics_file, error)) return {};
  const RunLines lines = read_run_log(metrics_file).validations;
  if (!lines.has("loss") || !lines.has("sample_count")) return {};
  const std::vector<double> losses = lines.column("loss");
  const std::vector<double> counts = lines.column("sample_count");
  std::vector<PastValidation> past;
  for (std::size_t at = 0; at < losses.size(); ++at) {
    if (counts[at] == static_cast<double>(samples)) past.push_back({lines.steps[at], losses[at]});
  }
  return past;
}

BestValidation::BestValidation(fs::path checkpoints, index_t patience,
                               std::vector<PastValidation> past)
    : checkpoints_(std::move(checkpoints)),
      patience_(patience),
      past_(std::move(past)),
      best_(read_best(checkpoints_)) {}

void BestValidation::start(const Directive& directive) {
  newest_ = directive.order;
  const bool counts = best_ && best_->step <= directive.step &&
                      is_checkpoint(checkpoint_folder(checkpoints_, best_->step));
  if (!counts) best_.reset();
  for (const PastValidation& each : past_) {
    if (each.step <= directive.step) count(each.loss);
  }
  if (best_ && !lowest_) lowest_ = best_->loss;  // metrics.jsonl is gone
}

void BestValidation::count(double loss) {
  if (std::isfinite(loss) && (!lowest_ || loss < *lowest_)) {
    lowest_ = loss;
    fruitless_ = 0;
  } else {
    ++fruitless_;
  }
}

void BestValidation::step(const Directive& directive) {
  newest_ = directive.order;
  note_committed();
}

void BestValidation::validation(index_t step, const worker::Loss& loss) {
  if (newest_.stop || is_over()) return;
  const double mean = loss.sum / static_cast<double>(loss.count);
  count(mean);
  if (is_over()) {
    log_info(text("will stop after step ", step, ": ", fruitless_,
                  " validations in a row found no ",
                  lowest_ ? text("loss below ", *lowest_) : "finite loss", " (--eval-patience)"));
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
