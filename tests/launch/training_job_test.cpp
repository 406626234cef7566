#include "launch/training_job.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/io/checkpoint_format.hpp"
#include "tests/launch/tiny_job.hpp"
#include "tests/mpi_test.hpp"

namespace weir::test::training_job_test {
namespace {

constexpr index_t kSteps = kTinyJobSteps;

/// What an observer is told, as words and losses.
struct Record final : worker::Observer {
  void start(const Directive& directive) override { add("start", directive.step); }
  void step(const Directive& directive) override {
    add("step", directive.step);
    losses.push_back(directive.observed.loss);
  }
  void validation_begin(index_t step, index_t samples) override {
    add("validation begins", step);
    CHECK(samples > 0);
  }
  void validation(index_t step, const worker::Loss& loss) override {
    add("validation", step);
    CHECK(std::isfinite(loss.sum));
    validation_count = loss.count;
  }
  void add(const char* what, index_t step) { events.push_back(text(what, ' ', step)); }

  std::vector<std::string> events;
  std::vector<double> losses;
  index_t validation_count = 0;
};

/// The losses of each step of the tiny job in this process alone.
std::vector<double> losses_of_one_process(const SharedFolder& folder) {
  TrainingJob job{Comm()};
  Record record;
  job.observe(record);
  CHECK(train(job, tiny_job(folder, "one", {"--placement=local"})) == ExitCode::done);
  return record.losses;
}

}  // namespace

TEST_CASE("a program drives a job phase by phase, and its observer is told what happens") {
  const LogAsBefore log;
  const SharedFolder folder;
  const Arguments arguments = tiny_job(folder, "run", {"--placement=local"});
  {
    TrainingJob job{Comm()};
    Record record;
    job.observe(record);
    job.agree(arguments);
    job.plan();
    CHECK(job.job().config.train.training.steps == kSteps);
    CHECK(job.job().plan->specs().size() > 10);
    job.connect();
    job.resume();
    CHECK(record.events.empty());
    job.run();
    CHECK(record.events == std::vector<std::string>{
                               "start 0", "step 1", "step 2", "validation begins 2", "validation 2",
                               "step 3", "step 4", "validation begins 4", "validation 4"});
    CHECK(job.step() == kSteps);
    CHECK(job.close() == ExitCode::done);
  }
  CHECK(newest_complete(folder / "run/checkpoints") ==
        checkpoint_folder(folder / "run/checkpoints", kSteps));

  // Nothing is left to train: the next job validates only, with the weights of the first.
  TrainingJob job{Comm()};
  Record record;
  job.observe(record);
  CHECK(train(job, arguments) == ExitCode::done);
  CHECK(record.events ==
        std::vector<std::string>{"start 4", "validation begins 4", "validation 4"});
}

TEST_CASE("a job in the own process is refused as the command would be") {
  const LogAsBefore log;
  const SharedFolder folder;
  TrainingJob job{Comm()};
  CHECK_THROWS_WITH_AS(job.agree(tiny_job(folder, "run", {"--placement=colocated"})),
                       doctest::Contains("take --placement local for one process"), Error);
}

MPI_TEST_CASE("two workers and a server in the own processes learn as one process does", 3) {
  const LogAsBefore log;
  const SharedFolder folder(ranks.comm);
  Record record;
  {
    TrainingJob job(ranks.comm.duplicate());
    job.observe(record);
    CHECK(train(job, tiny_job(folder, "three", {"--replicas=2", "--servers=1"})) == ExitCode::done);
    CHECK(job.step() == kSteps);
  }
  if (ranks.rank == 2) {
    CHECK(record.events.empty());  // it is the server
  } else {
    CHECK(record.losses.size() == kSteps);
  }
  if (ranks.rank == 0) {
    const std::vector<double> truth = losses_of_one_process(folder);
    REQUIRE(truth.size() == record.losses.size());
    for (std::size_t step = 0; step < truth.size(); ++step) {
      CHECK(record.losses[step] == doctest::Approx(truth[step]).epsilon(1e-6));
    }
  }
  ranks.comm.barrier();  // rank 0 has the folder
}

}  // namespace weir::test::training_job_test
