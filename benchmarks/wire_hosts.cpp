#include "benchmarks/wire_hosts.hpp"

#include <sys/wait.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/job.hpp"

namespace weir::benchmark {
namespace {

using Words = std::vector<std::string>;

constexpr int kNotPermitted = 77;

/// The job's record; none if hosts are not permitted here.
std::optional<JobRecord> train_over_hosts(const std::string& rate, const Words& words) {
  const ScratchFolder scratch;
  const std::string run = scratch.path() / "run";
  std::string command = text(quoted(WEIR_HOSTS_JOB), " ", rate, " ", quoted(weir_path()),
                             " train --resume never --progress none --run ", quoted(run));
  for (const std::string& word : words) command += text(" ", quoted(word));
  const int status = std::system(text(command, " >", quoted(run + ".said"), " 2>&1").c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == kNotPermitted) return std::nullopt;
  if (code != 0) {
    throw Error(text("the job ended with ", code, ": ", command, "; try it by hand"));
  }
  return JobRecord(run + "/metrics.jsonl");
}

struct Format {
  std::string name;
  Words words;
};

std::vector<Format> formats(bool quick) {
  const Format fp32 = {"fp32", {}};
  if (quick) return {fp32};
  return {fp32,
          {"bf16 both ways", {"--wire-push=bf16", "--wire-pull=bf16"}},
          {"int8 push, bf16 pull", {"--wire-push=int8", "--wire-pull=bf16"}},
          {"int8 both ways", {"--wire-push=int8", "--wire-pull=int8"}},
          {"topk 1 %", {"--wire-push=topk", "--topk-percent=1", "--wire-pull=bf16"}}};
}

/// Tokens/s of each step but the first, over all rounds.
struct Rates {
  std::vector<double> alone;  ///< each replica by itself
  std::vector<double> group;  ///< both as a group
};

/// One result a format; none if hosts are not permitted here.
std::vector<Rates> rates_over(const std::string& link, const std::vector<Format>& all,
                              const Words& common, int rounds) {
  constexpr double kTokens = 8 * 256;  // a step of the quick start
  std::vector<Rates> rates(all.size());
  for (int round = 0; round < rounds; ++round) {  // all see the same neighbours
    for (std::size_t at = 0; at < all.size(); ++at) {
      for (const bool grouped : {false, true}) {
        Words words = common;
        words.insert(words.end(), all[at].words.begin(), all[at].words.end());
        words.push_back(text("--sum-groups=", grouped ? 2 : 1));
        const std::optional<JobRecord> record = train_over_hosts(link, words);
        if (!record) return {};
        const std::vector<double>& seconds = record->column("step", "step_s");
        for (std::size_t step = 1; step < seconds.size(); ++step) {
          (grouped ? rates[at].group : rates[at].alone).push_back(kTokens / seconds[step]);
        }
      }
    }
  }
  return rates;
}

}  // namespace

void measure_over_hosts(const Options& options, Report& report) {
  const std::vector<Format> all = formats(options.quick);
  const ScratchFolder scratch;
  Words common = {text("--config=", WEIR_CONFIGS, "/quickstart.ini"),
                  "--data.files=" + write_letters(scratch.path() / "bytes", 100'000),
                  "--data.held-out=300", "--checkpoint-every=0",
                  text("--steps=", options.quick ? 3 : 12)};
  if (options.quick) common.insert(common.end(), {"--model.layers=1", "--model.width=32"});
  for (const std::string link : {"1gbit", "100mbit"}) {
    const std::vector<Rates> rates = rates_over(link, all, common, options.quick ? 1 : 2);
    if (rates.empty()) {
      return report.remark("not measured between hosts: there are no network namespaces here");
    }
    for (std::size_t at = 0; at < all.size(); ++at) {
      const std::string job = text("2 workers | ", link, " | server: ", all[at].name);
      const Spread alone = spread_of(rates[at].alone);
      report.add({job, "tokens/s, each replica by itself", alone, ""});
      report.add({job, "tokens/s, a group of two", spread_of(rates[at].group), "", "by itself",
                  alone.median});
    }
  }
  report.remark("aims of groups of two at 100 Mbit/s: 1.8 for fp32, 1.6 for the others");
}

}  // namespace weir::benchmark
