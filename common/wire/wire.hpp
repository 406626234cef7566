#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/options.hpp"

namespace weir {

/// What the floats of a bucket are written as while they travel. Both ends add in f32.
///
///   fp32   as they are                                                      4 bytes an element
///   bf16   the upper half, to nearest even                                  2
///   fp16   halves, after a power of two that puts the bucket's largest      2
///          into [2^14, 2^15), where none overflows
///   int8   blocks of 256 with a scale each; error feedback                  1.016
///   topk   the largest elements, index and value; error feedback                  8 an element
///   kept
///
/// Error feedback: what is not sent stays in a residual and is added to the next values, so that
/// all that was sent plus the residual equals all that was to be sent, within rounding.
enum class WireFormat { fp32, bf16, fp16, int8, topk };

struct Wire {
  WireFormat format = WireFormat::fp32;
  double topk_percent = 1;  ///< more than 0, at most 100

  /// The floats themselves: nothing to encode.
  bool is_raw() const { return format == WireFormat::fp32; }
  bool keeps_residual() const { return format == WireFormat::int8 || format == WireFormat::topk; }
  /// The bytes that `count` elements take, in whole words of four: known at both ends.
  index_t bytes(index_t count) const;
  bool operator==(const Wire&) const = default;
};

/// The wires of gradients and of weights. A pull wire that keeps a residual sends how far weights
/// have moved since the last frame, and readers add that: see ps/update/sent_weights.hpp.
struct WireConfig {
  Wire push;
  Wire pull;
  bool operator==(const WireConfig&) const = default;
};
std::vector<Option> options(WireConfig& config);
/// A warning for a user who chooses these: a format has cost more than 1 % of the loss where it was
/// measured (common/README.md), or sends more bytes than fp32. Empty if there is none.
std::string warning_of(const WireConfig& config);

/// Writes values into out, which has wire.bytes(values.size()) and begins at a multiple of four;
/// what is left of its last word is not touched. residual: of the same size as values if the wire
/// keeps one, else empty. It is zero before the first values; after that only encode may change it.
/// Values that are not finite arrive as such, so that their receiver sees it: bf16 and fp16 keep
/// infinity and NaN; the block (int8) or bucket (topk) that holds one arrives as NaN, in part, and
/// its residual stays as it was. The same bits on every machine.
void encode(const Wire& wire, std::span<const float> values, std::span<float> residual,
            std::span<std::byte> out);

/// values = what was encoded. bytes: as encode's out. Throws Error if an index is out of range.
void decode(const Wire& wire, std::span<const std::byte> bytes, std::span<float> values);
/// sum += what was encoded, with the bits of decode and then add.
void decode_add(const Wire& wire, std::span<const std::byte> bytes, std::span<float> sum);

}  // namespace weir
