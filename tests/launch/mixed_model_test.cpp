#include <algorithm>
#include <cmath>
#include <optional>

#include "common/job/data_plane.hpp"
#include "common/wire/narrow.hpp"
#include "ps/server_loop.hpp"
#include "tests/mpi_test.hpp"
#include "tests/ps/simulated_job.hpp"
#include "worker/groups/pipeline_link.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/layers/held.hpp"
#include "worker/train/server_client.hpp"
#include "worker/train/trainer.hpp"

namespace weir::test::mixed_model_test {
// A model that is no Transformer: its frames hold a bf16 and an f32 tensor of different shapes, its
// units compute with bf16 weights, and its borders differ from each other. It runs through stage,
// link, data plane and servers, which know none of this.

using namespace weir::worker;

namespace {

constexpr index_t kColumns = 3;  // of the bf16 tensor at the first border; the second has one
constexpr index_t kLength = 4;
constexpr index_t kBatch = 4, kMicroBatch = 2, kSteps = 6;
constexpr double kRate = 0.25;

float rounded(float value) {
  Bf16 half;
  to_bf16({&value, 1}, {&half.bits, 1});
  from_bf16({&half.bits, 1}, {&value, 1});
  return value;
}
float value_of(Bf16 half) {
  float value = 0;
  from_bf16({&half.bits, 1}, {&value, 1});
  return value;
}
Bf16 half_of(float value) {
  Bf16 half;
  to_bf16({&value, 1}, {&half.bits, 1});
  return half;
}

/// rows.bf16[r, c] = a[c] token[r]; sums.f32[b, 0] = u sum of b's tokens.
/// rows.bf16[r, 0] = sum_c b[c] rows[r, c]; sums.f32[b, 0] += v.
/// loss = sum_b (sums[b, 0] + sum over b's r of rows[r, 0] - target)^2 / 2, a term a sequence.
/// All weights are bf16; only products with u and sums are f32.
struct MixedUnit final : Unit {
  index_t index = 0;
  HeldVector rows_weight, sums_weight;
  std::vector<std::vector<float>> inputs;  ///< one for each slot
  std::vector<std::vector<float>> errors;  ///< one for each slot

  std::span<const Bf16> low(const Pass& pass) const { return as<Bf16>(rows_weight.weights(pass)); }
  float sums_factor(const Pass& pass) const {
    return value_of(as<Bf16>(sums_weight.weights(pass))[0]);
  }

  Loss forward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& in,
               const Frame& out) override {
    const auto slot = static_cast<std::size_t>(slots.activation);
    if (index == 0) {
      CHECK(in.empty());
      const auto rows = as<Bf16>(out[0]);
      const auto sums = as<float>(out[1]);
      for (index_t r = 0; r < batch.rows(); ++r) {
        const auto token = static_cast<float>(batch.integers("tokens")[r]);
        for (index_t c = 0; c < kColumns; ++c) {
          rows(r, c) = half_of(value_of(low(pass)[c]) * token);
        }
      }
      for (index_t b = 0; b < batch.sequences; ++b) {
        sums(b, 0) = sums_factor(pass) * token_sum(batch, b);
      }
      return {};
    }
    if (index == 1) {
      const auto from = as<Bf16>(in[0]);
      std::vector<float>& kept = inputs[slot];
      kept.clear();
      for (const Bf16 half : from.span()) kept.push_back(value_of(half));
      for (index_t r = 0; r < batch.rows(); ++r) {
        float sum = 0;
        for (index_t c = 0; c < kColumns; ++c) {
          sum += value_of(low(pass)[c]) * value_of(from(r, c));
        }
        as<Bf16>(out[0])(r, 0) = half_of(sum);
      }
      for (index_t b = 0; b < batch.sequences; ++b) {
        as<float>(out[1])(b, 0) = as<float>(in[1])(b, 0) + sums_factor(pass);
      }
      return {};
    }
    CHECK(out.empty());
    Loss loss;
    std::vector<float>& error = errors[slot];
    error.clear();
    for (index_t b = 0; b < batch.sequences; ++b) {
      float sum = as<float>(in[1])(b, 0) - 1;
      for (index_t i = 0; i < kLength; ++i) {
        sum += value_of(as<Bf16>(in[0])(b * kLength + i, 0));
      }
      error.push_back(sum);
      loss.sum += double{sum} * sum / 2;
      ++loss.count;
    }
    return loss;
  }

  void backward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& out_gradient,
                const Frame& in_gradient) override {
    const auto slot = static_cast<std::size_t>(slots.activation);
    if (index == 2) {
      for (index_t b = 0; b < batch.sequences; ++b) {
        const float error = errors[slot][b];
        as<float>(in_gradient[1])(b, 0) = error;
        for (index_t i = 0; i < kLength; ++i) {
          as<Bf16>(in_gradient[0])(b * kLength + i, 0) = half_of(error);
        }
      }
      return;
    }
    const std::span<float> rows_gradient = as<float>(rows_weight.gradients(pass));
    const std::span<float> sums_gradient = as<float>(sums_weight.gradients(pass));
    for (index_t b = 0; b < batch.sequences; ++b) {
      const float upstream = as<float>(out_gradient[1])(b, 0);
      sums_gradient[0] += index == 0 ? upstream * token_sum(batch, b) : upstream;
      if (index == 1) as<float>(in_gradient[1])(b, 0) = upstream;
    }
    for (index_t r = 0; r < batch.rows(); ++r) {
      for (index_t c = 0; c < kColumns; ++c) {
        const auto at = static_cast<std::size_t>(c);
        if (index == 0) {
          rows_gradient[at] += value_of(as<Bf16>(out_gradient[0])(r, c)) *
                               static_cast<float>(batch.integers("tokens")[r]);
        } else {
          const float upstream = value_of(as<Bf16>(out_gradient[0])(r, 0));
          rows_gradient[at] += upstream * inputs[slot][r * kColumns + c];
          as<Bf16>(in_gradient[0])(r, c) = half_of(upstream * value_of(low(pass)[at]));
        }
      }
    }
  }
  void weight_gradient(const Pass&, const MicroBatch&, Slots) override {}

  static float token_sum(const MicroBatch& batch, index_t b) {
    float sum = 0;
    for (index_t i = 0; i < kLength; ++i) {
      sum += static_cast<float>(batch.integers("tokens")[b * kLength + i]);
    }
    return sum;
  }
};

class MixedModel final : public Model {
 public:
  std::vector<ParameterSpec> parameters() const override {
    std::vector<ParameterSpec> specs;
    for (const index_t unit : {0, 1}) {
      for (const auto& [name, size] :
           {std::pair<const char*, index_t>{"rows", kColumns}, {"sums", 1}}) {
        ParameterSpec spec;
        spec.name = text("unit-", unit, ".", name);
        spec.shape = {size};
        spec.units = {unit};
        spec.initial = Initial::normal;
        spec.deviation = 0.1;
        specs.push_back(spec);
      }
    }
    return specs;
  }
  index_t unit_count() const override { return 3; }
  std::string unit_name(index_t unit) const override { return text("unit ", unit); }
  index_t first_like(index_t unit) const override { return unit; }
  bool fills_a_stage(index_t) const override { return true; }
  FrameShape frame(index_t unit, const BatchShape& batch) const override {
    if (unit == 0 || unit == 3) return {};
    return {{Dtype::bf16, batch.rows(), unit == 1 ? kColumns : 1},
            {Dtype::f32, batch.sequences, 1}};
  }
  Dtype weight_dtype() const override { return Dtype::bf16; }
  DataShape data() const override {
    return {kLength, {{.name = "tokens", .ragged = true, .values = 8}}};
  }
  void check(const Layout&) const override {}
  index_t fewest_tokens(index_t) const override { return 1; }
  LargestMessage largest_message(const Layout&, index_t) const override { return {}; }
  UnitMemory memory(const StageCut&, const Kernels&) const override { return {}; }
  std::vector<std::unique_ptr<Unit>> make_units(const Holding& holding, const StageCut& cut,
                                                const SlotCounts& slots,
                                                const Kernels&) const override {
    std::vector<std::unique_ptr<Unit>> units;
    for (index_t index = cut.first_unit; index <= cut.last_unit; ++index) {
      auto unit = std::make_unique<MixedUnit>();
      unit->index = index;
      unit->inputs.resize(slots.activations);
      unit->errors.resize(slots.activations);
      if (index < 2) {
        unit->rows_weight = {holding.slice(2 * index).offset, kColumns};
        unit->sums_weight = {holding.slice(2 * index + 1).offset, 1};
      }
      units.push_back(std::move(unit));
    }
    return units;
  }
};

class Counting final : public Dataset {
 public:
  DataShape shape() const override {
    return {kLength, {{.name = "tokens", .ragged = true, .values = 8}}};
  }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t cursor, Sample& sample) const override {
    for (index_t i = 0; i < kLength; ++i) {
      sample.integers("tokens")[i] = static_cast<std::int32_t>((cursor * 5 + i * 3) % 4);
    }
    sample.length = kLength;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return "counting"; }
};

/// The same training without stages, frames and servers, as it follows from the formulas; rounded
/// where the model says bf16. `loss` of each step, as the servers report it.
std::vector<double> losses_of_twin(const std::vector<std::vector<float>>& initial) {
  std::vector<double> a(initial[0].begin(), initial[0].end());
  double u = double{initial[1][0]};
  std::vector<double> b(initial[2].begin(), initial[2].end());
  double v = double{initial[3][0]};
  const auto low = [](double value) { return double{rounded(static_cast<float>(value))}; };
  const Counting data;
  std::vector<double> losses;
  for (index_t step = 0; step < kSteps; ++step) {
    std::vector<double> a_slope(kColumns), b_slope(kColumns);
    double u_slope = 0, v_slope = 0, loss = 0;
    for (index_t sample = step * kBatch; sample < (step + 1) * kBatch; ++sample) {
      std::vector<std::int32_t> tokens(kLength);
      Sample into{.columns = {{"tokens", tokens}}};
      data.training_sample(sample, into);
      double token_sum = 0, error = -1;
      for (const std::int32_t token : tokens) {
        token_sum += token;
        double row = 0;
        for (std::size_t c = 0; c < kColumns; ++c) row += low(b[c]) * low(low(a[c]) * token);
        error += low(row);
      }
      error += low(u) * token_sum + low(v);
      loss += error * error / 2;
      u_slope += error * token_sum;
      v_slope += error;
      for (std::size_t c = 0; c < kColumns; ++c) {
        for (const std::int32_t token : tokens) {
          b_slope[c] += low(error) * low(low(a[c]) * token);
          a_slope[c] += low(low(error) * low(b[c])) * token;
        }
      }
    }
    losses.push_back(loss / kBatch);
    const double factor = kRate / 100 / kBatch;
    for (std::size_t c = 0; c < kColumns; ++c) {
      a[c] -= factor * a_slope[c];
      b[c] -= factor * b_slope[c];
    }
    u -= factor * u_slope;
    v -= factor * v_slope;
  }
  return losses;
}

struct Losses final : Observer {
  void step(const Directive& directive) override { all.push_back(directive.observed.loss); }
  std::vector<double> all;
};

/// Losses of all steps on worker 0; a server on the last rank.
std::vector<double> train(const test::Ranks& ranks, index_t stages, Transport transport) {
  const MixedModel model;
  Layout layout;
  layout.stages = stages;
  std::vector<index_t> unit_stage;
  for (index_t unit = 0; unit < 3; ++unit) unit_stage.push_back(unit * stages / 3);
  const BucketPlan plan(model.parameters(), unit_stage, layout, 65536, {}, model.weight_dtype());
  ps::ServerConfig config;
  config.training.steps = kSteps;
  config.training.batch = kBatch;
  config.training.micro_batch = kMicroBatch;
  config.training.seed = 3;
  config.optimizer = {.kind = ps::OptimizerKind::sgd, .momentum = 0, .weight_decay = 0};
  config.clip = {.policy = ps::ClipPolicy::none};
  config.rate = {.schedule = ps::RateSchedule::constant, .peak = kRate / 100};
  const Comm host = ranks.comm.host();
  DataPlane plane(ranks.comm, host, plan, transport, true);
  Comm workers = ranks.comm.split(
      layout.is_worker(ranks.rank) ? std::optional<int>(0) : std::nullopt, ranks.rank);
  if (!workers) {
    ps::Server server(plan, 0, config, plane.server_memory());
    ps::ServerLoop(ranks.comm, plan, 0, server, plane, [] { return false; }).run();
    return {};
  }
  const WorkerPlace place = layout.worker(ranks.rank);
  ServerClient client(ranks.comm, place, plan, plane);
  CpuKernels kernels;
  SingleShard alone;
  SingleContext whole;
  const Counting data;
  const TrainConfig training = {
      .training = {.steps = kSteps, .batch = kBatch, .micro_batch = kMicroBatch},
      .length = kLength};
  const Schedule schedule = make_schedule(training.schedule, {stages}, kBatch / kMicroBatch);
  StageParts parts;
  parts.stage = place.stage;
  parts.model = &model;
  parts.holding = &plan.holding(holder_of(place));
  StageCut cut;
  cut.first_unit = std::ranges::find(unit_stage, place.stage) - unit_stage.begin();
  cut.last_unit = cut.first_unit + std::ranges::count(unit_stage, place.stage) - 1;
  cut.micro_batch = kMicroBatch;
  parts.chunks = {{cut, {schedule.activation_slots[place.stage]}}};
  parts.dataset = &data;
  parts.parameters = &client;
  parts.kernels = &kernels;
  parts.shards = &alone;
  parts.contexts = &whole;
  std::optional<PipelineLink> link;
  if (stages > 1) {
    const BatchShape largest = largest_batch(model, cut);
    const ChunkBorders borders = {model.frame(cut.first_unit, largest),
                                  model.frame(cut.last_unit + 1, largest)};
    link.emplace(workers, std::vector{borders}, kLinkSlots, [&] { return client.progress(); });
    parts.link = &*link;
  }
  Stage stage(std::move(parts));
  TrainerParts trainer;
  trainer.config = training;
  trainer.layout = layout;
  trainer.place = place;
  trainer.parameters = &client;
  trainer.stage = &stage;
  trainer.dataset = &data;
  trainer.sum_over_workers = [&](std::span<double> values) { workers.sum(values); };
  Losses losses;
  trainer.observers = {&losses};
  Trainer(trainer).run();
  return losses.all;
}

void check_losses(const test::Ranks& ranks, index_t stages) {
  const MixedModel model;
  std::vector<std::vector<float>> initial;
  for (const ParameterSpec& spec : model.parameters()) {
    std::vector<float>& values =
        initial.emplace_back(static_cast<std::size_t>(spec.element_count()));
    initial_weights(spec, 3, {0, spec.element_count()}, values);
  }
  const std::vector<double> truth = losses_of_twin(initial);
  const std::vector<double> by_window = train(ranks, stages, Transport::window);
  const std::vector<double> by_messages = train(ranks, stages, Transport::messages);
  CHECK(by_window == by_messages);
  if (ranks.rank == stages) return;  // the server
  REQUIRE(by_window.size() == truth.size());
  for (std::size_t step = 0; step < truth.size(); ++step) {
    CHECK(by_window[step] == doctest::Approx(truth[step]).epsilon(1e-5));
  }
  CHECK(truth.back() < truth.front());
}

}  // namespace

MPI_TEST_CASE("a model with bf16 and f32 frames and bf16 weights trains on one stage", 2) {
  check_losses(ranks, 1);
}

MPI_TEST_CASE("a model with bf16 and f32 frames and bf16 weights trains on three stages", 4) {
  check_losses(ranks, 3);
}

}  // namespace weir::test::mixed_model_test
