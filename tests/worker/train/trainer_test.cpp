#include "worker/train/trainer.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "common/base/error.hpp"
#include "tests/worker/train/plain_service.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

/// Text of one repeated phrase: something that can be learnt in a few steps.
class Phrase final : public Dataset {
 public:
  explicit Phrase(index_t length) : length_(length) {}
  DataShape shape() const override {
    return {length_,
            {{.name = "tokens", .ragged = true, .values = 256},
             {.name = "targets", .ragged = true, .values = 256, .is_target = true}}};
  }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t cursor, Sample& sample) const override {
    const std::string phrase = "the weir regulates the stream; ";
    const auto tokens = sample.integers("tokens");
    const auto targets = sample.integers("targets");
    for (index_t at = 0; at < length_; ++at) {
      const auto token = [&](index_t offset) {
        return static_cast<std::int32_t>(phrase[(cursor * 7 + at + offset) % std::ssize(phrase)]);
      };
      tokens[at] = token(0);
      targets[at] = token(1);
    }
    sample.length = length_;
  }
  index_t validation_size() const override { return 5; }
  void validation_sample(index_t index, Sample& sample) const override {
    training_sample(index + 100, sample);
  }
  std::string describe() const override { return "a phrase"; }

 private:
  index_t length_;
};

struct Outcome {
  std::vector<double> losses;
  std::vector<index_t> awaited_units;
  std::vector<index_t> ready_units;
  double validation_loss = 0;
};

struct ValidationLoss final : Observer {
  void validation(index_t, const Loss& loss) override {
    CHECK(loss.count == 5 * 40);
    mean = loss.sum / static_cast<double>(loss.count);
  }
  double mean = 0;
};

Outcome train(index_t micro_batch, ScheduleKind schedule, index_t steps,
              ProductLibrary library = ProductLibrary::automatic) {
  ModelConfig model = {.layers = 2, .width = 32, .heads = 2, .feed_forward = 64, .dropout = 0.1};
  model.length = 40;
  TrainConfig config = {.training = {.steps = steps, .batch = 8, .micro_batch = micro_batch},
                        .length = 40};
  config.schedule = schedule;
  const Phrase dataset(40);
  const BucketPlan plan(parameter_specs(model), std::vector<index_t>(4, 0), Layout{}, 65536);
  test::PlainService service(plan, 1, 0.3, config.training.batch, config.training.steps);
  service.micro_batch = micro_batch;
  const TransformerModel transformer(model);
  CpuKernels kernels(1, {.library = library});
  SingleShard shards;
  SingleContext whole;
  const index_t slots = make_schedule(config.schedule, {1}, config.training.batch / micro_batch)
                            .activation_slots.front();
  StageParts parts;
  parts.model = &transformer;
  parts.holding = &plan.holding({});
  parts.chunks = {{.cut = {.last_unit = 3, .micro_batch = micro_batch}, .slots = {slots}}};
  parts.dataset = &dataset;
  parts.parameters = &service;
  parts.kernels = &kernels;
  parts.shards = &shards;
  parts.contexts = &whole;
  parts.seed = 3;
  Stage stage(std::move(parts));
  Outcome outcome;
  TrainerParts trainer;
  trainer.config = config;
  trainer.parameters = &service;
  trainer.stage = &stage;
  trainer.dataset = &dataset;
  ValidationLoss validation;
  trainer.observers = {&validation};
  CHECK(Trainer(trainer).run().step == steps);
  outcome.validation_loss = validation.mean;
  outcome.losses = service.losses;
  outcome.awaited_units = service.awaited_units;
  outcome.ready_units = service.ready_units;
  return outcome;
}

}  // namespace

TEST_CASE("a small model learns a phrase by heart") {
  const Outcome outcome = train(8, ScheduleKind::gpipe, 200);
  CHECK(outcome.losses.front() == doctest::Approx(std::log(256)).epsilon(0.02));
  CHECK(outcome.losses.back() < 1.5);  // 2.6 without any context
  CHECK(outcome.validation_loss < outcome.losses.back() + 0.1);
}

TEST_CASE("neither the micro-batch nor the schedule shows in the losses, dropout included") {
  const Outcome whole = train(8, ScheduleKind::gpipe, 12);
  for (index_t micro_batch : {1, 2, 4}) {
    for (ScheduleKind kind : {ScheduleKind::gpipe, ScheduleKind::one_forward_one_backward}) {
      const Outcome cut = train(micro_batch, kind, 12);
      for (std::size_t step = 0; step < whole.losses.size(); ++step) {
        CAPTURE(step);
        CHECK(cut.losses[step] == doctest::Approx(whole.losses[step]).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("steps and validations read the newest weights, packed or not") {
  if (!onednn_packs(machine_instructions())) return;
  const Outcome plain = train(8, ScheduleKind::gpipe, 6, ProductLibrary::openblas);
  const Outcome packed = train(8, ScheduleKind::gpipe, 6, ProductLibrary::onednn);
  for (std::size_t step = 0; step < plain.losses.size(); ++step) {
    CAPTURE(step);
    CHECK(packed.losses[step] == doctest::Approx(plain.losses[step]).epsilon(1e-5));
  }
  CHECK(packed.validation_loss == doctest::Approx(plain.validation_loss).epsilon(1e-5));
  CHECK(plain.validation_loss < plain.losses.back() - 0.01);  // a step old they would not do
}

TEST_CASE("units are awaited upwards and become ready downwards, once an update each") {
  const Outcome outcome = train(2, ScheduleKind::one_forward_one_backward, 30);
  REQUIRE(outcome.awaited_units.size() == 30 * 4);
  REQUIRE(outcome.ready_units.size() == 30 * 4);
  for (std::size_t at = 0; at < outcome.awaited_units.size(); ++at) {
    CHECK(outcome.awaited_units[at] == static_cast<index_t>(at % 4));
    CHECK(outcome.ready_units[at] == static_cast<index_t>(3 - at % 4));
  }
}

TEST_CASE("shares of replicas cover a batch without overlap, as even as can be") {
  for (index_t replicas = 1; replicas <= 7; ++replicas) {
    index_t next = 0;
    for (index_t replica = 0; replica < replicas; ++replica) {
      const Interval share = share_of(7, replica, replicas);
      CHECK(share.begin == next);
      CHECK(share.count() >= 7 / replicas);
      CHECK(share.count() <= 7 / replicas + 1);
      next = share.end;
    }
    CHECK(next == 7);
  }
}

TEST_CASE("a batch that does not fit the micro-batch or the replicas is refused with the way out") {
  const auto message = [](index_t batch, index_t micro_batch, index_t replicas) -> std::string {
    try {
      check(TrainConfig{.training = {.batch = batch, .micro_batch = micro_batch}},
            {.replicas = replicas});
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message(8, 4, 2).empty());
  CHECK(message(10, 4, 2) ==
        "--batch 10 is not a multiple of --micro-batch 4; the next that fits is 12");
  CHECK(message(8, 4, 3).find("take --batch 12 or more") != std::string::npos);
}

TEST_CASE("a spread of validation samples is even and never repeats one") {
  CHECK(spread(10, 100).size() == 10);
  CHECK(spread(10, 5) == std::vector<index_t>{0, 2, 4, 6, 8});
}
