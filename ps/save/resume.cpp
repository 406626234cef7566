#include "ps/save/resume.hpp"

#include <algorithm>
#include <charconv>
#include <span>
#include <string_view>

#include "common/base/differences.hpp"
#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/log.hpp"
#include "common/io/checkpoint_format.hpp"
#include "ps/save/snapshot.hpp"

namespace weir::ps {
namespace {

std::string setting(const Manifest& manifest, const std::string& name) {
  const auto found = manifest.settings.find(name);
  return found == manifest.settings.end() ? "" : found->second;
}

void compare_settings(const Manifest& manifest, const std::map<std::string, std::string>& wanted,
                      Differences& differences) {
  for (const auto& [name, value] : wanted) {
    const auto found = manifest.settings.find(name);
    if (found == manifest.settings.end()) {
      differences.add(text(name, ": not in the checkpoint, here ", value));
    } else if (found->second != value) {
      differences.add(text(name, ": ", found->second, " in the checkpoint, ", value, " here"));
    }
  }
}

/// Whether it is an early checkpoint of `local`. In those, `step` counts rounds, the moments of the
/// rounds are where those of the job's optimizer are otherwise, and so are the names of optimizer
/// and clip.
bool counts_rounds(const Manifest& manifest) {
  return setting(manifest, "consistency") == "local" && !manifest.integers.contains(kRoundSteps) &&
         !manifest.settings.contains(kReplicaSetting) &&
         setting(manifest, kOptimizerSetting) == name_of(OptimizerKind::sgd) &&
         setting(manifest, kClipSetting) == name_of(ClipPolicy::none);
}

/// `taken`: the names of the moments to read; other moments belong to another server. `dropped`:
/// parameters that the checkpoint may hold, with moments, and that are not read.
void compare_records(const Manifest& manifest, const List<CheckpointRecord>& wanted,
                     std::string_view taken, const std::vector<std::string>& dropped,
                     Differences& differences) {
  std::map<std::string, const CheckpointRecord*> found, known;
  for (const CheckpointRecord& record : manifest.records) found[record.name] = &record;
  for (const CheckpointRecord& record : wanted) {
    known[record.name] = &record;
    const auto at = found.find(record.name);
    if (at == found.end()) {
      differences.add(text(record.name, ": missing in the checkpoint"));
    } else if (at->second->shape != record.shape) {
      differences.add(text(record.name, ": shape ", shape_text(at->second->shape),
                           " in the checkpoint, ", shape_text(record.shape), " here"));
    }
  }
  for (const CheckpointRecord& record : manifest.records) {
    // Residuals are taken where they fit (Residuals::load).
    const bool others = record.name.starts_with(kResidualPrefix) ||
                        (taken != kMoments && record.name.starts_with(kMoments)) ||
                        (taken != kRoundMoments && record.name.starts_with(kRoundMoments));
    const bool is_dropped = std::ranges::any_of(dropped, [&](const std::string& parameter) {
      return record.name.ends_with("/" + parameter);
    });
    if (!is_dropped && !known.contains(record.name) && !others) {
      differences.add(text(record.name, ": in the checkpoint, unknown here"));
    }
  }
}

index_t integer(const Manifest& manifest, const std::string& name,
                const std::filesystem::path& checkpoint) {
  const auto found = manifest.integers.find(name);
  if (found == manifest.integers.end() || found->second < 0) {
    throw Error(text("resuming ", checkpoint.string(), ": its MANIFEST has no integer ", name));
  }
  if (found->second > kCountMax) {
    throw Error(text("resuming ", checkpoint.string(), ": its MANIFEST has the integer ", name, " ",
                     found->second, ", more than the ", kCountMax, " that weir counts to"));
  }
  return found->second;
}

/// PREFIX0, PREFIX1, …
List<double> numbers(const Manifest& manifest, const char* prefix) {
  List<double> all;
  for (auto found = manifest.numbers.end();; all.push_back(found->second)) {
    found = manifest.numbers.find(text(prefix, all.size()));
    if (found == manifest.numbers.end()) return all;
  }
}

/// The obsolete parameters that the checkpoint holds.
std::vector<std::string> found_obsolete(const Manifest& manifest,
                                        const std::vector<std::string>& obsolete) {
  std::vector<std::string> found;
  for (const std::string& name : obsolete) {
    const bool is_there = std::ranges::find(manifest.records, "/model/" + name,
                                            &CheckpointRecord::name) != manifest.records.end();
    if (is_there) found.push_back(name);
  }
  return found;
}

List<double> clip_state(const Manifest& manifest, const ClipConfig& config, index_t parameters,
                        bool goes_on) {
  if (!goes_on) return make_clip(config, parameters)->state();
  const std::string policy = setting(manifest, kClipSetting);
  if (policy != name_of(config.policy)) {
    log_info(text("the checkpoint has the clip policy ", policy, "; ", name_of(config.policy),
                  " starts from its beginning"));
    return make_clip(config, parameters)->state();
  }
  return numbers(manifest, kClipPrefix);
}

std::string what_begins_anew(const ResumeConfig& config) {
  if (config.in_rounds) {
    return "the checkpoint was made without --consistency local: the momentum of the servers' "
           "rounds begins anew";
  }
  return text("the checkpoint was made with --consistency local, whose servers keep no moments of ",
              name_of(config.optimizer), ": they begin anew, and so does the clip policy ",
              name_of(config.clip.policy));
}

}  // namespace

bool is_of_rounds(const Manifest& manifest) {
  return manifest.integers.contains(kRoundSteps) || counts_rounds(manifest);
}

index_t steps_done(const Manifest& manifest) {
  if (!counts_rounds(manifest)) return manifest.step;
  const std::string round = setting(manifest, "local.steps");
  index_t steps = 0;
  const auto read = std::from_chars(round.data(), round.data() + round.size(), steps);
  const bool whole = read.ec == std::errc() && read.ptr == round.data() + round.size();
  if (!whole || steps < 1 || manifest.step > kCountMax / steps) {
    throw Error(text("the checkpoint of ", manifest.step, " rounds has the setting local.steps `",
                     round, "`, from which its steps cannot be told"));
  }
  return manifest.step * steps;
}

Manifest in_steps(Manifest manifest) {
  if (!counts_rounds(manifest)) return manifest;
  manifest.step = steps_done(manifest);
  manifest.settings.erase(kOptimizerSetting);
  manifest.settings.erase(kClipSetting);
  return manifest;
}

Standing load_checkpoint(const std::filesystem::path& checkpoint, const ResumeConfig& config,
                         const BucketPlan& plan, Store& store, Residuals& residuals) {
  const CheckpointReader reader(checkpoint);
  const Manifest& manifest = reader.manifest();
  // Whether an update means the same there and here, so that moments, clip and residuals go on.
  const bool goes_on = is_of_rounds(manifest) == config.in_rounds;
  const std::string optimizer = setting(manifest, kOptimizerSetting);
  if (goes_on && !config.in_rounds && optimizer != name_of(config.optimizer)) {
    throw Error(text("resuming ", checkpoint.string(), ": it was trained with the optimizer ",
                     optimizer, ", whose state ", name_of(config.optimizer),
                     " cannot use; resume with optimizer.kind = ", optimizer,
                     ", or start anew with another --run"));
  }
  const std::string_view moments =
      config.in_rounds && !counts_rounds(manifest) ? kRoundMoments : kMoments;
  List<CheckpointRecord> wanted = checkpoint_records(plan.specs(), config.optimizer, moments);
  if (!goes_on) wanted.resize(plan.specs().size());  // the weights
  const std::vector<std::string> dropped = found_obsolete(manifest, config.obsolete);
  Differences differences;
  compare_settings(manifest, config.settings, differences);
  compare_records(manifest, wanted, goes_on ? moments : "", dropped, differences);
  if (!differences.empty()) {
    throw Error(text("resuming ", checkpoint.string(),
                     ": it is of another model:", differences.to_text(),
                     "\ngive the settings it was made with, or start anew with another --run"));
  }
  const bool keeps_clip = goes_on && !config.in_rounds &&
                          (dropped.empty() || config.clip.policy != ClipPolicy::per_tensor);
  if (!dropped.empty() && config.tells) {
    log_info(text("drops ", dropped.size(),
                  " parameters of the checkpoint, on which this model does "
                  "not depend: ",
                  dropped.front(), dropped.size() > 1 ? " and so on" : "",
                  goes_on && !keeps_clip ? "; the clip policy starts from its beginning" : ""));
  }
  // Slot 0 stands for the weights, the others for the optimizer's slots, as in `wanted`.
  for (index_t slot = 0; slot < wanted.size() / plan.specs().size(); ++slot) {
    for (index_t index : store.buckets()) {
      const std::span<float> values =
          slot == 0 ? store.mutable_weights(index) : store.slot(index, slot - 1);
      for (const Segment& segment : plan.buckets()[index].segments) {
        const index_t at = slot * plan.specs().size() + segment.parameter;
        reader.read(*reader.find(wanted[at].name), segment.range.begin,
                    values.subspan(segment.offset, segment.range.count()));
      }
    }
  }
  if (goes_on) residuals.load(reader);
  load_sent_weights(reader, plan, store, config.tells);
  if (!goes_on && config.tells)
    log_warning(text(what_begins_anew(config),
                     residuals.kept() ? "; so does the wire's error feedback" : ""));
  // The counters. Moments that begin anew do so after all updates that were applied.
  const index_t skipped_count = integer(manifest, "skipped", checkpoint);
  const index_t update = integer(manifest, "update", checkpoint);
  if (skipped_count > update) {
    throw Error(text("resuming ", checkpoint.string(), ": ", skipped_count, " updates skipped of ",
                     update));
  }
  index_t moments_begin = goes_on ? 0 : update - skipped_count;
  if (goes_on && manifest.integers.contains(kMomentsBegin)) {
    moments_begin = integer(manifest, kMomentsBegin, checkpoint);
  }
  if (moments_begin > update - skipped_count) {
    throw Error(text("resuming ", checkpoint.string(), ": its moments begin after ", moments_begin,
                     " updates, of which ", update - skipped_count, " were applied"));
  }
  List<index_t> again;
  while (!counts_rounds(manifest) && manifest.integers.contains(text(kAgainPrefix, again.size()))) {
    again.push_back(integer(manifest, text(kAgainPrefix, again.size()), checkpoint));
  }
  return {.step = steps_done(manifest),
          .update = update,
          .cursor = manifest.cursor,
          .again = std::move(again),
          .dropped_count = integer(manifest, "dropped", checkpoint),
          .skipped_count = skipped_count,
          .skips_in_a_row = integer(manifest, "skips_in_a_row", checkpoint),
          .moments_begin = moments_begin,
          .clip_state = clip_state(manifest, config.clip, plan.specs().size(), keeps_clip),
          .loss_scale_state = goes_on ? numbers(manifest, kLossScalePrefix) : List<double>(),
          .rollback_state = goes_on ? numbers(manifest, kRollbackPrefix) : List<double>()};
}

}  // namespace weir::ps
