#include "ps/update/trust.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"

namespace weir::ps {

Trust::Trust(const BucketPlan& plan, const OptimizerConfig& optimizer)
    : plan_(&plan),
      clips_updates_(optimizer.clips_updates),
      order_(plan),
      weight_squares_(order_.canonical.size()),
      direction_squares_(order_.canonical.size()),
      here_(plan.layout().servers, false) {}

void Trust::on_partials(const DirectionPartials& partials) {
  const index_t server = partials.server;
  const bool known = server >= 0 && server < here_.size() && !here_[server];
  const index_t count = known ? order_.server_begin[server + 1] - order_.server_begin[server] : 0;
  if (!known || partials.weights.size() != count || partials.directions.size() != count) {
    throw Error(text("the partial sums of directions of server ", partials.server, " for update ",
                     partials.update, " come twice or do not fit the plan"));
  }
  const index_t begin = order_.server_begin[server];
  std::ranges::copy(partials.weights, weight_squares_.begin() + begin);
  std::ranges::copy(partials.directions, direction_squares_.begin() + begin);
  here_[server] = true;
}

std::optional<List<double>> Trust::decide() {
  if (std::ranges::find(here_, false) != here_.end()) return std::nullopt;
  here_.assign(here_.size(), false);
  const List<double> weights = sums_by_parameter(*plan_, order_, weight_squares_);
  const List<double> directions = sums_by_parameter(*plan_, order_, direction_squares_);
  List<double> ratios(weights.size(), 1);
  for (index_t parameter = 0; parameter < ratios.size(); ++parameter) {
    const ParameterSpec& spec = plan_->specs()[parameter];
    if (clips_updates_) {
      const double mean = directions[parameter] / static_cast<double>(spec.element_count());
      ratios[parameter] = 1 / std::max(1.0, std::sqrt(mean));
      continue;
    }
    if (spec.shape.size() < 2) continue;
    if (weights[parameter] == 0 || directions[parameter] == 0) continue;
    ratios[parameter] = std::sqrt(weights[parameter]) / std::sqrt(directions[parameter]);
  }
  return ratios;
}

TrustRound::TrustRound(const BucketPlan& plan, index_t server, const OptimizerConfig& optimizer)
    : plan_(&plan), server_(server), has_trust_(has_trust(optimizer)) {
  if (has_trust_ && server == 0) trust_.emplace(plan, optimizer);
}

void TrustRound::begin(const Directive& directive) {
  ratios_.clear();
  made_count_ = 0;
  if (!has_trust_ || directive.replicas.contributors.empty() ||
      directive.rule.skip != SkipReason::none)
    return;
  phase_ = Phase::making;
}

bool TrustRound::poll(Store& store, const Directive& directive) {
  if (phase_ == Phase::making) {
    if (made_count_ < store.buckets().size()) {
      store.make_direction(store.buckets()[made_count_++], directive);
      return true;
    }
    phase_ = Phase::awaiting;
    DirectionPartials partials = {.update = directive.update,
                                  .server = server_,
                                  .weights = store.weight_squares(),
                                  .directions = store.direction_squares()};
    if (trust_) {
      trust_->on_partials(partials);
    } else {
      message_ = std::move(partials);
    }
    return true;
  }
  if (phase_ == Phase::none || !trust_) return false;
  std::optional<List<double>> ratios = trust_->decide();
  if (!ratios) return false;
  ratios_ = std::move(*ratios);
  phase_ = Phase::none;
  message_ = TrustRatios{directive.update, ratios_};
  return true;
}

void TrustRound::on_partials(const DirectionPartials& partials, index_t update) {
  if (!is_on() || partials.update != update) {
    throw Error(text("server 0 received partial sums of directions of update ", partials.update,
                     " while in update ", update, "; are all ranks the same build?"));
  }
  trust_->on_partials(partials);
}

void TrustRound::on_ratios(const TrustRatios& trust, index_t update) {
  if (phase_ != Phase::awaiting || trust.update != update ||
      trust.ratios.size() != plan_->specs().size()) {
    throw Error(text("server ", server_, " received ", trust.ratios.size(),
                     " trust ratios of update ", trust.update, " while in update ", update,
                     "; are all ranks the same build?"));
  }
  ratios_ = trust.ratios;
  phase_ = Phase::none;
}

}  // namespace weir::ps
