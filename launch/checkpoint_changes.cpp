#include "launch/checkpoint_changes.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "launch/run_paths.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/text_record.hpp"
#include "ps/decide/rate.hpp"

namespace weir {
namespace {

std::optional<TextChange> text_change(const Manifest& checkpoint, const worker::Dataset& dataset) {
  const worker::TextDataset* const now = dataset.as_text();
  const std::optional<TextRecord> before = record_in(checkpoint.settings);
  return now != nullptr && before ? change_of(*before, *now) : std::nullopt;
}

std::string seen_text(const TextChange& change) {
  if (change.seen_bytes == 0) return "";
  return text("; ", grouped(change.seen_bytes), " of the bytes held out now were trained on");
}

/// A rate with three digits: people read it, nothing computes with it.
std::string rate_text(double rate) {
  if (rate == 0) return "0";
  const double unit = std::pow(10.0, 2 - std::floor(std::log10(rate)));
  return text(std::round(rate * unit) / unit);
}

/// Sets those rate options, and the number of steps, that the checkpoint was made with.
bool take_schedule(const Manifest& checkpoint, RunConfig& config) {
  const std::vector<Option> table = chosen_options(config, {"rate.", "steps"});
  std::vector<Setting> settings;
  for (const Option& option : table) {
    const auto found = checkpoint.settings.find(option.name);
    if (found == checkpoint.settings.end()) return false;
    settings.push_back({option.name, found->second, Source::file});
  }
  apply_settings(table, settings);
  return true;
}

}  // namespace

void check_text(const Manifest& checkpoint, const Job& job) {
  const std::optional<TextChange> change = text_change(checkpoint, *job.dataset);
  if (!change) return;
  const std::string leak =
      change->leaks() ? text("; the bytes ", grouped(change->leaked_from), " to ",
                             grouped(change->leaked_to - 1),
                             ", which were held out, are for training now, so the validation loss "
                             "no longer tells of unseen text")
                      : "";
  const bool accepted = job.config.accept_changed_data;
  const index_t steps = job.config.train.training.steps;
  if (!accepted && checkpoint.step >= steps) {
    throw UsageError(text("nothing would be trained: ", job.config.run, " has all of ", steps,
                          " steps, made with another text: ", change->words,
                          ". For a new training take another --run; to go on with this text give "
                          "more --steps; --accept-changed-data validates with it"));
  }
  if (!accepted && change->leaks()) {
    throw UsageError(text("the text differs from the checkpoint's: ", change->words, leak,
                          ". Put the old text back, name what is to stay unseen with "
                          "--data.validation, take another --run, or give --accept-changed-data"));
  }
  log_warning(
      text("the text differs from the checkpoint's: ", change->words, leak, seen_text(*change)));
}

void warn_of_scored_text(const Manifest& checkpoint, const worker::Dataset& scored,
                         bool is_chosen) {
  const std::optional<TextChange> change = text_change(checkpoint, scored);
  if (!change || (is_chosen && change->seen_bytes == 0)) return;
  log_warning(text("the text to score differs from what the run held out: ", change->words,
                   seen_text(*change)));
}

void log_changes(const Manifest& checkpoint, const std::vector<Setting>& settings,
                 const RunConfig& config) {
  RunConfig scoped = config;
  std::vector<Setting> before;
  for (const Option& option : options(scoped)) {
    const auto found = checkpoint.settings.find(option.name);
    if (found == checkpoint.settings.end() || option.scope == Scope::machine) continue;
    before.push_back({option.name, found->second, Source::file});
  }
  before =
      with_absolute_paths(std::move(before));  // earlier versions kept paths as they were given
  std::string changes;
  for (const Setting& old : before) {
    const Setting& now = *std::ranges::find(settings, old.name, &Setting::name);
    if (now.value == old.value) continue;
    changes +=
        text(changes.empty() ? "" : ", ", now.name, " ", now.value, " (was ", old.value, ")");
  }
  if (!changes.empty()) log_info(text("changed since the checkpoint: ", changes));
  if (const std::string change = instructions_change(checkpoint, config); !change.empty()) {
    log_warning(change);
  }
  if (const std::string jump = rate_jump(checkpoint, config); !jump.empty()) log_warning(jump);
}

std::string instructions_change(const Manifest& checkpoint, const RunConfig& config) {
  const auto before = checkpoint.settings.find(kInstructionsNote);
  const std::string now = name_of(config.products.instructions);
  if (before == checkpoint.settings.end() || before->second == now) return "";
  return text("the checkpoint's run made its matrix products with ", before->second,
              " instructions, this one makes them with ", now,
              ": the last bits of its results will be others than there");
}

std::string rate_jump(const Manifest& checkpoint, const RunConfig& config) {
  const index_t step = checkpoint.step;
  const index_t steps = config.train.training.steps;
  RunConfig before;
  if (step < 1 || step >= steps || !take_schedule(checkpoint, before)) return "";
  const double last = ps::rate_at(before.server.rate, step, before.train.training.steps);
  const double expected = ps::rate_at(before.server.rate, step + 1, before.train.training.steps);
  const double next = ps::rate_at(config.server.rate, step + 1, steps);
  constexpr double kJump = 0.1;
  if (std::abs(next - expected) <= kJump * expected) return "";
  const bool stretched = steps != before.train.training.steps;
  return text(
      "the learning rate goes from ", rate_text(last), " at step ", step, " to ", rate_text(next),
      " at step ", step + 1,
      stretched ? text(": the schedule now ends at step ", steps, ", not at ",
                       before.train.training.steps)
                : std::string(": its schedule is another"),
      ". To go on at the old rate take --rate.schedule constant --rate.warm-up 0 --rate.peak ",
      rate_text(last));
}

}  // namespace weir
