#include "tests/launch/spoilt_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/number/rounding.hpp"
#include "tests/launch/small_training.hpp"

namespace weir::test::spoilt_kernels_test {
// NaN and infinity in every place where an activation or a gradient passes: after each call of a
// kernel in a step, one after the other.

using worker::GlobalForm;
using worker::Task;

namespace {

void put(Vector values, index_t at, float value) {
  switch (values.dtype()) {
    case Dtype::f32:
      as<float>(values)[at] = value;
      return;
    case Dtype::bf16:
      as<Bf16>(values)[at] = rounded_to<Bf16>(value);
      return;
    case Dtype::fp16:
      as<Fp16>(values)[at] = rounded_to<Fp16>(value);
      return;
    case Dtype::i32:
      break;
  }
  WEIR_UNREACHABLE();
}

struct Outcome {
  index_t places = 0;    ///< that a value could be spoilt in, in the first step
  bool skipped = false;  ///< the first step
  bool clean = true;     ///< weights are finite, and unchanged by a step that is skipped
};

/// Two steps, the first with one `bad` value in the place of this number; none if it is negative.
Outcome train(const worker::ModelConfig& model, Precision precision, index_t place, float bad) {
  ps::ServerConfig config = server_config(2);
  config.training = {.steps = 2, .batch = 2, .micro_batch = 1, .precision = precision};
  Outcome outcome;
  SpoiltKernels kernels;
  const Record record = train_letters(model, config, kernels, [&](const Record& now) {
    kernels.after = [&](Vector written) {
      if (!now.directives.empty() || written.empty()) return;
      if (outcome.places++ == place) put(written, place * 7919 % written.size(), bad);
    };
  });
  REQUIRE(record.weights.size() == 3);
  outcome.skipped = record.directives[0].rule.skip != SkipReason::none;
  if (outcome.skipped) outcome.clean = record.weights[1] == record.weights[0];
  for (const std::vector<float>& each : record.weights) {
    outcome.clean &= std::ranges::all_of(each, [](float value) { return std::isfinite(value); });
  }
  return outcome;
}

}  // namespace

TEST_CASE("NaN or infinity after any call of a kernel: no weight ever sees it") {
  const QuietLog quiet;
  for (const Task task : {Task::language, Task::classifier}) {
    for (const GlobalForm globals : {GlobalForm::shared, GlobalForm::split}) {
      for (const auto& [name, precision] : kPrecisionNames) {
        CAPTURE(name);
        worker::ModelConfig model = letters_model(task, precision);
        model.globals = globals;
        model.dropout = 0.1;
        const Outcome good = train(model, precision, -1, 0);
        CHECK(good.clean);
        CHECK(good.places > 60);
        index_t skipped = 0;
        for (index_t place = 0; place < good.places; ++place) {
          const float bad = place % 3 == 0 ? std::numeric_limits<float>::infinity()
                                           : std::numeric_limits<float>::quiet_NaN();
          const Outcome outcome = train(model, precision, place, bad);
          if (!outcome.clean) FAIL_CHECK("place ", place, " of ", good.places);
          skipped += outcome.skipped ? 1 : 0;
        }
        // The others were overwritten, dropped or never looked at.
        CHECK(skipped > good.places * 2 / 3);
      }
    }
  }
}

}  // namespace weir::test::spoilt_kernels_test
