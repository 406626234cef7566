#include "ps/decide/intake.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::ps {
namespace {

bool all(const List<bool>& flags) { return std::ranges::find(flags, false) == flags.end(); }

}  // namespace

Intake::Intake(const BucketPlan& plan, bool takes_arrivals)
    : plan_(&plan),
      order_(plan),
      squares_(order_.canonical.size()),
      partials_here_(plan.layout().servers, false),
      server_times_(plan.layout().servers),
      reports_here_(plan.layout().replicas * plan.layout().contexts, false),
      reports_(reports_here_.size()) {
  if (takes_arrivals) arrived_.assign(plan.layout().replicas, partials_here_);
}

bool Intake::knows(const Report& report) const {
  const Layout& layout = plan_->layout();
  return 0 <= report.replica && report.replica < layout.replicas && 0 <= report.context &&
         report.context < layout.contexts;
}

void Intake::take(const Report& report) {
  const index_t at = report.replica * plan_->layout().contexts + report.context;
  if (!knows(report) || reports_here_[at] || report.count < 0 || !(report.loss_scale > 0)) {
    throw Error(text("the report of replica ", report.replica, ", context ", report.context,
                     " for step ", report.step, " with ", report.count,
                     " loss terms is a second one or impossible"));
  }
  reports_[at] = report;
  reports_here_[at] = true;
}

void Intake::take(const Arrival& arrival) {
  const index_t server = arrival.server, replica = arrival.replica;
  const bool known =
      0 <= replica && replica < arrived_.size() && 0 <= server && server < partials_here_.size();
  if (!known || arrived_[replica][server]) {
    throw Error(text("server ", server, " says that replica ", replica,
                     " has arrived, which cannot be; are all ranks the same build?"));
  }
  arrived_[replica][server] = true;
}

void Intake::take(const Partials& partials) {
  const index_t server = partials.server;
  const bool known = 0 <= server && server < partials_here_.size() && !partials_here_[server];
  if (!known ||
      order_.server_begin[server] + partials.squares.size() != order_.server_begin[server + 1]) {
    throw Error(text("the ", partials.squares.size(), " partial sums of server ", server,
                     " for update ", partials.update, " come twice or do not fit the plan"));
  }
  std::ranges::copy(partials.squares, squares_.begin() + order_.server_begin[server]);
  partials_here_[server] = true;
  server_times_[server] = partials.time;
}

void Intake::forget(std::span<const index_t> replicas) {
  const index_t contexts = plan_->layout().contexts;
  for (index_t replica : replicas) {
    std::fill_n(reports_here_.begin() + replica * contexts, contexts, false);
    if (!arrived_.empty()) arrived_[replica].assign(partials_here_.size(), false);
  }
}

void Intake::forget_partials() { partials_here_.assign(partials_here_.size(), false); }

bool Intake::all_reports() const { return all(reports_here_); }

bool Intake::all_partials() const { return all(partials_here_); }

bool Intake::whole(index_t replica) const {
  const index_t contexts = plan_->layout().contexts;
  const auto begin = reports_here_.begin() + replica * contexts;
  if (std::find(begin, begin + contexts, false) != begin + contexts) return false;
  const List<bool>& servers = arrived_[replica];
  for (index_t server = 0; server < servers.size(); ++server) {
    const bool owns = order_.server_begin[server] < order_.server_begin[server + 1];
    if (owns && !servers[server]) return false;
  }
  return true;
}

double Intake::total_squares() const {
  double total = 0;
  for (index_t at : order_.canonical) total += squares_[at];
  return total;
}

List<double> Intake::squares_by_parameter() const {
  return sums_by_parameter(*plan_, order_, squares_);
}

}  // namespace weir::ps
