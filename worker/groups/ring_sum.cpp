#include "worker/groups/ring_sum.hpp"

#include <algorithm>
#include <array>

#include "common/base/error.hpp"
#include "common/wire/narrow.hpp"

namespace weir::worker {

namespace {

template <class T>
std::span<const T> elements_of(std::span<const std::byte> part, index_t begin, std::size_t count) {
  return std::span(reinterpret_cast<const T*>(part.data()) + begin, count);
}

void add(std::span<const std::byte> part, index_t begin, Dtype dtype, std::span<float> sum) {
  switch (dtype) {
    case Dtype::f32: {
      const float* const values = elements_of<float>(part, begin, sum.size()).data();
#pragma omp simd
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
      return;
    }
    case Dtype::bf16:
      return add_bf16(elements_of<std::uint16_t>(part, begin, sum.size()), sum);
    case Dtype::fp16:
      return add_fp16(elements_of<std::uint16_t>(part, begin, sum.size()), 1, sum);
    case Dtype::i32:
      break;
  }
  WEIR_UNREACHABLE();
}

void take(std::span<const std::byte> part, index_t begin, Dtype dtype, std::span<float> sum) {
  switch (dtype) {
    case Dtype::f32:
      std::ranges::copy(elements_of<float>(part, begin, sum.size()), sum.begin());
      return;
    case Dtype::bf16:
      return from_bf16(elements_of<std::uint16_t>(part, begin, sum.size()), sum);
    case Dtype::fp16:
      return from_fp16(elements_of<std::uint16_t>(part, begin, sum.size()), 1, sum);
    case Dtype::i32:
      break;
  }
  WEIR_UNREACHABLE();
}

}  // namespace

void ring_sum(std::span<const std::span<const std::byte>> parts, index_t first, Vector sum) {
  constexpr index_t kBlock = 4096;  // 16 KiB, which stay in the cache
  std::array<float, kBlock> memory;
  const index_t ranks = std::ssize(parts);
  for (index_t begin = 0; begin < sum.size(); begin += kBlock) {
    const index_t count = std::min(kBlock, sum.size() - begin);
    const auto block = std::span(memory).first(static_cast<std::size_t>(count));
    take(parts[first % ranks], begin, sum.dtype(), block);
    for (index_t step = 1; step < ranks; ++step) {
      add(parts[(first + step) % ranks], begin, sum.dtype(), block);
    }
    round_to(block, sum.part(begin, count));
  }
}

}  // namespace weir::worker
