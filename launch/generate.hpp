#pragma once

#include <span>

#include "common/base/index.hpp"

namespace weir {

/// A token drawn from softmax(logits / temperature) over the `top_k` greatest logits (0: all of
/// them), by inversion of `draw`, which is uniform in [0, 1). Temperature 0 takes the greatest. Of
/// equal logits the one with the lower index comes first. Throws Error if a logit is not finite.
index_t choose_token(std::span<const float> logits, double temperature, index_t top_k, double draw);

}  // namespace weir
