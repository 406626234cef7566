#pragma once

#include <functional>
#include <utility>

#include "common/net/mpi.hpp"

namespace weir::worker {

/// The ranks of a group that compute together.
class GroupComm {
 public:
  /// `serve` is called while this rank waits, if others may need its server meanwhile; without it
  /// the ranks do not meet before a collective of MPI, which saves time.
  explicit GroupComm(Comm comm, std::function<bool()> serve)
      : comm_(std::move(comm)), serve_(std::move(serve)) {}

  int size() const { return comm_.size(); }
  int rank() const { return comm_.rank(); }
  /// For what serves others by itself while it waits.
  const Comm& unmet() const { return comm_; }
  /// Once all of them are here: MPI's own waits serve nobody.
  const Comm& met() const {
    if (serve_) comm_.meet(serve_);
    return comm_;
  }

 private:
  Comm comm_;
  std::function<bool()> serve_;
};

}  // namespace weir::worker
