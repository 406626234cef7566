#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/system/job.hpp"

using namespace weir::test;

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
