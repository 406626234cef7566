#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/job/bucket.hpp"
#include "common/job/layout.hpp"
#include "worker/models/stage_cut.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// The largest message that workers send each other, and what it is, for errors.
struct LargestMessage {
  double elements = 0;
  std::string what;     ///< "--micro-batch 4 x keys and values of 64 tokens x --model.width 128"
  std::string between;  ///< "stages", "contexts"
  std::string cure;     ///< "take a smaller --micro-batch"
};

/// A model: parameters, and a row of units that pass frames to each other. The stage, the servers
/// and the planner know nothing else of it. TransformerModel implements it.
class Model {
 public:
  virtual ~Model() = default;

  /// All parameters in canonical order; ParameterSpec::units are indices of units.
  virtual std::vector<ParameterSpec> parameters() const = 0;
  virtual index_t unit_count() const = 0;
  /// The name of the unit for people: "embedding", "layer 3", "head".
  virtual std::string unit_name(index_t unit) const = 0;
  /// The first unit of the same kind, which costs the same.
  virtual index_t first_like(index_t unit) const = 0;
  /// Whether a stage may consist of this unit and others for which this is false: it is not worth a
  /// stage of its own.
  virtual bool fills_a_stage(index_t unit) const = 0;
  /// The tensors that enter `unit`, for a micro-batch of this shape; none enter unit 0, and none
  /// leave the last unit (unit == unit_count()).
  virtual FrameShape frame(index_t unit, const BatchShape& batch) const = 0;
  /// The dtype of Pass::weights, which the units compute with.
  virtual Dtype weight_dtype() const { return Dtype::f32; }
  /// What the units read of a sample; its length is that of the longest.
  virtual DataShape data() const = 0;
  index_t length() const { return data().length; }

  /// Throws UsageError, with the numbers and the way out, for a model that does not exist or that
  /// this layout cannot cut.
  virtual void check(const Layout& layout) const = 0;
  /// The tokens, padding included, that each of `contexts` contexts must hold of every sequence.
  virtual index_t fewest_tokens(index_t contexts) const = 0;
  /// The most bytes that the shards of a cut add up or gather in one call.
  virtual index_t shard_bytes(const StageCut& cut) const {
    static_cast<void>(cut);
    return 0;
  }
  virtual LargestMessage largest_message(const Layout& layout, index_t micro_batch) const = 0;

  /// What make_units would allocate with these kernels.
  virtual UnitMemory memory(const StageCut& cut, const Kernels& kernels) const = 0;
  /// The units of `cut`, in forward order, for the worker with this holding (of a plan made from
  /// parameters(); it outlives them). They serve micro-batches of cut.micro_batch sequences at
  /// most, and calls with these kernels alone.
  virtual std::vector<std::unique_ptr<Unit>> make_units(const Holding& holding, const StageCut& cut,
                                                        const SlotCounts& slots,
                                                        const Kernels& kernels) const = 0;
};

/// Rows of a micro-batch on a worker, at most: its sequences times the longest part of one, and the
/// most that are a shard's own.
BatchShape largest_batch(const Model& model, const StageCut& cut);

/// What a micro-batch costs in a unit, in seconds or FLOPs.
struct UnitCost {
  double forward = 0;
  double input_gradient = 0;
  double weight_gradient = 0;
  double sum() const { return forward + input_gradient + weight_gradient; }
  UnitCost& operator+=(const UnitCost& other);
  UnitCost operator*(double factor) const;
};

/// FLOPs of each unit for one sample of the model's length, as simulated kernels charge them when
/// the units run on them.
std::vector<UnitCost> unit_flops(const Model& model, Recompute recompute = Recompute::none);

/// Seconds of each unit for `sequences` samples of the model's length: the least of `rounds` rounds
/// on these kernels after one that does not count. All weights and tokens are zero.
std::vector<UnitCost> unit_seconds(const Model& model, Kernels& kernels, index_t sequences,
                                   Recompute recompute, int rounds);

}  // namespace weir::worker
