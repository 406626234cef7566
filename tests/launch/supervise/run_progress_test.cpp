#include "launch/supervise/run_progress.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "launch/run/run_log.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::run_progress_test {
namespace {

using Words = std::vector<std::string>;

void commit(const fs::path& run, const std::string& step) {
  fs::create_directories(run / "checkpoints" / step);
  std::ofstream(run / "checkpoints" / step / "MANIFEST").put('\n');
}

std::string step_line(index_t step, double seconds) {
  return text(R"({"kind":"step","step":)", step, R"(,"step_s":)", seconds, "}\n");
}

TEST_CASE("the run folder is found from the job's words as the ranks find it") {
  const TemporaryFolder folder;
  const std::string run = (folder / "run").string();
  CHECK(RunProgress(read_mpirun_words({"-n", "3", "train", "--run", run})).run() == run);
  CHECK(RunProgress(read_mpirun_words({"-x", "WEIR_RUN=" + run, "train"})).run() == run);
  CHECK(RunProgress(read_mpirun_words({"--wdir", folder.path().string(), "train", "--run=run"}))
            .run() == run);
  std::ofstream(folder / "job.ini") << "run = " << run << '\n';
  CHECK(
      RunProgress(read_mpirun_words({"train", "--config", (folder / "job.ini").string()})).run() ==
      run);
}

TEST_CASE("words that weir would refuse give no run folder, and neither does another command") {
  for (const Words& words : {Words{"train", "--stpes=3"}, Words{"train", "--config=/nowhere"},
                             Words{"--wdir", "/nowhere", "train"}, Words{"eval", "x"}}) {
    const RunProgress progress(read_mpirun_words(words));
    CHECK(progress.run().empty());
    CHECK(progress.committed_step() == -1);
    CHECK(progress.supervision().step_count == 0);
    progress.write({});
  }
}

TEST_CASE("the newest step counts that has a MANIFEST") {
  const TemporaryFolder folder;
  const RunProgress progress(read_mpirun_words({"train", "--run", (folder / "run").string()}));
  CHECK(progress.committed_step() == -1);
  commit(folder / "run", "step-00000010");
  commit(folder / "run", "step-00000020");
  commit(folder / "run", ".tmp-step-00000030");
  fs::create_directories(folder / "run" / "checkpoints" / "step-00000040");
  CHECK(progress.committed_step() == 20);
}

TEST_CASE("lost steps and productive time count from the supervisor's start on") {
  const TemporaryFolder folder;
  const fs::path file = folder / "metrics.jsonl";
  std::ofstream(file) << "{\"kind\":\"start\",\"step\":0}\n" << step_line(1, 100);
  const RunProgress progress(read_mpirun_words({"train", "--run", folder.path().string()}));
  CHECK(progress.supervision().step_count == 0);
  std::ofstream(file, std::ios::app) << "{\"kind\":\"start\",\"step\":1}\n"
                                     << step_line(2, 1) << step_line(3, 2) << step_line(4, 4)
                                     << step_line(5, 8) << "{\"kind\":\"start\",\"step\":3}\n"
                                     << step_line(4, 16) << "{\"kind\":\"sta";
  SupervisionMetrics metrics = progress.supervision();
  CHECK(metrics.step_count == 3);
  CHECK(metrics.lost_step_count == 2);  // 4, which was done again, and 5, which was not
  CHECK(metrics.productive_seconds == 19);
  metrics.restart_count = 1;
  metrics.wall_seconds = 38;
  CHECK(supervision_text(metrics) ==
        "1 restart, 2 lost steps, productive 19.0 of 38.0 s (ETTR 0.50)");
  progress.write(metrics);
  const RunLog log = read_run_log(file);
  CHECK(log.supervision.at("restarts") == 1);
  CHECK(log.supervision.at("lost_steps") == 2);
  CHECK(log.supervision.at("productive_s") == 19);
  CHECK(log.steps.steps == std::vector<index_t>{1, 2, 3, 4});
}

TEST_CASE("a job is finished if its summary is about the newest checkpoint, and not before") {
  const TemporaryFolder folder;
  const RunProgress progress(read_mpirun_words({"train", "--run", folder.path().string()}));
  const auto add = [&](const std::string& line) {
    std::ofstream(folder / "metrics.jsonl", std::ios::app) << line << '\n';
  };
  commit(folder.path(), "step-00000010");
  CHECK_FALSE(progress.is_finished());
  add(R"({"kind":"start","step":0})");
  add(R"({"kind":"summary","step":10,"stopped":true})");
  CHECK_FALSE(progress.is_finished());
  add(R"({"kind":"start","step":10})");
  CHECK_FALSE(progress.is_finished());
  add(R"({"kind":"summary","step":20,"stopped":false})");
  CHECK_FALSE(progress.is_finished());
  commit(folder.path(), "step-00000020");
  CHECK(progress.is_finished());
}

TEST_CASE("a job's configuration comes from its words; words that weir would refuse give none") {
  const auto config = config_of_job(
      read_mpirun_words({"-x", "WEIR_STAGES=2", "train", "--replicas=3", "--run=/a/b"}));
  REQUIRE(config);
  CHECK(config->layout.replicas == 3);
  CHECK(config->layout.stages == 2);
  CHECK(config->run == "/a/b");
  CHECK_FALSE(config_of_job(read_mpirun_words({"train", "--stpes=3"})));
  CHECK_FALSE(config_of_job(read_mpirun_words({"eval", "x"})));
}

}  // namespace
}  // namespace weir::test::run_progress_test
