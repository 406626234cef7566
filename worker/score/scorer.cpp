#include "worker/score/scorer.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/differences.hpp"
#include "common/base/error.hpp"

namespace weir::worker {
namespace {

/// Throws Error unless the checkpoint's parameters are those of `specs`, and perhaps obsolete ones.
void check_parameters(const CheckpointReader& reader, const std::vector<ParameterSpec>& specs,
                      const std::vector<std::string>& obsolete, const std::string& checkpoint) {
  Differences differences;
  std::set<std::string> known;
  for (const std::string& name : obsolete) known.insert("/model/" + name);
  for (const ParameterSpec& spec : specs) {
    const std::string name = "/model/" + spec.name;
    known.insert(name);
    const auto record = reader.find(name);
    if (!record) {
      differences.add(text(spec.name, ": missing"));
      continue;
    }
    const auto& shape = reader.manifest().records[static_cast<std::size_t>(*record)].shape;
    if (shape != spec.shape) {
      differences.add(text(spec.name, ": ", shape_text(shape), " in the checkpoint, ",
                           shape_text(spec.shape), " in the model"));
    }
  }
  for (const CheckpointRecord& record : reader.manifest().records) {
    if (record.name.starts_with("/model/") && !known.contains(record.name)) {
      differences.add(text(record.name.substr(7), ": not in the model"));
    }
  }
  if (differences.empty()) return;
  throw Error(text(checkpoint,
                   " does not hold the model that its settings describe:", differences.to_text()));
}

}  // namespace

Scorer::Scorer(const CheckpointReader& reader, const ModelConfig& model, index_t micro_batch,
               index_t threads)
    : model_(model), micro_batch_(micro_batch), kernels_(threads) {
  const std::vector<ParameterSpec> specs = model_.parameters();
  // Before anything is planned: then the model is as large as the file.
  check_parameters(reader, specs, obsolete_parameters(model),
                   text("the checkpoint of step ", reader.manifest().step));
  const auto units = static_cast<std::size_t>(model_.unit_count());
  plan_ = std::make_unique<BucketPlan>(specs, std::vector<index_t>(units), Layout(),
                                       kBlockElements * bytes_of(Dtype::f32));
  const Holding& holding = plan_->holding({});
  weights_ = Buffer(holding.element_count);
  for (const HeldSlice& slice : holding.slices) {
    const ParameterSpec& spec = specs[static_cast<std::size_t>(slice.parameter)];
    reader.read(*reader.find("/model/" + spec.name), slice.range.begin,
                weights_.span().subspan(static_cast<std::size_t>(slice.offset),
                                        static_cast<std::size_t>(slice.range.count())));
  }
  units_.emplace(
      model_, holding,
      StageCut{
          .last_unit = model_.unit_count() - 1, .micro_batch = micro_batch_, .training = false},
      SlotCounts(), kernels_);
}

Pass Scorer::pass() {
  return {.kernels = kernels_,
          .shards = alone_,
          .contexts = whole_,
          .weights = std::as_const(weights_).span(),
          .gradients = {},
          .seed = 0,
          .training = false};
}

Loss Scorer::loss(const MicroBatch& batch) {
  WEIR_ASSERT(batch.sequences <= micro_batch_ && batch.length <= config().length);
  return units_->forward(pass(), batch, {}, {}, {});
}

void Scorer::next_token_logits(std::span<const std::int32_t> tokens, std::span<float> logits) {
  const auto length = static_cast<index_t>(tokens.size());
  WEIR_ASSERT(length >= 1 && length <= config().length);
  const index_t sample = 0;
  const MicroBatch batch = {.sequences = 1,
                            .length = length,
                            .tokens = tokens,
                            .targets = {},
                            .lengths = {&length, 1},
                            .samples = {&sample, 1}};
  const index_t last = length - 1;
  units_->predict(pass(), batch, {&last, 1}, Matrix(logits, 1, std::ssize(logits)));
}

}  // namespace weir::worker
