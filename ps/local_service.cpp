#include "ps/local_service.hpp"

#include <algorithm>
#include <utility>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/wait.hpp"

namespace weir::ps {

LocalService::LocalService(Server& server, const BucketPlan& plan,
                           std::function<bool()> stop_requested)
    : server_(&server), holding_(&plan.holding({})), stop_requested_(std::move(stop_requested)) {
  WEIR_ASSERT(plan.layout().worker_count() == 1 && plan.layout().servers == 1);
}

void LocalService::begin_update() {
  std::ranges::fill(gradients().bytes(), std::byte{0});
  pushed_count_ = 0;
  stepped_count_ = 0;
}

void LocalService::ready(index_t unit) {
  while (pushed_count_ < holding_->buckets.size() &&
         holding_->buckets[pushed_count_].lowest_unit >= unit) {
    server_->on_contribution(holding_->buckets[pushed_count_++].bucket, 0);
  }
}

void LocalService::look_for_stop() {
  if (stop_seen_ || !stop_requested_()) return;
  stop_seen_ = true;
  server_->on(Stop{});
}

bool LocalService::work() {
  if (server_->saving()) look_for_stop();  // the save may have to wait for room
  const bool worked = server_->poll();
  while (const std::optional<Output> output = server_->next_output()) {
    if (const auto* directive = std::get_if<Directive>(&*output)) decided_ = *directive;
    if (std::holds_alternative<BucketStepped>(*output)) ++stepped_count_;
  }
  return worked;
}

template <class Done>
void LocalService::work_until(const Done& done) {
  const Waiting waiting("its own server", kNobody);
  const double begin = seconds_now();
  wait_until(done, [&] { return work(); });
  waited_seconds_ += seconds_now() - begin;
}

Directive LocalService::directive() {
  look_for_stop();
  work_until([&] { return decided_ && stepped_count_ == holding_->buckets.size(); });
  return *std::exchange(decided_, std::nullopt);
}

void LocalService::await(index_t) {}

void LocalService::finish() {
  work_until([&] { return server_->done(); });
}

}  // namespace weir::ps
