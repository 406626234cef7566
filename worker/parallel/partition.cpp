#include "worker/parallel/partition.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

struct Partition {
  double value;
  std::vector<index_t> first_units;
};

// The cut of least value. `value_with(cost, rest)` is the value of a stage of that cost followed by
// stages of value `rest`; it rises with `rest`, so the best rest is part of the best whole.
template <class ValueWith>
Partition best_partition(const std::vector<double>& cost_before, index_t stages,
                         ValueWith value_with) {
  const auto units = static_cast<index_t>(cost_before.size()) - 1;
  const auto at = [](index_t index) { return static_cast<std::size_t>(index); };
  const auto cost = [&](index_t begin, index_t end) {
    return cost_before[at(end)] - cost_before[at(begin)];
  };
  // [stage][unit]: the best value of stages from `stage` on when `stage` begins at `unit`, and
  // where the next stage begins then.
  const std::vector<double> none(at(units), kImpossible);
  std::vector<std::vector<double>> value(at(stages), none);
  std::vector<std::vector<index_t>> next(at(stages), std::vector<index_t>(at(units), units));
  // The last stage needs a block besides the head.
  for (index_t unit = 0; unit <= units - 2; ++unit) {
    value[at(stages - 1)][at(unit)] = value_with(cost(unit, units), 0);
  }
  for (index_t stage = stages - 2; stage >= 0; --stage) {
    for (index_t unit = 0; unit <= units - 2; ++unit) {
      // Unit 0 is no block: a stage that begins there needs another unit.
      for (index_t end = unit + (unit == 0 ? 2 : 1); end <= units - 2; ++end) {
        const double whole = value_with(cost(unit, end), value[at(stage + 1)][at(end)]);
        if (whole < value[at(stage)][at(unit)]) {
          value[at(stage)][at(unit)] = whole;
          next[at(stage)][at(unit)] = end;
        }
      }
    }
  }
  Partition best{value[0][0], {0}};
  for (index_t stage = 0; stage < stages - 1; ++stage) {
    best.first_units.push_back(next[at(stage)][at(best.first_units.back())]);
  }
  return best;
}

}  // namespace

std::vector<index_t> partition_units(std::span<const double> unit_costs, index_t stages) {
  WEIR_ASSERT(unit_costs.size() >= 3 && stages >= 1);
  const index_t layers = static_cast<index_t>(unit_costs.size()) - 2;
  if (layers < stages) {
    throw UsageError(text("cut of the model into stages: fewer layers than stages (", layers,
                          " layers, ", stages, " stages), and a stage needs at least one; ask for ",
                          layers, " stages or fewer, or for more layers"));
  }
  std::vector<double> cost_before = {0};  // of the units before this one
  for (const double cost : unit_costs) {
    WEIR_ASSERT(std::isfinite(cost) && cost >= 0);
    cost_before.push_back(cost_before.back() + cost);
  }
  const double limit = best_partition(cost_before, stages, [](double cost, double rest) {
                         return std::max(cost, rest);
                       }).value;
  return best_partition(cost_before, stages,
                        [limit](double cost, double rest) {
                          return cost <= limit ? cost * cost + rest : kImpossible;
                        })
      .first_units;
}

}  // namespace weir::worker
