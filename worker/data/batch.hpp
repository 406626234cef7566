#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/job/layout.hpp"
#include "worker/data/dataset.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// Which tokens of its sequences a worker takes.
struct ContextCut {
  index_t context = 0;
  index_t contexts = 1;
  index_t fewest_tokens = 1;  ///< of each context, at least; contexts times this fit in a sample
};

/// Owns the tokens of one micro-batch and fills them from a data set. Padding is cut away: the
/// micro-batch is as long as its longest sample, so how long depends on its samples alone, unless
/// that is too short for all contexts. Of the rest it hands out this context's part.
class Batch {
 public:
  Batch(const Dataset& dataset, index_t sequences, const ContextCut& cut = {});

  /// The training samples cursor … cursor + sequences - 1.
  void load_training(index_t cursor);
  /// These validation samples, at most `sequences` of them.
  void load_validation(std::span<const index_t> samples);

  MicroBatch view() const;

 private:
  /// The place of sequence `index` in this batch's memory, for `sample` of the data set.
  Sample place(index_t index, index_t sample);
  void placed(index_t index, const Sample& sample);
  /// Moves the rows of the loaded sequences together, each this context's part of the longest.
  void cut_rows();

  const Dataset& dataset_;
  index_t sequences_;
  ContextCut cut_;
  index_t loaded_ = 0;
  SequencePart part_;  ///< of the longest loaded sample
  std::vector<std::int32_t> tokens_;
  std::vector<std::int32_t> targets_;
  std::vector<index_t> lengths_;
  std::vector<index_t> samples_;
};

}  // namespace weir::worker
