#include "benchmarks/server_tier_team.hpp"

#include <optional>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"

namespace weir::benchmark {
namespace {

std::vector<ParameterSpec> specs_of(index_t elements, index_t units) {
  std::vector<ParameterSpec> specs;
  for (index_t unit = 0; unit < units; ++unit) {
    ParameterSpec spec;
    spec.name = text("layers.", unit, ".weight");
    spec.shape = {elements / units};
    spec.units = {unit};
    specs.push_back(spec);
  }
  return specs;
}

}  // namespace

Layout layout_of(const TierJob& job) {
  if (job.servers > 0) return {.replicas = job.workers, .servers = job.servers};
  return {.replicas = job.workers, .servers = job.workers, .placement = Placement::colocated};
}

BucketPlan plan_of(const TierJob& job, index_t units, index_t bucket_bytes) {
  return BucketPlan(specs_of(job.elements, units), std::vector<index_t>(units, 0), layout_of(job),
                    bucket_bytes);
}

TierTeam::TierTeam(TierJob job, const std::filesystem::path& file)
    : job_(std::move(job)),
      layout_(layout_of(job_)),
      is_server_(layout_.is_server(world_.rank())),
      is_worker_(layout_.is_worker(world_.rank())),
      host_(world_.host()),
      workers_(world_.split(is_worker_ ? std::optional<int>(0) : std::nullopt, world_.rank())) {
  layout_.check(world_.size());
  if (world_.rank() == 0) file_.open(file);
}

double TierTeam::seconds_of(const std::function<void()>& work) const {
  float together = 0;
  world_.sum(std::span(&together, 1));  // waits awake
  const double begin = seconds_now();
  work();
  const double seconds = seconds_now() - begin;
  return world_.max(seconds);
}

void TierTeam::write(const std::string& what, index_t bucket_bytes, double seconds) {
  if (world_.rank() == 0) file_ << what << ' ' << bucket_bytes << ' ' << seconds << std::endl;
}

}  // namespace weir::benchmark
