#pragma once

#include <optional>

#include "common/base/index.hpp"
#include "common/io/file.hpp"

namespace weir {

/// The checkpoint with the lowest validation loss of a run: the file BEST beside the checkpoints
/// says which it is, so that it is kept however old it becomes.
struct BestCheckpoint {
  index_t step = 0;
  double loss = 0;  ///< a mean, in nats
};

/// What BEST says; nothing if it is missing or holds something else. Throws Error if it cannot be
/// read.
std::optional<BestCheckpoint> read_best(const fs::path& checkpoints);

/// Replaces BEST in one step. Throws Error.
void write_best(const fs::path& checkpoints, const BestCheckpoint& best,
                FileSystem& files = posix_file_system());

}  // namespace weir
