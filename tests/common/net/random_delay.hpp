#pragma once

#include <random>

#include "common/base/wait.hpp"

namespace weir::test {

/// Now and then up to two milliseconds, so that ranks meet in every order.
inline void random_delay(std::mt19937& random) {
  if (random() % 4 == 0) sleep_microseconds(index_t(random() % 2000));
}

}  // namespace weir::test
