#pragma once

#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/job/training.hpp"
#include "worker/data/columns.hpp"
#include "worker/models/model.hpp"

namespace weir::worker {

/// The workers' half of loss scaling (ps/decide/loss_scale.hpp is the servers'): in fp16 backward
/// runs on the loss times Pass::loss_factor, a power of two, and what is pushed is divided by it
/// again. So frames between stages are scaled, and whatever leaves for a server is not.

/// Loss terms of a batch of this many samples, at most.
index_t loss_terms(const DataShape& shape, index_t samples);

/// `scale` over the loss terms of a batch rounded up to a power of two: gradients here are those of
/// the sum of losses, and the scale is for a mean. 1 where nothing is scaled.
float loss_factor(Precision precision, double scale, index_t terms);

/// Takes the factor out of the gradients of a worker, each once and as soon as it is complete.
class Unscaling {
 public:
  /// first_unit: of this worker's stage.
  Unscaling(const Model& model, const Holding& holding, index_t first_unit);

  /// The last backward of a unit is through, from the highest unit of the stage to the lowest.
  /// gradients: the holder's arena. Exact, and what is not finite stays so; does nothing for a
  /// factor of 1.
  void complete(index_t unit, float factor, std::span<float> gradients) const;

 private:
  /// A run of the arena, of one slice or of several beside each other.
  struct Run {
    index_t offset = 0;
    index_t count = 0;
  };
  List<List<Run>> runs_;  ///< for each unit, what is complete with it
};

}  // namespace weir::worker
