#include "launch/supervise/restart_policy.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace weir::test::restart_policy_test {
namespace {

constexpr index_t kMany = 1000;

TEST_CASE("what is done, wrong, stopped or cannot be stored is not started again") {
  for (const int code : {0, 2, 3, 74, 75, 93}) {
    CAPTURE(code);
    const RestartDecision decision = RestartPolicy(kMany).after({code, true, 0, 10});
    CHECK_FALSE(decision.restart);
    CHECK(decision.code == code);
    CHECK(decision.reason.empty());
  }
}

TEST_CASE("errors, hangs and kills are started again, the first time at once") {
  for (const int code : {1, 70, 86, 127, 134, 137, 139, 143}) {
    CAPTURE(code);
    const RestartDecision decision = RestartPolicy(kMany).after({code, true, 0, 10});
    CHECK(decision.restart);
    CHECK(decision.wait_seconds == 0);
  }
}

TEST_CASE("a finished job that could not say so is not started again; an unfinished one is") {
  CHECK_FALSE(RestartPolicy(kMany).after({1, true, 0, 10, true}).restart);
  CHECK(RestartPolicy(kMany).after({1, true, 0, 10, false}).restart);
}

TEST_CASE("a bug in weir is tried a second time and no third") {
  RestartPolicy policy(kMany);
  CHECK(policy.after({70, true, 0, 10}).restart);
  CHECK(policy.after({137, true, 10, 20}).restart);
  const RestartDecision decision = policy.after({70, true, 20, 30});
  CHECK_FALSE(decision.restart);
  CHECK(decision.code == 70);
  CHECK_FALSE(decision.reason.empty());
}

TEST_CASE("three starts in a row without a new step end with 93") {
  RestartPolicy policy(kMany);
  CHECK(policy.after({137, true, -1, -1}).restart);
  CHECK(policy.after({1, true, -1, -1}).restart);
  const RestartDecision decision = policy.after({86, true, -1, -1});
  CHECK_FALSE(decision.restart);
  CHECK(decision.code == 93);
  CHECK(decision.reason == "3 starts in a row committed no step");
}

TEST_CASE("a new step begins the pauses and the count of fruitless starts anew") {
  RestartPolicy policy(kMany);
  std::vector<double> pauses;
  index_t step = -1;
  for (int round = 0; round < 3; ++round) {
    pauses.push_back(policy.after({137, true, step, step + 10}).wait_seconds);
    step += 10;
    for (int fruitless = 0; fruitless < 2; ++fruitless) {
      const RestartDecision decision = policy.after({137, true, step, step});
      CHECK(decision.restart);
      pauses.push_back(decision.wait_seconds);
    }
  }
  CHECK(pauses == std::vector<double>{0, 1, 2, 0, 1, 2, 0, 1, 2});
  CHECK(policy.after({137, true, step, step}).code == 93);
}

TEST_CASE("pauses double up to a minute") {
  std::vector<double> pauses;
  for (index_t earlier = 0; earlier < 10; ++earlier) {
    pauses.push_back(restart_wait_seconds(earlier));
  }
  CHECK(pauses == std::vector<double>{0, 1, 2, 4, 8, 16, 32, 60, 60, 60});
  CHECK(restart_wait_seconds(1'000'000'000) == 60);
}

TEST_CASE("--restarts bounds the number; with 0 every exit code is passed on") {
  RestartPolicy policy(2);
  CHECK(policy.after({137, true, 0, 10}).restart);
  CHECK(policy.after({137, true, 10, 20}).restart);
  const RestartDecision decision = policy.after({137, true, 20, 30});
  CHECK_FALSE(decision.restart);
  CHECK(decision.code == 137);
  CHECK(decision.reason == "it was started again 2 times (--restarts)");
  CHECK(policy.restart_count() == 2);
  const RestartDecision never = RestartPolicy(0).after({137, true, -1, -1});
  CHECK_FALSE(never.restart);
  CHECK(never.code == 137);
  CHECK(never.reason.empty());
}

TEST_CASE("an mpirun that starts no rank the first time is not tried again; later it is") {
  CHECK_FALSE(RestartPolicy(kMany).after({1, false, -1, -1}).restart);
  RestartPolicy policy(9);
  CHECK(policy.after({86, true, 0, 10}).restart);
  for (const double pause : {1, 2, 4, 8, 16, 32, 60, 60}) {
    const RestartDecision decision = policy.after({1, false, 10, 10});
    CHECK(decision.restart);
    CHECK(decision.wait_seconds == pause);
  }
  CHECK(policy.after({1, false, 10, 10}).code == 1);  // --restarts
}

}  // namespace
}  // namespace weir::test::restart_policy_test
