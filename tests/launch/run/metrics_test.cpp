#include "launch/run/metrics.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/base/error.hpp"
#include "tests/temporary_folder.hpp"

namespace weir {
namespace {

using nlohmann::json;

class MetricsPath {
 public:
  std::filesystem::path path() const { return folder_ / "metrics.jsonl"; }
  std::vector<json> lines() const {
    std::vector<json> all;
    std::ifstream file(path());
    for (std::string line; std::getline(file, line);) all.push_back(json::parse(line));
    return all;
  }

 private:
  test::TemporaryFolder folder_;
};

StepMetrics step_3() {
  StepMetrics metrics;
  metrics.directive.step = 3;
  metrics.directive.cursor = 48;
  metrics.directive.observed.count = 4096;
  metrics.directive.observed.loss = 2 * std::log(2.0);
  metrics.directive.observed.norm = 0.5;
  metrics.directive.observed.threshold = 0.99;
  metrics.directive.observed.clipped = true;
  metrics.bits_per_byte = 2;
  metrics.pushed_bytes = 1'000'000;
  metrics.tokens_per_second = 1234.5;
  return metrics;
}

TEST_CASE("a step line reads back as written") {
  const MetricsPath where;
  MetricsFile(where.path()).step(step_3());
  const std::vector<json> lines = where.lines();
  REQUIRE(lines.size() == 1);
  const json& line = lines[0];
  CHECK(line["kind"] == "step");
  CHECK(line["step"] == 3);
  CHECK(line["cursor"] == 48);
  CHECK(line["loss"].get<double>() == 2 * std::log(2.0));  // the same bits
  CHECK(line["bits_per_byte"].get<double>() == doctest::Approx(2.0));
  CHECK(line["clipped"] == true);
  CHECK(line["skip"] == "none");
  CHECK(line["pushed_bytes"] == 1'000'000);
  CHECK(line["flop_fraction"].is_null());  // unknown, not an event
  CHECK_FALSE(line.contains("flop_fraction_state"));
  CHECK_FALSE(line.contains("loss_state"));
}

TEST_CASE("a loss and a norm that are not finite stay visible") {
  const MetricsPath where;
  StepMetrics metrics = step_3();
  metrics.directive.observed.loss = std::nan("");
  metrics.directive.observed.norm = INFINITY;
  metrics.directive.rule.skip = SkipReason::not_finite;
  metrics.directive.observed.skipped_count = 1;
  MetricsFile(where.path()).step(metrics);
  const json line = where.lines().at(0);
  CHECK(line["loss"].is_null());
  CHECK(line["loss_state"] == "nan");
  CHECK(line["norm"].is_null());
  CHECK(line["norm_state"] == "inf");
  CHECK(line["skip"] == "not_finite");
  CHECK(line["skipped_count"] == 1);
}

TEST_CASE("an overflow has a reason of its own, and the loss scale stands there in fp16 alone") {
  const MetricsPath where;
  StepMetrics metrics = step_3();
  MetricsFile(where.path()).step(metrics);
  CHECK_FALSE(where.lines().at(0).contains("loss_scale"));
  metrics.directive.rule.skip = SkipReason::overflow;
  metrics.loss_scale = 32768;
  MetricsFile(where.path()).step(metrics);
  CHECK(where.lines().at(1)["skip"] == "overflow");
  CHECK(where.lines().at(1)["loss_scale"] == 32768);
}

TEST_CASE("norms of layers stand by their names, also one that is not finite") {
  const MetricsPath where;
  StepMetrics metrics = step_3();
  metrics.directive.observed.layer_norms = {0.25, INFINITY};
  MetricsFile(where.path(), {"embedding", "layers.0"}).step(metrics);
  const json line = where.lines().at(0);
  CHECK(line["layer_norms"]["embedding"] == 0.25);
  CHECK(line["layer_norms"]["layers.0"].is_null());
  CHECK(line["layer_norms"]["layers.0_state"] == "inf");
  MetricsFile(where.path()).step(step_3());
  CHECK_FALSE(where.lines().at(1).contains("layer_norms"));
}

TEST_CASE("a second life appends, and its start line says where it goes on") {
  const MetricsPath where;
  Layout layout;
  layout.replicas = 2;
  {
    MetricsFile first(where.path());
    first.start(0, layout, "1.2.3");
    first.step(step_3());
  }
  layout.replicas = 1;
  layout.stages = 2;
  {
    MetricsFile second(where.path());
    second.start(2, layout, "1.2.3");
    second.step(step_3());
    second.validation({.step = 3, .sample_count = 64, .count = 64, .loss = 1.5, .accuracy = 0.25});
    second.summary({.step = 3, .stopped = true, .loss = 1.25});
  }
  const std::vector<json> lines = where.lines();
  REQUIRE(lines.size() == 6);
  CHECK(lines[0]["kind"] == "start");
  CHECK(lines[0]["layout"]["replicas"] == 2);
  CHECK(lines[0]["layout"]["contexts"] == 1);
  CHECK(lines[1]["kind"] == "step");
  CHECK(lines[2]["kind"] == "start");
  CHECK(lines[2]["step"] == 2);
  CHECK(lines[2]["version"] == "1.2.3");
  CHECK(lines[2]["layout"]["stages"] == 2);
  CHECK(lines[2]["layout"]["placement"] == "dedicated");
  CHECK(lines[4]["kind"] == "validation");
  CHECK(lines[4]["accuracy"] == 0.25);
  CHECK(lines[4]["bits_per_byte"].is_null());
  CHECK(lines[5]["kind"] == "summary");
  CHECK(lines[5]["stopped"] == true);
  CHECK(lines[5]["validation_loss"].is_null());
}

TEST_CASE("the load of servers is what passed between two directives, where it means something") {
  const std::vector<ServerTime> before = {{10, 4}, {10, 1}};
  const std::vector<ServerTime> now = {{12, 5}, {14, 1.5}};
  Layout layout{.servers = 2};
  ServerLoad load = server_load(before, now, layout);
  CHECK(load.busy_seconds == 0.75);
  CHECK(load.waited_seconds == 2.25);
  CHECK(load.busy_imbalance == 1 / 0.75);
  load = server_load({}, now, layout);  // since the beginning
  CHECK(load.busy_seconds == 3.25);
  CHECK(load.busy_imbalance == 5 / 3.25);

  // Between two meetings of local steps nothing passes, and one server alone is not uneven.
  load = server_load(now, now, layout);
  CHECK(load.busy_seconds == 0);
  CHECK(std::isnan(load.busy_imbalance));
  layout.servers = 1;
  load = server_load(std::span(before).first(1), std::span(now).first(1), layout);
  CHECK(load.waited_seconds == 1);
  CHECK(std::isnan(load.busy_imbalance));
  // A rank that is a worker, too, computes when its server is not busy.
  layout.placement = Placement::colocated;
  load = server_load(before, now, layout);
  CHECK(load.busy_seconds == 0.75);
  CHECK(std::isnan(load.waited_seconds));
  layout.placement = Placement::local;
  CHECK(std::isnan(server_load(before, now, layout).busy_seconds));
}

TEST_CASE("a metrics file that cannot be opened is named") {
  CHECK_THROWS_WITH_AS(MetricsFile("/nowhere/metrics.jsonl"),
                       doctest::Contains("/nowhere/metrics.jsonl"), Error);
}

TEST_CASE("a metrics file that is a link is refused, and what it names stays") {
  const MetricsPath target, folder;
  std::ofstream(target.path()) << "mine";
  std::filesystem::create_symlink(target.path(), folder.path());
  CHECK_THROWS_WITH_AS(MetricsFile{folder.path()}, doctest::Contains("it is a link"), Error);
  CHECK(std::filesystem::file_size(target.path()) == 4);
}

// The size that files may have stands for the room of the disk.
TEST_CASE("a full disk costs lines of the metrics, not the job; they go on when there is room") {
  const MetricsPath folder;
  MetricsFile file(folder.path());
  file.step(step_3());
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlimit full = {std::filesystem::file_size(folder.path()) + 10, limit.rlim_max};
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &full) == 0);
  CHECK_NOTHROW(file.step(step_3()));
  CHECK_NOTHROW(file.step(step_3()));
  CHECK(folder.lines().size() == 1);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::signal(SIGXFSZ, before);
  file.step(step_3());
  CHECK(folder.lines().size() == 2);
}

}  // namespace
}  // namespace weir
