#include "worker/kernels/simulated/simulated_kernels.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "worker/schedule/schedule_check.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

// Two sequences of 4 tokens, 6 wide, 2 heads of 3; a feed-forward of 24; 10 words. The arena is
// never touched: any view of it will do.
constexpr index_t kRows = 8, kWidth = 6, kHeads = 2, kInner = 24;

struct Arena {
  std::vector<float> floats = std::vector<float>(kRows * kInner, 7);
  Matrix matrix(index_t rows, index_t columns) { return {floats, rows, columns}; }
  Vector vector(index_t size) { return Vector(floats).first(size); }
};

const std::vector<index_t> kLengths = {4, 3};
// Keys seen by the queries, length 4: 1 + 2 + 3 + 3; length 3: 1 + 2 + 3 + 2 (the last query lies
// in the padding). 17 in all.
const Sparsity kSparsity{.left = 1, .right = 0, .globals = 1, .causal = true};

AttentionInput input_of(Arena& arena) {
  return {.heads = kHeads,
          .first = 0,
          .lengths = kLengths,
          .sparsity = &kSparsity,
          .qkv = arena.matrix(kRows, 3 * kWidth),
          .before = {},
          .after = {},
          .globals = arena.matrix(2, 3 * kWidth)};
}
constexpr AttentionStrip kAll{0, 2, {0, 4}};

// A pre-norm block: x += attention(norm(x)); x += down(gelu(up(norm(x)))).
void forward(Kernels& kernels, Arena& arena) {
  const Matrix x = arena.matrix(kRows, kWidth), inner = arena.matrix(kRows, kInner);
  const Matrix qkv = arena.matrix(kRows, 3 * kWidth);
  const auto norm = [&] {
    kernels.layer_norm(x, arena.vector(kWidth), arena.vector(kWidth), x, arena.vector(kRows),
                       arena.vector(kRows));
  };
  norm();
  kernels.multiply_transposed(x, arena.matrix(3 * kWidth, kWidth), arena.vector(3 * kWidth), qkv);
  kernels.rotate(qkv, kHeads, 0, 4, 1);
  kernels.attention(input_of(arena), kAll, x, arena.vector(kRows * kHeads), {});
  kernels.multiply_transposed(x, arena.matrix(kWidth, kWidth), {}, x);
  kernels.add(x.flat(), x.flat());
  norm();
  kernels.multiply_transposed(x, arena.matrix(kInner, kWidth), arena.vector(kInner), inner);
  kernels.gelu(inner.flat(), inner.flat());
  kernels.multiply_transposed(inner, arena.matrix(kWidth, kInner), {}, x);
  kernels.add(x.flat(), x.flat());
}

// The backward of the feed-forward and of attention alone: one call of each kind.
void backward(Kernels& kernels, Arena& arena) {
  const Matrix x = arena.matrix(kRows, kWidth), inner = arena.matrix(kRows, kInner);
  const Matrix qkv = arena.matrix(kRows, 3 * kWidth);
  kernels.multiply(x, arena.matrix(kWidth, kInner), false, inner);
  kernels.gelu_backward(inner.flat(), inner.flat());
  kernels.add_transposed_product(x, inner, arena.matrix(kWidth, kInner));
  kernels.add_column_sums(inner, arena.vector(kInner));
  kernels.attention_backward(input_of(arena), kAll,
                             {.out = x,
                              .log_sum = arena.vector(kRows * kHeads),
                              .out_gradient = x,
                              .global_out = {},
                              .global_log_sum = {},
                              .global_out_gradient = {}},
                             {.qkv = qkv, .before = {}, .after = {}, .globals = {}});
}

// Powers of two keep all sums exact. At these rates a FLOP takes as long as 4 bytes.
constexpr DeviceRates kRates{.flops_per_s = 1024, .bytes_per_s = 4096};

// Counted by hand, call after call, in units of 1/1024 s: the larger of FLOPs and floats moved.
constexpr double kForwardUnits = (48 + 6 + 6 + 48 + 8 + 8)    // norm: bytes
                                 + 2.0 * 8 * 18 * 6           // query, key, value: FLOPs
                                 + 2 * 8 * 12                 // rotation: bytes
                                 + 4 * 17 * 6                 // attention: FLOPs
                                 + 2 * 8 * 6 * 6              // output: FLOPs
                                 + 3 * 48                     // residual: bytes
                                 + (48 + 6 + 6 + 48 + 8 + 8)  // norm: bytes
                                 + 2 * 8 * 24 * 6             // up: FLOPs
                                 + 2 * 192                    // gelu: bytes
                                 + 2 * 8 * 6 * 24             // down: FLOPs
                                 + 3 * 48;                    // residual: bytes
constexpr double kBackwardUnits = 2 * 8 * 24 * 6              // gradient to the input: FLOPs
                                  + 4 * 192                   // gelu: bytes
                                  + 2 * 6 * 24 * 8            // gradient of the weights: FLOPs
                                  + (192 + 2 * 24)            // gradient of the bias: bytes
                                  + 10 * 17 * 6;              // attention: FLOPs

}  // namespace

TEST_CASE("a stage's step is charged with the sum by hand") {
  Arena arena;
  SimulatedKernels kernels(kRates);
  forward(kernels, arena);
  const double forward_s = kernels.charged().seconds;
  CHECK(forward_s == kForwardUnits / 1024);
  backward(kernels, arena);
  const double backward_s = kernels.charged().seconds - forward_s;
  CHECK(backward_s == kBackwardUnits / 1024);
  CHECK(kernels.charged().flops ==
        2 * 8 * 6 * (18 + 6 + 24 + 24) + 4 * 17 * 6 + 2 * 8 * 6 * (24 + 24) + 10 * 17 * 6);

  // A whole step: the stage repeats it for each micro-batch, and the schedule adds no time.
  const auto verdict = check(make_schedule(ScheduleKind::one_forward_one_backward, {1}, 4),
                             {{{forward_s, backward_s, 0}}});
  REQUIRE(verdict.report.has_value());
  for (int micro_batch = 1; micro_batch < 4; ++micro_batch) {
    forward(kernels, arena);
    backward(kernels, arena);
  }
  CHECK(verdict.report->makespan_s == kernels.charged().seconds);
}

TEST_CASE("a call takes as long as the slower of arithmetic and memory") {
  Arena arena;
  const auto seconds = [&](DeviceRates rates) {
    SimulatedKernels kernels(rates);
    kernels.multiply(arena.matrix(1, 8), arena.matrix(8, 4), true, arena.matrix(1, 4));
    return kernels.charged().seconds;
  };
  CHECK(seconds({.flops_per_s = 1, .bytes_per_s = 1e9}) == 2 * 8 * 4);
  CHECK(seconds({.flops_per_s = 1e9, .bytes_per_s = 1}) == 4 * (8 + 32 + 2 * 4));
}

TEST_CASE("calls that depend on tokens, lengths and rates are charged for what they touch") {
  Arena arena;
  const auto bytes = [&](auto call) {
    SimulatedKernels kernels(kRates);
    call(kernels);
    CHECK(kernels.charged().flops == 0);
    return kernels.charged().bytes;
  };
  const std::vector<std::int32_t> tokens = {0, 4, 5, 9, 4};
  const Matrix table = arena.matrix(5, 3);  // rows 4 to 8: tokens 4, 5 and 4
  CHECK(bytes([&](Kernels& k) { k.gather(tokens, table, 4, arena.matrix(5, 3)); }) ==
        4 * (5 + 3 * 3 * 3));
  CHECK(bytes([&](Kernels& k) { k.scatter_add(tokens, arena.matrix(5, 3), 4, table); }) ==
        4 * (5 + 3 * 3 * 3));
  CHECK(bytes([&](Kernels& k) {
          k.mean_pool(arena.matrix(8, 6), kLengths, 0, arena.matrix(2, 6));
        }) == 4 * (7 * 6 + 2 * 6));
  CHECK(bytes([&](Kernels& k) {
          k.mean_pool(arena.matrix(8, 6), kLengths, 2, arena.matrix(2, 6));
        }) == 4 * (3 * 6 + 2 * 6));
  DropoutKey key;
  CHECK(bytes([&](Kernels& k) { k.dropout(key, table); }) == 0);
  key.rate = 0.5;
  CHECK(bytes([&](Kernels& k) { k.dropout(key, table); }) == 4 * 2 * 15);
}

TEST_CASE("elements of a low type are charged half, and gradients of weights as f32") {
  const auto bytes = [&](auto call) {
    SimulatedKernels kernels(kRates);
    call(kernels);
    return kernels.charged().bytes;
  };
  const auto matrix = [](Dtype dtype, index_t rows, index_t columns) {
    return Matrix({nullptr, dtype, MemoryKind::none, rows * columns}, rows, columns);
  };
  const Matrix x = matrix(Dtype::bf16, 5, 3);
  const std::vector<std::int32_t> tokens = {0, 4, 5, 9, 4};
  CHECK(bytes([&](Kernels& k) { k.gelu(x.flat(), x.flat()); }) == 2 * 2 * 15);
  CHECK(bytes([&](Kernels& k) { k.gather(tokens, x, 4, x); }) == 4 * 5 + 2 * 3 * 3 * 3);
  CHECK(bytes([&](Kernels& k) { k.scatter_add(tokens, x, 4, matrix(Dtype::f32, 5, 3)); }) ==
        4 * 5 + (2 + 2 * 4) * 3 * 3);
}

TEST_CASE("simulated kernels touch no element") {
  Arena arena;
  SimulatedKernels kernels(kRates);
  forward(kernels, arena);
  backward(kernels, arena);
  kernels.fill(arena.vector(10), 0);
  CHECK(arena.floats == std::vector<float>(arena.floats.size(), 7));
}

TEST_CASE("calls for global rows are charged for their products and for what they move") {
  Arena arena;
  // 3 rows, 2 heads of 2 channels, 6 wide; runs of 5 columns.
  const Matrix a = arena.matrix(3, 4), weights = arena.matrix(4, 6), folded = arena.matrix(6, 6);
  const Matrix scores = arena.matrix(6, 5);
  const Vector six = arena.vector(6);
  const std::vector<index_t> limits = {5, 0, 2};
  const auto charge = [&](auto call) {
    SimulatedKernels kernels(kRates);
    call(kernels);
    return kernels.charged();
  };
  const auto check = [&](double flops, double floats, auto call) {
    CHECK(charge(call).flops == flops);
    CHECK(charge(call).bytes == 4 * floats);
  };
  check(2 * 3 * 4 * 6, 12 + 24 + 36, [&](Kernels& k) { k.fold(a, weights, 2, 1, folded); });
  check(2 * 3 * 4 * 6, 12 + 24 + 36, [&](Kernels& k) { k.unfold(folded, weights, 2, 1, a); });
  check(2 * 3 * 4 * 6, 12 + 36 + 2 * 24,
        [&](Kernels& k) { k.add_fold_gradient(a, folded, 2, 1, weights); });
  check(0, 2 * (30 + 6 + 6 + 36),
        [&](Kernels& k) { k.continue_softmax(limits, 0, scores, six, six, folded); });
  check(0, 2 * 48 + 6 + 36,
        [&](Kernels& k) { k.join_softmax(arena.vector(2 * 48), 2, six, folded); });
  check(0, 6 + 6 + 2 * (30 + 30),
        [&](Kernels& k) { k.softmax_slopes(limits, 0, six, six, scores, scores); });
  check(0, 36 + 36 + 6, [&](Kernels& k) { k.row_products(folded, folded, six); });
  check(0, 6 + 2 * 36, [&](Kernels& k) { k.scale_rows(six, folded); });
  CHECK(arena.floats == std::vector<float>(arena.floats.size(), 7));
}
