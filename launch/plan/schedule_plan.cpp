#include "launch/plan/schedule_plan.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/job/share.hpp"
#include "common/net/agree.hpp"
#include "launch/cut.hpp"
#include "launch/report/chart.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/schedule/schedule_picture.hpp"

namespace weir {
namespace {

constexpr int kRounds = 3;

std::string name_of(worker::ScheduleKind kind) {
  return std::ranges::find(worker::kScheduleNames, kind,
                           &std::pair<std::string, worker::ScheduleKind>::second)
      ->first;
}

worker::ScheduleCosts costs_of(const RunConfig& config,
                               const std::vector<worker::UnitCost>& units) {
  const worker::TransformerModel model(config.model);
  const worker::CpuKernels kernels(config.threads, config.products);
  const std::vector<index_t> cuts = first_units(config);
  const auto parts = static_cast<double>(config.layout.contexts * config.layout.shards);
  worker::ScheduleCosts costs;
  for (index_t chunk = 0; chunk < std::ssize(cuts); ++chunk) {
    worker::UnitCost sum;
    const Interval held = units_of_chunk(config, cuts, chunk);
    for (index_t unit = held.begin; unit < held.end; ++unit) sum += units[unit];
    const worker::UnitCost part = sum * (1 / parts);
    const worker::UnitMemory memory = model.memory(chunk_cut(config, cuts, chunk), kernels);
    costs.chunks.push_back({.forward_s = part.forward,
                            .input_gradient_s = part.input_gradient,
                            .weight_gradient_s = part.weight_gradient,
                            .activation_bytes = memory.bytes_an_activation_slot,
                            .gradient_bytes = memory.bytes_a_gradient_slot});
  }
  return costs;
}

/// Activations that a stage keeps at the peak; those of a chunk are a part of one.
double peak_activations(const SchedulePlan& plan) {
  return static_cast<double>(std::ranges::max(plan.report.peak_activations)) /
         static_cast<double>(plan.chunks_a_stage);
}

std::string bubble_text(const worker::ScheduleReport& report) {
  return text(fixed(100 * report.idle_share, 1), " %");
}

std::string milliseconds(double seconds) { return text(fixed(1000 * seconds, 2), " ms"); }

}  // namespace

std::vector<worker::UnitCost> unit_seconds_at(const RunConfig& config, double flops_per_s) {
  std::vector<worker::UnitCost> units =
      unit_flops(worker::TransformerModel(config.model), config.train.recompute);
  const double seconds_a_flop =
      static_cast<double>(config.train.training.micro_batch) / flops_per_s;
  for (worker::UnitCost& unit : units) unit = unit * seconds_a_flop;
  return units;
}

std::vector<worker::UnitCost> measured_unit_seconds(const RunConfig& config) {
  // One block is enough, and its weights fit where those of all would not.
  worker::ModelConfig small = config.model;
  small.layers = 1;
  worker::CpuKernels kernels(config.threads, config.products);
  const std::vector<worker::UnitCost> kinds =
      unit_seconds(worker::TransformerModel(small), kernels, config.train.training.micro_batch,
                   config.train.recompute, kRounds);
  std::vector<worker::UnitCost> units(static_cast<std::size_t>(config.model.layers) + 2, kinds[1]);
  units.front() = kinds.front();
  units.back() = kinds.back();
  return units;
}

SchedulePlan plan_schedule(const RunConfig& config, const std::vector<worker::UnitCost>& units) {
  SchedulePlan plan;
  plan.name = name_of(config.train.schedule);
  plan.chunks_a_stage = pipeline_of(config.train, config.layout).chunks_a_stage;
  const Interval share = share_of(config.train.training.micro_batches(), config.layout.replicas - 1,
                                  config.layout.replicas);
  plan.schedule = schedule_of(config.train, config.layout, share.count());  // none has more
  worker::ScheduleVerdict verdict = worker::check(plan.schedule, costs_of(config, units));
  WEIR_ASSERT(verdict.report.has_value());
  plan.report = std::move(*verdict.report);
  return plan;
}

std::vector<SchedulePlan> plan_schedules(const RunConfig& config,
                                         const std::vector<worker::UnitCost>& units) {
  std::vector<SchedulePlan> plans;
  for (const auto& [name, kind] : worker::kScheduleNames) {
    RunConfig each = config;
    each.train.schedule = kind;
    if (const std::optional<Error> refused = error_of([&] { check(each); })) {
      plans.emplace_back();
      plans.back().name = name;
      plans.back().refused = refused->what();
    } else {
      plans.push_back(plan_schedule(each, units));
    }
  }
  return plans;
}

std::string schedules_text(const std::vector<SchedulePlan>& plans) {
  Table table("lrrrrr",
              {"schedule", "makespan", "bubble", "activations", "their memory", "messages"});
  std::string pictures;
  for (const SchedulePlan& plan : plans) {
    if (!plan.refused.empty()) {
      pictures += text('\n', plan.name, ": ", plan.refused, '\n');
      continue;
    }
    const worker::ScheduleReport& report = plan.report;
    table.add({plan.name, milliseconds(report.makespan_s), bubble_text(report),
               fixed(peak_activations(plan), 2), bytes_text(std::ranges::max(report.slot_bytes)),
               grouped(report.messages)});
    pictures += text('\n', plan.name, '\n', worker::draw(plan.schedule, report));
  }
  return text(
      table.to_text(),
      "  makespan: until the last stage is through; bubble: the share of all stages' time in "
      "which they wait;\n  activations: of a micro-batch on a stage, on the stage that keeps "
      "most of them; their memory: with\n  what weight gradients need, on the stage that "
      "needs most of it; messages: between stages, in a step\n",
      pictures);
}

namespace {

constexpr double kLeft = 70, kRight = 1180, kRow = 20, kBar = 17, kTitle = 34;
constexpr double kLabelFrom = 16;  ///< pixels that a bar needs for its number

std::string place(double pixels) { return fixed(pixels, 2); }

const char* color_of(worker::ActionKind kind) {
  if (kind == worker::ActionKind::forward) return "#1d5fbf";
  return kind == worker::ActionKind::weight_gradient ? "#c2570c" : "#0f7b55";
}

std::string words_at(double x, double y, const char* style, const std::string& words) {
  return text("<text x=\"", place(x), "\" y=\"", place(y), "\" ", style, ">", markup_safe(words),
              "</text>\n");
}

std::string bar(const worker::ComputeSpan& span, double y, double pixels_a_second, index_t stages) {
  const double width = (span.end_s - span.begin_s) * pixels_a_second;
  const double x = kLeft + span.begin_s * pixels_a_second;
  // Later chunks of a stage are paler.
  const double opacity = 1.0 / (1.0 + 0.5 * static_cast<double>(span.action.chunk / stages));
  std::string svg = text(
      "<rect x=\"", place(x), "\" y=\"", place(y), "\" width=\"", place(width), "\" height=\"",
      place(kBar), "\" fill=\"", color_of(span.action.kind), "\" fill-opacity=\"", place(opacity),
      "\" stroke=\"#fff\" stroke-width=\"0.5\"><title>", to_text(span.action), "</title></rect>\n");
  if (width >= kLabelFrom) {
    svg += words_at(x + width / 2, y + 12.5, "text-anchor=\"middle\" fill=\"#fff\"",
                    text(span.action.micro_batch));
  }
  return svg;
}

std::string rows(const SchedulePlan& plan, double top, double pixels_a_second) {
  const worker::ScheduleReport& report = plan.report;
  std::string svg = words_at(kLeft, top - 8, "font-weight=\"bold\"",
                             text(plan.name, ": ", milliseconds(report.makespan_s), ", bubble ",
                                  bubble_text(report), ", ", fixed(peak_activations(plan), 2),
                                  " activations, ", grouped(report.messages), " messages"));
  for (index_t stage = 0; stage < report.spans.size(); ++stage) {
    const double y = top + static_cast<double>(stage) * kRow;
    svg += words_at(kLeft - 8, y + 12.5, "text-anchor=\"end\"", text("stage ", stage));
    svg += text("<rect x=\"", place(kLeft), "\" y=\"", place(y), "\" width=\"",
                place(report.makespan_s * pixels_a_second), "\" height=\"", place(kBar),
                "\" fill=\"#e4e7eb\"/>\n");
    for (const worker::ComputeSpan& span : report.spans[stage]) {
      svg += bar(span, y, pixels_a_second, plan.schedule.stages());
    }
  }
  return svg;
}

}  // namespace

std::string schedules_svg(const std::vector<SchedulePlan>& plans) {
  double longest_s = 0;
  for (const SchedulePlan& plan : plans) longest_s = std::max(longest_s, plan.report.makespan_s);
  const double pixels_a_second = longest_s > 0 ? (kRight - kLeft) / longest_s : 0;
  double top = kTitle + 16;
  std::string svg = words_at(kLeft, 20, "",
                             "blue: forward, green: backward, orange: weight "
                             "gradients made later, grey: waiting");
  for (const SchedulePlan& plan : plans) {
    if (!plan.refused.empty()) continue;
    svg += rows(plan, top, pixels_a_second);
    top += kTitle + kRow * static_cast<double>(plan.report.spans.size());
  }
  return text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1200\" height=\"", place(top),
              "\" viewBox=\"0 0 1200 ", place(top),
              "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"1200\" height=\"",
              place(top), "\" fill=\"#fff\"/>\n", svg, "</svg>\n");
}

}  // namespace weir
