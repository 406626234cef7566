#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/job/bucket_memory.hpp"
#include "common/net/messages.hpp"
#include "common/number/memory.hpp"
#include "ps/update/optimizer.hpp"
#include "ps/update/sent_weights.hpp"

namespace weir::ps {

/// The parameters of one server: weights, moments, and a place for each contribution. It computes
/// and neither sends nor decides.
///
/// A bucket goes round: contributions arrive -> sum() of those that make the update -> summed ->
/// apply() -> their places are free again. Buckets are named by their index in the plan.
/// Contributors of a bucket are numbered replica * (contributors of the bucket) + position among
/// them; the sum goes in this order, whatever the order of arrival, so that it has the same bits
/// every run. Groups of several replicas (Layout::group_size) are added up first, each by itself:
///
///   gradient = sum over groups, then over contributors of a replica: (sum over the group's
///   replicas)
///
/// Such a sum comes from a leader (common/job/team.hpp), in the push wire. Or it is made here, of
/// raw contributions, and passes through the push wire all the same, with a residual of the
/// group's: so the bits do not depend on who adds up.
class Store {
 public:
  /// Begins with initial weights and zero moments, and waits for update 1. Without a seed weights
  /// are zero until a checkpoint is loaded: to draw 100 M of them takes a second. `plan` and what
  /// `given` names must outlive it; contributions are given only if the push wire is raw.
  Store(const BucketPlan& plan, index_t server, const OptimizerConfig& optimizer,
        std::optional<std::uint64_t> seed, const BucketMemory& given = {});

  const List<index_t>& buckets() const { return buckets_; }  ///< sorted as they are pushed
  index_t contributor_count(index_t bucket) const;

  index_t group_sum_count(index_t bucket) const { return plan_->group_sum_count(bucket); }

  /// Where a contribution is to be written: a sum of a group in the push wire, another one raw. It
  /// may be written while accepts() is true. The address never changes. Those that come with
  /// another one have none.
  std::span<std::byte> contribution_frame(index_t bucket, index_t contributor);
  /// The same for a raw one, as floats: [elements of the bucket].
  std::span<float> contribution(index_t bucket, index_t contributor);
  /// Whether this contribution may be written, because the previous one is applied or discarded.
  bool accepts(index_t bucket, index_t contributor) const;
  /// Tells that all floats of this contribution are there. Returns whether the bucket now has all
  /// its contributions. Throws Error if this one had arrived before.
  bool arrived(index_t bucket, index_t contributor);
  /// Adds up the contributions of these replicas (ascending), which have arrived, and the squares
  /// of the sum, block by block. Called once an update. A group takes part as a whole.
  void sum(index_t bucket, std::span<const index_t> replicas);
  /// The sum of squares of each block (kBlockElements elements counted from a slice's begin),
  /// bucket by bucket in push order, segment by segment. Valid once all buckets are summed.
  bool all_summed() const { return summed_count_ == buckets_.size(); }
  List<double> partials() const;
  /// Turns the summed gradient into the direction and steps the moments. Called only for optimizers
  /// with trust ratios: once, before apply(), unless the directive skips.
  void make_direction(index_t bucket, const Directive& directive);
  /// The squares of weights and of directions, ordered as partials(). Valid once all directions are
  /// made.
  const List<double>& weight_squares() const { return weight_squares_; }
  const List<double>& direction_squares() const { return direction_squares_; }
  /// Steps the bucket by the summed gradient (or by its direction if there are trust ratios:
  /// `trust`, one a parameter), unless the directive skips, and frees the places of its
  /// contributors. Called once, after partials(). Throws Error if the directive is of another
  /// update.
  void apply(index_t bucket, const Directive& directive, std::span<const double> trust = {});
  /// Frees the places of a replica whose contributions make no update.
  void discard(index_t bucket, index_t replica);

  /// Says that the next contributions, of which none has arrived yet, are those of this update.
  /// moments_begin: updates that were applied before the moments began, which their bias correction
  /// does not count.
  void begin_with(index_t update, index_t moments_begin = 0);
  /// The update that the bucket waits for or is in.
  index_t update(index_t bucket) const { return entry(bucket).update; }
  std::span<const float> weights(index_t bucket) const;
  /// The weights as their readers get them: in the plan's weight dtype, or as its pull wire encodes
  /// them. They are renewed by apply() and begin_with(). If the pull wire sends differences, each
  /// apply() makes one, also if it skips; before the first they are zero.
  std::span<const std::byte> weight_frame(index_t bucket) const;
  std::span<float> mutable_weights(index_t bucket);  ///< to load a checkpoint, or to go back
  /// Whether the pull wire sends differences; then what the readers of a bucket have.
  bool sends_differences() const { return sent_.kept(); }
  std::span<float> sent_weights(index_t bucket) { return sent_.of(bucket); }
  /// Renews weight_frame() after mutable_weights() were written. begin_with() does so, too, unless
  /// differences are sent. An apply() that rolls back leaves this to its caller.
  void encode_weights(index_t bucket) { encode_weights(entry(bucket)); }
  /// Whether this sum is encoded here, by a wire that keeps residuals; and where the residual lies,
  /// zero in the beginning.
  bool keeps_residual(index_t bucket, index_t group_sum) const {
    return entry(bucket).residual_offsets[group_sum] >= 0;
  }
  std::span<float> residual(index_t bucket, index_t group_sum);
  /// One of the optimizer's slots, as slot_names numbers them.
  std::span<float> slot(index_t bucket, index_t index);

  /// The arenas of a store with one server and one holder. All weights lie in one arena, in another
  /// as a worker reads them (the same one if that is in f32), and all first contributions in a
  /// third, with the offsets of the Holding, so a worker in the same process needs no copies. These
  /// assert that there is one server and one holder.
  std::span<const float> weight_arena() const;
  ConstVector read_arena() const;
  std::span<float> gradient_arena();
  /// Begins from these weights, in the order of the arena.
  void take_weights(std::span<const float> arena);

 private:
  /// How a contribution comes.
  enum class Kind {
    group_sum,  ///< as the sum of a group: in the push wire
    one,        ///< raw, to be added to those of its group
    with_leader,
  };

  struct Entry {
    index_t bucket = 0;
    index_t offset = 0;  ///< elements from the begin of the arenas
    std::span<float> weights;
    Vector read;       ///< the weights as workers read them; `weights` itself if that is in f32
    List<Kind> kinds;  ///< one a contribution
    List<std::span<float>> contributions;  ///< places of those that are raw
    List<index_t> push_offsets;            ///< where the others are in push_frames_
    List<index_t> residual_offsets;  ///< where each sum's is in residuals_; -1: a worker has it
    index_t pull_offset = 0;         ///< where it is in pull_frames_
    index_t first_partial = 0;
    index_t update = 1;
    List<bool> arrived;
    index_t missing = 0;
    bool summed = false;
    index_t sum = 0;  ///< the contribution that holds the sum
  };

  const Bucket& bucket(index_t bucket) const { return plan_->buckets()[bucket]; }
  const Entry& entry(index_t bucket) const;
  Entry& entry(index_t bucket);
  std::span<float> part(Buffer& arena, const Entry& entry);
  /// Finds a place for each entry's weights and raw contributions. `arena`: elements of all
  /// buckets.
  void place(const BucketMemory& given, index_t arena);
  OptimizerStep step_of(index_t parameter, const Directive& directive, double trust) const;
  List<std::span<float>> slots_of(const Entry& entry, index_t offset, index_t count);
  Kind kind_of(index_t bucket, index_t contribution, const List<bool>& led) const;
  bool is_raw(Kind kind) const {
    return kind == Kind::one || (kind == Kind::group_sum && plan_->wire().push.is_raw());
  }
  void sum_raw(const Entry& entry, const List<List<index_t>>& groups);
  void sum_coded(const Entry& entry, const List<List<index_t>>& groups);
  std::span<const std::byte> coded_sum(const Entry& entry, const List<index_t>& group);
  /// Where the sum of the contributions is, once it exists.
  std::span<float> sum_place(const Entry& entry);
  void encode_weights(const Entry& entry);

  const BucketPlan* plan_;
  OptimizerConfig optimizer_;
  List<index_t> buckets_;
  List<Entry> entries_;     ///< one a bucket of this server
  List<index_t> entry_of_;  ///< one a bucket of the plan; -1: another server's
  // Memory for what was given no place:
  Buffer weights_;
  Memory read_;       ///< the weights in the plan's weight dtype, if that is not f32
  Buffer gradients_;  ///< the sum of each bucket, and before it its first contribution if raw
  Buffer others_;     ///< the other contributions
  // Frames, if a wire is not raw: contributions then wait here to be decoded.
  BufferOf<std::byte> push_frames_;
  BufferOf<std::byte> coded_sum_;  ///< one group's, where it is encoded here
  Buffer residuals_;               ///< one a sum of a group, if they are kept here
  BufferOf<std::byte> pull_frames_;
  SentWeights sent_;
  List<Buffer> slots_;
  List<double> partials_;
  List<double> weight_squares_, direction_squares_;  ///< empty without trust ratios
  index_t summed_count_ = 0;
  index_t moments_begin_ = 0;
};

/// The blocks of one bucket, in the order of Store::partials.
struct Block {
  index_t parameter = 0;
  index_t begin = 0;  ///< element of the whole parameter
  index_t count = 0;
  index_t offset = 0;  ///< elements from the begin of the bucket
};
List<Block> blocks_of(const Bucket& bucket);

}  // namespace weir::ps
