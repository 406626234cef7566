#include "worker/layers/dropout.hpp"

namespace weir::worker {

void Dropout::apply(const Pass& pass, const MicroBatch& batch, Matrix values) const {
  if (!pass.training || rate == 0) return;
  for (const auto& [sequence, tokens, row] : batch.pieces_of(pass.shards.own_rows(batch.rows()))) {
    pass.kernels.dropout({.rate = static_cast<float>(rate),
                          .seed = pass.seed,
                          .layer = stream,
                          .samples = batch.samples.subspan(sequence, 1),
                          .tokens_a_sample = tokens.count(),
                          .first_token = batch.first + tokens.begin,
                          .first_feature = 0,
                          .width = values.extent(1)},
                         values.rows(row, tokens.count()));
  }
}

}  // namespace weir::worker
