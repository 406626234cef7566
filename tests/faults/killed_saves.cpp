#include "tests/faults/killed_saves.hpp"

#include <array>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/faults/saving_job.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

constexpr std::array kProtocols = {"no-rename", "no-manifest", "in-place", "old-first",
                                   "no-removal"};

std::string contents(const fs::path& path) {
  std::ostringstream all;
  all << std::ifstream(path).rdbuf();
  return all.str();
}

class KilledSaves final : public Part {
 public:
  index_t prepare(bool is_long) override {
    jobs_ = saving_jobs(folder_);
    if (is_long) {
      every_call();
    } else {
      a_few();
    }
    return controls() + std::ssize(places_);
  }

  index_t controls() const override { return std::ssize(kProtocols); }

  void attempt(index_t trial, std::uint64_t seed) override {
    std::mt19937_64 random(seed);
    if (trial < controls()) return expect_noticed(trial, random);
    const RankPoints& place = places_[trial - controls()];
    const fs::path run = folder_ / ("run" + std::to_string(trial));
    const index_t at = place.points[random() % place.points.size()];
    kill(*place.job, place.rank, place.job->points(place.rank)[at], run, "");
    fs::remove_all(run);
  }

 private:
  void a_few() {
    const SavingJob& local = *jobs_[0];
    for (const auto& set : spread_over(local.points(0), 60)) places_.push_back({&local, 0, set});
    constexpr index_t kOfRanks = 12;
    while (std::ssize(places_) < 60 + kOfRanks) {
      for (const auto& job : jobs_) {
        if (job->ranks() == 1) continue;
        for (index_t rank = 0; rank < job->ranks(); ++rank) {
          if (std::ssize(places_) == 60 + kOfRanks) return;
          std::vector<index_t> all;
          for (index_t at = 0; at < std::ssize(job->points(rank)); ++at) all.push_back(at);
          places_.push_back({job.get(), rank, all});
        }
      }
    }
  }

  /// All calls in an order that has a fair sample at each time.
  void every_call() {
    places_ = each_point(jobs_);
    std::ranges::shuffle(places_, std::mt19937_64(1));
  }

  /// Kills a job at a point and resumes it. Throws Error if that costs more than the steps since
  /// the last commit.
  void kill(const SavingJob& job, index_t rank, const Point& point, const fs::path& run,
            const std::string& protocol) {
    const Faulted killed = job.run_with_fault(
        run, point, {.below = {}, .kind = "kill", .rank = rank, .protocol = protocol});
    if (!protocol.empty() && !killed.struck) return;  // a broken protocol makes other calls
    try {
      expect(killed.struck, "the call was never made");
      expect(killed.ended.exit_code == 137, "ended with ", killed.ended.exit_code, ": ",
             killed.ended.output);
      job.expect_whole(run, killed.calls);
      const std::string config = contents(run / "config.ini");
      const Ended resumed = job.run(run, {.below = {}, .protocol = protocol});
      expect(resumed.exit_code == 0, "the resumed job ended with ", resumed.exit_code, ": ",
             resumed.output);
      job.expect_whole(run, {});
      job.expect_same_bits(run);
      job.expect_same_files(run);
      expect(config.empty() || config == contents(run / "config.ini"),
             "config.ini was not whole: ", config);
    } catch (const std::exception& error) {
      throw Error(text(killed.where, ": ", error.what()));
    }
  }

  /// Kills jobs with a broken protocol until the harness complains.
  void expect_noticed(index_t trial, std::mt19937_64& random) {
    const SavingJob& job = *jobs_[0];
    const fs::path run = folder_ / ("run" + std::to_string(trial));
    constexpr index_t kTries = 20;
    for (index_t each = 0; each < kTries; ++each) {
      // From the second save on there is something to lose.
      const index_t count = std::ssize(job.points(0));
      const Point point = {.call = {},
                           .nth = count / 2 + static_cast<index_t>(random() % (count / 2))};
      try {
        kill(job, 0, point, run, kProtocols[trial]);
      } catch (const Error&) {
        return fs::remove_all(run), void();
      }
    }
    throw Error(
        text("nobody noticed the broken protocol ", kProtocols[trial], " in ", kTries, " trials"));
  }

  TemporaryFolder folder_;
  SavingJobs jobs_;
  std::vector<RankPoints> places_;  ///< one of each one's points is where it is killed
};

}  // namespace

std::unique_ptr<Part> killed_saves() { return std::make_unique<KilledSaves>(); }

}  // namespace weir::test
