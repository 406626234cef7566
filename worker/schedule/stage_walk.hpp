#pragma once

#include <array>
#include <string>

#include "worker/schedule/schedule.hpp"

namespace weir::worker {

inline constexpr std::array kActionKinds = {
    ActionKind::forward,         ActionKind::backward,        ActionKind::input_gradient,
    ActionKind::weight_gradient, ActionKind::send_forward,    ActionKind::receive_forward,
    ActionKind::send_backward,   ActionKind::receive_backward};

/// The place of a kind in kActionKinds.
inline std::size_t position(ActionKind kind) { return static_cast<std::size_t>(kind); }

inline bool is_message(ActionKind kind) { return kind >= ActionKind::send_forward; }

/// Which action of a chunk makes the gradient of its input.
inline ActionKind backward_kind(const Schedule& schedule, index_t chunk) {
  return schedule.gradient_slots[chunk] == 0 ? ActionKind::backward : ActionKind::input_gradient;
}

/// The part of check() that looks at one stage alone: walks its list once.
class StageWalk {
 public:
  StageWalk(const Schedule& schedule, index_t stage);

  /// What is wrong with the list; empty if nothing is.
  std::string fault();
  index_t peak_activations() const { return peak_; }

 private:
  static constexpr index_t kFree = -1;

  /// What was done of a chunk.
  struct Chunk {
    std::array<index_t, kActionKinds.size()> counts{};  ///< the next micro-batch of each kind
    List<index_t> activations;                          ///< micro-batch in each slot
    List<index_t> gradients;                            ///< likewise
    bool pushed = false;
  };

  bool is_here(index_t chunk) const;
  Chunk& chunk_at(index_t chunk) { return chunks_[chunk / schedule_.stages()]; }
  const Chunk& chunk_at(index_t chunk) const { return chunks_[chunk / schedule_.stages()]; }
  index_t count(index_t chunk, ActionKind kind) const {
    return chunk_at(chunk).counts[position(kind)];
  }

  /// Each returns what is wrong with the action, which is the next of the list; empty if nothing
  /// is. take() carries it out.
  std::string take(const Action& action);
  std::string misplaced(const Action& action) const;
  std::string impossible(const Action& action);
  std::string wrong_push(const Action& action);
  std::string compute(const Action& action, ActionKind input, ActionKind output) const;
  std::string send(const Action& action, ActionKind result) const;
  std::string receive(const Action& action, ActionKind reader) const;
  std::string buffer(const Action& action) const;

  std::string occupy_activation(const Action& action);
  std::string find_activation(const Action& action) const;
  std::string occupy_gradient(const Action& action);
  std::string find_gradient(const Action& action) const;
  void free_activation(const Action& action);

  const Schedule& schedule_;
  const index_t stage_;
  List<Chunk> chunks_;  ///< this stage's, ascending
  index_t activations_ = 0;
  index_t peak_ = 0;
};

}  // namespace weir::worker
