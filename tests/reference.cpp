#include "tests/reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "common/number/random.hpp"

namespace weir::reference {
namespace {

double& at(Vector v, index_t i) { return v[i]; }
double at(ConstVector v, index_t i) { return v[i]; }
index_t at(Lengths v, index_t i) { return v[i]; }
index_t at(Tokens v, index_t i) { return v[i]; }

}  // namespace

// --- matrix products -----------------------------------------------------------------------------

void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) {
  for (index_t i = 0; i < out.extent(0); ++i) {
    for (index_t j = 0; j < out.extent(1); ++j) {
      out(i, j) = bias.empty() ? 0 : at(bias, j);
      for (index_t k = 0; k < a.extent(1); ++k) out(i, j) += a(i, k) * b(j, k);
    }
  }
}

void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) {
  for (index_t i = 0; i < out.extent(0); ++i) {
    for (index_t j = 0; j < out.extent(1); ++j) {
      if (!accumulate) out(i, j) = 0;
      for (index_t k = 0; k < a.extent(1); ++k) out(i, j) += a(i, k) * b(k, j);
    }
  }
}

void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) {
  for (index_t i = 0; i < out.extent(0); ++i) {
    for (index_t j = 0; j < out.extent(1); ++j) {
      for (index_t k = 0; k < a.extent(0); ++k) out(i, j) += a(k, i) * b(k, j);
    }
  }
}

void add_column_sums(ConstMatrix a, Vector out) {
  for (index_t i = 0; i < a.extent(0); ++i) add(a[i].span(), out);
}

// --- element-wise --------------------------------------------------------------------------------

void add(ConstVector from, Vector to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

void add_bias(ConstVector bias, Matrix to) {
  for (index_t i = 0; i < to.extent(0); ++i) add(bias, to[i].span());
}

void gelu(ConstVector x, Vector out) {
  const double factor = std::sqrt(2 / std::numbers::pi);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    out[i] = 0.5 * v * (1 + std::tanh(factor * (v + 0.044715 * v * v * v)));
  }
}

void gelu_backward(ConstVector x, Vector gradient) {
  const double factor = std::sqrt(2 / std::numbers::pi);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    const double t = std::tanh(factor * (v + 0.044715 * v * v * v));
    const double t_slope = (1 - t * t) * factor * (1 + 3 * 0.044715 * v * v);
    gradient[i] *= 0.5 * (1 + t) + 0.5 * v * t_slope;
  }
}

void dropout(const worker::DropoutKey& key, Matrix values) {
  for (index_t r = 0; r < values.extent(0); ++r) {
    const index_t token = key.first_token + r % key.tokens_a_sample;
    const index_t sample = at(key.samples, r / key.tokens_a_sample);
    const std::uint64_t stream =
        random_word(key.seed, key.layer, static_cast<std::uint64_t>(sample));
    for (index_t c = 0; c < values.extent(1); ++c) {
      const index_t index = token * key.width + key.first_feature + c;
      const bool kept =
          uniform_float(key.seed, stream, static_cast<std::uint64_t>(index)) >= key.rate;
      values(r, c) = kept ? values(r, c) / (1 - double{key.rate}) : 0;
    }
  }
}

// --- normalisation -------------------------------------------------------------------------------

void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out, Vector mean,
                Vector inverse_deviation) {
  const auto columns = static_cast<double>(x.extent(1));
  for (index_t r = 0; r < x.extent(0); ++r) {
    double sum = 0;
    for (index_t c = 0; c < x.extent(1); ++c) sum += x(r, c);
    at(mean, r) = sum / columns;
    double squares = 0;
    for (index_t c = 0; c < x.extent(1); ++c) squares += std::pow(x(r, c) - at(mean, r), 2);
    at(inverse_deviation, r) = 1 / std::sqrt(squares / columns + 1e-5);
    for (index_t c = 0; c < x.extent(1); ++c) {
      out(r, c) = (x(r, c) - at(mean, r)) * at(inverse_deviation, r) * at(weight, c) + at(bias, c);
    }
  }
}

void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                         ConstVector inverse_deviation, ConstMatrix out_gradient, Matrix x_gradient,
                         Vector weight_gradient, Vector bias_gradient) {
  const index_t columns = x.extent(1);
  for (index_t r = 0; r < x.extent(0); ++r) {
    const double inverse = at(inverse_deviation, r);
    const auto normal = [&](index_t c) { return (x(r, c) - at(mean, r)) * inverse; };
    // d normal[c] / d x[d] = ([c = d] - 1/n - normal[c] normal[d] / n) * inverse
    for (index_t d = 0; d < columns; ++d) {
      for (index_t c = 0; c < columns; ++c) {
        const double slope =
            (double(c == d) - (1 + normal(c) * normal(d)) / static_cast<double>(columns)) * inverse;
        x_gradient(r, d) += out_gradient(r, c) * at(weight, c) * slope;
      }
      at(weight_gradient, d) += out_gradient(r, d) * normal(d);
      at(bias_gradient, d) += out_gradient(r, d);
    }
  }
}

// --- attention -----------------------------------------------------------------------------------

void rotate(Matrix qkv, index_t heads, index_t tokens_a_sample, int direction) {
  const index_t channels = qkv.extent(1) / (3 * heads);
  for (index_t r = 0; r < qkv.extent(0); ++r) {
    for (index_t head = 0; head < 2 * heads; ++head) {
      for (index_t c = 0; c < channels / 2; ++c) {
        const double frequency =
            std::pow(10000.0, -2.0 * static_cast<double>(c) / static_cast<double>(channels));
        const double angle = direction * static_cast<double>(r % tokens_a_sample) * frequency;
        double& x = qkv(r, head * channels + c);
        double& y = qkv(r, head * channels + c + channels / 2);
        const double turned = x * std::cos(angle) - y * std::sin(angle);
        y = x * std::sin(angle) + y * std::cos(angle);
        x = turned;
      }
    }
  }
}

namespace {

/// Where things of one sample and head stand.
struct Head {
  index_t first_row, width, channels, offset;

  template <class M>
  auto& query(const M& m, index_t i, index_t c) const {
    return m(first_row + i, offset + c);
  }
  template <class M>
  auto& key(const M& m, index_t j, index_t c) const {
    return m(first_row + j, width + offset + c);
  }
  template <class M>
  auto& value(const M& m, index_t j, index_t c) const {
    return m(first_row + j, 2 * width + offset + c);
  }
};

/// The weights of query i over all tokens, 0 where it does not see; log_sum: log of the sum of
/// exp(score) over what it sees.
std::vector<double> weights(ConstMatrix qkv, const Head& head, index_t tokens, index_t i,
                            index_t length, const worker::Sparsity& sparsity, double& log_sum) {
  std::vector<double> score(tokens, -std::numeric_limits<double>::infinity());
  bool sees = false;
  for (index_t j = 0; j < tokens; ++j) {
    if (!worker::visible(i, j, length, sparsity)) continue;
    sees = true;
    double product = 0;
    for (index_t c = 0; c < head.channels; ++c) {
      product += head.query(qkv, i, c) * head.key(qkv, j, c);
    }
    at(Vector(score), j) = product / std::sqrt(static_cast<double>(head.channels));
  }
  log_sum = -std::numeric_limits<double>::infinity();
  if (!sees) return std::vector<double>(tokens, 0.0);
  const double maximum = *std::ranges::max_element(score);
  double sum = 0;
  for (const double s : score) sum += std::exp(s - maximum);
  log_sum = maximum + std::log(sum);
  for (double& s : score) s = std::exp(s - log_sum);
  return score;
}

}  // namespace

void attention(ConstMatrix qkv, index_t heads, Lengths lengths, const worker::Sparsity& sparsity,
               Matrix out, Vector log_sum) {
  const index_t tokens = qkv.extent(0) / std::ssize(lengths);
  const index_t width = qkv.extent(1) / 3;
  const index_t channels = width / heads;
  std::ranges::fill(out.span(), 0);
  for (index_t b = 0; b < std::ssize(lengths); ++b) {
    for (index_t h = 0; h < heads; ++h) {
      const Head head{b * tokens, width, channels, h * channels};
      for (index_t i = 0; i < tokens; ++i) {
        const auto weight = weights(qkv, head, tokens, i, at(lengths, b), sparsity,
                                    at(log_sum, (b * heads + h) * tokens + i));
        for (index_t j = 0; j < tokens; ++j) {
          if (!worker::visible(i, j, at(lengths, b), sparsity)) continue;
          for (index_t c = 0; c < channels; ++c) {
            head.query(out, i, c) += at(ConstVector(weight), j) * head.value(qkv, j, c);
          }
        }
      }
    }
  }
}

void attention_backward(ConstMatrix qkv, index_t heads, Lengths lengths,
                        const worker::Sparsity& sparsity, ConstMatrix out_gradient,
                        Matrix qkv_gradient) {
  const index_t tokens = qkv.extent(0) / std::ssize(lengths);
  const index_t width = qkv.extent(1) / 3;
  const index_t channels = width / heads;
  std::ranges::fill(qkv_gradient.span(), 0);
  for (index_t b = 0; b < std::ssize(lengths); ++b) {
    for (index_t h = 0; h < heads; ++h) {
      const Head head{b * tokens, width, channels, h * channels};
      for (index_t i = 0; i < tokens; ++i) {
        double log_sum = 0;
        const auto weight = weights(qkv, head, tokens, i, at(lengths, b), sparsity, log_sum);
        const auto sees = [&](index_t j) {
          return worker::visible(i, j, at(lengths, b), sparsity);
        };
        std::vector<double> weight_gradient(tokens, 0.0);
        double mean = 0;  // of weight_gradient, weighted
        for (index_t j = 0; j < tokens; ++j) {
          if (!sees(j)) continue;
          double& slope = at(Vector(weight_gradient), j);
          for (index_t c = 0; c < channels; ++c) {
            slope += head.query(out_gradient, i, c) * head.value(qkv, j, c);
          }
          mean += at(ConstVector(weight), j) * slope;
        }
        for (index_t j = 0; j < tokens; ++j) {
          if (!sees(j)) continue;
          const double score_gradient = at(ConstVector(weight), j) *
                                        (at(ConstVector(weight_gradient), j) - mean) /
                                        std::sqrt(static_cast<double>(channels));
          for (index_t c = 0; c < channels; ++c) {
            head.query(qkv_gradient, i, c) += score_gradient * head.key(qkv, j, c);
            head.key(qkv_gradient, j, c) += score_gradient * head.query(qkv, i, c);
            head.value(qkv_gradient, j, c) +=
                at(ConstVector(weight), j) * head.query(out_gradient, i, c);
          }
        }
      }
    }
  }
}

// --- embedding -----------------------------------------------------------------------------------

void gather(Tokens tokens, ConstMatrix table, index_t first_row, Matrix out) {
  for (index_t r = 0; r < out.extent(0); ++r) {
    const index_t row = at(tokens, r) - first_row;
    if (0 <= row && row < table.extent(0)) add(table[row].span(), out[r].span());
  }
}

void scatter_add(Tokens tokens, ConstMatrix gradient, index_t first_row, Matrix table_gradient) {
  for (index_t r = 0; r < gradient.extent(0); ++r) {
    const index_t row = at(tokens, r) - first_row;
    if (0 <= row && row < table_gradient.extent(0)) {
      add(gradient[r].span(), table_gradient[row].span());
    }
  }
}

// --- cross-entropy -------------------------------------------------------------------------------

void row_maximum(ConstMatrix logits, Vector maximum) {
  for (index_t r = 0; r < logits.extent(0); ++r) {
    at(maximum, r) = -std::numeric_limits<double>::infinity();
    for (index_t c = 0; c < logits.extent(1); ++c) {
      at(maximum, r) = std::max(at(maximum, r), logits(r, c));
    }
  }
}

void softmax_sums(ConstMatrix logits, ConstVector maximum, Tokens targets, index_t first_column,
                  Vector exponential_sum, Vector target_logit) {
  for (index_t r = 0; r < logits.extent(0); ++r) {
    at(exponential_sum, r) = 0;
    at(target_logit, r) = 0;
    for (index_t c = 0; c < logits.extent(1); ++c) {
      at(exponential_sum, r) += std::exp(logits(r, c) - at(maximum, r));
      if (first_column + c == at(targets, r)) at(target_logit, r) = logits(r, c);
    }
  }
}

void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                      Tokens targets, index_t first_column, double scale) {
  for (index_t r = 0; r < logits.extent(0); ++r) {
    for (index_t c = 0; c < logits.extent(1); ++c) {
      const double softmax = std::exp(logits(r, c) - at(maximum, r)) / at(exponential_sum, r);
      const bool is_target = first_column + c == at(targets, r);
      logits(r, c) = at(targets, r) < 0 ? 0 : (softmax - double(is_target)) * scale;
    }
  }
}

// --- pooling -------------------------------------------------------------------------------------

void mean_pool(ConstMatrix x, Lengths lengths, index_t first, Matrix out) {
  const index_t tokens = x.extent(0) / std::ssize(lengths);
  std::ranges::fill(out.span(), 0);
  for (index_t b = 0; b < out.extent(0); ++b) {
    for (index_t i = 0; i < tokens; ++i) {
      if (first + i < at(lengths, b)) add(x[b * tokens + i].span(), out[b].span());
    }
    for (double& v : out[b].span()) v /= static_cast<double>(std::max<index_t>(at(lengths, b), 1));
  }
}

void mean_pool_backward(ConstMatrix out_gradient, Lengths lengths, index_t first,
                        Matrix x_gradient) {
  const index_t tokens = x_gradient.extent(0) / std::ssize(lengths);
  for (index_t r = 0; r < x_gradient.extent(0); ++r) {
    const index_t b = r / tokens;
    const bool padding = first + r % tokens >= at(lengths, b);
    for (index_t c = 0; c < x_gradient.extent(1); ++c) {
      x_gradient(r, c) = padding ? 0 : out_gradient(b, c) / static_cast<double>(at(lengths, b));
    }
  }
}

}  // namespace weir::reference
