#include "ps/update/store.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/vector.hpp"
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
      entry_of_(plan.buckets().size(), -1) {
  const Wire& push = plan.contribution_wire();
  const Wire& pull = plan.wire().pull;
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
    added.push_offset = pushed;
    added.pull_offset = pulled;
    added.residual_offset = residuals;
    added.first_partial = partials;
    added.arrived.assign(contributors, false);
    added.missing = contributors;
    entries_.push_back(added);
    arena += round_up(count, kPageElements);
    if (!push.is_raw()) pushed += contributors * round_up(push.bytes(count), kPageBytes);
    if (!pull.is_raw()) pulled += round_up(plan.pulled_bytes(index), kPageBytes);
    if (keeps_residuals()) residuals += group_sum_count(index) * count;
    if (encodes_sums()) largest = std::max(largest, plan.wire().push.bytes(count));
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
    encode_weights(entry(index));
  }
}

/// Finds places for weights and contributions: where `given` says, else in memory of the store. If
/// nothing is encoded, the first contribution of a bucket is also where its sum goes, so it lies in
/// the arena of gradients.
void Store::place(const BucketMemory& given, index_t arena) {
  const bool raw = plan_->contribution_wire().is_raw();
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
    for (index_t each = first_is_sum ? 1 : 0; raw && each < contributor_count(of.bucket); ++each) {
      if (given_contribution(of, each).empty()) {
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
    for (index_t each = 0; raw && each < contributor_count(of.bucket); ++each) {
      std::span<float> place = given_contribution(of, each);
      if (place.empty() && each == 0 && first_is_sum) place = part(gradients_, of);
      if (place.empty()) {
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
  WEIR_ASSERT(plan_->contribution_wire().is_raw());
  return of.contributions[contributor];
}

std::span<std::byte> Store::contribution_frame(index_t index, index_t contributor) {
  const Wire& push = plan_->contribution_wire();
  if (push.is_raw()) return std::as_writable_bytes(contribution(index, contributor));
  WEIR_ASSERT(contributor >= 0 && contributor < contributor_count(index));
  const index_t bytes = push.bytes(bucket(index).element_count);
  return push_frames_.span().subspan(
      entry(index).push_offset + contributor * round_up(bytes, kPageBytes), bytes);
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
  if (of.arrived[contributor]) {
    throw Error(text("update ", of.update, ": bucket ", index, " has already arrived from ",
                     "contributor ", contributor, " of ", contributor_count(index),
                     of.summed ? " and this update was not yet applied to it" : "",
                     "; do all ranks read the same configuration?"));
  }
  of.arrived[contributor] = true;
  return --of.missing == 0;
}

void Store::sum(index_t index, std::span<const index_t> replicas) {
  Entry& of = entry(index);
  WEIR_ASSERT(!of.summed && !replicas.empty());
  // The contributions of each group, one after the other for each contributor of a replica.
  const index_t a_replica = bucket(index).contributors.size();
  const index_t size = plan_->layout().group_size;
  WEIR_ASSERT(replicas.size() % size == 0);
  List<List<index_t>> groups;
  for (index_t first = 0; first < std::ssize(replicas); first += size) {
    for (index_t position = 0; position < a_replica; ++position) {
      List<index_t>& group = groups.emplace_back();
      for (index_t replica : replicas.subspan(first, size)) {
        WEIR_ASSERT(plan_->layout().group_of(replica) == plan_->layout().group_of(replicas[first]));
        group.push_back(replica * a_replica + position);
        WEIR_ASSERT(of.arrived[group.back()]);
      }
    }
  }
  of.sum = groups.front().front();
  if (plan_->wire().push.is_raw()) {
    sum_raw(of, groups);
  } else {
    sum_coded(of, groups);
  }
  of.summed = true;
  ++summed_count_;
}

/// The sum goes where the first contribution lies. Block by block, each group is added up where its
/// first contribution lies; then the groups are, in one pass, which also gives the squares.
void Store::sum_raw(const Entry& of, const List<List<index_t>>& groups) {
  index_t partial = of.first_partial;
  List<const float*> parts;
  for (const Block& block : blocks_of(bucket(of.bucket))) {
    const auto part = [&](index_t each) {
      return sub(of.contributions[each], block.offset, block.count);
    };
    for (const List<index_t>& group : groups) {
      if (group.size() == 1) continue;
      parts.clear();
      for (index_t at = 1; at < group.size(); ++at) parts.push_back(part(group[at]).data());
      add_parts(part(group.front()), parts);
    }
    parts.clear();
    for (index_t at = 1; at < groups.size(); ++at) {
      parts.push_back(part(groups[at].front()).data());
    }
    partials_[partial++] = add_parts(part(of.sum), parts);
  }
}

/// A coded sum is decoded a whole bucket at a time: it fits into the second cache, and topk has no
/// order of blocks.
void Store::sum_coded(const Entry& of, const List<List<index_t>>& groups) {
  const Wire& push = plan_->wire().push;
  const std::span<float> total = part(gradients_, of);
  for (const List<index_t>& group : groups) {
    const std::span<const std::byte> frame = coded_sum(of, group);
    if (&group == &groups.front()) {
      decode(push, frame, total);
    } else {
      decode_add(push, frame, total);
    }
  }
  index_t partial = of.first_partial;
  for (const Block& block : blocks_of(bucket(of.bucket))) {
    partials_[partial++] = square_sum(sub(total, block.offset, block.count));
  }
}

/// What a group pushed, or its sum as a worker would have encoded it.
std::span<const std::byte> Store::coded_sum(const Entry& of, const List<index_t>& group) {
  if (!encodes_sums()) return contribution_frame(of.bucket, group.front());
  List<const float*> others;
  for (index_t at = 1; at < group.size(); ++at) {
    others.push_back(of.contributions[group[at]].data());
  }
  const std::span<float> sum = of.contributions[group.front()];
  add_parts(sum, others);
  const Wire& push = plan_->wire().push;
  const std::span<std::byte> frame = coded_sum_.span().first(push.bytes(std::ssize(sum)));
  encode(push, sum,
         keeps_residuals() ? residual(of.bucket, plan_->group_sum_of(of.bucket, group.front()))
                           : std::span<float>(),
         frame);
  return frame;
}

std::span<float> Store::residual(index_t index, index_t group_sum) {
  WEIR_ASSERT(keeps_residuals() && group_sum < group_sum_count(index));
  const index_t count = bucket(index).element_count;
  return sub(residuals_.span(), entry(index).residual_offset + group_sum * count, count);
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
    WEIR_ASSERT(of.arrived[each]);
    of.arrived[each] = false;
    ++of.missing;
  }
}

void Store::begin_with(index_t update, index_t moments_begin) {
  moments_begin_ = moments_begin;
  for (Entry& each : entries_) {
    WEIR_ASSERT(each.missing == each.arrived.size());
    each.update = update;
    encode_weights(each);
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
  if (!pull.is_raw()) {
    const index_t bytes = plan_->pulled_bytes(of.bucket);
    encode(pull, of.weights, {}, pull_frames_.span().subspan(of.pull_offset, bytes));
  } else if (of.read.dtype() != kArenaDtype) {
    round_to(of.weights, of.read);
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
