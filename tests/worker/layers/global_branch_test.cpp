#include "worker/layers/global_branch.hpp"

#include <doctest/doctest.h>

#include <string>

#include "tests/worker/contexts.hpp"
#include "tests/worker/layers/rig.hpp"
#include "worker/kernels/simulated/simulated_kernels.hpp"

using namespace weir;
using namespace weir::test;

namespace {

constexpr index_t kSize = kHeld / kHeads;

struct BranchCase {
  worker::Sparsity sparsity;
  std::vector<index_t> lengths;
  index_t tokens;  // N of the whole sequences
};

worker::Sparsity form_of(std::vector<index_t> globals, bool causal) {
  worker::Sparsity sparsity;
  sparsity.globals = worker::Globals(std::move(globals));
  sparsity.causal = causal;
  sparsity.form = worker::GlobalForm::separate;
  return sparsity;
}

std::string describe(const BranchCase& c) {
  std::string words = text(c.sparsity.causal ? "causal" : "bidirectional", " tokens ", c.tokens);
  words += " globals";
  for (const index_t position : c.sparsity.globals.positions()) words += text(" ", position);
  words += " lengths";
  for (const index_t length : c.lengths) words += text(" ", length);
  return words;
}

worker::GlobalBranch branch_of(Rig& rig, const worker::Sparsity& sparsity) {
  worker::GlobalBranch branch;
  branch.query = rig.matrix(kHeld, kWidth);
  branch.key = rig.matrix(kHeld, kWidth);
  branch.value = rig.matrix(kHeld, kWidth);
  branch.query_bias = rig.vector(kHeld);
  branch.value_bias = rig.vector(kHeld);
  branch.heads = kHeads;
  branch.sparsity = sparsity;
  return branch;
}

/// The branch in double, not folded: the keys and values of all tokens, with a bias of the keys,
/// which the branch has not. weights: as branch_of takes them.
std::vector<double> unfolded(const BranchCase& c, const std::vector<double>& weights,
                             const std::vector<double>& x) {
  constexpr index_t kMatrix = kHeld * kWidth;
  const auto project = [&](index_t matrix, index_t token, index_t feature) {
    double sum = 0;
    for (index_t e = 0; e < kWidth; ++e) {
      sum += weights[matrix * kMatrix + feature * kWidth + e] * x[token * kWidth + e];
    }
    if (matrix == 1) return sum + 0.7 * double(feature);
    const index_t bias = 3 * kMatrix + (matrix == 2 ? kHeld : 0) + feature;
    return sum + weights[bias];
  };
  std::vector<double> out;
  for (std::size_t b = 0; b < c.lengths.size(); ++b) {
    const index_t first = static_cast<index_t>(b) * c.tokens;
    for (const index_t i : c.sparsity.globals.positions()) {
      for (index_t feature = 0; feature < kHeld; ++feature) {
        const index_t head = feature / kSize * kSize;
        double sum = 0;
        double weighted = 0;
        for (index_t j = 0; j < c.tokens && i < c.tokens; ++j) {
          if (!worker::visible(i, j, c.lengths[b], c.sparsity)) continue;
          double score = 0;
          for (index_t channel = head; channel < head + kSize; ++channel) {
            score += project(0, first + i, channel) * project(1, first + j, channel);
          }
          const double exponential = std::exp(score / std::sqrt(double(kSize)));
          sum += exponential;
          weighted += exponential * project(2, first + j, feature);
        }
        out.push_back(sum > 0 ? weighted / sum : 0);
      }
    }
  }
  return out;
}

/// Rows [begin, end) of each sequence of values [sequences * tokens, kWidth].
std::vector<float> cut(const std::vector<float>& values, index_t tokens, index_t begin,
                       index_t end) {
  std::vector<float> part;
  for (auto row = values.begin(); row != values.end(); row += tokens * kWidth) {
    part.insert(part.end(), row + begin * kWidth, row + end * kWidth);
  }
  return part;
}

constexpr float kBefore = 0.5F;  // of each gradient to x

/// Forward and backward on one context that holds tokens [begin, end) of each sequence, in strips
/// of so many. `x` becomes the gradient to it, less kBefore.
void run_part(const worker::Pass& pass, const worker::GlobalBranch& branch, const BranchCase& c,
              index_t begin, index_t end, index_t strip_tokens, std::vector<float>& x,
              std::vector<float>& out, std::vector<float> out_gradient) {
  const auto sequences = static_cast<index_t>(c.lengths.size());
  const index_t globals = c.sparsity.globals.count();
  const std::vector<index_t> samples(c.lengths.size());
  const worker::MicroBatch batch = {sequences, end - begin, {}, c.lengths, samples, begin};
  // Room for a larger micro-batch than this one, filled with what must not be read.
  const worker::GlobalBranchShape shape = {
      sequences + 1, c.tokens + 5,         globals,     kHeads, kSize,
      kWidth,        pass.contexts.size(), c.tokens + 5};
  worker::Carved<worker::GlobalBranchActivations> kept(shape);
  worker::Carved<worker::GlobalBranchScratch> scratch(shape);
  scratch.strip_tokens = strip_tokens;
  std::ranges::fill(as<float>(kept.memory.elements(Dtype::f32)), 1e30F);
  std::ranges::fill(as<float>(scratch.memory.elements(Dtype::f32)), 1e30F);
  std::vector<float> x_gradient(x.size(), kBefore);
  const View<float, 2> rows(x.data(), {batch.rows(), kWidth});
  branch.forward(pass, batch, rows, kept, scratch, matrix(out, sequences * globals));
  std::ranges::fill(as<float>(scratch.memory.elements(Dtype::f32)), 1e30F);
  branch.backward(pass, batch, kept, rows, matrix(out_gradient, sequences * globals), scratch,
                  View<float, 2>(x_gradient.data(), {batch.rows(), kWidth}));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = x_gradient[i] - kBefore;
}

const std::vector<BranchCase> kCases = {
    {form_of({0}, true), {7}, 7},
    {form_of({0, 1, 2}, true), {7, 7}, 7},
    {form_of({2, 6}, true), {7, 3, 1}, 7},  // the last one beyond some sequences
    {form_of({0, 1}, false), {7, 3, 1}, 7},
    {form_of({1, 4, 6}, false), {5, 7}, 7},
    {form_of({0, 3, 11}, false), {7, 4}, 7},  // 11: nobody holds it
    {form_of({0, 3, 11}, true), {0, 7}, 7},   // a sequence without tokens
    {form_of({3}, false), {0}, 7},
    {form_of({0, 1, 2}, false), {3}, 3},  // only globals
};

}  // namespace

TEST_CASE("the folded branch is attention with keys and values of all tokens, gradients too") {
  for (const BranchCase& c : kCases) {
    for (const index_t strip_tokens : {1, 2, 3, 12}) {
      INFO(describe(c));
      CAPTURE(strip_tokens);
      Rig rig;
      const worker::GlobalBranch branch = branch_of(rig, c.sparsity);
      const auto sequences = static_cast<index_t>(c.lengths.size());
      const std::vector<float> x = random_values(sequences * c.tokens * kWidth, 1, "x");
      const index_t out_size = sequences * c.sparsity.globals.count() * kHeld;
      const std::vector<float> out_gradient = random_values(out_size, 1, "gradient");
      Found found = {std::vector<float>(out_size, 7), x};
      run_part(rig.pass(), branch, c, 0, c.tokens, strip_tokens, found.x_gradient, found.out,
               out_gradient);
      check_layer(rig, x, out_gradient, found, [&](const auto& weights, const auto& input) {
        return unfolded(c, weights, input);
      });
    }
  }
}

TEST_CASE("a row that sees nothing, or that nobody holds, gives 0 and not the bias") {
  const BranchCase c = {form_of({0, 9}, false), {4, 0}, 7};
  Rig rig;
  const worker::GlobalBranch branch = branch_of(rig, c.sparsity);
  std::vector<float> x = random_values(2 * 7 * kWidth, 1, "x");
  std::vector<float> out(4 * kHeld, 7);
  run_part(rig.pass(), branch, c, 0, 7, 12, x, out, std::vector<float>(out.size(), 1));
  for (index_t feature = 0; feature < kHeld; ++feature) {
    const auto at = static_cast<std::size_t>(feature);
    CHECK(out[at] != 0);
    for (std::size_t row = 1; row < 4; ++row) CHECK(out[row * kHeld + at] == 0);
  }
  for (std::size_t i = 7 * kWidth; i < x.size(); ++i) CHECK(x[i] == 0);
}

TEST_CASE("over 2, 3 and 4 contexts the branch gives what it gives on one, every gradient too") {
  for (const BranchCase& c : kCases) {
    INFO(describe(c));
    Rig rig;
    const worker::GlobalBranch branch = branch_of(rig, c.sparsity);
    std::ranges::fill(rig.gradients, 0.0F);
    const auto sequences = static_cast<index_t>(c.lengths.size());
    const std::vector<float> x = random_values(sequences * c.tokens * kWidth, 2, "x");
    const index_t out_size = sequences * c.sparsity.globals.count() * kHeld;
    const std::vector<float> out_gradient = random_values(out_size, 2, "gradient");
    Found truth = {std::vector<float>(out_size, 7), x};
    run_part(rig.pass(), branch, c, 0, c.tokens, 12, truth.x_gradient, truth.out, out_gradient);
    for (const index_t count : {2, 3, 4}) {
      CAPTURE(count);
      std::vector<Found> found(count);
      std::vector<std::vector<float>> gradients(found.size());
      const auto begin_of = [&](index_t context) { return context * c.tokens / count; };
      ThreadContexts(count).run([&](worker::ContextGroup& group) {
        const auto index = static_cast<std::size_t>(group.index());
        worker::CpuKernels kernels;
        worker::SingleShard alone;
        gradients[index].assign(rig.gradients.size(), 0.0F);
        found[index].out.assign(out_size, 7);
        const index_t begin = begin_of(group.index());
        const index_t end = begin_of(group.index() + 1);
        found[index].x_gradient = cut(x, c.tokens, begin, end);
        run_part({kernels, alone, group, rig.weights, gradients[index], 0, true}, branch, c, begin,
                 end, 2, found[index].x_gradient, found[index].out, out_gradient);
      });
      std::vector<float> sums(rig.gradients.size());
      for (index_t context = 0; context < count; ++context) {
        CAPTURE(context);
        const auto index = static_cast<std::size_t>(context);
        CHECK(found[index].out == found[0].out);  // the same bits
        check_close(found[index].x_gradient,
                    cut(truth.x_gradient, c.tokens, begin_of(context), begin_of(context + 1)), 2e-6,
                    1);
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += gradients[index][i];
      }
      check_close(found[0].out, truth.out, 1e-6, 1);
      check_close(sums, rig.gradients, 2e-6, 1);
    }
  }
}

TEST_CASE("scores far apart, over several strips of tokens and contexts, keep their softmax") {
  constexpr index_t kWide = 3;
  constexpr index_t kTokens = 200;
  Rig rig;
  worker::GlobalBranch branch;
  branch.query = rig.matrix(1, kWide);
  branch.key = rig.matrix(1, kWide);
  branch.value = rig.matrix(1, kWide);
  branch.query_bias = rig.vector(1);
  branch.value_bias = rig.vector(1);
  branch.heads = 1;
  branch.sparsity = form_of({150}, false);
  // Only feature 0 counts: the score of token j is x_j, its value too.
  std::ranges::fill(rig.weights, 0.0F);
  rig.weights[branch.query_bias.offset] = 1;
  rig.weights[branch.key.offset] = 1;
  rig.weights[branch.value.offset] = 1;
  std::vector<float> x(kTokens * kWide);
  double sum = 0;
  double weighted = 0;
  for (index_t j = 0; j < 190; ++j) {  // rising by 1 a token, falling again from 170 on
    const double score = j < 170 ? double(j) : double(300 - j);
    x[j * kWide] = static_cast<float>(score);
    sum += std::exp(score - 200);
    weighted += std::exp(score - 200) * score;
  }
  const std::vector<index_t> lengths = {190};
  const std::vector<index_t> samples = {0};
  for (const index_t count : {1, 3}) {
    ThreadContexts(count).run([&](worker::ContextGroup& group) {
      const index_t begin = group.index() * kTokens / count;
      const index_t end = (group.index() + 1) * kTokens / count;
      const worker::MicroBatch batch = {1, end - begin, {}, lengths, samples, begin};
      const worker::GlobalBranchShape shape = {1, end - begin, 1, 1, 1, kWide, count, 64};
      worker::Carved<worker::GlobalBranchActivations> kept(shape);
      worker::Carved<worker::GlobalBranchScratch> scratch(shape);
      worker::CpuKernels kernels;
      worker::SingleShard alone;
      std::vector<float> out(1, 7);
      branch.forward({kernels, alone, group, rig.weights, rig.gradients, 0, true}, batch,
                     View<float, 2>(x.data() + begin * kWide, {end - begin, kWide}), kept, scratch,
                     matrix(out, 1));
      check_close(out, std::vector<double>{weighted / sum}, 1e-6, 1);
      check_close(std::vector<float>{as<float>(kept.log_sum)[0]},
                  std::vector<double>{std::log(sum) + 200}, 1e-6, 1);
    });
  }
}

TEST_CASE("the branch is charged with its products, and what it keeps does not grow with N") {
  const worker::Sparsity sparsity = form_of({0, 5, 9}, false);
  Rig rig;
  const worker::GlobalBranch branch = branch_of(rig, sparsity);
  worker::SimulatedKernels kernels({});
  worker::SingleShard alone;
  worker::SingleContext whole;
  const worker::Pass pass = {kernels, alone, whole, rig.weights, rig.gradients, 0, true};
  const std::vector<index_t> lengths = {12, 20};
  const std::vector<index_t> samples = {0, 1};
  const worker::MicroBatch batch = {2, 20, {}, lengths, samples};
  const worker::GlobalBranchShape shape = {2, 20, 3, kHeads, kSize, kWidth, 1, 20};
  worker::Carved<worker::GlobalBranchActivations> kept(shape);
  worker::Carved<worker::GlobalBranchScratch> scratch(shape);
  std::vector<float> x(40 * kWidth);
  std::vector<float> out(6 * kHeld);
  branch.forward(pass, batch, matrix(x, 40), kept, scratch, matrix(out, 6));
  constexpr double kProjection = 2 * 6 * kHeld * kWidth;  // of the six global rows
  constexpr double kOverTokens = 2 * 3 * kHeads * (12 + 20) * kWidth;
  CHECK(kernels.charged().flops == 3 * kProjection + 2 * kOverTokens);
  branch.backward(pass, batch, kept, matrix(x, 40), matrix(out, 6), scratch, matrix(x, 40));
  CHECK(kernels.charged().flops == 9 * kProjection + 7 * kOverTokens);

  worker::GlobalBranchShape longer = shape;
  longer.tokens = 1 << 20;
  using Kept = worker::Carved<worker::GlobalBranchActivations>;
  CHECK(Kept::bytes(longer) == Kept::bytes(shape));
  using Scratch = worker::Carved<worker::GlobalBranchScratch>;
  longer.width = 1024;
  longer.strip_tokens = kernels.product_strip(longer.tokens, longer.width);
  CHECK(Scratch::bytes(longer) < 1 << 20);
}
