#include "benchmarks/attention_runs.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/number/rounding.hpp"
#include "worker/kernels/cpu/attention.hpp"
#include "worker/kernels/cpu/by_dtype.hpp"
#include "worker/layers/attention.hpp"

namespace weir::benchmark {
namespace {

using worker::Sparsity;

constexpr index_t kMostGlobals = 4;

/// Values in [-scale, scale), the same every run.
void fill_random(Vector values, std::uint64_t stream, float scale) {
  worker::by_dtype(values.dtype(), [&]<class T>() {
    const auto elements = as<T>(values);
    for (index_t i = 0; i < values.size(); ++i) {
      const float random = uniform_float(1, stream, static_cast<std::uint64_t>(i));
      elements[i] = rounded_to<T>(scale * (2 * random - 1));
    }
  });
}

ConstMatrix rows_of(const Buffer& buffer, index_t rows, index_t columns) {
  return {buffer.span(), rows, columns};
}
Matrix rows_of(Buffer& buffer, index_t rows, index_t columns) {
  return {buffer.span(), rows, columns};
}

/// Pairs of a query and a key that it sees; global tokens are at the front.
index_t visible_pairs(index_t tokens, const Sparsity& sparsity) {
  const index_t globals = sparsity.globals.count();
  index_t pairs = globals * tokens;
  for (index_t i = globals; i < tokens; ++i) {
    const Interval window = {std::max(globals, i - sparsity.left),
                             std::min(tokens, i + sparsity.right + 1)};
    pairs += globals + window.count();
  }
  return pairs;
}

}  // namespace

AttentionWork work_of(Dtype dtype, index_t tokens, index_t heads, index_t channels,
                      const Sparsity& sparsity) {
  const auto flops = static_cast<double>(visible_pairs(tokens, sparsity) * heads * channels);
  const auto sums = static_cast<double>(tokens * heads) * sizeof(float);
  const auto matrix = static_cast<double>(tokens * heads * channels * bytes_of(dtype));
  // Forward reads q, k, v and writes out; backward reads q, k, v, out and its gradient and writes
  // three gradients.
  const double forward = (3 + 2 * 1) * matrix + 2 * sums;
  const double backward = (5 + 2 * 3) * matrix + sums;
  return {4 * flops, 14 * flops, forward, forward + backward};
}

std::vector<ProductShape> block_products(index_t channels) {
  const index_t queries = worker::kBlock;
  const index_t keys = queries + 2 * 64;
  return {{queries, channels, keys}, {queries, keys, channels}, {keys, queries, channels}};
}

std::string bf16_products() {
  const bool has_amx = worker::machine_instructions() == worker::Instructions::amx;
  if (!worker::has_pair_products()) {
    return "this processor has neither AMX nor AVX512-BF16; attention converts bf16 to f32, and "
           "its "
           "floor has the rate of f32";
  }
  return text("this processor has ", has_amx ? "AMX" : "AVX512-BF16 and no AMX",
              "; attention multiplies pairs of bf16 by AVX512-BF16");
}

AttentionRun::AttentionRun(Dtype dtype, index_t tokens, index_t heads, index_t channels)
    : dtype_(dtype),
      tokens_(tokens),
      heads_(heads),
      channels_(channels),
      lengths_{tokens},
      qkv_(elements(tokens * 3 * heads * channels)),
      out_(elements(tokens * heads * channels)),
      out_gradient_(elements(tokens * heads * channels)),
      qkv_gradient_(elements(tokens * 3 * heads * channels)),
      globals_(elements(kMostGlobals * 3 * heads * channels)),
      global_out_(elements(kMostGlobals * heads * channels)),
      log_sum_(tokens * heads),
      part_(kMostGlobals * heads * (channels + 2)),
      global_log_sum_(kMostGlobals * heads),
      globals_gradient_(kMostGlobals * 3 * heads * channels) {
  fill_random(qkv_.elements(dtype), 1, 2);
  fill_random(out_gradient_.elements(dtype), 2, 1);
  std::copy_n(qkv_.data(), std::min(globals_.bytes(), qkv_.bytes()), globals_.data());
}

worker::AttentionInput AttentionRun::input(const Sparsity& sparsity) const {
  const index_t width = heads_ * channels_;
  WEIR_ASSERT(sparsity.globals.count() <= kMostGlobals);
  return {.heads = heads_,
          .first = 0,
          .lengths = lengths_,
          .sparsity = &sparsity,
          .qkv = rows(qkv_, tokens_, 3 * width),
          .before = {},
          .after = {},
          .globals = rows(globals_, sparsity.globals.count(), 3 * width)};
}

void AttentionRun::forward(const Sparsity& sparsity) {
  const auto queries = static_cast<std::size_t>(sparsity.globals.count() * heads_);
  const auto part = part_.span().first(queries * (channels_ + 2));
  kernels_.attention(input(sparsity), strip(), rows(out_, tokens_, heads_ * channels_),
                     log_sum_.span(), part);
  kernels_.join_softmax(part, 1, global_log_sum_.span().first(queries),
                        rows(global_out_, static_cast<index_t>(queries), channels_));
}

void AttentionRun::backward(const Sparsity& sparsity) {
  const index_t width = heads_ * channels_;
  const index_t globals = sparsity.globals.count();
  kernels_.fill(globals_gradient_.span(), 0);
  kernels_.attention_backward(input(sparsity), strip(),
                              {.out = rows(out_, tokens_, width),
                               .log_sum = log_sum_.span(),
                               .out_gradient = rows(out_gradient_, tokens_, width),
                               .global_out = rows(global_out_, globals, width),
                               .global_log_sum = global_log_sum_.span().first(globals * heads_),
                               .global_out_gradient = rows(out_gradient_, globals, width)},
                              {.qkv = rows(qkv_gradient_, tokens_, 3 * width),
                               .before = {},
                               .after = {},
                               .globals = rows_of(globals_gradient_, globals, 3 * width)});
}

LayerRun::LayerRun(index_t tokens, index_t heads, index_t head_size, Sparsity sparsity)
    : tokens_(tokens),
      heads_(heads),
      head_size_(head_size),
      sparsity_(std::move(sparsity)),
      weights_(4 * heads * head_size * (heads * head_size + 1)),
      gradients_(weights_.size()),
      x_(tokens * heads * head_size),
      out_(x_.size()),
      out_gradient_(x_.size()),
      x_gradient_(x_.size()) {
  fill_random(weights_.span(), 1, 0.05F);
  fill_random(x_.span(), 2, 1);
  fill_random(out_gradient_.span(), 3, 1);
}

double LayerRun::seconds(index_t strip_tokens) {
  const index_t width = heads_ * head_size_;
  const index_t bias = 3 * width * width;
  worker::AttentionLayer layer;
  layer.query_key_value = {{0, 3 * width, width}, {bias, 3 * width}};
  layer.output = {{bias + 3 * width, width, width}, {bias + 3 * width + width * width, width}};
  layer.heads = heads_;
  layer.sparsity = sparsity_;
  const worker::AttentionShape shape = {
      .sequences = 1,
      .rows = tokens_,
      .width = width,
      .heads = heads_,
      .head_size = head_size_,
      .globals = sparsity_.globals.count(),
      .strip_tokens = strip_tokens > 0 ? strip_tokens : kernels_.attention_strip(width)};
  worker::Carved<worker::AttentionActivations> kept(shape);
  const worker::Carved<worker::AttentionScratch> scratch(shape);
  worker::SingleShard shards;
  worker::SingleContext contexts;
  const worker::Pass pass = {kernels_,          shards, contexts, weights_.span(),
                             gradients_.span(), 1,      true};
  const std::array<index_t, 1> lengths = {tokens_};
  const worker::MicroBatch batch = {1, tokens_, {}, lengths, {}, 0};
  const ConstMatrix x = rows_of(std::as_const(x_), tokens_, width);
  Buffer qkv_gradient(tokens_ * 3 * width);
  const double begin = seconds_now();
  layer.forward(pass, batch, x, kept, scratch, rows_of(out_, tokens_, width));
  layer.backward(pass, batch, kept, x, rows_of(out_gradient_, tokens_, width), scratch,
                 rows_of(qkv_gradient, tokens_, 3 * width), rows_of(x_gradient_, tokens_, width));
  return seconds_now() - begin;
}

double in_fresh_process(const std::function<double()>& function) {
  int ends[2];
  if (pipe(ends) != 0) throw Error("cannot make a pipe to another process");
  const pid_t child = fork();
  if (child < 0) throw Error("cannot start another process");
  double value = 0;
  if (child == 0) {
    try {
      value = function();
      _exit(write(ends[1], &value, sizeof value) == sizeof value ? 0 : 1);
    } catch (const std::exception&) {
      _exit(1);
    }
  }
  close(ends[1]);
  const bool is_whole = read(ends[0], &value, sizeof value) == sizeof value;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!is_whole) throw Error("a process that measures memory has ended early: out of memory?");
  return value;
}

double extra_bytes(index_t tokens, index_t heads, index_t channels, const Sparsity& sparsity) {
  return in_fresh_process([&] {
    AttentionRun first(Dtype::f32, 64, heads, channels);  // its pages of code are no part of it
    first.forward(sparsity);
    first.backward(sparsity);
    AttentionRun run(Dtype::f32, tokens, heads, channels);
    const index_t before = peak_resident_bytes();
    run.forward(sparsity);
    run.backward(sparsity);
    return static_cast<double>(peak_resident_bytes() - before + run.kept_bytes());
  });
}

}  // namespace weir::benchmark
