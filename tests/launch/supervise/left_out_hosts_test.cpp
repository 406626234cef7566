#include "launch/supervise/left_out_hosts.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "common/base/error.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::left_out_hosts_test {
namespace {

using Words = std::vector<std::string>;

const JobEnd kKilledOnC = {.code = 137, .any_began = true, .failure = RankFailure{137, "c"}};

MpirunWords words_of(const TemporaryFolder& folder, const Words& job) {
  std::ofstream(folder / "hosts") << "a slots=2\nme@b slots=2\nc slots=2\n";
  Words all = {"-n", "6", "--hostfile", (folder / "hosts").string(), "train"};
  all.insert(all.end(), job.begin(), job.end());
  return read_mpirun_words(all);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the second failure on a host takes it and replicas away, and says what begins anew") {
  const TemporaryFolder folder;
  const Words job = {"--placement=colocated", "--batch=12", "--micro-batch=1", "--wire-push=int8"};
  Words all = job;
  all.push_back("--replicas=6");
  MpirunWords words = words_of(folder, all);
  LeftOutHosts hosts(2, false, words);
  CHECK(hosts.after(kKilledOnC, folder.path(), words) == "");
  CHECK(words.ranks == 6);
  const std::string said = hosts.after(kKilledOnC, folder.path(), words);
  const std::string hostfile = (folder / "hostfile.remaining").string();
  CHECK(said ==
        "c failed twice and is left out from now on. The job goes on with 4 of 6 replicas on "
        "the hosts in " +
            hostfile + "; the error feedback of the wire begins anew");
  CHECK(words.options == Words{"--hostfile", hostfile, "-n", "4"});
  all = {"train"};
  all.insert(all.end(), job.begin(), job.end());
  all.insert(all.end(), {"--replicas=4", "--servers=4"});
  CHECK(words.command == all);
  std::ostringstream lines;
  lines << std::ifstream(hostfile).rdbuf();
  CHECK(lines.str() == "a slots=2\nme@b slots=2\n");

  // The next host to fail leaves two slots.
  const JobEnd lost = {.code = 250, .any_began = true, .lost_hosts = {"a"}};
  CHECK(hosts.after(lost, folder.path(), words) == "");
  CHECK(has(hosts.after(lost, folder.path(), words), "with 2 of 4 replicas"));
  CHECK(words.ranks == 2);
}

struct Stays {
  index_t replicas_min;
  bool has_slurm_job;
  const char* why;
};

TEST_CASE(
    "all hosts stay without --min-replicas, under Slurm, and where fewer replicas are refused") {
  for (const Stays& each :
       {Stays{0, false, "there is no --min-replicas"},
        Stays{1, true, "under Slurm its allocation says"}, Stays{3, false, "with 3 replicas: "}}) {
    CAPTURE(each.why);
    const TemporaryFolder folder;
    MpirunWords words = words_of(folder, {"--replicas=5", "--servers=1", "--batch=12",
                                          "--micro-batch=1", "--inject=slow=4:2x"});
    const MpirunWords unchanged = words;
    LeftOutHosts hosts(each.replicas_min, each.has_slurm_job, words);
    CHECK(hosts.after(kKilledOnC, folder.path(), words) == "");
    const std::string said = hosts.after(kKilledOnC, folder.path(), words);
    CHECK(
        has(said, std::string("c failed twice, but the job goes on with all hosts: ") + each.why));
    CHECK(words.options == unchanged.options);
    CHECK(words.command == unchanged.command);
  }
}

TEST_CASE("--min-replicas needs a hostfile, unless Slurm says which hosts there are") {
  const MpirunWords words = read_mpirun_words({"-n", "3", "train"});
  CHECK_THROWS_AS(LeftOutHosts(1, false, words), UsageError);
  CHECK_NOTHROW(LeftOutHosts(1, true, words));
  CHECK_NOTHROW(LeftOutHosts(0, false, words));
}

TEST_CASE("a job of one host has none to leave out and none to speak of") {
  MpirunWords words = read_mpirun_words({"-n", "3", "train"});
  LeftOutHosts hosts(0, false, words);
  const TemporaryFolder folder;
  hosts.after(kKilledOnC, folder.path(), words);
  CHECK(hosts.after(kKilledOnC, folder.path(), words).empty());
}

}  // namespace weir::test::left_out_hosts_test
