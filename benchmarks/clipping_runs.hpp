#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::benchmark {

/// An optimizer at a rate that suits the model.
struct TunedOptimizer {
  std::string name;
  std::vector<std::string> options;
};

struct FaultCase {
  std::string name;
  std::string inject;  ///< as --inject wants it; empty: none
  /// The same steps with gradients that are not finite, which no policy lets pass: what is left of
  /// the damage when just the faulty steps are skipped. Empty: not asked.
  std::string oracle = "";
};

/// The name that stands in the place of a policy: `fixed`, with FaultCase::oracle.
inline constexpr const char* kOracle = "oracle";

/// A model and its data, what it is trained with, and what is done to it.
struct Setting {
  std::string name;
  std::vector<std::string> options;
  index_t steps = 0;
  std::vector<TunedOptimizer> optimizers;
  std::vector<FaultCase> faults;  ///< the first one is none
};

/// A byte model on the text `corpus`, with all faults, and a classifier of ListOps, with the
/// published schedule alone. `quick`: of everything next to nothing.
std::vector<Setting> clipping_settings(const std::string& corpus, bool quick);

/// What came out of one job.
struct Curve {
  /// The smoothed loss of clean batches after each step. Never above the first step's: what has
  /// diverged counts as an untrained model.
  std::vector<double> loss;
  double validation = 0;  ///< loss of the held-out data; the first step's loss if it has diverged
  double skipped = 0;     ///< steps
  bool diverged = false;  ///< ended with an error, or above the first step's loss
};

struct CurveJob {
  const Setting* setting = nullptr;
  std::size_t optimizer = 0;
  std::size_t fault = 0;
  std::string policy;
  index_t seed = 0;
};

/// Trains all, `at_once` at a time, in this order; calls done(index, curve) one after the other, as
/// they end.
void run_curves(const std::vector<CurveJob>& jobs, index_t at_once,
                const std::function<void(std::size_t, Curve)>& done);

}  // namespace weir::benchmark
