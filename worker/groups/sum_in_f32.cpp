#include "worker/groups/sum_in_f32.hpp"

#include "common/base/error.hpp"
#include "common/wire/narrow.hpp"

namespace weir::worker {

namespace {

template <class T>
std::span<std::uint16_t> halves_of(const Vector& values) {
  const std::span<T> elements = as<T>(values);
  return {&elements.data()->bits, elements.size()};
}

}  // namespace

void sum_in_f32(const Comm& comm, Vector values, Buffer& staging) {
  if (values.dtype() == Dtype::f32) return comm.sum(as<float>(values));
  if (values.empty()) return;
  if (staging.size() < values.size()) staging = Buffer(values.size());
  const std::span<float> floats = staging.span().first(static_cast<std::size_t>(values.size()));
  if (values.dtype() == Dtype::bf16) {
    from_bf16(halves_of<Bf16>(values), floats);
    comm.sum(floats);
    return to_bf16(floats, halves_of<Bf16>(values));
  }
  from_fp16(halves_of<Fp16>(values), 1, floats);
  comm.sum(floats);
  to_fp16(floats, 1, halves_of<Fp16>(values));
}

}  // namespace weir::worker
