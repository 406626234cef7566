#pragma once

#include <optional>
#include <span>
#include <utility>
#include <variant>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/update/block_order.hpp"
#include "ps/update/optimizer.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// Server 0's second part in an update, only for optimizers with trust ratios. It makes one factor
/// for each parameter's step out of the norms of the weights w and directions u (optimizer.hpp):
///
///   lamb                     |w| / |u|,  1 where either is zero, and 1 for norms and biases
///                            (parameters of one dimension)
///   clip.policy update_rms   1 / max(1, root mean square of u)
///
/// Norms are taken over whole parameters, in the order of BlockOrder: apart from the rounding of
/// the gradients they do not depend on servers, buckets and slices. Parameters of one dimension are
/// left out, as in the authors' code; a bias that begins at zero could hardly ever leave it.
/// Source: You et al., arXiv 1904.00962, algorithm 2, with the identity for phi.
class Trust {
 public:
  /// `plan` must outlive it. Requires has_trust(optimizer).
  Trust(const BucketPlan& plan, const OptimizerConfig& optimizer);

  /// Throws Error if they come twice or do not fit the plan.
  void on_partials(const DirectionPartials& partials);
  /// The ratios by parameter, once all servers' partials are there; the next ones may then come.
  std::optional<List<double>> decide();

 private:
  const BucketPlan* plan_;
  bool clips_updates_;
  BlockOrder order_;
  List<double> weight_squares_, direction_squares_;  ///< as in BlockOrder
  List<bool> here_;                                  ///< one flag a server
};

/// One server's part in this round, between the directive of an update and its steps:
///
///   begin -> a bucket's directions a poll … -> DirectionPartials -> TrustRatios -> steps
class TrustRound {
 public:
  using Message = std::variant<DirectionPartials, TrustRatios>;

  /// Does nothing unless has_trust(optimizer). `plan` must outlive it.
  TrustRound(const BucketPlan& plan, index_t server, const OptimizerConfig& optimizer);

  /// Begins the round of an update; to be called for each directive. Nothing may be stepped until
  /// the round is over.
  void begin(const Directive& directive);
  bool is_on() const { return phase_ != Phase::none; }
  /// Does one piece of work; true if there was any.
  bool poll(Store& store, const Directive& directive);
  /// The message that poll() has made: from server 0 for the others, or from another server for
  /// server 0.
  std::optional<Message> take_message() { return std::exchange(message_, std::nullopt); }
  /// Both throw Error for a message that comes out of order.
  void on_partials(const DirectionPartials& partials, index_t update);  ///< server 0
  void on_ratios(const TrustRatios& trust, index_t update);             ///< other servers
  /// The ratios of the newest update, one a parameter; empty without a round.
  const List<double>& ratios() const { return ratios_; }

 private:
  enum class Phase { none, making, awaiting };

  const BucketPlan* plan_;
  index_t server_;
  bool has_trust_;
  std::optional<Trust> trust_;  ///< on server 0 alone
  Phase phase_ = Phase::none;
  index_t made_count_ = 0;  ///< buckets
  List<double> ratios_;
  std::optional<Message> message_;
};

}  // namespace weir::ps
