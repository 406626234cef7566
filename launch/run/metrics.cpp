#include "launch/run/metrics.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

// A result: if it is not finite, this is news. (nlohmann alone writes null for NaN and infinity.)
void put(Json& line, const std::string& key, double value) {
  if (std::isfinite(value)) {
    line[key] = value;
    return;
  }
  line[key] = nullptr;
  line[key + "_state"] = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

// A measure: NaN means that it is unknown.
void put_if_known(Json& line, const std::string& key, double value) {
  if (std::isnan(value)) {
    line[key] = nullptr;
  } else {
    put(line, key, value);
  }
}

void put(Json& line, const ServerLoad& servers) {
  put_if_known(line, "server_busy_s", servers.busy_seconds);
  put_if_known(line, "server_waited_s", servers.waited_seconds);
  put_if_known(line, "server_busy_imbalance", servers.busy_imbalance);
  put_if_known(line, "server_bytes_imbalance", servers.bytes_imbalance);
}

}  // namespace

std::string name_of(SkipReason reason) {
  switch (reason) {
    case SkipReason::none:
      return "none";
    case SkipReason::not_finite:
      return "not_finite";
    case SkipReason::spike:
      return "spike";
    case SkipReason::rollback:
      return "rollback";
    case SkipReason::overflow:
      return "overflow";
  }
  WEIR_UNREACHABLE();
}

std::string skips_text(const SkipCounts& counts, index_t total) {
  std::string words;
  const auto add = [&](index_t count, const std::string& what) {
    words += text(words.empty() ? "" : ", ", count, ' ', what);
  };
  for (const auto& [reason, count] : counts) {
    add(count, reason == SkipReason::not_finite ? "not finite" : name_of(reason));
    total -= count;
  }
  if (total > 0) add(total, counts.contains(SkipReason::rollback) ? "undone or before" : "before");
  return words;
}

ServerLoad server_load(std::span<const ServerTime> before, std::span<const ServerTime> now,
                       const Layout& layout) {
  ServerLoad load;
  if (layout.placement == Placement::local || now.empty()) return load;
  double all = 0, busy = 0, most = 0;
  for (std::size_t server = 0; server < now.size(); ++server) {
    const ServerTime begin = before.empty() ? ServerTime() : before[server];
    const double its = now[server].busy_seconds - begin.busy_seconds;
    all += now[server].seconds - begin.seconds;
    busy += its;
    most = std::max(most, its);
  }
  const auto count = static_cast<double>(now.size());
  load.busy_seconds = busy / count;
  if (layout.placement == Placement::dedicated) {
    load.waited_seconds = std::max(0.0, all - busy) / count;
  }
  if (now.size() > 1 && busy > 0) load.busy_imbalance = most / load.busy_seconds;
  return load;
}

MetricsFile::MetricsFile(const std::filesystem::path& path, std::vector<std::string> layer_names)
    : layer_names_(std::move(layer_names)), file_(open_for_appending(path)) {}

void MetricsFile::append(const std::string& line) {
  const index_t end = file_.size();
  const std::string bytes = line + '\n';
  try {
    posix_file_system().write(file_, end, std::as_bytes(std::span(bytes)));
  } catch (const Error& error) {
    // A full disk must not end the training. Half a line would spoil the next one, so it is
    // removed.
    if (ftruncate(file_.descriptor(), end) != 0 || lost_count_++ == 0) {
      log_warning(
          text(error.what(), "; metrics are lost until there is room again, training goes on"));
    }
    return;
  }
  if (lost_count_ > 0) {
    log_info(text(file_.path().string(), " goes on; ", lost_count_, " lines were lost"));
  }
  lost_count_ = 0;
}

void MetricsFile::start(index_t step, const Layout& layout, const std::string& version) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const Json line = {{"kind", "start"},
                     {"step", step},
                     {"version", version},
                     {"unix_s", std::chrono::duration_cast<std::chrono::seconds>(now).count()},
                     {"layout",
                      {{"placement", name_of(layout.placement)},
                       {"replicas", layout.replicas},
                       {"stages", layout.stages},
                       {"contexts", layout.contexts},
                       {"shards", layout.shards},
                       {"servers", layout.servers}}}};
  append(line.dump());
}

void MetricsFile::step(const StepMetrics& metrics) {
  const Directive& directive = metrics.directive;
  Json line = {{"kind", "step"},
               {"step", directive.step},
               {"cursor", directive.cursor},
               {"count", directive.observed.count}};
  put(line, "loss", directive.observed.loss);
  put_if_known(line, "bits_per_byte", metrics.bits_per_byte);
  put(line, "norm", directive.observed.norm);
  if (!directive.observed.layer_norms.empty()) {
    Json norms = Json::object();
    for (std::size_t layer = 0; layer < layer_names_.size(); ++layer) {
      put(norms, layer_names_[layer], directive.observed.layer_norms[layer]);
    }
    line["layer_norms"] = norms;
  }
  put(line, "threshold", directive.observed.threshold);
  put(line, "coefficient", directive.observed.coefficient);
  line["clipped"] = directive.observed.clipped;
  line["skip"] = name_of(directive.rule.skip);
  line["skipped_count"] = directive.observed.skipped_count;
  line["contributors"] = directive.replicas.contributors.size();
  line["dropped_count"] = directive.observed.dropped_count;
  line["staleness"] = directive.observed.staleness;
  if (!std::isnan(metrics.loss_scale)) put(line, "loss_scale", metrics.loss_scale);
  put(line, "rate", directive.rule.rate);
  put(line, "tokens_per_s", metrics.tokens_per_second);
  put_if_known(line, "flop_fraction", metrics.flop_fraction);
  line["pushed_bytes"] = metrics.pushed_bytes;
  line["pulled_bytes"] = metrics.pulled_bytes;
  put(line, "step_s", metrics.step_seconds);
  put(line, "waited_s", metrics.waited_seconds);
  put(line, metrics.servers);
  put(line, "elapsed_s", metrics.elapsed_seconds);
  append(line.dump());
}

void MetricsFile::validation(const ValidationMetrics& metrics) {
  Json line = {{"kind", "validation"},
               {"step", metrics.step},
               {"sample_count", metrics.sample_count},
               {"count", metrics.count}};
  put(line, "loss", metrics.loss);
  put_if_known(line, "bits_per_byte", metrics.bits_per_byte);
  put_if_known(line, "accuracy", metrics.accuracy);
  put(line, "validation_s", metrics.seconds);
  put(line, "elapsed_s", metrics.elapsed_seconds);
  append(line.dump());
}

void MetricsFile::summary(const SummaryMetrics& metrics) {
  Json line = {{"kind", "summary"},
               {"step", metrics.step},
               {"skipped_count", metrics.skipped_count},
               {"stopped", metrics.stopped}};
  put(line, "loss", metrics.loss);
  put_if_known(line, "bits_per_byte", metrics.bits_per_byte);
  put_if_known(line, "validation_loss", metrics.validation_loss);
  put_if_known(line, "validation_bits_per_byte", metrics.validation_bits_per_byte);
  put_if_known(line, "validation_accuracy", metrics.validation_accuracy);
  put_if_known(line, "tokens_per_s", metrics.tokens_per_second);
  put_if_known(line, "flop_fraction", metrics.flop_fraction);
  put(line, "elapsed_s", metrics.elapsed_seconds);
  put(line, "compute_s", metrics.compute_seconds);
  put(line, "waited_s", metrics.waited_seconds);
  put(line, metrics.servers);
  put(line, "checkpoint_s", metrics.checkpoint_seconds);
  put(line, "validation_s", metrics.validation_seconds);
  if (!std::isnan(metrics.loss_scale)) put(line, "loss_scale", metrics.loss_scale);
  line["checkpoint_count"] = metrics.checkpoint_count;
  line["peak_memory_bytes"] = metrics.peak_memory_bytes;
  append(line.dump());
}

void MetricsFile::supervision(const SupervisionMetrics& metrics) {
  Json line = {{"kind", "supervision"},
               {"step", metrics.step},
               {"restarts", metrics.restart_count},
               {"steps", metrics.step_count},
               {"lost_steps", metrics.lost_step_count}};
  put(line, "productive_s", metrics.productive_seconds);
  put(line, "wall_s", metrics.wall_seconds);
  append(line.dump());
}

std::string supervision_text(const SupervisionMetrics& metrics) {
  const auto counted = [](index_t count, const char* noun) {
    return text(count, ' ', noun, count == 1 ? "" : "s");
  };
  const double wall = std::max(metrics.wall_seconds, 1e-3);
  std::array<char, 100> times{};
  std::snprintf(times.data(), times.size(), "productive %.1f of %.1f s (ETTR %.2f)",
                metrics.productive_seconds, wall, metrics.productive_seconds / wall);
  return text(counted(metrics.restart_count, "restart"), ", ",
              counted(metrics.lost_step_count, "lost step"), ", ", times.data());
}

}  // namespace weir
