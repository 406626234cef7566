// What is a moving clip worth? Each policy on a small language model with and without a published
// schedule of faults: from step 100 on, each batch is corrupted with a probability of 1 % (random
// targets, gradients times 30). See ps/clip.hpp for the policies.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <future>
#include <iostream>
#include <map>
#include <optional>
#include <random>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "launch/quantities.hpp"
#include "worker/train/inject.hpp"

namespace weir::benchmark {
namespace {

using Words = std::vector<std::string>;

const char* const kFaults = "bad=1%:30x";

struct Optimizer {
  std::string name;
  Words options;
};
const std::vector<Optimizer> kOptimizers = {
    {"AdamW", {"--optimizer.kind=adamw", "--rate.peak=3e-3"}},
    {"SGD", {"--optimizer.kind=sgd", "--rate.peak=0.5", "--optimizer.weight-decay=0"}}};

struct Plan {
  // Drawn after the policies' constants had been committed.
  std::vector<index_t> seeds = {211, 212, 213, 214, 215, 216, 217, 218};
  index_t steps = 600;
  index_t held_out = 32768;
  /// The first two are what the others are held against.
  std::vector<std::string> policies = {"none",  "fixed",  "decay",     "quantile",
                                       "zclip", "robust", "per_tensor"};
};

/// Of one job.
struct Curve {
  std::vector<double> loss;  ///< by step
  double validation = 0;
  double skipped = 0;  ///< steps
};

/// None if the job ended with an error: it has diverged.
std::optional<Curve> run_job(const Plan& plan, const Optimizer& optimizer,
                             const std::string& policy, index_t seed, bool faulty,
                             const std::string& corpus) {
  Words words = {"--data.files=" + corpus,
                 text("--data.held-out=", plan.held_out),
                 "--model.layers=2",
                 "--model.width=64",
                 "--model.heads=4",
                 "--model.feed-forward=256",
                 "--length=64",
                 "--batch=16",
                 "--micro-batch=16",
                 "--rate.schedule=constant",
                 "--rate.warm-up=50",
                 "--checkpoint-every=0",
                 "--clip.policy=" + policy,
                 text("--steps=", plan.steps),
                 text("--seed=", seed)};
  words.insert(words.end(), optimizer.options.begin(), optimizer.options.end());
  if (faulty) words.push_back(text("--inject=", kFaults));
  try {
    const JobRecord record = train(1, words);
    const auto& losses = record.column("step", "loss");
    if (std::ssize(losses) != plan.steps) return std::nullopt;  // some are no number
    const double validation = record.column("summary", "validation_loss").back();
    return Curve{losses, validation, record.column("summary", "skipped_count").back()};
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// The loss of clean batches, smoothed; bad ones are passed over.
std::vector<double> smoothed(const std::vector<double>& loss, index_t seed) {
  const worker::Injection faults = worker::parse_injection(kFaults);
  std::vector<double> result;
  double mean = loss.front();
  for (std::size_t at = 0; at < loss.size(); ++at) {
    const auto step = static_cast<index_t>(at) + 1;
    if (!worker::is_bad_step(faults, step, static_cast<std::uint64_t>(seed))) {
      mean = 0.9 * mean + 0.1 * loss[at];
    }
    result.push_back(mean);
  }
  return result;
}

/// Nats a step that faults cost: mean excess of the smoothed loss over the undisturbed run's.
double damage_of(const Curve& faulty, const Curve& clean, index_t seed) {
  const std::vector<double> one = smoothed(faulty.loss, seed), other = smoothed(clean.loss, seed);
  double sum = 0;
  const auto begin = static_cast<std::size_t>(worker::kFirstBadStep - 1);
  for (std::size_t at = begin; at < one.size(); ++at) sum += std::max(0.0, one[at] - other[at]);
  return sum / static_cast<double>(one.size() - begin);
}

struct Key {
  std::size_t optimizer, policy, seed;
  bool faulty;
  auto operator<=>(const Key&) const = default;
};
using Curves = std::map<Key, std::optional<Curve>>;

Curves run_all(const Plan& plan, const std::string& corpus) {
  std::vector<Key> keys;
  for (std::size_t seed = 0; seed < plan.seeds.size(); ++seed) {
    for (std::size_t optimizer = 0; optimizer < kOptimizers.size(); ++optimizer) {
      for (std::size_t policy = 0; policy < plan.policies.size(); ++policy) {
        for (const bool faulty : {false, true}) keys.push_back({optimizer, policy, seed, faulty});
      }
    }
  }
  std::vector<std::optional<Curve>> found(keys.size());
  std::atomic<std::size_t> next = 0;
  const auto run_some = [&] {
    for (std::size_t at = next++; at < keys.size(); at = next++) {
      const Key& key = keys[at];
      found[at] = run_job(plan, kOptimizers[key.optimizer], plan.policies[key.policy],
                          plan.seeds[key.seed], key.faulty, corpus);
      if (at % 28 == 27)
        std::cout << text("  ", at + 1, " of ", keys.size(), " jobs\n") << std::flush;
    }
  };
  auto other = std::async(core_count() > 1 ? std::launch::async : std::launch::deferred, run_some);
  run_some();
  other.get();
  Curves curves;
  for (std::size_t at = 0; at < keys.size(); ++at) curves[keys[at]] = std::move(found[at]);
  return curves;
}

/// 1 - sum of damages / sum of those of a peer on the same seeds, in %, and its 95 % interval by a
/// paired bootstrap.
Spread gain(const std::vector<double>& damages, const std::vector<double>& peer) {
  const auto of = [&](const std::vector<std::size_t>& chosen) {
    double own = 0, other = 0;
    for (std::size_t at : chosen) {
      own += damages[at];
      other += peer[at];
    }
    return 100 * (1 - own / other);
  };
  std::vector<std::size_t> all(damages.size());
  for (std::size_t at = 0; at < all.size(); ++at) all[at] = at;
  std::mt19937 random(1);
  std::vector<double> gains;
  for (int draw = 0; draw < 10'000; ++draw) {
    std::vector<std::size_t> chosen;
    for (std::size_t at = 0; at < all.size(); ++at) chosen.push_back(random() % all.size());
    gains.push_back(of(chosen));
  }
  std::ranges::sort(gains);
  return {gains[gains.size() / 40], of(all), gains[gains.size() - 1 - gains.size() / 40],
          static_cast<index_t>(damages.size())};
}

void report_on(std::size_t optimizer, const Plan& plan, const Curves& curves, Report& report) {
  std::vector<std::vector<double>> damages(plan.policies.size());
  std::vector<std::vector<double>> finals(plan.policies.size());
  for (std::size_t policy = 0; policy < plan.policies.size(); ++policy) {
    const std::string of = text(kOptimizers[optimizer].name, ", ", plan.policies[policy]);
    index_t diverged = 0;
    std::vector<double> skips;
    for (std::size_t seed = 0; seed < plan.seeds.size(); ++seed) {
      const auto& clean = curves.at({optimizer, policy, seed, false});
      const auto& faulty = curves.at({optimizer, policy, seed, true});
      diverged += (clean ? 0 : 1) + (faulty ? 0 : 1);
      if (!clean || !faulty) continue;
      damages[policy].push_back(damage_of(*faulty, *clean, plan.seeds[seed]));
      finals[policy].push_back(clean->validation);
      skips.push_back(100 * clean->skipped / static_cast<double>(plan.steps));
    }
    if (diverged > 0) report.add({of, "diverged", spread_of({double(diverged)}), "jobs"});
    if (damages[policy].size() < plan.seeds.size()) continue;  // no pairs to compare
    report.add({of, "damage", mean_of(damages[policy]), "nats/step"});
    report.add({of, "final loss, clean", mean_of(finals[policy]), "nats", "fixed",
                policy == 0 || finals[1].empty() ? std::numeric_limits<double>::quiet_NaN()
                                                 : mean_of(finals[1]).median});
    report.add({of, "skipped, clean", mean_of(skips), "%"});
  }
  const auto compare = [&](std::size_t policy, std::size_t peer) {
    if (policy == peer || damages[policy].size() != damages[peer].size() ||
        damages[peer].size() < plan.seeds.size()) {
      return;
    }
    report.add({text(kOptimizers[optimizer].name, ", ", plan.policies[policy], " against ",
                     plan.policies[peer]),
                "damage saved*", gain(damages[policy], damages[peer]), "%", "an article's claim",
                40});
  };
  for (std::size_t policy = 0; policy < plan.policies.size(); ++policy) {
    compare(policy, 1);
    compare(policy, 0);
  }
}

std::string austen() {
  FILE* pipe = popen("'" WEIR_CORPUS "'", "r");
  if (pipe == nullptr) throw Error(text("cannot start ", WEIR_CORPUS));
  std::string path;
  for (int letter; (letter = std::fgetc(pipe)) != EOF;) path += static_cast<char>(letter);
  if (pclose(pipe) != 0) throw Error("there is no text to train on; see above");
  while (!path.empty() && path.back() == '\n') path.pop_back();
  return path;
}

void run(const Options& options) {
  Plan plan;
  if (options.quick) {
    plan = {.seeds = {1}, .steps = 102, .held_out = 1000, .policies = {"none", "fixed", "robust"}};
  }
  Report report("clipping", "how much of what bad batches cost does each clip policy save?",
                options);
  // --quick needs no download: any text will do.
  const std::string corpus = options.quick ? std::string(WEIR_LICENSE) : austen();
  const Curves curves = run_all(plan, corpus);
  for (std::size_t optimizer = 0; optimizer < kOptimizers.size(); ++optimizer) {
    report_on(optimizer, plan, curves, report);
  }
  report.remark(text("language model, 2 layers, width 64; ", plan.steps,
                     " steps of 16 x 64 tokens; ", plan.seeds.size(), " seeds; faults: ", kFaults,
                     " from step ", worker::kFirstBadStep, " on, the same for all policies"));
  report.remark(
      "damage: mean excess of the smoothed loss of clean batches over the same seed without "
      "faults");
  report.remark(
      "medians and quartiles are means, lowest and highest of the seeds; * 95 % interval of a "
      "paired bootstrap");
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("clipping", argument_count, arguments, weir::benchmark::run);
}
