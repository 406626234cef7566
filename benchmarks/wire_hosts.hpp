#pragma once

#include "benchmarks/bench.hpp"

namespace weir::benchmark {

/// Tokens/s of the quick-start model on two hosts of this machine, two workers on one and the
/// server on the other: for each wire format, with each replica by itself and with both as a group.
/// Remarks on it if hosts are not permitted here.
void measure_over_hosts(const Options& options, Report& report);

}  // namespace weir::benchmark
