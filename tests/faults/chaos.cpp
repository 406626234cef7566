#include "tests/faults/chaos.hpp"

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <mutex>
#include <random>
#include <set>
#include <sstream>

#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "tests/faults/small_jobs.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

/// What a process holds.
struct Holding {
  index_t memory_kib = 0;
  index_t descriptors = 0;
};

Holding holding_of(int process) {
  const fs::path own = "/proc/" + std::to_string(process);
  Holding holding;
  std::ifstream status(own / "status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) holding.memory_kib = std::stoll(line.substr(6));
  }
  holding.descriptors = std::distance(fs::directory_iterator(own / "fd"), {});
  return holding;
}

/// All that lies below a folder, by name; of the checkpoints of a run folder and its replicas those
/// that are half written.
std::set<std::string> everything_below(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    if (name.find("/step-") == std::string::npos) names.insert(name);
  }
  return names;
}

/// The steps of the committed checkpoints in a folder.
std::set<index_t> steps_in(const fs::path& checkpoints) {
  std::set<index_t> steps;
  for (const auto& [step, folder] : checkpoints_in(checkpoints)) steps.insert(step);
  return steps;
}

/// The replicas of a run have the checkpoints that go with those of its servers, and hardly more: a
/// replica that saves removes those that the servers have removed until then.
void expect_beside(const fs::path& run, const std::string& point) {
  const fs::path servers = run / "checkpoints";
  for (const auto& entry : fs::directory_iterator(servers)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("replica-")) continue;
    const std::set<index_t> own = steps_in(entry.path()), wanted = steps_in(servers);
    expect(std::ranges::includes(own, wanted), name, " has not all steps of the servers", point);
    expect(own.size() <= wanted.size() + 2, name, " has ", own.size(), " checkpoints, the servers ",
           wanted.size(), point);
  }
}

/// Those in one set alone.
std::string difference(const std::set<std::string>& left, const std::set<std::string>& right) {
  std::vector<std::string> names;
  std::ranges::set_symmetric_difference(left, right, std::back_inserter(names));
  std::string all;
  for (const std::string& name : names) all += ' ' + name;
  return all;
}

/// The last line with these words.
std::string line_with(const std::string& output, const std::string& words) {
  const std::size_t at = output.rfind(words);
  if (at == std::string::npos) return {};
  const std::size_t begin = output.rfind('\n', at) + 1;
  return output.substr(begin, output.find('\n', at) - begin);
}

class Chaos final : public Part {
 public:
  index_t prepare(bool is_long) override {
    write_corpus(folder_ / "corpus.txt", 20'000, 5);
    if (!is_long) return 1;
    seconds_ = 1200;
    fault_every_s_ = 30;
    keep_every_ = 100;
    return 2;
  }

  void attempt(index_t trial, std::uint64_t seed) override {
    const std::string name = trial == 0 ? "bsp" : "local";
    const fs::path run = folder_ / name, twin_run = folder_ / (name + "-twin");
    // What Open MPI makes for a job goes here, to be told from that of others.
    const fs::path shared = folder_ / (name + "-shared"), session = folder_ / (name + "-session");
    fs::create_directory(shared);
    fs::create_directory(session);
    std::vector<std::string> words = {"env", "TMPDIR=" + session.string(),
                                      "OMPI_MCA_btl_vader_backing_directory=" + shared.string()};
    const auto supervised_words = supervised({"--restarts=1000"}, kRanks, job(name, name));
    words.insert(words.end(), supervised_words.begin(), supervised_words.end());

    Process twin(weir_command(kRanks, job(name, name + "-twin")));
    Process process(words);
    const double end_s = seconds_now() + seconds_;
    Holding early, late;
    std::mt19937_64 random(seed);
    std::string faults;
    index_t fault_count = 0;
    while (strike(process, run, end_s, random, faults)) {
      late = holding_of(process.id());
      if (++fault_count == 2) early = late;
    }
    const index_t step = step_of(run), twin_step = step_of(twin_run);
    process.signal(SIGTERM);
    twin.signal(SIGUSR1);
    const Ended ended = process.wait(seconds_ + kStopSeconds);
    const Ended undisturbed = twin.wait(seconds_ + kStopSeconds);
    const std::string point = text(" (", name, ':', faults, "): ");
    expect(undisturbed.exit_code == 75, "the undisturbed job failed: ", undisturbed.output);
    expect(ended.exit_code == 75, "ended with ", ended.exit_code, point, ended.output);
    expect(fault_count > 2, "too few faults", point, ended.output);
    expect_same_bits(run, twin_run, point);
    expect_beside(run, point);
    const std::string left = difference(everything_below(run), everything_below(twin_run));
    expect(left.empty(), "the run folder has not what the twin's has:", left, point);
    expect(late.descriptors <= early.descriptors, "the supervisor has ", late.descriptors,
           " descriptors, ", early.descriptors, " at first", point);
    constexpr index_t kGrowthKib = 1024;
    expect(late.memory_kib <= early.memory_kib + kGrowthKib, "the supervisor has ", late.memory_kib,
           " KiB, ", early.memory_kib, " at first", point);
    expect(fs::is_empty(shared), "shared memory is left:", difference(everything_below(shared), {}),
           point);
    expect(fs::is_empty(session),
           "session files are left:", difference(everything_below(session), {}), point);
    note(name, fault_count, static_cast<double>(step) / static_cast<double>(twin_step),
         line_with(ended.output, "(ETTR "));
  }

  std::string figures() const override { return figures_; }

 private:
  static constexpr int kRanks = 4;
  static constexpr double kStopSeconds = 100;  // what a job may take to stop

  std::vector<std::string> job(const std::string& consistency, const std::string& name) const {
    std::vector<std::string> more = {"--steps=1000000",
                                     "--checkpoint-every=5",
                                     "--checkpoint.keep-every=" + std::to_string(keep_every_),
                                     "--eval-every=0",
                                     "--inject=sleep=100ms",
                                     "--placement=dedicated",
                                     "--replicas=2",
                                     "--servers=2",
                                     "--watchdog.floor=1",
                                     "--consistency=" + consistency};
    if (consistency == "local") more.push_back("--local.steps=5");
    return small_job(folder_, name, more);
  }

  /// Both have kept some checkpoints of the same steps.
  static void expect_same_bits(const fs::path& run, const fs::path& twin_run,
                               const std::string& point) {
    const std::set<index_t> own = steps_in(run / "checkpoints");
    const std::set<index_t> twins = steps_in(twin_run / "checkpoints");
    std::vector<index_t> both;
    std::ranges::set_intersection(own, twins, std::back_inserter(both));
    expect(!both.empty(), "no step is kept by both", point);
    for (const index_t step : both) {
      expect(digests_of(run, step) == digests_of(twin_run, step), "other bits at step ", step,
             point);
    }
  }

  /// Waits until it is time, and the job has committed a step since the last fault; then kills or
  /// stops a rank. False if the time is up before.
  bool strike(Process& process, const fs::path& run, double end_s, std::mt19937_64& random,
              std::string& faults) const {
    const index_t committed = committed_step(run);
    const double pause_s =
        fault_every_s_ * (0.5 + 1e-6 * static_cast<double>(random() % 1'000'000));
    const double begin_s = seconds_now();
    while (committed_step(run) <= committed || seconds_now() < std::min(begin_s + pause_s, end_s)) {
      if (!process.running()) return false;
      sleep_microseconds(20'000);
    }
    if (seconds_now() > end_s) return false;
    const int rank = static_cast<int>(random() % kRanks);
    const bool is_killed = random() % 2 == 0;
    kill(rank_of(process, run, rank), is_killed ? SIGKILL : SIGSTOP);
    faults += text(is_killed ? " kill " : " stop ", rank, " at ", committed_step(run));
    return true;
  }

  void note(const std::string& name, index_t fault_count, double share, const std::string& ettr) {
    const std::lock_guard guard(mutex_);
    std::ostringstream words;
    words << name << ": " << fault_count << " faults, " << std::fixed << std::setprecision(1)
          << 100 * share << " % of the undisturbed throughput; " << ettr << ". ";
    figures_ += words.str();
  }

  TemporaryFolder folder_;
  double seconds_ = 20;
  double fault_every_s_ = 4;
  index_t keep_every_ = 5;
  std::mutex mutex_;
  std::string figures_;
};

}  // namespace

std::unique_ptr<Part> chaos() { return std::make_unique<Chaos>(); }

}  // namespace weir::test
