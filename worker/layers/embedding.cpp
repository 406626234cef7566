#include "worker/layers/embedding.hpp"

namespace weir::worker {

void Embedding::forward(const Pass& pass, const MicroBatch& batch, Matrix out) const {
  pass.kernels.fill(out.flat(), 0);
  if (table.rows > 0)
    pass.kernels.gather(batch.integers("tokens"), table.weights(pass), first_row, out);
  pass.shards.sum(out.flat());
  if (!positions) return;
  const ConstMatrix places = positions->weights(pass).rows(batch.first, batch.length);
  for (index_t sequence = 0; sequence < batch.sequences; ++sequence) {
    pass.kernels.add(places.flat(), out.rows(sequence * batch.length, batch.length).flat());
  }
}

void Embedding::weight_gradient(const Pass& pass, const MicroBatch& batch,
                                ConstMatrix out_gradient) const {
  if (table.rows > 0) {
    pass.kernels.scatter_add(batch.integers("tokens"), out_gradient, first_row,
                             table.gradients(pass));
  }
  if (!positions) return;
  const Matrix places = positions->gradients(pass).rows(batch.first, batch.length);
  for (index_t sequence = 0; sequence < batch.sequences; ++sequence) {
    pass.kernels.add(out_gradient.rows(sequence * batch.length, batch.length).flat(),
                     places.flat());
  }
}

}  // namespace weir::worker
