#pragma once

#include <string>

#include "common/net/mpi.hpp"

namespace weir {

/// How long messages get from one rank to another.
enum class MessagePath {
  single_copy,
  double_copy,
  other,  ///< a network, or what Open MPI does not tell
};

/// What was found between two ranks.
struct Probe {
  MessagePath path = MessagePath::other;
  std::string mechanism;  ///< how Open MPI copies between ranks of one host: cma, xpmem, knem,
                          ///< none, unknown
  std::string refusal;    ///< why the kernel does not let one rank read the other's memory, if so
  double bytes_per_second = 0;
  bool huge_pages = false;  ///< the buffers of the probe lie on them
};

/// Sends some long messages between this rank and `peer`, which calls it at the same time. Takes a
/// few milliseconds if messages are copied once, else up to some tens of milliseconds.
Probe probe_messages(const Comm& comm, int peer, bool same_host);

}  // namespace weir
