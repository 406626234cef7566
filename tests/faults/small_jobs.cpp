#include "tests/faults/small_jobs.hpp"

#include <memory>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "tests/faults/part.hpp"

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

std::vector<std::string> undisturbed_digests(
    const TemporaryFolder& folder, const std::vector<SmallLayout>& layouts, index_t step,
    const std::function<std::vector<std::string>(const SmallLayout&)>& job_of) {
  std::vector<std::unique_ptr<Process>> jobs;
  for (const SmallLayout& layout : layouts) {
    jobs.push_back(std::make_unique<Process>(weir_command(layout.ranks, job_of(layout))));
  }
  std::vector<std::string> digests;
  for (std::size_t at = 0; at < jobs.size(); ++at) {
    const Ended ended = jobs[at]->wait(240);
    expect(ended.exit_code == 0, "the undisturbed job failed: ", ended.output);
    digests.push_back(digests_of(folder / layouts[at].name, step));
  }
  return digests;
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
