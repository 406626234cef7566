// Do bf16 and fp16 cost quality? The quick start's language model and the small ListOps classifier,
// trained in each precision from the same initial weights and on the same samples.

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <map>
#include <mutex>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "common/base/text.hpp"
#include "common/job/training.hpp"
#include "launch/terminal/quantities.hpp"

namespace weir::benchmark {
namespace {

using Words = std::vector<std::string>;  // options of `weir train`

// How far a loss may be from that of fp32, in %.
constexpr double kMeanAim = 1;
constexpr double kSeedAim = 2;

/// A model and its data, and how it is trained.
struct Subject {
  std::string name;
  index_t steps;
  std::vector<index_t> seeds;
  bool classifies;
  Words options;
};

std::vector<Subject> subjects(const std::string& corpus, bool quick) {
  const auto configuration = [](const char* file) {
    return text("--config=", WEIR_CONFIGS, "/", file);
  };
  // One replica, so one process: the layout does not change what is learnt.
  Subject language = {
      .name = "quick start",
      .steps = 600,
      .seeds = {1, 2, 3},
      .classifies = false,
      .options = {configuration("quickstart.ini"), "--replicas=1", "--data.files=" + corpus}};
  Subject listops = {.name = "ListOps",
                     .steps = 1000,
                     .seeds = {1},
                     .classifies = true,
                     .options = {configuration("listops.ini"), "--eval-every=0"}};
  if (quick) {
    language.options.push_back("--length=128");
    listops.options.push_back("--batch=2");
    for (Subject* const subject : {&language, &listops}) {
      subject->steps = 2;
      subject->seeds = {1};
      subject->options.insert(subject->options.end(),
                              {"--model.layers=1", "--model.width=16", "--model.feed-forward=16"});
    }
  }
  return {language, listops};
}

/// A subject in one precision.
struct Case {
  const Subject* subject;
  Precision precision;

  auto operator<=>(const Case&) const = default;
  std::string name() const { return text(subject->name, ", ", name_of(precision)); }
};

/// What came out of a job.
struct Outcome {
  double loss = 0;                       ///< at validation, nats; infinite if it has diverged
  double accuracy = 0;                   ///< a classifier's, at validation, in %
  double skipped = 0;                    ///< steps
  std::vector<double> loss_scales = {};  ///< fp16: after each step
};

Outcome train_one(const Case& one, index_t seed) {
  Words words = one.subject->options;
  words.insert(words.end(), {text("--steps=", one.subject->steps), text("--seed=", seed),
                             "--checkpoint-every=0", text("--precision=", name_of(one.precision))});
  const JobRecord record = train(1, words);
  const auto at_end = [&](const char* key) {
    return record.has("summary", key) ? record.column("summary", key).back()
                                      : std::numeric_limits<double>::infinity();
  };
  Outcome outcome = {.loss = at_end("validation_loss"), .skipped = at_end("skipped_count")};
  if (one.subject->classifies) outcome.accuracy = 100 * at_end("validation_accuracy");
  if (one.precision == Precision::fp16) outcome.loss_scales = record.column("step", "loss_scale");
  return outcome;
}

class Comparison {
 public:
  explicit Comparison(const Options& options)
      : options_(options),
        report_("precision", "do bf16 and fp16 cost quality, against fp32 from the same seeds?",
                options),
        subjects_(subjects(
            options.quick ? write_letters(scratch_.path() / "bytes", 16384) : austen_text(),
            options.quick)) {
    for (const Subject& subject : subjects_) {
      for (const auto& [word, precision] : kPrecisionNames) {
        cases_.push_back({&subject, precision});
      }
    }
    cases_ = wanted(std::move(cases_), options_);
  }

  void run() {
    train_all();
    for (const Case& one : cases_) add(one);
    for (const Subject& subject : subjects_) {
      if (std::ranges::none_of(cases_, [&](const Case& one) { return one.subject == &subject; })) {
        continue;
      }
      report_.remark(text(subject.name, ": ", subject.steps, " steps, ", subject.seeds.size(),
                          subject.seeds.size() == 1 ? " seed" : " seeds", ", one process"));
    }
    report_.remark("medians are means of the seeds; quartiles are the lowest and the highest");
    report_.print();
  }

 private:
  void train_all();
  void add(const Case& one);
  void add_comparison(const Case& one);
  void add_loss_scale(const Case& one);

  std::vector<double> values_of(const Case& one, double Outcome::*member) const {
    std::vector<double> values;
    for (const Outcome& outcome : outcomes_.at(one)) values.push_back(outcome.*member);
    return values;
  }

  Options options_;
  Report report_;
  ScratchFolder scratch_;
  std::vector<Subject> subjects_;
  std::vector<Case> cases_;
  std::map<Case, std::vector<Outcome>> outcomes_;  ///< one for each seed
};

void Comparison::train_all() {
  struct Job {
    Case of;
    std::size_t seed;
  };
  std::vector<Job> jobs;
  for (const Case& one : cases_) {
    outcomes_[one].resize(one.subject->seeds.size());
    for (std::size_t seed = 0; seed < outcomes_[one].size(); ++seed) jobs.push_back({one, seed});
  }
  std::mutex one_line;
  side_by_side(jobs.size(), options_.jobs, [&](std::size_t at) {
    const auto& [one, seed] = jobs[at];
    Outcome& outcome = outcomes_.at(one)[seed];
    outcome = train_one(one, one.subject->seeds[seed]);
    const std::lock_guard lock(one_line);
    std::cerr << "precision: " << one.name() << ", seed " << one.subject->seeds[seed] << ": "
              << short_number(outcome.loss) << " nats" << std::endl;
  });
}

void Comparison::add(const Case& one) {
  const Case fp32 = {one.subject, Precision::fp32};
  const bool is_compared = one.precision != Precision::fp32 && outcomes_.contains(fp32);
  const auto add_mean = [&](const char* metric, double Outcome::*member, const char* unit) {
    const Spread own = mean_of(values_of(one, member));
    if (is_compared) {
      report_.add({one.name(), metric, own, unit, "fp32", mean_of(values_of(fp32, member)).median});
    } else {
      report_.add({one.name(), metric, own, unit});
    }
  };
  add_mean("validation loss", &Outcome::loss, "nats");
  if (one.subject->classifies) add_mean("validation accuracy", &Outcome::accuracy, "%");
  if (is_compared) add_comparison(one);
  if (one.precision == Precision::fp16) add_loss_scale(one);
}

/// How far the loss is above that of fp32, and whether that is within the aims.
void Comparison::add_comparison(const Case& one) {
  const std::vector<double> own = values_of(one, &Outcome::loss);
  const std::vector<double> fp32 = values_of({one.subject, Precision::fp32}, &Outcome::loss);
  std::vector<double> excess;  // in %, of each seed
  double farthest = 0;
  for (std::size_t seed = 0; seed < own.size(); ++seed) {
    excess.push_back(100 * (own[seed] / fp32[seed] - 1));
    if (!(std::abs(excess.back()) <= farthest)) farthest = std::abs(excess.back());
  }
  report_.add({one.name(), "loss above fp32, by seed", mean_of(excess), "%"});
  const double mean = std::abs(100 * (mean_of(own).median / mean_of(fp32).median - 1));
  const bool passes = mean <= kMeanAim && farthest <= kSeedAim;
  report_.remark(text(one.name(), ": the mean loss is ", fixed(mean, 2),
                      " % from that of fp32 (aim: ", kMeanAim, " %), the farthest seed ",
                      fixed(farthest, 2), " % (aim: ", kSeedAim,
                      " %): ", passes ? "pass" : "miss"));
}

void Comparison::add_loss_scale(const Case& one) {
  std::vector<double> at_end;
  for (std::size_t seed = 0; seed < one.subject->seeds.size(); ++seed) {
    const Outcome& outcome = outcomes_.at(one)[seed];
    const auto [lowest, highest] = std::ranges::minmax(outcome.loss_scales);
    at_end.push_back(outcome.loss_scales.back());
    report_.remark(text(one.name(), ", seed ", one.subject->seeds[seed], ": loss scale ",
                        power_text(outcome.loss_scales.front()), " after the first step, ",
                        power_text(lowest), " to ", power_text(highest), " on the way, ",
                        power_text(at_end.back()), " at the end; ", outcome.skipped,
                        " steps skipped"));
  }
  report_.add({one.name(), "loss scale at the end", mean_of(at_end), ""});
  report_.add({one.name(), "skipped", mean_of(values_of(one, &Outcome::skipped)), "steps"});
}

void run(const Options& options) { Comparison(options).run(); }

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("precision", argument_count, arguments, weir::benchmark::run);
}
