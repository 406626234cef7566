#pragma once

#include <filesystem>

#include "common/base/list.hpp"
#include "common/io/file.hpp"
#include "ps/decide/clocks.hpp"

namespace weir::ps {

/// The job whose decisions a log has.
struct DecidingJob {
  ConsistencyConfig consistency;
  index_t replicas = 1;
  index_t micro_batches = 1;  ///< how many a step has
};

/// The decisions of a training, in a file beside its checkpoints: one object a line, of which the
/// first says what run they belong to. Replaying them repeats the run to the bit.
///
///   {"kind":"decisions","consistency":"bsp","replicas":4}
///   {"update":1,"close":[0,1,2,3]}
///   {"update":2,"close":[0,1,3]}      ssp, asp: and "staleness", see Clocks
///   {"update":2,"drop":[2]}           after update 2
///   {"update":40,"share":[5,1,5,5]}   for the steps after update 40
///
/// A log has no holes: its closes have consecutive updates, and drops and shares name the update
/// before them. It may begin after a checkpoint's update; it is then replayed from that one.
///
/// It is written line by line as decisions are made, and brought to the disk before a checkpoint
/// counts. A job that continues from a checkpoint first removes the lines about later updates,
/// since those will be decided again. If the rest does not reach up to the checkpoint, the log
/// begins anew there, with a warning.
class DecisionLog {
 public:
  DecisionLog() = default;  ///< writes nothing
  /// Opens nothing before the first decision. An empty path: writes nothing.
  DecisionLog(const std::filesystem::path& file, const DecidingJob& job, index_t update,
              FileSystem& files = posix_file_system());
  /// Appends a line. If the disk is full, a warning says that the log ends, and training goes on.
  void append(const Decision& decision, index_t update, index_t staleness);
  void sync();  ///< brings what was appended to the disk

 private:
  void open();
  std::string lines_before() const;
  template <class Work>
  void write_or_end(const Work& work);

  std::filesystem::path path_;
  DecidingJob job_;
  FileSystem* files_ = &posix_file_system();
  index_t update_ = 0;
  index_t newest_ = 0;  ///< the update of the newest line
  File file_;           ///< none: not opened, or the log has ended
  bool opened_ = false;
};

struct LoggedDecision {
  index_t update = 0;
  Decision decision;
};

/// Throws Error if the log cannot be read, or belongs to another consistency or number of replicas;
/// and, naming the line, for a decision that this job cannot have made there. A last line that a
/// dying job left half written does not count.
List<LoggedDecision> read_decisions(const std::filesystem::path& file, const DecidingJob& job);

}  // namespace weir::ps
