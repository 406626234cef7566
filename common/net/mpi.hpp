#pragma once

#include <mpi.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/handle.hpp"
#include "common/base/index.hpp"
#include "common/number/tensor.hpp"

namespace weir {

/// Throws Error("MPI: <doing>: <what MPI says>") unless `code` is MPI_SUCCESS. `doing` is what we
/// were about to do, e.g. "summing over the shards".
void check_mpi(int code, const char* doing);

/// True if mpirun (or another launcher that speaks PMI) started this process; known before
/// MPI_Init.
bool started_by_mpi_launcher();

/// The rank that the launcher gave this process, 0 without a launcher; known before MPI_Init.
int launcher_rank();

/// Flushes the output and ends all ranks of the job with this exit code. Works before MPI_Init
/// too (this process alone ends) and never returns.
[[noreturn]] void abort_job(int exit_code);

/// MPI from start to end; the first object in main. Every rank must leave main for the end to come:
/// a rank that has failed alone calls abort_job instead. Only the thread that made it may speak
/// MPI.
class Session {
 public:
  Session(int& argument_count, char**& arguments);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  /// Finalizes MPI, except while an exception unwinds: the other ranks would hang in it.
  ~Session();
};

struct CommTraits {
  using Raw = MPI_Comm;
  static Raw none() { return MPI_COMM_NULL; }
  static void release(Raw raw);  // nothing while unwinding or after the Session
};

struct RequestTraits {
  using Raw = MPI_Request;
  static Raw none() { return MPI_REQUEST_NULL; }
  static void release(Raw raw);
};
/// A transfer. Its owner must wait for it before destroying it (see Channel).
using Request = Handle<RequestTraits>;

/// A group of ranks that speak with each other, apart from all other groups. Making, splitting,
/// duplicating and destroying one is collective: all its ranks do it, in the same order. So is
/// every function below unless it says otherwise. Errors of MPI are thrown as Error.
class Comm {
 public:
  Comm() = default;  ///< no group: the result of a split for the ranks that are in none
  /// All ranks of the job (a duplicate of MPI_COMM_WORLD).
  static Comm world();

  int rank() const { return rank_; }  ///< this and the next: not collective
  int size() const { return size_; }
  /// The rank of the whole job that is `rank` here; kNobody if none is. Not collective.
  int rank_in_job(int rank) const;
  explicit operator bool() const { return bool(handle_); }
  MPI_Comm raw() const { return handle_.get(); }

  /// The ranks that gave the same color >= 0, ordered by (key, rank); a rank without one gets none.
  Comm split(std::optional<int> color, int key) const;
  Comm duplicate() const;
  /// The ranks on this rank's host, in their order: those it can share memory with.
  Comm host() const;

  /// Waits for all ranks without keeping the core busy.
  void barrier() const;
  /// Waits awake for all ranks and calls `progress` meanwhile. Call it before a collective that
  /// does not call `progress`, if another rank may need this one's progress to get there.
  void meet(const std::function<bool()>& progress) const;
  /// The bytes of `root` at every rank; the size must be the same everywhere.
  void broadcast(std::span<std::byte> bytes, int root) const;
  /// The text of `root` at every rank; at most 64 MiB, else Error on all ranks.
  std::string broadcast(std::string text, int root) const;
  /// Calls `take` on rank 0 with the texts of all ranks, in their order, each in one piece or
  /// several. Rank 0 holds one piece of at most 64 MiB at a time beside its own text.
  void collect(std::string_view text, const std::function<void(std::string_view)>& take) const;

  /// Sums each element over all ranks, in place. The bits are the same on all ranks, and in every
  /// run with this number of ranks. (Open MPI reduces in an order that depends on rank count and
  /// length alone.) Floats are summed over shards and contexts, which arrive in lockstep: this wait
  /// stays awake, since a step of two shards took 15 % longer with sleeping. All other sums sleep
  /// while they wait, because one rank may read files for long.
  void sum(std::span<float> values) const;
  /// Calls `progress`, if there is one, while it waits, and stays awake as long as that says that
  /// anything moved.
  void sum(std::span<double> values, const std::function<bool()>& progress = {}) const;
  void sum(std::span<index_t> values) const;
  void max(std::span<float> values) const;
  void max(std::span<double> values) const;
  void max(std::span<index_t> values) const;
  double sum(double value) const;
  index_t sum(index_t value) const;

  /// all = the values of rank 0, then those of rank 1, and so on; equally many from each. Waits
  /// awake, as exchange() does.
  void gather(ConstVector values, Vector all) const;
  /// Neighbours swap, both ways at once: `to_next` arrives as the next rank's `from_previous`,
  /// `to_previous` as the previous one's `from_next`. Spans towards a rank that is not there are
  /// left alone. A span holds at most 2^31 - 1 numbers, here and in gather.
  void exchange(ConstVector to_previous, ConstVector to_next, Vector from_previous,
                Vector from_next) const;
  double max(double value) const;
  index_t max(index_t value) const;

 private:
  explicit Comm(MPI_Comm raw);
  Handle<CommTraits> handle_;
  int rank_ = 0;
  int size_ = 0;
  int peer_ = -1;  ///< whom this rank waits for in a collective, as Need::peer says it
};

}  // namespace weir
