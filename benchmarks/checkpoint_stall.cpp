// What a save takes away from a server's main thread.
#include <algorithm>
#include <cstring>

#include "benchmarks/checkpoint_measures.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/number/memory.hpp"
#include "ps/local_service.hpp"
#include "ps/server.hpp"

namespace weir::benchmark {
namespace {

constexpr index_t kBucketBytes = 524288;  // a job's, unless it says otherwise
constexpr index_t kCopyElements = index_t{1} << 26;
constexpr index_t kEvery = 4;  // updates from one save to the next

List<ParameterSpec> specs_of(const StateSize& size) {
  List<ParameterSpec> specs;
  for (index_t unit = 0; unit < size.matrices; ++unit) {
    ParameterSpec spec;
    spec.name = text("layers.", unit, ".weight");
    spec.shape = {size.side, size.side};
    spec.initial = Initial::normal;
    spec.deviation = 0.02;
    spec.units = {unit};
    specs.push_back(spec);
  }
  return specs;
}

/// The server and its worker.
class ServerWithWorker {
 public:
  ServerWithWorker(const StateSize& size, const std::filesystem::path& folder, index_t steps)
      : units_(size.matrices),
        plan_(specs_of(size), std::vector<index_t>(units_, 0), {.placement = Placement::local},
              kBucketBytes),
        server_(plan_, 0, config_of(folder, steps)),
        service_(server_, plan_, [] { return false; }) {
    service_.start();
  }

  /// Seconds from the end of a backward to the new weights.
  double update() {
    service_.begin_update();
    std::ranges::fill(as<float>(service_.gradients()), 1e-3F);
    const double begin = seconds_now();
    for (index_t unit = units_; unit-- > 0;) service_.ready(unit);
    service_.report({.step = ++step_, .loss_sum = 1, .count = 1});
    service_.directive();
    return seconds_now() - begin;
  }

  /// Until the checkpoint is committed.
  void end_save() {
    while (server_.saving()) {
      if (!service_.progress()) sleep_microseconds(1000);
    }
  }

 private:
  static ps::ServerConfig config_of(const std::filesystem::path& folder, index_t steps) {
    ps::ServerConfig config;
    config.training = {.steps = steps, .batch = 1, .micro_batch = 1, .seed = 0};
    config.checkpoint.every = kEvery;
    config.checkpoint.folder = folder;
    return config;
  }

  index_t units_;
  index_t step_ = 0;
  BucketPlan plan_;
  ps::Server server_;
  ps::LocalService service_;
};

}  // namespace

StallTimes measure_stall(const StateSize& size, const std::filesystem::path& folder,
                         index_t saves) {
  ServerWithWorker job(size, folder, kEvery * (2 * saves + 3));
  Buffer from(kCopyElements), to(kCopyElements);
  StallTimes times = {};
  job.update();
  for (index_t save = 0; save <= 2 * saves; ++save) {
    const Times plain = {job.update(), job.update()};
    const double usual = (plain[0] + plain[1]) / 2;
    const double with_save = job.update();
    const bool at_once = save % 2 == 0;
    if (!at_once) job.end_save();
    const double next = job.update();
    if (at_once) job.end_save();
    const double begin = seconds_now();
    std::memcpy(to.data(), from.data(), 4 * kCopyElements);
    const double copy = seconds_now() - begin;
    const double stall = with_save - usual + (at_once ? next - usual : 0);
    if (save == 0) {
      times.first_stall = stall;
      continue;
    }
    times.updates.insert(times.updates.end(), plain.begin(), plain.end());
    (at_once ? times.stalls_at_once : times.stalls).push_back(stall);
    times.copy_gigabytes.push_back(4e-9 * kCopyElements / copy);
  }
  return times;
}

}  // namespace weir::benchmark
