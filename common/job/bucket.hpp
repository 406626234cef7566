#pragma once

#include <span>
#include <string>

#include "common/base/interval.hpp"
#include "common/base/list.hpp"
#include "common/job/layout.hpp"
#include "common/job/parameter.hpp"
#include "common/number/tensor.hpp"
#include "common/wire/wire.hpp"

namespace weir {

/// Squares are summed in blocks of this many elements, counted from a slice's first; a slice is cut
/// into buckets only between blocks. So neither buckets nor servers show in the norm. 16 pages.
inline constexpr index_t kBlockElements = 16384;

/// A run of elements of one parameter inside a bucket.
struct Segment {
  index_t parameter = 0;  ///< index into the specs
  Interval range;         ///< elements of the whole parameter
  index_t offset = 0;     ///< elements from the begin of the bucket
};

/// A worker as the parameters see it: stage and shard decide what it holds, and each context
/// contributes what its part of the sequences adds.
struct Holder {
  index_t stage = 0;
  index_t context = 0;
  index_t shard = 0;
  bool operator==(const Holder&) const = default;
};

inline Holder holder_of(const WorkerPlace& place) {
  return {place.stage, place.context, place.shard};
}

/// What travels as one piece and lives on one server: the same contributors and readers throughout.
struct Bucket {
  index_t server = 0;
  index_t element_count = 0;
  index_t lowest_unit = 0;  ///< pushed when this unit's backward is done, pulled before its forward
  List<Segment> segments;
  List<Holder> contributors;  ///< the same in each replica, in the order of the sum
  List<Holder> readers;       ///< the same in each replica
  index_t bytes() const { return element_count * bytes_of(kArenaDtype); }
};

/// Where a parameter's slice lies in its holder's memory.
struct HeldSlice {
  index_t parameter = 0;
  Interval range;
  index_t offset = 0;  ///< elements from the begin of the holder's arena
};

/// A bucket in its holder's memory.
struct HeldBucket {
  index_t bucket = 0;
  index_t offset = 0;   ///< elements from the begin of the holder's arena
  bool pushes = false;  ///< this holder contributes (it always reads)
  /// Pushed when this unit is ready here, awaited before it runs here. (Of a tied parameter the
  /// first and the last stage have different ones.)
  index_t lowest_unit = 0;
  index_t highest_unit = 0;
};

/// What one (stage, shard) holds, the same in every context. Slices with the same contributors and
/// readers lie in one run without gaps, in backward order of their units, in spec order within a
/// unit: query, key and value weights of a layer are neighbours and a kernel may read them as one
/// matrix.
struct Holding {
  index_t element_count = 0;
  /// The size of one arena.
  index_t bytes(Dtype dtype) const { return element_count * bytes_of(dtype); }
  List<HeldSlice> slices;    ///< sorted as they lie in the arena
  List<HeldBucket> buckets;  ///< sorted as they are pushed; pulls go in reverse

  /// The slice of a parameter, which must be held here.
  const HeldSlice& slice(index_t parameter) const;
};

/// Which bucket is where, and what it travels as: computed from the same arguments at both ends,
/// never sent.
class BucketPlan {
 public:
  /// unit_stage[u]: the stage that runs unit u (ascending). No bucket exceeds bucket_bytes (at
  /// least one block, which is 64 KiB). A bucket lives on the server that has the
  /// fewest elements so far when its turn comes, in push order.
  ///
  /// weight_dtype: of the weights that workers hold. If it is not f32, the pull wire is raw:
  /// weights travel as workers hold them.
  BucketPlan(List<ParameterSpec> specs, List<index_t> unit_stage, const Layout& layout,
             index_t bucket_bytes, const WireConfig& wire = {}, Dtype weight_dtype = kArenaDtype);

  const Layout& layout() const { return layout_; }
  const List<ParameterSpec>& specs() const { return specs_; }
  const List<index_t>& unit_stage() const { return unit_stage_; }
  const WireConfig& wire() const { return wire_; }
  Dtype weight_dtype() const { return weight_dtype_; }
  /// Sorted as the whole model pushes them.
  const List<Bucket>& buckets() const { return buckets_; }
  const Holding& holding(Holder holder) const;
  /// The elements of a bucket in an arena of its holder.
  Vector part(Vector arena, const HeldBucket& held) const {
    return arena.part(held.offset, buckets_[held.bucket].element_count);
  }
  /// The sums of groups that make up a bucket's gradient, one for each group and contributor of a
  /// replica: groups of one replica are the contributions themselves. They are added in this order.
  index_t group_sum_count(index_t bucket) const {
    return layout_.group_count() * buckets_[bucket].contributors.size();
  }
  /// The sum that a contribution (replica * contributors of the bucket + position among them)
  /// belongs to.
  index_t group_sum_of(index_t bucket, index_t contribution) const;
  /// What the weights of a bucket take on their way to a reader.
  index_t pulled_bytes(index_t bucket) const;
  /// Indices of the buckets of one server, in push order.
  List<index_t> buckets_of(index_t server) const;
  /// Digest of all of this; ends compare it when they meet.
  std::string digest() const;

 private:
  void make_buckets(index_t bucket_bytes);
  void make_holdings();

  Layout layout_;
  List<ParameterSpec> specs_;
  List<index_t> unit_stage_;
  WireConfig wire_;
  Dtype weight_dtype_;
  List<Bucket> buckets_;
  List<Holding> holdings_;  ///< at stage * shards + shard
};

}  // namespace weir
