#pragma once

#include <array>
#include <functional>

#include "benchmarks/product_rates.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::benchmark {

/// What attention must do at least, however it is done.
struct AttentionWork {
  double forward_flops = 0;  ///< 4 of the 14 C FLOPs of a visible pair and head
  double both_flops = 0;
  double forward_bytes =
      0;  ///< to and from memory; what is written counts twice: it is fetched first
  double both_bytes = 0;
};

/// The work of H heads of C features over N tokens, whose queries, keys, values, output and their
/// gradients have this dtype. Sums are f32.
AttentionWork work_of(Dtype dtype, index_t tokens, index_t heads, index_t channels,
                      const worker::Sparsity& sparsity);

/// The products of attention as a library would make them for a block of queries of one head, with
/// as many keys as a window of 64 on each side has: scores, the sum of values, and the gradient of
/// keys. A window of 256 passes its keys in chunks of that size.
std::vector<ProductShape> block_products(index_t channels);

/// What this processor has for products of bf16, and what attention makes of it: for people.
std::string bf16_products();

/// Operands of weir's attention kernels: one bidirectional sequence of N tokens, H heads of C
/// features, on huge pages as in training. One thread.
class AttentionRun {
 public:
  AttentionRun(Dtype dtype, index_t tokens, index_t heads, index_t channels);

  /// The whole sequence in one call. Global tokens, at the front, have the shared projections.
  void forward(const worker::Sparsity& sparsity);
  /// After a forward with the same sparsity.
  void backward(const worker::Sparsity& sparsity);
  /// Bytes of the sums that forward keeps for backward, which are neither input nor result.
  index_t kept_bytes() const { return log_sum_.size() * index_t{sizeof(float)}; }

 private:
  worker::AttentionInput input(const worker::Sparsity& sparsity) const;
  worker::AttentionStrip strip() const { return {0, 1, {0, tokens_}}; }

  Memory elements(index_t count) const { return {count, bytes_of(dtype_)}; }
  Matrix rows(const Memory& memory, index_t count, index_t columns) const {
    return {memory.elements(dtype_), count, columns};
  }

  Dtype dtype_;
  index_t tokens_, heads_, channels_;
  std::array<index_t, 1> lengths_;
  Memory qkv_, out_, out_gradient_, qkv_gradient_, globals_, global_out_;  ///< elements of dtype_
  Buffer log_sum_, part_, global_log_sum_, globals_gradient_;
  worker::CpuKernels kernels_;
};

/// Seconds of forward and backward of an AttentionLayer of width heads * head_size over one
/// sequence of N tokens in f32, without the gradients of its weights, which no strip changes.
/// strip_tokens: 0 for the layer's own choice.
class LayerRun {
 public:
  LayerRun(index_t tokens, index_t heads, index_t head_size, worker::Sparsity sparsity);
  double seconds(index_t strip_tokens);

 private:
  index_t tokens_, heads_, head_size_;
  worker::Sparsity sparsity_;
  Buffer weights_, gradients_, x_, out_, out_gradient_, x_gradient_;
  worker::CpuKernels kernels_;
};

/// What the function returns, run in a copy of this process. Throws Error if that ends early.
double in_fresh_process(const std::function<double()>& function);

/// Bytes that forward and backward in f32 take beyond inputs and results: by how much the peak of a
/// fresh process's resident memory rises, and what forward keeps for backward.
double extra_bytes(index_t tokens, index_t heads, index_t channels,
                   const worker::Sparsity& sparsity);

}  // namespace weir::benchmark
