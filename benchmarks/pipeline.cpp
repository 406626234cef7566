// How near do the steps of each schedule come to the time that the schedule allows?
#include <algorithm>
#include <iostream>

#include "benchmarks/bench.hpp"
#include "benchmarks/pipeline_rank.hpp"
#include "common/base/error.hpp"
#include "worker/schedule/schedule_check.hpp"
#include "worker/train/config.hpp"

namespace weir::benchmark {
namespace {

using namespace worker;

/// What the simulation says of a job whose links take no time.
double bound_seconds(const PipelineJob& job) {
  const double seconds =
      static_cast<double>(job.sleep_us) * 1e-6 / static_cast<double>(job.pipeline.chunks_a_stage);
  ScheduleCosts costs;
  costs.chunks = List<ChunkCost>(job.pipeline.chunks(), {seconds, seconds, seconds});
  return check(make_schedule(job.kind, job.pipeline, job.micro_batches), costs).report->makespan_s;
}

void run(const Options& options) {
  Report report("pipeline", "how near do steps come to the time that their schedule allows?",
                options);
  const std::vector<index_t> stage_counts =
      options.quick ? std::vector<index_t>{2} : std::vector<index_t>{2, 4, 8};
  for (const index_t stages : stage_counts) {
    for (const index_t sleep_us : {10000, 1000}) {
      double in_turn_s = 0;  // a step of 1f1b
      double in_turn_bound_s = 0;
      for (const auto& [name, kind] : kScheduleNames) {
        const bool interleaves = kind == ScheduleKind::interleaved;
        const PipelineJob job = {
            .kind = kind,
            .pipeline = {.stages = stages, .chunks_a_stage = interleaves ? 2 : 1},
            .micro_batches = 2 * stages,
            .sleep_us = sleep_us,
            .steps = options.quick ? 2 : (sleep_us < 10000 ? 30 : 10)};
        const std::string of = text(stages, " stages, ", sleep_us / 1000, " ms, ", name);
        std::cerr << "measuring " << of << std::endl;
        Spread step = spread_of(seconds_of_steps(job));
        const double bound_s = bound_seconds(job);
        if (kind == ScheduleKind::one_forward_one_backward) {
          in_turn_s = step.median;
          in_turn_bound_s = bound_s;
        } else {
          const double speed = in_turn_s / step.median;
          report.add({of,
                      "speed",
                      {speed, speed, speed, 1},
                      "x 1f1b",
                      "its bound",
                      in_turn_bound_s / bound_s});
        }
        for (double* each : {&step.low, &step.median, &step.high}) *each *= 1e3;
        report.add({of, "step", step, "ms", "bound", bound_s * 1e3});
      }
    }
  }
  report.remark(
      "stages sleep: forward, input and weight gradient of a micro-batch take 10 ms or 1 ms each; "
      "stage, link and messages of 32 KiB are real; 2 micro-batches a stage, 2 chunks where "
      "interleaved");
  report.remark(
      "bound: the simulated step, without links; a step ends when its last stage is through");
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  if (weir::benchmark::is_pipeline_rank(argument_count, arguments)) {
    return weir::benchmark::run_pipeline_rank(argument_count, arguments);
  }
  return weir::benchmark::run_program("pipeline", argument_count, arguments, weir::benchmark::run);
}
