#pragma once

#include "worker/models/model.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::worker {

/// A pre-norm Transformer with window and global-token attention (config.hpp). Unit 0 is the
/// embedding, units 1 … L are the blocks, unit L + 1 is the head; the frame between two units is
/// one matrix of ModelConfig::dtype, [own rows, d].
class TransformerModel final : public Model {
 public:
  explicit TransformerModel(ModelConfig config) : config_(std::move(config)) {}
  const ModelConfig& config() const { return config_; }

  std::vector<ParameterSpec> parameters() const override { return parameter_specs(config_); }
  index_t unit_count() const override { return config_.layers + 2; }
  std::string unit_name(index_t unit) const override;
  index_t first_like(index_t unit) const override { return is_block(unit) ? 1 : unit; }
  bool fills_a_stage(index_t unit) const override { return is_block(unit); }
  Dtype weight_dtype() const override { return config_.dtype; }
  FrameShape frame(index_t unit, const BatchShape& batch) const override;
  DataShape data() const override;
  void check(const Layout& layout) const override { worker::check(config_, layout); }
  index_t fewest_tokens(index_t contexts) const override {
    return worker::fewest_tokens(config_, contexts);
  }
  index_t shard_bytes(const StageCut& cut) const override;
  LargestMessage largest_message(const Layout& layout, index_t micro_batch) const override;
  UnitMemory memory(const StageCut& cut, const Kernels& kernels) const override;
  std::vector<std::unique_ptr<Unit>> make_units(const Holding& holding, const StageCut& cut,
                                                const SlotCounts& slots,
                                                const Kernels& kernels) const override;

 private:
  bool is_block(index_t unit) const { return unit >= 1 && unit <= config_.layers; }
  bool is_head(index_t unit) const { return unit == config_.layers + 1; }

  ModelConfig config_;
};

}  // namespace weir::worker
