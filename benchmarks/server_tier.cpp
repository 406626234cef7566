// How near do push, sum, step and pull of all parameters come to the optimizer's step alone?
#include <cstdlib>
#include <fstream>
#include <map>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/server_tier_rank.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"

namespace weir::benchmark {
namespace {

/// What a job wrote, by (what, bucket bytes).
using Seconds = std::map<std::pair<std::string, index_t>, std::vector<double>>;

Seconds run_job(const TierJob& job) {
  const ScratchFolder scratch;
  const std::filesystem::path file = scratch.path() / "seconds";
  const std::string program = std::filesystem::canonical("/proc/self/exe").string();
  const std::string command = command_of(job, program, file);
  if (std::system(command.c_str()) != 0) {
    throw Error(text("the job failed: ", command));
  }
  Seconds seconds;
  std::ifstream lines(file);
  std::string what;
  index_t bytes = 0;
  double value = 0;
  while (lines >> what >> bytes >> value) seconds[{what, bytes}].push_back(value);
  return seconds;
}

std::string size_text(index_t bytes) {
  return bytes < 1 << 20 ? text(bytes >> 10, " KiB") : text(bytes >> 20, " MiB");
}

/// Gigabytes of parameters a second.
Spread rates(const std::vector<double>& seconds, double bytes) {
  std::vector<double> all;
  for (const double each : seconds) all.push_back(bytes / each / 1e9);
  return spread_of(all);
}

void measure(const TierJob& job, Report& report) {
  const Seconds seconds = run_job(job);
  const double bytes = 4 * static_cast<double>(job.elements);
  const auto limit = [&](const char* what) { return seconds.at({what, 0}); };
  const std::string layout = text(job.workers, job.workers == 1 ? " worker + " : " workers + ",
                                  job.servers, job.servers == 1 ? " server" : " servers");
  const auto median = [&](const char* what) { return spread_of(limit(what)).median; };
  for (const char* what : {"memcpy", "add"}) {
    report.add({layout, text(what, ", one core"), rates(limit(what), bytes), "GB/s"});
  }
  report.add({layout, "messages there, in 1 MiB", rates(limit("stream"), bytes), "GB/s"});
  Spread ping = spread_of(limit("ping"));
  for (double* each : {&ping.low, &ping.median, &ping.high}) *each *= 1e6;
  report.add({layout, "8 bytes there and back", ping, "us"});
  report.add({layout, "A: AdamW alone", rates(limit("adamw"), bytes), "GB/s"});
  const double bound_a = median("adamw");
  const double bound_b = bound_a + static_cast<double>(job.workers) /
                                       static_cast<double>(job.servers) * median("stream");
  report.add({layout, "sum, norm and AdamW, no traffic", rates(limit("store"), bytes), "GB/s", "A",
              bytes / bound_a / 1e9});
  for (const char* transport : {"window", "messages"}) {
    const bool is_window = transport == std::string("window");
    const double bound = is_window ? bound_a : bound_b;
    for (const index_t bucket : job.bucket_bytes) {
      report.add({layout, text(transport, ", ", size_text(bucket)),
                  rates(seconds.at({transport, bucket}), bytes), "GB/s", is_window ? "A" : "B",
                  bytes / bound / 1e9});
    }
  }
}

void run(const Options& options) {
  Report report("server_tier",
                "how near do push, sum, step and pull come to the optimizer's step alone?",
                options);
  TierJob job;
  job.elements = index_t{options.quick ? 1 : 25} << 20;
  job.bucket_bytes = {65536, 262144, 524288, 1 << 20, 4 << 20, 32 << 20};
  if (options.quick) job.bucket_bytes = {65536, 1 << 20};
  job.rounds = options.quick ? 1 : 3;
  job.updates = options.quick ? 2 : 7;
  for (const auto& [workers, servers] :
       {std::pair<index_t, index_t>{1, 1}, {1, 2}, {2, 1}, {2, 2}}) {
    job.workers = workers;
    job.servers = servers;
    measure(job, report);
  }
  report.remark(text("GB of parameters a second: ", (job.elements * 4) >> 20,
                     " MiB / the time from the first push to the last pull"));
  report.remark(
      "A: on as many cores as servers, each with its share; B: A and the receiver's copy of each "
      "worker's push");
  report.remark("workers compute nothing: gradients are written before the clock starts");
  if (core_count() < 4) {
    report.remark(text("more ranks than ", core_count(), " cores share them"));
  }
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  if (weir::benchmark::is_tier_rank(argument_count, arguments)) {
    return weir::benchmark::run_tier_rank(argument_count, arguments);
  }
  return weir::benchmark::run_program("server_tier", argument_count, arguments,
                                      weir::benchmark::run);
}
