// Does the small setting learn ListOps? (Long Range Arena, arXiv 2011.04006)

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {
namespace {

// Accuracy without reading: always the most frequent answer; and the most frequent answer of the
// sample's root operator, measured on the generator of worker/data/listops.
constexpr double kMajority = 17.1;
constexpr double kRootOperator = 36.4;

void run(const Options& options) {
  Report report("listops", "does the small setting learn ListOps?", options);
  const index_t steps = options.quick ? 2 : 600;  // some five minutes on one core with AVX-512
  std::vector<std::string> words = {text("--config=", WEIR_CONFIGS, "/listops.ini"),
                                    text("--steps=", steps), "--seed=1"};
  if (options.quick) {
    words.insert(words.end(), {"--batch=4", "--micro-batch=4", "--model.layers=1",
                               "--model.width=8", "--model.feed-forward=8"});
  }
  const JobRecord record = train(1, words);
  const std::vector<double> accuracies = {100 *
                                          record.column("summary", "validation_accuracy").back()};
  const std::vector<double> speeds = {record.column("summary", "tokens_per_s").back()};
  const Spread accuracy = spread_of(accuracies);
  report.add({"1 rank", "accuracy", accuracy, "%", "majority", kMajority});
  report.add({"1 rank", "accuracy", accuracy, "%", "root operator", kRootOperator});
  report.add({"1 rank", "speed", spread_of(speeds), "tokens/s"});
  report.remark(
      text("2 layers, width 64, 2 heads, feed-forward 128, batch 32, ", steps, " steps, one seed"));
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("listops", argument_count, arguments, weir::benchmark::run);
}
