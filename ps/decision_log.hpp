#pragma once

#include <filesystem>
#include <fstream>
#include <vector>

#include "ps/clocks.hpp"

namespace weir::ps {

/// The decisions of a training, beside its checkpoints: an object a line, first one that says what
/// run they are of. Replaying them repeats the run to the bit.
///
///   {"kind":"decisions","consistency":"bsp","replicas":4}
///   {"update":1,"close":[0,1,2,3]}
///   {"update":2,"close":[0,1,3]}      ssp, asp: and "staleness", see Clocks
///   {"update":2,"drop":[2]}           after update 2
///   {"update":40,"share":[5,1,5,5]}   for the steps after update 40
///
/// Written line by line as decisions fall. What stands there of updates after the checkpoint that a
/// job goes on from is removed first: it will be decided again.
class DecisionLog {
 public:
  DecisionLog() = default;  ///< writes nothing
  /// Opens nothing before the first decision. An empty path: writes nothing.
  DecisionLog(const std::filesystem::path& file, const ConsistencyConfig& config, index_t replicas,
              index_t update);
  /// A full disk is no reason to lose the training: then a warning says that the log ends.
  void append(const Decision& decision, index_t update, index_t staleness);

 private:
  void open();

  std::filesystem::path path_;
  ConsistencyConfig config_;
  index_t replicas_ = 0;
  index_t update_ = 0;
  std::ofstream file_;
  bool opened_ = false;
};

struct LoggedDecision {
  index_t update = 0;
  Decision decision;
};

/// Throws Error if the log cannot be read, or is of another consistency or number of replicas.
std::vector<LoggedDecision> read_decisions(const std::filesystem::path& file,
                                           const ConsistencyConfig& config, index_t replicas);

}  // namespace weir::ps
