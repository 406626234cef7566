#pragma once

#include "worker/layers/held.hpp"
#include "worker/layers/pieces.hpp"

namespace weir::worker {

/// What the backward of a norm needs of one micro-batch.
struct NormActivations {
  Matrix x;     ///< [M, E]
  Vector mean;  ///< [M] f32, as the next
  Vector inverse_deviation;

  void take(Pieces& pieces, index_t rows, index_t width, Dtype dtype);
};

/// Layer norm over the features of each row (kernels.hpp says the formula). Each shard has its own
/// rows, and the gradients of weight and bias are sums over them.
struct Norm {
  HeldVector weight;  ///< [E]
  HeldVector bias;    ///< [E]

  /// x and out [M, E], own rows. In training keeps a copy of x, which the caller may
  /// overwrite afterwards.
  void forward(const Pass& pass, ConstMatrix x, const NormActivations& kept, Matrix out) const;
  /// Computes forward's `out` once more from what was kept, which is cheaper than M * E floats a
  /// slot.
  void again(const Pass& pass, const NormActivations& kept, Matrix out) const;
  /// x_gradient += gradient through the norm. Also adds the gradients of weight and bias, which
  /// fall out of the same pass over the rows.
  void backward(const Pass& pass, const NormActivations& kept, ConstMatrix out_gradient,
                Matrix x_gradient) const;
};

}  // namespace weir::worker
