#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/base/index.hpp"
#include "common/number/dtype.hpp"

namespace weir {

/// How many micro-batches of a step each replica takes.
enum class BalanceKind {
  even,
  measured,  ///< slower replicas take fewer; the servers decide
};

/// The numbers that workers compute with. The servers' weights, sums and moments are f32 in all of
/// them, so a checkpoint of one goes on in every other.
enum class Precision {
  fp32,
  bf16,
  fp16,  ///< small range: the servers scale the loss (ps/decide/loss_scale.hpp)
};

inline const std::vector<std::pair<std::string, Precision>> kPrecisionNames = {
    {"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}};
std::string name_of(Precision precision);
/// What elements are in it.
Dtype dtype_of(Precision precision);

/// What workers and servers both need to know of a training: its length, its batches, the numbers
/// that it computes with, and the seed. It is said once here; the configurations of both hold this
/// struct whole.
struct Training {
  index_t steps = 1000;     ///< steps of the whole training
  index_t batch = 16;       ///< samples a step, over all replicas
  index_t micro_batch = 4;  ///< samples a forward
  index_t seed = 1;
  /// Steps between validations, for which all replicas have the same weights; 0: only at the end.
  index_t eval_every = 0;
  BalanceKind balance = BalanceKind::even;
  Precision precision = Precision::fp32;

  index_t micro_batches() const { return batch / micro_batch; }
  std::uint64_t random_seed() const { return static_cast<std::uint64_t>(seed); }
};

}  // namespace weir
