#include "launch/checkpoint_path.hpp"

#include "common/base/error.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/run_folder.hpp"
#include "ps/save/resume.hpp"

namespace weir {

CheckpointPath checkpoint_path(const fs::path& path) {
  if (!path_exists(path))
    throw UsageError(text(path.string(), ": there is no such file or folder"));
  if (is_checkpoint(path)) return {.checkpoint = path, .checkpoints = {}};
  if (is_checkpoint(path.parent_path())) {
    return {.checkpoint = path.parent_path(), .checkpoints = {}};
  }
  const fs::path of_run = RunFolder::checkpoints_of(path);
  if (is_folder(of_run)) return {.checkpoint = {}, .checkpoints = of_run};
  if (is_folder(path) && path.filename() == "checkpoints") {
    return {.checkpoint = {}, .checkpoints = path};
  }
  if (path_exists(path / "model.h5")) {
    throw Error(
        text(path.string(), " is a checkpoint that was never completed: MANIFEST is missing"));
  }
  throw UsageError(text(path.string(),
                        " is neither a checkpoint (a folder with MANIFEST and model.h5) nor a run "
                        "folder (with checkpoints/ in it)"));
}

fs::path checkpoint_at(const fs::path& path) {
  const CheckpointPath found = checkpoint_path(path);
  if (!found.checkpoint.empty()) return found.checkpoint;
  const auto newest = newest_complete(found.checkpoints);
  if (!newest) throw Error(text(path.string(), " holds no checkpoint yet"));
  return *newest;
}

namespace {

/// The checkpoint that --resume PATH names: itself or the newest of a run folder.
fs::path named_checkpoint(const fs::path& path) {
  if (is_checkpoint(path)) {
    if (!read_manifest(path).settings.contains(ps::kReplicaSetting)) return path;
    throw UsageError(text("--resume ", path.string(),
                          " holds only a replica's own state, beside the checkpoint of the same "
                          "name; give that one, in ",
                          path.parent_path().parent_path().string()));
  }
  if (const auto newest = newest_complete(RunFolder::checkpoints_of(path))) return *newest;
  throw UsageError(text("--resume ", path.string(),
                        " is neither a checkpoint nor a run folder that holds a complete one"));
}

}  // namespace

fs::path checkpoint_to_resume(const RunConfig& config) {
  const fs::path own = RunFolder::checkpoints_of(config.run);
  if (config.resume == "auto") return newest_complete(own).value_or(fs::path());
  if (config.resume == "never") {
    if (checkpoints_in(own).empty()) return {};
    throw UsageError(text("--resume never would mix with the checkpoints in ", own.string(),
                          "; take another --run, or remove them"));
  }
  const fs::path named = named_checkpoint(config.resume);
  if (!checkpoints_in(own).empty()) {
    const fs::path newest = *newest_complete(own);
    if (ps::steps_done(read_manifest(newest)) > ps::steps_done(read_manifest(named))) {
      throw UsageError(text("--resume ", config.resume, " goes back to before ", newest.string(),
                            ", which --resume auto would take later; take another --run, or "
                            "remove the checkpoints after it"));
    }
  }
  return named;
}

}  // namespace weir
