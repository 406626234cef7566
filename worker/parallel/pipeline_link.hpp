#pragma once

#include <functional>
#include <memory>
#include <span>

#include "common/number/index.hpp"

namespace weir {
class Comm;
}

namespace weir::worker {

/// Activations travel forward, to the next stage; their gradients backward, to the previous one.
enum class Direction { forward, backward };

/// What joins a stage to its neighbours: `slots` buffers each way at both ends, used as
/// schedule.hpp says ("Links"). Frames of a direction go in ascending order of micro-batch,
/// starting at 0 in each step.
class PipelineLink {
 public:
  /// comm: the stages of one replica and shard, by rank. Every frame has frame_elements floats.
  /// `progress` is called while waiting, awake as long as it says that anything moved. Making a
  /// link is collective over comm, as ending it is.
  PipelineLink(const Comm& comm, index_t frame_elements, index_t slots,
               std::function<bool()> progress);
  ~PipelineLink();

  /// Copies `frame` (at most frame_elements) to a buffer and starts it; waits only for the buffer.
  void send(Direction direction, index_t micro_batch, std::span<const float> frame);
  /// Waits for the frame, which stands until release().
  std::span<const float> receive(Direction direction, index_t micro_batch);
  /// The frame has been read: its buffer may take a later one.
  void release(Direction direction, index_t micro_batch);
  /// After the last action of a step: waits for the sends, and starts again at micro-batch 0.
  void end_step();
  /// Moves what travels; never blocks.
  void progress();
  /// Seconds spent waiting so far (the pipeline's bubble and links).
  double waited_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::worker
