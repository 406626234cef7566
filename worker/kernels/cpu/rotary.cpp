#include <algorithm>
#include <bit>
#include <cmath>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/rotary.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// All heads of one token, C apart: (x, y) = (x cos - y sin, x sin + y cos) for each pair;
/// direction -1 turns the sign of sin. cosine, sine: [half], for this position.
template <class T>
void rotate_heads(T* x, index_t heads, index_t half, const float* cosine, const float* sine,
                  float direction) {
  const V sign = set(direction);
  for (index_t c = 0; c < half; c += kLanes) {
    const index_t count = std::min(kLanes, half - c);
    const V cos = load_up_to(cosine + c, count);
    const V sin = hn::Mul(load_up_to(sine + c, count), sign);
    for (index_t head = 0; head < heads; ++head) {
      T* from = x + head * 2 * half + c;
      const V a = load_up_to(from, count);
      const V b = load_up_to(from + half, count);
      store_up_to(hn::NegMulAdd(b, sin, hn::Mul(a, cos)), from, count);
      store_up_to(hn::MulAdd(a, sin, hn::Mul(b, cos)), from + half, count);
    }
  }
}

/// Queries and keys of all rows; cosine, sine: [tokens_a_sample, half].
void rotate_rows(Matrix qkv, index_t heads, index_t half, index_t tokens_a_sample,
                 const float* cosine, const float* sine, int direction) {
  by_dtype(qkv.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < qkv.extent(0); ++r) {
      const index_t angles = r % tokens_a_sample * half;
      rotate_heads(as<T>(qkv)[r].data(), 2 * heads, half, cosine + angles, sine + angles,
                   static_cast<float>(direction));
    }
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(rotate_rows);

namespace {

/// Strips of a long sequence ask for a little more each time.
index_t with_room(index_t positions) {
  return static_cast<index_t>(std::bit_ceil(static_cast<std::uint64_t>(positions)));
}

}  // namespace

index_t CpuKernels::rotary_bytes(index_t positions, index_t channels) {
  return with_room(positions) * channels * index_t{sizeof(float)};
}

const CpuKernels::RotaryTable& CpuKernels::rotary_table(Interval positions, index_t half_channels) {
  if (rotary_.half_channels == half_channels) {
    const Interval held = rotary_.positions;
    positions = {std::min(held.begin, positions.begin), std::max(held.end, positions.end)};
    if (positions.count() == held.count()) return rotary_;
  }
  positions.end = positions.begin + with_room(positions.count());
  rotary_.positions = positions;
  rotary_.half_channels = half_channels;
  rotary_.cosine.resize(positions.count() * half_channels);
  rotary_.sine.resize(rotary_.cosine.size());
  for (index_t c = 0; c < half_channels; ++c) {
    // Angles are computed in double: at position 100,000 a float one is off by 4e-3.
    const double frequency =
        std::pow(kRotaryBase, -static_cast<double>(c) / static_cast<double>(half_channels));
    for (index_t row = 0; row < positions.count(); ++row) {
      const double angle = static_cast<double>(positions.begin + row) * frequency;
      const index_t at = row * half_channels + c;
      rotary_.cosine[at] = static_cast<float>(std::cos(angle));
      rotary_.sine[at] = static_cast<float>(std::sin(angle));
    }
  }
  return rotary_;
}

void CpuKernels::rotate_rows(Matrix qkv, index_t heads, std::span<const index_t> positions,
                             int direction) {
  WEIR_ASSERT(std::ssize(positions) == qkv.extent(0));
  for (index_t r = 0; r < qkv.extent(0); ++r) {
    const index_t position = positions[r];
    if (position >= 0) rotate(qkv.rows(r, 1), heads, position, 1, direction);
  }
}

void CpuKernels::rotate(Matrix qkv, index_t heads, index_t first, index_t tokens_a_sample,
                        int direction) {
  WEIR_ASSERT(direction == 1 || direction == -1);
  WEIR_ASSERT(heads > 0 && qkv.extent(1) % (3 * heads) == 0);
  const index_t channels = qkv.extent(1) / (3 * heads);
  WEIR_ASSERT(channels % 2 == 0);
  const index_t half = channels / 2;
  const RotaryTable& table = rotary_table({first, first + tokens_a_sample}, half);
  const index_t angles = (first - table.positions.begin) * half;
  HWY_DYNAMIC_DISPATCH(rotate_rows)
  (qkv, heads, half, tokens_a_sample, table.cosine.data() + angles, table.sine.data() + angles,
   direction);
}

}  // namespace weir::worker
#endif
