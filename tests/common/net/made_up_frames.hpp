#pragma once

#include <span>

#include "common/base/index.hpp"

namespace weir::test {

/// What frame `frame` holds in round `round`: whatever arrives says where it comes from.
inline float value_of(index_t round, index_t frame, index_t element) {
  return static_cast<float>((round * 7919 + frame * 104729 + element) % (1 << 24));
}

inline void fill(std::span<float> values, index_t round, index_t frame) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value_of(round, frame, index_t(i));
}

inline index_t wrong_values(std::span<const float> values, index_t round, index_t frame) {
  index_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    wrong += values[i] != value_of(round, frame, index_t(i));
  }
  return wrong;
}

}  // namespace weir::test
