#include "common/job/bucket.hpp"

#include <algorithm>
#include <limits>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

namespace weir {
namespace {

/// A run of a parameter that one set of holders has.
struct Slice {
  index_t parameter;
  Interval range;
  index_t lowest_unit;
};

/// Slices with the same contributors and readers, in backward order.
struct SliceClass {
  List<Holder> contributors;
  List<Holder> readers;
  List<Slice> slices;
};

/// Every parameter is cut among the shards if they split it, and whole on each of them if not. A
/// slice is pushed and read by all that hold it, in every stage with a unit that uses it.
List<SliceClass> classes_of(const List<ParameterSpec>& specs, const List<index_t>& unit_stage,
                            index_t contexts, index_t shards) {
  List<SliceClass> classes;
  for (index_t index = 0; index < specs.size(); ++index) {
    const ParameterSpec& spec = specs[index];
    List<index_t> stages;
    for (index_t unit : spec.units) {
      const index_t stage = unit_stage[unit];
      if (stages.empty() || stages.back() != stage) stages.push_back(stage);
    }
    for (index_t cut = 0; cut < (spec.split ? shards : 1); ++cut) {
      SliceClass found;
      for (index_t stage : stages) {
        for (index_t context = 0; context < contexts; ++context) {
          for (index_t shard = 0; shard < shards; ++shard) {
            if (!spec.split || shard == cut) found.contributors.push_back({stage, context, shard});
          }
        }
      }
      found.readers = found.contributors;
      const Interval range = slice_of(spec, cut, shards);
      if (range.count() == 0) continue;  // fewer rows than shards
      auto same = std::ranges::find_if(classes, [&](const SliceClass& other) {
        return other.contributors == found.contributors && other.readers == found.readers;
      });
      if (same == classes.end()) same = classes.insert(classes.end(), found);
      same->slices.push_back({index, range, spec.units.front()});
    }
  }
  for (SliceClass& each : classes) {
    std::ranges::stable_sort(each.slices, std::greater{}, &Slice::lowest_unit);
  }
  return classes;
}

/// Fills buckets one after the other; cuts a slice only between blocks.
void cut_into_buckets(const SliceClass& slices, index_t bucket_elements, List<Bucket>& buckets) {
  Bucket open;
  const auto close = [&] {
    if (open.element_count > 0) buckets.push_back(open);
    open = Bucket();
    open.contributors = slices.contributors;
    open.readers = slices.readers;
  };
  close();
  for (const Slice& slice : slices.slices) {
    index_t begin = slice.range.begin;
    while (begin < slice.range.end) {
      const index_t room = bucket_elements - open.element_count;
      const index_t left = slice.range.end - begin;
      const index_t taken = left <= room ? left : room / kBlockElements * kBlockElements;
      if (taken > 0) {
        open.segments.push_back({slice.parameter, {begin, begin + taken}, open.element_count});
        open.element_count += taken;
        open.lowest_unit = slice.lowest_unit;  // they descend
        begin += taken;
      }
      if (begin < slice.range.end) close();
    }
  }
  close();
}

}  // namespace

const HeldSlice& Holding::slice(index_t parameter) const {
  const auto found = std::ranges::find(slices, parameter, &HeldSlice::parameter);
  WEIR_ASSERT(found != slices.end());
  return *found;
}

BucketPlan::BucketPlan(List<ParameterSpec> specs, List<index_t> unit_stage, const Layout& layout,
                       index_t bucket_bytes, const WireConfig& wire, Dtype weight_dtype)
    : layout_(layout),
      specs_(std::move(specs)),
      unit_stage_(std::move(unit_stage)),
      wire_(wire),
      weight_dtype_(weight_dtype) {
  WEIR_ASSERT(weight_dtype == kArenaDtype || wire.pull.is_raw());
  make_buckets(bucket_bytes);
  make_holdings();
}

/// Works in two parts: each class of slices is cut into buckets, which are then put into push
/// order; then the buckets are dealt out to the servers.
void BucketPlan::make_buckets(index_t bucket_bytes) {
  const index_t bucket_elements = std::max(kBlockElements, bucket_bytes / bytes_of(kArenaDtype));
  for (const SliceClass& slices :
       classes_of(specs_, unit_stage_, layout_.contexts, layout_.shards)) {
    cut_into_buckets(slices, bucket_elements, buckets_);
  }
  std::ranges::stable_sort(buckets_, std::greater{}, &Bucket::lowest_unit);
  // Each bucket goes to the server with the fewest elements so far: full buckets go round in turn,
  // and the short ones at the end of a class cannot add up on one server.
  List<index_t> elements_of_server(layout_.servers, 0);
  for (Bucket& bucket : buckets_) {
    const auto least = std::ranges::min_element(elements_of_server);
    bucket.server = least - elements_of_server.begin();
    *least += bucket.element_count;
  }
}

/// Works in two parts: an order of all buckets in which those of a class are neighbours; then, for
/// each (stage, shard), its arena: the buckets it reads, one after the other in this order.
/// Segments of one parameter follow each other there, so they join into one slice.
void BucketPlan::make_holdings() {
  holdings_.resize(layout_.stages * layout_.shards);
  // Buckets of a class become neighbours, in the order they were cut, whatever came between them in
  // the push order of the model: so runs of slices stay whole.
  List<index_t> order(buckets_.size());
  List<index_t> class_of(buckets_.size());  // a number for each class
  List<index_t> firsts;
  for (index_t index = 0; index < order.size(); ++index) {
    const Bucket& bucket = buckets_[index];
    const auto first = std::ranges::find_if(firsts, [&](index_t other) {
      return buckets_[other].contributors == bucket.contributors &&
             buckets_[other].readers == bucket.readers;
    });
    class_of[index] = first - firsts.begin();
    if (first == firsts.end()) firsts.push_back(index);
    order[index] = index;
  }
  std::ranges::stable_sort(order, {}, [&](index_t index) { return class_of[index]; });

  for (index_t stage = 0; stage < layout_.stages; ++stage) {
    for (index_t shard = 0; shard < layout_.shards; ++shard) {
      const Holder self = {.stage = stage, .context = 0, .shard = shard};
      Holding& holding = holdings_[stage * layout_.shards + shard];
      constexpr index_t kNone = -1;
      List<index_t> slice_of_parameter(specs_.size(), kNone);
      for (index_t index : order) {
        const Bucket& bucket = buckets_[index];
        if (std::ranges::find(bucket.readers, self) == bucket.readers.end()) continue;
        // The bucket goes to the arena's end. Only units that run on this stage decide when it is
        // ready and awaited here.
        HeldBucket held = {
            .bucket = index,
            .offset = holding.element_count,
            .pushes = std::ranges::find(bucket.contributors, self) != bucket.contributors.end(),
            .lowest_unit = std::numeric_limits<index_t>::max(),
            .highest_unit = 0};
        for (const Segment& segment : bucket.segments) {
          for (index_t unit : specs_[segment.parameter].units) {
            if (unit_stage_[unit] != stage) continue;
            held.lowest_unit = std::min(held.lowest_unit, unit);
            held.highest_unit = std::max(held.highest_unit, unit);
          }
          // A segment begins its parameter's slice, or continues the one that an earlier bucket
          // has begun.
          const index_t offset = holding.element_count + segment.offset;
          index_t& at = slice_of_parameter[segment.parameter];
          if (at == kNone) {
            at = holding.slices.size();
            holding.slices.push_back({segment.parameter, segment.range, offset});
          } else {
            HeldSlice& slice = holding.slices[at];
            WEIR_ASSERT(slice.range.end == segment.range.begin);
            slice.range.end = segment.range.end;
          }
        }
        holding.element_count += bucket.element_count;
        holding.buckets.push_back(held);
      }
      std::ranges::stable_sort(holding.buckets, std::greater{}, &HeldBucket::lowest_unit);
    }
  }
}

const Holding& BucketPlan::holding(Holder holder) const {
  return holdings_[holder.stage * layout_.shards + holder.shard];
}

List<index_t> BucketPlan::buckets_of(index_t server) const {
  List<index_t> indices;
  for (index_t index = 0; index < buckets_.size(); ++index) {
    if (buckets_[index].server == server) indices.push_back(index);
  }
  return indices;
}

index_t BucketPlan::group_sum_of(index_t bucket, index_t contribution) const {
  const index_t a_replica = buckets_[bucket].contributors.size();
  const index_t replica = contribution / a_replica;
  return layout_.group_of(replica) * a_replica + contribution % a_replica;
}

index_t BucketPlan::pulled_bytes(index_t bucket) const {
  const index_t count = buckets_[bucket].element_count;
  return wire_.pull.is_raw() ? count * bytes_of(weight_dtype_) : wire_.pull.bytes(count);
}

std::string BucketPlan::digest() const {
  std::string all = text(weir::digest(specs_), "\nweights ", name_of(weight_dtype_), "\ngroups of ",
                         layout_.group_size);
  for (const Wire& wire : {wire_.push, wire_.pull}) {
    all += text("\nwire ", static_cast<int>(wire.format), ' ', wire.topk_percent);
  }
  for (const Bucket& bucket : buckets_) {
    all += text("\nserver ", bucket.server, " elements ", bucket.element_count);
    for (const Segment& segment : bucket.segments) {
      all += text(" [", segment.parameter, " ", segment.range.begin, " ", segment.range.end, "]");
    }
    const auto add = [&](const char* role, const List<Holder>& holders) {
      for (const Holder& holder : holders) {
        all += text(role, holder.stage, ".", holder.context, ".", holder.shard);
      }
    };
    add(" c", bucket.contributors);
    add(" r", bucket.readers);
  }
  return text(stream_of(all));  // xxh64
}

}  // namespace weir
