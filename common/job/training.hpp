#pragma once

#include <cstdint>

#include "common/base/index.hpp"

namespace weir {

/// How many micro-batches of a step each replica takes.
enum class BalanceKind {
  even,
  measured,  ///< slower replicas take fewer; the servers decide
};

/// What workers and servers both need to know of a training: its length, its batches, and the seed.
/// It is said once here; the configurations of both hold this struct whole.
struct Training {
  index_t steps = 1000;     ///< steps of the whole training
  index_t batch = 16;       ///< samples a step, over all replicas
  index_t micro_batch = 4;  ///< samples a forward
  index_t seed = 1;
  /// Steps between validations, for which all replicas have the same weights; 0: only at the end.
  index_t eval_every = 0;
  BalanceKind balance = BalanceKind::even;

  index_t micro_batches() const { return batch / micro_batch; }
  std::uint64_t random_seed() const { return static_cast<std::uint64_t>(seed); }
};

}  // namespace weir
