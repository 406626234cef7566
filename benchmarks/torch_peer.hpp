#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::benchmark {

/// One line of `peers/attention.py --json`.
struct PeerResult {
  std::string peer;  ///< `chunked`, or `sdpa`: dense
  index_t length = 0;
  std::optional<index_t> window;  ///< on each side; none where dense
  double both_seconds = 0;        ///< forward and backward
  double extra_bytes = 0;
  std::string torch;           ///< its version
  double sgemm_flops = 0;      ///< a second
  index_t heads_measured = 0;  ///< if fewer than all, times and bytes are scaled up
};

/// The interpreter for the peers: the environment's WEIR_PYTHON, else python3.
std::string python_of_peers();

/// Whether that interpreter has this module.
bool has_module(const std::string& name);
inline bool has_torch() { return has_module("torch"); }

/// What `peers/SCRIPT --json ARGUMENTS` prints, run by that interpreter. Throws Error if it fails.
std::vector<std::string> lines_of_peer(const std::string& script, const std::string& arguments);

/// Attention of 8 heads x 64 with 4 globals on one thread at this length, for these windows, and
/// dense. Takes minutes at 16k. Throws Error if the script fails.
std::vector<PeerResult> run_torch_peers(index_t length, const std::vector<index_t>& windows);

}  // namespace weir::benchmark
