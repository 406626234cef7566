#include "ps/update/store.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/wire/narrow.hpp"

namespace weir::ps {
namespace {

constexpr index_t kPageElements = kPageBytes / 4;

bool one_holder(const Layout& layout) {
  return layout.servers == 1 && layout.stages * layout.contexts * layout.shards == 1;
}

std::span<float> sub(std::span<float> all, index_t offset, index_t count) {
  return all.subspan(offset, count);
}

}  // namespace

List<Block> blocks_of(const Bucket& bucket) {
  List<Block> blocks;
  for (const Segment& segment : bucket.segments) {
    // A segment begins at a block: slices are cut into buckets only between blocks.
    for (index_t done = 0; done < segment.range.count(); done += kBlockElements) {
      blocks.push_back({segment.parameter, segment.range.begin + done,
                        std::min(kBlockElements, segment.range.count() - done),
                        segment.offset + done});
    }
  }
  return blocks;
}

Store::Store(const BucketPlan& plan, index_t server, const OptimizerConfig& optimizer,
             std::optional<std::uint64_t> seed, const BucketMemory& given)
    : plan_(&plan),
      optimizer_(optimizer),
      buckets_(plan.buckets_of(server)),
      entry_of_(plan.buckets().size(), -1),
      sent_(plan, server) {
  const auto& [push, pull] = plan.wire();
  // Each bucket gets its offsets: elements in the arenas, bytes in the frames, and the index of its
  // first block's partial. Buckets begin at pages.
  index_t arena = 0, pushed = 0, pulled = 0, partials = 0, residuals = 0, largest = 0;
  for (index_t index : buckets_) {
    const index_t count = bucket(index).element_count;
    const index_t contributors = contributor_count(index);
    entry_of_[index] = entries_.size();
    Entry added;
    added.bucket = index;
    added.offset = arena;
    added.pull_offset = pulled;
    added.first_partial = partials;
    added.arrived.assign(contributors, false);
    added.residual_offsets.assign(group_sum_count(index), -1);
    for (index_t each = 0; each < contributors; ++each) {
      const Kind kind = kind_of(index, each, given.led);
      added.kinds.push_back(kind);
      added.push_offsets.push_back(pushed);
      if (kind != Kind::with_leader) ++added.missing;
      if (kind == Kind::group_sum && !push.is_raw()) {
        pushed += round_up(push.bytes(count), kPageBytes);
      }
      index_t& residual = added.residual_offsets[plan.group_sum_of(index, each)];
      if (kind != Kind::one || push.is_raw() || residual >= 0) continue;
      largest = std::max(largest, push.bytes(count));
      if (!push.keeps_residual()) continue;
      residual = residuals;
      residuals += count;
    }
    entries_.push_back(added);
    arena += round_up(count, kPageElements);
    if (!pull.is_raw()) pulled += round_up(plan.pulled_bytes(index), kPageBytes);
    partials += blocks_of(bucket(index)).size();
  }
  // A single holder's arena has no gaps: the store's is laid out like it, and they can be one.
  if (one_holder(plan.layout())) {
    const Holding& holding = plan.holding({});
    for (const HeldBucket& held : holding.buckets) entry(held.bucket).offset = held.offset;
    arena = holding.element_count;
  }
  place(given, arena);
  push_frames_ = BufferOf<std::byte>(pushed);
  coded_sum_ = BufferOf<std::byte>(largest);
  residuals_ = Buffer(residuals);
  pull_frames_ = BufferOf<std::byte>(pulled);
  for (index_t slot = 0; slot < std::ssize(slot_names(optimizer.kind)); ++slot) {
    slots_.emplace_back(arena);
  }
  partials_.resize(partials);
  if (has_trust(optimizer)) {
    weight_squares_.resize(partials_.size());
    direction_squares_.resize(partials_.size());
  }
  if (!seed) return;
  // The weights are drawn where they are, so they must have their places by now.
  for (index_t index : buckets_) {
    for (const Segment& segment : bucket(index).segments) {
      initial_weights(plan.specs()[segment.parameter], *seed, segment.range,
                      sub(mutable_weights(index), segment.offset, segment.range.count()));
    }
    if (sends_differences()) {
      std::ranges::copy(weights(index), sent_weights(index).begin());
    } else {
      encode_weights(entry(index));
    }
  }
}

Store::Kind Store::kind_of(index_t index, index_t contribution, const List<bool>& led) const {
  const Layout& layout = plan_->layout();
  const index_t a_replica = bucket(index).contributors.size();
  const Holder& holder = bucket(index).contributors[contribution % a_replica];
  const auto is_led = [&](index_t replica) {
    return !led.empty() &&
           led[layout.rank_of({replica, holder.stage, holder.context, holder.shard})];
  };
  const index_t replica = contribution / a_replica;
  if (layout.group_size == 1) return Kind::group_sum;
  if (is_led(replica)) return Kind::with_leader;
  const bool leads = replica % layout.group_size == 0 && is_led(replica + 1);
  return leads ? Kind::group_sum : Kind::one;
}

/// Finds places for weights and contributions: where `given` says, else in memory of the store. If
/// nothing is encoded, the first contribution of a bucket is also where its sum goes, so it lies in
/// the arena of gradients.
void Store::place(const BucketMemory& given, index_t arena) {
  const bool first_is_sum = plan_->wire().push.is_raw();
  const Dtype dtype = plan_->weight_dtype();
  const auto given_weights = [&](const Entry& of) {
    return of.bucket < given.weights.size() ? given.weights[of.bucket] : Vector();
  };
  const auto given_contribution = [&](const Entry& of, index_t contributor) {
    if (of.bucket >= given.contributions.size()) return std::span<float>();
    const List<Vector>& all = given.contributions[of.bucket];
    return contributor < all.size() ? as<float>(all[contributor]) : std::span<float>();
  };
  // First pass: what is not given? `others` counts elements of contributions beside the sums.
  index_t others = 0;
  bool all_weights = true, all_sums = first_is_sum;
  for (const Entry& of : entries_) {
    all_weights &= !given_weights(of).empty();
    all_sums &= !given_contribution(of, 0).empty();
    for (index_t each = first_is_sum ? 1 : 0; each < of.kinds.size(); ++each) {
      if (is_raw(of.kinds[each]) && given_contribution(of, each).empty()) {
        others += round_up(bucket(of.bucket).element_count, kPageElements);
      }
    }
  }
  // Memory for that, and a second pass that hands it out.
  if (dtype != kArenaDtype || !all_weights) weights_ = Buffer(arena);
  if (dtype != kArenaDtype && !all_weights) read_ = Memory(arena, bytes_of(dtype));
  if (!all_sums) gradients_ = Buffer(arena);
  others_ = Buffer(others);
  index_t other_offset = 0;
  for (Entry& of : entries_) {
    const index_t count = bucket(of.bucket).element_count;
    of.read = given_weights(of);
    if (of.read.empty()) {
      of.read = dtype == kArenaDtype ? Vector(part(weights_, of))
                                     : read_.elements(dtype).part(of.offset, count);
    }
    of.weights = dtype == kArenaDtype ? as<float>(of.read) : part(weights_, of);
    for (index_t each = 0; each < of.kinds.size(); ++each) {
      std::span<float> place;
      if (is_raw(of.kinds[each])) place = given_contribution(of, each);
      if (place.empty() && each == 0 && first_is_sum) place = part(gradients_, of);
      if (place.empty() && is_raw(of.kinds[each])) {
        place = sub(others_.span(), other_offset, count);
        other_offset += round_up(count, kPageElements);
      }
      of.contributions.push_back(place);
    }
  }
}

const Store::Entry& Store::entry(index_t bucket) const {
  WEIR_ASSERT(bucket >= 0 && bucket < entry_of_.size());
  const index_t at = entry_of_[bucket];
  WEIR_ASSERT(at >= 0);  // a bucket of another server
  return entries_[at];
}

Store::Entry& Store::entry(index_t bucket) {
  return const_cast<Entry&>(static_cast<const Store*>(this)->entry(bucket));
}

std::span<float> Store::part(Buffer& arena, const Entry& entry) {
  return sub(arena.span(), entry.offset, bucket(entry.bucket).element_count);
}

index_t Store::contributor_count(index_t index) const {
  return plan_->layout().replicas * bucket(index).contributors.size();
}

std::span<float> Store::contribution(index_t index, index_t contributor) {
  const Entry& of = entry(index);
  WEIR_ASSERT(contributor >= 0 && contributor < contributor_count(index));
  WEIR_ASSERT(is_raw(of.kinds[contributor]));
  return of.contributions[contributor];
}

std::span<std::byte> Store::contribution_frame(index_t index, index_t contributor) {
  const Entry& of = entry(index);
  WEIR_ASSERT(contributor >= 0 && contributor < contributor_count(index));
  if (is_raw(of.kinds[contributor])) {
    return std::as_writable_bytes(contribution(index, contributor));
  }
  WEIR_ASSERT(of.kinds[contributor] == Kind::group_sum);
  return push_frames_.span().subspan(of.push_offsets[contributor],
                                     plan_->wire().push.bytes(bucket(index).element_count));
}

std::span<float> Store::sum_place(const Entry& of) {
  return plan_->wire().push.is_raw() ? contribution(of.bucket, of.sum) : part(gradients_, of);
}

bool Store::accepts(index_t index, index_t contributor) const {
  return !entry(index).arrived[contributor];
}

bool Store::arrived(index_t index, index_t contributor) {
  Entry& of = entry(index);
  WEIR_ASSERT(contributor >= 0 && contributor < contributor_count(index));
  WEIR_ASSERT(of.kinds[contributor] != Kind::with_leader);
  if (of.arrived[contributor]) {
    throw Error(text("update ", of.update, ": bucket ", index, " has already arrived from ",
                     "contributor ", contributor, " of ", contributor_count(index),
                     of.summed ? " and this update was not yet applied to it" : "",
                     "; do all ranks read the same configuration?"));
  }
  of.arrived[contributor] = true;
  return --of.missing == 0;
}

List<double> Store::partials() const {
  WEIR_ASSERT(all_summed());
  return partials_;
}

OptimizerStep Store::step_of(index_t parameter, const Directive& directive, double trust) const {
  const ParameterSpec& spec = plan_->specs()[parameter];
  const List<double>& factors = directive.rule.factors;
  return {.factor = factors.empty() ? directive.rule.factor : factors[parameter],
          .rate = directive.rule.rate,
          .applied = directive.update - directive.observed.skipped_count - moments_begin_,
          .weight_decay = spec.decay || optimizer_.decay_all ? optimizer_.weight_decay : 0,
          .trust = trust};
}

List<std::span<float>> Store::slots_of(const Entry& of, index_t offset, index_t count) {
  List<std::span<float>> slots;
  for (Buffer& slot : slots_) slots.push_back(sub(part(slot, of), offset, count));
  return slots;
}

void Store::make_direction(index_t index, const Directive& directive) {
  const Entry& of = entry(index);
  WEIR_ASSERT(of.summed && directive.update == of.update &&
              directive.rule.skip == SkipReason::none);
  const std::span<float> gradient = sum_place(of);
  index_t partial = of.first_partial;
  for (const Block& block : blocks_of(bucket(index))) {
    const DirectionSquares squares = optimizer_direction(
        optimizer_, step_of(block.parameter, directive, 1),
        sub(of.weights, block.offset, block.count), sub(gradient, block.offset, block.count),
        slots_of(of, block.offset, block.count));
    weight_squares_[partial] = squares.weights;
    direction_squares_[partial] = squares.directions;
    ++partial;
  }
}

void Store::apply(index_t index, const Directive& directive, std::span<const double> trust) {
  Entry& of = entry(index);
  if (!of.summed || directive.update != of.update) {
    throw Error(text(
        "applying update ", directive.update, " to bucket ", index, ": it is in update ", of.update,
        of.summed ? "" : " and waits for contributions", "; a directive came out of order"));
  }
  if (directive.rule.skip == SkipReason::none) {
    const std::span<float> gradient = sum_place(of);
    for (const Segment& segment : bucket(index).segments) {
      const index_t count = segment.range.count();
      const double ratio = trust.empty() ? 1 : trust[segment.parameter];
      optimizer_step(optimizer_, step_of(segment.parameter, directive, ratio),
                     sub(of.weights, segment.offset, count), sub(gradient, segment.offset, count),
                     slots_of(of, segment.offset, count));
    }
  }
  // Readers of differences must not get the last one again.
  if (directive.rule.skip == SkipReason::none ||
      (sends_differences() && directive.rule.skip != SkipReason::rollback)) {
    encode_weights(of);
  }
  of.update = directive.update + 1;
  of.summed = false;
  --summed_count_;
  for (index_t replica : directive.replicas.contributors) discard(index, replica);
}

void Store::discard(index_t index, index_t replica) {
  Entry& of = entry(index);
  const index_t a_replica = bucket(index).contributors.size();
  for (index_t each = replica * a_replica; each < (replica + 1) * a_replica; ++each) {
    if (of.kinds[each] == Kind::with_leader) continue;
    WEIR_ASSERT(of.arrived[each]);
    of.arrived[each] = false;
    ++of.missing;
  }
}

void Store::begin_with(index_t update, index_t moments_begin) {
  moments_begin_ = moments_begin;
  for (Entry& each : entries_) {
    WEIR_ASSERT(std::ranges::none_of(each.arrived, std::identity()));
    each.update = update;
    if (!sends_differences()) encode_weights(each);
  }
}

std::span<const float> Store::weights(index_t index) const { return entry(index).weights; }

std::span<const std::byte> Store::weight_frame(index_t index) const {
  const Wire& pull = plan_->wire().pull;
  if (pull.is_raw()) return entry(index).read.bytes();
  return pull_frames_.span().subspan(entry(index).pull_offset, plan_->pulled_bytes(index));
}

void Store::encode_weights(const Entry& of) {
  const Wire& pull = plan_->wire().pull;
  if (pull.is_raw()) {
    if (of.read.dtype() != kArenaDtype) round_to(of.weights, of.read);
    return;
  }
  const auto frame = pull_frames_.span().subspan(of.pull_offset, plan_->pulled_bytes(of.bucket));
  if (sends_differences()) {
    sent_.encode(of.bucket, of.weights, frame);
  } else {
    encode(pull, of.weights, {}, frame);
  }
}

std::span<float> Store::mutable_weights(index_t index) { return entry(index).weights; }

std::span<float> Store::slot(index_t index, index_t slot) {
  return part(slots_[slot], entry(index));
}

std::span<const float> Store::weight_arena() const {
  WEIR_ASSERT(one_holder(plan_->layout()));
  return weights_.span();
}

ConstVector Store::read_arena() const {
  WEIR_ASSERT(one_holder(plan_->layout()));
  const Dtype dtype = plan_->weight_dtype();
  return dtype == kArenaDtype ? ConstVector(weights_.span()) : read_.elements(dtype);
}

void Store::take_weights(std::span<const float> arena) {
  WEIR_ASSERT(one_holder(plan_->layout()));
  std::ranges::copy(arena, weights_.span().begin());
  for (const Entry& each : entries_) encode_weights(each);
}

std::span<float> Store::gradient_arena() {
  WEIR_ASSERT(one_holder(plan_->layout()));
  return gradients_.span();
}

}  // namespace weir::ps
