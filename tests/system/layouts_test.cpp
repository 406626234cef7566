#include <doctest/doctest.h>

#include <cmath>

#include "tests/system/job.hpp"

namespace weir::test::layouts_test {
namespace {

struct Cut {
  int replicas, stages, contexts, shards;
  int servers;  // colocated if 0
  const char* schedule = "1f1b";
};

/// Norms of layers, too, as those of one rank.
void check_layer_norms(const StepLine& step, const StepLine& one) {
  REQUIRE(one.layer_norms.size() >= 3);
  REQUIRE(step.layer_norms.size() == one.layer_norms.size());
  double squares = 0;
  for (const auto& [name, norm] : one.layer_norms) {
    CAPTURE(name);
    REQUIRE(step.layer_norms.contains(name));
    CHECK(std::abs(step.layer_norms.at(name) - norm) <= 1e-5 * norm);
    squares += norm * norm;
  }
  CHECK(std::abs(std::sqrt(squares) - one.norm) <= 1e-6 * one.norm);
}

/// 20 steps with dropout of a small model that every cut below divides.
std::vector<std::string> arguments(const TemporaryFolder& folder, const std::string& run,
                                   const std::string& optimizer) {
  std::vector<std::string> all = {"train",
                                  "--steps=20",
                                  "--batch=8",
                                  "--micro-batch=1",
                                  "--length=48",
                                  "--seed=5",
                                  "--model.layers=4",
                                  "--model.width=48",
                                  "--model.heads=6",
                                  "--model.feed-forward=96",
                                  "--model.dropout=0.1",
                                  "--attention.left=9",
                                  "--attention.global-tokens=0,1",
                                  "--data.files=" + (folder / "corpus.txt").string(),
                                  "--data.held-out=2000",
                                  "--bucket-bytes=65536",
                                  "--checkpoint-every=0",
                                  "--progress=none",
                                  "--eval-every=7",
                                  "--eval-samples=4",
                                  "--norms=layers",
                                  "--run=" + (folder / run).string()};
  if (optimizer == "lamb") {
    all.insert(all.end(), {"--optimizer.kind=lamb", "--rate.peak=1e-2"});
  } else if (optimizer == "sgd") {
    all.insert(all.end(), {"--optimizer.kind=sgd", "--rate.peak=0.1", "--clip.policy=none"});
  } else {
    all.insert(all.end(), {"--optimizer.kind=adamw", "--rate.peak=1e-3", "--clip.policy=decay"});
  }
  return all;
}

std::vector<StepLine> run_local(const TemporaryFolder& folder, const std::string& optimizer,
                                const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = arguments(folder, "local-" + optimizer, optimizer);
  all.push_back("--placement=local");
  all.insert(all.end(), more.begin(), more.end());
  const Ended ended = run_weir(0, all);
  INFO(ended.output);
  REQUIRE(ended.exit_code == 0);
  const auto steps = read_steps(folder / ("local-" + optimizer));
  REQUIRE(steps.size() == 20);
  return steps;
}

std::vector<StepLine> run_cut(const TemporaryFolder& folder, const Cut& cut,
                              const std::string& optimizer, const std::string& run,
                              const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = arguments(folder, run, optimizer);
  for (const auto& [name, count] : {std::pair{"replicas", cut.replicas},
                                    {"stages", cut.stages},
                                    {"contexts", cut.contexts},
                                    {"shards", cut.shards}}) {
    all.push_back("--" + std::string(name) + "=" + std::to_string(count));
  }
  all.push_back(cut.servers == 0 ? "--placement=colocated"
                                 : "--servers=" + std::to_string(cut.servers));
  all.push_back(std::string("--schedule=") + cut.schedule);
  all.insert(all.end(), more.begin(), more.end());
  const int workers = cut.replicas * cut.stages * cut.contexts * cut.shards;
  const Ended ended = run_weir(workers + cut.servers, all, 120);
  INFO(ended.output);
  REQUIRE(ended.exit_code == 0);
  const auto steps = read_steps(folder / run);
  REQUIRE(steps.size() == 20);
  return steps;
}

const std::vector<Cut> kCuts = {
    {1, 1, 1, 1, 1},
    {2, 1, 1, 1, 1},
    {3, 1, 1, 1, 2},
    {1, 2, 1, 1, 1},
    {1, 2, 1, 1, 1, "gpipe"},
    {1, 3, 1, 1, 2},
    {1, 1, 1, 2, 2},
    {2, 2, 1, 1, 2},
    {1, 2, 1, 2, 3},
    {2, 2, 1, 1, 2, "gpipe"},
    {2, 1, 1, 2, 3},
    {1, 1, 1, 3, 1},
    {2, 2, 1, 2, 2},
    {1, 3, 1, 1, 1, "1f1b-eager"},
    {1, 2, 1, 1, 1, "interleaved"},
    {3, 2, 1, 1, 2, "interleaved"},
    {1, 2, 1, 2, 1, "interleaved"},
    {1, 2, 1, 1, 1, "zb-h1"},
    {2, 3, 1, 1, 2, "zb-h1"},
    {1, 2, 1, 2, 1, "zb-h1"},
};
/// Sequences of 48 tokens cut, too, in parts of at least the window of 9.
const std::vector<Cut> kContextCuts = {
    {1, 1, 2, 1, 1},          {1, 1, 3, 1, 2},          {2, 1, 2, 1, 2},
    {1, 2, 2, 2, 2},          {1, 2, 3, 1, 1, "gpipe"}, {1, 2, 2, 1, 1, "interleaved"},
    {1, 2, 2, 1, 2, "zb-h1"},
};

std::string name_of(const Cut& cut) {
  return std::to_string(cut.replicas) + std::to_string(cut.stages) + std::to_string(cut.contexts) +
         std::to_string(cut.shards) + std::to_string(cut.servers) + cut.schedule;
}

}  // namespace

TEST_CASE(
    "every layout and schedule, colocated, too, has the losses and norms of one rank, also by "
    "layer") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 1);
  const auto agrees = [&](const Cut& cut, const std::string& optimizer,
                          const std::vector<StepLine>& one, bool colocated_too) {
    CAPTURE(name_of(cut));
    CAPTURE(optimizer);
    const std::string run = optimizer + name_of(cut);
    const std::vector<StepLine> steps = run_cut(folder, cut, optimizer, run);
    for (std::size_t at = 0; at < one.size(); ++at) {
      CAPTURE(at);
      CHECK(std::abs(steps[at].loss - one[at].loss) <= 1e-5 * one[at].loss);
      CHECK(std::abs(steps[at].norm - one[at].norm) <= 1e-5 * one[at].norm);
      CHECK(steps[at].cursor == one[at].cursor);
      check_layer_norms(steps[at], one[at]);
    }
    if (!colocated_too) return;
    // The same workers give the same bits, wherever the servers are.
    Cut colocated = cut;
    colocated.servers = 0;
    CHECK(run_cut(folder, colocated, optimizer, run + "-colocated") == steps);
    const std::vector<float> weights = read_newest_checkpoint(folder / run);
    CHECK(!weights.empty());
    CHECK((read_newest_checkpoint(folder / (run + "-colocated")) == weights));
  };
  const std::vector<StepLine> sgd = run_local(folder, "sgd");
  CHECK(sgd.back().loss < sgd.front().loss);
  // Starting a job takes longer than its steps: every third is enough in another placement.
  for (std::size_t at = 0; at < kCuts.size(); ++at) agrees(kCuts[at], "sgd", sgd, at % 3 == 2);
  for (std::size_t at = 0; at < kContextCuts.size(); ++at) {
    agrees(kContextCuts[at], "sgd", sgd, at % 3 == 0);
  }
  // AdamW divides by the gradient's own size, so that where gradients are all rounding (key biases)
  // so are its steps; at 20 steps this shows in the norm at 1e-6.
  agrees({2, 2, 1, 2, 2}, "adamw", run_local(folder, "adamw"), true);
}

TEST_CASE("the first loss and norm are the same on 1 to 8 shards, with dropout") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20000, 4);
  const auto first_step = [&](int shards, int heads) {
    CAPTURE(shards);
    const std::string run = std::to_string(shards) + "of" + std::to_string(heads);
    std::vector<std::string> all = arguments(folder, run, "sgd");
    const std::string width = std::to_string(8 * heads);
    for (const auto& [name, value] : {std::pair<std::string, std::string>{"--steps=", "1"},
                                      {"--length=", "23"},
                                      {"--eval-every=", "0"},
                                      {"--model.layers=", "2"},
                                      {"--model.heads=", std::to_string(heads)},
                                      {"--model.width=", width},
                                      {"--model.feed-forward=", width},
                                      {"--model.positions=", "learned"},
                                      {"--shards=", std::to_string(shards)}}) {
      std::erase_if(all, [&](const std::string& other) { return other.starts_with(name); });
      all.push_back(name + value);
    }
    if (shards == 1) all.push_back("--placement=local");
    const Ended ended = run_weir(shards == 1 ? 0 : shards + 1, all, 120);
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    const std::vector<StepLine> steps = read_steps(folder / run);
    REQUIRE(steps.size() == 1);
    return steps.front();
  };
  for (const auto& [heads, cuts] :
       {std::pair<int, std::vector<int>>{8, {2, 4, 8}}, {6, {3, 6}}, {5, {5}}, {7, {7}}}) {
    const StepLine one = first_step(1, heads);
    for (const int shards : cuts) {
      CAPTURE(shards);
      const StepLine cut = first_step(shards, heads);
      CHECK(std::abs(cut.loss - one.loss) <= 1e-5 * one.loss);
      CHECK(std::abs(cut.norm - one.norm) <= 1e-5 * one.norm);
    }
  }
}

TEST_CASE("stages of every schedule have the bits of one rank, if they share no weights") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 3);
  const std::vector<std::string> untied = {"--model.tied=false"};
  const std::vector<StepLine> one = run_local(folder, "adamw", untied);
  const std::vector<float> weights = read_newest_checkpoint(folder / "local-adamw");
  CHECK(!weights.empty());
  for (const Cut& cut :
       {Cut{1, 2, 1, 1, 1, "1f1b"}, Cut{1, 2, 1, 1, 1, "gpipe"}, Cut{1, 3, 1, 1, 1, "1f1b-eager"},
        Cut{1, 2, 1, 1, 2, "interleaved"}, Cut{1, 3, 1, 1, 1, "zb-h1"}}) {
    CAPTURE(name_of(cut));
    CHECK(run_cut(folder, cut, "adamw", name_of(cut), untied) == one);
    CHECK((read_newest_checkpoint(folder / name_of(cut)) == weights));
  }
}

TEST_CASE("the same layout twice, any number of servers, and recomputation give the same bits") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 2);
  const std::vector<StepLine> first = run_cut(folder, {2, 1, 1, 2, 1}, "adamw", "first");
  CHECK(run_cut(folder, {2, 1, 1, 2, 1}, "adamw", "again") == first);
  CHECK(run_cut(folder, {2, 1, 1, 2, 2}, "adamw", "two") == first);
  CHECK(run_cut(folder, {2, 1, 1, 2, 3}, "adamw", "three") == first);
  CHECK(run_cut(folder, {2, 1, 1, 2, 0}, "adamw", "colocated") == first);
  // Shards that send messages add up in the order of shards that meet in memory.
  const std::vector<std::string> messages = {"--transport=messages"};
  CHECK(run_cut(folder, {2, 1, 1, 2, 1}, "adamw", "messages", messages) == first);
  CHECK(run_cut(folder, {1, 1, 1, 3, 1}, "adamw", "three-shards-messages", messages) ==
        run_cut(folder, {1, 1, 1, 3, 1}, "adamw", "three-shards"));
  CHECK(run_cut(folder, {2, 1, 1, 2, 0}, "adamw", "colocated-again") == first);
  std::vector<std::string> again = arguments(folder, "again-block", "adamw");
  again.insert(again.end(), {"--replicas=2", "--shards=2", "--recompute=block"});
  const Ended ended = run_weir(5, again, 120);
  INFO(ended.output);
  REQUIRE(ended.exit_code == 0);
  CHECK(read_steps(folder / "again-block") == first);
  const std::vector<StepLine> local = run_local(folder, "adamw");
  CHECK(run_cut(folder, {1, 1, 1, 1, 1}, "adamw", "dedicated") == local);
  CHECK(run_cut(folder, {1, 1, 1, 1, 3}, "lamb", "lamb") == run_local(folder, "lamb"));
  CHECK(run_cut(folder, {1, 1, 1, 1, 0}, "adamw", "one-colocated") == local);
  const std::vector<float> weights = read_newest_checkpoint(folder / "local-adamw");
  CHECK(!weights.empty());
  CHECK((read_newest_checkpoint(folder / "dedicated") == weights));
  CHECK((read_newest_checkpoint(folder / "one-colocated") == weights));
}

TEST_CASE("a classifier of ListOps has the losses and norms of one rank on any layout") {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& name, int ranks, std::vector<std::string> more) {
    more.insert(more.end(), {"--steps=6",
                             "--batch=4",
                             "--micro-batch=1",
                             "--length=2000",
                             "--model.layers=2",
                             "--model.task=classifier",
                             "--data.kind=listops",
                             "--model.width=16",
                             "--model.heads=2",
                             "--model.feed-forward=16",
                             "--model.dropout=0.1",
                             "--model.positions=learned",
                             "--attention.left=4",
                             "--attention.right=4",
                             "--attention.global-tokens=0,1",
                             "--optimizer.kind=sgd",
                             "--rate.peak=0.1",
                             "--checkpoint-every=0",
                             "--progress=none",
                             "--run=" + (folder / name).string()});
    more.insert(more.begin(), "train");
    const Ended ended = run_weir(ranks, more, 120);
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    return read_steps(folder / name);
  };
  const auto one = run("one", 0, {"--placement=local"});
  REQUIRE(one.size() == 6);
  const auto agrees = [&](const std::string& name, int ranks, std::vector<std::string> more) {
    CAPTURE(name);
    const auto cut = run(name, ranks, std::move(more));
    REQUIRE(cut.size() == 6);
    for (std::size_t at = 0; at < one.size(); ++at) {
      CAPTURE(at);
      CHECK(std::abs(cut[at].loss - one[at].loss) <= 1e-5 * one[at].loss);
      CHECK(std::abs(cut[at].norm - one[at].norm) <= 1e-5 * one[at].norm);
      CHECK(cut[at].cursor == one[at].cursor);
    }
  };
  agrees("cut", 9, {"--replicas=2", "--stages=2", "--shards=2", "--schedule=gpipe"});
  agrees("contexts", 3, {"--contexts=2"});
  agrees("all", 9, {"--stages=2", "--contexts=2", "--shards=2"});
}

}  // namespace weir::test::layouts_test
