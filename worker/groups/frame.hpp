#pragma once

#include <vector>

#include "common/number/tensor.hpp"

namespace weir::worker {

/// How many sequences of a micro-batch a worker has, how many tokens of each, padding included, and
/// how many of these rows are its own (TensorGroup): all of them if it is the only shard.
struct BatchShape {
  index_t sequences = 0;
  index_t length = 0;
  index_t own_rows = 0;
  index_t rows() const { return sequences * length; }
};

/// A tensor without its memory.
struct TensorShape {
  Dtype dtype = Dtype::f32;
  index_t rows = 0;
  index_t columns = 0;

  index_t bytes() const { return rows * columns * bytes_of(dtype); }
  bool operator==(const TensorShape&) const = default;
};

/// The shapes of the tensors at a border between two units: activations forward and, with the same
/// shapes, their gradients backward. The model says which they are (Model::frame).
using FrameShape = std::vector<TensorShape>;
/// The tensors themselves.
using Frame = std::vector<Matrix>;

}  // namespace weir::worker
