#include <doctest/doctest.h>

#include <cstdlib>
#include <tuple>

#include "common/io/checkpoint_format.hpp"
#include "tests/system/job.hpp"

namespace weir::test::transport_test {
namespace {

struct Trained {
  std::vector<StepLine> steps;
  /// The digest of every range of every tensor in the last checkpoint: weights and moments.
  std::vector<std::tuple<index_t, index_t, index_t, std::uint32_t>> digests;
  bool operator==(const Trained&) const = default;
};

Trained trained(const TemporaryFolder& folder, const std::string& run, int ranks,
                std::vector<std::string> more) {
  more.insert(more.begin(), "train");
  more.insert(more.end(), {"--steps=8", "--batch=4", "--micro-batch=1", "--length=48", "--seed=5",
                           "--model.layers=2", "--model.width=48", "--model.heads=6",
                           "--model.feed-forward=96", "--model.dropout=0.1", "--attention.left=9",
                           "--data.files=" + (folder / "corpus.txt").string(),
                           "--data.held-out=2000", "--bucket-bytes=65536", "--progress=none",
                           "--eval-samples=4", "--run=" + (folder / run).string()});
  const Ended ended = run_weir(ranks, more, 120);
  INFO(ended.output);
  REQUIRE(ended.exit_code == 0);
  Trained result;
  result.steps = read_steps(folder / run);
  REQUIRE(result.steps.size() == 8);
  const auto checkpoint = newest_complete(folder / run / "checkpoints");
  REQUIRE(checkpoint);
  for (const RangeDigest& each : read_manifest(*checkpoint).digests) {
    result.digests.emplace_back(each.record, each.begin, each.end, each.crc);
  }
  REQUIRE(!result.digests.empty());
  return result;
}

}  // namespace

TEST_CASE("by window and by messages a job ends with the same bits, for any number of servers") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 1);
  // A tied embedding in two stages; norms and biases that both shards hold; or two replicas.
  for (const auto& [layout, workers] :
       {std::pair<std::vector<std::string>, int>{{"--stages=2", "--shards=2"}, 4},
        {{"--replicas=2", "--contexts=2"}, 4}}) {
    CAPTURE(layout[0]);
    const auto run = [&](const std::string& transport, int servers) {
      std::vector<std::string> more = layout;
      more.push_back("--transport=" + transport);
      more.push_back("--servers=" + std::to_string(servers));
      return trained(folder, layout[0].substr(2) + transport + std::to_string(servers),
                     workers + servers, more);
    };
    const Trained messages = run("messages", 1);
    for (int servers = 1; servers <= 4; ++servers) {
      CAPTURE(servers);
      CHECK(run("window", servers) == messages);
    }
    CHECK(run("messages", 3) == messages);
    CHECK(run("auto", 2) == messages);
  }
}

TEST_CASE(
    "a job says at its start how buckets travel, and says loudly if messages are copied twice") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 1);
  const auto said = [&](const std::string& run, const char* mechanism,
                        const std::vector<std::string>& layout = {}) {
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", mechanism, 1);
    std::vector<std::string> words = {"train",
                                      "--steps=1",
                                      "--batch=2",
                                      "--micro-batch=1",
                                      "--length=16",
                                      "--model.width=16",
                                      "--model.heads=2",
                                      "--progress=none",
                                      "--data.files=" + (folder / "corpus.txt").string(),
                                      "--data.held-out=100",
                                      "--run=" + (folder / run).string()};
    words.insert(words.end(), layout.begin(), layout.end());
    const Ended ended = run_weir(2, words);
    unsetenv("OMPI_MCA_btl_vader_single_copy_mechanism");
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 0);
    return ended.output;
  };
  const std::string fast = said("fast", "cma"), slow = said("slow", "none");
  CAPTURE(fast);
  CAPTURE(slow);
  CHECK(fast.find("buckets travel by window") != std::string::npos);
  // Where every rank is a server, too.
  const std::string both = said("both", "cma", {"--replicas=2", "--placement=colocated"});
  CHECK(both.find("buckets travel by window;") != std::string::npos);
  CHECK(slow.find("messages within a host: copied twice") != std::string::npos);
  CHECK(slow.find("SLOW: every long message on this host is copied twice") != std::string::npos);
  CHECK(slow.find("btl_vader_single_copy_mechanism is none") != std::string::npos);
}

TEST_CASE("what crosses a window takes up training where messages left it") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 1);
  const Trained whole = trained(folder, "whole", 3, {"--replicas=2", "--transport=window"});
  trained(folder, "halves", 3, {"--replicas=2", "--transport=messages", "--checkpoint-every=4"});
  std::filesystem::remove_all(folder / "halves/checkpoints/step-00000008");
  const Trained halves = trained(folder, "halves", 3, {"--replicas=2", "--transport=window"});
  CHECK(halves == whole);
}

}  // namespace weir::test::transport_test
