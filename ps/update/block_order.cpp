#include "ps/update/block_order.hpp"

#include <algorithm>
#include <tuple>

#include "common/base/error.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

BlockOrder::BlockOrder(const BucketPlan& plan) {
  struct Place {
    index_t parameter, begin;
    index_t at;
  };
  List<Place> places;
  for (index_t server = 0; server < plan.layout().servers; ++server) {
    server_begin.push_back(places.size());
    for (index_t bucket : plan.buckets_of(server)) {
      for (const Block& block : blocks_of(plan.buckets()[bucket])) {
        places.push_back({block.parameter, block.begin, places.size()});
      }
    }
  }
  server_begin.push_back(places.size());
  // Slices are ascending ranges of the parameter, and blocks are ascending ranges of their slice.
  std::ranges::sort(places, {},
                    [](const Place& place) { return std::tuple(place.parameter, place.begin); });
  for (const Place& place : places) {
    canonical.push_back(place.at);
    parameters.push_back(place.parameter);
  }
}

List<double> sums_by_parameter(const BucketPlan& plan, const BlockOrder& order,
                               std::span<const double> values) {
  WEIR_ASSERT(std::ssize(values) == order.canonical.size());
  List<double> sums(plan.specs().size(), 0);
  for (index_t i = 0; i < order.canonical.size(); ++i) {
    sums[order.parameters[i]] += values[order.canonical[i]];
  }
  return sums;
}

}  // namespace weir::ps
