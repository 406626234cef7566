#include "worker/layers/global_branch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weir::worker {

void GlobalBranchActivations::take(Pieces& pieces, const GlobalBranchShape& shape) {
  const index_t rows = shape.sequences * shape.globals;
  x = pieces.vector(rows * (shape.width + 1), shape.dtype);
  query = pieces.matrix(rows, shape.heads * shape.head_size, shape.dtype);
  folded = pieces.matrix(rows * shape.heads, shape.width, shape.dtype);
  mean = pieces.matrix(rows * shape.heads, shape.width, shape.dtype);
  log_sum = pieces.vector(rows * shape.heads);
}

void GlobalBranchScratch::take(Pieces& pieces, const GlobalBranchShape& shape) {
  const index_t rows = shape.sequences * shape.globals;
  const index_t heads = shape.heads;
  const index_t width = shape.width;
  strip_tokens = shape.strip_tokens;
  strip = pieces.matrix(2 * shape.globals * heads, strip_tokens, shape.dtype);
  factors = pieces.matrix(2 * shape.globals * heads, width, shape.dtype);
  part = pieces.vector(rows * heads * (width + 2));
  parts = pieces.vector(shape.contexts * rows * heads * (width + 2));
  mean_gradient = pieces.matrix(rows * heads, width, shape.dtype);
  folded_gradient = pieces.matrix(rows * heads, width);
  mean_product = pieces.vector(rows * heads);
  heads_gradient = pieces.matrix(rows, heads * shape.head_size, shape.dtype);
  query_gradient = pieces.matrix(rows, heads * shape.head_size, shape.dtype);
  x_gradient = pieces.matrix(rows, width, shape.dtype);
}

namespace {

/// The global rows of one micro-batch.
struct Rows {
  Rows(const GlobalBranch& branch, const MicroBatch& micro_batch)
      : batch(micro_batch),
        sparsity(branch.sparsity),
        globals(sparsity.globals.count()),
        heads(branch.heads),
        width(branch.query.columns),
        here(batch.rows_of(sparsity.globals.positions())) {}

  const MicroBatch& batch;
  const Sparsity& sparsity;
  index_t globals, heads, width;
  std::vector<index_t> here;  ///< [B * G], rows of x; -1: not on this context

  index_t count() const { return batch.sequences * globals; }
  index_t folded() const { return count() * heads; }
  index_t folded_a_sequence() const { return globals * heads; }
  float scale(const GlobalBranch& branch) const {
    return 1 / std::sqrt(static_cast<float>(branch.query.rows / heads));
  }
  /// Tokens of sequence `b` here that each global row sees: those before limits[g].
  std::vector<index_t> limits(index_t b) const {
    std::vector<index_t> result;
    const index_t length = batch.lengths[b];
    for (const index_t position : sparsity.globals.positions()) {
      const index_t last = visible_keys(position, length, sparsity).last;
      result.push_back(std::clamp<index_t>(last - batch.first, 0, batch.length));
    }
    return result;
  }

  Matrix inputs(const GlobalBranchActivations& kept) const { return {kept.x, count(), width}; }
  /// 1 for a row that sees something, 0 for one that does not or that no context holds.
  Vector seeing(const GlobalBranchActivations& kept) const {
    return kept.x.part(count() * width, count());
  }
  template <class M>
  auto of_sequence(const M& x, index_t b) const {
    return x.rows(b * batch.length, batch.length);
  }
};

/// Collects the inputs of the global rows on every context: each context adds the rows that it
/// holds to zeros, which is exact.
void collect_inputs(const Pass& pass, const Rows& rows, ConstMatrix x,
                    const GlobalBranchActivations& kept) {
  const Vector all = kept.x.first(rows.count() * (rows.width + 1));
  pass.kernels.gather_rows(x, rows.here, 0, rows.inputs(kept));
  std::vector<index_t> seeing;
  for (index_t row = 0; row < rows.count(); ++row) {
    const index_t length = rows.batch.lengths[row / rows.globals];
    if (rows.here[row] >= 0 && length > 0) seeing.push_back(row);
  }
  pass.kernels.fill(rows.seeing(kept), 0);
  pass.kernels.fill_rows(seeing, 1, Matrix(rows.seeing(kept), rows.count(), 1));
  pass.contexts.sum(all);
}

}  // namespace

void GlobalBranch::forward(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
                           const GlobalBranchActivations& kept, const GlobalBranchScratch& scratch,
                           Matrix out) const {
  Kernels& kernels = pass.kernels;
  const Rows rows(*this, batch);
  if (rows.count() == 0) return;
  const Matrix queries = kept.query.rows(0, rows.count());
  const Matrix folded = kept.folded.rows(0, rows.folded());
  const Matrix mean = kept.mean.rows(0, rows.folded());
  collect_inputs(pass, rows, x, kept);
  kernels.multiply_transposed(rows.inputs(kept), query.weights(pass), query_bias.weights(pass),
                              queries);
  kernels.fold(queries, key.weights(pass), heads, rows.scale(*this), folded);

  // This context's part of each softmax over its tokens, strip by strip: y = sum of p x, not yet
  // divided by the sum of p.
  // This context's part of each softmax over its tokens, strip by strip: y = sum of p x, not yet
  // divided by the sum of p.
  const Vector part = scratch.part.first(rows.folded() * (rows.width + 2));
  const Vector maximum = part.first(rows.folded());
  const Vector sum = part.part(rows.folded(), rows.folded());
  const Matrix weighted(part.last(rows.folded() * rows.width), rows.folded(), rows.width);
  kernels.fill(part, 0);
  kernels.fill(maximum, -std::numeric_limits<float>::infinity());
  for (index_t b = 0; b < batch.sequences; ++b) {
    const index_t size = rows.folded_a_sequence();
    const index_t row = b * size;
    const ConstMatrix sequence_folded = folded.rows(row, size);
    const Matrix sums = weighted.rows(row, size);
    const std::vector<index_t> limits = rows.limits(b);
    const index_t end = std::ranges::max(limits);
    for (index_t begin = 0; begin < end; begin += scratch.strip_tokens) {
      const index_t count = std::min(scratch.strip_tokens, end - begin);
      const ConstMatrix tokens = rows.of_sequence(x, b).rows(begin, count);
      const Matrix scores(scratch.strip.flat(), size, count);
      kernels.multiply_transposed(sequence_folded, tokens, {}, scores);
      kernels.continue_softmax(limits, begin, scores, maximum.part(row, size), sum.part(row, size),
                               sums);
      kernels.multiply(scores, tokens, true, sums);
    }
  }
  // The parts of all contexts are joined; then the value projection is applied to the mean.
  // The parts of all contexts are joined; then the value projection is applied to the mean.
  const Vector parts = scratch.parts.first(pass.contexts.size() * part.size());
  pass.contexts.gather(part, parts);
  kernels.join_softmax(parts, pass.contexts.size(), kept.log_sum.first(rows.folded()), mean);

  kernels.unfold(mean, value.weights(pass), heads, 1, out);
  kernels.add_bias(value_bias.weights(pass), out);
  kernels.scale_rows(rows.seeing(kept), out);
}

void GlobalBranch::backward(const Pass& pass, const MicroBatch& batch,
                            const GlobalBranchActivations& kept, ConstMatrix x,
                            ConstMatrix out_gradient, const GlobalBranchScratch& scratch,
                            Matrix x_gradient) const {
  Kernels& kernels = pass.kernels;
  const Rows rows(*this, batch);
  if (rows.count() == 0) return;
  const Matrix queries = kept.query.rows(0, rows.count());
  const Matrix folded = kept.folded.rows(0, rows.folded());
  const Matrix mean = kept.mean.rows(0, rows.folded());
  const Matrix heads_gradient = scratch.heads_gradient.rows(0, rows.count());
  const Matrix mean_gradient = scratch.mean_gradient.rows(0, rows.folded());
  const Matrix folded_gradient = scratch.folded_gradient.rows(0, rows.folded());
  const Vector mean_product = scratch.mean_product.first(rows.folded());
  // The gradient of y, and its product with y, which every slope of the softmax needs.
  // The gradient of y, and its product with y, which every slope of the softmax needs.
  kernels.copy(out_gradient.flat(), heads_gradient.flat());
  kernels.scale_rows(rows.seeing(kept), heads_gradient);
  kernels.fold(heads_gradient, value.weights(pass), heads, 1, mean_gradient);
  kernels.row_products(mean, mean_gradient, mean_product);

  kernels.fill(folded_gradient.flat(), 0);
  for (index_t b = 0; b < batch.sequences; ++b) {
    const index_t size = rows.folded_a_sequence();
    const index_t row = b * size;
    // u and the gradient of y are both multiplied by the same x, twice: side by side they need two
    // products instead of four.
    kernels.copy(folded.rows(row, size).flat(), scratch.factors.rows(0, size).flat());
    kernels.copy(mean_gradient.rows(row, size).flat(), scratch.factors.rows(size, size).flat());
    const std::vector<index_t> limits = rows.limits(b);
    const index_t end = std::ranges::max(limits);
    for (index_t begin = 0; begin < end; begin += scratch.strip_tokens) {
      const index_t count = std::min(scratch.strip_tokens, end - begin);
      const ConstMatrix tokens = rows.of_sequence(x, b).rows(begin, count);
      const Matrix both(scratch.strip.flat(), 2 * size, count);
      const Matrix scores = both.rows(0, size);
      kernels.multiply_transposed(scratch.factors, tokens, {}, both);
      kernels.softmax_slopes(limits, begin, kept.log_sum.part(row, size),
                             mean_product.part(row, size), scores, both.rows(size, size));
      kernels.multiply(scores, tokens, true, folded_gradient.rows(row, size));
      kernels.add_transposed_product(both, scratch.factors,
                                     rows.of_sequence(x_gradient, b).rows(begin, count));
    }
  }
  pass.contexts.sum(folded_gradient.flat());

  // From the gradient of u back through the fold to the queries, the weights and the inputs.
  const Matrix query_gradient = scratch.query_gradient.rows(0, rows.count());
  const Matrix inputs_gradient = scratch.x_gradient.rows(0, rows.count());
  kernels.unfold(folded_gradient, key.weights(pass), heads, rows.scale(*this), query_gradient);
  kernels.multiply(query_gradient, query.weights(pass), false, inputs_gradient);
  kernels.scatter_rows(inputs_gradient, rows.here, 0, true, x_gradient);
  if (pass.contexts.index() > 0) return;  // every context has the same gradients gradients
  kernels.add_fold_gradient(heads_gradient, mean, heads, 1, value.gradients(pass));
  kernels.add_column_sums(heads_gradient, value_bias.gradients(pass));
  kernels.add_fold_gradient(queries, folded_gradient, heads, rows.scale(*this),
                            key.gradients(pass));
  kernels.add_transposed_product(query_gradient, rows.inputs(kept), query.gradients(pass));
  kernels.add_column_sums(query_gradient, query_bias.gradients(pass));
}

}  // namespace weir::worker
