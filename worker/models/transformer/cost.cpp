#include "worker/models/transformer/cost.hpp"

namespace weir::worker {

index_t visible_pairs(const Sparsity& sparsity, index_t length) {
  index_t pairs = 0;
  for (index_t query = 0; query < length; ++query) {
    pairs += visible_count(query, length, sparsity);
  }
  return pairs;
}

namespace {

/// Window attention's pairs: all queries but global ones with projections of their own.
index_t window_pairs(const Sparsity& sparsity, index_t length) {
  index_t pairs = visible_pairs(sparsity, length);
  if (sparsity.form == GlobalForm::shared) return pairs;
  for (const index_t query : sparsity.globals.positions()) {
    if (query < length) pairs -= visible_count(query, length, sparsity);
  }
  return pairs;
}

double branch_flops(const ModelConfig& config) {
  const Sparsity sparsity = config.sparsity();
  if (sparsity.form == GlobalForm::shared || sparsity.globals.count() == 0) return 0;
  const auto rows = static_cast<double>(sparsity.globals.count());
  const auto width = static_cast<double>(config.width);
  // Query, folded key, unfolded value; in the form `split` an output, too.
  const double weights = (sparsity.form == GlobalForm::split ? 4 : 3) * width * width;
  const index_t last = sparsity.globals.positions().back();
  const index_t tokens = visible_keys(last, config.length, sparsity).last;
  // Each head meets whole rows of x: forward scores and means, backward four more.
  const auto heads = static_cast<double>(config.branch_heads());
  return 6 * rows * weights + 12 * rows * heads * static_cast<double>(tokens) * width;
}

double block_flops(const ModelConfig& config) {
  const auto width = static_cast<double>(config.width);
  // A product forward, one for the input's gradient, one for the weights': 3 times 2 a weight.
  const double weights = 4 * width * width + 2 * width * static_cast<double>(config.feed_forward);
  // Forward q k^T and p v, backward four: 6 times 2 for each pair and feature.
  const auto pairs = static_cast<double>(window_pairs(config.sparsity(), config.length));
  return 6 * static_cast<double>(config.length) * weights + 12 * pairs * width +
         branch_flops(config);
}

double head_flops(const ModelConfig& config) {
  return config.task == Task::language
             ? 6 * static_cast<double>(config.length) * static_cast<double>(config.width) *
                   static_cast<double>(config.vocabulary)
             : 6 * static_cast<double>(config.pooled_width()) * static_cast<double>(config.classes);
}

}  // namespace

double model_flops_a_sample(const ModelConfig& config) {
  return static_cast<double>(config.layers) * block_flops(config) + head_flops(config);
}

}  // namespace weir::worker
