// What does each consistency cost and save when replicas are slow now and then? Four replicas whose
// computing is replaced by sleeps (there are fewer cores than replicas); the models are trained all
// the same, so that the loss is one.

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "common/base/text.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/terminal/quantities.hpp"

namespace weir::benchmark {
namespace {

using Words = std::vector<std::string>;

struct Mode {
  std::string name;
  Words options;
};

const std::vector<Mode> kModes = {
    {"bsp", {}},
    {"bsp, 1 backup", {"--backup=1"}},
    {"ssp, 1 step", {"--consistency=ssp", "--staleness=1"}},
    {"ssp, 4 steps", {"--consistency=ssp", "--staleness=4"}},
    {"asp", {"--consistency=asp"}},
};

struct Disturbance {
  std::string name;
  std::string inject;
};

/// How long a job is.
struct Amount {
  index_t replicas;
  index_t sleep_ms;  ///< what a step sleeps in place of computing
  index_t steps;
  index_t held_out;  ///< bytes
  int rounds;
};

struct Outcome {
  double steps_per_second = 0;
  double loss = 0;
  double left_out = 0;                   ///< replicas, a step
  std::map<index_t, index_t> staleness;  ///< contributions by updates since their pull
};

/// A mode under a disturbance.
struct Case {
  const Mode* mode;
  const Disturbance* disturbance;
  std::vector<Outcome> outcomes = {};

  std::string name() const { return text(disturbance->name, ": ", mode->name); }
  template <class Member>
  Spread spread(Member member) const {
    std::vector<double> values;
    for (const Outcome& each : outcomes) values.push_back(each.*member);
    return spread_of(values);
  }
};

Outcome run_job(const Case& one, const Amount& amount, const std::string& corpus) {
  const ScratchFolder scratch;
  Words words = {"--data.files=" + corpus,
                 text("--data.held-out=", amount.held_out),
                 "--model.layers=1",
                 "--model.width=32",
                 "--model.feed-forward=64",
                 "--model.heads=2",
                 "--length=32",
                 text("--batch=", amount.replicas),
                 "--micro-batch=1",
                 "--checkpoint-every=0",
                 "--rate.peak=2e-3",
                 "--rate.warm-up=10",
                 text("--steps=", amount.steps),
                 text("--replicas=", amount.replicas),
                 text("--inject=sleep=", amount.sleep_ms, "ms", one.disturbance->inject)};
  words.insert(words.end(), one.mode->options.begin(), one.mode->options.end());
  const JobRecord record = train(amount.replicas + 1, words, scratch.path());
  Outcome outcome;
  const auto& seconds = record.column("step", "elapsed_s");
  // Measured from the end of the first step, since the job starts up before it.
  outcome.steps_per_second =
      static_cast<double>(amount.steps - 1) / (seconds.back() - seconds.front());
  outcome.loss = record.column("summary", "validation_loss").back();
  outcome.left_out =
      static_cast<double>(amount.replicas) - mean_of(record.column("step", "contributors")).median;
  std::ifstream log(RunFolder::decisions_of(scratch.path()));
  for (std::string line; std::getline(log, line);) {
    const auto decision = nlohmann::json::parse(line);
    if (decision.contains("staleness")) ++outcome.staleness[decision["staleness"].get<index_t>()];
  }
  return outcome;
}

std::string histogram_text(const std::map<index_t, index_t>& counts) {
  double all = 0;
  for (const auto& [staleness, count] : counts) all += static_cast<double>(count);
  std::string words;
  for (const auto& [staleness, count] : counts) {
    const double percent = 100 * static_cast<double>(count) / all;
    if (percent < 0.5) continue;
    words += text(words.empty() ? "" : ", ", staleness, ": ", fixed(percent, 0), " %");
  }
  return words;
}

void run(const Options& options) {
  const Amount amount = options.quick ? Amount{2, 1, 5, 100, 1} : Amount{4, 40, 100, 4000, 3};
  const std::vector<Disturbance> disturbances = {
      {"undisturbed", ""},
      {"replica 1 slow", ",slow=1:5x:20%"},
      {"any slow", ",slow=any:5x:5%"},
  };
  std::vector<Case> cases;
  for (std::size_t d = 0; d < disturbances.size(); ++d) {
    for (std::size_t m = 0; m < kModes.size(); ++m) {
      // --quick: each mode and each disturbance, but not each pair.
      if (options.quick && m % disturbances.size() != d) continue;
      cases.push_back({&kModes[m], &disturbances[d]});
    }
  }
  Report report("consistency", "what does each consistency cost and save when replicas are slow?",
                options);
  const ScratchFolder scratch;
  const std::string corpus = scratch.path() / "bytes";
  {
    std::ofstream file(corpus, std::ios::binary);
    for (index_t i = 0; i < 40'000; ++i) {
      file.put(static_cast<char>('a' + (i * i + i / 7) % 26));
    }
  }
  for (int round = 0; round < amount.rounds; ++round) {  // a busy minute meets all cases alike
    for (Case& one : cases) one.outcomes.push_back(run_job(one, amount, corpus));
  }
  const Case& undisturbed = cases.front();
  for (const Case& one : cases) {
    report.add({one.name(), "speed", one.spread(&Outcome::steps_per_second), "steps/s",
                "bsp undisturbed", undisturbed.spread(&Outcome::steps_per_second).median});
    report.add({one.name(), "validation loss", one.spread(&Outcome::loss), "nats",
                "bsp undisturbed", undisturbed.spread(&Outcome::loss).median});
    if (one.mode->name.find("backup") != std::string::npos) {
      report.add({one.name(), "replicas left out", one.spread(&Outcome::left_out), "a step"});
    }
  }
  for (const Case& one : cases) {
    std::map<index_t, index_t> counts;
    for (const Outcome& each : one.outcomes) {
      for (const auto& [staleness, count] : each.staleness) counts[staleness] += count;
    }
    if (counts.empty()) continue;
    report.remark(text("updates between pull and use, ", one.disturbance->name, ", ",
                       one.mode->name, ": ", histogram_text(counts)));
  }
  report.remark(text(amount.replicas, " replicas and a server; a step is ", amount.sleep_ms,
                     " ms of sleep and a small model; ", amount.steps, " steps of each replica"));
  report.remark(
      "replica 1 slow: 5 times as long in 20 % of its steps; any slow: each replica, in 5 %");
  report.remark(
      "aim: bsp with 1 backup keeps 90 % of the undisturbed speed while replica 1 is slow");
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("consistency", argument_count, arguments,
                                      weir::benchmark::run);
}
