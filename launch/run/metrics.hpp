#pragma once

#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/io/file.hpp"
#include "common/job/layout.hpp"
#include "common/net/messages.hpp"

namespace weir {

/// A measure that is unknown or does not apply: shown as `n/a` or not at all, and `null` in
/// metrics.jsonl. It is never replaced by a made-up number.
inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

std::string name_of(SkipReason reason);

/// Steps that were skipped, by reason, since this start.
using SkipCounts = std::map<SkipReason, index_t>;
/// `2 spike, 1 rollback, 1 before`. The last counts what `total` has beyond the others: steps from
/// before this start, and steps that a rollback has undone.
std::string skips_text(const SkipCounts& counts, index_t total);

/// The servers between two steps that the worker that keeps the books saw, or in a whole job.
struct ServerLoad {
  double busy_seconds = kUnknown;     ///< mean over the servers
  double waited_seconds = kUnknown;   ///< the same; known for dedicated servers only
  double busy_imbalance = kUnknown;   ///< busiest server over mean; known for two or more
  double bytes_imbalance = kUnknown;  ///< most received and sent over mean; known for two or more
};

/// `before` and `now`: the times in two directives. A job of one process has none.
ServerLoad server_load(std::span<const ServerTime> before, std::span<const ServerTime> now,
                       const Layout& layout);

/// One step, as the worker that keeps the books saw it.
struct StepMetrics {
  Directive directive;
  double bits_per_byte = kUnknown;
  double step_seconds = 0;
  double waited_seconds = 0;  ///< the part of them spent on waiting for servers
  index_t pushed_bytes = 0;   ///< what this worker pushed in this step
  index_t pulled_bytes = 0;
  ServerLoad servers = {};
  double tokens_per_second = 0;     ///< over all replicas, padding left out
  double flop_fraction = kUnknown;  ///< share of the GEMM peak measured on the same cores
  double loss_scale = kUnknown;     ///< the next step's; known in fp16, and not shown elsewhere
  double elapsed_seconds = 0;       ///< since the job began
};

struct ValidationMetrics {
  index_t step = 0;
  index_t sample_count = 0;
  index_t count = 0;  ///< loss terms
  double loss = kUnknown;
  double bits_per_byte = kUnknown;
  double accuracy = kUnknown;  ///< 0 … 1; classifiers alone have it
  double seconds = 0;
  double elapsed_seconds = 0;
};

/// A whole job, from its start (or resume) to its end.
struct SummaryMetrics {
  index_t step = 0;
  index_t skipped_count = 0;
  SkipCounts skips = {};
  bool stopped = false;   ///< it ended on request, before its last step
  bool is_over = false;   ///< it ended because no validation found a lower loss
  bool diverged = false;  ///< the loss is not finite
  double loss = kUnknown;
  double bits_per_byte = kUnknown;
  double validation_loss = kUnknown;
  double validation_bits_per_byte = kUnknown;
  double validation_accuracy = kUnknown;
  double tokens_per_second = kUnknown;  ///< while training, without validation
  double flop_fraction = kUnknown;
  double elapsed_seconds = 0;
  double compute_seconds = 0;
  double waited_seconds = 0;  ///< waiting for servers
  ServerLoad servers = {};
  double checkpoint_seconds = 0;  ///< a server's, snapshot and commit
  double validation_seconds = 0;
  double loss_scale = kUnknown;  ///< at the end, as in StepMetrics
  index_t checkpoint_count = 0;
  index_t peak_memory_bytes = 0;  ///< the largest rank's
};

/// What failures have cost a job under `weir run`, over all its starts.
struct SupervisionMetrics {
  index_t step = 0;  ///< the newest committed one
  index_t restart_count = 0;
  index_t step_count = 0;         ///< steps that were trained and count
  index_t lost_step_count = 0;    ///< steps that were trained and rolled back
  double productive_seconds = 0;  ///< the time of the steps that count
  double wall_seconds = 0;
};
/// `2 restarts, 7 lost steps, productive 41.2 of 50.1 s (ETTR 0.82)`. ETTR, effective training time
/// ratio: the productive part of the time.
std::string supervision_text(const SupervisionMetrics& metrics);

/// metrics.jsonl: an object a line, each with a `kind`, for programs (jq, pandas). Appends: after a
/// resume the lines of the earlier life stay, and a `start` line says from which step the new
/// one continues. If a step has several lines, the last one counts.
///
/// A number that is not finite is null, and `<key>_state` beside it says nan, inf or -inf; null
/// alone means unknown. A line is handed to the system whole, so a reader may follow along. What a
/// full disk cuts is taken back, and the lines go on as soon as there is room again.
class MetricsFile {
 public:
  /// layer_names: of a directive's layer_norms. Throws Error if the file cannot be opened, or is
  /// a link or no regular file.
  explicit MetricsFile(const std::filesystem::path& path,
                       std::vector<std::string> layer_names = {});

  void start(index_t step, const Layout& layout, const std::string& version);
  void step(const StepMetrics& metrics);
  void validation(const ValidationMetrics& metrics);
  void summary(const SummaryMetrics& metrics);
  void supervision(const SupervisionMetrics& metrics);

 private:
  void append(const std::string& line);

  std::vector<std::string> layer_names_;
  File file_;
  index_t lost_count_ = 0;  ///< lines since the last one that was written
};

}  // namespace weir
