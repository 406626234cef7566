#pragma once

#include "common/number/dtype.hpp"
#include "worker/kernels/cpu/product_choice.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::benchmark {

/// FLOP/s of one core that makes nothing but the products of one block of the model, with its
/// weights packed: forward, backward and gradients of weights, for all tokens of a sample. The best
/// of several rounds.
double measured_product_rate(const worker::ModelConfig& model, worker::ProductLibrary library,
                             Dtype dtype, index_t rounds);

}  // namespace weir::benchmark
