#include "common/net/probe.hpp"

#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/number/memory.hpp"

namespace weir {
namespace {

constexpr index_t kFloats = index_t{1} << 19;  // 2 MiB: a huge page
constexpr int kRepeats = 3;                    // the first one warms up
constexpr int kTag = 0;
constexpr const char* kDoing = "probing how messages travel";

/// What Open MPI has settled on: it looks at the kernel's limits when it starts. This asks its
/// table of settings (4.1), whose functions it exports without a header. The public way, MPI_T,
/// opens all plugins of Open MPI first: 0.2 s in each job.
std::string single_copy_mechanism() {
  using Find = int (*)(const char* project, const char* framework, const char* component,
                       const char* variable);
  using Get = int (*)(int index, void* value, void* source, void* file);
  const auto find = reinterpret_cast<Find>(dlsym(RTLD_DEFAULT, "mca_base_var_find"));
  const auto get = reinterpret_cast<Get>(dlsym(RTLD_DEFAULT, "mca_base_var_get_value"));
  if (find == nullptr || get == nullptr) return "unknown";
  const int index = find("opal", "btl", "vader", "single_copy_mechanism");
  const int* value = nullptr;
  if (index < 0 || get(index, &value, nullptr, nullptr) != 0 || value == nullptr) return "unknown";
  constexpr std::array kNames = {"xpmem", "cma", "knem", "none"};
  return *value >= 0 && *value < std::ssize(kNames) ? kNames[*value] : "unknown";
}

/// Whether this process may read a word of the peer's: empty, or why not.
std::string read_refusal(const Comm& comm, int peer) {
  constexpr index_t kSecret = 0x77656972;
  volatile index_t secret = kSecret;
  std::array<index_t, 2> mine = {
      getpid(),
      static_cast<index_t>(reinterpret_cast<std::intptr_t>(const_cast<index_t*>(&secret)))};
  std::array<index_t, 2> theirs{};
  check_mpi(MPI_Sendrecv(mine.data(), 2, MPI_INT64_T, peer, kTag, theirs.data(), 2, MPI_INT64_T,
                         peer, kTag, comm.raw(), MPI_STATUS_IGNORE),
            kDoing);
  index_t read = 0;
  iovec to = {&read, sizeof read};
  iovec from = {reinterpret_cast<void*>(static_cast<std::intptr_t>(theirs[1])), sizeof read};
  std::string refusal;
  if (process_vm_readv(static_cast<pid_t>(theirs[0]), &to, 1, &from, 1, 0) != sizeof read) {
    refusal = std::strerror(errno);
  } else if (read != kSecret) {
    refusal = "another process answers to its id";  // containers on one host
  }
  // Both words must stay until both have read.
  check_mpi(MPI_Sendrecv(mine.data(), 1, MPI_INT64_T, peer, kTag, theirs.data(), 1, MPI_INT64_T,
                         peer, kTag, comm.raw(), MPI_STATUS_IGNORE),
            kDoing);
  return refusal;
}

/// Seconds of the fastest message from the lower of the two ranks to the other.
double fastest_seconds(const Comm& comm, int peer, Buffer& buffer) {
  const int count = static_cast<int>(buffer.size());
  double fastest = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    int ready = 0;
    check_mpi(MPI_Sendrecv_replace(&ready, 1, MPI_INT, peer, kTag, peer, kTag, comm.raw(),
                                   MPI_STATUS_IGNORE),
              kDoing);
    const double begin = seconds_now();
    if (comm.rank() < peer) {
      check_mpi(MPI_Send(buffer.data(), count, MPI_FLOAT, peer, kTag, comm.raw()), kDoing);
    } else {
      check_mpi(
          MPI_Recv(buffer.data(), count, MPI_FLOAT, peer, kTag, comm.raw(), MPI_STATUS_IGNORE),
          kDoing);
    }
    const double seconds = seconds_now() - begin;
    if (repeat == 1 || (repeat > 1 && seconds < fastest)) fastest = seconds;
  }
  // The receiver's time counts: to a sender a message may seem to be gone before it has arrived.
  check_mpi(comm.rank() < peer
                ? MPI_Recv(&fastest, 1, MPI_DOUBLE, peer, kTag, comm.raw(), MPI_STATUS_IGNORE)
                : MPI_Send(&fastest, 1, MPI_DOUBLE, peer, kTag, comm.raw()),
            kDoing);
  return fastest;
}

}  // namespace

Probe probe_messages(const Comm& comm, int peer, bool same_host) {
  Probe probe;
  Buffer buffer(kFloats);
  probe.huge_pages = buffer.huge_bytes() > 0;
  if (same_host) {
    probe.mechanism = single_copy_mechanism();
    probe.refusal = read_refusal(comm, peer);
    if (probe.mechanism == "none" || (probe.mechanism == "cma" && !probe.refusal.empty())) {
      probe.path = MessagePath::double_copy;
    } else if (probe.mechanism != "unknown") {
      probe.path = MessagePath::single_copy;
    }
  }
  probe.bytes_per_second =
      static_cast<double>(kFloats) * sizeof(float) / fastest_seconds(comm, peer, buffer);
  return probe;
}

}  // namespace weir
