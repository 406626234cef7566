#include "ps/save/snapshot.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/io/room.hpp"

namespace weir::ps {

std::vector<Option> options(SnapshotConfig& config) {
  return {
      {"checkpoint-every",
       "steps",
       "steps between two checkpoints; 0: only at the end",
       &config.every,
       {0, 1e12}},
      {"checkpoint.keep",
       "",
       "how many of the newest checkpoints are kept",
       &config.keep,
       {2, 1e6}},
      {"checkpoint.keep-every",
       "steps",
       "the first checkpoint of each this number of steps is kept for good, besides; 0: none",
       &config.keep_every,
       {0, 1e12}},
      {"checkpoint.wait",
       "s",
       "if the last checkpoint or three in a row cannot be written (the disk is full, say), try "
       "again for this long before the job ends with an error",
       &config.wait_s,
       {0, 1e9}},
  };
}

List<CheckpointRecord> checkpoint_records(const List<ParameterSpec>& specs, OptimizerKind optimizer,
                                          std::string_view moments) {
  List<CheckpointRecord> records;
  for (const ParameterSpec& spec : specs) {
    records.push_back({.name = "/model/" + spec.name, .shape = spec.shape, .layout = spec.layout});
  }
  for (const std::string& slot : slot_names(optimizer)) {
    for (const ParameterSpec& spec : specs) {
      records.push_back({.name = text(moments, slot, "/", spec.name),
                         .shape = spec.shape,
                         .layout = spec.layout});
    }
  }
  return records;
}

Snapshot::Snapshot(const BucketPlan& plan, index_t server, const SnapshotConfig& config,
                   OptimizerKind optimizer, ClipPolicy clip, const Residuals& residuals)
    : plan_(&plan),
      server_(server),
      config_(config),
      optimizer_(optimizer),
      clip_(clip),
      residuals_(&residuals),
      records_(checkpoint_records(plan.specs(), optimizer,
                                  config.round_steps > 0 ? kRoundMoments : kMoments)),
      copies_(plan, server, slot_names(optimizer).size(), plan.wire().pull.keeps_residual()) {
  const List<CheckpointRecord> more = residual_records(plan);
  records_.insert(records_.end(), more.begin(), more.end());
}

/// Runs `work(result)` on a thread. The result holds a failure of the file system, or that no
/// thread could be started.
template <class Work>
void Snapshot::run(Work work) {
  const auto guarded = [this, work = std::move(work)] {
    Result result;
    try {
      work(result);
    } catch (const FileError& error) {
      result.error = with_advice(error);
    } catch (const SupersededError&) {
      throw;
    } catch (const Error& error) {
      result.error = error.what();
    } catch (const std::filesystem::filesystem_error& error) {
      result.error = error.what();
    }
    return result;
  };
  try {
    work_ = std::async(std::launch::async, guarded);
  } catch (const std::system_error& error) {
    Result result;
    if (phase_ == Phase::abandoning) {
      result = guarded();  // short
    } else {
      result.error = text("cannot start a thread to write it: ", error.what());
    }
    std::promise<Result> done;
    done.set_value(std::move(result));
    work_ = done.get_future();
  }
}

/// Says where to make room, and how much, if that is what is missing.
std::string Snapshot::with_advice(const FileError& error) const {
  if (!error.is_full()) return error.what();
  return text(error.what(), "; ", room_text(config_.folder), ", a checkpoint needs ",
              mebibytes(checkpoint_bytes(records_)), ": make room there");
}

void Snapshot::start(index_t step, bool last, const Standing& standing) {
  WEIR_ASSERT(!busy());
  file_work_.emplace("a save");
  step_ = step;
  last_ = last;
  standing_ = standing;
  copied_ = false;
  tries_ = 0;
  open();
}

void Snapshot::copied() { copied_ = true; }

void Snapshot::open() {
  phase_ = Phase::opening;
  started_at_ = seconds_now();
  begun_ = false;
  prepared_.clear();
  if (server_ != 0) return;  // SaveBegin will come
  run([&files = *config_.files, folder = config_.folder, step = step_, records = records_,
       attributes = config_.attributes, claim = config_.claim](Result& result) {
    check_claim(claim);
    result.records = records;
    begin_checkpoint(files, folder, step, result.records, attributes);
  });
}

void Snapshot::on_begin(const SaveBegin& begin) {
  if (phase_ != Phase::opening || begun_ || begin.step != step_ ||
      begin.offsets.size() != records_.size()) {
    throw Error(text("server ", server_, ": the begin of the checkpoint of step ", begin.step,
                     " came out of order"));
  }
  for (index_t record = 0; record < records_.size(); ++record) {
    records_[record].offset = begin.offsets[record];
  }
  begun_ = true;
}

void Snapshot::write() {
  phase_ = Phase::writing;
  // The thread alone looks at the copies until it is done.
  run([this](Result& result) {
    check_claim(config_.claim);
    CheckpointWriter writer(*config_.files, config_.folder, step_, records_);
    for (index_t slot = 0; slot < copies_.count(); ++slot) {
      for (index_t index : plan_->buckets_of(server_)) {
        const std::span<const float> values = copies_.of(index, slot);
        for (const Segment& segment : plan_->buckets()[index].segments) {
          const index_t record = slot * plan_->specs().size() + segment.parameter;
          writer.write(record, segment.range.begin,
                       values.subspan(segment.offset, segment.range.count()));
        }
      }
    }
    if (residuals_->kept()) write_residuals(writer);
    result.digests = writer.finish();
  });
}

void Snapshot::write_residuals(CheckpointWriter& writer) const {
  const index_t begin = checkpoint_records(plan_->specs(), optimizer_).size();
  const List<index_t> first = first_residual_records(*plan_);
  for (index_t index : plan_->buckets_of(server_)) {
    const Bucket& bucket = plan_->buckets()[index];
    for (index_t sum = 0; sum < plan_->group_sum_count(index); ++sum) {
      for (const Segment& segment : bucket.segments) {
        writer.write(begin + first[segment.parameter] + sum, segment.range.begin,
                     residuals_->of(index, sum).subspan(segment.offset, segment.range.count()));
      }
    }
  }
}

void Snapshot::on_prepared(const SavePrepared& prepared) {
  const bool second =
      std::ranges::find(prepared_, prepared.server, &SavePrepared::server) != prepared_.end();
  const bool open = phase_ == Phase::writing || phase_ == Phase::collecting ||
                    (phase_ == Phase::opening && begun_);
  if (!open || second || prepared.step != step_) {
    throw Error(text("server ", prepared.server, "'s part of the checkpoint of step ",
                     prepared.step, " came out of order"));
  }
  prepared_.push_back(prepared);
}

Manifest Snapshot::manifest() const {
  Manifest manifest;
  manifest.step = standing_.step;
  manifest.cursor = standing_.cursor;
  manifest.settings = config_.settings;
  manifest.settings.insert(config_.notes.begin(), config_.notes.end());
  if (config_.round_steps > 0) {
    manifest.integers[kRoundSteps] = config_.round_steps;
  } else {
    manifest.settings[kOptimizerSetting] = name_of(optimizer_);
    manifest.settings[kClipSetting] = name_of(clip_);
  }
  manifest.integers["update"] = standing_.update;
  manifest.integers["dropped"] = standing_.dropped_count;
  for (index_t i = 0; i < standing_.again.size(); ++i) {
    manifest.integers[text(kAgainPrefix, i)] = standing_.again[i];
  }
  manifest.integers["skipped"] = standing_.skipped_count;
  manifest.integers["skips_in_a_row"] = standing_.skips_in_a_row;
  if (standing_.moments_begin > 0) manifest.integers[kMomentsBegin] = standing_.moments_begin;
  for (const auto& [prefix, state] : {std::pair(kClipPrefix, &standing_.clip_state),
                                      {kLossScalePrefix, &standing_.loss_scale_state},
                                      {kRollbackPrefix, &standing_.rollback_state}}) {
    for (index_t i = 0; i < state->size(); ++i) {
      manifest.numbers[text(prefix, i)] = (*state)[i];
    }
  }
  manifest.records = records_;
  for (const SavePrepared& each : prepared_) {
    for (const SavedRange& range : each.ranges) {
      manifest.digests.push_back(
          {range.record, range.begin, range.end, static_cast<std::uint32_t>(range.crc)});
    }
  }
  return manifest;
}

void Snapshot::commit() {
  for (const SavePrepared& each : prepared_) {
    if (!each.error.empty()) return abandon(text("server ", each.server, ": ", each.error));
  }
  phase_ = Phase::committing;
  run([&files = *config_.files, folder = config_.folder, beside = config_.beside,
       keep = config_.keep, keep_every = config_.keep_every, manifest = manifest(),
       claim = config_.claim](Result&) {
    commit_checkpoint(files, folder, manifest, claim);
    check_claim(claim);
    try {
      if (beside.empty()) {
        remove_old_checkpoints(files, folder, manifest.step, keep, keep_every);
      } else {
        remove_checkpoints_beside(files, folder, manifest.step, beside);
      }
    } catch (const Error& error) {  // this one counts already
      log_warning(error.what());
    }
  });
}

void Snapshot::abandon(const std::string& error) {
  phase_ = Phase::abandoning;
  run([&files = *config_.files, folder = config_.folder, step = step_, error,
       claim = config_.claim](Result& result) {
    result.error = error;
    check_claim(claim);
    try {
      abandon_checkpoint(files, folder, step);
    } catch (const Error& second) {
      result.error += text("; and ", second.what());
    }
  });
}

void Snapshot::end(const std::string& error) {
  phase_ = Phase::idle;
  const double now = seconds_now();
  totals_.seconds += now - started_at_;
  if (error.empty()) {
    if (server_ == 0 && !may_be_given_up() && tries_ > 0) {
      log_info(text("the checkpoint of step ", step_, " is written, after ",
                    static_cast<index_t>(now - failed_at_), " s"));
    }
    failures_ = 0;
    ++totals_.count;
    file_work_.reset();
    return;
  }
  if (++tries_ == 1) {
    ++failures_;
    failed_at_ = now;
    told_at_ = 0;
  }
  if (server_ == 0) complain(error);
  if (may_be_given_up()) return file_work_.reset();
  if (server_ != 0) return open();  // server 0 will begin again
  phase_ = Phase::waiting;
  constexpr double kFirstPause = 0.5;  // seconds, after the second failure
  try_at_ = now + std::min(config_.retry_s, kFirstPause * static_cast<double>(tries_ - 1));
}

/// Warns, but not at each try; throws Error if there is no time left.
void Snapshot::complain(const std::string& error) {
  const double now = seconds_now();
  const std::string what = text("the checkpoint of step ", step_, " failed: ", error);
  if (may_be_given_up()) return log_warning(what);
  const double left = static_cast<double>(config_.wait_s) - (now - failed_at_);
  if (left <= 0 && (tries_ > 1 || !last_)) {
    throw Error(text(last_ ? "" : "the third checkpoint in a row: ", what, "; tried again for ",
                     config_.wait_s, " s (--checkpoint.wait)"),
                ExitCode::storage);
  }
  constexpr double kQuietSeconds = 60;
  if (told_at_ > 0 && now - told_at_ < kQuietSeconds) return;
  told_at_ = now;
  log_warning(text(what, "; tries again every few seconds, for ",
                   static_cast<index_t>(std::max(0.0, left)), " s more (--checkpoint.wait)",
                   last_ ? "" : "; training stops where the next checkpoint is due"));
}

void Snapshot::on_stop_request() const {
  if (!busy() || tries_ == 0 || may_be_given_up()) return;
  log_warning(text("asked to stop: the job ends when the checkpoint of step ", step_,
                   " is written, or when it has waited for that for ", config_.wait_s,
                   " s (--checkpoint.wait)"));
}

void Snapshot::on_end(const SaveEnd& end) {
  const bool waiting = phase_ == Phase::collecting || (phase_ == Phase::opening && !begun_);
  if (!waiting || end.step != step_) {
    throw Error(text("server ", server_, ": the end of the checkpoint of step ", end.step,
                     " came out of order"));
  }
  this->end(end.error);
}

List<index_t> Snapshot::awaited_servers() const {
  const bool awaits_begin = phase_ == Phase::opening && !begun_;
  if (server_ != 0) {
    return awaits_begin || phase_ == Phase::collecting ? List<index_t>{0} : List<index_t>{};
  }
  List<index_t> awaited;
  if (phase_ != Phase::collecting) return awaited;
  for (index_t server = 0; server < plan_->layout().servers; ++server) {
    if (std::ranges::find(prepared_, server, &SavePrepared::server) == prepared_.end()) {
      awaited.push_back(server);
    }
  }
  return awaited;
}

std::optional<Snapshot::Message> Snapshot::finish(Result result) {
  switch (phase_) {
    case Phase::opening: {
      if (!result.error.empty()) {
        abandon(result.error);
        return std::nullopt;
      }
      records_ = std::move(result.records);
      begun_ = true;
      SaveBegin begin = {.step = step_, .offsets = {}};
      for (const CheckpointRecord& record : records_) begin.offsets.push_back(record.offset);
      return begin;
    }
    case Phase::writing: {
      phase_ = Phase::collecting;
      SavePrepared prepared = {
          .step = step_, .server = server_, .error = result.error, .ranges = {}};
      for (const RangeDigest& digest : result.digests) {
        prepared.ranges.push_back({digest.record, digest.begin, digest.end, digest.crc});
      }
      if (server_ != 0) return prepared;
      on_prepared(prepared);
      return std::nullopt;
    }
    case Phase::committing:
      if (!result.error.empty()) {
        abandon(result.error);
        return std::nullopt;
      }
      end("");
      return SaveEnd{step_, ""};
    case Phase::abandoning:
      end(result.error);
      return SaveEnd{step_, result.error};
    case Phase::idle:
    case Phase::collecting:
    case Phase::waiting:
      break;
  }
  WEIR_UNREACHABLE();
}

std::optional<Snapshot::Message> Snapshot::poll() {
  if (work_.valid()) {
    if (work_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
    return finish(work_.get());
  }
  if (phase_ == Phase::waiting && seconds_now() >= try_at_) open();
  if (phase_ == Phase::opening && begun_ && copied_) write();
  if (server_ == 0 && phase_ == Phase::collecting && prepared_.size() == plan_->layout().servers) {
    commit();
  }
  return std::nullopt;
}

}  // namespace weir::ps
