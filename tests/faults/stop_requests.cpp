#include "tests/faults/stop_requests.hpp"

#include <signal.h>

#include <csignal>
#include <fstream>
#include <iomanip>
#include <mutex>
#include <random>
#include <sstream>

#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/live.hpp"
#include "tests/faults/small_jobs.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

/// Who is asked to stop.
enum class Asked { supervisor, whole_tree, one_rank, one_process, by_file };

struct Request {
  Asked asked;
  int signal = 0;
};

const Request kRequests[] = {
    {Asked::supervisor, SIGUSR1},  {Asked::one_process, SIGTERM}, {Asked::by_file},
    {Asked::supervisor, SIGTERM},  {Asked::one_rank, SIGUSR1},    {Asked::supervisor, SIGINT},
    {Asked::one_process, SIGUSR1}, {Asked::whole_tree, SIGUSR1},  {Asked::supervisor, SIGHUP},
    {Asked::one_process, SIGINT},  {Asked::one_process, SIGHUP},
};

std::string text_of(const Request& request) {
  const std::string signal = text("signal ", request.signal, " to ");
  switch (request.asked) {
    case Asked::supervisor:
      return signal + "weir run";
    case Asked::whole_tree:
      return signal + "weir run, mpirun and all ranks";
    case Asked::one_rank:
      return signal + "a rank";
    case Asked::one_process:
      return signal + "a job of one process";
    case Asked::by_file:
      return "a file STOP";
  }
  WEIR_UNREACHABLE();
}

/// Whether the process has a handler for the signal: before that it ends as any program does.
bool catches(int process, int signal) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("SigCgt:")) {
      return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
    }
  }
  return false;
}

/// The process and all that have come from it.
std::vector<pid_t> tree_of(pid_t root) {
  std::vector<pid_t> all = {root};
  for (std::size_t at = 0; at < all.size(); ++at) {
    for (const pid_t child : children_of(all[at])) all.push_back(child);
  }
  return all;
}

class StopRequests final : public Part {
 public:
  index_t prepare(bool is_long) override {
    // Under nohup or in the background of a shell some are ignored, by jobs as well.
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) std::signal(number, SIG_DFL);
    write_corpus(folder_ / "corpus.txt", 20'000, 5);
    return is_long ? 300 : 8;
  }

  void attempt(index_t trial, std::uint64_t seed) override {
    const Request& request = kRequests[trial % std::ssize(kRequests)];
    std::mt19937_64 random(seed);
    const SmallLayout layout = layouts_[random() % layouts_.size()];
    const double after_s = (random() % 2 == 0 ? 1 : 4) * 1e-6 * double(random() % 1'000'000);
    const int rank = static_cast<int>(random() % layout.ranks);
    const std::string name = "run" + std::to_string(trial);
    const fs::path run = folder_ / name;
    const bool is_alone = request.asked == Asked::one_process;
    const std::string point =
        text(" (", text_of(request), " after ", after_s, " s, ",
             is_alone ? "without servers" : layout.name, ", rank ", rank, "): ");

    Process process(is_alone
                        ? weir_command(0, job({"--placement=local"}, name))
                        : supervised({"--stop-wait=120"}, layout.ranks, job(layout.words, name)));
    await_begin(process, request, run, rank);
    sleep_microseconds(static_cast<index_t>(after_s * 1e6));
    const double asked_at = seconds_now();
    ask(process, request, run, rank);
    const Ended ended = process.wait(150);
    expect(ended.exit_code == 75, "ended with ", ended.exit_code, point, ended.output);
    expect(newest_complete(run / "checkpoints").has_value(), "no step is committed", point,
           ended.output);
    fs::remove_all(run);
    const std::lock_guard guard(mutex_);
    slowest_s_ = std::max(slowest_s_, seconds_now() - asked_at);
  }

  std::string figures() const override {
    std::ostringstream words;
    words << std::setprecision(2) << "the slowest took " << slowest_s_ << " s to end";
    return words.str();
  }

 private:
  std::vector<std::string> job(const std::vector<std::string>& words,
                               const std::string& name) const {
    std::vector<std::string> more = {"--steps=1000000", "--checkpoint-every=50", "--eval-every=0",
                                     "--inject=sleep=10ms"};
    more.insert(more.end(), words.begin(), words.end());
    return small_job(folder_, name, more);
  }

  /// Waits until the request can be understood.
  static void await_begin(Process& process, const Request& request, const fs::path& run, int rank) {
    const auto can_ask = [&] {
      return request.asked == Asked::by_file ? fs::exists(run / "LOCK")
                                             : catches(process.id(), request.signal);
    };
    while (process.running() && !can_ask()) sleep_microseconds(1000);
    if (request.asked == Asked::one_rank) rank_of(process, run, rank);
  }

  static void ask(Process& process, const Request& request, const fs::path& run, int rank) {
    switch (request.asked) {
      case Asked::supervisor:
      case Asked::one_process:
        return process.signal(request.signal);
      case Asked::whole_tree:
        for (const pid_t each : tree_of(process.id())) kill(each, request.signal);
        return;
      case Asked::one_rank:
        kill(rank_of(process, run, rank), request.signal);
        return;
      case Asked::by_file:
        std::ofstream(run / "STOP").put('\n');
        return;
    }
  }

  TemporaryFolder folder_;
  const std::vector<SmallLayout> layouts_ = small_layouts();
  std::mutex mutex_;
  double slowest_s_ = 0;
};

}  // namespace

std::unique_ptr<Part> stop_requests() { return std::make_unique<StopRequests>(); }

}  // namespace weir::test
