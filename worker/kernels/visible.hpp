#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "common/base/index.hpp"

namespace weir::worker {

/// Positions of the global tokens of a sequence, ascending, each once.
class Globals {
 public:
  /// The first `count` positions, which most models choose.
  Globals(index_t count = 0) : positions_(count) {
    std::iota(positions_.begin(), positions_.end(), index_t{0});
  }
  explicit Globals(std::vector<index_t> positions) : positions_(std::move(positions)) {
    std::ranges::sort(positions_);
    positions_.erase(std::unique(positions_.begin(), positions_.end()), positions_.end());
  }

  std::span<const index_t> positions() const { return positions_; }
  index_t count() const { return std::ssize(positions_); }
  /// How many of them lie before position `end`.
  index_t before(index_t end) const {
    return std::ranges::lower_bound(positions_, end) - positions_.begin();
  }
  /// The first position that is not global.
  index_t first_other() const {
    index_t position = 0;
    while (holds(position)) ++position;
    return position;
  }
  bool holds(index_t position) const { return before(position) < before(position + 1); }

 private:
  std::vector<index_t> positions_;
};

/// How global tokens and the others take part in attention; models/config.hpp says with which
/// projections.
enum class GlobalForm {
  shared,    ///< global tokens use the projections of all
  separate,  ///< global queries have projections of their own; what they see is as in `shared`
  split,     ///< two attentions side by side: local tokens among themselves, global ones over all
};

/// The form of attention. Window: a query sees keys from `left` before it to `right` after it, both
/// inclusive (left 16, right 16: 33 keys).
struct Sparsity {
  index_t left = 64;
  index_t right = 0;
  Globals globals = 4;
  bool causal = true;
  GlobalForm form = GlobalForm::shared;

  /// How many tokens after itself a local query sees: none if causal, whatever `right` says.
  index_t right_reach() const { return causal ? 0 : right; }
};

/// The only definition of which token sees which; kernels, tests and documents follow it.
///
///   visible  <=>  key < length  and, if causal, key <= query
///                 and (query is global, or key is global, or key is inside the window)
///
/// But in the form `split` local queries see no global keys, not even inside the window. So in a
/// causal model the globals are sinks that all later tokens see, while a global query sees what is
/// before it; in a bidirectional one globals see all and are seen by all. length: tokens before
/// padding; padded queries see what others at their place would see. Source: Beltagy et al., arXiv
/// 2004.05150, section 3.1; sinks: Xiao et al., arXiv 2309.17453.
inline bool visible(index_t query, index_t key, index_t length, const Sparsity& sparsity) {
  if (key >= length || (sparsity.causal && key > query)) return false;
  if (sparsity.globals.holds(query)) return true;
  if (sparsity.globals.holds(key)) return sparsity.form != GlobalForm::split;
  return key >= query - sparsity.left && key <= query + sparsity.right;
}

/// visible() for one query as runs of keys: the band [band_begin, band_end) and, outside of it, the
/// global keys before `last`. A global query has all keys before `last` in its band. In the form
/// `split` a local query sees no global keys, neither outside the band nor in it.
struct VisibleKeys {
  index_t band_begin;
  index_t band_end;
  index_t last;
};

inline VisibleKeys visible_keys(index_t query, index_t length, const Sparsity& sparsity) {
  const index_t last = sparsity.causal ? std::min(length, query + 1) : length;
  if (sparsity.globals.holds(query)) return {0, last, last};
  const index_t begin = std::min(last, std::max<index_t>(0, query - sparsity.left));
  const index_t end = std::min(last, query + sparsity.right + 1);
  return {begin, std::max(begin, end), last};
}

/// Keys that a query sees.
inline index_t visible_count(index_t query, index_t length, const Sparsity& sparsity) {
  const VisibleKeys keys = visible_keys(query, length, sparsity);
  const Globals& globals = sparsity.globals;
  const index_t band = keys.band_end - keys.band_begin;
  const index_t inside = globals.before(keys.band_end) - globals.before(keys.band_begin);
  if (globals.holds(query)) return band;
  if (sparsity.form == GlobalForm::split) return band - inside;
  return band + globals.before(keys.last) - inside;
}

}  // namespace weir::worker
