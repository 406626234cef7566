#pragma once

#include "common/io/file.hpp"
#include "launch/job.hpp"

namespace weir {

/// About how many bytes all that belongs to one checkpoint of the job takes: the servers' part and,
/// with `--consistency local`, what each replica keeps of its own.
index_t bytes_of_a_checkpoint(const Job& job);

/// Looks before the first step whether the checkpoints to come will fit. `step`: where training
/// begins. Throws Error if not even one fits; warns if not all fit that are kept at once, which is
/// `--checkpoint.keep` and the one that is being written.
void check_room(const Job& job, const fs::path& checkpoints, index_t step);

}  // namespace weir
