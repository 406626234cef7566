#pragma once

#include <cstddef>
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
  index_t fewest_tokens = 1;  ///< that each context has; contexts times this fit in a sample
};

/// Owns the columns of one micro-batch and fills them from a data set. Padding is cut away: the
/// micro-batch is as long as its longest sample, so how long depends on its samples alone, unless
/// that is too short for all contexts. It hands out this context's part of what is left.
class Batch {
 public:
  Batch(const Dataset& dataset, index_t sequences, const ContextCut& cut = {});

  /// Loads the training samples cursor … cursor + sequences - 1.
  void load_training(index_t cursor);
  /// Loads these validation samples, at most `sequences` of them.
  void load_validation(std::span<const index_t> samples);

  MicroBatch view() const;

 private:
  /// A column's memory: one sample after the other, each one row after the other.
  struct OwnedColumn {
    ColumnShape shape;
    index_t sample_bytes = 0;
    std::vector<std::byte> bytes;
  };

  /// The place of sequence `index` in this batch's memory.
  Sample place(index_t index);
  /// Sequence `index` is the data set's sample `key`, and as long as `sample` says.
  void placed(index_t index, index_t key, const Sample& sample);
  /// Moves the rows of the loaded sequences together, each this context's part of the longest.
  void cut_rows();

  const Dataset& dataset_;
  index_t sequences_;
  ContextCut cut_;
  index_t loaded_ = 0;
  Interval part_;  ///< this context's part of the longest loaded sample
  index_t sample_length_;
  std::vector<OwnedColumn> columns_;
  std::vector<index_t> lengths_;
  std::vector<index_t> samples_;
};

}  // namespace weir::worker
