#include "tests/faults/killed_ranks.hpp"

#include <signal.h>

#include <random>

#include "common/base/machine.hpp"
#include "tests/faults/small_jobs.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

/// Stops all ranks in the middle of a save, to be sure of it, kills one and wakes the others.
void kill_in_a_save(Process& job, const fs::path& run, const std::vector<pid_t>& ranks, pid_t one) {
  const auto signal_all = [&](int signal) {
    for (const pid_t rank : ranks) kill(rank, signal);
  };
  for (bool killed = false; !killed;) {
    expect(job.running(), "the job ended before a rank could be killed in a save");
    if (!is_saving(run)) continue;
    signal_all(SIGSTOP);
    sleep_microseconds(2000);
    killed = is_saving(run);
    if (killed) kill(one, SIGKILL);
    signal_all(SIGCONT);
  }
}

class KilledRanks final : public Part {
 public:
  index_t prepare(bool is_long) override {
    write_corpus(folder_ / "corpus.txt", 20'000, 5);
    const index_t trials = is_long ? 150 : 3;
    if (!is_long) layouts_.resize(trials);
    digests_ = undisturbed_digests(folder_, layouts_, kSteps, [this](const SmallLayout& layout) {
      return job(layout, layout.name);
    });
    return trials;
  }

  void attempt(index_t trial, std::uint64_t seed) override {
    const index_t count = std::ssize(layouts_);
    const SmallLayout& layout = layouts_[trial % count];
    const bool in_save = (trial + trial / count) % 2 == 0;
    std::mt19937_64 random(seed);
    const int rank = static_cast<int>(random() % layout.ranks);
    const index_t step = static_cast<index_t>(random() % (kSteps * 3 / 4));
    const std::string point =
        text(" (", layout.name, ", rank ", rank, in_save ? ", in the save after" : ", from",
             " step ", step, " on): ");

    const std::string name = "run" + std::to_string(trial);
    const fs::path run = folder_ / name;
    Process job(supervised({"--restarts=5"}, layout.ranks, this->job(layout, name)));
    std::vector<pid_t> ranks;
    for (int each = 0; each < layout.ranks; ++each) ranks.push_back(rank_of(job, run, each));
    await_step(job, run, step);
    if (in_save) {
      kill_in_a_save(job, run, ranks, ranks[rank]);
    } else {
      sleep_microseconds(static_cast<index_t>(random() % 20'000));
      kill(ranks[rank], SIGKILL);
    }
    const Ended ended = job.wait(240);
    expect(ended.exit_code == 0, "ended with ", ended.exit_code, point, ended.output);
    for (const std::string& words :
         {text("weir: rank ", rank, ", "), text("was killed by signal 9 (KILL)"),
          text("the job ended with 137 and is started again at once (restart 1 of 5)"),
          text("1 restart, ")}) {
      expect(has(ended.output, words), "nobody said '", words, "'", point, ended.output);
    }
    expect(digests_of(run, kSteps) == digests_[trial % count], "other bits", point, ended.output);
    // A rank 0 that is killed takes what it has not yet written of its last steps with it.
    expect(read_figure(run, "steps", "supervision") >= kSteps - 2, "steps are missing", point);
    expect(!is_saving(run), "half a checkpoint is left", point);
    fs::remove_all(run);
  }

 private:
  static constexpr index_t kSteps = 40;

  std::vector<std::string> job(const SmallLayout& layout, const std::string& name) const {
    std::vector<std::string> more = {"--steps=" + std::to_string(kSteps), "--checkpoint-every=2",
                                     "--eval-every=0", "--inject=sleep=5ms"};
    more.insert(more.end(), layout.words.begin(), layout.words.end());
    return small_job(folder_, name, more);
  }

  TemporaryFolder folder_;
  std::vector<SmallLayout> layouts_ = small_layouts();
  std::vector<std::string> digests_;
};

}  // namespace

std::unique_ptr<Part> killed_ranks() { return std::make_unique<KilledRanks>(); }

}  // namespace weir::test
