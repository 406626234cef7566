#include "worker/layers/embedding.hpp"

namespace weir::worker {

void Embedding::forward(const Pass& pass, const MicroBatch& batch, Matrix out) const {
  pass.kernels.fill(out.flat(), 0);
  if (table.rows > 0)
    pass.kernels.gather(batch.integers("tokens"), table.weights(pass), first_row, out);
  pass.shards.sum_rows(out);
  if (!positions) return;
  const Interval own = pass.shards.own_rows(batch.rows());
  const ConstMatrix places = positions->weights(pass).rows(batch.first, batch.length);
  for (const auto& [sequence, tokens, row] : batch.pieces_of(own)) {
    pass.kernels.add(places.rows(tokens.begin, tokens.count()).flat(),
                     out.rows(own.begin + row, tokens.count()).flat());
  }
}

void Embedding::weight_gradient(const Pass& pass, const MicroBatch& batch,
                                ConstMatrix out_gradient) const {
  if (table.rows > 0) {
    pass.kernels.scatter_add(batch.integers("tokens"), out_gradient, first_row,
                             table.gradients(pass));
  }
  if (!positions) return;
  const Interval own = pass.shards.own_rows(batch.rows());
  const Matrix places = positions->gradients(pass).rows(batch.first, batch.length);
  for (const auto& [sequence, tokens, row] : batch.pieces_of(own)) {
    pass.kernels.add(out_gradient.rows(own.begin + row, tokens.count()).flat(),
                     places.rows(tokens.begin, tokens.count()).flat());
  }
}

}  // namespace weir::worker
