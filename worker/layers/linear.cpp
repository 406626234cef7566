#include "worker/layers/linear.hpp"

namespace weir::worker {

void ColumnLinear::forward(const Pass& pass, ConstMatrix x, Matrix out) const {
  pass.kernels.multiply_transposed(x, weight.weights(pass), bias.weights(pass), out);
}

void ColumnLinear::backward(const Pass& pass, ConstMatrix out_gradient, Matrix x_gradient) const {
  pass.kernels.multiply(out_gradient, weight.weights(pass), false, x_gradient);
}

void ColumnLinear::weight_gradient(const Pass& pass, ConstMatrix out_gradient,
                                   ConstMatrix x) const {
  pass.kernels.add_transposed_product(out_gradient, x, weight.gradients(pass));
  pass.kernels.add_column_sums(out_gradient, bias.gradients(pass));
}

void RowLinear::forward(const Pass& pass, ConstMatrix x, Matrix out) const {
  multiply(pass, x, out);
  sum(pass, out);
  add_bias(pass, out);
}

void RowLinear::multiply(const Pass& pass, ConstMatrix x, Matrix out) const {
  pass.kernels.multiply(x, weight.weights(pass), false, out);
}

void RowLinear::sum(const Pass& pass, Matrix out) const { pass.shards.sum(out.span()); }

void RowLinear::add_bias(const Pass& pass, Matrix out) const {
  pass.kernels.add_bias(bias.weights(pass), out);  // after the sum: every shard has all of it
}

void RowLinear::backward(const Pass& pass, ConstMatrix out_gradient, Matrix x_gradient) const {
  pass.kernels.multiply_transposed(out_gradient, weight.weights(pass), {}, x_gradient);
}

void RowLinear::weight_gradient(const Pass& pass, ConstMatrix out_gradient, ConstMatrix x) const {
  pass.kernels.add_transposed_product(x, out_gradient, weight.gradients(pass));
  pass.kernels.add_column_sums(out_gradient, bias.gradients(pass));
}

}  // namespace weir::worker
