#include "ps/trust.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"

namespace weir::ps {

Trust::Trust(const BucketPlan& plan)
    : plan_(&plan),
      order_(plan),
      weight_squares_(order_.canonical.size()),
      direction_squares_(order_.canonical.size()),
      here_(static_cast<std::size_t>(plan.layout().servers), false) {}

void Trust::on_partials(const DirectionPartials& partials) {
  const auto server = static_cast<std::size_t>(partials.server);
  const bool known = server < here_.size() && !here_[server];
  const std::size_t count =
      known ? order_.server_begin[server + 1] - order_.server_begin[server] : 0;
  if (!known || partials.weights.size() != count || partials.directions.size() != count) {
    throw Error(text("the partial sums of directions of server ", partials.server, " for update ",
                     partials.update, " come twice or do not fit the plan"));
  }
  const auto begin = static_cast<std::ptrdiff_t>(order_.server_begin[server]);
  std::ranges::copy(partials.weights, weight_squares_.begin() + begin);
  std::ranges::copy(partials.directions, direction_squares_.begin() + begin);
  here_[server] = true;
}

std::optional<std::vector<double>> Trust::decide() {
  if (std::ranges::find(here_, false) != here_.end()) return std::nullopt;
  here_.assign(here_.size(), false);
  const std::vector<double> weights = sums_by_parameter(*plan_, order_, weight_squares_);
  const std::vector<double> directions = sums_by_parameter(*plan_, order_, direction_squares_);
  std::vector<double> ratios(weights.size(), 1);
  for (std::size_t parameter = 0; parameter < ratios.size(); ++parameter) {
    if (plan_->specs()[parameter].shape.size() < 2) continue;
    if (weights[parameter] == 0 || directions[parameter] == 0) continue;
    ratios[parameter] = std::sqrt(weights[parameter]) / std::sqrt(directions[parameter]);
  }
  return ratios;
}

}  // namespace weir::ps
