#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/io/manifest.hpp"
#include "common/job/bucket.hpp"
#include "ps/decide/clip.hpp"
#include "ps/decide/standing.hpp"
#include "ps/save/residuals.hpp"
#include "ps/update/optimizer.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// What a checkpoint must agree with.
struct ResumeConfig {
  std::map<std::string, std::string>
      settings;                            ///< settings of the model, as SnapshotConfig has them
  std::vector<std::string> obsolete = {};  ///< parameters, the same
  OptimizerKind optimizer = OptimizerKind::adamw;
  ClipConfig clip = {};
  bool in_rounds = false;  ///< for the servers of `local`, whose updates are rounds
  bool tells = true;       ///< says in the log what begins anew: one server is to
};

/// Whether the servers of `local` wrote a checkpoint: its moments are those of rounds.
bool is_of_rounds(const Manifest& manifest);

/// Steps that the training of a checkpoint has done: Manifest::step, but for early ones of `local`,
/// which counted rounds there.
index_t steps_done(const Manifest& manifest);

/// A manifest as it would be written today: early ones of `local` also gave the optimizer and clip
/// of the servers' rounds, which nobody chose, for those of the job.
Manifest in_steps(Manifest manifest);

/// Fills a fresh store and residuals with their server's parts of a checkpoint, written under any
/// layout and consistency, and returns where training stood. Throws Error, listing what differs, if
/// the checkpoint is of another model; if it is of another optimizer; if it is truncated or a
/// digest is wrong. The store is then of no use.
///
/// State of another clip policy is not taken: the present one starts from its beginning, and a line
/// in the log says so. Between `local` and the other modes an update means another thing: weights,
/// step, cursor and counters go on, and moments, clip and residuals begin anew, with a warning.
/// Obsolete parameters are not taken, and a line in the log says so.
Standing load_checkpoint(const std::filesystem::path& checkpoint, const ResumeConfig& config,
                         const BucketPlan& plan, Store& store, Residuals& residuals);

}  // namespace weir::ps
