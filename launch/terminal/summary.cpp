#include "launch/terminal/summary.hpp"

#include <cmath>

#include "common/base/text.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"

namespace weir {
namespace {

std::string loss_text(double nats, double bits_per_byte, bool diverged) {
  if (diverged && !std::isfinite(nats)) return "not finite";
  std::string words = or_unknown(nats, text(fixed(nats, 4), " nats"));
  if (!std::isnan(bits_per_byte)) words += text(", ", fixed(bits_per_byte, 4), " bits per byte");
  return words;
}

std::string server_text(const ServerLoad& servers) {
  std::string words = text("busy ", seconds_text(servers.busy_seconds));
  if (!std::isnan(servers.waited_seconds)) {
    words += text(", waiting ", seconds_text(servers.waited_seconds), " (",
                  percent(waited_share(servers)), ")");
  }
  if (!std::isnan(servers.busy_imbalance)) {
    words += text("; busiest over mean: time ", fixed(servers.busy_imbalance, 2), ", bytes ",
                  fixed(servers.bytes_imbalance, 2));
  }
  return words;
}

}  // namespace

double waited_share(const ServerLoad& servers) {
  return servers.waited_seconds / (servers.waited_seconds + servers.busy_seconds);
}

Rows summary_rows(const SummaryMetrics& metrics) {
  Rows rows;
  rows.emplace_back("loss", loss_text(metrics.loss, metrics.bits_per_byte, metrics.diverged));
  std::string validation =
      loss_text(metrics.validation_loss, metrics.validation_bits_per_byte, metrics.diverged);
  if (!std::isnan(metrics.validation_accuracy)) {
    validation += text(", ", fixed(100 * metrics.validation_accuracy, 1), " % right");
  }
  rows.emplace_back("validation loss", validation);
  rows.emplace_back("tokens/s",
                    or_unknown(metrics.tokens_per_second, short_count(metrics.tokens_per_second)));
  rows.emplace_back("of measured GEMM peak",
                    or_unknown(metrics.flop_fraction, percent(metrics.flop_fraction)));
  if (!std::isnan(metrics.loss_scale)) {
    rows.emplace_back("loss scale", power_text(metrics.loss_scale));
  }
  const double elapsed = metrics.elapsed_seconds;
  rows.emplace_back("time", or_unknown(elapsed, seconds_text(elapsed)));
  for (const auto& [name, seconds] : {std::pair("  compute", metrics.compute_seconds),
                                      std::pair("  waiting for servers", metrics.waited_seconds),
                                      std::pair("  validation", metrics.validation_seconds)}) {
    if (std::isnan(seconds)) continue;
    const double share = elapsed > 0 ? seconds / elapsed : 0;
    rows.emplace_back(name, text(seconds_text(seconds), "  ", percent(share)));
  }
  if (!std::isnan(metrics.servers.busy_seconds)) {
    rows.emplace_back("servers", server_text(metrics.servers));
  }
  if (!std::isnan(metrics.checkpoint_seconds)) {
    rows.emplace_back("checkpoints",
                      text(metrics.checkpoint_count, " in ",
                           seconds_text(metrics.checkpoint_seconds), " of a server"));
  }
  if (metrics.peak_memory_bytes > 0) {
    rows.emplace_back("most memory of a rank", bytes_text(metrics.peak_memory_bytes));
  }
  return rows;
}

std::string summary_table(const SummaryMetrics& metrics) {
  Table table("ll", {"", ""});
  table.add({"steps", text(grouped(metrics.step), metrics.stopped ? " (stopped on request)" : "",
                           metrics.skipped_count > 0
                               ? text(" (", metrics.skipped_count, " skipped: ",
                                      skips_text(metrics.skips, metrics.skipped_count), ")")
                               : std::string())});
  for (const auto& [name, value] : summary_rows(metrics)) table.add({name, value});
  return table.to_text();
}

}  // namespace weir
