#pragma once

#include <string>

#include "common/base/list.hpp"

namespace weir::worker {

/// What a stage does next. `backward` makes the input gradient and the weight gradient together.
enum class ActionKind {
  forward,
  backward,
  send_forward,
  receive_forward,
  send_backward,
  receive_backward,
};

/// One entry of a stage's list. `chunk` is the run of layers it concerns (today one a stage, with
/// the stage's number). `slot`: the activation slot of a forward or backward; the link's buffer of
/// a message.
struct Action {
  ActionKind kind;
  index_t chunk;
  index_t micro_batch;
  index_t slot;

  bool operator==(const Action&) const = default;
};

/// What every stage does in one step, made ahead. Each stage walks its own list from first to last
/// and never looks at the others.
///
/// **Order.** On every stage forwards, backwards and each kind of message ascend by micro-batch, in
/// every schedule and layout: gradients are always accumulated in the same order.
///
/// **Forward** i reads its input (the data on stage 0, else the frame of receive_forward i) and
/// keeps in activation slot `slot` all that backward i will need, until backward i ends. On the
/// last stage it includes the loss. In a schedule without backward the slot is free as soon as the
/// forward ends. **Backward** i reads the same slot and, except on the last stage, the frame of
/// receive_backward i. Its result, the gradient of its input, is dropped on stage 0.
///
/// **Results.** A stage keeps one result of forward and one of backward: each stands until the
/// stage's next action of that kind, so its send comes before that.
///
/// **Links.** Between neighbours runs a link each way (forward: activations, backward: gradients)
/// with `link_slots` send buffers at one end and `link_slots` receive buffers at the other. In each
/// step frame i of a direction carries micro-batch i and uses buffer i mod link_slots at both ends.
///   - send i waits until its send buffer is free, which is when frame i - link_slots has arrived;
///     then copies the result there, starts the transfer and goes on (it does not wait for it).
///   - The receive of frame i is posted before the step for i < link_slots, else when the action
///     (forward or backward) that reads frame i - link_slots has ended. The list has no entry for
///     that: the executor tells the link when a frame has been read.
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
  List<index_t> activation_slots;  ///< the most activations that each stage ever holds
  List<List<Action>> actions;      ///< each stage's, in order

  index_t stages() const { return actions.size(); }
};

/// gpipe: all forwards, then all backwards. one_forward_one_backward (1f1b): as few forwards ahead
/// as keep all stages busy, then a backward and a forward in turn; stage s holds at most stages - s
/// activations. Both take (micro_batches + stages - 1) (F + B) on equal stages with free links.
/// Source: Huang et al., arXiv 1811.06965; Narayanan et al., arXiv 2104.04473, section 2.2.
enum class ScheduleKind { gpipe, one_forward_one_backward };

/// Two buffers: one frame is read while the next one arrives. By simulation (200 draws of unequal
/// stages; links free, or at 0.1 or 0.5 of a forward) more gain nothing for 4 or 8 stages, and one
/// costs up to 38 % with gpipe, 2 % with 1f1b.
inline constexpr index_t kLinkSlots = 2;

/// stages, micro_batches, link_slots >= 1. A receive comes directly before the action that reads
/// it, a send directly after the action that makes it.
Schedule make_schedule(ScheduleKind kind, index_t stages, index_t micro_batches,
                       index_t link_slots = kLinkSlots);

/// The same for evaluation: forwards only.
Schedule make_forward_only(index_t stages, index_t micro_batches, index_t link_slots = kLinkSlots);

/// Chunk, letters of the kind, micro-batch: `0F3`; `1RB0` is "chunk 1 receives gradient 0".
std::string to_text(const Action& action);
/// A line a stage: `0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1`.
std::string to_text(const Schedule& schedule);

}  // namespace weir::worker
