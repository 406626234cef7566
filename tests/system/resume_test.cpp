#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "common/base/machine.hpp"
#include "tests/system/job.hpp"

namespace weir::test::resume_test {
namespace {

constexpr int kSteps = 24;

std::vector<std::string> arguments(const TemporaryFolder& folder, const std::string& run,
                                   const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = {"train",
                                  "--steps=" + std::to_string(kSteps),
                                  "--batch=8",
                                  "--micro-batch=2",
                                  "--length=64",
                                  "--seed=11",
                                  "--model.layers=2",
                                  "--model.width=64",
                                  "--model.heads=4",
                                  "--model.feed-forward=128",
                                  "--model.dropout=0.1",
                                  "--attention.left=12",
                                  "--optimizer.kind=adamw",
                                  "--clip.policy=decay",
                                  "--rate.peak=1e-3",
                                  "--data.files=" + (folder / "corpus.txt").string(),
                                  "--data.held-out=2000",
                                  "--bucket-bytes=65536",
                                  "--checkpoint-every=3",
                                  "--progress=none",
                                  "--eval-samples=2",
                                  "--run=" + (folder / run).string()};
  for (const std::string& argument : more) {  // replaces what has the same name
    const std::string name = argument.substr(0, argument.find('=') + 1);
    std::erase_if(all, [&](const std::string& other) { return other.starts_with(name); });
    all.push_back(argument);
  }
  return all;
}

const std::vector<std::string> kTwoReplicas = {"--replicas=2", "--servers=2"};
const std::vector<std::string> kTwoColocated = {"--replicas=2", "--placement=colocated"};

std::vector<std::string> with_local(std::vector<std::string> more) {
  more.push_back("--placement=local");
  return more;
}

/// Waits until the run has written this step, or has ended.
void wait_for_step(Process& job, const std::filesystem::path& run, index_t step) {
  while (job.running() && step_of(run) < step) sleep_microseconds(2000);
}

/// Process ids of the ranks that mpirun `launcher` has started.
std::vector<int> ranks_of(int launcher) {
  std::vector<int> ids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream stat(entry.path() / "stat");
    int id = 0, parent = 0;
    std::string name;
    char state = 0;
    if (stat >> id >> name >> state >> parent && parent == launcher) ids.push_back(id);
  }
  return ids;
}

}  // namespace

TEST_CASE("a job killed at any moment resumes, in another placement, too, to the same bits") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 3);
  const Ended whole = run_weir(4, arguments(folder, "whole", kTwoReplicas));
  INFO(whole.output);
  REQUIRE(whole.exit_code == 0);
  const std::vector<StepLine> expected = read_steps(folder / "whole");
  REQUIRE(expected.size() == kSteps);

  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int life = 0; life < 4; ++life) {
    const bool colocated = life % 2 == 1;
    Process job(weir_command(
        colocated ? 2 : 4, arguments(folder, "killed", colocated ? kTwoColocated : kTwoReplicas)));
    wait_for_step(job, folder / "killed", 5 * life + static_cast<int>(random() % 5));
    sleep_microseconds(random() % 20000);
    const std::vector<int> ranks = ranks_of(job.id());
    if (!ranks.empty()) kill(ranks[random() % ranks.size()], SIGKILL);
    const Ended ended = job.wait(30);
    CAPTURE(ended.output);
    CHECK_FALSE(ended.timed_out);
    CHECK((ended.exit_code != 0 || read_steps(folder / "killed").size() == kSteps));
  }
  const Ended last = run_weir(2, arguments(folder, "killed", kTwoColocated));
  CAPTURE(last.output);
  CHECK(last.exit_code == 0);
  // A rank that dies may take the line of a step with it whose checkpoint was committed; what is
  // there is the same to the bit.
  const std::vector<StepLine> lines = read_steps(folder / "killed");
  CHECK(lines.size() + 4 >= expected.size());
  CHECK(lines.back().step == kSteps);
  for (const StepLine& line : lines) {
    CAPTURE(line.step);
    CHECK(line == expected[line.step - 1]);
  }
}

TEST_CASE("a rank that dies ends the job within seconds") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 4);
  struct Death {
    std::size_t victim, ranks;
    const char* placement;
    std::vector<std::string> mode;
  };
  int number = 0;
  for (const auto& [victim, rank_count, placement, mode] :
       {Death{0, 3, "dedicated", {}},
        {2, 3, "dedicated", {}},
        {1, 2, "colocated", {}},
        {1, 3, "dedicated", {"--consistency=ssp", "--staleness=3"}},
        {1, 3, "dedicated", {"--consistency=asp"}},
        {1, 3, "dedicated", {"--backup=1"}},
        {2, 3, "dedicated", {"--backup=1"}},
        {1, 2, "colocated", {"--consistency=asp"}},
        {1,
         3,
         "dedicated",
         {"--consistency=local", "--local.steps=5", "--eval-every=0", "--checkpoint-every=0"}}}) {
    const std::string run = placement + std::to_string(number++);
    std::vector<std::string> options = {"--replicas=2", "--steps=100000",
                                        "--placement=" + std::string(placement)};
    options.insert(options.end(), mode.begin(), mode.end());
    CAPTURE(run);
    Process job(weir_command(int(rank_count), arguments(folder, run, options)));
    wait_for_step(job, folder / run, 2);
    std::vector<int> ranks = ranks_of(job.id());
    std::ranges::sort(ranks);
    REQUIRE(ranks.size() == rank_count);
    kill(ranks[victim], SIGKILL);
    const double killed_at = seconds_now();
    const Ended ended = job.wait(60);
    CHECK(seconds_now() - killed_at < 5);
    CHECK(ended.exit_code != 0);
  }
}

TEST_CASE("STOP and SIGUSR1 end the job with 75 after a checkpoint, and it goes on from there") {
  const std::string kLong = "--steps=200";  // the file is looked for twice a second
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 5);
  const Ended whole = run_weir(3, arguments(folder, "whole", {"--replicas=2", kLong}));
  INFO(whole.output);
  REQUIRE(whole.exit_code == 0);
  for (const std::string how : {"stop-file", "signal", "signal-colocated"}) {
    CAPTURE(how);
    const bool colocated = how == "signal-colocated";
    const std::string placement =
        std::string("--placement=") + (colocated ? "colocated" : "dedicated");
    Process job(weir_command(
        colocated ? 2 : 3,
        arguments(folder, how, {"--replicas=2", kLong, "--checkpoint-every=0", placement})));
    wait_for_step(job, folder / how, 4);
    if (how != "stop-file") {
      job.signal(SIGUSR1);
    } else {
      std::ofstream(folder / how / "STOP") << "";
    }
    const Ended stopped = job.wait(60);
    CAPTURE(stopped.output);
    REQUIRE(stopped.exit_code == 75);
    const auto before = read_steps(folder / how);
    CHECK(before.size() < 200);
    const Ended resumed = run_weir(3, arguments(folder, how, {"--replicas=2", kLong}));
    CAPTURE(resumed.output);
    CHECK(resumed.exit_code == 0);
    CHECK(read_steps(folder / how) == read_steps(folder / "whole"));
  }
}

TEST_CASE("a checkpoint resumes on any other layout, within rounding") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 6);
  const std::vector<std::string> gentle = {"--optimizer.kind=sgd", "--rate.peak=0.1",
                                           "--clip.policy=fixed"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), gentle.begin(), gentle.end());
    return more;
  };
  REQUIRE(run_weir(0, arguments(folder, "whole", with({"--placement=local"}))).exit_code == 0);
  const auto expected = read_steps(folder / "whole");
  Process first(weir_command(
      5, arguments(folder, "first", with({"--stages=2", "--shards=2", "--checkpoint-every=0"}))));
  wait_for_step(first, folder / "first", 6);
  std::vector<int> ranks = ranks_of(first.id());
  REQUIRE(ranks.size() == 5);
  kill(*std::ranges::min_element(ranks), SIGUSR1);  // of the first stage: reports to no server
  REQUIRE(first.wait(60).exit_code == 75);
  struct Cut {
    int ranks;
    std::vector<std::string> options;
  };
  int number = 0;
  for (const Cut& cut : {Cut{0, {"--placement=local"}}, Cut{4, {"--replicas=2", "--servers=2"}},
                         Cut{3, {"--stages=2"}}, Cut{6, {"--shards=4", "--servers=2"}}}) {
    const std::string run = "resumed" + std::to_string(number++);
    std::vector<std::string> more = with(cut.options);
    more.push_back("--resume=" + (folder / "first").string());
    const Ended ended = run_weir(cut.ranks, arguments(folder, run, more));
    CAPTURE(ended.output);
    REQUIRE(ended.exit_code == 0);
    const auto steps = read_steps(folder / run);
    REQUIRE(!steps.empty());
    CHECK(steps.front().step > 6);
    CHECK(steps.back().step == kSteps);
    for (const StepLine& step : steps) {
      const StepLine& one = expected[step.step - 1];
      CAPTURE(step.step);
      CHECK(std::abs(step.loss - one.loss) <= 1e-5 * one.loss);
      CHECK(step.cursor == one.cursor);
    }
  }
}

TEST_CASE("a run folder never holds a mixture of two trainings") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 7);
  const auto run = [&](const std::vector<std::string>& more) {
    return run_weir(0, arguments(folder, "run", with_local(more)));
  };
  REQUIRE(run({"--steps=6"}).exit_code == 0);
  const std::string checkpoints = (folder / "run" / "checkpoints").string();
  const auto refused = [&](const std::vector<std::string>& more, const std::string& message) {
    const Ended ended = run(more);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 2);
    CHECK(ended.output.find(message) != std::string::npos);
  };
  refused({"--resume=never"}, "never would mix with the checkpoints in " + checkpoints);
  refused({"--resume=" + checkpoints + "/step-00000003"},
          "goes back to before " + checkpoints + "/step-00000006");

  const auto config_ini = [&] {
    return std::filesystem::last_write_time(folder / "run" / "config.ini");
  };
  const auto written = config_ini();
  CHECK(run({"--model.heads=2"}).exit_code == 1);
  CHECK(config_ini() == written);  // a refused job leaves the folder as it was

  // The newest by its name, and more steps than asked for: not an error, and nothing is trained.
  const Ended done = run({"--steps=5", "--resume=" + checkpoints + "/step-00000006"});
  CAPTURE(done.output);
  CHECK(done.exit_code == 0);
  CHECK(done.output.find("all of 5 steps are done: the checkpoint has 6") != std::string::npos);
  CHECK(done.output.find("changed since the checkpoint: steps 5 (was 6)") != std::string::npos);
  CHECK(done.output.find("nan") == std::string::npos);
  CHECK(read_steps(folder / "run").size() == 6);
}

TEST_CASE("a run with learned positions goes on with shorter sequences, and keeps its table") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 3);
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = with_local(more);
    all.push_back("--model.positions=learned");
    return run_weir(0, arguments(folder, "learned", all));
  };
  REQUIRE(with({"--steps=3"}).exit_code == 0);
  const std::size_t numbers = read_newest_checkpoint(folder / "learned").size();
  const Ended shorter = with({"--steps=6", "--length=32"});
  INFO(shorter.output);
  REQUIRE(shorter.exit_code == 0);
  CHECK(read_steps(folder / "learned").back().step == 6);
  CHECK(read_newest_checkpoint(folder / "learned").size() == numbers);
  CHECK(with({"--steps=7"}).exit_code == 0);  // and back to all of it
  const Ended longer = with({"--steps=9", "--length=65"});
  CHECK(longer.exit_code == 2);
  CHECK(longer.output.find("--length 65: the checkpoint has learned 64 positions") !=
        std::string::npos);
  for (const auto& [length, code] : {std::pair("--length=20", 0), std::pair("--length=65", 2)}) {
    const Ended scored =
        run_weir(0, {"eval", "--samples=2", length, (folder / "learned").string()});
    INFO(scored.output);
    CHECK(scored.exit_code == code);
  }
}

}  // namespace weir::test::resume_test
