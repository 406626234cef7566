#pragma once

#include <vector>

#include "common/number/dtype.hpp"
#include "worker/kernels/cpu/product_choice.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::benchmark {

/// FLOP/s of one core that makes nothing but the products of one block of the model, with its
/// weights packed: forward, backward and gradients of weights, for all tokens of a sample. The best
/// of several rounds.
double measured_product_rate(const worker::ModelConfig& model, worker::ProductLibrary library,
                             Dtype dtype, index_t rounds);

/// Sizes of a product a[m, k] b[k, n].
struct ProductShape {
  index_t m, k, n;
};

/// FLOP/s of one core that makes products of these shapes in turn, with b packed and the results in
/// f32: the best turn of about `seconds` seconds.
double measured_product_rate(const std::vector<ProductShape>& shapes,
                             worker::ProductLibrary library, Dtype dtype, double seconds);

}  // namespace weir::benchmark
