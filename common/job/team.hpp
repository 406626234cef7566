#pragma once

#include <memory>
#include <optional>
#include <span>

#include "common/base/list.hpp"
#include "common/net/channel.hpp"

namespace weir {

/// A team, seen from its leader. The workers of a group (Layout::group_size) that hold the same are
/// a team if they share memory; the first of them leads it. The leader adds the members' gradients
/// to its own, where its own lie, and sends the sum. All read the weights that it gets. A Team is
/// what the leader needs of the others for the buckets of one server; see DataPlane.
class Team {
 public:
  /// Another worker of the team, and the leader's ends of what the two tell each other.
  struct Member {
    int rank = 0;                             ///< its rank in the job
    List<std::span<const float>> gradients;   ///< one a frame of pushes
    std::unique_ptr<FrameReceiver> complete;  ///< its gradients; none if there are no pushes
    std::unique_ptr<FrameSender> weights;     ///< none if there are no pulls
    index_t complete_count = 0;               ///< frames so far, over all updates
  };

  /// own: the leader's gradients, by frame of pushes. pull_count: frames of pulls.
  Team(List<std::span<float>> own, index_t pull_count, List<Member> members);

  /// The leader's next frame of pushes is complete.
  void offer() { ++offered_count_; }
  /// Adds up what all have completed: leader first, then the members in order. Returns the frames
  /// whose sums now lie in the leader's gradients, in order. Valid until the next call.
  std::span<const index_t> progress();
  /// A member without whose gradients the leader's cannot leave.
  std::optional<int> awaited() const;

  /// The weights of this frame of pulls have arrived where all read them.
  void arrived(index_t frame);
  /// A member that may still read the weights of the round before, which must not change then.
  std::optional<int> reader() const;

 private:
  List<std::span<float>> own_;
  List<Member> members_;
  index_t offered_count_ = 0;  ///< over all updates, as is the next
  index_t summed_count_ = 0;
  List<index_t> summed_frames_;
  List<bool> arrived_;  ///< pulls of this round, which are passed on in order
  index_t passed_on_ = 0;
};

}  // namespace weir
