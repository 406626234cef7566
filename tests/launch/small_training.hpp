#pragma once

#include <vector>

#include "ps/local_service.hpp"
#include "tests/ps/simulated_job.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/train/trainer.hpp"

/// A training in one process, of a model that takes milliseconds: worker and server are the real
/// ones.
namespace weir::test {

inline constexpr index_t kLettersLength = 16;

/// Runs of the alphabet: to a language model the next letter, to a classifier the first one by
/// three.
class Letters final : public worker::Dataset {
 public:
  explicit Letters(worker::Task task) : task_(task) {}
  worker::DataShape shape() const override {
    const worker::ColumnShape tokens = {.name = "tokens", .ragged = true, .values = 16};
    if (task_ == worker::Task::language) {
      return {kLettersLength,
              {tokens, {.name = "targets", .ragged = true, .values = 16, .is_target = true}}};
    }
    return {kLettersLength, {tokens, {.name = "labels", .values = 3, .is_target = true}}};
  }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t cursor, worker::Sample& sample) const override {
    const auto letter = [&](index_t at) { return static_cast<std::int32_t>((cursor + at) % 16); };
    for (index_t at = 0; at < kLettersLength; ++at) {
      sample.integers("tokens")[at] = letter(at);
      if (task_ == worker::Task::language) sample.integers("targets")[at] = letter(at + 1);
    }
    if (task_ == worker::Task::classifier) {
      sample.integers("labels")[0] = static_cast<std::int32_t>(cursor % 3);
    }
    sample.length = kLettersLength;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, worker::Sample&) const override {}
  std::string describe() const override { return "letters"; }

 private:
  worker::Task task_;
};

inline worker::ModelConfig letters_model(worker::Task task, Precision precision) {
  worker::ModelConfig model = {
      .task = task, .layers = 1, .width = 8, .heads = 2, .feed_forward = 16};
  model.left = 4;
  model.right = task == worker::Task::classifier ? 4 : 0;
  model.global_tokens = "0";
  model.global_heads = 2;
  model.vocabulary = 16;
  model.classes = 3;
  model.length = kLettersLength;
  model.dtype = dtype_of(precision);
  return model;
}

/// What the servers decided in each step, and its weights at the start and after each.
struct Record final : worker::Observer {
  explicit Record(const ps::Server& server) : server(server) {}
  void start(const Directive&) override { take(); }
  void step(const Directive& directive) override {
    take();
    directives.push_back(directive);
  }
  void take() {
    const std::span<const float> now = server.weight_arena();
    weights.emplace_back(now.begin(), now.end());
  }

  const ps::Server& server;
  std::vector<std::vector<float>> weights;
  std::vector<Directive> directives;
};

/// Trains as `config.training` says. `begun(record)` is told where the record will be.
template <class Begun>
Record train_letters(const worker::ModelConfig& model, const ps::ServerConfig& config,
                     worker::Kernels& kernels, const Begun& begun) {
  const worker::TransformerModel transformer(model);
  const Letters dataset(model.task);
  const BucketPlan plan(worker::parameter_specs(model), std::vector<index_t>(3, 0),
                        {.placement = Placement::local}, 65536, {}, model.dtype);
  ps::Server server(plan, 0, config);
  ps::LocalService service(server, plan, [] { return false; });
  Record record(server);
  begun(record);
  worker::SingleShard shards;
  worker::SingleContext whole;
  worker::TrainerParts trainer;
  trainer.config.training = config.training;
  trainer.config.length = kLettersLength;
  worker::StageParts parts;
  parts.model = &transformer;
  parts.holding = &plan.holding({});
  parts.dataset = &dataset;
  const worker::Schedule schedule =
      worker::schedule_of(trainer.config, {}, config.training.micro_batches());
  parts.chunks = {{.cut = {.last_unit = 2, .micro_batch = config.training.micro_batch},
                   .slots = {schedule.activation_slots.front()}}};
  parts.parameters = &service;
  parts.kernels = &kernels;
  parts.shards = &shards;
  parts.contexts = &whole;
  worker::Stage stage(std::move(parts));
  trainer.parameters = &service;
  trainer.stage = &stage;
  trainer.dataset = &dataset;
  trainer.observers = {&record};
  worker::Trainer(trainer).run();
  return record;
}

}  // namespace weir::test
