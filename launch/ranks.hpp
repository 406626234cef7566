#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/job/layout.hpp"
#include "common/net/agree.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// All ranks of a job, or this process alone (`world` is none without mpirun). Where there is one
/// process, every call below does what it says without MPI.
struct Ranks {
  Comm world;
  int rank() const { return world ? world.rank() : 0; }
  int size() const { return world ? world.size() : 1; }

  /// What the lines of the log call this rank; nothing if there is no other.
  std::string identity(const Layout& layout) const {
    return size() == 1 ? std::string() : text("rank ", rank(), ", ", layout.role(rank()));
  }

  /// Runs `work` here; if it threw on any rank, all throw the same.
  template <class Work>
  void together(const Work& work) const {
    if (world) {
      agree(world, error_of(work));
    } else {
      work();
    }
  }
  /// The same as together(), with work for rank 0 alone.
  template <class Work>
  void on_rank_0(const Work& work) const {
    together([&] {
      if (rank() == 0) work();
    });
  }
  void same(std::string_view what, const std::string& digest) const {
    if (world) agree_digest(world, what, digest);
  }
  /// Gives all ranks the text of rank 0.
  std::string from_rank_0(std::string text) const {
    return world ? world.broadcast(std::move(text), 0) : text;
  }
  void max(std::span<double> values) const {
    if (world) world.max(values);
  }
  void barrier() const {
    if (world) world.barrier();
  }
};

}  // namespace weir
