#include "ps/save/save_round.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"

namespace weir::ps {

SaveRound::SaveRound(const BucketPlan& plan, index_t server, const SnapshotConfig& config,
                     OptimizerKind optimizer, ClipPolicy clip, Residuals& residuals)
    : residuals_(&residuals), snapshot_(plan, server, config, optimizer, clip, residuals) {}

void SaveRound::begin(const Directive& directive, const Standing& standing) {
  copies_ = directive.order.checkpoint;
  if (!copies_) return;
  due_ = {directive.step, directive.order.stop, standing};
  start();
}

void SaveRound::start() {
  // A save may be given up before all the residuals for it have come.
  if (!due_ || snapshot_.busy() || residuals_missing_ > 0) return;
  applied_ = false;
  uncopied_.clear();
  if (residuals_->kept()) {
    residuals_missing_ = residuals_->count();
    asks_for_residuals_ = true;
  }
  snapshot_.start(due_->step, due_->last, due_->standing);
  due_.reset();
  if (early_begin_) snapshot_.on_begin(*std::exchange(early_begin_, std::nullopt));
}

bool SaveRound::may_step() {
  start();
  return !due_;
}

void SaveRound::before_step(index_t bucket, Store& store) {
  // Buckets are always stepped in the same order, so no other one that is left comes before it.
  if (!uncopied_.empty() && uncopied_.front() == bucket) copy_one(store);
}

void SaveRound::stepped(index_t bucket, Store& store) {
  if (!copies_) return;
  take_residuals(bucket, store);
  uncopied_.push_back(bucket);
}

/// The store's own change when its next gradients are added up; those of workers come by
/// themselves.
void SaveRound::take_residuals(index_t bucket, Store& store) {
  for (index_t sum = 0; sum < store.group_sum_count(bucket); ++sum) {
    if (!store.keeps_residual(bucket, sum)) continue;
    std::ranges::copy(store.residual(bucket, sum), residuals_->of(bucket, sum).begin());
    on_residual();
  }
}

void SaveRound::applied() {
  if (!copies_) return;
  applied_ = true;
  end_copying();
}

bool SaveRound::copy_one(Store& store) {
  if (!snapshot_.busy()) uncopied_.clear();  // the save was given up
  if (uncopied_.empty()) return false;
  snapshot_.copy(uncopied_.front(), store);
  uncopied_.pop_front();
  end_copying();
  return true;
}

void SaveRound::on_residual() {
  WEIR_ASSERT(residuals_missing_ > 0);
  if (--residuals_missing_ == 0) end_copying();
}

void SaveRound::end_copying() {
  if (applied_ && uncopied_.empty() && residuals_missing_ == 0) snapshot_.copied();
}

void SaveRound::on_begin(const SaveBegin& begin, bool early) {
  if (early || (due_ && due_->step == begin.step)) {
    early_begin_ = begin;
  } else {
    snapshot_.on_begin(begin);
  }
}

void SaveRound::on_end(const SaveEnd& end) {
  snapshot_.on_end(end);
  start();  // at once: server 0's next messages may be about it
}

void SaveRound::save_now(const Standing& standing, bool last, Store& store) {
  WEIR_ASSERT(!busy() && !residuals_->kept());
  snapshot_.start(standing.step, last, standing);
  for (index_t bucket : store.buckets()) snapshot_.copy(bucket, store);
  snapshot_.copied();
}

std::optional<SaveRound::Message> SaveRound::poll() {
  if (std::exchange(asks_for_residuals_, false)) return ResidualsDue{};
  std::optional<Snapshot::Message> message = snapshot_.poll();
  if (!message) return std::nullopt;
  return std::visit([](auto&& each) -> Message { return std::move(each); }, std::move(*message));
}

}  // namespace weir::ps
