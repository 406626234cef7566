#pragma once

#include "benchmarks/bench.hpp"

namespace weir::benchmark {

/// What clipping costs a step of a model of ten million parameters: the squares of the summed
/// gradient, the decision of server 0, and update_rms's pass, each timed by itself, beside the
/// median step of such a model on one core. (The coefficient is part of the optimizer's pass.)
void report_overhead(const Options& options, const std::string& corpus, Report& report);

}  // namespace weir::benchmark
