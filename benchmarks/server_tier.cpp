// How near do push, sum, step and pull of all parameters come to the optimizer's step alone?
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/ps_lite_peer.hpp"
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

std::string layout_text(const TierJob& job) {
  if (job.servers == 0) return text(job.workers, " colocated");
  return text(job.workers, job.workers == 1 ? " worker + " : " workers + ", job.servers,
              job.servers == 1 ? " server" : " servers");
}

/// What a job measured, as rows of the report.
class Rows {
 public:
  Rows(const TierJob& job, Report& report)
      : job_(job),
        report_(report),
        layout_(layout_text(job)),
        bytes_(4 * static_cast<double>(job.elements)),
        seconds_(run_job(job)) {}

  double median(const std::string& what, index_t bucket = 0) const {
    return spread_of(seconds_.at({what, bucket})).median;
  }
  void add_rate(const std::string& metric, const std::string& what, index_t bucket = 0,
                const std::string& bound = "", double bound_seconds = 0) {
    const Spread rate = rates(seconds_.at({what, bucket}), bytes_);
    if (bound.empty()) {
      report_.add({layout_, metric, rate, "GB/s"});
    } else {
      report_.add({layout_, metric, rate, "GB/s", bound, bytes_ / bound_seconds / 1e9});
    }
  }
  /// Adds a time in units of 1 / scale seconds.
  void add_time(const std::string& metric, const std::string& what, index_t bucket, double scale,
                const char* unit) {
    Spread time = spread_of(seconds_.at({what, bucket}));
    for (double* each : {&time.low, &time.median, &time.high}) *each *= scale;
    report_.add({layout_, metric, time, unit});
  }

  void add_all() {
    for (const char* what : {"memcpy", "add"}) add_rate(text(what, ", one core"), what);
    add_rate("messages there, in 1 MiB", "stream");
    add_time("8 bytes there and back", "ping", 0, 1e6, "us");
    add_rate("A: AdamW alone", "adamw");
    add_rate("A, on a machine at rest", "adamw-rested");
    const double bound_a = median("adamw");
    add_rate("sum, norm and AdamW, no traffic", "store", 0, "A", bound_a);
    const index_t servers = job_.servers == 0 ? job_.workers : job_.servers;
    const double remote = static_cast<double>(job_.workers - (job_.servers == 0 ? 1 : 0)) /
                          static_cast<double>(servers);
    for (const char* transport : {"window", "messages"}) {
      const bool by_window = transport == std::string("window");
      const double copy = by_window ? 0 : remote * median("stream");
      const char* name = by_window ? "A" : "B";
      for (const index_t bucket : job_.bucket_bytes) {
        add_rate(text(transport, ", ", size_text(bucket)), transport, bucket, name, bound_a + copy);
      }
      add_rate(text(transport, ", after a slow backward"), text("all-", transport), 524288,
               text(name, ", at rest"), median("adamw-rested") + copy);
      add_time(text(transport, ", its first layer"), text("first-", transport), 524288, 1e3, "ms");
    }
    if (job_.servers == 0) add_allreduce();
  }

  void add_ps_lite(const PsLitePeer& peer) {
    for (const auto& [bucket, seconds] :
         peer.run(job_.elements, job_.bucket_bytes, job_.rounds, job_.updates)) {
      seconds_[{"ps-lite", bucket}] = seconds;
      add_rate(text("ps-lite, ", size_text(bucket)), "ps-lite", bucket);
    }
    const index_t best = best_bucket("ps-lite", job_.bucket_bytes);
    add_against(text("ps-lite, ", size_text(best)), median("ps-lite", best));
  }

 private:
  void add_allreduce() {
    std::vector<index_t> buckets = job_.bucket_bytes;
    buckets.push_back(4 * job_.elements);
    const index_t best = best_bucket("allreduce", buckets);
    add_rate("MPI_Allreduce + AdamW, one call", "allreduce", 4 * job_.elements);
    add_rate("MPI_Allreduce + AdamW, best bucket", "allreduce", best);
    add_against(text("allreduce in ", size_text(best)), median("allreduce", best));
  }
  index_t best_bucket(const std::string& what, const std::vector<index_t>& buckets) const {
    return *std::ranges::min_element(buckets, {}, [&](index_t each) { return median(what, each); });
  }
  void add_against(const std::string& peer, double peer_seconds) {
    for (const char* transport : {"window", "messages"}) {
      add_rate(text(transport, ", 512 KiB"), transport, 524288, peer, peer_seconds);
    }
  }

  TierJob job_;
  Report& report_;
  std::string layout_;
  double bytes_;
  Seconds seconds_;
};

void run(const Options& options) {
  Report report("server_tier",
                "how near do push, sum, step and pull come to the optimizer's step alone?",
                options);
  std::optional<PsLitePeer> ps_lite;
  if (!options.ps_lite.empty()) ps_lite.emplace(options.ps_lite);
  TierJob job;
  job.elements = index_t{options.quick ? 1 : 25} << 20;
  job.bucket_bytes = {65536, 262144, 524288, 1 << 20, 4 << 20, 32 << 20};
  if (options.quick) job.bucket_bytes = {65536, 524288};
  job.rounds = options.quick ? 1 : 3;
  job.updates = options.quick ? 1 : 4;
  for (const auto& [workers, servers] :
       {std::pair<index_t, index_t>{1, 1}, {2, 0}, {1, 2}, {2, 1}, {2, 2}}) {
    job.workers = workers;
    job.servers = servers;
    std::cerr << "measuring " << layout_text(job) << std::endl;
    Rows rows(job, report);
    rows.add_all();
    if (ps_lite && workers == 1 && servers == 1) rows.add_ps_lite(*ps_lite);
  }
  report.remark(text("GB of parameters a second: ", (job.elements * 4) >> 20,
                     " MiB / the time from the first push to the last pull"));
  report.remark(
      "A: on as many cores as servers, each with its share; B: A and the receiver's copy of each "
      "push from another rank");
  report.remark(
      "the norm decides every step, so nothing is stepped before all is summed: a burst reads each "
      "gradient once more than A does; behind a slow backward the sums are made meanwhile");
  report.remark(
      "workers compute nothing: gradients are written before the clock starts; the slow backward "
      "sleeps, a bucket of 512 KiB each 5.24 ms (100 MB/s), and the clock starts at its end");
  report.remark(
      "at rest: AdamW after as much sleep as the slow backward has; memory hardly used is "
      "slower");
  if (ps_lite) {
    report.remark(
        "ps-lite: the same AdamW on each bucket as it arrives, so without the norm and the clip "
        "over all parameters that weir's time holds; ZPushPull, a bucket a key, Unix sockets");
  }
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
