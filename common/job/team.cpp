#include "common/job/team.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/vector.hpp"

namespace weir {

Team::Team(List<std::span<float>> own, index_t pull_count, List<Member> members)
    : own_(std::move(own)), members_(std::move(members)), arrived_(pull_count, false) {
  for (Member& member : members_) {
    if (member.complete) member.complete->open_round();
  }
}

std::span<const index_t> Team::progress() {
  summed_frames_.clear();
  for (Member& member : members_) {
    if (member.complete) member.complete_count += std::ssize(member.complete->progress());
  }
  List<const float*> parts;
  while (summed_count_ < offered_count_ && !awaited()) {
    const index_t frame = summed_count_ % own_.size();
    parts.clear();
    for (const Member& member : members_) parts.push_back(member.gradients[frame].data());
    add_parts(own_[frame], parts);
    for (Member& member : members_) member.complete->open(frame);
    summed_frames_.push_back(frame);
    ++summed_count_;
  }
  return summed_frames_;
}

std::optional<int> Team::awaited() const {
  if (summed_count_ == offered_count_) return std::nullopt;
  const auto late = std::ranges::find_if(
      members_, [&](const Member& member) { return member.complete_count <= summed_count_; });
  return late == members_.end() ? std::nullopt : std::optional(late->rank);
}

void Team::arrived(index_t frame) {
  WEIR_ASSERT(!arrived_[frame]);
  arrived_[frame] = true;
  for (; passed_on_ < arrived_.size() && arrived_[passed_on_]; ++passed_on_) {
    for (Member& member : members_) member.weights->offer(passed_on_);
  }
  if (passed_on_ < arrived_.size()) return;
  arrived_.assign(arrived_.size(), false);
  passed_on_ = 0;
}

std::optional<int> Team::reader() const {
  const auto reads = [](const Member& member) {
    return member.weights && member.weights->read_by_peer();
  };
  const auto found = std::ranges::find_if(members_, reads);
  return found == members_.end() ? std::nullopt : std::optional(found->rank);
}

}  // namespace weir
