#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/text.hpp"
#include "common/number/dtype.hpp"
#include "worker/kernels/visible.hpp"

namespace weir::benchmark {

constexpr index_t kHeads = 8;
constexpr index_t kChannels = 64;
constexpr index_t kGlobals = 4;
constexpr index_t kLongestDense = 4096;  ///< with all heads, several times; more: one head, once
inline const std::vector<index_t> kWindows = {16, 64, 256};
inline const std::vector<Dtype> kDtypes = {Dtype::f32, Dtype::bf16, Dtype::fp16};

struct AttentionAim {
  Dtype dtype;
  index_t window;
  index_t tokens;
  double floors;  ///< forward and backward take at most so many times the larger floor
};
inline const std::vector<AttentionAim> kAims = {
    {Dtype::f32, 16, 1024, 3.5},    {Dtype::f32, 16, 16384, 2.2}, {Dtype::f32, 64, 16384, 1.6},
    {Dtype::f32, 256, 16384, 1.35}, {Dtype::bf16, 64, 16384, 3},  {Dtype::bf16, 256, 16384, 3}};
constexpr double kAmxGain = 2;  ///< bf16 with AMX should be at least so many times as fast as f32

/// Tokens on each side; none: dense.
using Window = std::optional<index_t>;

inline std::string window_name(Window window) { return window ? text("w ", *window) : "dense"; }

inline std::string length_name(index_t tokens) {
  return tokens % 1024 == 0 ? text(tokens / 1024, "k") : text(tokens);
}

struct AttentionCase {
  Dtype dtype;
  Window window;
  index_t tokens;
  auto operator<=>(const AttentionCase&) const = default;

  std::string name() const {
    return text(name_of(dtype), ", ", window_name(window), ", ", length_name(tokens));
  }
  AttentionCase in_f32() const { return {Dtype::f32, window, tokens}; }
  bool is_long_dense() const { return !window && tokens > kLongestDense; }
  worker::Sparsity sparsity() const {
    if (!window) return {tokens, tokens, 0, false};
    return {*window, *window, kGlobals, false};
  }
};

/// All windows, dense last, at all of these lengths, in all types.
inline std::vector<AttentionCase> attention_cases(const std::vector<index_t>& lengths) {
  std::vector<Window> windows(kWindows.begin(), kWindows.end());
  windows.push_back(std::nullopt);
  std::vector<AttentionCase> cases;
  for (const Dtype dtype : kDtypes) {
    for (const Window window : windows) {
      for (const index_t tokens : lengths) cases.push_back({dtype, window, tokens});
    }
  }
  return cases;
}

}  // namespace weir::benchmark
