#include <doctest/doctest.h>

#include <fstream>
#include <tuple>
#include <utility>

#include "tests/system/job.hpp"

namespace weir::test::consistency_test {
namespace {

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a run in which somebody is slow is repeated to the bit from its decisions alone") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 7);
  const std::vector<std::vector<std::string>> modes = {{"--consistency=ssp", "--staleness=2"},
                                                       {"--consistency=asp"},
                                                       {"--backup=1", "--grace=0.05"}};
  int at = 0;
  for (std::vector<std::string> mode : modes) {
    CAPTURE(mode.front());
    const std::string name = std::to_string(at++);
    mode.push_back("--replicas=3");
    const auto with = [&](std::vector<std::string> more) {
      more.insert(more.end(), mode.begin(), mode.end());
      return more;
    };
    const Ended first =
        run_weir(5, small_job(folder, name, with({"--servers=2", "--inject=slow=1:4x"})));
    INFO(first.output);
    REQUIRE(first.exit_code == 0);
    const std::string log = (folder / name / "decisions.jsonl").string();
    // Nobody is slow now, or another one, and there are more servers, or every worker is one.
    for (const auto& [slow, ranks, servers] :
         {std::tuple{"--inject=slow=0:1x", 6, "--servers=3"},
          {"--inject=slow=2:3x", 6, "--servers=3"},
          {"--inject=slow=2:3x", 3, "--placement=colocated"}}) {
      const std::string again = name + slow + servers;
      const Ended second =
          run_weir(ranks, small_job(folder, again, with({servers, slow, "--replay=" + log})));
      INFO(second.output);
      REQUIRE(second.exit_code == 0);
      CHECK(read_steps(folder / again) == read_steps(folder / name));
      CHECK(digests_of(folder / again) == digests_of(folder / name));
      CHECK(contents(folder / again / "decisions.jsonl") == contents(log));
    }
  }
}

TEST_CASE(
    "without a slow one to wait for, ssp of staleness 0 still takes turns, and pipelines work") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 8);
  struct Layout {
    int ranks;
    std::vector<std::string> options;
  };
  for (const auto& [mode, layout] :
       {std::pair{"--consistency=ssp", Layout{6, {"--stages=2", "--servers=2"}}},
        {"--consistency=asp", {6, {"--stages=2", "--servers=2"}}},
        {"--consistency=ssp", {4, {"--stages=2", "--placement=colocated"}}},
        {"--consistency=asp", {4, {"--shards=2", "--placement=colocated"}}}}) {
    const std::string run = mode + layout.options.back();
    std::vector<std::string> more = {"--replicas=2", "--staleness=0", mode};
    more.insert(more.end(), layout.options.begin(), layout.options.end());
    const Ended ended = run_weir(layout.ranks, small_job(folder, run, more));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    const auto steps = read_steps(folder / run);
    REQUIRE(steps.size() == 24);
    CHECK(steps.back().loss < steps.front().loss);
  }
}

TEST_CASE(
    "a slow replica takes fewer micro-batches, the curve stays, and a replay has the same bits") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 9);
  const auto run = [&](const std::string& name, int servers, std::vector<std::string> more) {
    more.insert(more.end(), {"--replicas=2", "--steps=60", "--servers=" + std::to_string(servers)});
    std::vector<std::string> all = small_job(folder, name, more);
    const Ended ended = run_weir(2 + servers, all);
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    return read_steps(folder / name);
  };
  const auto even = run("even", 1, {});
  const auto measured = run("measured", 1, {"--balance=measured", "--inject=sleep=4ms,slow=1:6x"});
  REQUIRE(measured.size() == even.size());
  for (std::size_t at = 0; at < even.size(); ++at) {
    CHECK(measured[at].loss == doctest::Approx(even[at].loss).epsilon(1e-5));
    CHECK(measured[at].cursor == even[at].cursor);
  }
  const std::string log = (folder / "measured" / "decisions.jsonl").string();
  CHECK(contents(log).find("\"share\":[") != std::string::npos);
  CHECK(run("replayed", 3, {"--balance=measured", "--replay=" + log}) == measured);
}

}  // namespace weir::test::consistency_test
