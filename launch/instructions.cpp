#include "launch/instructions.hpp"

#include <array>

#include "common/base/log.hpp"

namespace weir {

void agree_on_instructions(const Ranks& ranks, worker::ProductChoice& products) {
  const auto own = static_cast<double>(products.instructions);
  std::array<double, 2> ends = {own, -own};
  ranks.max(ends);
  const auto strongest = static_cast<worker::Instructions>(ends[0]);
  products.instructions = static_cast<worker::Instructions>(-ends[1]);
  if (strongest == products.instructions || ranks.rank() != 0) return;
  log_warning(text("the ranks have processors of different kinds, from ",
                   name_of(products.instructions), " to ", name_of(strongest),
                   ": all make matrix products as on the weakest (", products.describe(),
                   "), and the last bits of results depend on which rank runs where"));
}

}  // namespace weir
