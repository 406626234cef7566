#pragma once

#include <memory>

#include "common/job/bucket.hpp"
#include "common/job/parameter_service.hpp"
#include "worker/data/dataset.hpp"
#include "worker/train/inject.hpp"

namespace weir::worker {

/// The bad batches of `--inject bad=…`: their targets are drawn at random.
class FaultyDataset final : public Dataset {
 public:
  /// batch: samples a step, from which the step of a sample follows.
  FaultyDataset(std::unique_ptr<Dataset> clean, const Injection& injection, index_t batch,
                std::uint64_t seed)
      : clean_(std::move(clean)), injection_(injection), batch_(batch), seed_(seed) {}

  DataShape shape() const override { return clean_->shape(); }
  double mean_length() const override { return clean_->mean_length(); }
  std::vector<Score> scores() const override { return clean_->scores(); }
  index_t epoch_size() const override { return clean_->epoch_size(); }
  void training_sample(index_t cursor, Sample& sample) const override;
  index_t validation_size() const override { return clean_->validation_size(); }
  void validation_sample(index_t index, Sample& sample) const override {
    clean_->validation_sample(index, sample);
  }
  std::string describe() const override { return clean_->describe(); }
  std::vector<std::string> warnings() const override { return clean_->warnings(); }
  const TextDataset* as_text() const override { return clean_->as_text(); }

 private:
  std::unique_ptr<Dataset> clean_;
  Injection injection_;
  index_t batch_;
  std::uint64_t seed_;
};

/// Spoils gradients as all faults say, before they leave. Passes everything on otherwise.
class FaultyService final : public ParameterService {
 public:
  /// All outlive it.
  FaultyService(ParameterService& service, const BucketPlan& plan, const WorkerPlace& place,
                Injection injection, std::uint64_t seed);

  ConstVector weights() const override { return service_.weights(); }
  Vector gradients() override { return service_.gradients(); }
  Directive start() override { return passed(service_.start()); }
  void begin_update() override { service_.begin_update(); }
  void ready(index_t unit) override;
  bool progress() override { return service_.progress(); }
  void report(const Report& report) override { service_.report(report); }
  Directive directive() override { return passed(service_.directive()); }
  void await(index_t unit) override { service_.await(unit); }
  void await_all() override { service_.await_all(); }
  void finish() override { service_.finish(); }
  double waited_seconds() const override { return service_.waited_seconds(); }
  index_t pushed_bytes() const override { return service_.pushed_bytes(); }
  index_t pulled_bytes() const override { return service_.pulled_bytes(); }

 private:
  void strike(const HeldSlice& slice, std::span<float> gradient);
  Directive passed(Directive directive) {
    step_ = directive.step + 1;
    return directive;
  }

  ParameterService& service_;
  const BucketPlan& plan_;
  WorkerPlace place_;
  Injection injection_;
  std::uint64_t seed_;
  index_t step_ = 1;  ///< underway
};

}  // namespace weir::worker
