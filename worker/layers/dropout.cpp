#include "worker/layers/dropout.hpp"

namespace weir::worker {

void Dropout::apply(const Pass& pass, const MicroBatch& batch, Matrix values) const {
  if (!pass.training || rate == 0) return;
  pass.kernels.dropout({.rate = static_cast<float>(rate),
                        .seed = pass.seed,
                        .layer = stream,
                        .samples = batch.samples,
                        .tokens_a_sample = batch.length,
                        .first_token = batch.first,
                        .first_feature = 0,
                        .width = values.extent(1)},
                       values);
}

}  // namespace weir::worker
