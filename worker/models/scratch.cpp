#include "worker/models/scratch.hpp"

namespace weir::worker {

void Scratch::take(Pieces& pieces, const StageShape& shape) {
  const index_t rows = shape.rows;
  const index_t width = shape.config.width;
  normed = pieces.matrix(rows, width);
  attention_branch = pieces.matrix(rows, width);
  feed_forward_branch = pieces.matrix(rows, width);
  heads_gradient = pieces.matrix(rows, width / shape.shards);
  qkv_gradient = pieces.matrix(rows, 3 * width / shape.shards);
  hidden = pieces.matrix(rows, shape.feed_forward());
  hidden_gradient = pieces.matrix(rows, shape.feed_forward());
  if (shape.has_head && shape.config.task == Task::language) {
    loss.take(pieces, strip_rows_of(rows, shape.vocabulary()), shape.vocabulary());
  }
}

}  // namespace weir::worker
