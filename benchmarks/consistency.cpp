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

constexpr index_t kReplicas = 4;

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

struct Outcome {
  double steps_per_second = 0;
  double loss = 0;
  double left_out = 0;                   ///< replicas, a step
  std::map<index_t, index_t> staleness;  ///< contributions by updates since their pull
};

Outcome run_job(const Mode& mode, const std::string& inject, index_t steps,
                const std::string& corpus) {
  const ScratchFolder scratch;
  Words words = {"--data.files=" + corpus,
                 "--data.held-out=4000",
                 "--model.layers=1",
                 "--model.width=32",
                 "--model.feed-forward=64",
                 "--model.heads=2",
                 "--length=32",
                 "--batch=4",
                 "--micro-batch=1",
                 "--checkpoint-every=0",
                 "--rate.peak=2e-3",
                 "--rate.warm-up=10",
                 text("--steps=", steps),
                 text("--replicas=", kReplicas),
                 "--inject=" + inject};
  words.insert(words.end(), mode.options.begin(), mode.options.end());
  const JobRecord record = train(kReplicas + 1, words, scratch.path());
  Outcome outcome;
  const auto& seconds = record.column("step", "elapsed_s");
  // Measured from the end of the first step, since the job starts up before it.
  outcome.steps_per_second = static_cast<double>(steps - 1) / (seconds.back() - seconds.front());
  outcome.loss = record.column("summary", "validation_loss").back();
  outcome.left_out = kReplicas - mean_of(record.column("step", "contributors")).median;
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
  const index_t sleep_ms = options.quick ? 1 : 40;
  const index_t steps = options.quick ? 5 : 100;
  const int rounds = options.quick ? 1 : 3;
  const std::string sleep = text("sleep=", sleep_ms, "ms");
  const std::vector<Disturbance> disturbances = {
      {"undisturbed", sleep},
      {"replica 1 slow", sleep + ",slow=1:5x:20%"},
      {"any slow", sleep + ",slow=any:5x:5%"},
  };
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
  // Rounds outermost: a busy minute meets all cases alike.
  std::map<std::pair<std::size_t, std::size_t>, std::vector<Outcome>> outcomes;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t d = 0; d < disturbances.size(); ++d) {
      for (std::size_t m = 0; m < kModes.size(); ++m) {
        outcomes[{d, m}].push_back(run_job(kModes[m], disturbances[d].inject, steps, corpus));
      }
    }
  }
  const auto spread = [&](std::size_t d, std::size_t m, auto member) {
    std::vector<double> values;
    for (const Outcome& each : outcomes[{d, m}]) values.push_back(each.*member);
    return spread_of(values);
  };
  const double undisturbed = spread(0, 0, &Outcome::steps_per_second).median;
  for (std::size_t d = 0; d < disturbances.size(); ++d) {
    for (std::size_t m = 0; m < kModes.size(); ++m) {
      const std::string of = text(disturbances[d].name, ": ", kModes[m].name);
      report.add({of, "speed", spread(d, m, &Outcome::steps_per_second), "steps/s",
                  "bsp undisturbed", undisturbed});
      report.add({of, "validation loss", spread(d, m, &Outcome::loss), "nats", "bsp undisturbed",
                  spread(0, 0, &Outcome::loss).median});
      if (kModes[m].name.find("backup") != std::string::npos) {
        report.add({of, "replicas left out", spread(d, m, &Outcome::left_out), "a step"});
      }
    }
  }
  for (std::size_t d = 0; d < disturbances.size(); ++d) {
    for (std::size_t m = 0; m < kModes.size(); ++m) {
      std::map<index_t, index_t> counts;
      for (const Outcome& each : outcomes[{d, m}]) {
        for (const auto& [staleness, count] : each.staleness) counts[staleness] += count;
      }
      if (counts.empty()) continue;
      report.remark(text("updates between pull and use, ", disturbances[d].name, ", ",
                         kModes[m].name, ": ", histogram_text(counts)));
    }
  }
  report.remark(text(kReplicas, " replicas and a server; a step is ", sleep_ms,
                     " ms of sleep and a small model; ", steps, " steps of each replica"));
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
