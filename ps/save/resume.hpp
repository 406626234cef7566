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

/// What a checkpoint must agree with, and how to read it.
struct ResumeConfig {
  std::map<std::string, std::string>
      settings;                            ///< settings of the model, as SnapshotConfig has them
  std::vector<std::string> obsolete = {};  ///< obsolete parameters, likewise
  OptimizerKind optimizer = OptimizerKind::adamw;
  ClipConfig clip = {};
  bool in_rounds = false;  ///< for the servers of `local`, whose updates are rounds
  bool tells = true;       ///< whether this server logs what begins anew; one does
};

/// Whether the servers of `local` wrote a checkpoint: its moments are those of rounds.
bool is_of_rounds(const Manifest& manifest);

/// The steps that a checkpoint's training has done. This is Manifest::step, except in early
/// checkpoints of `local`, which counted rounds there.
index_t steps_done(const Manifest& manifest);

/// The manifest as it would be written today. Early manifests of `local` name the optimizer and
/// clip of the servers' rounds, which no user chose, in place of those of the job.
Manifest in_steps(Manifest manifest);

/// Fills a fresh store and residuals with their server's parts of a checkpoint, written under any
/// layout and consistency, and returns where training stood. Throws Error, listing what differs, if
/// the checkpoint is of another model; if it is of another optimizer; if it is truncated or a
/// digest is wrong. The store is then of no use.
///
/// The state of another clip policy is not used: the present policy starts from its beginning, and
/// the log says so. Between `local` and the other modes an update means something else: weights,
/// step, cursor and counters go on, and moments, clip and residuals begin anew, with a warning.
/// Obsolete parameters are left out, and the log says so.
Standing load_checkpoint(const std::filesystem::path& checkpoint, const ResumeConfig& config,
                         const BucketPlan& plan, Store& store, Residuals& residuals);

}  // namespace weir::ps
