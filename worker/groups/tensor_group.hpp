#pragma once

#include "common/base/even_part.hpp"
#include "common/number/tensor.hpp"

namespace weir::worker {

/// The shards that together hold one stage of one replica. All of them make every call, in the same
/// order and with the same sizes. Layers see this and no MPI.
///
/// Between the products of a layer each shard holds a run of the rows of a micro-batch: its own
/// rows.
class TensorGroup {
 public:
  virtual ~TensorGroup() = default;
  virtual index_t size() const = 0;
  virtual index_t index() const = 0;
  /// Which of so many rows are this shard's own, perhaps none; all of them if there is one shard.
  Interval own_rows(index_t rows) const { return even_part(rows, index(), size()); }
  /// Those of a matrix of all rows.
  template <class Byte>
  MatrixOf<Byte> own_rows(const MatrixOf<Byte>& all) const {
    const Interval own = own_rows(all.extent(0));
    return all.rows(own.begin, own.count());
  }

  /// values[i] = sum over the shards, in place; the same bits on every shard and in every run,
  /// wherever the shards are. A low type is added up in f32 and rounded once.
  virtual void sum(Vector values) = 0;
  /// values[i] = maximum over the shards, in place.
  virtual void max(Vector values) = 0;

  /// Starts a sum over the shards of which each gets its own rows; `values` has all rows. Nothing
  /// else of this group is called before it has ended, and `values` are not touched.
  virtual void start_row_sum(Matrix values) = 0;
  /// Ends it: this shard's own rows are the sum; the others are unspecified.
  virtual void finish_row_sum(Matrix values) = 0;
  void sum_rows(Matrix values) {
    start_row_sum(values);
    finish_row_sum(values);
  }
  /// Fills in the rows of the other shards; each brings its own.
  virtual void gather_rows(Matrix values) = 0;
};

/// The group of one rank, whose stage is not cut: every sum is its own value.
class SingleShard final : public TensorGroup {
 public:
  index_t size() const override { return 1; }
  index_t index() const override { return 0; }
  void sum(Vector) override {}
  void max(Vector) override {}
  void start_row_sum(Matrix) override {}
  void finish_row_sum(Matrix) override {}
  void gather_rows(Matrix) override {}
};

}  // namespace weir::worker
