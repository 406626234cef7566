#include <doctest/doctest.h>

#include "tests/system/job.hpp"

namespace weir::test::four_ranks_test {
namespace {

std::vector<std::string> arguments(const TemporaryFolder& folder,
                                   const std::vector<std::string>& layout) {
  std::vector<std::string> all = {"train",
                                  "--batch=4",
                                  "--micro-batch=1",
                                  "--optimizer.kind=adamw",
                                  "--rate.peak=3e-3",
                                  "--clip.policy=decay",
                                  "--data.files=" + (folder / "corpus.txt").string(),
                                  "--data.held-out=300",
                                  "--eval-every=5",
                                  "--eval-samples=4",
                                  "--checkpoint-every=4",
                                  "--progress=none",
                                  "--run=" + (folder / "run").string()};
  for (const auto& words : {small_model(), layout}) {
    all.insert(all.end(), words.begin(), words.end());
  }
  return all;
}

}  // namespace

// The whole program once; `sanitize` runs this case under the sanitizers.
TEST_CASE(
    "four ranks train as a pipeline, go on as shards, then colocated, then one process does") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 8'000, 3);
  const auto runs_well = [](const Ended& ended) {
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 0);
    CHECK(ended.output.find("runtime error") == std::string::npos);
    CHECK(ended.output.find("AddressSanitizer") == std::string::npos);
  };
  runs_well(run_weir(4, arguments(folder, {"--stages=2", "--servers=2", "--steps=8"})));
  runs_well(run_weir(4, arguments(folder, {"--shards=2", "--servers=2", "--steps=16"})));
  runs_well(run_weir(
      4, arguments(folder, {"--stages=2", "--shards=2", "--placement=colocated", "--steps=20"})));
  // Without MPI every leak is our own.
  std::vector<std::string> alone = {"env", "ASAN_OPTIONS=detect_leaks=1"};
  for (const std::string& word :
       weir_command(0, arguments(folder, {"--placement=local", "--steps=24"}))) {
    alone.push_back(word);
  }
  runs_well(Process(alone).wait(60));

  const std::vector<StepLine> steps = read_steps(folder / "run");
  REQUIRE(steps.size() == 24);
  CHECK(steps.back().cursor == 24 * 4);
  CHECK(steps.back().loss < steps.front().loss - 0.5);
}

}  // namespace weir::test::four_ranks_test
