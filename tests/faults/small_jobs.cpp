#include "tests/faults/small_jobs.hpp"

#include "common/base/error.hpp"
#include "common/base/machine.hpp"

namespace weir::test {

std::vector<SmallLayout> small_layouts() {
  return {
      {"1 server", 3, {"--placement=dedicated", "--replicas=2"}, {2}},
      {"2 servers", 4, {"--placement=dedicated", "--replicas=2", "--servers=2"}, {2, 3}},
      {"colocated", 2, {"--placement=colocated", "--replicas=2"}, {0, 1}},
      {"2 stages", 3, {"--placement=dedicated", "--stages=2"}, {2}},
      {"local steps",
       3,
       {"--placement=dedicated", "--replicas=2", "--consistency=local", "--local.steps=2"},
       {2}},
      {"colocated shards", 2, {"--placement=colocated", "--shards=2", "--micro-batch=8"}, {0, 1}},
  };
}

index_t step_of(const std::filesystem::path& run) {
  if (!std::filesystem::exists(run / "metrics.jsonl")) return 0;
  const std::vector<StepLine> steps = read_steps(run);
  return steps.empty() ? 0 : steps.back().step;
}

void await_step(Process& job, const std::filesystem::path& run, index_t step) {
  while (step_of(run) < step) {
    if (!job.running()) {
      throw Error(text("the job ended before step ", step, ": ", job.wait(1).output));
    }
    sleep_microseconds(1000);
  }
}

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace weir::test
