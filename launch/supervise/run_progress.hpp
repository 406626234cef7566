#pragma once

#include <optional>
#include <string>

#include "launch/run/metrics.hpp"
#include "launch/run/run_log.hpp"
#include "launch/run_config.hpp"
#include "launch/supervise/mpirun_words.hpp"

namespace weir {

/// The configuration of a training job from its own words, as the ranks read them; none if they
/// cannot be read, or if it does not train.
std::optional<RunConfig> config_of_job(const MpirunWords& words);

/// How far a training job has come, as its run folder shows it from outside.
class RunProgress {
 public:
  /// Finds the run folder from the job's own words, as the ranks do. If they cannot be read there
  /// is none; the ranks then say why.
  explicit RunProgress(const MpirunWords& words);

  const fs::path& run() const { return run_; }  ///< empty: not known

  /// The step of the newest committed checkpoint; -1 if there is none.
  index_t committed_step() const;

  /// What the run folder's LOCK holds: another text for each job that has taken the folder.
  std::string holder() const;

  /// Whether there is a file STOP, which the next job would take for one of an earlier job.
  bool is_asked_to_stop() const;

  /// Whether the newest job in the folder has come to its end, with a checkpoint of its last step.
  bool is_finished() const;

  /// What the lines of metrics.jsonl since this was made say: lost steps, and productive seconds.
  SupervisionMetrics supervision() const;

  /// Adds the record to metrics.jsonl, if the job has made one.
  void write(const SupervisionMetrics& metrics) const;

 private:
  RunLog log() const;

  fs::path run_;
  index_t metrics_begin_ = 0;  ///< bytes of metrics.jsonl that were there before
};

}  // namespace weir
