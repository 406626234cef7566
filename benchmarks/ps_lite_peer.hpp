#pragma once

#include <filesystem>
#include <map>
#include <vector>

#include "benchmarks/job.hpp"
#include "common/base/index.hpp"

namespace weir::benchmark {

/// dmlc/ps-lite with one worker and one server on this machine, with weir's AdamW.
class PsLitePeer {
 public:
  /// Compiles peers/ps_lite.cpp against `path`, a checkout of ps-lite with its build/libps.a.
  /// Throws Error if it is none, or if that does not compile.
  explicit PsLitePeer(const std::filesystem::path& path);

  /// Seconds from the first push to the last pull of so many parameters, by bucket bytes:
  /// `rounds` times `updates` of each size, after one that warms up in each round. Throws Error if
  /// ps-lite fails, hangs, or brings other weights than AdamW makes.
  std::map<index_t, std::vector<double>> run(index_t elements,
                                             const std::vector<index_t>& bucket_bytes,
                                             index_t rounds, index_t updates) const;

 private:
  ScratchFolder scratch_;
};

}  // namespace weir::benchmark
