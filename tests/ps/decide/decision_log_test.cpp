#include "ps/decide/decision_log.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

const DecidingJob kAsp = {.consistency = {.mode = Consistency::asp}, .replicas = 3};
const DecidingJob kBackup = {.consistency = {.backup = 1}, .replicas = 3, .micro_batches = 6};
const DecidingJob kBalanced = {.consistency = {}, .replicas = 3, .micro_batches = 6};

std::string head_of(const DecidingJob& job) {
  return text("{\"kind\":\"decisions\",\"consistency\":\"", name_of(job.consistency.mode),
              "\",\"replicas\":", job.replicas, "}\n");
}

std::string contents(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("a log that ends in the middle of a line, or is of another job, is handled as such") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  {
    DecisionLog log(path, kAsp, 0);
    log.append({Decision::Kind::close, {1}}, 1, 0);
    log.append({Decision::Kind::close, {0}}, 2, 0);
    log.append({Decision::Kind::close, {2}}, 3, 0);
  }
  CHECK(read_decisions(path, kAsp).size() == 3);
  CHECK(read_decisions(path, kAsp).back().update == 3);
  CHECK(read_decisions(path, kAsp).back().decision.replicas == std::vector<index_t>{2});
  std::ofstream(path, std::ios::app) << "{\"update\":4,\"clo";
  CHECK(read_decisions(path, kAsp).size() == 3);
  DecidingJob more = kAsp;
  more.replicas = 4;
  CHECK_THROWS_WITH_AS(read_decisions(path, more), doctest::Contains("the settings it was"), Error);
  {
    DecisionLog log(path, kAsp, 1);  // goes on after update 1
    log.append({Decision::Kind::close, {2}}, 2, 0);
    log.sync();
  }
  const auto kept = read_decisions(path, kAsp);
  REQUIRE(kept.size() == 2);
  CHECK(kept[0].decision == Decision{Decision::Kind::close, {1}});
  CHECK(kept[1].decision == Decision{Decision::Kind::close, {2}});
  CHECK_THROWS_WITH_AS(read_decisions(folder.path() / "none", kAsp),
                       doctest::Contains("cannot open"), Error);
}

TEST_CASE("a decision that a job cannot have made there is refused with its line") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  struct Odd {
    const DecidingJob& job;
    const char* lines;
    const char* message;
  };
  for (const auto& [job, lines, message] : {
           // Holes.
           Odd{kAsp, "{\"update\":1,\"close\":[0]}\n{\"update\":3,\"close\":[1]}\n",
               "line 3 is no decision of this job: update 3 comes after update 1"},
           {kAsp, "{\"update\":2,\"close\":[0]}\n{\"update\":1,\"close\":[1]}\n", "line 3"},
           {kAsp, "{\"update\":1,\"close\":[0]}\n{\"update\":1,\"close\":[1]}\n", "line 3"},
           {kBackup, "{\"update\":1,\"close\":[0,1]}\n{\"update\":2,\"drop\":[2]}\n",
            "update 2 comes after update 1"},
           {kBackup, "{\"update\":4,\"close\":[0,1]}\n{\"update\":3,\"drop\":[2]}\n", "line 3"},
           {kBackup, "{\"update\":1,\"close\":[0,1]}\n{\"update\":2,\"share\":[2,2,2]}\n",
            "line 3"},
           {kBalanced, "{\"update\":9,\"share\":[2,2,2]}\n{\"update\":9,\"share\":[1,2,3]}\n",
            "line 3"},
           // Replicas.
           {kAsp, "{\"update\":1,\"close\":[]}\n",
            "line 2 is no decision of this job: it names no"},
           {kBackup, "{\"update\":1,\"drop\":[]}\n", "it names no replica"},
           {kBackup, "{\"update\":1,\"close\":[0,0]}\n", "a replica twice"},
           {kBackup, "{\"update\":1,\"close\":[1,0]}\n", "not in ascending order"},
           {kBackup, "{\"update\":1,\"close\":[0,3]}\n", "it names replica 3, there are 3"},
           {kBackup, "{\"update\":1,\"close\":[-1,0]}\n", "it names replica -1"},
           {kAsp, "{\"update\":1,\"close\":[0,1]}\n", "one replica's step"},
           {kAsp, "{\"update\":1,\"drop\":[0]}\n", "nothing is dropped"},
           {kBalanced, "{\"update\":1,\"close\":[0,1,2]}\n", "replay it with --backup"},
           // Shares.
           {kBackup, "{\"update\":1,\"share\":[3,3]}\n", "among 2 replicas, there are 3"},
           {kBackup, "{\"update\":1,\"share\":[3,3,0]}\n", "at least 1 micro-batch"},
           {kBackup, "{\"update\":1,\"share\":[8,-1,-1]}\n", "at least 1 micro-batch"},
           {kBackup, "{\"update\":1,\"share\":[9223372036854775807,1,1]}\n", "at least 1"},
           {kBackup, "{\"update\":1,\"share\":[3,3,1]}\n", "are 7 micro-batches, a step has 6"},
           // Lines.
           {kAsp, "{\"update\":1,\"close\":[0],\"drop\":[1]}\n", "it has 2 of close, drop and"},
           {kAsp, "{\"update\":1}\n", "it has 0 of close, drop and share"},
           {kAsp, "{\"close\":[0]}\n", "it has no update"},
           {kAsp, "{\"update\":1.5,\"close\":[0]}\n", "update is no whole number"},
           {kAsp, "{\"update\":0,\"close\":[0]}\n", "there is no update 0"},
           {kAsp, "{\"update\":9223372036854775807,\"close\":[0]}\n", "there is no update 92233"},
           {kAsp, "{\"update\":18446744073709551615,\"close\":[0]}\n", "there is no update"},
           {kAsp, "{\"update\":1,\"close\":0}\n", "close is no list"},
           {kAsp, "{\"update\":1,\"close\":[0.5]}\n", "close is no whole number"},
           {kAsp, "{\"update\":1,\"close\":[[0]]}\n", "close is no whole number"},
           {kAsp, "[1]\n", "it is no object"},
           {kAsp, "7\n", "it is no object"},
           {kAsp, "\n", "line 2"},
           {kAsp, "{\"update\":1,\n", "line 2"},
       }) {
    std::ofstream(path) << head_of(job) << lines;
    const std::string said = message_of([&] { read_decisions(path, job); });
    CAPTURE(lines);
    CAPTURE(said);
    CHECK(said.find(message) != std::string::npos);
    CHECK(said.starts_with(path.string() + " line "));
  }
}

TEST_CASE("a log that does not reach up to the checkpoint begins anew behind it") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  const std::string three = head_of(kBackup) +
                            "{\"update\":1,\"close\":[0,1]}\n{\"update\":1,\"drop\":[2]}\n"
                            "{\"update\":2,\"close\":[0,1,2]}\n{\"update\":3,\"close\":[0,1,2]}\n";
  const auto after = [&](const std::string& before, index_t update) {
    std::ofstream(path) << before;
    DecisionLog log(path, kBackup, update);
    log.append({Decision::Kind::close, {1, 2}}, update + 1, 0);
    return contents(path);
  };
  const std::string fourth = "{\"update\":4,\"close\":[1,2]}\n";
  CHECK(after(three, 3) == three + fourth);
  CHECK(after(three + fourth, 3) == three + fourth);
  CHECK(after(three, 1).ends_with("{\"update\":1,\"drop\":[2]}\n{\"update\":2,\"close\":[1,2]}\n"));
  CHECK(after(three, 4) == head_of(kBackup) + "{\"update\":5,\"close\":[1,2]}\n");
  CHECK(after(head_of(kBackup) + "{\"update\":7,\"close\":[0,1]}\n", 3) ==
        head_of(kBackup) + fourth);
  CHECK(after("something else\n", 3) == head_of(kBackup) + fourth);
}

TEST_CASE("a pipe or a line without an end in place of a log is refused by name") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK(message_of([&] { read_decisions(path, kAsp); }).find("it is a pipe") != std::string::npos);
  fs::remove(path);
  std::ofstream(path) << head_of(kAsp) << std::string(300'000, '[');
  const std::string message = message_of([&] { read_decisions(path, kAsp); });
  CHECK(message == path.string() + " line 2 has more than 262144 bytes");
}

TEST_CASE("what a power cut has torn behind the checkpoint takes nothing before it along") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  const std::string two =
      head_of(kBackup) + "{\"update\":1,\"close\":[0,1]}\n{\"update\":2,\"close\":[0,1,2]}\n";
  const std::string third = "{\"update\":3,\"close\":[1,2]}\n";
  for (const std::string& torn : {std::string(26, '\0') + "\n", std::string(3, '\0') + "\n" + third,
                                  "{\"update\":4,\"close\":[0,1,2]}\n" + third}) {
    std::ofstream(path) << two << torn;
    DecisionLog(path, kBackup, 2).append({Decision::Kind::close, {1, 2}}, 3, 0);
    CHECK(contents(path) == two + third);
  }
  std::ofstream(path) << two << "{\"update\":4,\"close\":[0,1,2]}\n";
  DecisionLog(path, kBackup, 3).append({Decision::Kind::close, {1}}, 4, 0);
  CHECK(contents(path) == head_of(kBackup) + "{\"update\":4,\"close\":[1]}\n");
}

TEST_CASE("a log is followed from the update where a job begins, or not at all") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  const BucketPlan plan = plan_of({.replicas = 3});
  ServerConfig config = server_config(4);
  config.consistency = {.mode = Consistency::asp};
  config.replay = path;
  const auto starting = [&](const std::string& lines) {
    std::ofstream(path) << head_of(kAsp) << lines;
    return message_of([&] { Server(plan, 0, config); });
  };
  CHECK(starting("{\"update\":1,\"close\":[2]}\n") == "no error");
  CHECK(starting("") == "no error");
  CHECK(starting("{\"update\":5,\"close\":[2]}\n")
            .find("begins with update 5, and this job with "
                  "update 1") != std::string::npos);

  // Shares change where all meet; elsewhere they are of another job.
  config.consistency = {.backup = 1};
  config.training.batch = 12;
  config.training.micro_batch = 2;
  std::ofstream(path) << head_of(kBackup) << "{\"update\":1,\"close\":[0,1]}\n"
                      << "{\"update\":1,\"share\":[2,2,2]}\n";
  SimulatedJob job(plan, config, 1);
  CHECK(message_of([&] { job.run(); }).find("where the replicas do not meet") != std::string::npos);
}
