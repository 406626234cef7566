#pragma once

#include <functional>
#include <memory>

#include "common/base/list.hpp"
#include "common/number/memory.hpp"
#include "worker/models/model.hpp"

namespace weir::worker {

/// Memory for the frames at the borders of a run of units: one for all borders of equal shapes,
/// where units work in place.
class FrameMemory {
 public:
  FrameMemory(const Model& model, index_t first_border, index_t last_border,
              const BatchShape& largest, MemoryKind kind);
  /// The tensors at a border, for a micro-batch of this shape.
  Frame at(index_t border, const BatchShape& batch) const;
  /// All of it.
  index_t bytes() const;

 private:
  const Model* model_;
  index_t first_border_;
  List<List<Memory>> memory_;  ///< for each distinct frame, a tensor each
  List<index_t> memory_of_border_;
};

/// The units of a cut of a model. Training, validation and inference all run units through it.
class UnitChain {
 public:
  /// References outlive it.
  UnitChain(const Model& model, const Holding& holding, const StageCut& cut,
            const SlotCounts& slots, const Kernels& kernels);

  /// Packs the weights of a unit's products. Call it whenever they have changed; they are read as
  /// they were until then.
  void pack(index_t unit, const Pass& pass);
  /// Those of all units.
  void pack(const Pass& pass);

  /// Called with the index of a unit, before or after it runs.
  using UnitHook = std::function<void(index_t unit)>;

  /// Runs all units on the frame entering(). Returns the loss if the last unit of the model is
  /// among them. `before` and `after` may be empty.
  Loss forward(const Pass& pass, const MicroBatch& batch, Slots slots, const UnitHook& before,
               const UnitHook& after);
  /// backward and weight_gradient of each unit, last first, on the frame leaving_gradient(). The
  /// units need no gradient slots.
  void backward(const Pass& pass, const MicroBatch& batch, Slots slots, const UnitHook& after);
  /// The two calls by themselves, for units with gradient slots.
  void backward_alone(const Pass& pass, const MicroBatch& batch, Slots slots);
  void weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots,
                       const UnitHook& after);
  /// All units but the last of the model, and what that predicts (Unit::predict).
  void predict(const Pass& pass, const MicroBatch& batch, std::span<const index_t> rows,
               Matrix scores);

  /// The frames before the first unit and after the last, for a micro-batch of this shape; empty at
  /// the ends of the model.
  Frame entering(const BatchShape& batch) const { return outputs_.at(first_unit_, batch); }
  Frame leaving(const BatchShape& batch) const { return outputs_.at(end_unit(), batch); }
  Frame entering_gradient(const BatchShape& batch) const {
    return gradients_.at(first_unit_, batch);
  }
  Frame leaving_gradient(const BatchShape& batch) const { return gradients_.at(end_unit(), batch); }

  static BatchShape shape_of(const MicroBatch& batch, const TensorGroup& shards) {
    return {batch.sequences, batch.length, shards.own_rows(batch.rows()).count()};
  }

 private:
  /// The units before `end`, as forward().
  Loss run_before(index_t end, const Pass& pass, const MicroBatch& batch, Slots slots,
                  const UnitHook& before, const UnitHook& after);
  Unit& unit(index_t index) { return *units_[index - first_unit_]; }
  index_t end_unit() const { return first_unit_ + units_.size(); }

  index_t first_unit_;
  List<std::unique_ptr<Unit>> units_;
  FrameMemory outputs_;
  FrameMemory gradients_;
};

/// Copies the first rows of a frame that may have room for more rows than `to` has.
void copy_frame(Kernels& kernels, const Frame& from, const Frame& to);

/// Bytes of the frames that a UnitChain allocates.
index_t frame_bytes(const Model& model, const StageCut& cut);

}  // namespace weir::worker
