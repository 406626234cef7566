#include "worker/layers/linear.hpp"

#include "common/number/memory.hpp"

namespace weir::worker {

namespace {

/// A vector of all outputs in which those without a bias are zero, and its two other parts.
struct WholeBias {
  WholeBias(index_t outputs, Interval unbiased, const Kernels& kernels, Dtype dtype)
      : memory(outputs, bytes_of(dtype), kernels.memory()),
        all(memory.elements(dtype)),
        before(all.first(unbiased.begin)),
        after(all.last(outputs - unbiased.end)) {}
  Memory memory;
  Vector all;
  Vector before;
  Vector after;
};

}  // namespace

void ColumnLinear::forward(const Pass& pass, ConstMatrix x, Matrix out) const {
  const ConstVector held = bias.weights(pass);
  if (unbiased.count() == 0) {
    pass.kernels.multiply_transposed(x, weight.weights(pass), held, out);
    return;
  }
  const WholeBias whole(weight.rows, unbiased, pass.kernels, held.dtype());
  pass.kernels.copy(held.first(whole.before.size()), whole.before);
  pass.kernels.copy(held.last(whole.after.size()), whole.after);
  pass.kernels.multiply_transposed(x, weight.weights(pass), whole.all, out);
}

void ColumnLinear::backward(const Pass& pass, ConstMatrix out_gradient, Matrix x_gradient) const {
  pass.kernels.multiply(out_gradient, weight.weights(pass), false, x_gradient);
}

void ColumnLinear::weight_gradient(const Pass& pass, ConstMatrix out_gradient,
                                   ConstMatrix x) const {
  pass.kernels.add_transposed_product(out_gradient, x, weight.gradients(pass));
  const Vector held = bias.gradients(pass);
  if (unbiased.count() == 0) {
    pass.kernels.add_column_sums(out_gradient, held);
    return;
  }
  const WholeBias whole(weight.rows, unbiased, pass.kernels, held.dtype());
  pass.kernels.add_column_sums(out_gradient, whole.all);
  pass.kernels.add(whole.before, held.first(whole.before.size()));
  pass.kernels.add(whole.after, held.last(whole.after.size()));
}

void RowLinear::forward(const Pass& pass, ConstMatrix x, Matrix out) const {
  multiply(pass, x, out);
  sum(pass, out);
  add_bias(pass, pass.shards.own_rows(out));
}

void RowLinear::multiply(const Pass& pass, ConstMatrix x, Matrix out) const {
  pass.kernels.multiply(x, weight.weights(pass), false, out);
}

void RowLinear::sum(const Pass& pass, Matrix out) const { pass.shards.sum_rows(out); }

void RowLinear::add_bias(const Pass& pass, Matrix rows) const {
  pass.kernels.add_bias(bias.weights(pass), rows);  // after the sum: every shard has all of it
}

void RowLinear::backward(const Pass& pass, ConstMatrix out_gradient, Matrix x_gradient) const {
  pass.kernels.multiply_transposed(out_gradient, weight.weights(pass), {}, x_gradient);
}

void RowLinear::weight_gradient(const Pass& pass, ConstMatrix out_gradient, ConstMatrix x) const {
  pass.kernels.add_transposed_product(x, out_gradient, weight.gradients(pass));
  pass.kernels.add_column_sums(pass.shards.own_rows(out_gradient), bias.gradients(pass));
}

}  // namespace weir::worker
