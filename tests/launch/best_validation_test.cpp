#include "launch/best_validation.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <limits>
#include <vector>

#include "common/io/checkpoint_format.hpp"
#include "tests/quiet_log.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::best_validation_test {
namespace {

void commit(const TemporaryFolder& folder, index_t step) {
  const fs::path checkpoint = checkpoint_folder(folder.path(), step);
  fs::create_directory(checkpoint);
  std::ofstream(checkpoint / "MANIFEST").put('\n');
}

/// A step with or without a checkpoint, and its validation.
void validate(BestValidation& best, index_t step, double loss, bool checkpoint = true) {
  best.step({.step = step, .order = {.checkpoint = checkpoint}});
  best.validation(step, {.sum = 4 * loss, .count = 4});
}

index_t best_step(const TemporaryFolder& folder) {
  const auto best = read_best(folder.path());
  return best ? best->step : -1;
}

TEST_CASE("the checkpoint with the lowest loss is remembered, also by the next job of the run") {
  const TemporaryFolder folder;
  for (const index_t step : {2, 4, 8, 10, 12, 14}) commit(folder, step);
  BestValidation first(folder.path(), 0);
  first.start({});
  validate(first, 2, 3.0);
  validate(first, 4, 1.5);
  validate(first, 6, 1.0, false);  // nothing to go back to
  validate(first, 8, 1.5);
  validate(first, 10, std::numeric_limits<double>::quiet_NaN());
  CHECK(best_step(folder) == 4);
  CHECK(read_best(folder.path())->loss == 1.5);
  BestValidation second(folder.path(), 0);
  second.start({.step = 10});
  validate(second, 12, 1.75);
  CHECK(best_step(folder) == 4);
  validate(second, 14, 1.25);
  CHECK(best_step(folder) == 14);
}

TEST_CASE("a checkpoint is best when it is committed, and not before") {
  const TemporaryFolder folder;
  BestValidation best(folder.path(), 0);
  best.start({});
  commit(folder, 2);
  validate(best, 2, 3.0);
  validate(best, 4, 2.0);
  CHECK(best_step(folder) == 2);
  commit(folder, 4);
  best.step({.step = 5});
  CHECK(best_step(folder) == 4);
  validate(best, 6, 1.5);  // the save is given up
  validate(best, 8, 1.75);
  commit(folder, 8);
  best.note_committed();
  CHECK(best_step(folder) == 4);
  commit(folder, 10);
  validate(best, 10, 1.25);
  CHECK(best_step(folder) == 10);
}

TEST_CASE("a best checkpoint that is gone, or after the step that a job goes on from, is none") {
  const TemporaryFolder folder;
  for (const index_t step : {4, 6, 8}) commit(folder, step);
  write_best(folder.path(), {6, 1.0});
  BestValidation back(folder.path(), 1);
  back.start({.step = 4});
  validate(back, 6, 2.0);  // another run of the same step
  CHECK_FALSE(back.is_over());
  CHECK(best_step(folder) == 6);
  CHECK(read_best(folder.path())->loss == 2.0);
  fs::remove_all(checkpoint_folder(folder.path(), 6));
  BestValidation gone(folder.path(), 1);
  gone.start({.step = 6});
  validate(gone, 8, 3.0);
  CHECK_FALSE(gone.is_over());
  CHECK(best_step(folder) == 8);
}

TEST_CASE("the validation at the end, over other samples, counts for nothing") {
  const TemporaryFolder folder;
  for (const index_t step : {2, 4}) commit(folder, step);
  BestValidation best(folder.path(), 1);
  best.start({});
  validate(best, 2, 2.0);
  best.step({.step = 4, .order = {.checkpoint = true, .stop = true}});
  best.validation(4, {.sum = 1, .count = 1});
  CHECK(best_step(folder) == 2);
  CHECK_FALSE(best.is_over());
  BestValidation done(folder.path(), 1);  // all steps are done: it validates only
  done.start({.step = 4, .order = {.stop = true}});
  done.validation(4, {.sum = 9, .count = 1});
  CHECK_FALSE(done.is_over());
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

TEST_CASE("validations before a restart count, but none after the step that it goes on from") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const fs::path metrics = folder / "metrics.jsonl";
  CHECK(past_validations(metrics, 4).empty());
  std::ofstream(metrics) << R"({"kind":"validation","step":2,"sample_count":4,"loss":2.0})" << '\n'
                         << R"({"kind":"validation","step":4,"sample_count":4,"loss":2.5})" << '\n'
                         << R"({"kind":"validation","step":6,"sample_count":4,"loss":1.0})" << '\n'
                         << R"({"kind":"validation","step":6,"sample_count":9,"loss":0.5})" << '\n';
  const std::vector<PastValidation> past = past_validations(metrics, 4);
  REQUIRE(past.size() == 2);  // a step's last line counts, and it took other samples
  BestValidation best(folder.path(), 2, past);
  best.start({.step = 4});
  CHECK_FALSE(best.is_over());
  validate(best, 6, 2.25, false);
  CHECK(best.is_over());
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
  CHECK(best_step(folder) == 7);
  CHECK(read_best(folder.path())->loss == 0.1);
}

}  // namespace
}  // namespace weir::test::best_validation_test
