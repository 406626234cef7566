#include "ps/decide/clocks.hpp"

#include <algorithm>
#include <limits>

#include "common/base/error.hpp"
#include "common/number/median.hpp"

namespace weir::ps {
namespace {

/// The number of steps whose median is taken.
constexpr std::size_t kDurations = 31;

const std::vector<std::pair<std::string, Consistency>> kModeNames = {{"bsp", Consistency::bsp},
                                                                     {"ssp", Consistency::ssp},
                                                                     {"asp", Consistency::asp},
                                                                     {"local", Consistency::local}};

}  // namespace

std::vector<Option> options(ConsistencyConfig& config) {
  return {
      {"consistency", "",
       "which replicas an update waits for. bsp: all of them; ssp: one, but no replica gets more "
       "than `staleness` steps ahead of the slowest; asp: one, with no bound; local: all of them, "
       "after --local.steps steps that each makes on its own",
       choice(config.mode, kModeNames)},
      {"staleness",
       "steps",
       "ssp: a replica waits while the slowest is further behind than this",
       &config.staleness,
       {0, 1e9}},
      {"backup",
       "replicas",
       "bsp: a step may leave out this many late replicas; a later step uses their samples",
       &config.backup,
       {0, 1e9}},
      {"grace",
       "",
       "bsp with --backup: how long a step waits for late replicas, and how long after its begin a "
       "late one may still join it, both as a share of the median step",
       &config.grace,
       {0, 100}},
  };
}

std::string name_of(Consistency mode) {
  return std::ranges::find(kModeNames, mode, &std::pair<std::string, Consistency>::second)->first;
}

void check(const ConsistencyConfig& config, index_t replicas) {
  const bool alone = !updates_together(config.mode);
  if (config.backup > 0 && alone) {
    throw UsageError(
        "--backup leaves replicas out of a step, and only --consistency bsp and local have steps "
        "of all replicas; take one of them, or --backup 0");
  }
  if (config.backup >= replicas) {
    throw UsageError(text("--backup ", config.backup, " with ", replicas, " replica",
                          replicas == 1 ? "" : "s", " would leave none for a step; take at most ",
                          replicas - 1));
  }
}

Clocks::Clocks(const ConsistencyConfig& config, index_t replicas, Meets meets)
    : config_(config), meets_(std::move(meets)), clocks_(replicas) {}

void Clocks::begin(index_t step, index_t update) {
  for (Clock& each : clocks_) each = {.step = step, .pulled = update};
  arrivals_.clear();
  open_step_ = step + 1;
  update_ = update;
}

index_t Clocks::slowest() const { return std::ranges::min(clocks_, {}, &Clock::step).step; }

index_t Clocks::farthest() const {
  index_t step = 0;
  for (const Clock& each : clocks_) {
    step = std::max(step, each.step + (each.state == State::waiting ? 0 : 1));
  }
  return updates_together(config_.mode) ? std::max(step, open_step_) : step;
}

template <class Holds>
List<index_t> Clocks::those(const Holds& holds) const {
  List<index_t> found;
  for (index_t replica = 0; replica < replicas(); ++replica) {
    if (holds(clock(replica))) found.push_back(replica);
  }
  return found;
}

void Clocks::arrived(index_t replica, double now) {
  WEIR_ASSERT(clock(replica).state == State::working);
  clock(replica).state = State::arrived;
  clock(replica).arrived_at = now;
  arrivals_.push_back(replica);
  const auto in_time = std::ranges::count_if(
      arrivals_, [&](index_t each) { return clock(each).step + 1 == open_step_; });
  if (clock(replica).step + 1 == open_step_ && in_time == replicas() - config_.backup) {
    quorum_at_ = now;
  }
}

std::optional<double> Clocks::grace() const {
  if (step_durations_.empty()) return std::nullopt;
  return config_.grace * median({step_durations_.begin(), step_durations_.end()});
}

List<index_t> Clocks::to_drop() const {
  List<index_t> late = those([&](const Clock& each) {
    return each.state == State::arrived && each.step + 1 < open_step_;
  });
  if (late.empty()) return late;
  // A replica may wait for the next close only if the close does not need it.
  const bool closes = std::ranges::count_if(clocks_, [&](const Clock& each) {
                        return each.step + 1 == open_step_ && each.state != State::waiting;
                      }) >= replicas() - config_.backup;
  const std::optional<double> grace = this->grace();
  if (!closes || !grace) return late;
  erase_if(late, [&](index_t each) { return clock(each).arrived_at - let_go_at_ > *grace; });
  return late;
}

std::optional<Decision> Clocks::due(double now) const {
  if (arrivals_.empty()) return std::nullopt;
  if (!updates_together(config_.mode)) {
    return Decision{Decision::Kind::close, {arrivals_.front()}};
  }
  if (const List<index_t> late = to_drop(); !late.empty()) {
    return Decision{Decision::Kind::drop, late};
  }
  const auto of_open_step = [&](State state) {
    return those(
        [&](const Clock& each) { return each.state == state && each.step + 1 == open_step_; });
  };
  const List<index_t> in_time = of_open_step(State::arrived);
  if (in_time.size() < replicas() - config_.backup) return std::nullopt;
  // The first step leaves no replica out, because there is no median step yet.
  const std::optional<double> grace = this->grace();
  const bool all = in_time.size() == replicas();
  const bool in_vain = grace && of_open_step(State::working).empty();
  if (!all && !in_vain && !(grace && now - quorum_at_ >= *grace)) return std::nullopt;
  return Decision{Decision::Kind::close, in_time};
}

std::optional<Decision> Clocks::due_by_script() const {
  const Decision& wanted = script_.front();
  for (index_t replica : wanted.replicas) {
    if (replica < 0 || replica >= replicas()) {
      throw Error(
          text("the decisions to replay name replica ", replica, ", there are ", replicas()));
    }
    const Clock& of = clock(replica);
    const bool late = updates_together(config_.mode) && of.step + 1 < open_step_;
    if (late != (wanted.kind == Decision::Kind::drop) || of.state == State::waiting) {
      throw Error(text("the decisions to replay want replica ", replica, " in update ", update_ + 1,
                       ", but it has done ", of.step, " steps",
                       of.state == State::waiting ? " and waits" : "",
                       "; are they of a run with the same settings?"));
    }
    if (of.state == State::working) return std::nullopt;  // it will come
  }
  return wanted;
}

std::optional<Decision> Clocks::next(double now) {
  const std::optional<Decision> decision = script_.empty() ? due(now) : due_by_script();
  if (!decision) return std::nullopt;
  if (!script_.empty()) script_.pop_front();
  carry_out(*decision, now);
  return decision;
}

void Clocks::carry_out(const Decision& decision, double now) {
  const bool closes = decision.kind == Decision::Kind::close;
  for (index_t replica : decision.replicas) {
    Clock& of = clock(replica);
    of.state = State::waiting;
    of.step = updates_together(config_.mode) ? of.step : of.step + 1;
    of.staleness = update_ - of.pulled;
    std::erase(arrivals_, replica);
  }
  if (closes) ++update_;
  if (!updates_together(config_.mode)) return;
  if (closes) {
    ++open_step_;
    if (step_began_at_ > 0) step_durations_.push_back(now - step_began_at_);
    if (step_durations_.size() > kDurations) step_durations_.pop_front();
    step_began_at_ = now;
  }
  // A replica that waits has nothing left to do in the steps that are closed.
  for (Clock& each : clocks_) {
    if (each.state == State::waiting) each.step = open_step_ - 1;
  }
}

List<index_t> Clocks::release(double now) {
  const index_t slowest = this->slowest();
  const auto waiting = [](const Clock& each) { return each.state == State::waiting; };
  const List<index_t> released = those([&](const Clock& each) {
    if (!waiting(each)) return false;
    if (meets_(each.step)) return slowest == each.step && std::ranges::all_of(clocks_, waiting);
    return config_.mode != Consistency::ssp || each.step - slowest <= config_.staleness;
  });
  for (index_t replica : released) {
    clock(replica).state = State::working;
    clock(replica).pulled = update_;
  }
  if (!released.empty() && let_go_step_ != open_step_) {
    let_go_step_ = open_step_;
    let_go_at_ = now;
  }
  return released;
}

}  // namespace weir::ps
