#include "worker/models/embedding.hpp"

#include "common/number/random.hpp"

namespace weir::worker {

EmbeddingUnit::EmbeddingUnit(const ModelConfig& config, const HeldParameters& parameters,
                             std::shared_ptr<Scratch> scratch)
    : embedding_{.table = parameters.matrix("embedding.weight"),
                 .first_row = parameters.first_row("embedding.weight"),
                 .positions = std::nullopt},
      dropout_{config.dropout, stream_of("embedding.dropout")},
      scratch_(std::move(scratch)) {
  if (config.positions == Positions::learned) {
    embedding_.positions = parameters.matrix("positions.weight");
  }
}

Loss EmbeddingUnit::forward(const Pass& pass, const MicroBatch& batch, index_t /*slot*/, Matrix x) {
  embedding_.forward(pass, batch, x);
  dropout_.apply(pass, batch, x);
  return {};
}

void EmbeddingUnit::backward(const Pass& pass, const MicroBatch& batch, index_t /*slot*/,
                             Matrix gradient) {
  const Matrix kept = scratch_->normed.rows(0, batch.rows());
  pass.kernels.copy(gradient.flat(), kept.flat());
  dropout_.apply(pass, batch, kept);
}

void EmbeddingUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, index_t /*slot*/) {
  embedding_.weight_gradient(pass, batch, scratch_->normed.rows(0, batch.rows()));
}

}  // namespace weir::worker
