#include "tests/faults/killed_saves.hpp"

#include "common/io/checkpoint_format.hpp"
#include "tests/faults/injection.hpp"
#include "tests/system/job.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

constexpr index_t kSteps = 6;

class KilledSaves final : public Part {
 public:
  index_t prepare(bool is_long) override {
    write_corpus(folder_ / "corpus.txt", 20'000, 5);
    const fs::path run = folder_ / "undisturbed";
    const Ended ended = Process(with_injection(weir_command(0, job("undisturbed")),
                                               {.below = run, .log = folder_ / "calls"}))
                            .wait(60);
    expect(ended.exit_code == 0, "the undisturbed job failed: ", ended.output);
    digests_ = digests_of(run, kSteps);
    calls_ = read_calls(folder_ / "calls");
    return is_long ? std::ssize(calls_) : 60;
  }

  void attempt(index_t trial, std::uint64_t seed) override {
    const index_t count = std::ssize(calls_);
    const index_t at = trial < count ? trial + 1 : static_cast<index_t>(seed % count) + 1;
    const TemporaryFolder scratch;
    const fs::path run = folder_ / ("run" + std::to_string(trial));
    const std::vector<std::string> words = weir_command(0, job(run.filename().string()));
    const Ended killed =
        Process(with_injection(words, {.below = run, .at = at, .kind = "kill"})).wait(60);
    const std::string point =
        text(" (call ", at, ", ", calls_[at - 1].name, ' ', calls_[at - 1].path, "): ");
    expect(killed.exit_code == 137, "ended with ", killed.exit_code, point, killed.output);
    const Ended resumed = Process(words).wait(60);
    expect(resumed.exit_code == 0, "the resumed job failed", point, resumed.output);
    expect(digests_of(run, kSteps) == digests_, "the resumed job has other bits", point);
    fs::remove_all(run);
  }

 private:
  std::vector<std::string> job(const std::string& name) const {
    return small_job(folder_, name,
                     {"--placement=local", "--steps=6", "--checkpoint-every=2", "--eval-every=0",
                      "--checkpoint.keep=2", "--model.layers=1", "--model.width=16",
                      "--model.heads=2", "--model.feed-forward=32", "--batch=2", "--resume=auto"});
  }

  TemporaryFolder folder_;
  std::string digests_;
  std::vector<Call> calls_;
};

}  // namespace

std::unique_ptr<Part> killed_saves() { return std::make_unique<KilledSaves>(); }

}  // namespace weir::test
