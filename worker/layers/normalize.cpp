#include "worker/layers/normalize.hpp"

namespace weir::worker {

void NormActivations::take(Pieces& pieces, index_t rows, index_t width, Dtype dtype) {
  x = pieces.matrix(rows, width, dtype);
  mean = pieces.vector(rows);
  inverse_deviation = pieces.vector(rows);
}

void Norm::forward(const Pass& pass, ConstMatrix x, const NormActivations& kept, Matrix out) const {
  const index_t rows = x.extent(0);
  if (pass.training) pass.kernels.copy(x.flat(), kept.x.rows(0, x.extent(0)).flat());
  pass.kernels.layer_norm(x, weight.weights(pass), bias.weights(pass), out, kept.mean.first(rows),
                          kept.inverse_deviation.first(rows));
}

void Norm::again(const Pass& pass, const NormActivations& kept, Matrix out) const {
  const index_t rows = out.extent(0);
  pass.kernels.layer_norm(kept.x.rows(0, out.extent(0)), weight.weights(pass), bias.weights(pass),
                          out, kept.mean.first(rows), kept.inverse_deviation.first(rows));
}

void Norm::backward(const Pass& pass, const NormActivations& kept, ConstMatrix out_gradient,
                    Matrix x_gradient) const {
  const index_t rows = x_gradient.extent(0);
  pass.kernels.layer_norm_backward(kept.x.rows(0, x_gradient.extent(0)), weight.weights(pass),
                                   kept.mean.first(rows), kept.inverse_deviation.first(rows),
                                   out_gradient, x_gradient, weight.gradients(pass),
                                   bias.gradients(pass));
}

}  // namespace weir::worker
