// What does it cost to write gradients in fewer bytes, and to add them up again? Each wire format
// on one core, beside a copy of the same floats; what a worker waits for servers in real steps; and
// how fast a job is whose workers and server are on two hosts.

#include "common/wire/wire.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/wire_hosts.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/number/memory.hpp"
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
    return of.span().subspan(index * kElements, kElements);
  }
  std::span<std::byte> frame(const Wire& wire, index_t index) {
    return frames.span().subspan(index * kElements * 8, wire.bytes(kElements));
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

using Words = std::vector<std::string>;

struct Model {
  std::string name;
  index_t ranks;
  index_t steps;  ///< the first one warms up
  int rounds;
  Words options;
};

std::vector<Model> models(bool quick) {
  Model quick_start = {"quick-start, 2 workers + 1 server",
                       3,
                       quick ? 3 : 60,
                       quick ? 1 : 3,
                       {text("--config=", WEIR_CONFIGS, "/quickstart.ini")}};
  if (quick) {
    for (const char* small : {"layers=1", "width=32", "feed-forward=64"}) {
      quick_start.options.push_back(text("--model.", small));
    }
    quick_start.options.push_back("--length=128");
    return {quick_start};
  }
  // 12 x 1024^2 a layer: 50.6 M with what is beside them.
  Model large = {"50 M parameters, 1 worker + 1 server",
                 2,
                 4,
                 2,
                 {"--model.layers=4", "--model.width=1024", "--model.heads=16",
                  "--model.feed-forward=4096", "--attention.left=64",
                  "--attention.global-tokens=0-3", "--length=256", "--batch=4", "--micro-batch=1"}};
  return {quick_start, large};
}

/// Exposed waiting of worker 0 in each step.
void measure_waiting(const Options& options, Report& report) {
  std::vector<std::pair<std::string, Words>> wires = {
      {"fp32", {}},
      {"bf16", {"--wire-push=bf16"}},
      {"bf16, pulls too", {"--wire-push=bf16", "--wire-pull=bf16"}},
      {"fp16", {"--wire-push=fp16"}},
      {"int8", {"--wire-push=int8"}},
      {"topk 1 %", {"--wire-push=topk", "--topk-percent=1"}},
  };
  // --quick: a job for each kind of format; most of its time is its start.
  if (options.quick) {
    std::erase_if(wires,
                  [](const auto& wire) { return wire.first == "bf16" || wire.first == "fp16"; });
  }
  const ScratchFolder scratch;
  const std::string corpus = write_letters(scratch.path() / "bytes", 100'000);
  for (const Model& model : models(options.quick)) {
    std::vector<std::vector<double>> shares(wires.size()), seconds(wires.size());
    for (int round = 0; round < model.rounds; ++round) {  // all formats see the same neighbours
      for (std::size_t at = 0; at < wires.size(); ++at) {
        Words words = model.options;
        words.insert(words.end(), wires[at].second.begin(), wires[at].second.end());
        words.insert(words.end(), {text("--steps=", model.steps), "--checkpoint-every=0",
                                   "--data.files=" + corpus, "--data.held-out=300"});
        const JobRecord record = train(model.ranks, words);
        const auto& step_s = record.column("step", "step_s");
        const auto& waited_s = record.column("step", "waited_s");
        for (std::size_t step = 1; step < step_s.size(); ++step) {
          shares[at].push_back(100 * waited_s[step] / step_s[step]);
          seconds[at].push_back(1000 * step_s[step]);
        }
      }
    }
    for (std::size_t at = 0; at < wires.size(); ++at) {
      const std::string of = text(model.name, ": ", wires[at].first);
      report.add({of, "step", spread_of(seconds[at]), "ms", "fp32", spread_of(seconds[0]).median});
      report.add({of, "waiting for servers", spread_of(shares[at]), "% of a step", "aim", 10});
    }
  }
  if (core_count() < 3) {
    report.remark(text("the servers share ", core_count(), " cores with the workers"));
  }
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
  Report report(
      "wire",
      "what does it cost to write gradients in fewer bytes, on one core and in a training step?",
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
  measure_waiting(options, report);
  measure_over_hosts(options, report);
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("wire", argument_count, arguments, weir::benchmark::run);
}
