#pragma once

#include <algorithm>

#include "common/number/index.hpp"

namespace weir::worker {

/// The form of attention. Window: a query sees keys from `left` before it to `right` after it, both
/// inclusive (left 16, right 16: 33 keys). The first `globals` tokens are global.
struct Sparsity {
  index_t left = 64;
  index_t right = 0;
  index_t globals = 4;
  bool causal = true;
};

/// The one definition of who sees whom; kernel, oracle and documents follow it.
///
///   visible  <=>  key < length  and  (|inside the window| or key is global or query is global)
///                 and, if causal, key <= query
///
/// So of a causal model the globals are sinks that all later tokens see, while a global query
/// sees what is before it; of a bidirectional one globals see all and are seen by all.
/// length: tokens before padding; padded queries see what others at their place would see.
/// Source: Beltagy et al., arXiv 2004.05150, section 3.1; sinks: Xiao et al., arXiv 2309.17453.
inline bool visible(index_t query, index_t key, index_t length, const Sparsity& sparsity) {
  if (key >= length) return false;
  if (sparsity.causal && key > query) return false;
  if (key < sparsity.globals || query < sparsity.globals) return true;
  return key >= query - sparsity.left && key <= query + sparsity.right;
}

/// visible() for one query as two runs of keys: globals [0, global_end) and the band
/// [band_begin, band_end), which do not overlap. Keys of a query: both runs together.
struct VisibleKeys {
  index_t global_end;
  index_t band_begin;
  index_t band_end;
};

inline VisibleKeys visible_keys(index_t query, index_t length, const Sparsity& sparsity) {
  const index_t last = sparsity.causal ? std::min(length, query + 1) : length;
  const index_t global_end = std::min(sparsity.globals, last);
  if (query < sparsity.globals) return {global_end, global_end, std::max(global_end, last)};
  const index_t begin = std::max(global_end, query - sparsity.left);
  const index_t end = std::min(last, query + sparsity.right + 1);
  return {global_end, begin, std::max(begin, end)};
}

}  // namespace weir::worker
