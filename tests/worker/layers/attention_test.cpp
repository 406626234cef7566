#include "worker/layers/attention.hpp"

#include <doctest/doctest.h>

#include <mutex>

#include "tests/reference.hpp"
#include "tests/worker/contexts.hpp"
#include "tests/worker/layers/rig.hpp"

using namespace weir;
using namespace weir::test;

namespace {

constexpr index_t kOutput = 3 * kHeld * kWidth + 3 * kHeld;  // where the output's weights begin

const index_t kStrip = worker::CpuKernels().attention_strip(kHeld);

struct Case {
  worker::Sparsity sparsity;
  bool rotary;
  index_t tokens;
  std::vector<index_t> lengths;
  index_t strip_tokens = kStrip;
  index_t rows() const { return std::ssize(lengths) * tokens; }
};

worker::AttentionLayer make_layer(const Case& c, Rig& rig) {
  worker::AttentionLayer layer;
  layer.query_key_value = {rig.matrix(3 * kHeld, kWidth), rig.vector(3 * kHeld)};
  layer.output = {rig.matrix(kHeld, kWidth), rig.vector(kWidth)};
  layer.heads = kHeads;
  layer.rotary = c.rotary;
  layer.sparsity = c.sparsity;
  return layer;
}

/// The layer in double: projections, rotation, attention, output; and back.
struct Truth {
  std::vector<double> out, x_gradient, gradients;
};

Truth truth_of(const Case& c, const Rig& rig, const std::vector<float>& x_in,
               const std::vector<float>& out_gradient_in) {
  const index_t rows = c.rows();
  const auto doubles = [&](index_t columns) { return std::vector<double>(rows * columns); };
  std::vector<double> x = in_double(x_in);
  std::vector<double> weights = in_double(rig.weights);
  std::vector<double> out_gradient = in_double(out_gradient_in);
  auto qkv = doubles(3 * kHeld), heads = doubles(kHeld), log_sum = doubles(kHeads);
  auto heads_gradient = doubles(kHeld), qkv_gradient = doubles(3 * kHeld);
  Truth truth{doubles(kWidth), doubles(kWidth), std::vector<double>(weights.size())};
  const std::span<const double> all(weights);
  const auto projection = matrix(weights, 0, 3 * kHeld, kWidth);
  const auto output = matrix(weights, kOutput, kHeld, kWidth);
  reference::multiply_transposed(matrix(x, rows), projection,
                                 all.subspan(3 * kHeld * kWidth, 3 * kHeld), matrix(qkv, rows));
  if (c.rotary) reference::rotate(matrix(qkv, rows), kHeads, c.tokens, 1);
  reference::attention(matrix(qkv, rows), kHeads, c.lengths, c.sparsity, matrix(heads, rows),
                       log_sum);
  reference::multiply(matrix(heads, rows), output, false, matrix(truth.out, rows));
  reference::add_bias(all.last(kWidth), matrix(truth.out, rows));

  reference::multiply_transposed(matrix(out_gradient, rows), output, {},
                                 matrix(heads_gradient, rows));
  reference::attention_backward(matrix(qkv, rows), kHeads, c.lengths, c.sparsity,
                                matrix(heads_gradient, rows), matrix(qkv_gradient, rows));
  if (c.rotary) reference::rotate(matrix(qkv_gradient, rows), kHeads, c.tokens, -1);
  reference::multiply(matrix(qkv_gradient, rows), projection, false,
                      matrix(truth.x_gradient, rows));
  const std::span<double> gradients(truth.gradients);
  const auto part = [&](index_t offset, index_t part_rows) {
    return View<double, 2>(truth.gradients.data() + offset, {part_rows, kWidth});
  };
  reference::add_transposed_product(matrix(qkv_gradient, rows), matrix(x, rows),
                                    part(0, 3 * kHeld));
  reference::add_column_sums(matrix(qkv_gradient, rows),
                             gradients.subspan(3 * kHeld * kWidth, 3 * kHeld));
  reference::add_transposed_product(matrix(heads, rows), matrix(out_gradient, rows),
                                    part(kOutput, kHeld));
  reference::add_column_sums(matrix(out_gradient, rows), gradients.last(kWidth));
  return truth;
}

/// Rows of this context's tokens, sequence by sequence.
std::vector<float> part_of(const std::vector<float>& whole, const Case& c, index_t begin,
                           index_t end) {
  std::vector<float> part;
  for (index_t b = 0; b < std::ssize(c.lengths); ++b) {
    const auto row = whole.begin() + b * c.tokens * kWidth;
    part.insert(part.end(), row + begin * kWidth, row + end * kWidth);
  }
  return part;
}

/// Output and all gradients over so many contexts; the gradients of weights summed over them.
void check_attention(const Case& c, index_t contexts = 1) {
  CAPTURE(c.tokens);
  CAPTURE(contexts);
  Rig rig;
  const worker::AttentionLayer layer = make_layer(c, rig);
  const std::vector<float> x = random_values(c.rows() * kWidth, 1, "x");
  const std::vector<float> out_gradient = random_values(c.rows() * kWidth, 1, "gradient");
  const Truth truth = truth_of(c, rig, x, out_gradient);
  const auto sequences = static_cast<index_t>(c.lengths.size());
  std::vector<double> gradients(rig.weights.size());
  std::vector<double> out(x.size(), 7), x_gradient(x.size(), 7);
  std::mutex mutex;
  ThreadContexts(contexts).run([&](worker::ContextGroup& group) {
    const index_t begin = group.index() * c.tokens / contexts;
    const index_t end = (group.index() + 1) * c.tokens / contexts;
    const index_t rows = sequences * (end - begin);
    const worker::MicroBatch batch = {sequences, end - begin, {}, c.lengths, {}, begin};
    const worker::AttentionShape shape = {.sequences = sequences,
                                          .rows = rows + sequences,
                                          .width = kWidth,
                                          .heads = kHeads,
                                          .head_size = kHeld / kHeads,
                                          .globals = c.sparsity.globals.count(),
                                          .contexts = contexts,
                                          .left = contexts > 1 ? c.sparsity.left : 0,
                                          .right = contexts > 1 ? c.sparsity.right : 0,
                                          .strip_tokens = c.strip_tokens};
    worker::Carved<worker::AttentionActivations> kept(shape);
    worker::Carved<worker::AttentionScratch> scratch(shape);
    std::ranges::fill(as<float>(kept.memory.elements(Dtype::f32)), 7.0F);
    std::ranges::fill(as<float>(scratch.memory.elements(Dtype::f32)), 7.0F);
    worker::CpuKernels kernels;
    worker::SingleShard alone;
    std::vector<float> own_gradients(rig.weights.size());
    const worker::Pass pass = {kernels, alone, group, rig.weights, own_gradients, 5, true};
    std::vector<float> own_x = part_of(x, c, begin, end);
    std::vector<float> own_gradient = part_of(out_gradient, c, begin, end);
    std::vector<float> own_out(own_x.size(), 7), own_x_gradient(own_x.size(), 7);
    layer.forward(pass, batch, matrix(own_x, rows), kept, scratch, matrix(own_out, rows));
    std::vector<float> qkv_gradient(rows * 3 * kHeld, 7);
    layer.backward(pass, batch, kept, matrix(own_x, rows), matrix(own_gradient, rows), scratch,
                   matrix(qkv_gradient, rows), matrix(own_x_gradient, rows));
    layer.weight_gradient(pass, kept, matrix(own_x, rows), matrix(own_gradient, rows),
                          matrix(qkv_gradient, rows));
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < gradients.size(); ++i) gradients[i] += own_gradients[i];
    for (index_t b = 0; b < sequences; ++b) {
      const index_t size = (end - begin) * kWidth;
      const index_t to = (b * c.tokens + begin) * kWidth;
      std::copy_n(own_out.begin() + b * size, size, out.begin() + to);
      std::copy_n(own_x_gradient.begin() + b * size, size, x_gradient.begin() + to);
    }
  });
  check_close(out, truth.out, 2e-6, 1);
  check_close(x_gradient, truth.x_gradient, 5e-6, 1);
  check_close(gradients, truth.gradients, 5e-6, 1);
}

/// Counts what a context sends.
class CountingContexts final : public worker::ContextGroup {
 public:
  explicit CountingContexts(worker::ContextGroup& group) : group_(group) {}
  index_t size() const override { return group_.size(); }
  index_t index() const override { return group_.index(); }
  void sum(Vector values) override {
    floats += values.size();
    group_.sum(values);
  }
  void gather(ConstVector values, Vector all) override {
    floats += values.size();
    group_.gather(values, all);
  }
  void exchange(ConstVector to_previous, ConstVector to_next, Vector from_previous,
                Vector from_next) override {
    floats += to_previous.size() + to_next.size();
    group_.exchange(to_previous, to_next, from_previous, from_next);
  }
  index_t floats = 0;

 private:
  worker::ContextGroup& group_;
};

/// Floats that a context of three sends in one forward and backward, at most.
index_t floats_sent(const Case& c) {
  Rig rig;
  const worker::AttentionLayer layer = make_layer(c, rig);
  std::mutex mutex;
  index_t most = 0;
  ThreadContexts(3).run([&](worker::ContextGroup& group) {
    CountingContexts counting(group);
    const index_t tokens = c.tokens / 3;
    std::vector<float> x(tokens * kWidth, 1);
    std::vector<float> out(x.size()), gradients(rig.weights.size());
    const worker::AttentionShape shape = {.sequences = 1,
                                          .rows = tokens,
                                          .width = kWidth,
                                          .heads = kHeads,
                                          .head_size = kHeld / kHeads,
                                          .globals = c.sparsity.globals.count(),
                                          .contexts = 3,
                                          .left = c.sparsity.left,
                                          .right = c.sparsity.right,
                                          .strip_tokens = kStrip};
    worker::Carved<worker::AttentionActivations> kept(shape);
    worker::Carved<worker::AttentionScratch> scratch(shape);
    worker::CpuKernels kernels;
    worker::SingleShard alone;
    const worker::Pass pass = {kernels, alone, counting, rig.weights, gradients, 5, true};
    const worker::MicroBatch batch = {1, tokens, {}, c.lengths, {}, group.index() * tokens};
    layer.forward(pass, batch, matrix(x, tokens), kept, scratch, matrix(out, tokens));
    std::vector<float> qkv_gradient(tokens * 3 * kHeld);
    layer.backward(pass, batch, kept, matrix(x, tokens), matrix(out, tokens), scratch,
                   matrix(qkv_gradient, tokens), matrix(x, tokens));
    const std::lock_guard lock(mutex);
    most = std::max(most, counting.floats);
  });
  return most;
}

const worker::Sparsity kCausal{2, 0, 1, true};
const worker::Sparsity kNoGlobals{2, 1, 0, false};
const worker::Sparsity kBoth{1, 2, 2, false};
const worker::Sparsity kScattered{2, 1, worker::Globals({0, 5, 6, 17}), false};
const worker::Sparsity kCausalScattered{3, 0, worker::Globals({1, 5, 20}), true};

}  // namespace

TEST_CASE("attention's output and gradients are those of the formulas") {
  check_attention({kCausal, true, 7, {7, 7}});
  check_attention({kBoth, false, 7, {7, 3, 1}});
  check_attention({kScattered, true, 19, {19, 6}});
  check_attention({kCausalScattered, true, 23, {23, 10}});
  check_attention({kNoGlobals, true, 9, {9, 2}});
}

TEST_CASE("attention in several strips is that of the formulas") {
  const index_t tokens = 3 * kStrip / 2;
  for (const worker::Sparsity& sparsity : {kCausal, kBoth, kScattered}) {
    check_attention({sparsity, true, tokens, {tokens, tokens / 3}});
    for (const index_t strip_tokens : {1, 2, 5, 16, 21, 50}) {
      CAPTURE(strip_tokens);
      check_attention({sparsity, true, 21, {21, 8}, strip_tokens});
    }
  }
}

TEST_CASE("short sequences, several to a strip, have the attention of the formulas") {
  std::vector<index_t> lengths;
  for (index_t b = 0; b < 20; ++b) lengths.push_back(100 - 3 * b);
  for (const worker::Sparsity& sparsity : {kCausal, kScattered}) {
    check_attention({sparsity, true, 100, lengths});
  }
}

TEST_CASE("a sequence cut over 1, 2, 3 and 4 contexts has the attention of one rank") {
  for (const index_t contexts : {1, 2, 3, 4}) {
    for (const worker::Sparsity& sparsity : {kCausal, kBoth, kScattered, kCausalScattered}) {
      check_attention({sparsity, true, 21, {21, 8, 0}}, contexts);
      check_attention({sparsity, false, 16, {3, 16}}, contexts);
    }
  }
}

TEST_CASE("what contexts send each other does not grow with the sequence") {
  for (const worker::Sparsity& sparsity : {kCausal, kBoth, kScattered}) {
    const index_t sent = floats_sent({sparsity, true, 30, {30}});
    CHECK(sent > 0);
    CHECK(floats_sent({sparsity, true, 3000, {3000}}) == sent);
    // A border's keys and values there and their gradients back, each way; of each global token
    // queries, keys and values, a softmax a head, and the gradients of all these.
    const index_t borders = 2 * 2 * kHeld * (sparsity.left + sparsity.right);
    const index_t globals =
        sparsity.globals.count() * (2 * 3 * kHeld + kHeld + kHeads * (kHeld / kHeads + 2));
    CHECK(sent == borders + globals);
  }
}
