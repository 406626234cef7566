// Does weir keep what it promises when machines fail? Makes faults on purpose, many times.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <iostream>
#include <random>
#include <thread>

#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/options.hpp"
#include "common/base/spelling.hpp"
#include "tests/faults/journal.hpp"
#include "tests/faults/part.hpp"

namespace weir::test {
namespace {

constexpr int kSkipped = 77;  // what ctest takes for it
constexpr int kUnfinished = 75;

struct FaultsConfig {
  bool is_long = false;
  index_t only = -1;
  index_t seed = 0;
  index_t at_once = 4;
  double minutes = 30;
  std::string folder = "build/faults";
};

std::vector<Option> options(FaultsConfig& config) {
  return {
      {"long", "", "the trials of the published table instead of a few", &config.is_long},
      {"only", "", "this trial alone; -1: all", &config.only, {-1, 1e12}},
      {"seed", "", "decides what is random; 0: another one each time", &config.seed, {0, 1e12}},
      {"at-once", "", "trials beside each other", &config.at_once, {1, 64}},
      {"minutes", "min", "ends then; the same words go on", &config.minutes, {0, 1e6}},
      {"folder", "", "long runs keep their results here", &config.folder},
  };
}

/// Makes the trials that the journal does not have, several beside each other, until the time is
/// up.
class Run {
 public:
  Run(const Row& row, Part& part, const FaultsConfig& config, index_t trials, std::uint64_t seed,
      Journal& journal)
      : row_(row), part_(part), seed_(seed), journal_(journal) {
    const index_t first = std::max<index_t>(0, config.only);
    const index_t end = config.only < 0 ? trials : std::min(trials, config.only + 1);
    for (index_t trial = first; trial < end; ++trial) {
      if (!journal_.has(trial)) wanted_.push_back(trial);
    }
    until_ = seconds_now() + 60 * config.minutes;
    std::vector<std::jthread> threads;
    for (index_t each = 0; each < config.at_once; ++each) threads.emplace_back([this] { work(); });
  }

 private:
  void work() {
    while (seconds_now() < until_) {
      const std::size_t at = next_++;
      if (at >= wanted_.size()) return;
      const index_t trial = wanted_[at];
      const double begin = seconds_now();
      std::string failure;
      try {
        part_.attempt(trial, seed_ * 1'000'003 + static_cast<std::uint64_t>(trial));
      } catch (const std::exception& error) {
        failure = error.what();
        if (failure.empty()) failure = "an error without words";
      }
      journal_.add(trial, failure, seconds_now() - begin);
      say(trial, failure);
    }
  }

  void say(index_t trial, const std::string& failure) {
    const std::lock_guard guard(mutex_);
    ++made_;
    if (!failure.empty()) {
      std::cout << row_.name << ": trial " << trial << " failed: " << failure
                << "\n  again: --only " << trial << " --seed " << seed_ << std::endl;
    }
    if (seconds_now() - said_at_ < 2) return;
    said_at_ = seconds_now();
    std::cout << row_.name << ": " << made_ << " of " << wanted_.size() << std::endl;
  }

  const Row& row_;
  Part& part_;
  const std::uint64_t seed_;
  Journal& journal_;
  std::vector<index_t> wanted_;
  std::atomic<std::size_t> next_ = 0;
  double until_ = 0;
  std::mutex mutex_;
  std::size_t made_ = 0;
  double said_at_ = seconds_now();
};

std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char date[16];
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  return date;
}

/// Returns the exit code.
int run(const Row& row, const FaultsConfig& config) {
  const double begin = seconds_now();
  const std::unique_ptr<Part> part = row.make();
  index_t trials = 0;
  try {
    trials = part->prepare(config.is_long);
  } catch (const NotPermitted& reason) {
    std::cout << "| " << row.fault << " | not run: " << reason.what() << " |" << std::endl;
    return kSkipped;
  }
  std::uint64_t seed = config.seed != 0 ? static_cast<std::uint64_t>(config.seed)
                                        : std::random_device()() % 1'000'000 + 1;
  const std::string commit = commit_here();
  const std::filesystem::path path =
      std::filesystem::path(config.folder) / (row.name + (config.is_long ? "-long" : ""));
  if (!config.is_long) std::filesystem::remove(path);
  Journal journal(path, commit, trials, seed);
  std::cout << row.name << ": " << trials << " trials, seed " << seed << std::endl;
  Run(row, *part, config, trials, seed, journal);
  const index_t controls = part->controls();
  const index_t made = journal.count(controls, trials);
  std::cout << "| " << row.fault << " | " << made
            << (made < trials - controls ? text(" of ", trials - controls) : std::string());
  if (controls > 0) {
    const index_t tried = journal.count(0, controls);
    std::cout << "; noticed " << tried - journal.failure_count(0, controls) << " of " << controls
              << " broken protocols";
  }
  std::cout << " | " << journal.failure_count(controls, trials) << " | " << today() << ", "
            << commit << " |  (" << static_cast<index_t>(seconds_now() - begin)
            << " s; each trial in " << journal.path().string() << ')' << std::endl;
  if (const std::string figures = part->figures(); !figures.empty()) {
    std::cout << "  " << figures << std::endl;
  }
  if (journal.failure_count(0, trials) > 0) return 1;
  return journal.count(0, trials) < trials && config.only < 0 ? kUnfinished : 0;
}

std::string help() {
  FaultsConfig standard;
  std::string all =
      "usage: faults [options] PART ...\n\n"
      "Makes faults on purpose and looks whether weir keeps what it promises. Without --long it\n"
      "makes a few of each kind. A long run can be ended and goes on where it was.\n\nParts:\n";
  for (const Row& row : rows()) all += "  " + row.name + ": " + row.fault + '\n';
  return all + '\n' + options_help(options(standard));
}

int run_parts(std::vector<std::string> arguments) {
  FaultsConfig config;
  const std::vector<std::string> names = take_words(options(config), arguments);
  parse_options(options(config), std::nullopt, {}, arguments);
  std::vector<std::string> known;
  for (const Row& row : rows()) known.push_back(row.name);
  for (const std::string& name : names) {
    if (std::ranges::find(known, name) == known.end()) {
      throw UsageError(text("there is no part '", name, "'", did_you_mean(name, known)));
    }
  }
  set_log_level(LogLevel::error);  // what trials provoke
  int worst = 0;
  for (const Row& row : rows()) {
    if (!names.empty() && std::ranges::find(names, row.name) == names.end()) continue;
    const int code = run(row, config);
    if (worst != 1 && code != 0) worst = code;
  }
  return worst;
}

}  // namespace
}  // namespace weir::test

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + 1, words + count);
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    std::cout << weir::test::help();
    return 0;
  }
  try {
    return weir::test::run_parts(arguments);
  } catch (const weir::UsageError& error) {
    std::cerr << "faults: " << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "faults: " << error.what() << '\n';
    return 1;
  }
}
