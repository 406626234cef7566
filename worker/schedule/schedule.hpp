#pragma once

#include <string>

#include "common/base/list.hpp"

namespace weir::worker {

/// What a stage does next. `backward` makes the gradient of the input and the gradients of the
/// weights together. `input_gradient` and `weight_gradient` are its halves, for schedules in which
/// other stages wait only for the first one.
enum class ActionKind {
  forward,
  backward,
  input_gradient,
  weight_gradient,
  send_forward,
  receive_forward,
  send_backward,
  receive_backward,
};

/// One entry of a stage's list.
struct Action {
  ActionKind kind;
  index_t chunk;  ///< the run of units that it concerns
  index_t micro_batch;
  /// The chunk's activation slot; of a message the link's buffer.
  index_t slot = 0;
  /// The chunk's gradient slot, of input_gradient and weight_gradient.
  index_t gradient_slot = 0;
  /// The gradients of the chunk's weights are complete after this action. Those of each unit are
  /// pushed as soon as the action is done with the unit.
  bool pushes = false;

  bool operator==(const Action&) const = default;
};

/// What every stage does in one step, made ahead. Each stage walks its own list from first to last
/// and never looks at the others.
///
/// **Chunks.** The units of a model are cut into chunks, numbered in forward order. Chunk c is on
/// stage c mod stages, so with several chunks a stage a micro-batch goes round several times.
///
/// **Order.** In every chunk the actions of each kind ascend by micro-batch, in every schedule and
/// layout: gradients are always accumulated in the same order. On a stage the chunks push in
/// descending order.
///
/// **Forward** i of a chunk reads its input (the data in chunk 0, else the frame of
/// receive_forward i) and keeps in activation slot `slot` all that the gradients of i will need. In
/// the last chunk it includes the loss. In a schedule without backward the slot is free as soon as
/// the forward ends. **Backward** i reads the same slot and, except in the last chunk, the frame of
/// receive_backward i; then the slot is free. Its result, the gradient of its input, is dropped in
/// chunk 0. A chunk with gradient slots has **input_gradient** i instead, which reads the same and
/// fills gradient slot `gradient_slot`, and later **weight_gradient** i, which reads both slots and
/// frees them.
///
/// **Results.** A chunk keeps one result of forward and one of backward (or input_gradient): each
/// stands until the chunk's next action of that kind, so its send comes before that.
///
/// **Links.** Between neighbouring chunks runs a link each way (forward: activations, backward:
/// gradients) with `link_slots` send buffers at one end and `link_slots` receive buffers at the
/// other. In each step frame i of a link carries micro-batch i and uses buffer i mod link_slots at
/// both ends.
///   - send i waits until its send buffer is free, which is when frame i - link_slots has arrived;
///     then copies the result there, starts the transfer and goes on (it does not wait for it).
///   - The receive of frame i is posted before the step for i < link_slots, else when the action
///     that reads frame i - link_slots has ended. The list has no entry for that: the executor
///     tells the link when a frame has been read.
///   - Frame i moves once its send has started and its receive is posted (rendezvous: nothing is
///     buffered underway). It arrives one link time later.
///   - receive i waits for the arrival. The frame stands in its buffer until it has been read.
/// All frames of a step are read within the step, so the next step finds all receives posted.
///
/// schedule_check.hpp proves that a schedule keeps to this.
struct Schedule {
  index_t micro_batches = 0;
  index_t link_slots = 0;
  bool has_backward = true;        ///< false: evaluation, forwards and their messages only
  List<index_t> activation_slots;  ///< the most activations that each chunk ever keeps
  List<index_t> gradient_slots;    ///< each chunk's; 0: it has `backward`, not its halves
  List<List<Action>> actions;      ///< each stage's, in order

  index_t stages() const { return actions.size(); }
  index_t chunks() const { return activation_slots.size(); }
  index_t stage_of(index_t chunk) const { return chunk % stages(); }
};

/// Two buffers: one frame is read while the next one arrives. By simulation (200 draws of unequal
/// stages; links free, or at 0.1 or 0.5 of a forward) more gain nothing for 4 or 8 stages, and one
/// costs up to 38 % with gpipe, 2 % with 1f1b.
inline constexpr index_t kLinkSlots = 2;

/// What a schedule is made for. All are >= 1.
struct Pipeline {
  index_t stages = 1;
  index_t chunks_a_stage = 1;
  index_t link_slots = kLinkSlots;

  index_t chunks() const { return stages * chunks_a_stage; }
  bool operator==(const Pipeline&) const = default;
};

/// The times are those of m micro-batches on p equal stages with free links, if forward, input
/// gradient and weight gradient of a micro-batch take F, B and W. A stage works for m (F + B + W)
/// of it; the rest is the bubble. Activations are those of a stage for one micro-batch.
enum class ScheduleKind {
  /// All forwards, then all backwards: (m + p - 1) (F + B + W), m activations.
  /// Source: Huang et al., arXiv 1811.06965.
  gpipe,
  /// As few forwards ahead as keep all stages busy, then a forward and a backward in turn: the same
  /// time, at most p - s activations on stage s.
  /// Source: Narayanan et al., arXiv 2104.04473, section 2.2.
  one_forward_one_backward,
  /// With twice the forwards ahead: the same time, but a link may take long before stages wait for
  /// it; at most 2 (p - s) - 1 activations. Source: Zhuang et al., arXiv 2211.05322.
  eager_one_forward_one_backward,
  /// v chunks a stage, p micro-batches of a chunk in turn: m (F + B + W) + (p - 1) (F + B + W) / v
  /// if p divides m, less than with the next larger such m otherwise; about p + (p - 1) / v
  /// activations, v times the messages. Source: Narayanan et al., section 2.2.
  interleaved,
  /// The order of 1f1b with backward in halves; stage s makes its weight gradients s micro-batches
  /// later, where it would wait: m (F + B + W) + (p - 1) (F + B - W) for m >= p, W <= F and W <= B;
  /// at most p activations. Source: Qi et al., arXiv 2401.10241, section 2.2.
  zero_bubble_h1,
};

/// chunks_a_stage is 1 except for `interleaved`, which needs two stages then. A receive comes
/// directly before the action that reads it, a send directly after the action that makes it.
Schedule make_schedule(ScheduleKind kind, const Pipeline& pipeline, index_t micro_batches);

/// The same for evaluation: forwards only.
Schedule make_forward_only(const Pipeline& pipeline, index_t micro_batches);

/// `forward`, `send_backward`: the word for a trace.
const char* name_of(ActionKind kind);
/// Chunk, letters of the kind, micro-batch, and P if it pushes: `0F3`; `1RB0` is "chunk 1 receives
/// gradient 0". F, B, I, W: forward, backward, input and weight gradient.
std::string to_text(const Action& action);
/// A line a stage: `0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1P`.
std::string to_text(const Schedule& schedule);

}  // namespace weir::worker
