#include "launch/report/schedule_comparison.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "common/base/error.hpp"
#include "common/number/median.hpp"
#include "launch/terminal/quantities.hpp"
#include "worker/schedule/schedule_check.hpp"
#include "worker/train/config.hpp"

namespace weir {
namespace {

using worker::Action;
using worker::ActionKind;
using worker::Schedule;

bool computes(const std::string& name) {
  constexpr std::array kKinds = {ActionKind::forward, ActionKind::backward,
                                 ActionKind::input_gradient, ActionKind::weight_gradient};
  return std::ranges::any_of(kKinds, [&](ActionKind kind) { return name == name_of(kind); });
}

/// The computing actions of one step of one pipeline, by stage.
using StepActions = std::map<index_t, std::vector<const TracedAction*>>;
/// The steps of each pipeline: replica, context, shard.
using Pipelines = std::map<std::tuple<index_t, index_t, index_t>, std::map<index_t, StepActions>>;

Pipelines pipelines_of(const std::vector<TracedWorker>& workers) {
  Pipelines pipelines;
  for (const TracedWorker& worker : workers) {
    const WorkerPlace& place = worker.place;
    auto& steps = pipelines[{place.replica, place.context, place.shard}];
    for (const TracedAction& action : worker.actions) {
      if (computes(action.name)) steps[action.step][place.stage].push_back(&action);
    }
  }
  for (auto& [place, steps] : pipelines) {
    if (!steps.empty()) steps.erase(steps.begin());
  }
  return pipelines;
}

/// Whether the stages did what the schedule lists, each in its order.
bool is_whole(const StepActions& actions, const Schedule& schedule) {
  for (index_t stage = 0; stage < schedule.stages(); ++stage) {
    const auto found = actions.find(stage);
    if (found == actions.end()) return false;
    auto done = found->second.begin();
    for (const Action& planned : schedule.actions[stage]) {
      if (!computes(name_of(planned.kind))) continue;
      if (done == found->second.end() || (*done)->name != name_of(planned.kind) ||
          (*done)->chunk != planned.chunk || (*done)->micro_batch != planned.micro_batch) {
        return false;
      }
      ++done;
    }
    if (done != found->second.end()) return false;
  }
  return true;
}

/// The micro-batches of the newest step of any pipeline.
index_t micro_batches_of(const Pipelines& pipelines) {
  index_t count = 0;
  for (const auto& [place, steps] : pipelines) {
    if (steps.empty()) continue;
    for (const auto& [stage, actions] : steps.rbegin()->second) {
      for (const TracedAction* action : actions) count = std::max(count, action->micro_batch + 1);
    }
  }
  return count;
}

ScheduleComparison::Step step_of(const StepActions& actions) {
  double begin_s = actions.begin()->second.front()->begin_s, end_s = begin_s, busy_s = 0;
  for (const auto& [stage, list] : actions) {
    for (const TracedAction* action : list) {
      begin_s = std::min(begin_s, action->begin_s);
      end_s = std::max(end_s, action->end_s);
      busy_s += action->seconds();
    }
  }
  const double makespan_s = end_s - begin_s;
  return {.makespan_s = makespan_s,
          .idle_share = 1 - busy_s / (static_cast<double>(actions.size()) * makespan_s)};
}

/// Seconds of each computing action of each chunk.
using Times = std::map<std::pair<index_t, std::string>, std::vector<double>>;

ScheduleComparison::Step planned_of(const Schedule& schedule, const Times& times) {
  const auto seconds = [&](index_t chunk, ActionKind kind) {
    const auto found = times.find({chunk, name_of(kind)});
    return found == times.end() ? 0 : median(found->second);
  };
  worker::ScheduleCosts costs;
  for (index_t chunk = 0; chunk < schedule.chunks(); ++chunk) {
    // Either backward is in halves, or it is whole: the sum counts.
    costs.chunks.push_back({.forward_s = seconds(chunk, ActionKind::forward),
                            .input_gradient_s = seconds(chunk, ActionKind::backward) +
                                                seconds(chunk, ActionKind::input_gradient),
                            .weight_gradient_s = seconds(chunk, ActionKind::weight_gradient)});
  }
  const worker::ScheduleVerdict verdict = worker::check(schedule, costs);
  WEIR_ASSERT(verdict.report.has_value());
  return {.makespan_s = verdict.report->makespan_s, .idle_share = verdict.report->idle_share};
}

std::string milliseconds(double seconds) { return text(fixed(1e3 * seconds, 3), " ms"); }

}  // namespace

ScheduleComparison compare_schedule(const std::vector<TracedWorker>& workers,
                                    const RunConfig& config) {
  const Pipelines pipelines = pipelines_of(workers);
  ScheduleComparison found;
  found.micro_batches = micro_batches_of(pipelines);
  if (found.micro_batches < 1 || found.micro_batches > worker::kMicroBatchesMax) {
    throw Error("the trace holds no second step");
  }
  const Schedule schedule = worker::schedule_of(config.train, config.layout, found.micro_batches);
  Times times;
  std::vector<double> makespans, idle_shares;
  for (const auto& [place, steps] : pipelines) {
    const index_t before = found.step_count;
    for (const auto& [step, actions] : steps) {
      if (!is_whole(actions, schedule)) continue;
      ++found.step_count;
      const ScheduleComparison::Step real = step_of(actions);
      makespans.push_back(real.makespan_s);
      idle_shares.push_back(real.idle_share);
      for (const auto& [stage, list] : actions) {
        for (const TracedAction* action : list) {
          times[{action->chunk, action->name}].push_back(action->seconds());
        }
      }
    }
    if (found.step_count > before) ++found.pipeline_count;
  }
  if (found.step_count == 0) {
    throw Error("no step of the trace is whole and follows the schedule of config.ini");
  }
  found.real = {.makespan_s = median(makespans), .idle_share = median(idle_shares)};
  found.planned = planned_of(schedule, times);
  for (auto& [key, seconds] : times) {
    found.times.push_back({.action = key.second, .chunk = key.first, .seconds = median(seconds)});
  }
  return found;
}

Rows schedule_rows(const fs::path& run) {
  const fs::path settings = run / "config.ini";
  RunConfig config;
  Rows rows;
  try {
    if (!path_exists(settings)) return {};
    parse_options(options(config), settings.string(), {}, {});
    if (config.trace.empty()) return {};
    rows.emplace_back("trace", config.trace);
    const ScheduleComparison found = compare_schedule(read_trace(config.trace), config);
    rows.emplace_back("compared",
                      text("steps: ", found.step_count, "; pipelines: ", found.pipeline_count,
                           "; micro-batches of a step: ", found.micro_batches));
    const auto both = [&](const char* name, const auto& words) {
      rows.emplace_back(name, text("planned ", words(found.planned), ", real ", words(found.real)));
    };
    both("a step takes", [](const auto& step) { return milliseconds(step.makespan_s); });
    both("of it stages are idle", [](const auto& step) { return percent(step.idle_share); });
    for (const auto& [action, chunk, seconds] : found.times) {
      rows.emplace_back(text(action, " of chunk ", chunk), milliseconds(seconds));
    }
  } catch (const Error& error) {
    if (!config.trace.empty()) rows.emplace_back("no comparison", error.what());
  }
  return rows;
}

}  // namespace weir
