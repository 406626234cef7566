#pragma once

#include "launch/ranks.hpp"
#include "worker/kernels/cpu/product_choice.hpp"

namespace weir {

/// All ranks make products as the one with the weakest instructions does; sets the instructions of
/// `products` to those. Rank 0 warns if the ranks' processors differ. Collective.
void agree_on_instructions(const Ranks& ranks, worker::ProductChoice& products);

}  // namespace weir
