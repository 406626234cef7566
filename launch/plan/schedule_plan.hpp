#pragma once

#include <string>
#include <vector>

#include "launch/run_config.hpp"
#include "worker/models/model.hpp"
#include "worker/schedule/schedule_check.hpp"

namespace weir {

/// A schedule of a job's replicas, how long its step takes and what it holds.
struct SchedulePlan {
  std::string name;  ///< as --schedule says it
  std::string
      refused;  ///< why this job cannot have it; empty if it can, and then there is the rest
  index_t chunks_a_stage = 1;
  worker::Schedule schedule;
  worker::ScheduleReport report;
};

/// Seconds of each unit for a micro-batch of a whole model, if a rank computes at this rate.
std::vector<worker::UnitCost> unit_seconds_at(const RunConfig& config, double flops_per_s);
/// The same, measured here: the least of three rounds on zeros. The blocks are measured once.
std::vector<worker::UnitCost> measured_unit_seconds(const RunConfig& config);

/// The schedule that the job has, and all that it could have. Links take no time. Contexts and
/// shards share the work evenly.
SchedulePlan plan_schedule(const RunConfig& config, const std::vector<worker::UnitCost>& units);
std::vector<SchedulePlan> plan_schedules(const RunConfig& config,
                                         const std::vector<worker::UnitCost>& units);

/// A table with a row a schedule, and a picture of each.
std::string schedules_text(const std::vector<SchedulePlan>& plans);
/// The pictures as an SVG document, on one scale of time.
std::string schedules_svg(const std::vector<SchedulePlan>& plans);

}  // namespace weir
