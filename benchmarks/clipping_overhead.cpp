#include "benchmarks/clipping_overhead.hpp"

#include <functional>
#include <iostream>

#include "benchmarks/job.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/number/random.hpp"
#include "common/number/vector.hpp"
#include "launch/cut.hpp"
#include "ps/decide/decide.hpp"
#include "ps/update/store.hpp"

namespace weir::benchmark {
namespace {

std::vector<std::string> model_options(bool quick) {
  const index_t width = quick ? 32 : 384;
  return {text("--model.width=", width),
          text("--model.feed-forward=", 4 * width),
          text("--model.layers=", quick ? 1 : 6),
          "--model.heads=4",
          "--length=256",
          "--batch=4",
          "--micro-batch=4"};
}

/// Seconds of `work`, after a first time for free.
Spread timed(int repeats, const std::function<void()>& work) {
  work();
  std::vector<double> seconds;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double begin = seconds_now();
    work();
    seconds.push_back(seconds_now() - begin);
  }
  return spread_of(seconds);
}

/// A server's gradient in blocks, as Store::sum goes over it.
void each_block(std::span<float> all, const std::function<void(std::span<float>)>& work) {
  for (std::size_t begin = 0; begin < all.size(); begin += kBlockElements) {
    work(all.subspan(begin, std::min<std::size_t>(kBlockElements, all.size() - begin)));
  }
}

}  // namespace

void report_overhead(const Options& options, const std::string& corpus, Report& report) {
  const int repeats = options.quick ? 2 : 21;
  std::vector<std::string> words = model_options(options.quick);
  RunConfig config = parse_run_config(words, {}).config;
  fit_model_to_data(config);
  const BucketPlan plan = make_bucket_plan(config, first_units(config));
  const index_t elements = plan.holding({}).element_count;

  words.insert(words.end(), {"--data.files=" + corpus, "--data.held-out=2000", "--steps=6",
                             "--checkpoint-every=0", "--eval-samples=1"});
  auto steps = train(1, words).column("step", "step_s");
  steps.erase(steps.begin());  // the first touches memory
  const double step = spread_of(steps).median;
  const std::string name = text("overhead, ", elements / 1'000'000, "M parameters: ");
  report.add({name + "a step, one core", "time", spread_of(steps), "s"});
  const auto add = [&](const std::string& what, Spread seconds) {
    for (double* each : {&seconds.low, &seconds.median, &seconds.high}) *each *= 100 / step;
    std::cout << text(name, what, ": ", short_number(seconds.median), " % of a step\n")
              << std::flush;
    report.add({name + what, "of a step", seconds, "%", "limit", 1});
  };

  // With one replica the gradient is there, and its squares are a pass of their own; with several
  // they are taken as the contributions are added up, in the same pass.
  Buffer gradient(elements), variance(elements), other(elements);
  fill_normal(gradient.span(), 1, 0, 0, 1e-3F);
  double sink = 0;
  add("squares, 1 replica", timed(repeats, [&] {
        each_block(gradient.span(), [&](std::span<float> block) { sink += add_parts(block, {}); });
      }));
  report.remark(text("checksum of the squares ", sink > 0 ? "above" : "not above", " 0"));

  using ps::ClipPolicy;
  for (const ClipPolicy policy :
       {ClipPolicy::none, ClipPolicy::fixed, ClipPolicy::decay, ClipPolicy::quantile,
        ClipPolicy::zclip, ClipPolicy::robust, ClipPolicy::per_tensor}) {
    ps::DecideConfig decides = {.clip = {.policy = policy},
                                .rate = {},
                                .training = {.steps = 1'000'000, .batch = 4, .micro_batch = 1}};
    ps::Decider decider(plan, decides);
    Partials partials = {.update = 0, .server = 0, .squares = {}};
    for (const Bucket& bucket : plan.buckets()) {
      partials.squares.resize(partials.squares.size() + ps::blocks_of(bucket).size(), 1e-3);
    }
    const auto decide = [&] {
      ++partials.update;
      decider.on_partials(partials);
      decider.on_report({.step = partials.update, .loss_sum = 1, .count = 1}, 0);
      decider.decide(0);
    };
    for (int warm = 0; warm < 1100; ++warm) decide();  // windows are full, warm-ups over
    add(text("the decision, ", name_of(policy)), timed(10 * repeats, decide));
  }

  const ps::OptimizerConfig adamw = {.clips_updates = true};
  const std::vector<std::span<float>> slots = {other.span(), variance.span()};
  add("the pass of update_rms", timed(repeats, [&] {
        ps::optimizer_direction(adamw, {.factor = 1, .rate = 1e-3, .applied = 10}, other.span(),
                                gradient.span(), slots);
      }));
}

}  // namespace weir::benchmark
