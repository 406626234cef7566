// How well does the small setting learn ListOps? (Long Range Arena, arXiv 2011.04006)
//
// Trains each setting with several seeds, two jobs side by side; takes of each job the checkpoint
// that is best on the validation samples and scores it on the test samples, apart for those whose
// root's own digits say the value. Seeds draw the samples, too: two seeds share no test sample.

#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <future>
#include <iostream>
#include <mutex>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/listops_rules.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/trained_model.hpp"
#include "worker/data/batch.hpp"

namespace weir::benchmark {
namespace {

namespace fs = std::filesystem;

// Published for a model of this size.
constexpr double kDense = 37.1;  // softmax attention, 5,000 steps: Xiong et al., arXiv 2102.03902
constexpr double kBigBird = 39.25;  // 50,000 steps, 3 seeds: Chen et al., arXiv 2111.00035, table 1
// The three rules, measured once on 20,000 samples of the original generator.
constexpr double kMajority = 17.1;
constexpr double kRootOperator = 36.4;
constexpr double kOwnDigits = 48.6;

constexpr index_t kJobsAtOnce = 2;

struct Setting {
  std::string name;
  std::vector<std::string> options;  ///< beside the configuration file
};

const std::vector<Setting> kSettings = {
    {"weir", {}},
    {"published",
     {"--model.positions=learned", "--model.pooling=mean", "--model.dropout=0.1",
      "--model.deviation=0.02", "--rate.schedule=one-cycle", "--rate.peak=1e-4",
      "--rate.warm-up=1000", "--optimizer.beta2=0.999", "--optimizer.weight-decay=0",
      "--clip.policy=none"}}};

/// How much of everything; --quick takes next to nothing.
struct Plan {
  std::vector<index_t> seeds = {101, 102, 103};  // none of them was used to choose a setting
  index_t steps = 5000;
  index_t eval_every = 500;
  index_t test_samples = 2000;
  index_t rule_samples = 96'000;  ///< that the rules learn from
  std::vector<std::string> options;
};

Plan quick_plan() {
  return {
      .seeds = {101},
      .steps = 2,
      .eval_every = 1,
      .test_samples = 20,
      .rule_samples = 500,
      .options = {"--batch=2", "--model.layers=1", "--model.width=16", "--model.feed-forward=16"}};
}

struct Job {
  const Setting* setting = nullptr;
  index_t seed = 0;
  std::string name() const { return text(setting->name, ", seed ", seed); }
};

/// All in %, of test samples.
struct Outcome {
  double accuracy = 0;
  double where_own_digits_suffice = 0;
  double elsewhere = 0;
  RuleAccuracies rules;
  double minutes = 0;
  double tokens_per_second = 0;
};

/// The step whose checkpoint did best on the validation samples, and how well, in %.
std::pair<index_t, double> best_validation(const JobRecord& record) {
  const auto& accuracies = record.column("validation", "accuracy");
  const auto best = std::ranges::max_element(accuracies);
  const auto at = static_cast<std::size_t>(best - accuracies.begin());
  return {static_cast<index_t>(record.column("validation", "step").at(at)), 100 * *best};
}

/// Whether the checkpoint's answer is right, of each test sample.
std::vector<bool> answers(const fs::path& checkpoint, index_t count) {
  const CheckpointReader reader(checkpoint);
  RunConfig config = config_of(reader);
  config.data.listops_split = worker::ListopsSplit::test;
  config.train.training.micro_batch = 1;
  worker::Scorer model = scorer_of(reader, config);
  const auto dataset =
      worker::make_dataset(config.data, config.train.length, config.train.training.random_seed());
  worker::Batch batch(*dataset, 1);
  std::vector<bool> right;
  for (index_t sample = 0; sample < count; ++sample) {
    batch.load_validation({&sample, 1});
    right.push_back(model.loss(batch.view()).correct == 1);
  }
  return right;
}

/// Adds what the test says to what training said.
Outcome scored(const Job& job, const Plan& plan, const JobRecord& record,
               const fs::path& checkpoint) {
  const ListopsRules rules(job.seed, plan.rule_samples);
  const std::vector<bool> right = answers(checkpoint, plan.test_samples);
  std::array<double, 2> correct{};  // [whether own digits suffice]
  std::array<double, 2> samples{};
  for (index_t index = 0; index < plan.test_samples; ++index) {
    const auto suffice = static_cast<std::size_t>(own_digits_suffice(worker::make_listops(
        static_cast<std::uint64_t>(job.seed), worker::ListopsSplit::test, index)));
    samples[suffice] += 1;
    correct[suffice] += right[index] ? 1 : 0;
  }
  return {.accuracy = 100 * (correct[0] + correct[1]) / (samples[0] + samples[1]),
          .where_own_digits_suffice = 100 * correct[1] / samples[1],
          .elsewhere = 100 * correct[0] / samples[0],
          .rules = rules.accuracies(plan.test_samples),
          .minutes = record.column("summary", "elapsed_s").back() / 60,
          .tokens_per_second = record.column("summary", "tokens_per_s").back()};
}

/// The jobs, kJobsAtOnce at a time, with a line to stdout when one begins or ends, and now and
/// then.
class Jobs {
 public:
  Jobs(std::vector<Job> jobs, Plan plan) : jobs_(std::move(jobs)), plan_(std::move(plan)) {}

  std::vector<Outcome> run() {
    outcomes_.resize(jobs_.size());
    auto all = std::async(std::launch::async, [this] {
      side_by_side(jobs_.size(), kJobsAtOnce,
                   [this](std::size_t job) { outcomes_[job] = run_one(job); });
    });
    while (all.wait_for(std::chrono::minutes(2)) != std::future_status::ready) say_how_far();
    all.get();
    return outcomes_;
  }

 private:
  fs::path run_folder(std::size_t job) const { return scratch_.path() / text(job); }

  Outcome run_one(std::size_t index) {
    const Job& job = jobs_[index];
    say(text(job.name(), ": begins"));
    std::vector<std::string> words = {
        text("--config=", WEIR_CONFIGS, "/listops.ini"), text("--seed=", job.seed),
        text("--steps=", plan_.steps), text("--eval-every=", plan_.eval_every),
        // Both kept for every validation, so that the best can be taken.
        text("--checkpoint-every=", plan_.eval_every),
        text("--checkpoint.keep=", plan_.steps / plan_.eval_every + 1),
        text("--eval-samples=", plan_.test_samples)};
    words.insert(words.end(), job.setting->options.begin(), job.setting->options.end());
    words.insert(words.end(), plan_.options.begin(), plan_.options.end());
    const JobRecord record = train(1, words, run_folder(index));
    const auto [step, validation] = best_validation(record);
    const Outcome outcome = scored(
        job, plan_, record, checkpoint_folder(RunFolder::checkpoints_of(run_folder(index)), step));
    say(text(job.name(), ": ", fixed(outcome.accuracy, 2), " % of the test (",
             fixed(outcome.where_own_digits_suffice, 2), " where the root's own digits suffice, ",
             fixed(outcome.elsewhere, 2), " elsewhere; the rules ",
             fixed(outcome.rules.majority, 2), ", ", fixed(outcome.rules.root_operator, 2), ", ",
             fixed(outcome.rules.own_digits, 2), ") with step ", step,
             ", best of the validation: ", fixed(validation, 2), " %; ", fixed(outcome.minutes, 1),
             " min, ", grouped(std::llround(outcome.tokens_per_second)), " tokens/s"));
    return outcome;
  }

  void say_how_far() {
    for (std::size_t index = 0; index < jobs_.size(); ++index) {
      std::ifstream file(run_folder(index) / "metrics.jsonl");
      index_t steps = 0;
      for (std::string line; std::getline(file, line);) {
        steps += line.starts_with(R"({"kind":"step")") ? 1 : 0;
      }
      if (0 < steps && steps < plan_.steps) {
        say(text(jobs_[index].name(), ": ", steps, " of ", plan_.steps, " steps"));
      }
    }
  }
  void say(const std::string& line) {
    const std::scoped_lock lock(mutex_);
    std::cout << "  [" << fixed((seconds_now() - began_at_) / 60, 1) << " min] " << line
              << std::endl;
  }

  std::vector<Job> jobs_;
  Plan plan_;
  ScratchFolder scratch_;
  double began_at_ = seconds_now();
  std::mutex mutex_;  ///< guards stdout
  std::vector<Outcome> outcomes_;
};

template <class Get>
Spread mean_over(const std::vector<Outcome>& outcomes, const Get& get) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes) values.push_back(get(outcome));
  return mean_of(values);
}

void add_setting(Report& report, const Setting& setting, const std::vector<Outcome>& outcomes) {
  const auto add = [&](const char* metric, auto member, const char* unit,
                       const char* reference_name = "",
                       double reference = std::numeric_limits<double>::quiet_NaN()) {
    report.add({setting.name, metric,
                mean_over(outcomes, [&](const Outcome& outcome) { return outcome.*member; }), unit,
                reference_name, reference});
  };
  add("accuracy", &Outcome::accuracy, "%", "softmax attention, published", kDense);
  add("accuracy", &Outcome::accuracy, "%", "BigBird, published", kBigBird);
  add("accuracy", &Outcome::accuracy, "%", "the root's own digits",
      mean_over(outcomes, [](const Outcome& o) { return o.rules.own_digits; }).median);
  add("… where the root's own digits suffice", &Outcome::where_own_digits_suffice, "%");
  add("… where they do not", &Outcome::elsewhere, "%");
  add("time", &Outcome::minutes, "min");
  add("speed", &Outcome::tokens_per_second, "tokens/s");
}

void add_rules(Report& report, const std::vector<Outcome>& outcomes) {
  const auto add = [&](const char* rule, double RuleAccuracies::*member, double published) {
    report.add({rule, "accuracy",
                mean_over(outcomes, [&](const Outcome& o) { return o.rules.*member; }), "%",
                "on 20,000 other samples", published});
  };
  add("no model: most frequent answer", &RuleAccuracies::majority, kMajority);
  add("no model: that of the root operator", &RuleAccuracies::root_operator, kRootOperator);
  add("no model: root operator of its own digits", &RuleAccuracies::own_digits, kOwnDigits);
}

void run(const Options& options) {
  Report report("listops", "how well does the small setting learn ListOps?", options);
  const Plan plan = options.quick ? quick_plan() : Plan{};
  std::vector<Job> jobs;
  for (const Setting& setting : kSettings) {
    for (const index_t seed : plan.seeds) jobs.push_back({&setting, seed});
  }
  const std::vector<Outcome> outcomes = Jobs(jobs, plan).run();
  auto outcome = outcomes.begin();
  for (const Setting& setting : kSettings) {
    const auto end = outcome + std::ssize(plan.seeds);
    add_setting(report, setting, {outcome, end});
    outcome = end;
  }
  add_rules(report, {outcomes.begin(), outcomes.begin() + std::ssize(plan.seeds)});
  report.remark(text("medians and quartiles are means, lowest and highest of ", plan.seeds.size(),
                     " seeds; ", plan.steps, " steps, ", plan.test_samples,
                     " test samples a seed"));
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("listops", argument_count, arguments, weir::benchmark::run);
}
