#pragma once

#include "worker/models/transformer/config.hpp"

namespace weir::worker {

/// Floating-point operations of one sample of config.length tokens, forward and backward: matrix
/// products, and attention's products over visible pairs. Global tokens with projections of their
/// own are not among the window's queries: they cost the products of layers/global_branch.hpp,
/// which span the tokens that any of them sees. Norms, softmax and gelu do not count, and work that
/// is done twice counts once: these are the useful FLOPs that rates are made of. A multiply-add
/// counts as two.
double model_flops_a_sample(const ModelConfig& config);

/// Pairs (query, key) with visible(query, key) in a sequence of `length` tokens.
index_t visible_pairs(const Sparsity& sparsity, index_t length);

}  // namespace weir::worker
