#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/system/job.hpp"

namespace weir::test::trained_model_test {
namespace {

/// The last validation that a run has noted.
double noted_loss(const std::filesystem::path& run) {
  double loss = 0;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") == "validation") loss = json.at("loss");
  }
  return loss;
}

}  // namespace

TEST_CASE(
    "what three workers and two servers have trained, eval scores as they did, and generate "
    "goes on with") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30000, 7);
  const std::string run = (folder / "run").string();
  const Ended trained =
      run_weir(5, {"train", "--stages=3", "--servers=2", "--steps=12", "--batch=8",
                   "--micro-batch=2", "--length=32", "--model.layers=3", "--model.width=32",
                   "--model.feed-forward=64", "--model.dropout=0.2", "--attention.left=9",
                   "--data.files=" + (folder / "corpus.txt").string(), "--data.held-out=1500",
                   "--checkpoint-every=0", "--progress=none", "--run=" + run});
  INFO(trained.output);
  REQUIRE(trained.exit_code == 0);

  const Ended scored = run_weir(0, {"eval", run, "--json"});
  INFO(scored.output);
  REQUIRE(scored.exit_code == 0);
  const auto json = nlohmann::json::parse(scored.output);
  CHECK(json.at("step") == 12);
  CHECK(json.at("count") == 1500);
  CHECK(std::abs(json.at("loss").get<double>() / noted_loss(run) - 1) < 1e-6);

  const Ended continued = run_weir(0, {"generate", run, "--prompt=the weir ", "--bytes=20"});
  CHECK(continued.exit_code == 0);
  CHECK(continued.output.starts_with("the weir "));
  CHECK(run_weir(0, {"generate", run, "--prompt=the weir ", "--bytes=20"}).output ==
        continued.output);

  const std::filesystem::path checkpoint = folder / "run" / "checkpoints" / "step-00000012";
  std::filesystem::resize_file(checkpoint / "model.h5", 9000);
  const Ended damaged = run_weir(0, {"eval", checkpoint.string()});
  CHECK(damaged.exit_code == 1);
  CHECK(damaged.output.find("model.h5: has 9000 bytes") != std::string::npos);
  CHECK(run_weir(0, {"generate", (folder / "corpus.txt").string()}).exit_code == 2);
}

TEST_CASE("eval on several ranks finds what it finds on one, and all refuse a cut that cannot be") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30000, 7);
  const std::string run = (folder / "run").string();
  const Ended trained =
      run_weir(0, {"train", "--placement=local", "--steps=8", "--batch=8", "--micro-batch=2",
                   "--length=32", "--model.layers=3", "--model.width=32", "--model.feed-forward=64",
                   "--attention.left=9", "--data.files=" + (folder / "corpus.txt").string(),
                   "--data.held-out=1500", "--progress=none", "--run=" + run});
  INFO(trained.output);
  REQUIRE(trained.exit_code == 0);
  const auto scored = [&](int ranks, std::vector<std::string> layout) {
    layout.insert(layout.begin(), {"eval", run, "--json", "--progress=none"});
    return run_weir(ranks, layout);
  };
  const auto whole = nlohmann::json::parse(scored(0, {}).output);
  CHECK(whole.at("count") == 1500);

  struct Cut {
    int ranks;
    std::vector<std::string> layout;
  };
  for (const Cut& cut : {Cut{1, {}}, Cut{3, {}}, Cut{2, {"--shards=2"}}, Cut{3, {"--stages=3"}},
                         Cut{4, {"--stages=2", "--contexts=2"}},
                         Cut{6, {"--replicas=3", "--contexts=2"}}, Cut{4, {"--shards=2"}}}) {
    const Ended ended = scored(cut.ranks, cut.layout);
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    const auto found = nlohmann::json::parse(ended.output);
    CHECK(found.at("count") == 1500);
    CHECK(found.at("samples") == whole.at("samples"));
    CHECK(std::abs(found.at("loss").get<double>() / whole.at("loss").get<double>() - 1) < 1e-6);
  }

  struct Refused {
    int ranks;
    std::vector<std::string> layout;
    std::string message;
  };
  for (const Refused& refused :
       {Refused{3,
                {"--shards=2"},
                "1 replica x 1 stage x 2 shards = 2 workers, or a multiple of that, but 3 ranks "
                "were started; start mpirun with -n 2"},
        Refused{0, {"--stages=2"}, "but 1 rank was started; start mpirun with -n 2"},
        Refused{4, {"--replicas=3"}, "= 3 workers, but 4 ranks were started"},
        Refused{3, {"--shards=3"}, "--model.heads 4 is not a multiple of --shards 3"},
        Refused{4, {"--stages=4"}, "--model.layers 3 cannot fill --stages 4"},
        Refused{4, {"--contexts=4"}, "--contexts 4 cuts --length 32 into parts of 8"}}) {
    const Ended ended = scored(refused.ranks, refused.layout);
    INFO(ended.output);
    CHECK(ended.exit_code == 2);
    const std::size_t at = ended.output.find(refused.message);
    REQUIRE(at != std::string::npos);
    CHECK(ended.output.find(refused.message, at + 1) == std::string::npos);  // one rank speaks
  }
}

}  // namespace weir::test::trained_model_test
