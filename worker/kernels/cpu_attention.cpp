#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/error.hpp"
#include "worker/kernels/cpu.hpp"

namespace weir::worker {
namespace {

float inner_product(const float* a, const float* b, index_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (index_t c = 0; c < size; ++c) sum += a[c] * b[c];
  return sum;
}

void add_scaled(float scale, const float* from, float* to, index_t size) {
#pragma omp simd
  for (index_t c = 0; c < size; ++c) to[c] += scale * from[c];
}

template <class Function>
void for_each_key(const VisibleKeys& keys, const Function& function) {
  for (index_t j = 0; j < keys.global_end; ++j) function(j);
  for (index_t j = keys.band_begin; j < keys.band_end; ++j) function(j);
}

}  // namespace

void CpuKernels::attention(ConstMatrix qkv, index_t heads, std::span<const index_t> lengths,
                           const Sparsity& sparsity, Matrix out, Vector log_sum) {
  const index_t tokens = qkv.extent(0) / std::ssize(lengths);
  const index_t width = qkv.extent(1) / 3;
  const index_t channels = width / heads;
  const float scale = 1 / std::sqrt(static_cast<float>(channels));
  scratch_.resize(static_cast<std::size_t>(tokens));
  for (index_t b = 0; b < std::ssize(lengths); ++b) {
    const index_t length = lengths[static_cast<std::size_t>(b)];
    for (index_t h = 0; h < heads; ++h) {
      progress();
      const auto at = [&](index_t i, index_t part) {
        return &qkv(b * tokens + i, part * width + h * channels);
      };
      for (index_t i = 0; i < tokens; ++i) {
        const VisibleKeys keys = visible_keys(i, length, sparsity);
        float maximum = -std::numeric_limits<float>::infinity();
        float* score = scratch_.data();
        for_each_key(keys, [&](index_t j) {
          *score = scale * inner_product(at(i, 0), at(j, 1), channels);
          maximum = std::max(maximum, *score++);
        });
        float* result = &out(b * tokens + i, h * channels);
        std::fill_n(result, channels, 0.0F);
        float sum = 0;
        score = scratch_.data();
        for_each_key(keys, [&](index_t j) {
          const float weight = std::exp(*score++ - maximum);
          sum += weight;
          add_scaled(weight, at(j, 2), result, channels);
        });
        if (score != scratch_.data()) {
          for (index_t c = 0; c < channels; ++c) result[c] /= sum;
        }
        log_sum[static_cast<std::size_t>((b * heads + h) * tokens + i)] = maximum + std::log(sum);
      }
    }
  }
}

void CpuKernels::attention_backward(ConstMatrix qkv, index_t heads,
                                    std::span<const index_t> lengths, const Sparsity& sparsity,
                                    ConstMatrix out, ConstVector log_sum, ConstMatrix out_gradient,
                                    Matrix qkv_gradient) {
  const index_t tokens = qkv.extent(0) / std::ssize(lengths);
  const index_t width = qkv.extent(1) / 3;
  const index_t channels = width / heads;
  const float scale = 1 / std::sqrt(static_cast<float>(channels));
  fill(qkv_gradient.span(), 0);
  for (index_t b = 0; b < std::ssize(lengths); ++b) {
    const index_t length = lengths[static_cast<std::size_t>(b)];
    for (index_t h = 0; h < heads; ++h) {
      progress();
      const auto column = [&](index_t part) { return part * width + h * channels; };
      for (index_t i = 0; i < tokens; ++i) {
        const index_t row = b * tokens + i;
        const float* query = &qkv(row, column(0));
        const float* upstream = &out_gradient(row, h * channels);
        const float drift = inner_product(upstream, &out(row, h * channels), channels);
        const float log = log_sum[static_cast<std::size_t>((b * heads + h) * tokens + i)];
        for_each_key(visible_keys(i, length, sparsity), [&](index_t j) {
          const index_t key_row = b * tokens + j;
          const float* key = &qkv(key_row, column(1));
          const float weight = std::exp(scale * inner_product(query, key, channels) - log);
          const float slope = inner_product(upstream, &qkv(key_row, column(2)), channels) - drift;
          const float score_gradient = weight * slope * scale;
          add_scaled(score_gradient, key, &qkv_gradient(row, column(0)), channels);
          add_scaled(score_gradient, query, &qkv_gradient(key_row, column(1)), channels);
          add_scaled(weight, upstream, &qkv_gradient(key_row, column(2)), channels);
        });
      }
    }
  }
}

}  // namespace weir::worker
