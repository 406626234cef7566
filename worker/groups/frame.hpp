#pragma once

#include <vector>

#include "common/number/tensor.hpp"

namespace weir::worker {

/// Sequences and tokens of each, padding included, that a worker has of a micro-batch.
struct BatchShape {
  index_t sequences = 0;
  index_t length = 0;
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

/// The tensors at a border between two units, without their memory: activations forward and, of the
/// same shapes, their gradients backward. Which they are the model says (Model::frame).
using FrameShape = std::vector<TensorShape>;
/// And with it.
using Frame = std::vector<Matrix>;

}  // namespace weir::worker
