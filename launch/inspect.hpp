#pragma once

#include <string>

#include "common/io/file.hpp"

namespace weir {

/// What `weir inspect` is asked for beside the path.
struct InspectRequest {
  std::string tensor = {};  ///< only this one, in more detail; `/model/` may be left out
  bool verify = false;      ///< read everything and check all digests
};

/// What `weir inspect` prints about a checkpoint, or about a run folder and its checkpoints. Throws
/// UsageError if the path is neither, Error if what it needs to read is damaged.
std::string inspect_text(const fs::path& path, const InspectRequest& request);

}  // namespace weir
