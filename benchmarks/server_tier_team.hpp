#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "benchmarks/server_tier_rank.hpp"
#include "common/job/bucket.hpp"
#include "common/job/layout.hpp"
#include "common/net/mpi.hpp"

namespace weir::benchmark {

Layout layout_of(const TierJob& job);

/// The plan of a model that has `units` layers of equal size.
BucketPlan plan_of(const TierJob& job, index_t units, index_t bucket_bytes);

/// The ranks of a job: which is a worker, which a server, one stop-watch for all and one file of
/// results. All ranks construct it together.
class TierTeam {
 public:
  TierTeam(TierJob job, const std::filesystem::path& file);

  /// Calls `work` on all ranks at the same time and returns the seconds of the slowest rank.
  double seconds_of(const std::function<void()>& work) const;

  /// Rank 0 writes a result to the file; other ranks do nothing.
  void write(const std::string& what, index_t bucket_bytes, double seconds);

  const TierJob& job() const { return job_; }
  const Layout& layout() const { return layout_; }
  const Comm& world() const { return world_; }
  const Comm& host() const { return host_; }
  const Comm& workers() const { return workers_; }
  bool is_server() const { return is_server_; }
  bool is_worker() const { return is_worker_; }

 private:
  TierJob job_;
  Layout layout_;
  Comm world_ = Comm::world();
  bool is_server_;
  bool is_worker_;
  Comm host_;
  Comm workers_;
  std::ofstream file_;
};

}  // namespace weir::benchmark
