#include "launch/best_validation.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <limits>

#include "tests/quiet_log.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::best_validation_test {
namespace {

/// A step with or without a checkpoint, and its validation.
void validate(BestValidation& best, index_t step, double loss, bool checkpoint = true) {
  best.step({.step = step, .order = {.checkpoint = checkpoint}});
  best.validation(step, {.sum = 4 * loss, .count = 4});
}

TEST_CASE("the checkpoint with the lowest loss is remembered, also by the next job of the run") {
  const TemporaryFolder folder;
  BestValidation first(folder.path(), 0);
  CHECK_FALSE(read_best(folder.path()).has_value());
  validate(first, 2, 3.0);
  validate(first, 4, 1.5);
  validate(first, 6, 1.0, false);  // nothing to go back to
  validate(first, 8, 1.5);
  validate(first, 10, std::numeric_limits<double>::quiet_NaN());
  REQUIRE(read_best(folder.path()).has_value());
  CHECK(read_best(folder.path())->step == 4);
  CHECK(read_best(folder.path())->loss == 1.5);
  BestValidation second(folder.path(), 0);
  validate(second, 12, 1.75);
  CHECK(read_best(folder.path())->step == 4);
  validate(second, 14, 1.25);
  CHECK(read_best(folder.path())->step == 14);
}

TEST_CASE("the validation at the end, over other samples, counts for nothing") {
  const TemporaryFolder folder;
  BestValidation best(folder.path(), 1);
  validate(best, 2, 2.0);
  best.step({.step = 4, .order = {.checkpoint = true, .stop = true}});
  best.validation(4, {.sum = 1, .count = 1});
  CHECK(read_best(folder.path())->step == 2);
  CHECK_FALSE(best.is_over());
}

TEST_CASE("it is over after as many validations in a row without a lower loss as one is patient") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  BestValidation best(folder.path(), 2), patient(folder.path(), 0);
  const std::vector<double> losses = {3, 2, 2.5, 1.5, 1.5};
  for (std::size_t at = 0; at < losses.size(); ++at) {
    for (BestValidation* each : {&best, &patient}) {
      validate(*each, static_cast<index_t>(2 * at), losses[at], false);
      CHECK_FALSE(each->is_over());
    }
  }
  validate(best, 10, std::numeric_limits<double>::infinity(), false);
  validate(patient, 10, std::numeric_limits<double>::infinity(), false);
  CHECK(best.is_over());
  CHECK_FALSE(patient.is_over());
}

TEST_CASE("a BEST that holds something else is none") {
  const TemporaryFolder folder;
  for (const char* const foreign : {"", "step", "step x\nloss 1\n", "step -1\nloss 1\n",
                                    "step 3\nloss nan\n", "loss 1\nstep 3\n"}) {
    CAPTURE(foreign);
    std::ofstream(folder.path() / "BEST") << foreign;
    CHECK_FALSE(read_best(folder.path()).has_value());
  }
  write_best(folder.path(), {7, 0.1});
  CHECK(read_best(folder.path())->step == 7);
  CHECK(read_best(folder.path())->loss == 0.1);
}

}  // namespace
}  // namespace weir::test::best_validation_test
