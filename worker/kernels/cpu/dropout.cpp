#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/random.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// Four words of Philox4x32-10 for kLanes / 2 counters at once: the even 32-bit lanes count, the
/// odd ones hold whatever the products leave there. Same numbers as common/number/random.hpp.
/// Source: Salmon et al., SC 2011, section 3.3.
#if HWY_TARGET != HWY_SCALAR
using Words = hn::RebindToUnsigned<Floats>;
using Pairs = hn::Repartition<std::uint64_t, Words>;

struct Block {
  hn::Vec<Words> word[4];
};

HWY_INLINE Block philox(Block counter, std::uint64_t seed) {
  constexpr Words kWords;
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32);
  const auto multiplier0 = hn::Set(kWords, 0xD2511F53);
  const auto multiplier1 = hn::Set(kWords, 0xCD9E8D57);
  auto& [x0, x1, x2, x3] = counter.word;
  for (int round = 0; round < 10; ++round) {
    const auto product0 = hn::MulEven(x0, multiplier0);
    const auto product1 = hn::MulEven(x2, multiplier1);
    const auto high0 = hn::BitCast(kWords, hn::ShiftRight<32>(product0));
    const auto high1 = hn::BitCast(kWords, hn::ShiftRight<32>(product1));
    x0 = hn::Xor(high1, hn::Xor(x1, hn::Set(kWords, key0)));
    x2 = hn::Xor(high0, hn::Xor(x3, hn::Set(kWords, key1)));
    x1 = hn::BitCast(kWords, product1);
    x3 = hn::BitCast(kWords, product0);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

/// out[4 i + w] = word w of block first_block + i, for i < blocks, a multiple of kLanes / 2.
void random_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t first_block,
                  index_t blocks, std::uint32_t* out) {
  constexpr Words kWords;
  constexpr Pairs kPairs;
  const auto low_half = hn::Set(kPairs, 0xFFFFFFFF);
  const auto stream_low = hn::BitCast(kWords, hn::Set(kPairs, stream));
  const auto stream_high = hn::BitCast(kWords, hn::Set(kPairs, stream >> 32));
  for (index_t i = 0; i < blocks; i += kLanes / 2) {
    const auto index =
        hn::Add(hn::Iota(kPairs, 0), hn::Set(kPairs, first_block + static_cast<std::uint64_t>(i)));
    const auto index_high = hn::BitCast(kWords, hn::ShiftRight<32>(index));
    const Block words =
        philox({hn::BitCast(kWords, index), index_high, stream_low, stream_high}, seed);
    const auto join = [&](int even, int odd) HWY_ATTR {
      const auto low = hn::And(hn::BitCast(kPairs, words.word[even]), low_half);
      return hn::Or(low, hn::ShiftLeft<32>(hn::BitCast(kPairs, words.word[odd])));
    };
    hn::StoreInterleaved2(join(0, 1), join(2, 3), kPairs,
                          reinterpret_cast<std::uint64_t*>(out + 4 * i));
  }
}

/// values[i] *= 1 / (1 - rate) or 0, for the draws of first_index + i.
template <class T>
void drop(const DropoutKey& key, std::uint64_t stream, std::uint64_t first_index, index_t size,
          T* values) {
  constexpr index_t kBlocks = 128;
  static_assert(kBlocks % (kLanes / 2) == 0);
  HWY_ALIGN std::uint32_t words[4 * kBlocks];
  const V least = set(key.rate);
  const V scale = set(1 / (1 - key.rate));
  const V unit = set(0x1p-24F);
  const auto function = [=](V word, V value) HWY_ATTR {
    const hn::RebindToSigned<Floats> integers;
    const auto top = hn::ShiftRight<8>(hn::BitCast(Words(), word));
    const V draw = hn::Mul(hn::ConvertTo(kFloats, hn::BitCast(integers, top)), unit);
    return hn::IfThenElseZero(hn::Ge(draw, least), hn::Mul(value, scale));
  };
  index_t skip = static_cast<index_t>(first_index % 4);  // draws of the first block before ours
  std::uint64_t block = first_index / 4;
  while (size > 0) {
    const index_t count = std::min(size, 4 * kBlocks - skip);
    const index_t blocks = (skip + count + 3) / 4;
    random_words(key.seed, stream, block, (blocks + kLanes / 2 - 1) / (kLanes / 2) * (kLanes / 2),
                 words);
    map(count, values, function, reinterpret_cast<const float*>(words) + skip, values);
    block += kBlocks;
    values += count;
    size -= count;
    skip = 0;
  }
}

#else

template <class T>
void drop(const DropoutKey& key, std::uint64_t stream, std::uint64_t first_index, index_t size,
          T* values) {
  for (index_t i = 0; i < size; ++i) {
    const float draw = uniform_float(key.seed, stream, first_index + static_cast<std::uint64_t>(i));
    const float kept = float_of(values[i]) * (1 / (1 - key.rate));
    values[i] = rounded_to<T>(draw >= key.rate ? kept : 0);
  }
}

#endif

void dropout(const DropoutKey& key, Matrix values) {
  by_dtype(values.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < values.extent(0); ++r) {
      const index_t sample = key.samples[r / key.tokens_a_sample];
      const index_t token = key.first_token + r % key.tokens_a_sample;
      const index_t first = token * key.width + key.first_feature;
      drop(key, dropout_stream(key, sample), static_cast<std::uint64_t>(first), values.extent(1),
           as<T>(values)[r].data());
    }
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(dropout);

void CpuKernels::dropout(const DropoutKey& key, Matrix values) {
  if (key.rate == 0) return;
  WEIR_ASSERT(0 < key.rate && key.rate < 1);
  WEIR_ASSERT(values.extent(0) == std::ssize(key.samples) * key.tokens_a_sample);
  WEIR_ASSERT(0 <= key.first_feature && key.first_feature + values.extent(1) <= key.width);
  HWY_DYNAMIC_DISPATCH(dropout)(key, values);
}

}  // namespace weir::worker
#endif
