#include "launch/terminal/summary.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace weir {
namespace {

TEST_CASE("the summary says what is unknown and where the time went") {
  SummaryMetrics metrics;
  metrics.step = 4000;
  metrics.skipped_count = 3;
  metrics.skips = {{SkipReason::not_finite, 1}, {SkipReason::spike, 1}};
  metrics.loss = 1.4824;
  metrics.bits_per_byte = 1.4824 / std::log(2.0);
  metrics.validation_loss = 1.5;
  metrics.validation_accuracy = 0.364;
  metrics.tokens_per_second = 41'234;
  metrics.elapsed_seconds = 181;
  metrics.compute_seconds = 170;
  metrics.waited_seconds = 5;
  metrics.checkpoint_count = 3;
  metrics.checkpoint_seconds = 1.5;
  CHECK(summary_table(metrics) ==
        "  steps                  4,000 (3 skipped: 1 not finite, 1 spike, 1 before)\n"
        "  loss                   1.4824 nats, 2.1387 bits per byte\n"
        "  validation loss        1.5000 nats, 36.4 % right\n"
        "  tokens/s               41.2k\n"
        "  of measured GEMM peak  n/a\n"
        "  time                   00:03:01\n"
        "    compute              00:02:50  94 %\n"
        "    waiting for servers  5.00 s  3 %\n"
        "    validation           0.00 s  0 %\n"
        "  checkpoints            3 in 1.50 s of a server\n");
  metrics.servers = {.busy_seconds = 20, .waited_seconds = 60};
  CHECK(summary_table(metrics).find(
            "  servers                busy 20.0 s, waiting 00:01:00 (75 %)\n") !=
        std::string::npos);
  metrics.servers = {.busy_seconds = 20, .busy_imbalance = 1.25, .bytes_imbalance = 1.02};
  CHECK(summary_table(metrics).find(
            "  servers                busy 20.0 s; busiest over mean: time 1.25, bytes 1.02\n") !=
        std::string::npos);
  CHECK(summary_table(metrics).find("loss scale") == std::string::npos);  // in fp16 alone
  metrics.loss_scale = 0x1p-5;
  CHECK(summary_table(metrics).find("  loss scale             2^-5\n") != std::string::npos);
  metrics.stopped = true;
  CHECK(summary_table(metrics).find("4,000 (stopped on request) (3 skipped") != std::string::npos);
}

}  // namespace
}  // namespace weir
