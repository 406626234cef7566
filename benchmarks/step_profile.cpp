#include "benchmarks/step_profile.hpp"

#include <algorithm>

#include "benchmarks/no_servers.hpp"
#include "common/base/machine.hpp"
#include "launch/cut.hpp"
#include "launch/job.hpp"
#include "worker/groups/context_group.hpp"
#include "worker/groups/tensor_group.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/train/stage.hpp"

namespace weir::benchmark {
namespace {

using namespace worker;

/// CpuKernels that charge the calls whose time is asked for.
class TimedKernels final : public CpuKernels {
 public:
  using CpuKernels::CpuKernels;

  StepProfile charged;

  void pack(ConstMatrix weights, WeightUses uses) override {
    timed(charged.packing, [&] { CpuKernels::pack(weights, uses); });
  }
  void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) override {
    timed(charged.products, [&] { CpuKernels::multiply_transposed(a, b, bias, out); });
  }
  void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) override {
    timed(charged.products, [&] { CpuKernels::multiply(a, b, accumulate, out); });
  }
  void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) override {
    timed(charged.products, [&] { CpuKernels::add_transposed_product(a, b, out); });
  }
  void attention(const AttentionInput& input, const AttentionStrip& strip, Matrix out,
                 Vector log_sum, Vector global_part) override {
    timed(charged.attention,
          [&] { CpuKernels::attention(input, strip, out, log_sum, global_part); });
  }
  void attention_backward(const AttentionInput& input, const AttentionStrip& strip,
                          const AttentionOutput& output,
                          const AttentionGradients& gradients) override {
    timed(charged.attention,
          [&] { CpuKernels::attention_backward(input, strip, output, gradients); });
  }

 private:
  /// A kernel that calls another is charged once.
  template <class Call>
  void timed(double& seconds, const Call& call) {
    if (is_inside_) return call();
    is_inside_ = true;
    const double begin = seconds_now();
    call();
    seconds += seconds_now() - begin;
    is_inside_ = false;
  }

  bool is_inside_ = false;
};

}  // namespace

std::vector<StepProfile> profile_steps(const std::vector<std::string>& options, index_t steps) {
  const Job job = make_job(parse_run_config(options, {}).config);
  const TrainConfig& train = job.config.train;
  const TransformerModel model(job.config.model);
  const Schedule schedule =
      schedule_of(train, job.config.layout, most_micro_batches(train, job.config.layout.replicas));
  TimedKernels kernels(job.config.threads, job.config.products);
  NoServers parameters(*job.plan, {}, train.training.random_seed());
  SingleShard shards;
  SingleContext contexts;
  StageParts parts;
  parts.model = &model;
  parts.holding = &job.plan->holding({});
  parts.chunks = {{.cut = chunk_cut(job.config, job.first_unit, 0),
                   .slots = {schedule.activation_slots.front()}}};
  parts.dataset = job.dataset.get();
  parts.parameters = &parameters;
  parts.kernels = &kernels;
  parts.shards = &shards;
  parts.contexts = &contexts;
  parts.seed = train.training.random_seed();
  Stage stage(parts);

  std::vector<index_t> first_samples;
  for (index_t index = 0; index < schedule.micro_batches; ++index) {
    first_samples.push_back(index * train.training.micro_batch);
  }
  std::vector<StepProfile> profiles;
  for (index_t step = 0; step <= steps; ++step) {
    kernels.charged = {};
    const double begin = seconds_now();
    stage.train(schedule, first_samples);
    kernels.charged.total = seconds_now() - begin;
    if (step > 0) profiles.push_back(kernels.charged);
  }
  return profiles;
}

}  // namespace weir::benchmark
