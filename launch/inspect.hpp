#pragma once

#include <string>

#include "common/io/file.hpp"

namespace weir {

/// What `weir inspect` is asked for beside the path.
struct InspectRequest {
  std::string tensor = {};  ///< only this one, in more detail; `/model/` may be left out
  bool verify = false;      ///< read everything and check all digests
};

/// What `weir inspect` prints.
struct Inspection {
  std::string text;
  std::string
      problem;  ///< of a run folder: why the command fails all the same; empty if it does not
};

/// About a checkpoint, or about a run folder and its checkpoints, of which those that are damaged
/// or cannot be read are a problem: with `verify` any of them, else those that cannot be read, or
/// if none is complete. Throws UsageError if the path is neither, Error if a checkpoint's own
/// folder is damaged.
Inspection inspect_path(const fs::path& path, const InspectRequest& request);

}  // namespace weir
