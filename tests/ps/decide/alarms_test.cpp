#include "ps/decide/alarms.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>

#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

/// What is written to stderr meanwhile.
std::string said(const std::function<void()>& work) {
  const TemporaryFolder folder;
  const auto path = folder / "said";
  std::fflush(stderr);
  const int before = dup(2);
  const int file = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  dup2(file, 2);
  work();
  std::fflush(stderr);
  dup2(before, 2);
  close(file);
  close(before);
  std::ifstream read(path);
  return {std::istreambuf_iterator<char>(read), {}};
}

Directive step(index_t number, SkipReason skip, double coefficient) {
  Directive directive;
  directive.step = number;
  directive.rule.skip = skip;
  directive.observed.coefficient = coefficient;
  return directive;
}

}  // namespace

TEST_CASE("one percent of skipped steps is quiet, more are said once") {
  const auto with_every = [](index_t every) {
    return said([&] {
      Alarms alarms;
      for (index_t number = 1; number <= 1900; ++number) {
        alarms.on_step(step(number, number % every == 0 ? SkipReason::spike : SkipReason::none, 1));
      }
    });
  };
  CHECK(with_every(100).empty());
  const std::string words = with_every(50);
  CHECK(words.find("20 of the last 1000 steps up to step 1000 were skipped") != std::string::npos);
  CHECK(words.find("skipped", words.find("skipped") + 1) == std::string::npos);
}

TEST_CASE("a clip that leaves nothing is said after a hundred steps") {
  const std::string words = said([] {
    Alarms alarms;
    for (index_t number = 1; number <= 99; ++number) {
      alarms.on_step(step(number, SkipReason::none, 1e-4));
    }
    alarms.on_step(step(100, SkipReason::none, 0.5));
    for (index_t number = 101; number <= 300; ++number) {
      alarms.on_step(step(number, SkipReason::none, 1e-4));
    }
  });
  CHECK(words.find("for 100 steps up to step 200 the clip has left less") != std::string::npos);
  CHECK(words.find("less", words.find("less") + 1) == std::string::npos);
}
