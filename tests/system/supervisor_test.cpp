#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "tests/system/job.hpp"

namespace weir::test::supervisor_test {
namespace {

using Words = std::vector<std::string>;

/// `weir run OPTIONS -- -n RANKS JOB`.
Words supervised(const Words& options, int ranks, const Words& job) {
  Words all = {WEIR_BINARY, "run"};
  all.insert(all.end(), options.begin(), options.end());
  all.insert(all.end(), {"--", "-n", std::to_string(ranks)});
  all.insert(all.end(), job.begin(), job.end());
  return all;
}

std::string contents_of(const fs::path& path) {
  std::ostringstream contents;
  contents << std::ifstream(path, std::ios::binary).rdbuf();
  return contents.str();
}

/// The processes whose command line has these words in it; with a rank, the weir of that rank: the
/// process that mpirun has started waits for it.
std::vector<pid_t> processes(const std::string& words, int rank = -1) {
  const std::string variable = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0';
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string line = contents_of(entry.path() / "cmdline");  // once: it may be dying
    if (line.find(words) == std::string::npos) continue;
    if (rank >= 0 && (line.find("as-rank") != std::string::npos ||
                      contents_of(entry.path() / "environ").find(variable) == std::string::npos)) {
      continue;
    }
    found.push_back(std::stoi(name));
  }
  return found;
}

std::vector<pid_t> children_of(int process) {
  const std::string id = std::to_string(process);
  std::istringstream numbers(contents_of("/proc/" + id + "/task/" + id + "/children"));
  std::vector<pid_t> all;
  for (pid_t child; numbers >> child;) all.push_back(child);
  return all;
}

/// The weir of a rank of the job in this run folder, waited for.
pid_t rank_of(Process& job, const fs::path& run, int rank) {
  while (job.running()) {
    const std::vector<pid_t> found = processes("--run=" + run.string(), rank);
    if (!found.empty()) return found.front();
    sleep_microseconds(1000);
  }
  FAIL("the job has ended");
  return 0;
}

index_t committed_step(const fs::path& run) {
  const auto all = checkpoints_in(run / "checkpoints");
  return all.empty() ? 0 : all.begin()->first;
}

bool is_saving(const fs::path& run) {
  std::error_code error;
  const fs::directory_iterator entries(run / "checkpoints", error);
  return std::ranges::any_of(entries, [](const fs::directory_entry& entry) {
    return entry.path().filename().string().starts_with(".tmp-step-");
  });
}

/// Kills the server while a checkpoint is half written: stopped first, to be sure of it.
bool kill_in_a_save(Process& job, const fs::path& run, pid_t server) {
  while (job.running()) {
    if (!is_saving(run)) continue;
    if (kill(server, SIGSTOP) != 0) return false;
    sleep_microseconds(2000);
    const bool in_save = is_saving(run);
    kill(server, in_save ? SIGKILL : SIGCONT);
    if (in_save) return true;
  }
  return false;
}

/// A program that stands in for another one and does `what`. It notes each start in a file beside
/// it.
std::string stand_in(const fs::path& path, const std::string& what) {
  std::ofstream(path) << "#!/bin/sh\n[ \"$1\" = plan ] && exit 1\necho >>\"$0.starts\"\n"
                      << what << '\n';
  fs::permissions(path, fs::perms::owner_all);
  return path.string();
}

index_t start_count(const std::string& program) {
  return std::ssize(contents_of(program + ".starts"));
}

/// The same with the mpirun in this folder.
Words with_mpirun_of(const TemporaryFolder& folder, const Words& words) {
  Words all = {"env", "PATH=" + folder.path().string() + ':' + std::getenv("PATH")};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

// A real one takes two seconds to end after a rank that failed.
const std::string kFailingRank = "echo 'weir: a rank begins, of 1' >&2; exit 1";

bool has(const std::string& output, const std::string& words) {
  return output.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("a job whose ranks are killed, one in a save, ends with the bits of an undisturbed run") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  const Words options = {"--placement=dedicated", "--replicas=2", "--steps=60",
                         "--checkpoint-every=2", "--eval-every=0"};
  const Ended undisturbed = run_weir(3, small_job(folder, "undisturbed", options));
  CAPTURE(undisturbed.output);
  REQUIRE(undisturbed.exit_code == 0);

  const fs::path run = folder / "run";
  Process job(supervised({"--restarts=5"}, 3, small_job(folder, "run", options)));
  while (job.running() && committed_step(run) < 2) sleep_microseconds(500);
  const pid_t first_server = rank_of(job, run, 2);
  kill(rank_of(job, run, 1), SIGKILL);
  pid_t server = first_server;
  while (job.running() && server == first_server) server = rank_of(job, run, 2);
  // What the first start has left half written goes away with the next commit.
  const index_t first = committed_step(run);
  while (job.running() && committed_step(run) <= first) sleep_microseconds(500);
  CHECK(kill_in_a_save(job, run, server));
  const Ended ended = job.wait(60);
  CAPTURE(ended.output);
  REQUIRE(ended.exit_code == 0);
  CHECK(digests_of(run, 60) == digests_of(folder / "undisturbed", 60));
  CHECK(has(ended.output, "the job ended with 137 and is started again at once (restart 1 of 5)"));
  CHECK(has(ended.output, "rank 2, server 0, on "));
  CHECK(has(ended.output, "2 restarts, "));
  CHECK(read_figure(run, "restarts", "supervision") == 2);
  CHECK(read_figure(run, "steps", "supervision") == 60);
}

TEST_CASE("wrong usage ends the supervisor at once") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  const Ended ended =
      Process(supervised({}, 3, small_job(folder, "run", {"--model.heads=3"}))).wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 2);
  CHECK_FALSE(has(ended.output, "started again"));
  CHECK_FALSE(has(ended.output, "restarts"));
}

TEST_CASE("a job that never commits is given up with 93 after three starts") {
  const TemporaryFolder folder;
  const std::string mpirun = stand_in(folder / "mpirun", kFailingRank);
  const Words words = supervised({"--restarts=9", "--binary=/bin/false"}, 1,
                                 {"train", "--run=" + (folder / "run").string()});
  const Ended ended = Process(with_mpirun_of(folder, words)).wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 93);
  CHECK(start_count(mpirun) == 3);
  CHECK(has(ended.output, "the job ended with 1 and is started again at once (restart 1 of 9)"));
  CHECK(has(ended.output, "is started again in 1 s (restart 2 of 9); no step is committed"));
  CHECK(has(ended.output, "the job is given up: 3 starts in a row committed no step"));
}

TEST_CASE("a signal between two starts ends the supervisor; the code says if a step is committed") {
  for (const bool commits : {true, false}) {
    CAPTURE(commits);
    const TemporaryFolder folder;
    const std::string mpirun = stand_in(folder / "mpirun", kFailingRank);
    const fs::path run = folder / "run";
    if (commits) {
      const fs::path checkpoint = checkpoint_folder(run / "checkpoints", 1);
      fs::create_directories(checkpoint);
      std::ofstream(checkpoint / "MANIFEST").put('\n');
    }
    Process job(with_mpirun_of(folder, supervised({}, 1, {"train", "--run=" + run.string()})));
    // The first restart comes at once, the second one after a second.
    while (job.running() && (start_count(mpirun) < 2 || !children_of(job.id()).empty())) {
      sleep_microseconds(1000);
    }
    job.signal(SIGTERM);
    const Ended ended = job.wait(30);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == (commits ? 75 : 128 + SIGTERM));
    CHECK(start_count(mpirun) == 2);
  }
}

TEST_CASE("ranks end with an mpirun that is killed or stopped") {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    CAPTURE(signal);
    const TemporaryFolder folder;
    const std::string program = stand_in(folder / "stand-in", "exec tail -f \"$0\"");
    Process job(supervised({"--restarts=0", "--binary=" + program}, 2,
                           {"train", "--run=" + (folder / "run").string()}));
    while (job.running() && start_count(program) < 2) sleep_microseconds(1000);
    for (const pid_t child : children_of(job.id())) kill(child, signal);
    const Ended ended = job.wait(30);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 137);
    CHECK(has(ended.output, signal == SIGKILL ? "mpirun was killed by signal 9 (KILL)"
                                              : "mpirun was stopped (SIGSTOP)"));
    CHECK(processes(program).empty());
  }
}

TEST_CASE("a job that does not take its run folder within --start-wait is ended with 86") {
  const TemporaryFolder folder;
  const std::string program = stand_in(folder / "stand-in", "exec tail -f \"$0\"");
  Process job(supervised({"--start-wait=1", "--restarts=1", "--binary=" + program}, 2,
                         {"train", "--run=" + (folder / "run").string()}));
  const Ended ended = job.wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 86);
  CHECK(has(ended.output, "none has taken the run folder within 1 s (--start-wait)"));
  CHECK(start_count(program) == 4);
  CHECK(processes(program).empty());
}

TEST_CASE("a job that does not stop when it is asked to is ended after --stop-wait") {
  const TemporaryFolder folder;
  const std::string program =
      stand_in(folder / "stand-in", "exec tail -f \"$0\"");  // SIGUSR1 is held back
  Process job(supervised({"--stop-wait=1", "--binary=" + program}, 2,
                         {"train", "--run=" + (folder / "run").string()}));
  while (job.running() && start_count(program) < 2) sleep_microseconds(1000);
  job.signal(SIGTERM);
  const Ended ended = job.wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 128 + SIGTERM);
  CHECK(has(ended.output, "the job has not stopped within 1 s (--stop-wait) and is ended"));
  CHECK(start_count(program) == 2);
  CHECK(processes(program).empty());
}

}  // namespace weir::test::supervisor_test
