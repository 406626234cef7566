#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "tests/system/job.hpp"

namespace weir::test {

/// `weir run OPTIONS -- -n RANKS JOB`.
std::vector<std::string> supervised(const std::vector<std::string>& options, int ranks,
                                    const std::vector<std::string>& job);

/// The processes whose command line has these words in it; with a rank, the weir of that rank: the
/// process that mpirun has started waits for it.
std::vector<pid_t> processes(const std::string& words, int rank = -1);

std::vector<pid_t> children_of(int process);

/// The weir of a rank of the job in this run folder, waited for. Throws Error if the job ends
/// before.
pid_t rank_of(Process& job, const std::filesystem::path& run, int rank);

/// The step of the newest checkpoint; 0 if there is none.
index_t committed_step(const std::filesystem::path& run);

/// Whether a checkpoint is half written.
bool is_saving(const std::filesystem::path& run);

}  // namespace weir::test
