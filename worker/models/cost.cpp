#include "worker/models/cost.hpp"

namespace weir::worker {

index_t visible_pairs(const Sparsity& sparsity, index_t length) {
  index_t pairs = 0;
  for (index_t query = 0; query < length; ++query) {
    pairs += visible_count(query, length, sparsity);
  }
  return pairs;
}

double unit_flops(const ModelConfig& config, index_t unit) {
  const auto width = static_cast<double>(config.width);
  const auto length = static_cast<double>(config.length);
  if (unit == 0) return 0;
  if (unit <= config.layers) {
    // A product forward, one for the input's gradient, one for the weights': 3 times 2 a weight.
    const double weights = 4 * width * width + 2 * width * static_cast<double>(config.feed_forward);
    // Forward q k^T and p v, backward four: 6 times 2 for each pair and feature.
    const auto pairs = static_cast<double>(visible_pairs(config.sparsity(), config.length));
    return 6 * length * weights + 12 * pairs * width;
  }
  return config.task == Task::language ? 6 * length * width * static_cast<double>(config.vocabulary)
                                       : 6 * width * static_cast<double>(config.classes);
}

double model_flops_a_sample(const ModelConfig& config) {
  double sum = 0;
  const double block = unit_flops(config, 1);
  for (index_t unit = 0; unit < config.unit_count(); ++unit) {
    sum += unit >= 1 && unit <= config.layers ? block : unit_flops(config, unit);
  }
  return sum;
}

}  // namespace weir::worker
