#include "benchmarks/pipeline_rank.hpp"

#include <sys/prctl.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>

#include "benchmarks/job.hpp"
#include "benchmarks/no_servers.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/net/mpi.hpp"
#include "worker/groups/context_group.hpp"
#include "worker/groups/tensor_group.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/train/stage.hpp"

namespace weir::benchmark {
namespace {

using namespace worker;

constexpr const char* kAsRank = "as-a-rank-of-a-pipeline";
constexpr index_t kTokens = 64, kWidth = 128;  // a frame has 32 KiB

/// Sleeps instead of computing.
class SleepingUnit final : public Unit {
 public:
  SleepingUnit(index_t sleep_us, bool is_last) : sleep_us_(sleep_us), is_last_(is_last) {}

  Loss forward(const Pass&, const MicroBatch&, Slots, const Frame&, const Frame&) override {
    sleep_microseconds(sleep_us_);
    return {.sum = is_last_ ? 1.0 : 0.0, .count = is_last_ ? 1 : 0};
  }
  void backward(const Pass&, const MicroBatch&, Slots, const Frame&, const Frame&) override {
    sleep_microseconds(sleep_us_);
  }
  void weight_gradient(const Pass&, const MicroBatch&, Slots) override {
    sleep_microseconds(sleep_us_);
  }

 private:
  const index_t sleep_us_;
  const bool is_last_;
};

/// A row of units without parameters, one a chunk.
class SleepingModel final : public Model {
 public:
  SleepingModel(index_t units, index_t sleep_us) : units_(units), sleep_us_(sleep_us) {}

  std::vector<ParameterSpec> parameters() const override { return {}; }
  index_t unit_count() const override { return units_; }
  std::string unit_name(index_t unit) const override { return text("unit ", unit); }
  index_t first_like(index_t) const override { return 0; }
  bool fills_a_stage(index_t) const override { return true; }
  FrameShape frame(index_t unit, const BatchShape& batch) const override {
    if (unit == 0 || unit == units_) return {};
    return {{Dtype::f32, batch.rows(), kWidth}};
  }
  DataShape data() const override {
    return {kTokens, {{.name = "tokens", .ragged = true, .values = 2}}};
  }
  void check(const Layout&) const override {}
  index_t fewest_tokens(index_t) const override { return 1; }
  LargestMessage largest_message(const Layout&, index_t) const override { return {}; }
  UnitMemory memory(const StageCut&, const Kernels&) const override { return {}; }
  std::vector<std::unique_ptr<Unit>> make_units(const Holding&, const StageCut& cut,
                                                const SlotCounts&, const Kernels&) const override {
    std::vector<std::unique_ptr<Unit>> units;
    for (index_t unit = cut.first_unit; unit <= cut.last_unit; ++unit) {
      units.push_back(std::make_unique<SleepingUnit>(sleep_us_, unit + 1 == units_));
    }
    return units;
  }

 private:
  const index_t units_;
  const index_t sleep_us_;
};

class Zeros final : public Dataset {
 public:
  DataShape shape() const override {
    return {kTokens, {{.name = "tokens", .ragged = true, .values = 2}}};
  }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t, Sample& sample) const override {
    std::ranges::fill(sample.integers("tokens"), 0);
    sample.length = kTokens;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return "zeros"; }
};

void measure(const PipelineJob& job, const std::string& file) {
  const Comm world = Comm::world();
  const Pipeline& pipeline = job.pipeline;
  const SleepingModel model(pipeline.chunks(), job.sleep_us / pipeline.chunks_a_stage);
  const Schedule schedule = make_schedule(job.kind, pipeline, job.micro_batches);
  List<index_t> unit_stage;
  for (index_t unit = 0; unit < model.unit_count(); ++unit) {
    unit_stage.push_back(unit % pipeline.stages);
  }
  const Layout layout = {.stages = pipeline.stages};
  const BucketPlan plan(model.parameters(), unit_stage, layout, 65536);
  const Holder holder = {.stage = world.rank()};
  NoServers parameters(plan, holder, 1);
  CpuKernels kernels;
  SingleShard shard;
  SingleContext context;
  const Zeros dataset;
  StageParts parts;
  parts.stage = world.rank();
  parts.model = &model;
  parts.holding = &plan.holding(holder);
  parts.dataset = &dataset;
  parts.parameters = &parameters;
  parts.kernels = &kernels;
  parts.shards = &shard;
  parts.contexts = &context;
  std::vector<ChunkBorders> borders;
  const BatchShape batch = {.sequences = 1, .length = kTokens};
  for (index_t chunk = parts.stage; chunk < pipeline.chunks(); chunk += pipeline.stages) {
    parts.chunks.push_back(
        {.cut = {.first_unit = chunk, .last_unit = chunk},
         .slots = {schedule.activation_slots[chunk], schedule.gradient_slots[chunk]}});
    borders.push_back({model.frame(chunk, batch), model.frame(chunk + 1, batch)});
  }
  PipelineLink link(world, borders, kLinkSlots, [] { return false; });
  parts.link = &link;
  Stage stage(std::move(parts));
  const std::vector<index_t> samples(static_cast<std::size_t>(job.micro_batches), 0);
  std::ofstream out;
  if (world.rank() == 0) out.open(file);
  for (index_t step = 0; step <= job.steps; ++step) {
    world.barrier();
    const double begin = seconds_now();
    stage.train(schedule, samples);
    const double seconds = world.max(seconds_now() - begin);
    if (world.rank() == 0 && step > 0) out << seconds << '\n';
  }
}

}  // namespace

std::vector<double> seconds_of_steps(const PipelineJob& job) {
  const ScratchFolder scratch;
  const std::filesystem::path file = scratch.path() / "seconds";
  const std::string program = std::filesystem::canonical("/proc/self/exe").string();
  const std::string command = text(
      "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ",
      "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none ",
      "OMPI_MCA_mpi_yield_when_idle=1 mpirun --quiet -n ", job.pipeline.stages, " '", program, "' ",
      kAsRank, " '", file.string(), "' ", static_cast<int>(job.kind), ' ', job.pipeline.stages, ' ',
      job.pipeline.chunks_a_stage, ' ', job.micro_batches, ' ', job.sleep_us, ' ', job.steps);
  if (std::system(command.c_str()) != 0) throw Error(text("the job failed: ", command));
  std::vector<double> seconds;
  std::ifstream lines(file);
  for (double value = 0; lines >> value;) seconds.push_back(value);
  return seconds;
}

bool is_pipeline_rank(int argument_count, char** arguments) {
  return argument_count == 9 && std::string(arguments[1]) == kAsRank;
}

int run_pipeline_rank(int argument_count, char** arguments) {
  Session session(argument_count, arguments);
  try {
    prctl(PR_SET_TIMERSLACK, 1UL);  // sleep as long as said, not 50 us more
    const auto number = [&](int at) { return static_cast<index_t>(std::stoll(arguments[at])); };
    measure({.kind = static_cast<ScheduleKind>(number(3)),
             .pipeline = {.stages = number(4), .chunks_a_stage = number(5)},
             .micro_batches = number(6),
             .sleep_us = number(7),
             .steps = number(8)},
            arguments[2]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "pipeline: " << error.what() << std::endl;
    abort_job(1);
  }
}

}  // namespace weir::benchmark
