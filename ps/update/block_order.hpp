#pragma once

#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"

namespace weir::ps {

/// The order in which server 0 adds up values that the servers have computed block by block (one
/// double each, as in Store::partials), so that the bits are the same for any number of servers and
/// any bucket size.
///
/// The values of all servers stand one after the other, each server's in its own order; they are
/// added by parameter, slice and block.
struct BlockOrder {
  explicit BlockOrder(const BucketPlan& plan);

  List<index_t> server_begin;  ///< first value of each server, and the end of the last
  List<index_t> canonical;     ///< places of all values, in the order of sums
  List<index_t> parameters;    ///< the parameter of each of these
};

/// The sum of each parameter's values, by its index in the specs.
List<double> sums_by_parameter(const BucketPlan& plan, const BlockOrder& order,
                               std::span<const double> values);

}  // namespace weir::ps
