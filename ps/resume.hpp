#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "common/job/bucket.hpp"
#include "ps/decide.hpp"
#include "ps/optimizer.hpp"
#include "ps/residuals.hpp"
#include "ps/store.hpp"

namespace weir::ps {

/// What a checkpoint must agree with.
struct ResumeConfig {
  std::map<std::string, std::string> settings;  ///< of the model, as SnapshotConfig has them
  OptimizerKind optimizer;
  ClipConfig clip;
};

/// Fills a fresh store and residuals with their server's parts of a checkpoint, written under any
/// layout, and returns where training stood. Throws Error, listing what differs, if the checkpoint
/// is of another model; if it is of another optimizer; if it is truncated or a digest is wrong. The
/// store is then of no use. State of another clip policy is not taken: the present one starts from
/// its beginning, and a line in the log says so.
Progress load_checkpoint(const std::filesystem::path& checkpoint, const ResumeConfig& config,
                         const BucketPlan& plan, Store& store, Residuals& residuals);

}  // namespace weir::ps
