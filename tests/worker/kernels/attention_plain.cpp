#include "tests/worker/kernels/attention_case.hpp"

namespace weir::worker::test {
PlainResult run_plain(const AttentionCase& c, const Block& qkv, const Block& upstream) {
  const index_t width = c.width();
  PlainResult result;
  result.out.resize(c.sequences() * c.tokens * width);
  result.log_sum.resize(c.sequences() * c.heads * c.tokens,
                        -std::numeric_limits<double>::infinity());
  std::vector<float> gradient(c.sequences() * c.tokens * 3 * width);
  std::vector<float> terms(gradient.size());
  const float scale = 1 / std::sqrt(static_cast<float>(c.channels));
  for (index_t b = 0; b < c.sequences(); ++b) {
    for (index_t h = 0; h < c.heads; ++h) {
      const auto row = [&](const Block& from, index_t i, index_t part) {
        return from.view()[b * c.tokens + i].data() + part * width + h * c.channels;
      };
      const auto add = [&](index_t i, index_t part, index_t k, float term, float size) {
        const std::size_t place =
            (b * c.tokens + i) * 3 * width + part * width + h * c.channels + k;
        gradient[place] += term;
        terms[place] += std::abs(size);
      };
      for (index_t i = 0; i < c.tokens; ++i) {
        if (!c.does_globals() && c.sparsity.globals.holds(i)) continue;
        std::vector<index_t> keys;
        for (index_t j = 0; j < c.tokens; ++j) {
          if (visible(i, j, c.lengths[b], c.sparsity)) keys.push_back(j);
        }
        if (keys.empty()) continue;
        std::vector<float> weights, slopes;
        float maximum = -std::numeric_limits<float>::infinity();
        for (const index_t j : keys) {
          float score = 0, slope = 0;
          for (index_t k = 0; k < c.channels; ++k) {
            score += row(qkv, i, 0)[k] * row(qkv, j, 1)[k];
            slope += row(upstream, i, 0)[k] * row(qkv, j, 2)[k];
          }
          weights.push_back(score * scale);
          result.score = std::max(result.score, double{std::abs(score * scale)});
          slopes.push_back(slope);
          maximum = std::max(maximum, weights.back());
        }
        float sum = 0, mean = 0;
        for (float& weight : weights) sum += weight = std::exp(weight - maximum);
        for (std::size_t s = 0; s < keys.size(); ++s) mean += (weights[s] /= sum) * slopes[s];
        result.log_sum[(b * c.heads + h) * c.tokens + i] = maximum + std::log(sum);
        std::vector<float> out(c.channels);
        for (std::size_t s = 0; s < keys.size(); ++s) {
          const float slope = weights[s] * (slopes[s] - mean) * scale;
          const float size = weights[s] * (std::abs(slopes[s]) + std::abs(mean)) * scale;
          for (index_t k = 0; k < c.channels; ++k) {
            const float query = row(qkv, i, 0)[k];
            const float key = row(qkv, keys[s], 1)[k];
            const float given = weights[s] * row(upstream, i, 0)[k];
            out[k] += weights[s] * row(qkv, keys[s], 2)[k];
            add(i, 0, k, slope * key, size * key);
            add(keys[s], 1, k, slope * query, size * query);
            add(keys[s], 2, k, given, given);
          }
        }
        std::copy(out.begin(), out.end(),
                  result.out.begin() + (b * c.tokens + i) * width + h * c.channels);
      }
    }
  }
  result.gradient.assign(gradient.begin(), gradient.end());
  result.terms = terms.empty() ? 0 : double{std::ranges::max(terms)};
  return result;
}

}  // namespace weir::worker::test
