#include "worker/models/model.hpp"

#include "common/base/error.hpp"
#include "worker/models/block.hpp"
#include "worker/models/classifier_head.hpp"
#include "worker/models/embedding.hpp"
#include "worker/models/language_head.hpp"

namespace weir::worker {
namespace {

StageShape shape_of(const ModelConfig& config, index_t last_unit, index_t shards,
                    index_t micro_batch) {
  return {.config = config,
          .shards = shards,
          .sequences = micro_batch,
          .rows = micro_batch * config.length,
          .has_head = last_unit > config.layers};
}

}  // namespace

std::vector<std::unique_ptr<Unit>> make_units(const ModelConfig& config, const Holding& holding,
                                              index_t first_unit, index_t last_unit, index_t shards,
                                              index_t slots, index_t micro_batch) {
  const StageShape shape = shape_of(config, last_unit, shards, micro_batch);
  const HeldParameters parameters(config, holding);
  const auto scratch = std::make_shared<Carved<Scratch>>(shape);
  std::vector<std::unique_ptr<Unit>> units;
  for (index_t unit = first_unit; unit <= last_unit; ++unit) {
    if (unit == 0) {
      units.push_back(std::make_unique<EmbeddingUnit>(config, parameters, scratch));
    } else if (unit <= config.layers) {
      units.push_back(std::make_unique<BlockUnit>(shape, unit - 1, parameters, slots, scratch));
    } else if (config.task == Task::language) {
      units.push_back(std::make_unique<LanguageHeadUnit>(shape, parameters, slots, scratch));
    } else {
      units.push_back(
          std::make_unique<ClassifierHeadUnit>(shape, micro_batch, parameters, slots, scratch));
    }
  }
  return units;
}

UnitMemory unit_memory(const ModelConfig& config, index_t first_unit, index_t last_unit,
                       index_t shards, index_t micro_batch) {
  const StageShape shape = shape_of(config, last_unit, shards, micro_batch);
  index_t slot_elements = 0;
  for (index_t unit = std::max<index_t>(first_unit, 1); unit <= last_unit; ++unit) {
    if (unit <= config.layers) {
      slot_elements += Carved<BlockActivations>::count(shape);
    } else if (config.task == Task::language) {
      slot_elements += Carved<LanguageHeadActivations>::count(shape);
    } else {
      slot_elements += Carved<ClassifierHeadActivations>::count(shape, micro_batch);
    }
  }
  constexpr auto kBytes = static_cast<index_t>(sizeof(float));
  return {slot_elements * kBytes, Carved<Scratch>::count(shape) * kBytes};
}

void next_token_logits(std::span<const std::unique_ptr<Unit>> units, const Pass& pass,
                       const MicroBatch& batch, Matrix x, Vector logits) {
  WEIR_ASSERT(batch.sequences == 1 && pass.shards.size() == 1 && !pass.training);
  auto* head = dynamic_cast<LanguageHeadUnit*>(units.back().get());
  WEIR_ASSERT(head != nullptr);
  for (const auto& unit : units.first(units.size() - 1)) unit->forward(pass, batch, 0, x);
  head->logits(pass, x.rows(batch.lengths.front() - 1, 1),
               Matrix(logits.data(), {1, static_cast<index_t>(logits.size())}));
}

}  // namespace weir::worker
