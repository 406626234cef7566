#include "launch/cut.hpp"

#include "common/base/error.hpp"
#include "launch/terminal/quantities.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/schedule/partition.hpp"

namespace weir {

std::vector<index_t> first_units(const RunConfig& config, index_t chunks) {
  if (chunks == 1) return {0};
  const worker::TransformerModel model(config.model);
  std::vector<bool> fills_a_chunk;
  for (index_t unit = 0; unit < model.unit_count(); ++unit) {
    fills_a_chunk.push_back(model.fills_a_stage(unit));
  }
  std::vector<double> costs;
  for (const worker::UnitCost& unit : worker::unit_flops(model)) costs.push_back(unit.sum());
  return worker::partition_units(costs, fills_a_chunk, chunks);
}

std::vector<index_t> first_units(const RunConfig& config) {
  return first_units(config, pipeline_of(config.train, config.layout).chunks());
}

std::vector<index_t> chunks_of_stage(const RunConfig& config, index_t stage) {
  const worker::Pipeline pipeline = pipeline_of(config.train, config.layout);
  std::vector<index_t> chunks;
  for (index_t chunk = stage; chunk < pipeline.chunks(); chunk += pipeline.stages) {
    chunks.push_back(chunk);
  }
  return chunks;
}

Interval units_of_chunk(const RunConfig& config, const std::vector<index_t>& first_units,
                        index_t chunk) {
  const index_t next = chunk + 1;
  return {first_units[chunk], next < std::ssize(first_units)
                                  ? first_units[next]
                                  : worker::TransformerModel(config.model).unit_count()};
}

worker::StageCut chunk_cut(const RunConfig& config, const std::vector<index_t>& first_units,
                           index_t chunk) {
  const Interval units = units_of_chunk(config, first_units, chunk);
  return {.first_unit = units.begin,
          .last_unit = units.end - 1,
          .contexts = config.layout.contexts,
          .shards = config.layout.shards,
          .micro_batch = config.train.training.micro_batch,
          .recompute = config.train.recompute};
}

BucketPlan make_bucket_plan(const RunConfig& config, const std::vector<index_t>& first_units) {
  std::vector<ParameterSpec> specs = worker::parameter_specs(config.model);
  double elements = 0;
  for (const ParameterSpec& spec : specs) elements += static_cast<double>(spec.element_count());
  const double bucket_elements = static_cast<double>(config.bucket_bytes) / 4;
  if (elements > bucket_elements * static_cast<double>(kBucketsMax)) {
    throw UsageError(text("the model has ", short_count(elements), " parameters, more than ",
                          grouped(kBucketsMax), " buckets of ", bytes_text(config.bucket_bytes),
                          " hold; take a smaller --model.width or fewer --model.layers, or a "
                          "larger --bucket-bytes"));
  }
  std::vector<index_t> unit_stage;
  for (index_t chunk = 0; chunk < std::ssize(first_units); ++chunk) {
    const Interval units = units_of_chunk(config, first_units, chunk);
    unit_stage.insert(unit_stage.end(), units.count(), chunk % config.layout.stages);
  }
  const Dtype weights = pulled_dtype(config);
  WireConfig wire = config.wire;
  if (weights != kArenaDtype) wire.pull = {};  // they are in that format already
  return BucketPlan(std::move(specs), std::move(unit_stage), config.layout, config.bucket_bytes,
                    wire, weights);
}

}  // namespace weir
