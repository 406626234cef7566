#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/base/error.hpp"
#include "launch/report/schedule_comparison.hpp"
#include "tests/launch/tiny_job.hpp"
#include "tests/mpi_test.hpp"
#include "worker/train/config.hpp"

namespace weir::test::job_trace_test {
namespace {

using Json = nlohmann::json;

Json events_of(const fs::path& path) {
  std::ifstream file(path);
  return Json::parse(file)["traceEvents"];
}

/// The actions of a rank in a step, as `kind chunk micro-batch`, in the order of time.
std::vector<std::string> actions_of(const Json& events, index_t rank, index_t step) {
  std::vector<std::pair<double, std::string>> found;
  for (const Json& event : events) {
    if (event.value("cat", "") != "action" || event["pid"] != rank) continue;
    const Json& arguments = event["args"];
    if (arguments.value("step", -1) != step) continue;
    found.emplace_back(event["ts"].get<double>(), text(event["name"].get<std::string>(), ' ',
                                                       arguments["chunk"].get<index_t>(), ' ',
                                                       arguments["micro_batch"].get<index_t>()));
  }
  std::ranges::stable_sort(found, {}, &std::pair<double, std::string>::first);
  std::vector<std::string> words;
  for (auto& [begin, name] : found) words.push_back(name);
  return words;
}

/// What the schedule lists for a stage.
std::vector<std::string> planned_of(const worker::Schedule& schedule, index_t stage) {
  std::vector<std::string> words;
  for (const worker::Action& action : schedule.actions[stage]) {
    words.push_back(text(name_of(action.kind), ' ', action.chunk, ' ', action.micro_batch));
  }
  return words;
}

/// Whether no two spans of a rank overlap without one lying in the other.
bool nest(const Json& events, index_t rank) {
  std::vector<std::pair<double, double>> spans;  // begin, and the end below zero: long ones first
  for (const Json& event : events) {
    if (event["ph"] != "X" || event["pid"] != rank) continue;
    const double begin = event["ts"];
    spans.emplace_back(begin, -(begin + event["dur"].get<double>()));
  }
  std::ranges::sort(spans);
  std::vector<double> open;
  constexpr double kRounding = 2e-3;  // us
  for (const auto& [begin, minus_end] : spans) {
    while (!open.empty() && open.back() <= begin + kRounding) open.pop_back();
    if (!open.empty() && -minus_end > open.back() + kRounding) return false;
    open.push_back(-minus_end);
  }
  return !spans.empty();
}

index_t count_of(const Json& events, index_t rank, const std::string& name) {
  return std::ranges::count_if(events, [&](const Json& event) {
    return event["pid"] == rank && event["name"] == name && event["ph"] == "b";
  });
}

}  // namespace

MPI_TEST_CASE("the trace of a pipeline has every action of the schedule in each step", 4) {
  const LogAsBefore log;
  const SharedFolder folder(ranks.comm);
  const fs::path path = folder / "trace.json";
  {
    Arguments arguments =
        tiny_job(folder, "run", {"--stages=3", "--transport=messages", "--trace=" + path.string()});
    std::ranges::replace(arguments, std::string("--model.layers=1"),
                         std::string("--model.layers=3"));
    TrainingJob job(ranks.comm.duplicate());
    CHECK(train(job, arguments) == ExitCode::done);
    if (ranks.rank == 0) {
      const Json events = events_of(path);
      const RunConfig& config = job.job().config;
      const worker::Schedule schedule = worker::schedule_of(config.train, config.layout, 2);
      for (index_t stage = 0; stage < 3; ++stage) {
        for (index_t step = 1; step <= kTinyJobSteps; ++step) {
          CHECK(actions_of(events, stage, step) == planned_of(schedule, stage));
        }
        const auto& buckets = job.job().plan->holding({.stage = stage}).buckets;
        CHECK(count_of(events, stage, "push") ==
              kTinyJobSteps * std::ranges::count_if(buckets, &HeldBucket::pushes));
        CHECK(count_of(events, stage, "pull") == (kTinyJobSteps + 1) * std::ssize(buckets));
      }
      for (index_t rank = 0; rank < 4; ++rank) CHECK(nest(events, rank));
      CHECK(actions_of(events, 3, 1).empty());  // it is the server
      CHECK(count_of(events, 3, "pull") > 0);
      const auto rows = schedule_rows(folder / "run");
      REQUIRE(rows.size() > 4);
      CHECK(rows[1].second == "steps: 3; pipelines: 1; micro-batches of a step: 2");
    }
  }
  ranks.comm.barrier();  // rank 0 has the folder
}

TEST_CASE("a job that is asked to stop leaves its trace, of one process, too") {
  const LogAsBefore log;
  const SharedFolder folder;
  struct Stops final : worker::Observer {
    void step(const Directive& directive) override {
      if (directive.step == 2) std::ofstream(stop) << "";
    }
    fs::path stop;
  } stops;
  stops.stop = folder / "run/STOP";
  const fs::path path = folder / "trace.json";
  Arguments arguments = tiny_job(folder, "run", {"--placement=local", "--trace=" + path.string()});
  std::ranges::replace(arguments, std::string("--steps=4"), std::string("--steps=1000000"));
  TrainingJob job{Comm()};
  job.observe(stops);
  CHECK(train(job, arguments) == ExitCode::stopped);
  const Json events = events_of(path);
  CHECK(actions_of(events, 0, 2) ==
        std::vector<std::string>{"forward 0 0", "backward 0 0", "forward 0 1", "backward 0 1"});
  CHECK(actions_of(events, 0, job.step() + 1).empty());
}

TEST_CASE("a trace that cannot be written is refused before anything is trained or made") {
  const LogAsBefore log;
  const SharedFolder folder;
  for (const fs::path& path : {folder / "none/trace.json", folder / ""}) {
    TrainingJob job{Comm()};
    job.agree(tiny_job(folder, "run", {"--placement=local", "--trace=" + path.string()}));
    CHECK_THROWS_WITH_AS(job.plan(), doctest::Contains("--trace"), UsageError);
  }
  CHECK_FALSE(fs::exists(folder / "run"));
  CHECK(std::distance(fs::directory_iterator(folder / ""), {}) == 1);  // the text
}

}  // namespace weir::test::job_trace_test
