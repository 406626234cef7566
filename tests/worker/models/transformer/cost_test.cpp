#include "worker/models/transformer/cost.hpp"

#include <doctest/doctest.h>

#include "common/job/bucket.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"

using namespace weir;
using namespace weir::worker;

TEST_CASE("visible pairs are those that visible() lets through") {
  for (const bool causal : {true, false}) {
    for (const Sparsity& sparsity : {Sparsity{2, 0, 0, causal}, Sparsity{2, 3, 4, causal},
                                     Sparsity{0, 0, 50, causal}, Sparsity{50, 50, 0, causal}}) {
      for (const index_t length : {1, 2, 9, 30}) {
        index_t pairs = 0;
        for (index_t query = 0; query < length; ++query) {
          for (index_t key = 0; key < length; ++key) {
            pairs += visible(query, key, length, sparsity) ? 1 : 0;
          }
        }
        CHECK(visible_pairs(sparsity, length) == pairs);
      }
    }
  }
}

TEST_CASE("the FLOPs of a sample are what a step charges, less what is made twice") {
  for (const Task task : {Task::language, Task::classifier}) {
    ModelConfig config;
    config.task = task;
    config.classes = 10;
    config.length = 100;
    config.layers = 3;
    const std::vector<UnitCost> units = unit_flops(TransformerModel(config));
    REQUIRE(units.size() == 5);
    std::vector<double> costs;
    for (const UnitCost& unit : units) costs.push_back(unit.sum());
    const double scores = 2 * 128.0 * double(visible_pairs(config.sparsity(), 100));
    const double globals = 2 * (2 * 4 * 4 * 128.0 * 128);  // four rows, four projections
    const double block = 6 * 100.0 * 12 * 128 * 128 + 6 * scores;
    CHECK(costs[0] == 0);
    for (std::size_t layer = 1; layer <= 3; ++layer)
      CHECK(costs[layer] == block + scores + globals);
    CHECK(costs[4] == (task == Task::language ? 6 * 100 * 128.0 * 256 : 6 * 128.0 * 10));
    CHECK(model_flops_a_sample(config) == 3 * block + costs[4]);
    // A product is made forward, for the gradient of its input, and for that of its weights; the
    // head does all of it forward.
    const double products = 2 * 100.0 * 12 * 128 * 128;
    CHECK(units[1].weight_gradient == products);
    CHECK(units[1].input_gradient > products);
    if (task == Task::language) CHECK(units[4].forward == costs[4]);
    // What is recomputed is forward again, before backward.
    const UnitCost again = unit_flops(TransformerModel(config), Recompute::block)[1];
    CHECK(again.input_gradient == units[1].input_gradient + units[1].forward);
    CHECK(again.weight_gradient == units[1].weight_gradient);
  }
}

TEST_CASE("FLOPs of global tokens with projections of their own, by hand") {
  for (const Task task : {Task::language, Task::classifier}) {
    ModelConfig config;  // d 128, 4 heads
    config.task = task;
    config.length = 100;
    config.right = task == Task::language ? 0 : 3;
    config.global_tokens = "0,9";
    config.global_heads = 2;
    const auto block_flops = [](const ModelConfig& of) {
      ModelConfig deeper = of;
      ++deeper.layers;
      return model_flops_a_sample(deeper) - model_flops_a_sample(of);
    };
    const double shared = block_flops(config);
    // As queries of the window's kernel they would see 1 and 10 tokens, or all.
    const double window = 12 * 128.0 * (task == Task::language ? 11 : 200);
    const double tokens = task == Task::language ? 10 : 100;
    config.globals = GlobalForm::separate;
    const double separate = block_flops(config);
    CHECK(separate == shared - window + 6 * 2 * 3 * 128.0 * 128 + 12 * 2 * 4 * tokens * 128);
    config.globals = GlobalForm::split;
    // Nor do the local tokens see them: those before 9 one of them, those from 10 on two.
    index_t pairs = 0;
    for (index_t query = 0; query < 100; ++query) {
      if (query == 0 || query == 9) continue;
      for (const index_t key : {0, 9}) {
        pairs += task == Task::classifier || key < query ? 1 : 0;
      }
    }
    CHECK(block_flops(config) == shared - window - 12 * 128.0 * double(pairs) +
                                     6 * 2 * 4 * 128.0 * 128 + 12 * 2 * 2 * tokens * 128);
  }
}

TEST_CASE("memory: what a block keeps and shares, by hand") {
  ModelConfig config;  // d 128, 4 heads, feed-forward 512, length 256
  for (const auto& [contexts, shards] :
       {std::pair<index_t, index_t>{1, 1}, {1, 2}, {4, 1}, {4, 2}}) {
    config.length = contexts == 1 ? 256 : 254;  // 64, 64, 64 and 62
    const index_t rows = 3 * 256 / contexts;
    const index_t t = shards;
    const index_t own = rows / t;
    const auto memory = [&](index_t first_unit, index_t last_unit) {
      return TransformerModel(config).memory({first_unit, last_unit, contexts, shards, 3},
                                             CpuKernels());
    };
    const auto lines = [](index_t elements) { return (elements + 15) / 16 * 16; };
    const index_t globals = 3 * 4;  // four of each sequence
    const index_t border = contexts == 1 ? 0 : 3 * 64 * 2 * 128 / t;
    // x twice, two norms' mean and deviation; q, k, v, out, log sums; before gelu; keys and values
    // of the border; of global tokens q, k, v, out and log sums.
    const index_t slot = (own * (2 * 128 + 4) + rows * (3 * 128 / t + 128 / t + 4 / t + 512 / t) +
                          border + globals * 4 * 128 / t + lines(globals * 4 / t)) *
                         4;
    CHECK(memory(1, 1).bytes_an_activation_slot == slot);
    CHECK(memory(1, 4).bytes_an_activation_slot == 4 * slot);
    CHECK(memory(0, 0).bytes_an_activation_slot == 0);
    const index_t head = own * (128 + 2 + 128) * 4;
    CHECK(memory(4, 5).bytes_an_activation_slot == slot + head);
    // Two of d, three with shards, and two of own rows; q, k, v; both of feed-forward; a strip;
    // global tokens' softmax (once, and of all contexts), rows, heads and q, k, v; the border's
    // gradient here and from there.
    const index_t strip = std::min<index_t>(rows, t == 1 ? 336 : 512);  // half a megabyte
    const index_t softmax = lines(globals * 4 / t * (32 + 2));
    const index_t scratch =
        (own * 2 * 128 + rows * ((t == 1 ? 2 : 3) * 128 + 3 * 128 / t + 2 * 512 / t) +
         strip * 128 / t + softmax + lines(contexts * globals * 4 / t * (32 + 2)) +
         globals * (128 + 4 * 128 / t) + 2 * border) *
        4;
    CHECK(memory(1, 4).scratch_bytes == scratch);
    const index_t gradients = (own * 2 * 128 + rows * (3 * 128 / t + 512 / t)) * 4;
    CHECK(memory(1, 4).bytes_a_gradient_slot == 4 * gradients);
    CHECK(memory(0, 0).bytes_a_gradient_slot == own * 128 * 4);
    const index_t strips = rows * (256 / t + 3) * 4;  // all rows fit in one
    CHECK(memory(4, 5).scratch_bytes == scratch + strips);

    StageCut cut{1, 4, contexts, shards, 3, Recompute::block};
    CHECK(TransformerModel(config).memory(cut, CpuKernels()).bytes_an_activation_slot ==
          4 * own * 128 * 4);
    CHECK(TransformerModel(config).memory(cut, CpuKernels()).scratch_bytes ==
          scratch + own * 128 * 4 + slot);
  }
}

namespace {

/// Compares the plan's packed weights of a model with what its units' products ask for.
void check_packed_bytes(const ModelConfig& config, index_t shards, bool training) {
  Layout layout;
  layout.shards = shards;
  const TransformerModel model(config);
  const BucketPlan plan(model.parameters(), List<index_t>(model.unit_count()), layout, 65536);
  const Holding& holding = plan.holding({});
  const Memory weights(holding.element_count, bytes_of(config.dtype));
  const StageCut cut = {
      .last_unit = model.unit_count() - 1, .shards = shards, .training = training};
  CpuKernels kernels;
  SingleShard alone;
  SingleContext whole;
  const Pass pass{kernels, alone, whole, weights.elements(config.dtype), {}, 0, training};
  index_t bytes = 0;
  for (const auto& unit : model.make_units(holding, cut, {}, kernels)) {
    for (const auto& [matrix, uses] : unit->product_weights(pass)) {
      CHECK(matrix.dtype() == config.dtype);
      bytes += kernels.packed_bytes(matrix.extent(0), matrix.extent(1), matrix.dtype(), uses);
    }
  }
  CHECK(model.memory(cut, kernels).packed_bytes == bytes);
  const CpuKernels blas(1, {.library = ProductLibrary::openblas});
  CHECK((model.memory(cut, blas).packed_bytes == 0) == (config.dtype == Dtype::f32));
}

}  // namespace

TEST_CASE("packed weights: the plan counts what the units' products ask for") {
  for (const GlobalForm form : {GlobalForm::shared, GlobalForm::separate, GlobalForm::split}) {
    for (const Task task : {Task::language, Task::classifier}) {
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::fp16}) {
        ModelConfig config;
        config.globals = form;
        config.task = task;
        config.classes = 10;
        config.dtype = dtype;
        for (const index_t shards : {1, 2}) {
          check_packed_bytes(config, shards, true);
          check_packed_bytes(config, shards, false);
        }
      }
    }
  }
}
