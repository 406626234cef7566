#include <doctest/doctest.h>

#include <cmath>

#include "tests/system/job.hpp"

namespace weir::test::precision_test {
namespace {

using Words = std::vector<std::string>;

struct Job {
  std::string name;
  int ranks;  ///< 0: without mpirun
  Words more;
};

std::string run_of(const std::string& precision, const Job& job) { return precision + job.name; }

std::vector<StepLine> steps_of(const TemporaryFolder& folder, const std::string& precision,
                               const Job& job) {
  CAPTURE(job.name);
  Words more = job.more;
  more.insert(more.end(), {"--precision=" + precision, "--model.tied=false", "--steps=12",
                           "--checkpoint-every=0"});
  const std::string run = run_of(precision, job);
  const Ended ended = run_weir(job.ranks, small_job(folder, run, more));
  INFO(ended.output);
  REQUIRE(ended.exit_code == 0);
  const std::vector<StepLine> steps = read_steps(folder / run);
  REQUIRE(steps.size() == 12);
  return steps;
}

}  // namespace

TEST_CASE("bf16 and fp16: servers, placement, transport, recomputation and stages change no bit") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  for (const std::string precision : {"bf16", "fp16"}) {
    CAPTURE(precision);
    const std::vector<StepLine> one = steps_of(folder, precision, {"one", 3, {"--replicas=2"}});
    for (const Job& job :
         {Job{"again", 3, {"--replicas=2"}}, Job{"servers", 4, {"--replicas=2", "--servers=2"}},
          Job{"colocated", 2, {"--replicas=2", "--placement=colocated"}},
          Job{"messages", 3, {"--replicas=2", "--transport=messages"}},
          Job{"recompute", 3, {"--replicas=2", "--recompute=block"}},
          Job{"stages", 5, {"--replicas=2", "--stages=2"}}}) {
      CAPTURE(job.name);
      CHECK(steps_of(folder, precision, job) == one);
    }
  }
}

TEST_CASE("bf16 and fp16: any layout trains the same model as one rank, but for rounding") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  // A loss of some 5 nats is rounded in each of its activations, whose order of sums differs.
  for (const auto& [precision, bound] : {std::pair<std::string, double>{"bf16", 4e-3},
                                         std::pair<std::string, double>{"fp16", 5e-4}}) {
    CAPTURE(precision);
    const Job alone = {"alone", 0, {"--placement=local"}};
    const std::vector<StepLine> one = steps_of(folder, precision, alone);
    const std::vector<StepLine> fp32 = steps_of(folder, "fp32", alone);
    CHECK(one != fp32);
    for (index_t step = 0; step < 12; ++step) {
      CHECK(std::abs(one[step].loss - fp32[step].loss) <= bound * fp32[step].loss);
    }
    for (const Job& job : {Job{"replicas", 3, {"--replicas=2"}}, Job{"shards", 3, {"--shards=2"}},
                           Job{"contexts", 3, {"--contexts=2"}},
                           Job{"all", 5, {"--stages=2", "--shards=2", "--recompute=block"}}}) {
      CAPTURE(job.name);
      const std::vector<StepLine> steps = steps_of(folder, precision, job);
      for (index_t step = 0; step < 12; ++step) {
        CHECK(std::abs(steps[step].loss - one[step].loss) <= bound * one[step].loss);
      }
    }
  }
}

TEST_CASE("bf16 and fp16: weights travel in exactly half the bytes of fp32") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  const Job job = {"messages", 3, {"--replicas=2", "--transport=messages"}};
  const auto pulled_bytes = [&](const std::string& precision) {
    steps_of(folder, precision, job);
    return read_figure(folder / run_of(precision, job), "pulled_bytes");
  };
  const double whole = pulled_bytes("fp32");
  CHECK(whole > 1e5);
  CHECK(pulled_bytes("bf16") == whole / 2);
  CHECK(pulled_bytes("fp16") == whole / 2);
}

TEST_CASE("bf16: activations of 16k tokens take at most 0.6 of the memory that fp32 takes") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  const auto peak = [&](const std::string& precision, index_t length) {
    const std::string run = precision + std::to_string(length);
    const Ended ended = run_weir(
        0, small_job(folder, run,
                     {"--placement=local", "--precision=" + precision, "--steps=2", "--batch=1",
                      "--model.layers=4", "--model.width=64", "--model.feed-forward=256",
                      "--length=" + std::to_string(length), "--data.held-out=20000",
                      "--checkpoint-every=0", "--eval-every=0", "--threads=1"}));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    return read_figure(folder / run, "peak_memory_bytes", "summary");
  };
  // Programs and weights are as large at any length.
  const auto activations = [&](const std::string& precision) {
    return peak(precision, 16384) - peak(precision, 128);
  };
  const double whole = activations("fp32");
  const double half = activations("bf16");
  CAPTURE(whole);
  CAPTURE(half);
  CHECK(whole > 1e8);
  CHECK(half <= 0.6 * whole);
}

TEST_CASE("a checkpoint of one precision resumes in any other, and the log says so") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  int steps = 0;
  for (const std::string precision : {"fp32", "bf16", "fp16", "fp32"}) {
    CAPTURE(precision);
    steps += 6;
    const Words more = {"--precision=" + precision, "--steps=" + std::to_string(steps),
                        "--replicas=2"};
    const Ended ended = run_weir(3, small_job(folder, "run", more));
    CAPTURE(ended.output);
    REQUIRE(ended.exit_code == 0);
    const bool resumed = steps > 6;
    CHECK((ended.output.find("precision " + precision + " (was ") != std::string::npos) == resumed);
    REQUIRE(read_steps(folder / "run").size() == steps);
  }
  const std::vector<StepLine> lines = read_steps(folder / "run");
  CHECK(lines.back().loss < lines.front().loss);
}

}  // namespace weir::test::precision_test
