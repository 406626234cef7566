#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.hpp"
#include "common/number/tensor.hpp"

namespace weir::worker {

/// What a data set has of each sample under one name. The data sets here use
///
///   tokens   ragged: what is read
///   targets  ragged: the token after each of them
///   labels   once a sample: its class
struct ColumnShape {
  std::string name;
  Dtype dtype = Dtype::i32;
  /// true: `elements` at each position of the sample, which may be short of DataShape::length; the
  /// rest is padding, and contexts cut it. false: `elements` once a sample.
  bool ragged = false;
  index_t elements = 1;
  index_t values = 0;  ///< whole numbers 0 … values - 1; 0: whatever the dtype holds
  /// Whether a model predicts this column instead of reading it. Whole numbers are -1 where there
  /// is no loss term.
  bool is_target = false;
};

/// What each sample of a data set has. A model is made for it.
struct DataShape {
  index_t length = 1;  ///< positions of a sample, padding included
  std::vector<ColumnShape> columns;

  /// None if there is no such column.
  const ColumnShape* find(std::string_view name) const {
    const auto found = std::ranges::find(columns, name, &ColumnShape::name);
    return found == columns.end() ? nullptr : &*found;
  }
};

/// One column of a sample or of a micro-batch. The name outlives it.
template <class Byte>
struct ColumnOf {
  std::string_view name;
  VectorOf<Byte> values;
};
using Column = ColumnOf<std::byte>;
using ConstColumn = ColumnOf<const std::byte>;

/// The column of this name, which must be there: whoever makes the model checks that the data have
/// what it reads.
template <class Byte>
VectorOf<Byte> column_of(const std::vector<ColumnOf<Byte>>& columns, std::string_view name) {
  const auto found = std::ranges::find(columns, name, &ColumnOf<Byte>::name);
  WEIR_ASSERT(found != columns.end());
  return found->values;
}

}  // namespace weir::worker
