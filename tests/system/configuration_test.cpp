#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/system/job.hpp"

namespace weir::test::configuration_test {
namespace {

using Words = std::vector<std::string>;

/// A small job, without a number of steps.
Words arguments(const TemporaryFolder& folder, const std::string& run, const Words& more = {}) {
  Words all = {"train",
               "--batch=4",
               "--micro-batch=2",
               "--data.held-out=400",
               "--checkpoint-every=0",
               "--progress=none",
               "--run=" + (folder / run).string()};
  for (const Words& words : {small_model(), more}) {
    all.insert(all.end(), words.begin(), words.end());
  }
  return all;
}

std::vector<StepLine> steps_of(const Ended& ended, const std::filesystem::path& run) {
  INFO(ended.output);
  REQUIRE(ended.exit_code == 0);
  return read_steps(run);
}

}  // namespace

TEST_CASE("config.ini of a run trains the same model again, and plan reads it") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  const std::string files = "--data.files=" + (folder / "corpus.txt").string();
  const auto first =
      steps_of(run_weir(0, arguments(folder, "first", {"--steps=4", "--placement=local", files})),
               folder / "first");
  REQUIRE(first.size() == 4);
  const std::string config = (folder / "first" / "config.ini").string();
  const std::string other = "--run=" + (folder / "again").string();
  CHECK(steps_of(run_weir(0, {"train", "--config", config, other}), folder / "again") == first);

  const Ended planned = run_weir(0, {"plan", config, "--placement=dedicated", "--stages=2"});
  CAPTURE(planned.output);
  CHECK(planned.exit_code == 0);
  CHECK(planned.output.find("replica 0, stage 1, shard 0  layer 1, head") != std::string::npos);
  CHECK(planned.output.find("server 0") != std::string::npos);
  CHECK(planned.output.find("\nstage 1 ") != std::string::npos);  // of the picture
}

TEST_CASE("a gzip'ed text trains to the bits of the plain one, two threads within rounding") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  const std::string file = (folder / "corpus.txt").string();
  const auto run = [&](const std::string& name, const Words& more) {
    Words words = {"--steps=4", "--placement=local"};
    words.insert(words.end(), more.begin(), more.end());
    return steps_of(run_weir(0, arguments(folder, name, words)), folder / name);
  };
  const auto plain = run("plain", {"--data.files=" + file});
  REQUIRE(plain.size() == 4);
  REQUIRE(Process({"gzip", file}).wait(10).exit_code == 0);
  CHECK(run("packed", {"--data.files=" + file + ".gz"}) == plain);
  const auto threads = run("threads", {"--data.files=" + file + ".gz", "--threads=2"});
  REQUIRE(threads.size() == 4);
  for (std::size_t at = 0; at < plain.size(); ++at) {
    CHECK(std::abs(threads[at].loss - plain[at].loss) <= 1e-5 * plain[at].loss);
  }
}

TEST_CASE("of WEIR_ variables those of rank 0 count, and no others") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  const auto steps = [&](const std::string& run, const Words& of_rank_0, const Words& of_rank_1) {
    const Words own = arguments(folder, run, {"--data.files=" + (folder / "corpus.txt").string()});
    Words command = {"mpirun", "--quiet", "--oversubscribe", "--bind-to", "none"};
    for (const Words* variables : {&of_rank_0, &of_rank_1}) {
      if (variables != &of_rank_0) command.push_back(":");
      command.insert(command.end(), {"-n", "1", "env"});
      command.insert(command.end(), variables->begin(), variables->end());
      command.push_back(WEIR_BINARY);
      command.insert(command.end(), own.begin(), own.end());
    }
    return steps_of(Process(command).wait(60), folder / run).size();
  };
  CHECK(steps("one", {"WEIR_STEPS=3"}, {"WEIR_STEPS=5", "WEIR_NONSENSE=1"}) == 3);
  CHECK(steps("two", {"WEIR_STEPS=2"}, {}) == 2);
}

TEST_CASE("a rank that runs another binary ends all ranks") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  const std::string other = (folder / "weir").string();
  std::filesystem::copy_file(WEIR_BINARY, other);
  std::ofstream(other, std::ios::app) << "another";  // behind the end of the program: it runs
  const Words own =
      arguments(folder, "run", {"--steps=2", "--data.files=" + (folder / "corpus.txt").string()});
  Words command = weir_command(1, own);
  command.insert(command.end(), {":", "-n", "1", other});
  command.insert(command.end(), own.begin(), own.end());
  const Ended ended = Process(command).wait(60);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 2);
  CHECK(ended.output.find("differs from rank 0 in the binary") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder / "run"));
}

}  // namespace weir::test::configuration_test
