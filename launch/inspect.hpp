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
  std::string problem;  ///< why the command fails although it has a text; else empty
};

/// Describes a checkpoint, or a run folder and its checkpoints. A run folder has a problem if a
/// checkpoint cannot be read, if none is complete or, with `verify`, if one is damaged. Throws
/// UsageError if the path is neither, Error if it is a checkpoint that is damaged.
Inspection inspect_path(const fs::path& path, const InspectRequest& request);

}  // namespace weir
