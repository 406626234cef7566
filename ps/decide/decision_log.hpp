#pragma once

#include <filesystem>
#include <vector>

#include "common/io/file.hpp"
#include "ps/decide/clocks.hpp"

namespace weir::ps {

/// The job whose decisions a log has.
struct DecidingJob {
  ConsistencyConfig consistency;
  index_t replicas = 1;
  index_t micro_batches = 1;  ///< how many a step has
};

/// The decisions of a training, beside its checkpoints: an object a line, first one that says what
/// run they are of. Replaying them repeats the run to the bit.
///
///   {"kind":"decisions","consistency":"bsp","replicas":4}
///   {"update":1,"close":[0,1,2,3]}
///   {"update":2,"close":[0,1,3]}      ssp, asp: and "staleness", see Clocks
///   {"update":2,"drop":[2]}           after update 2
///   {"update":40,"share":[5,1,5,5]}   for the steps after update 40
///
/// A log has no holes: closes are of updates one after the other, drops and shares of the update
/// before them. It may begin after a checkpoint's update, and is replayed from that one then.
///
/// Written line by line as decisions fall, and brought to the disk before a checkpoint counts. What
/// stands there of updates after the checkpoint that a job goes on from is removed first: it will
/// be decided again. If what is left does not reach up to the checkpoint, the log begins anew there
/// and a warning says so.
class DecisionLog {
 public:
  DecisionLog() = default;  ///< writes nothing
  /// Opens nothing before the first decision. An empty path: writes nothing.
  DecisionLog(const std::filesystem::path& file, const DecidingJob& job, index_t update);
  /// A full disk is no reason to lose the training: then a warning says that the log ends.
  void append(const Decision& decision, index_t update, index_t staleness);
  void sync();  ///< what was appended outlives a power cut

 private:
  void open();
  std::string lines_before() const;
  template <class Work>
  void write_or_end(const Work& work);

  std::filesystem::path path_;
  DecidingJob job_;
  index_t update_ = 0;
  index_t newest_ = 0;  ///< the update of the newest line
  File file_;           ///< none: not opened, or the log has ended
  bool opened_ = false;
};

struct LoggedDecision {
  index_t update = 0;
  Decision decision;
};

/// Throws Error if the log cannot be read, or is of another consistency or number of replicas; and,
/// with its line, for a decision that this job cannot have made there. A last line that a dying job
/// left half written is none.
std::vector<LoggedDecision> read_decisions(const std::filesystem::path& file,
                                           const DecidingJob& job);

}  // namespace weir::ps
