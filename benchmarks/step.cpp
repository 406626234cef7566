// What share of the machine's own GEMM peak does a training step reach, alone and with servers?
#include <algorithm>
#include <thread>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/product_rates.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/models/transformer/cost.hpp"

namespace weir::benchmark {
namespace {

/// FLOP/s of sgemm on `cores` cores at the same time, added up.
double gemm_peak(index_t cores, double seconds) {
  std::vector<double> peaks(cores);
  std::vector<std::thread> threads;
  for (double& peak : peaks) threads.emplace_back([&] { peak = measured_gemm_peak(seconds, 1); });
  for (std::thread& thread : threads) thread.join();
  double sum = 0;
  for (const double peak : peaks) sum += peak;
  return sum;
}

worker::ModelConfig model_of(bool quick) {
  worker::ModelConfig model;
  model.layers = 4;
  model.width = quick ? 64 : 512;
  model.heads = 8;
  model.feed_forward = 4 * model.width;
  model.left = 16;
  model.global_tokens = "0-3";
  model.vocabulary = 256;
  model.length = quick ? 256 : 4096;
  return model;
}

std::vector<std::string> options_of(const worker::ModelConfig& model, index_t workers,
                                    index_t steps, const std::string& corpus) {
  const auto option = [](const char* name, auto value) { return text("--", name, "=", value); };
  return {option("model.layers", model.layers),
          option("model.width", model.width),
          option("model.heads", model.heads),
          option("model.feed-forward", model.feed_forward),
          option("attention.left", model.left),
          option("attention.right", model.right),
          option("attention.global-tokens", model.global_tokens),
          option("length", model.length),
          option("batch", workers),
          option("micro-batch", 1),
          option("replicas", workers),
          option("steps", steps),
          option("checkpoint-every", 0),
          option("data.files", corpus),
          option("data.held-out", model.length + 1)};
}

struct Case {
  std::string name;
  index_t workers;
  index_t ranks;
};

void measure(const Case& what, const Options& options, const std::string& corpus, Report& report) {
  const worker::ModelConfig model = model_of(options.quick);
  const index_t steps = options.quick ? 3 : 5;
  std::vector<double> tokens, peaks, shares, waited;
  for (index_t repeat = 0; repeat < (options.quick ? 1 : 3); ++repeat) {
    // The machine may be busier now than a minute ago: its peak before and after each job.
    const double peak_seconds = options.quick ? 0.1 : 1;
    double peak = gemm_peak(what.workers, peak_seconds);
    const JobRecord record = train(what.ranks, options_of(model, what.workers, steps, corpus));
    peak = (peak + gemm_peak(what.workers, peak_seconds)) / 2;
    peaks.push_back(peak / 1e9);
    const auto& seconds = record.column("step", "step_s");
    const auto& waits = record.column("step", "waited_s");
    for (std::size_t step = 1; step < seconds.size(); ++step) {  // the first warms up
      const double samples_per_second = static_cast<double>(what.workers) / seconds[step];
      tokens.push_back(samples_per_second * static_cast<double>(model.length));
      shares.push_back(100 * samples_per_second * worker::model_flops_a_sample(model) / peak);
      waited.push_back(100 * waits[step] / seconds[step]);
    }
  }
  const std::string cores = text("sgemm, ", what.workers, what.workers == 1 ? " core" : " cores");
  report.add({what.name, "speed", spread_of(tokens), "tokens/s"});
  const Spread peak = spread_of(peaks);
  Spread achieved = spread_of(shares);
  for (double* share : {&achieved.low, &achieved.median, &achieved.high}) {
    *share *= peak.median / 100;
  }
  report.add({what.name, "model FLOP/s", achieved, "GFLOP/s", cores, peak.median});
  report.add({what.name, "waiting for servers", spread_of(waited), "% of a step", "aim", 10});
}

/// What products alone reach at the model's own shapes, by each library and in each dtype.
void measure_products(const Options& options, Report& report) {
  const worker::ModelConfig model = model_of(options.quick);
  const worker::ProductChoice machine;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    for (const auto library : {worker::ProductLibrary::openblas, worker::ProductLibrary::onednn}) {
      if (library == worker::ProductLibrary::onednn && !onednn_packs(machine.instructions))
        continue;
      const worker::ProductChoice choice = {.library = library};
      std::vector<double> rates;
      for (index_t repeat = 0; repeat < (options.quick ? 1 : 3); ++repeat) {
        rates.push_back(measured_product_rate(model, library, dtype, options.quick ? 2 : 5) / 1e9);
      }
      report.add({"products alone, 1 core",
                  text(name_of(dtype), choice.is_native(dtype) ? "" : " by conversion", ", ",
                       name_of(library)),
                  spread_of(rates), "GFLOP/s"});
    }
  }
}

void run(const Options& options) {
  Report report("step", "what share of the machine's GEMM peak does a training step reach?",
                options);
  const worker::ModelConfig model = model_of(options.quick);
  const ScratchFolder scratch;
  const std::string corpus = write_letters(scratch.path() / "bytes", 64 * model.length);

  measure_products(options, report);
  measure({"1 rank", 1, 1}, options, corpus, report);
  measure({"2 workers + 1 server", 2, 3}, options, corpus, report);
  report.remark(text("width ", model.width, ", ", model.heads, " heads, ", model.layers,
                     " layers, length ", model.length, ", window (", model.left, ", ", model.right,
                     "), ", "globals ", model.global_tokens, ", one sample a worker, f32"));
  report.remark("FLOPs: matrix products and visible pairs, forward and backward, none twice");
  if (core_count() < 3) {
    report.remark(text("the server shares ", core_count(), " cores with the workers"));
  }
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("step", argument_count, arguments, weir::benchmark::run);
}
