#include "worker/layers/feed_forward.hpp"

namespace weir::worker {

void FeedForwardActivations::take(Pieces& pieces, index_t rows, index_t width, Dtype dtype) {
  inner = pieces.matrix(rows, width, dtype);
}

void FeedForwardLayer::forward(const Pass& pass, ConstMatrix x, const FeedForwardActivations& kept,
                               Matrix hidden, Matrix out) const {
  const Matrix inner = kept.inner.rows(0, x.extent(0));
  up.forward(pass, x, inner);
  pass.kernels.gelu(inner.flat(), hidden.flat());
  down.forward(pass, hidden, out);
}

void FeedForwardLayer::backward(const Pass& pass, const FeedForwardActivations& kept,
                                ConstMatrix out_gradient, Matrix hidden_gradient,
                                Matrix x_gradient) const {
  down.backward(pass, out_gradient, hidden_gradient);
  pass.kernels.gelu_backward(kept.inner.rows(0, out_gradient.extent(0)).flat(),
                             hidden_gradient.flat());
  up.backward(pass, hidden_gradient, x_gradient);
}

void FeedForwardLayer::weight_gradient(const Pass& pass, const FeedForwardActivations& kept,
                                       ConstMatrix x, ConstMatrix out_gradient,
                                       ConstMatrix hidden_gradient) const {
  down.weight_gradient(pass, out_gradient, kept.inner.rows(0, x.extent(0)));
  up.weight_gradient(pass, hidden_gradient, x);
}

}  // namespace weir::worker
