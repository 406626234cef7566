#pragma once

#include <optional>
#include <span>
#include <vector>

#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/block_order.hpp"

namespace weir::ps {

/// Server 0's second part in an update, of optimizers with trust ratios alone: out of the norms of
/// all weights w and directions u (optimizer.hpp), one factor for each parameter's step:
///
///   |w| / |u|,  1 where either is zero, and 1 for norms and biases (parameters of one dimension)
///
/// Norms are taken over whole parameters, in the order of BlockOrder: they know nothing of servers,
/// buckets and slices but the rounding of the gradients. Norms and biases are left out as the
/// authors' code does; a bias that begins at zero could hardly ever leave it. Source: You et al.,
/// arXiv 1904.00962, algorithm 2, with the identity for phi.
class Trust {
 public:
  /// `plan` must outlive it.
  explicit Trust(const BucketPlan& plan);

  /// Throws Error if they come twice or do not fit the plan.
  void on_partials(const DirectionPartials& partials);
  /// The ratios by parameter, once all servers' partials are there; the next ones may then come.
  std::optional<std::vector<double>> decide();

 private:
  const BucketPlan* plan_;
  BlockOrder order_;
  std::vector<double> weight_squares_, direction_squares_;  ///< as in BlockOrder
  std::vector<bool> here_;                                  ///< by server
};

}  // namespace weir::ps
