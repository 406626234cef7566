#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "worker/groups/frame.hpp"

namespace weir {
class Comm;
}

namespace weir::worker {

/// Activations travel forward, to the next stage; their gradients backward, to the previous one.
enum class Direction { forward, backward };

/// The largest frames that enter and leave a chunk; none at the ends of the model.
struct ChunkBorders {
  FrameShape entering;
  FrameShape leaving;
};

/// What joins the chunks of a stage to the chunks before and after them: `slots` buffers each way
/// at both ends of a border, used as schedule.hpp says ("Links"). Chunk c is on stage c mod stages.
/// Frames of a chunk and a direction go in ascending order of micro-batch, starting at 0 in each
/// step.
class PipelineLink {
 public:
  /// comm: the stages of one replica and shard, by rank; more than one if they have several chunks.
  /// chunks: this stage's, in ascending order, equally many on each stage; neighbours give the same
  /// for the border between them. `progress` is called while waiting, awake as long as it says that
  /// anything moved. Making a link is collective over comm, as ending it is.
  PipelineLink(const Comm& comm, const std::vector<ChunkBorders>& chunks, index_t slots,
               std::function<bool()> progress);
  ~PipelineLink();

  /// Copies the tensors of `frame`, of no more rows than planned, to a buffer and starts it; waits
  /// only for the buffer. `chunk`, here and below, is the one on this stage.
  void send(Direction direction, index_t chunk, index_t micro_batch, const Frame& frame);
  /// Waits for the frame, which stands until release(). Its tensors have the planned rows, of which
  /// the first are those that were sent.
  const Frame& receive(Direction direction, index_t chunk, index_t micro_batch);
  /// Says that the frame has been read: its buffer may take a later one.
  void release(Direction direction, index_t chunk, index_t micro_batch);
  /// Ends a step after its last action: waits for the sends, and starts again at micro-batch 0.
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
