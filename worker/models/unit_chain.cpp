#include "worker/models/unit_chain.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

FrameMemory::FrameMemory(const Model& model, index_t first_border, index_t last_border,
                         const BatchShape& largest, MemoryKind kind)
    : model_(&model), first_border_(first_border) {
  List<FrameShape> shapes;
  for (index_t border = first_border; border <= last_border; ++border) {
    const FrameShape shape = model.frame(border, largest);
    const auto found = std::ranges::find(shapes, shape);
    memory_of_border_.push_back(found - shapes.begin());
    if (found != shapes.end()) continue;
    shapes.push_back(shape);
    List<Memory>& tensors = memory_.emplace_back();
    for (const TensorShape& tensor : shape) tensors.emplace_back(tensor.bytes(), 1, kind);
  }
}

Frame FrameMemory::at(index_t border, const BatchShape& batch) const {
  const List<Memory>& tensors = memory_[memory_of_border_[border - first_border_]];
  Frame frame;
  for (const TensorShape& shape : model_->frame(border, batch)) {
    frame.emplace_back(tensors[frame.size()].elements(shape.dtype), shape.rows, shape.columns);
  }
  return frame;
}

index_t FrameMemory::bytes() const {
  index_t sum = 0;
  for (const List<Memory>& tensors : memory_) {
    for (const Memory& tensor : tensors) sum += tensor.bytes();
  }
  return sum;
}

UnitChain::UnitChain(const Model& model, const Holding& holding, const StageCut& cut,
                     const SlotCounts& slots, const Kernels& kernels)
    : first_unit_(cut.first_unit),
      units_(model.make_units(holding, cut, slots, kernels)),
      outputs_(model, cut.first_unit, cut.last_unit + 1, largest_batch(model, cut),
               kernels.memory()),
      gradients_(model, cut.first_unit, cut.last_unit + 1,
                 cut.training ? largest_batch(model, cut) : BatchShape(), kernels.memory()) {
  WEIR_ASSERT(end_unit() == cut.last_unit + 1);
}

void UnitChain::pack(index_t at, const Pass& pass) {
  for (const ProductWeights& weights : unit(at).product_weights(pass)) {
    pass.kernels.pack(weights.matrix, weights.uses);
  }
}

void UnitChain::pack(const Pass& pass) {
  for (index_t at = first_unit_; at < end_unit(); ++at) pack(at, pass);
}

Loss UnitChain::forward(const Pass& pass, const MicroBatch& batch, Slots slots,
                        const UnitHook& before, const UnitHook& after) {
  return run_before(end_unit(), pass, batch, slots, before, after);
}

Loss UnitChain::run_before(index_t end, const Pass& pass, const MicroBatch& batch, Slots slots,
                           const UnitHook& before, const UnitHook& after) {
  const BatchShape shape = shape_of(batch, pass.shards);
  Loss loss;
  for (index_t at = first_unit_; at < end; ++at) {
    if (before) before(at);
    loss +=
        unit(at).forward(pass, batch, slots, outputs_.at(at, shape), outputs_.at(at + 1, shape));
    if (after) after(at);
  }
  return loss;
}

void UnitChain::backward(const Pass& pass, const MicroBatch& batch, Slots slots,
                         const UnitHook& after) {
  const BatchShape shape = shape_of(batch, pass.shards);
  for (index_t at = end_unit(); at-- > first_unit_;) {
    unit(at).backward_and_weights(pass, batch, slots, gradients_.at(at + 1, shape),
                                  gradients_.at(at, shape));
    if (after) after(at);
  }
}

void UnitChain::backward_alone(const Pass& pass, const MicroBatch& batch, Slots slots) {
  const BatchShape shape = shape_of(batch, pass.shards);
  for (index_t at = end_unit(); at-- > first_unit_;) {
    unit(at).backward(pass, batch, slots, gradients_.at(at + 1, shape), gradients_.at(at, shape));
  }
}

void UnitChain::weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots,
                                const UnitHook& after) {
  for (index_t at = end_unit(); at-- > first_unit_;) {
    unit(at).weight_gradient(pass, batch, slots);
    if (after) after(at);
  }
}

void UnitChain::predict(const Pass& pass, const MicroBatch& batch, std::span<const index_t> rows,
                        Matrix scores) {
  const index_t last = end_unit() - 1;
  run_before(last, pass, batch, {}, {}, {});
  unit(last).predict(pass, batch, outputs_.at(last, shape_of(batch, pass.shards)), rows, scores);
}

void copy_frame(Kernels& kernels, const Frame& from, const Frame& to) {
  for (std::size_t tensor = 0; tensor < to.size(); ++tensor) {
    kernels.copy(from[tensor].rows(0, to[tensor].extent(0)).flat(), to[tensor].flat());
  }
}

index_t frame_bytes(const Model& model, const StageCut& cut) {
  const FrameMemory outputs(model, cut.first_unit, cut.last_unit + 1, largest_batch(model, cut),
                            MemoryKind::none);
  return 2 * outputs.bytes();  // and as much for their gradients
}

}  // namespace weir::worker
