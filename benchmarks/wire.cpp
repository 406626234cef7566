// What does it cost to write gradients in fewer bytes, and to add them up again? Each wire format
// on one core, beside a copy of the same floats.

#include "common/number/wire.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "benchmarks/bench.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/number/buffer.hpp"
#include "common/number/random.hpp"

namespace weir::benchmark {
namespace {

struct Case {
  const char* name;
  Wire wire;
};

/// A model's gradients in buckets of the usual size, and room for what they become.
struct Arenas {
  explicit Arenas(index_t buckets)
      : count(buckets),
        values(buckets * kElements),
        residual(values.size()),
        sum(values.size()),
        frames(buckets * kElements * 8) {
    fill_normal(values.span(), 1, 0, 0, 1);
  }

  static constexpr index_t kElements = 131072;
  std::span<float> bucket(Buffer& of, index_t index) const {
    return of.span().subspan(static_cast<std::size_t>(index * kElements), kElements);
  }
  std::span<std::byte> frame(const Wire& wire, index_t index) {
    return frames.span().subspan(static_cast<std::size_t>(index * kElements * 8),
                                 static_cast<std::size_t>(wire.bytes(kElements)));
  }

  index_t count;
  Buffer values, residual, sum;
  BufferOf<std::byte> frames;
};

/// GB/s of floats, where `work` does one bucket.
double rate(const Arenas& arenas, const std::function<void(index_t)>& work) {
  const double begin = seconds_now();
  for (index_t index = 0; index < arenas.count; ++index) work(index);
  const double bytes = static_cast<double>(arenas.count * Arenas::kElements) * sizeof(float);
  return bytes / (seconds_now() - begin) * 1e-9;
}

void run(const Options& options) {
  const std::vector<Case> cases = {
      {"fp32", {WireFormat::fp32}},
      {"bf16", {WireFormat::bf16}},
      {"fp16", {WireFormat::fp16}},
      {"int8", {WireFormat::int8}},
      {"topk 0.1 %", {WireFormat::topk, 0.1}},
      {"topk 1 %", {WireFormat::topk, 1}},
      {"topk 10 %", {WireFormat::topk, 10}},
  };
  Arenas arenas(options.quick ? 4 : 200);
  const int rounds = options.quick ? 2 : 15;
  std::vector<std::vector<double>> encodes(cases.size()), decodes(cases.size());
  std::vector<double> copies, adds;
  // Round after round, so that all cases see the same neighbours.
  for (int round = -1; round < rounds; ++round) {
    const double copy = rate(arenas, [&](index_t index) {
      std::memcpy(arenas.bucket(arenas.sum, index).data(),
                  arenas.bucket(arenas.values, index).data(), Arenas::kElements * sizeof(float));
    });
    if (round >= 0) copies.push_back(copy);
    for (std::size_t at = 0; at < cases.size(); ++at) {
      const Wire& wire = cases[at].wire;
      const double encoded = rate(arenas, [&](index_t index) {
        const auto residual = arenas.bucket(arenas.residual, index);
        encode(wire, arenas.bucket(arenas.values, index),
               wire.keeps_residual() ? residual : std::span<float>(), arenas.frame(wire, index));
      });
      const double decoded = rate(arenas, [&](index_t index) {
        decode_add(wire, arenas.frame(wire, index), arenas.bucket(arenas.sum, index));
      });
      if (round < 0) continue;
      encodes[at].push_back(encoded);
      decodes[at].push_back(decoded);
    }
  }
  Report report("wire", "GB/s of floats written in each wire format, and added up again, one core",
                options);
  const double copy = spread_of(copies).median;
  report.add({"memcpy", "copy", spread_of(copies), "GB/s"});
  for (std::size_t at = 0; at < cases.size(); ++at) {
    report.add({cases[at].name, "encode", spread_of(encodes[at]), "GB/s", "memcpy", copy});
    report.add({cases[at].name, "decode and add", spread_of(decodes[at]), "GB/s", "memcpy", copy});
  }
  report.remark(text("buckets of 512 KiB, ", arenas.count * Arenas::kElements * 4 / (1 << 20),
                     " MiB of floats in all: out of memory, not out of caches"));
  for (const Case& each : cases) {
    report.remark(text(each.name, ": ",
                       short_number(static_cast<double>(each.wire.bytes(Arenas::kElements)) /
                                    static_cast<double>(Arenas::kElements)),
                       " bytes an element"));
  }
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("wire", argument_count, arguments, weir::benchmark::run);
}
