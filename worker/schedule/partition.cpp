#include "worker/schedule/partition.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

struct Partition {
  double value;
  List<index_t> first_units;
};

// Finds the cut of least value. `value_with(cost, rest)` is the value of a stage of that cost
// followed by stages of value `rest`; it rises with `rest`, so the best rest is part of the best
// whole.
template <class ValueWith>
Partition best_partition(const List<double>& cost_before, const List<index_t>& fills_before,
                         index_t stages, ValueWith value_with) {
  const index_t units = cost_before.size() - 1;
  const auto cost = [&](index_t begin, index_t end) {
    return cost_before[end] - cost_before[begin];
  };
  const auto is_stage = [&](index_t begin, index_t end) {
    return fills_before[end] > fills_before[begin];
  };
  // [stage][unit]: the best value of the stages from `stage` on if `stage` begins at `unit`, and
  // where the next stage then begins.
  const List<double> none(units, kImpossible);
  List<List<double>> value(stages, none);
  List<List<index_t>> next(stages, List<index_t>(units, units));
  for (index_t unit = 0; unit < units; ++unit) {
    if (is_stage(unit, units)) value[stages - 1][unit] = value_with(cost(unit, units), 0);
  }
  for (index_t stage = stages - 2; stage >= 0; --stage) {
    for (index_t unit = 0; unit < units; ++unit) {
      for (index_t end = unit + 1; end < units; ++end) {
        if (!is_stage(unit, end)) continue;
        const double whole = value_with(cost(unit, end), value[stage + 1][end]);
        if (whole < value[stage][unit]) {
          value[stage][unit] = whole;
          next[stage][unit] = end;
        }
      }
    }
  }
  Partition best{value[0][0], {0}};
  for (index_t stage = 0; stage < stages - 1; ++stage) {
    best.first_units.push_back(next[stage][best.first_units.back()]);
  }
  return best;
}

}  // namespace

std::vector<index_t> partition_units(std::span<const double> unit_costs,
                                     const std::vector<bool>& fills_a_stage, index_t stages) {
  WEIR_ASSERT(!unit_costs.empty() && unit_costs.size() == fills_a_stage.size() && stages >= 1);
  List<double> cost_before = {0};    // cost of the units before this one
  List<index_t> fills_before = {0};  // how many units before this one fill a stage
  for (std::size_t unit = 0; unit < unit_costs.size(); ++unit) {
    WEIR_ASSERT(std::isfinite(unit_costs[unit]) && unit_costs[unit] >= 0);
    cost_before.push_back(cost_before.back() + unit_costs[unit]);
    fills_before.push_back(fills_before.back() + (fills_a_stage[unit] ? 1 : 0));
  }
  const index_t layers = fills_before.back();
  if (layers < stages) {
    throw UsageError(text("cut of the model into stages: fewer layers than stages (", layers,
                          " layers, ", stages, " stages), and a stage needs at least one; ask for ",
                          layers, " stages or fewer, or for more layers"));
  }
  const double limit =
      best_partition(cost_before, fills_before, stages, [](double cost, double rest) {
        return std::max(cost, rest);
      }).value;
  return best_partition(cost_before, fills_before, stages,
                        [limit](double cost, double rest) {
                          return cost <= limit ? cost * cost + rest : kImpossible;
                        })
      .first_units;
}

}  // namespace weir::worker
