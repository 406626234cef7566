#include "worker/models/model.hpp"

#include "common/base/error.hpp"
#include "worker/models/block.hpp"
#include "worker/models/classifier_head.hpp"
#include "worker/models/embedding.hpp"
#include "worker/models/language_head.hpp"

namespace weir::worker {
namespace {

StageShape shape_of(const ModelConfig& config, const StageCut& cut, const Kernels& kernels) {
  return {.config = config,
          .kernels = &kernels,
          .shards = cut.shards,
          .contexts = cut.contexts,
          .sequences = cut.micro_batch,
          .rows = rows_of(config, cut),
          .has_head = cut.last_unit > config.layers,
          .recompute = cut.recompute};
}

}  // namespace

index_t rows_of(const ModelConfig& config, const StageCut& cut) {
  return cut.micro_batch * longest_part(config.length, cut.contexts);
}

std::vector<std::unique_ptr<Unit>> make_units(const ModelConfig& config, const Holding& holding,
                                              const StageCut& cut, index_t slots,
                                              const Kernels& kernels) {
  const StageShape shape = shape_of(config, cut, kernels);
  const HeldParameters parameters(config, holding);
  const auto scratch = std::make_shared<Carved<Scratch>>(kernels.memory(), shape);
  const auto shared = shape.recompute == Recompute::block
                          ? std::make_shared<Carved<BlockActivations>>(kernels.memory(), shape)
                          : nullptr;
  std::vector<std::unique_ptr<Unit>> units;
  for (index_t unit = cut.first_unit; unit <= cut.last_unit; ++unit) {
    if (unit == 0) {
      units.push_back(std::make_unique<EmbeddingUnit>(config, parameters, scratch));
    } else if (unit <= config.layers) {
      units.push_back(
          std::make_unique<BlockUnit>(shape, unit - 1, parameters, slots, scratch, shared));
    } else if (config.task == Task::language) {
      units.push_back(std::make_unique<LanguageHeadUnit>(shape, parameters, slots, scratch));
    } else {
      units.push_back(
          std::make_unique<ClassifierHeadUnit>(shape, cut.micro_batch, parameters, slots, scratch));
    }
  }
  return units;
}

UnitMemory unit_memory(const ModelConfig& config, const StageCut& cut, const Kernels& kernels) {
  const StageShape shape = shape_of(config, cut, kernels);
  const bool recompute = cut.recompute == Recompute::block;
  const index_t block = Carved<BlockActivations>::bytes(shape);
  index_t slot_bytes = 0;
  for (index_t unit = std::max<index_t>(cut.first_unit, 1); unit <= cut.last_unit; ++unit) {
    if (unit <= config.layers) {
      slot_bytes += recompute ? shape.rows * config.width * bytes_of(Dtype::f32) : block;
    } else if (config.task == Task::language) {
      slot_bytes += Carved<LanguageHeadActivations>::bytes(shape);
    } else {
      slot_bytes += Carved<ClassifierHeadActivations>::bytes(shape, cut.micro_batch);
    }
  }
  return {slot_bytes, Carved<Scratch>::bytes(shape) + (recompute ? block : 0)};
}

void next_token_logits(std::span<const std::unique_ptr<Unit>> units, const Pass& pass,
                       const MicroBatch& batch, Matrix x, Vector logits) {
  WEIR_ASSERT(batch.sequences == 1 && !pass.training);
  WEIR_ASSERT(pass.shards.size() == 1 && pass.contexts.size() == 1);
  auto* head = dynamic_cast<LanguageHeadUnit*>(units.back().get());
  WEIR_ASSERT(head != nullptr);
  for (const auto& unit : units.first(units.size() - 1)) unit->forward(pass, batch, 0, x);
  head->logits(pass, x.rows(batch.lengths.front() - 1, 1), Matrix(logits, 1, logits.size()));
}

}  // namespace weir::worker
