#include "launch/plan/plan.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/text.hpp"
#include "launch/plan/rank_plan.hpp"
#include "launch/plan/schedule_plan.hpp"

namespace weir::test::plan_test {
namespace {

RunConfig config_of(std::vector<std::string> arguments) {
  const std::vector<std::string> small = {
      "--model.layers=2", "--model.width=8", "--model.heads=2", "--model.feed-forward=16",
      "--length=32",      "--batch=8",       "--micro-batch=2"};
  arguments.insert(arguments.end(), small.begin(), small.end());
  RunConfig config = parse_run_config(arguments, {}).config;
  fit_model_to_data(config);
  check(config);
  return config;
}

// The small model, counted by hand. Width 8, feed-forward 16, 256 tokens, tied embedding.
constexpr index_t kEmbedding = 256 * 8;
constexpr index_t kSplitOfLayer = 3 * (8 * 8 + 8)  // query, key, value
                                  + 8 * 8          // output weight
                                  + 16 * 8 + 16    // up
                                  + 16 * 8;        // down weight
constexpr index_t kWholeOfLayer = 2 * (8 + 8)      // two norms
                                  + 8 + 8;         // biases of output and down
constexpr index_t kFinalNorm = 8 + 8;
constexpr index_t kAll = kEmbedding + 2 * (kSplitOfLayer + kWholeOfLayer) + kFinalNorm;

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

TEST_CASE("a rank's role is what the layout makes of it; a rank that is not there is refused") {
  const RunConfig dedicated = config_of({"--replicas=2", "--stages=2", "--servers=2"});
  CHECK(role_text(dedicated, 0) == "replica 0, stage 0, shard 0\n");
  CHECK(role_text(dedicated, 3) == "replica 1, stage 1, shard 0\n");
  CHECK(role_text(dedicated, 5) == "server 1\n");
  CHECK_THROWS_WITH_AS(role_text(dedicated, 6), doctest::Contains("the last rank of this job is 5"),
                       UsageError);
  const RunConfig colocated = config_of({"--replicas=2", "--placement=colocated"});
  CHECK(role_text(colocated, 1) == "replica 1, stage 0, shard 0, server 1\n");
}

TEST_CASE("two replicas push and pull all parameters, the server has room for both") {
  const RunConfig config = config_of({"--replicas=2"});
  const std::vector<RankPlan> ranks = rank_plans(config);
  REQUIRE(ranks.size() == 3);
  for (std::size_t rank : {0, 1}) {
    CHECK_FALSE(ranks[rank].is_server);
    CHECK(ranks[rank].elements == kAll);
    CHECK(ranks[rank].pushed_bytes == kAll * 4);
    CHECK(ranks[rank].pulled_bytes == kAll * 4);
    CHECK(ranks[rank].parameter_memory_bytes == 2 * kAll * 4);  // weights, gradients
  }
  CHECK(ranks[2].is_server);
  CHECK(ranks[2].pushed_bytes == 2 * kAll * 4);
  CHECK(ranks[2].pulled_bytes == 2 * kAll * 4);
  CHECK(ranks[2].parameter_memory_bytes == (2 + 2 * 3) * kAll * 4);
  // 2 contributions; weights and 2 moments, copied for a checkpoint

  CHECK(kAll == 3264);
  const std::string shown = plan_text(config, 1e9);
  CAPTURE(shown);
  CHECK(
      has(shown, "2 replicas x 1 stage x 1 shard = 2 workers; + 1 server = 3 ranks: mpirun -n 3"));
  CHECK(has(shown, "3,264 in 35 tensors: 13,056 bytes (12.8 KiB)"));
  CHECK(has(shown, "26,112 bytes (25.5 KiB) a step by all workers"));
  CHECK(has(shown,
            "  rank  1  replica 1, stage 0, shard 0  embedding, layers 0-1, head       3,264"));
  CHECK(has(shown, "12.8 KiB"));
}

TEST_CASE("of other wires the plan says what really travels, and what it costs in memory") {
  const auto of = [](const std::vector<std::string>& wires) {
    std::vector<std::string> arguments = {"--replicas=2"};
    arguments.insert(arguments.end(), wires.begin(), wires.end());
    return rank_plans(config_of(arguments));
  };
  const std::vector<RankPlan> half = of({"--wire-push=bf16", "--wire-pull=bf16"});
  CHECK(half[0].pushed_bytes == kAll * 2);
  CHECK(half[0].pulled_bytes == kAll * 2);
  CHECK(half[0].parameter_memory_bytes == (2 + 1) * kAll * 4);  // and a frame each way
  CHECK(half[2].pushed_bytes == 2 * kAll * 2);
  CHECK(half[2].pulled_bytes == 2 * kAll * 2);
  // Two contributions in half the bytes, their sum, and the weights in half the bytes.
  CHECK(half[2].parameter_memory_bytes == 2 * 3 * kAll * 4 + (2 * kAll * 2 + kAll * 4 + kAll * 2));

  const std::vector<RankPlan> int8 = of({"--wire-push=int8"});
  const index_t bytes = kAll + (kAll + 255) / 256 * 4;  // one bucket holds all
  CHECK(int8[0].buckets.size() == 1);
  CHECK(int8[1].pushed_bytes == bytes);
  CHECK(int8[1].pulled_bytes == kAll * 4);
  CHECK(int8[1].parameter_memory_bytes == 3 * kAll * 4 + bytes);  // and residuals
  CHECK(int8[2].parameter_memory_bytes ==
        2 * 3 * kAll * 4 + 2 * bytes + kAll * 4 + 2 * kAll * 4);  // residuals of both

  const std::vector<RankPlan> pulls = of({"--wire-pull=int8"});
  CHECK(pulls[0].pulled_bytes == bytes);
  CHECK(pulls[2].pulled_bytes == 2 * bytes);
  // Two contributions, the frame, and twice the weights as workers have them.
  CHECK(pulls[2].parameter_memory_bytes == 2 * 3 * kAll * 4 + 2 * kAll * 4 + bytes + 2 * kAll * 4);
  CHECK(of({"--wire-push=topk", "--topk-percent=10"})[0].pushed_bytes == 327 * 8);

  // A group pushes and pulls once, and the second replica has gradients only.
  const std::vector<RankPlan> group = of({"--wire-push=int8", "--sum-groups=2"});
  CHECK(group[0].pushed_bytes == bytes);
  CHECK(group[0].pulled_bytes == kAll * 4);
  CHECK(group[0].parameter_memory_bytes == 3 * kAll * 4 + bytes);
  CHECK(group[1].pushed_bytes == 0);
  CHECK(group[1].pulled_bytes == 0);
  CHECK(group[1].parameter_memory_bytes == kAll * 4);
  CHECK(group[2].pushed_bytes == bytes);
  CHECK(group[2].pulled_bytes == kAll * 4);
  CHECK(group[2].parameter_memory_bytes == 2 * 3 * kAll * 4 + bytes + kAll * 4 + kAll * 4);
}

TEST_CASE("in bf16 the plan has half the bytes of pulls, and workers hold no f32 weights") {
  for (const char* precision : {"--precision=bf16", "--precision=fp16"}) {
    const std::vector<RankPlan> ranks = rank_plans(config_of({"--replicas=2", precision}));
    CHECK(ranks[0].pulled_bytes == kAll * 2);
    CHECK(ranks[0].pushed_bytes == kAll * 4);
    CHECK(ranks[0].parameter_memory_bytes == kAll * (2 + 4));  // weights, gradients
    CHECK(ranks[2].pulled_bytes == 2 * kAll * 2);
    // Beside what it has in fp32: the weights that travel.
    CHECK(ranks[2].parameter_memory_bytes == (2 + 2 * 3) * kAll * 4 + kAll * 2);

    const std::vector<RankPlan> alone = rank_plans(config_of({"--placement=local", precision}));
    CHECK(alone[0].parameter_memory_bytes == (2 * 3 + 1) * kAll * 4 + kAll * 2);
  }
  CHECK(rank_plans(config_of({"--precision=bf16", "--wire-pull=bf16"}))[0].pulled_bytes ==
        kAll * 2);
  CHECK_THROWS_WITH_AS(config_of({"--precision=bf16", "--wire-pull=fp16"}),
                       doctest::Contains("--precision bf16 has weights travel as workers compute"),
                       UsageError);
  // A replica that steps by itself is its own server beside the others.
  const std::vector<RankPlan> rounds =
      rank_plans(config_of({"--replicas=2", "--precision=bf16", "--consistency=local"}));
  CHECK(rounds[0].pulled_bytes == kAll * 4);
  CHECK(rounds[0].parameter_memory_bytes == 2 * kAll * 4 + (2 * 3 + 1) * kAll * 4 + kAll * 2);
}

TEST_CASE(
    "stages and shards: slices once each, what is whole by all shards, a tied embedding twice") {
  const RunConfig config = config_of({"--stages=2", "--shards=2", "--servers=2"});
  const std::vector<RankPlan> ranks = rank_plans(config);
  REQUIRE(ranks.size() == 6);
  const index_t split = kEmbedding / 2 + kSplitOfLayer / 2;
  const index_t whole[2] = {kWholeOfLayer, kWholeOfLayer + kFinalNorm};  // by stage
  for (std::size_t rank = 0; rank < 4; ++rank) {
    CAPTURE(rank);
    const std::size_t stage = rank / 2;
    CHECK(ranks[rank].pulled_bytes == 4 * (split + whole[stage]));
    CHECK(ranks[rank].pushed_bytes == 4 * (split + whole[stage]));
  }
  const index_t pushed = 4 * (4 * split + 2 * whole[0] + 2 * whole[1]);
  const index_t pulled = 4 * (4 * split + 2 * whole[0] + 2 * whole[1]);
  CHECK(ranks[4].pushed_bytes + ranks[5].pushed_bytes == pushed);
  CHECK(ranks[4].pulled_bytes + ranks[5].pulled_bytes == pulled);
  CHECK(ranks[4].elements + ranks[5].elements == kAll);

  CHECK(pushed == 21'696);
  CHECK(pulled == pushed);
  const std::string shown = plan_text(config, 1e9);
  CAPTURE(shown);
  CHECK(has(shown, "21,696 bytes (21.2 KiB) a step by all workers"));
  CHECK(has(shown, "embedding, layer 0 "));
  CHECK(has(shown, "layer 1, head "));
  CHECK(has(shown, "stage 0  F0-"));
  CHECK(has(shown, "stage 1  "));
}

TEST_CASE("contexts hold all parameters, push and pull them all, and fewer rows each") {
  const std::vector<std::string> whole = {"--attention.left=8"};
  const std::vector<std::string> cut = {"--attention.left=8", "--contexts=3"};
  const RunConfig config = config_of(cut);
  const std::vector<RankPlan> ranks = rank_plans(config);
  REQUIRE(ranks.size() == 4);
  for (std::size_t rank : {0, 1, 2}) {
    CHECK(ranks[rank].elements == kAll);
    CHECK(ranks[rank].pushed_bytes == kAll * 4);
    CHECK(ranks[rank].pulled_bytes == kAll * 4);
  }
  CHECK(ranks[3].pushed_bytes == 3 * kAll * 4);
  CHECK(ranks[3].parameter_memory_bytes == (3 + 2 * 3) * kAll * 4);
  // 11 of 32 tokens, the longest part.
  const index_t of_all = rank_plans(config_of(whole))[0].activation_memory_bytes;
  CHECK(ranks[0].activation_memory_bytes < of_all * 11 / 32 * 5 / 4);
  const std::string shown = plan_text(config, 1e9);
  CAPTURE(shown);
  CHECK(has(shown, "1 replica x 1 stage x 3 contexts x 1 shard = 3 workers; + 1 server = 4 ranks"));
  CHECK(has(shown, "  rank  2  replica 0, stage 0, context 2, shard 0  embedding"));
}

TEST_CASE("in one process nothing travels, and it holds the moments too") {
  const RunConfig config = config_of({"--placement=local"});
  const std::vector<RankPlan> ranks = rank_plans(config);
  REQUIRE(ranks.size() == 1);
  CHECK(ranks[0].pushed_bytes == 0);
  CHECK(ranks[0].parameter_memory_bytes == (1 + 2 * 3) * kAll * 4);
  CHECK(rank_plans(config_of({"--placement=local", "--optimizer.kind=sgd"}))[0]
            .parameter_memory_bytes == (1 + 2 * 2) * kAll * 4);
  const std::string shown = plan_text(config, 1e9);
  CHECK(has(shown, "travels"));
  CHECK_FALSE(has(shown, "receives"));
}

TEST_CASE("colocated, the servers' shares lie on the workers' ranks, whose memory is of both") {
  const RunConfig config = config_of({"--replicas=2", "--placement=colocated"});
  const std::vector<RankPlan> ranks = rank_plans(config);
  REQUIRE(ranks.size() == 4);
  for (std::size_t rank : {0, 1}) {
    CHECK_FALSE(ranks[rank].is_server);
    CHECK(ranks[rank].pushed_bytes == kAll * 4);
    CHECK(ranks[2 + rank].is_server);
    CHECK(ranks[2 + rank].rank == index_t(rank));
    CHECK(ranks[2 + rank].pushed_bytes == 2 * 4 * ranks[2 + rank].elements);
  }
  CHECK(ranks[2].elements + ranks[3].elements == kAll);
  const std::string shown = plan_text(config, 1e9);
  CAPTURE(shown);
  CHECK(has(shown, "2 replicas x 1 stage x 1 shard = 2 workers, each a server, too: mpirun -n 2"));
  CHECK(has(shown, "  rank  1  replica 1, stage 0, shard 0  embedding"));
  CHECK(has(shown, "  rank  1  server 1  "));
  CHECK(has(shown, "a rank's memory is that of its worker and its server"));
}

TEST_CASE("more slots and longer sequences take more memory, later stages of 1f1b less") {
  const auto memory = [](std::vector<std::string> arguments, std::size_t rank) {
    return rank_plans(config_of(std::move(arguments)))[rank].activation_memory_bytes;
  };
  const index_t first = memory({"--stages=2"}, 0),
                gpipe = memory({"--stages=2", "--schedule=gpipe"}, 0);
  CHECK(gpipe > first);  // 4 activations instead of 2
  // The activations of a layer alone: qkv, attention's output, two inputs of norms, before gelu.
  const index_t layer_slot = 4 * 2 * 32 * (3 * 8 + 8 + 2 * 8 + 16);
  CHECK(gpipe - first >= 2 * layer_slot);
  CHECK(gpipe - first < 3 * layer_slot);
  // The last stage of zb-h1 keeps a second activation, and gradients of two micro-batches: of two
  // branches, of qkv, and of what is before gelu.
  const index_t halved = memory({"--stages=2", "--schedule=zb-h1"}, 1) - memory({"--stages=2"}, 1);
  const index_t gradient_slot = 4 * 2 * 32 * (2 * 8 + 3 * 8 + 16);
  CHECK(halved >= layer_slot + 2 * gradient_slot);
  CHECK(halved < 2 * layer_slot + 2 * gradient_slot);
}

TEST_CASE("with interleaved chunks a stage holds two runs of units, and their activations") {
  // What config_of() makes, with twice the layers.
  RunConfig interleaved = config_of({"--stages=2"});
  interleaved.model.layers = 4;
  interleaved.train.schedule = worker::ScheduleKind::interleaved;
  check(interleaved);
  const std::vector<RankPlan> ranks = rank_plans(interleaved);
  CHECK(ranks[0].units.size() == 2);
  CHECK(ranks[0].elements + ranks[1].elements ==
        2 * kEmbedding + 4 * (kSplitOfLayer + kWholeOfLayer) + kFinalNorm);
  const std::string shown = plan_text(interleaved, 1e9);
  CAPTURE(shown);
  CHECK(has(shown, "embedding, layer 0; layer 2 "));
  CHECK(has(shown, "layer 1; layer 3, head "));
  CHECK(has(shown, "stage 0  0F0-"));
}

/// A millisecond for each half of a block, nothing for the other units.
std::vector<worker::UnitCost> units_of(const RunConfig& config) {
  std::vector<worker::UnitCost> units(static_cast<std::size_t>(config.model.layers) + 2,
                                      {1e-3, 1e-3, 1e-3});
  units.front() = units.back() = {};
  return units;
}

TEST_CASE("all schedules that a job can have are compared, and the others say why it cannot") {
  RunConfig config = config_of({"--stages=2"});
  const std::vector<SchedulePlan> plans = plan_schedules(config, units_of(config));
  REQUIRE(plans.size() == 5);
  // Four micro-batches on two stages of one block, by the published formulas.
  for (const auto& [name, milliseconds, activations] :
       {std::tuple("1f1b", 15, 2), std::tuple("1f1b-eager", 15, 3), std::tuple("gpipe", 15, 4),
        std::tuple("zb-h1", 13, 2)}) {
    CAPTURE(name);
    const auto plan = std::ranges::find(plans, name, &SchedulePlan::name);
    REQUIRE(plan != plans.end());
    CHECK(plan->report.makespan_s == doctest::Approx(milliseconds * 1e-3));
    CHECK(plan->report.peak_activations[0] == activations);
    CHECK(plan->report.messages == 8);
  }
  const std::string shown = schedules_text(plans);
  CAPTURE(shown);
  CHECK(has(shown, "  zb-h1       13.00 ms   7.7 %"));
  CHECK(has(shown, "interleaved: --model.layers 2 cannot fill --stages 2 x --chunks 2"));
  CHECK(has(shown, "stage 1     F0-I0="));
  const std::string svg = schedules_svg(plans);
  CHECK(svg.starts_with("<svg "));
  CHECK(has(svg, "zb-h1: 13.00 ms, bubble 7.7 %"));
  CHECK(has(svg, "<title>1W3P</title>"));
  CHECK_FALSE(has(svg, "interleaved"));

  config.model.layers = 4;
  config.train.schedule = worker::ScheduleKind::interleaved;
  const SchedulePlan interleaved = plan_schedule(config, units_of(config));
  CHECK(interleaved.report.makespan_s == doctest::Approx(27e-3));
  CHECK(has(schedules_text({interleaved}), "interleaved  27.00 ms  11.1 %         2.50"));
}

TEST_CASE("units are measured as they run, and the blocks of a model cost the same") {
  const std::vector<worker::UnitCost> units = measured_unit_seconds(config_of({}));
  REQUIRE(units.size() == 4);
  CHECK(units[1].forward > 0);
  CHECK(units[1].input_gradient > 0);
  CHECK(units[1].weight_gradient > 0);
  CHECK(units[2].sum() == units[1].sum());
  CHECK(units[3].forward > 0);
}

TEST_CASE("rotary positions take a table of cosines and sines, of a context's own positions") {
  const auto table = [](std::vector<std::string> arguments) {
    arguments.push_back("--attention.left=8");
    const index_t with = rank_plans(config_of(arguments))[0].activation_memory_bytes;
    arguments.push_back("--model.positions=learned");
    return with - rank_plans(config_of(arguments))[0].activation_memory_bytes;
  };
  CHECK(table({}) == 32 * 4 * 4);                // positions, channels a head, bytes
  CHECK(table({"--contexts=3"}) == 16 * 4 * 4);  // 11 positions, and room up to 16
}

TEST_CASE("a model of 10,000 layers is planned as soon as any other") {
  // Each of the searches among 160,000 parameters took minutes.
  RunConfig deep = config_of({});
  deep.model.layers = 10'000;
  const std::vector<RankPlan> ranks = rank_plans(deep);
  CHECK(ranks[0].elements == kEmbedding + 10'000 * (kSplitOfLayer + kWholeOfLayer) + kFinalNorm);
  CHECK(has(plan_text(deep, 1e9), "10,000 layers"));
}

TEST_CASE("a plan of many ranks stays within the width of a terminal and names every server") {
  const RunConfig config = config_of(
      {"--replicas=4", "--stages=2", "--shards=2", "--servers=12", "--bucket-bytes=65536"});
  const std::string shown = plan_text(config, 1e9);
  CAPTURE(shown);
  std::istringstream lines(shown);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 120);
  CHECK(has(shown, "= 28 ranks"));
  for (index_t rank = 0; rank < 28; ++rank) {
    const std::string blanks(rank < 10 ? 2 : 1, ' ');
    CHECK(has(shown, text("  rank ", blanks, rank, "  ", config.layout.role(rank))));
  }
}

}  // namespace

}  // namespace weir::test::plan_test
