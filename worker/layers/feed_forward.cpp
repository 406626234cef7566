#include "worker/layers/feed_forward.hpp"

namespace weir::worker {

void FeedForwardActivations::take(Pieces& pieces, index_t rows, index_t width, Dtype dtype) {
  before_gelu = pieces.matrix(rows, width, dtype);
}

void FeedForwardLayer::forward(const Pass& pass, ConstMatrix x, const FeedForwardActivations& kept,
                               Matrix hidden, Matrix out) const {
  const Matrix before = kept.before_gelu.rows(0, x.extent(0));
  up.forward(pass, x, before);
  pass.kernels.gelu(before.flat(), hidden.flat());
  down.forward(pass, hidden, out);
}

void FeedForwardLayer::backward(const Pass& pass, const FeedForwardActivations& kept,
                                ConstMatrix out_gradient, Matrix hidden_gradient,
                                Matrix x_gradient) const {
  const ConstMatrix before = kept.before_gelu.rows(0, out_gradient.extent(0));
  down.backward(pass, out_gradient, hidden_gradient);
  pass.kernels.gelu_backward(before.flat(), hidden_gradient.flat());
  up.backward(pass, hidden_gradient, x_gradient);
}

void FeedForwardLayer::weight_gradient(const Pass& pass, const FeedForwardActivations& kept,
                                       ConstMatrix x, ConstMatrix out_gradient,
                                       ConstMatrix hidden_gradient, Matrix hidden) const {
  pass.kernels.gelu(kept.before_gelu.rows(0, x.extent(0)).flat(), hidden.flat());
  down.weight_gradient(pass, out_gradient, hidden);
  up.weight_gradient(pass, hidden_gradient, x);
}

}  // namespace weir::worker
