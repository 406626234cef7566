#include "launch/supervise/banner_filter.hpp"

#include <doctest/doctest.h>

#include "common/base/text.hpp"

namespace weir::test::banner_filter_test {
namespace {

// What Open MPI 4.1.4 says.
const std::string kRule = std::string(74, '-') + '\n';
const std::string kPrimary =
    kRule +
    "Primary job  terminated normally, but 1 process returned\n"
    "a non-zero exit code. Per user-direction, the job has been aborted.\n" +
    kRule;
const std::string kDetected =
    kRule +
    "mpirun detected that one or more processes exited with non-zero status, thus causing\n"
    "the job to be terminated. The first process to do so was:\n\n"
    "  Process name: [[31521,1],2]\n  Exit code:    137\n" +
    kRule;
const std::string kAbort =
    kRule +
    "MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD\nwith errorcode 2.\n\n"
    "NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n"
    "You may or may not see output from other processes, depending on\n"
    "exactly when Open MPI kills them.\n" +
    kRule;
const std::string kLines =
    "mpirun: Forwarding signal 10 to job\n"
    "mpirun: killing job...\n"
    "[host:07] 1 more process has sent help message help-mpi-api.txt / mpi-abort\n"
    "[host:07] Set MCA parameter \"orte_base_help_aggregate\" to 0 to see all help / error "
    "messages\n";
const std::string kReason =
    kRule +
    "Open MPI tried to fork a new process via the \"execve\" system call but\n"
    "failed.  Open MPI checks many things before attempting to launch a\nchild process.\n\n"
    "  Local host:        host\n  Working directory: /nosuch\n" +
    kRule;

/// What is shown of a text that comes in pieces of this many bytes.
std::string shown(const std::string& all, std::size_t piece) {
  BannerFilter filter;
  std::string text;
  for (std::size_t at = 0; at < all.size(); at += piece) text += filter.add(all.substr(at, piece));
  return text + filter.end();
}

TEST_CASE("banners on how ranks ended are taken out; the ranks' lines around them stay") {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{4096}}) {
    CAPTURE(piece);
    CHECK(shown("one\n" + kPrimary + kDetected + "two\n" + kLines + kAbort + "\n---\nthree\n",
                piece) == "one\ntwo\n\n---\nthree\n");
  }
}

TEST_CASE("why a job does not start is shown as mpirun says it") {
  CHECK(shown(kReason, 100) == kReason);
  CHECK(shown(kReason + kDetected + kReason, 100) == kReason + kReason);
}

TEST_CASE("what was not finished when mpirun ended is shown") {
  CHECK(shown(kRule + "half a banner\n", 5) == kRule + "half a banner\n");
  CHECK(shown("no end", 5) == "no end\n");
  CHECK(shown("", 5) == "");
}

TEST_CASE("a rule is 70 dashes or more and nothing else") {
  const std::string dashes(69, '-');
  CHECK(shown(dashes + "\na\n" + dashes + "\n", 10) == dashes + "\na\n" + dashes + "\n");
  BannerFilter filter;
  CHECK(filter.add(kRule + "waits\n") == "");
  CHECK(filter.add(kRule) == kRule + "waits\n" + kRule);
}

TEST_CASE("all ranks have begun when as many have said so as there are, in whatever lines") {
  BannerFilter filter;
  const std::string began = text(kRankBegins, 3, '\n');
  CHECK_FALSE(filter.any_rank_began());
  CHECK(filter.add(began + "x\n") == "x\n");
  CHECK(filter.any_rank_began());
  CHECK(filter.add("[1,1]<stderr>:" + began) == "");
  CHECK_FALSE(filter.all_ranks_began());
  CHECK(filter.add(began) == "");
  CHECK(filter.all_ranks_began());
}

TEST_CASE("the first rank that fails is noted with its code and host, and not shown") {
  BannerFilter filter;
  CHECK_FALSE(filter.failure());
  CHECK(filter.add(text("[1,1]<stderr>:", kRankFailed, "86 on anna.net\n")) == "");
  CHECK(filter.add(text(kRankFailed, "137 on berta\n")) == "");
  REQUIRE(filter.failure());
  CHECK(filter.failure()->code == 86);
  CHECK(filter.failure()->host == "anna.net");
  CHECK(filter.lost_hosts().empty());
}

TEST_CASE("hosts that mpirun loses, or that ssh cannot reach, are noted once and shown") {
  const std::string lost = kRule +
                           "ORTE has lost communication with a remote daemon.\n\n"
                           "  HNP daemon   : [[44276,0],0] on node head\n"
                           "  Remote daemon: [[44276,0],2] on node n2\n\n"
                           "This is usually due to either a failure of the TCP network\n" +
                           kRule;
  const std::string unreachable =
      "ssh: connect to host n3 port 22: No route to host\n"
      "ssh: Could not resolve hostname n4: Name or service not known\n";
  BannerFilter filter;
  CHECK(filter.add(lost + unreachable + lost) == lost + unreachable + lost);
  CHECK(filter.lost_hosts() == std::vector<std::string>{"n2", "n3", "n4"});
}

}  // namespace
}  // namespace weir::test::banner_filter_test
