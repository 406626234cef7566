#pragma once

#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/update/block_order.hpp"

namespace weir::ps {

/// What server 0 has been told about the update under way: the reports of replicas, their arrivals
/// at the servers, and the servers' partial sums. Whether they are of the present step and update
/// is for the Decider to say.
class Intake {
 public:
  /// `plan` must outlive it. Arrivals are told only where an update does not wait for all replicas.
  Intake(const BucketPlan& plan, bool takes_arrivals);

  /// A replica and a context that the layout has.
  bool knows(const Report& report) const;
  /// Each throws Error for what comes twice or does not fit the plan.
  void take(const Report& report);
  void take(const Arrival& arrival);
  void take(const Partials& partials);
  /// Their next reports and arrivals may come.
  void forget(std::span<const index_t> replicas);
  /// The partial sums of the next update may come.
  void forget_partials();

  bool all_reports() const;
  bool all_partials() const;
  /// All contexts of the replica have reported, and it has arrived at every server that owns
  /// buckets.
  bool whole(index_t replica) const;

  /// The newest report of each replica and context.
  const List<Report>& reports() const { return reports_; }
  /// Each server's, as of its newest partial sums.
  const List<ServerTime>& server_times() const { return server_times_; }
  /// Sums of squares of the gradient, in the order of parameter, slice and block.
  double total_squares() const;
  List<double> squares_by_parameter() const;

 private:
  const BucketPlan* plan_;
  BlockOrder order_;
  List<double> squares_;      ///< partial sums of all servers one after the other, as order_ says
  List<bool> partials_here_;  ///< one flag a server
  List<ServerTime> server_times_;
  List<bool> reports_here_;  ///< one flag a replica and context
  List<Report> reports_;
  List<List<bool>> arrived_;  ///< one flag a replica and server
};

}  // namespace weir::ps
