#include "launch/supervise/requests.hpp"

#include <doctest/doctest.h>

#include <csignal>

namespace weir::test::requests_test {
namespace {

TEST_CASE("one signal asks a training job to stop, a second SIGTERM or SIGINT ends it") {
  for (const int first : {SIGTERM, SIGINT}) {
    Requests requests(true, 60);
    CHECK_FALSE(requests.any());
    CHECK(requests.take(first, 0) != "");
    CHECK(requests.any());
    CHECK(requests.ending_signal() == 0);
    CHECK(requests.take(SIGINT, 1) == "");
    CHECK(requests.ending_signal() == SIGINT);
    CHECK(requests.first_signal() == first);
  }
}

TEST_CASE("SIGUSR1 and SIGHUP only ask, however often; a scheduler's SIGUSR1 is not remarked on") {
  Requests requests(true, 60);
  CHECK(requests.take(SIGUSR1, 0) == "");
  CHECK(requests.take(SIGHUP, 0) == "");
  CHECK(requests.take(SIGUSR1, 0) == "");
  CHECK(requests.take(SIGTERM, 0) == "");
  CHECK(requests.ending_signal() == 0);
  CHECK(requests.take(SIGTERM, 0) == "");
  CHECK(requests.ending_signal() == SIGTERM);
  CHECK(Requests(true, 60).take(SIGHUP, 0) != "");
}

TEST_CASE("a job that has nothing to save is ended by the first signal") {
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) {
    Requests requests(false, 60);
    CHECK(requests.take(signal, 0) == "");
    CHECK(requests.ending_signal() == signal);
  }
}

TEST_CASE("the time to stop begins with the first request") {
  Requests requests(true, 60);
  CHECK_FALSE(requests.overdue(1e9));
  requests.take(SIGUSR1, 100);
  requests.take(SIGUSR1, 150);
  CHECK_FALSE(requests.overdue(160));
  CHECK(requests.overdue(160.5));
}

TEST_CASE("signals have their names") {
  CHECK(signal_name(SIGKILL) == "KILL");
  CHECK(signal_name(SIGUSR1) == "USR1");
  CHECK(signal_name(200) == "200");
}

}  // namespace
}  // namespace weir::test::requests_test
