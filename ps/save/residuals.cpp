#include "ps/save/residuals.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir::ps {
namespace {

index_t element_count(const BucketPlan& plan, index_t bucket) {
  return plan.buckets()[bucket].element_count;
}

/// The number of contributors that each parameter has in a replica, which is the same for all its
/// slices.
List<index_t> contributors_of_replica(const BucketPlan& plan) {
  List<index_t> counts(plan.specs().size(), 0);
  for (const Bucket& bucket : plan.buckets()) {
    for (const Segment& segment : bucket.segments) {
      counts[segment.parameter] = bucket.contributors.size();
    }
  }
  return counts;
}

bool is_of_push(const CheckpointRecord& record) {
  return record.name.starts_with(kResidualPrefix) && !record.name.starts_with(kPullResidualPrefix);
}

}  // namespace

Residuals::Residuals(const BucketPlan& plan, index_t server)
    : plan_(&plan), server_(server), offsets_(plan.buckets().size(), -1) {
  if (!kept()) return;
  index_t elements = 0;
  for (index_t bucket : plan.buckets_of(server)) {
    const index_t sums = plan.group_sum_count(bucket);
    offsets_[bucket] = elements;
    elements += sums * element_count(plan, bucket);
    count_ += sums;
  }
  values_ = Buffer(elements);
}

std::span<const float> Residuals::of(index_t bucket, index_t group_sum) const {
  const index_t offset = offsets_[bucket];
  WEIR_ASSERT(kept() && offset >= 0);
  const index_t count = element_count(*plan_, bucket);
  return values_.span().subspan(offset + group_sum * count, count);
}

std::span<float> Residuals::of(index_t bucket, index_t group_sum) {
  const auto found = std::as_const(*this).of(bucket, group_sum);
  return {const_cast<float*>(found.data()), found.size()};  // ours
}

void Residuals::load(const CheckpointReader& reader) {
  if (!kept()) return;
  const List<CheckpointRecord> wanted = residual_records(*plan_);
  std::vector<std::string> present, expected;
  for (const CheckpointRecord& record : reader.manifest().records) {
    if (is_of_push(record)) present.push_back(record.name);
  }
  for (const CheckpointRecord& record : wanted) {
    if (is_of_push(record)) expected.push_back(record.name);
  }
  std::ranges::sort(present);
  std::ranges::sort(expected);
  if (present != expected) {
    if (server_ == 0) {
      log_info(text("the checkpoint has ", present.empty() ? "no" : "other workers'",
                    " residuals; error feedback begins from zero"));
    }
    return;
  }
  const List<index_t> first = first_residual_records(*plan_);
  for (index_t index : plan_->buckets_of(server_)) {
    const Bucket& bucket = plan_->buckets()[index];
    for (index_t sum = 0; sum < plan_->group_sum_count(index); ++sum) {
      for (const Segment& segment : bucket.segments) {
        const index_t at = first[segment.parameter] + sum;
        reader.read(*reader.find(wanted[at].name), segment.range.begin,
                    of(index, sum).subspan(segment.offset, segment.range.count()));
      }
    }
  }
}

void load_sent_weights(const CheckpointReader& reader, const BucketPlan& plan, Store& store,
                       bool tells) {
  if (!store.sends_differences()) return;
  List<index_t> records;  // one a parameter, if all are there
  for (const ParameterSpec& spec : plan.specs()) {
    const std::optional<index_t> found = reader.find(kPullResidualPrefix + spec.name);
    if (found && reader.manifest().records[*found].shape == spec.shape) records.push_back(*found);
  }
  const bool has_all = records.size() == plan.specs().size();
  if (!has_all && tells) {
    log_info(
        "the checkpoint was made without differences of weights (--wire-pull int8): workers "
        "begin with the weights as they are");
  }
  for (const index_t index : store.buckets()) {
    const std::span<float> sent = store.sent_weights(index);
    if (!has_all) {
      std::ranges::copy(store.weights(index), sent.begin());
      continue;
    }
    for (const Segment& segment : plan.buckets()[index].segments) {
      reader.read(records[segment.parameter], segment.range.begin,
                  sent.subspan(segment.offset, segment.range.count()));
    }
  }
}

List<CheckpointRecord> residual_records(const BucketPlan& plan) {
  List<CheckpointRecord> records;
  if (plan.wire().pull.keeps_residual()) {
    for (const ParameterSpec& spec : plan.specs()) {
      records.push_back(
          {.name = kPullResidualPrefix + spec.name, .shape = spec.shape, .layout = spec.layout});
    }
  }
  if (!plan.wire().push.keeps_residual()) return records;
  const List<index_t> counts = contributors_of_replica(plan);
  for (index_t parameter = 0; parameter < plan.specs().size(); ++parameter) {
    const ParameterSpec& spec = plan.specs()[parameter];
    for (index_t group = 0; group < plan.layout().group_count(); ++group) {
      for (index_t each = 0; each < counts[parameter]; ++each) {
        records.push_back({.name = text(kResidualPrefix, group, '.', each, '/', spec.name),
                           .shape = spec.shape,
                           .layout = spec.layout});
      }
    }
  }
  return records;
}

List<index_t> first_residual_records(const BucketPlan& plan) {
  List<index_t> first;
  index_t next = plan.wire().pull.keeps_residual() ? plan.specs().size() : 0;
  for (const index_t count : contributors_of_replica(plan)) {
    first.push_back(next);
    next += plan.layout().group_count() * count;
  }
  return first;
}

}  // namespace weir::ps
