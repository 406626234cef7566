#pragma once

#include <array>
#include <cstdint>

#include "common/base/index.hpp"
#include "worker/data/listops/listops.hpp"

namespace weir::benchmark {

/// Right answers in %.
struct RuleAccuracies {
  double majority = 0;       ///< always the most frequent answer
  double root_operator = 0;  ///< the most frequent answer of the root's operator
  double own_digits = 0;  ///< the root's operator of the digits among its arguments; without any,
                          ///< as root_operator
};

/// Whether the root's operator, applied to the digits among its arguments alone (not to its nested
/// expressions), gives the expression's value.
bool own_digits_suffice(const worker::ListopsExpression& expression);

/// Answers to ListOps that need no model: what a model has to beat to have read more.
class ListopsRules {
 public:
  /// Learns frequencies from the first `samples` training samples of the data set of this seed.
  ListopsRules(index_t seed, index_t samples);
  /// On the first `samples` of its test samples.
  RuleAccuracies accuracies(index_t samples) const;

 private:
  using Counts = std::array<index_t, 10>;  ///< a count for each answer

  std::uint64_t seed_;
  Counts answers_{};
  std::array<Counts, 4> answers_of_root_{};  ///< one for each operator
};

}  // namespace weir::benchmark
