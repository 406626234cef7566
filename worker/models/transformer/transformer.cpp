#include "worker/models/transformer/transformer.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "worker/models/transformer/block.hpp"
#include "worker/models/transformer/classifier_head.hpp"
#include "worker/models/transformer/embedding.hpp"
#include "worker/models/transformer/language_head.hpp"

namespace weir::worker {

namespace {

StageShape shape_of(const TransformerModel& model, const StageCut& cut, const Kernels& kernels) {
  return {.config = model.config(),
          .kernels = &kernels,
          .shards = cut.shards,
          .contexts = cut.contexts,
          .sequences = cut.micro_batch,
          .rows = largest_batch(model, cut).rows(),
          .own_rows = largest_batch(model, cut).own_rows,
          .has_head = cut.last_unit + 1 == model.unit_count(),
          .recompute = cut.recompute,
          .training = cut.training};
}

}  // namespace

std::string TransformerModel::unit_name(index_t unit) const {
  if (is_block(unit)) return text("layer ", unit - 1);
  return is_head(unit) ? "head" : "embedding";
}

FrameShape TransformerModel::frame(index_t unit, const BatchShape& batch) const {
  if (unit == 0 || unit == unit_count()) return {};
  return {{config_.dtype, batch.own_rows, config_.width}};
}

DataShape TransformerModel::data() const {
  DataShape data{config_.length,
                 {{.name = "tokens", .ragged = true, .values = config_.vocabulary}}};
  if (config_.task == Task::language) {
    data.columns.push_back(
        {.name = "targets", .ragged = true, .values = config_.vocabulary, .is_target = true});
  } else {
    data.columns.push_back({.name = "labels", .values = config_.classes, .is_target = true});
  }
  return data;
}

index_t TransformerModel::shard_bytes(const StageCut& cut) const {
  if (cut.shards == 1) return 0;
  // Activations, or the two sums of each row of logits (layers/loss.hpp).
  const index_t row_bytes =
      std::max(config_.width * bytes_of(config_.dtype), 2 * bytes_of(Dtype::f32));
  return largest_batch(*this, cut).rows() * row_bytes;
}

LargestMessage TransformerModel::largest_message(const Layout& layout, index_t micro_batch) const {
  LargestMessage largest;
  const auto consider = [&](double elements, std::string what, std::string between,
                            std::string cure) {
    if (elements <= largest.elements) return;
    largest = {elements, std::move(what), std::move(between), std::move(cure)};
  };
  const auto sequences = static_cast<double>(micro_batch);
  const auto width = static_cast<double>(config_.width);
  const auto shards = static_cast<double>(layout.shards);
  const index_t part = longest_part(config_.length, layout.contexts);
  std::string rows =
      text("--micro-batch ", micro_batch, " x ", part, " tokens x --model.width ", config_.width);
  if (layout.shards > 1) rows += text(" / --shards ", layout.shards);
  if (layout.stages > 1) {
    consider(sequences * static_cast<double>(part) * width / shards, rows, "stages",
             "take a smaller --micro-batch");
  }
  if (layout.shards > 1) {
    consider(sequences * static_cast<double>(part) * width / shards, rows, "shards",
             "take a smaller --micro-batch");
  }
  if (layout.contexts > 1) {
    // Keys and values of the tokens that a neighbour sees.
    const index_t window = worker::fewest_tokens(config_, layout.contexts);
    consider(2 * sequences * static_cast<double>(window) * width,
             text("--micro-batch ", micro_batch, " x keys and values of ", window,
                  " tokens x --model.width ", config_.width),
             "contexts", "take a smaller --micro-batch");
    // The softmax of the global tokens' queries, at its widest: over the model's features.
    const index_t globals = config_.sparsity().globals.count();
    consider(sequences * static_cast<double>(globals) *
                 static_cast<double>(config_.branch_heads()) *
                 static_cast<double>(config_.width + 2),
             text("--micro-batch ", micro_batch, " x ", globals, " global tokens x ",
                  config_.branch_heads(), " heads x --model.width ", config_.width),
             "contexts", "take fewer --attention.global-tokens");
  }
  return largest;
}

UnitMemory TransformerModel::memory(const StageCut& cut, const Kernels& kernels) const {
  const StageShape shape = shape_of(*this, cut, kernels);
  UnitMemory memory;
  const index_t block = Carved<BlockActivations>::bytes(shape);
  const index_t packed_block = packed_bytes_of_block(shape);
  for (index_t unit = cut.first_unit; unit <= cut.last_unit; ++unit) {
    if (is_block(unit)) memory.packed_bytes += packed_block;
    if (is_head(unit)) memory.packed_bytes += packed_bytes_of_head(shape);
    if (is_block(unit)) {
      memory.bytes_an_activation_slot += shape.shares_activations() ? shape.input_bytes() : block;
      memory.bytes_a_gradient_slot += Carved<BlockGradients>::bytes(shape);
    } else if (!is_head(unit)) {
      memory.bytes_a_gradient_slot += Carved<EmbeddingGradients>::bytes(shape);
    } else if (config_.task == Task::language) {
      memory.bytes_an_activation_slot += Carved<LanguageHeadActivations>::bytes(shape);
    } else {
      memory.bytes_an_activation_slot +=
          Carved<ClassifierHeadActivations>::bytes(shape, cut.micro_batch);
    }
  }
  memory.scratch_bytes = StageMemory::bytes(shape);
  return memory;
}

std::vector<std::unique_ptr<Unit>> TransformerModel::make_units(const Holding& holding,
                                                                const StageCut& cut,
                                                                const SlotCounts& slots,
                                                                const Kernels& kernels) const {
  const StageShape shape = shape_of(*this, cut, kernels);
  const HeldParameters parameters(config_, holding);
  const auto memory = std::make_shared<const StageMemory>(shape);
  std::vector<std::unique_ptr<Unit>> units;
  for (index_t unit = cut.first_unit; unit <= cut.last_unit; ++unit) {
    if (is_block(unit)) {
      units.push_back(std::make_unique<BlockUnit>(shape, unit - 1, parameters, slots, memory));
    } else if (!is_head(unit)) {
      units.push_back(std::make_unique<EmbeddingUnit>(shape, parameters, slots, memory));
    } else if (config_.task == Task::language) {
      units.push_back(std::make_unique<LanguageHeadUnit>(shape, parameters, slots, memory));
    } else {
      units.push_back(
          std::make_unique<ClassifierHeadUnit>(shape, cut.micro_batch, parameters, slots, memory));
    }
  }
  return units;
}

}  // namespace weir::worker
