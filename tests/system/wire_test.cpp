#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "tests/system/job.hpp"

namespace weir::test::wire_test {
namespace {

using Words = std::vector<std::string>;

constexpr index_t kSteps = 16;

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words arguments(const TemporaryFolder& folder, const std::string& run) {
  return {"train",
          "--steps=" + std::to_string(kSteps),
          "--batch=8",
          "--micro-batch=2",
          "--length=64",
          "--seed=11",
          "--model.layers=2",
          "--model.width=64",
          "--model.heads=4",
          "--model.feed-forward=128",
          "--model.dropout=0.1",
          "--attention.left=12",
          "--optimizer.kind=adamw",
          "--clip.policy=decay",
          "--rate.peak=1e-3",
          "--data.files=" + (folder / "corpus.txt").string(),
          "--data.held-out=2000",
          "--bucket-bytes=65536",
          "--checkpoint-every=8",
          "--progress=none",
          "--eval-samples=2",
          "--run=" + (folder / run).string()};
}

void runs_well(int ranks, const Words& words) {
  const Ended ended = run_weir(ranks, words, 180);  // six ranks on two busy cores
  CAPTURE(ended.output);
  REQUIRE(ended.exit_code == 0);
}

/// Steps 9 to 16 of a run that went on from another's checkpoint of step 8.
void check_continues(const TemporaryFolder& folder, const std::string& whole,
                     const std::string& resumed) {
  const std::vector<StepLine> expected = read_steps(folder / whole);
  const std::vector<StepLine> steps = read_steps(folder / resumed);
  REQUIRE(expected.size() == kSteps);
  REQUIRE(steps.size() == kSteps - 8);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    CAPTURE(steps[i].step);
    CHECK(steps[i] == expected[i + 8]);
  }
}

/// The digests of all tensors of the last checkpoint, residuals included.
std::string digests(const std::filesystem::path& run) {
  std::ifstream manifest(run / "checkpoints" / "step-00000016" / "MANIFEST");
  REQUIRE(manifest.good());
  std::string all;
  for (std::string line; std::getline(manifest, line);) {
    if (line.starts_with("digest ")) all += line + '\n';
  }
  return all;
}

std::string checkpoint_of(const TemporaryFolder& folder, const std::string& run) {
  return "--resume=" + (folder / run / "checkpoints" / "step-00000008").string();
}

}  // namespace

TEST_CASE("a job with error feedback resumes to the bits of an undisturbed one") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 3);
  // Two stages: the tied embedding has two contributors a replica.
  const Words layout = {"--replicas=2", "--stages=2"};
  int number = 0;
  for (const Words& wire : {Words{"--wire-push=int8", "--wire-pull=int8"},
                            Words{"--wire-push=topk", "--topk-percent=2"}}) {
    const std::string whole = "whole" + std::to_string(number);
    const std::string resumed = "resumed" + std::to_string(number++);
    runs_well(6, arguments(folder, whole) + layout + wire + Words{"--servers=2"});
    // Any number of servers: residuals are stored by parameter and contributor.
    runs_well(5, arguments(folder, resumed) + layout + wire +
                     Words{"--servers=1", checkpoint_of(folder, whole)});
    check_continues(folder, whole, resumed);
    CHECK(digests(folder / whole) == digests(folder / resumed));
  }
}

TEST_CASE("a group that pushes once resumes where servers add up its replicas, to the same bits") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 3);
  const Words job = {"--replicas=2", "--stages=2", "--sum-groups=2", "--wire-push=int8",
                     "--wire-pull=int8"};
  runs_well(6, arguments(folder, "whole") + job + Words{"--servers=2"});
  runs_well(5, arguments(folder, "resumed") + job +
                   Words{"--transport=messages", checkpoint_of(folder, "whole")});
  check_continues(folder, "whole", "resumed");
  CHECK(digests(folder / "whole") == digests(folder / "resumed"));
}

TEST_CASE("other replicas begin with residuals of zero, and the log says so") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 4);
  const Words wire = {"--wire-push=int8"};
  runs_well(3, arguments(folder, "two") + wire + Words{"--replicas=2"});
  const auto resumed = [&](const std::string& run, int ranks, const Words& more) {
    const Ended ended =
        run_weir(ranks, arguments(folder, run) + more + Words{checkpoint_of(folder, "two")}, 180);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 0);
    CHECK(read_steps(folder / run).size() == kSteps - 8);
    return ended.output;
  };
  const std::string line = "other workers' residuals; error feedback begins from zero";
  CHECK(resumed("one", 2, wire).find(line) != std::string::npos);
  CHECK(resumed("raw", 3, {"--replicas=2"}).find("residuals") == std::string::npos);
  CHECK(resumed("same", 3, wire + Words{"--replicas=2"}).find("residuals") == std::string::npos);
}

TEST_CASE("every wire has the same bits for any servers, wherever they are, and stays near fp32") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 5);
  runs_well(3, arguments(folder, "fp32") + Words{"--replicas=2"});
  const std::vector<StepLine> fp32 = read_steps(folder / "fp32");
  REQUIRE(fp32.size() == kSteps);
  int number = 0;
  for (const Words& wire :
       {Words{"--wire-push=bf16"}, Words{"--wire-push=fp16"}, Words{"--wire-push=int8"},
        Words{"--wire-push=topk"}, Words{"--wire-pull=bf16"}, Words{"--wire-pull=fp16"},
        Words{"--wire-pull=int8"}}) {
    CAPTURE(wire.front());
    const std::string one = "one" + std::to_string(number);
    const std::string two = "two" + std::to_string(number++);
    runs_well(3, arguments(folder, one) + wire + Words{"--replicas=2"});
    runs_well(4, arguments(folder, two) + wire + Words{"--replicas=2", "--servers=2"});
    const std::string both = "both" + std::to_string(number);
    runs_well(2, arguments(folder, both) + wire + Words{"--replicas=2", "--placement=colocated"});
    const std::vector<StepLine> steps = read_steps(folder / one);
    CHECK(steps == read_steps(folder / two));
    CHECK(steps == read_steps(folder / both));
    REQUIRE(steps.size() == kSteps);
    CHECK(steps != fp32);  // it did something
    const bool is_topk = wire.front() == "--wire-push=topk";
    CHECK(std::abs(steps.back().loss / fp32.back().loss - 1) < (is_topk ? 0.5 : 0.01));
  }
}

TEST_CASE("replicas that meet every few steps resume differences of weights to the bit") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 9);
  const Words common = {"--replicas=2", "--consistency=local", "--local.steps=4",
                        "--wire-push=int8", "--wire-pull=int8"};
  runs_well(3, arguments(folder, "whole") + common);
  runs_well(3, arguments(folder, "resumed") + common + Words{checkpoint_of(folder, "whole")});
  check_continues(folder, "whole", "resumed");
  CHECK(digests(folder / "whole") == digests(folder / "resumed"));
}

TEST_CASE("a checkpoint without what workers had of the weights is resumed, and the log says so") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 10);
  runs_well(3, arguments(folder, "plain") + Words{"--replicas=2", "--wire-push=int8"});
  const Ended ended = run_weir(
      3,
      arguments(folder, "differences") + Words{"--replicas=2", "--wire-push=int8",
                                               "--wire-pull=int8", checkpoint_of(folder, "plain")},
      180);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 0);
  CHECK(ended.output.find("begin with the weights as they are") != std::string::npos);
  CHECK(ended.output.find("other workers' residuals") == std::string::npos);
  CHECK(read_steps(folder / "differences").size() == kSteps - 8);
}

TEST_CASE(
    "runs with a slow replica and error feedback are repeated to the bit, residuals included") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  for (const Words& mode : {Words{"--consistency=asp"}, Words{"--backup=1", "--grace=0.05"}}) {
    const std::string name = mode.front().substr(2);
    const Words common = mode + Words{"--replicas=3", "--wire-push=int8", "--wire-pull=bf16"};
    runs_well(5, arguments(folder, name) + common + Words{"--servers=2", "--inject=slow=1:4x"});
    runs_well(4,
              arguments(folder, name + "-again") + common +
                  Words{"--servers=1", "--replay=" + (folder / name / "decisions.jsonl").string()});
    CHECK(read_steps(folder / name) == read_steps(folder / (name + "-again")));
    CHECK(digests(folder / name) == digests(folder / (name + "-again")));
  }
}

TEST_CASE("wires that do not exist, or lead nowhere, are refused") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 6);
  const auto refused = [&](const Words& more, const std::string& message) {
    const Ended ended = run_weir(0, arguments(folder, "refused") + more);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 2);
    CHECK(ended.output.find(message) != std::string::npos);
  };
  refused({"--wire-push=fp8"}, "--wire-push");
  refused({"--wire-pull=topk"}, "--wire-pull");
  refused({"--wire-push=topk", "--topk-percent=101"}, "--topk-percent");
  refused({"--wire-push=topk", "--topk-percent=0"}, "--topk-percent");
  refused({"--placement=local", "--wire-push=int8"},
          "--placement local sends nothing, so --wire-push can only be fp32");
}

}  // namespace weir::test::wire_test
