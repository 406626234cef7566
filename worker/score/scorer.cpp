#include "worker/score/scorer.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/differences.hpp"
#include "common/base/error.hpp"
#include "common/job/share.hpp"
#include "worker/score/whole_loss.hpp"

namespace weir::worker {
namespace {

/// What of the checkpoint's parameters is not as `specs` say. It may have obsolete ones, too.
Differences differences_of(const CheckpointReader& reader, const std::vector<ParameterSpec>& specs,
                           const std::vector<std::string>& obsolete) {
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
    const auto& shape = reader.manifest().records[*record].shape;
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
  return differences;
}

}  // namespace

void Scorer::check(const CheckpointReader& reader, const ModelConfig& model) {
  const Differences differences =
      differences_of(reader, parameter_specs(model), obsolete_parameters(model));
  if (differences.empty()) return;
  throw Error(text("the checkpoint of step ", reader.manifest().step,
                   " does not hold the model that its settings describe:", differences.to_text()));
}

StageCut Scorer::cut_of(const Model& model, index_t micro_batch, const ScorerPlace& where) {
  const index_t stage = where.place.stage;
  const bool is_last = stage + 1 == std::ssize(where.first_units);
  return {.first_unit = where.first_units[stage],
          .last_unit = (is_last ? model.unit_count() : where.first_units[stage + 1]) - 1,
          .contexts = where.layout.contexts,
          .shards = where.layout.shards,
          .micro_batch = micro_batch,
          .training = false};
}

GroupShape Scorer::group_shape(const Model& model, const StageCut& cut) {
  const BatchShape largest = largest_batch(model, cut);
  return {
      .chunks = {{model.frame(cut.first_unit, largest), model.frame(cut.last_unit + 1, largest)}},
      .shard_bytes = model.shard_bytes(cut)};
}

Scorer::Scorer(const CheckpointReader& reader, const ModelConfig& model, index_t micro_batch,
               index_t threads, const ScorerPlace& where, ProductChoice products)
    : model_(model),
      micro_batch_(micro_batch),
      where_(where),
      groups_(where.groups != nullptr ? *where.groups : alone_),
      kernels_(threads, products) {
  check(reader, model);  // before anything is planned
  const std::vector<ParameterSpec> specs = model_.parameters();
  std::vector<index_t> unit_stage;
  for (index_t unit = 0; unit < model_.unit_count(); ++unit) {
    const auto next = std::ranges::upper_bound(where_.first_units, unit);
    unit_stage.push_back(next - where_.first_units.begin() - 1);
  }
  plan_ = std::make_unique<BucketPlan>(specs, unit_stage, where_.layout,
                                       kBlockElements * bytes_of(Dtype::f32));
  const Holding& holding = plan_->holding(holder_of(where_.place));
  weights_ = Memory(holding.element_count, bytes_of(model_.weight_dtype()));
  for (const HeldSlice& slice : holding.slices) {
    const ParameterSpec& spec = specs[slice.parameter];
    const index_t count = slice.range.count();
    Buffer values(count);
    reader.read(*reader.find("/model/" + spec.name), slice.range.begin, values.span());
    kernels_.copy(std::as_const(values).span(), arena().part(slice.offset, count));
  }
  units_.emplace(model_, holding, cut_of(model_, micro_batch_, where_), SlotCounts(), kernels_);
  units_->pack(pass());
}

Pass Scorer::pass() {
  return {.kernels = kernels_,
          .shards = groups_.shards(),
          .contexts = groups_.contexts(),
          .weights = arena(),
          .gradients = {},
          .seed = 0,
          .training = false};
}

Loss Scorer::loss(const MicroBatch& batch) {
  WEIR_ASSERT(where_.layout.worker_count() == 1);
  return forward(batch, 0);
}

Loss Scorer::forward(const MicroBatch& batch, index_t index) {
  WEIR_ASSERT(batch.sequences <= micro_batch_ && batch.length <= config().length);
  const BatchShape shape = UnitChain::shape_of(batch, groups_.shards());
  PipelineLink* const link = groups_.link();
  const index_t stage = where_.place.stage;  // and its only chunk
  if (stage > 0) {
    const Frame& arrived = link->receive(Direction::forward, stage, index);
    copy_frame(kernels_, arrived, units_->entering(shape));
    link->release(Direction::forward, stage, index);
  }
  const Loss loss = units_->forward(pass(), batch, {}, {}, {});
  if (stage + 1 < where_.layout.stages) {
    link->send(Direction::forward, stage, index, units_->leaving(shape));
  }
  return loss;
}

Loss Scorer::score(const Dataset& dataset, std::span<const index_t> samples,
                   const std::function<void(index_t done, index_t total)>& progress) {
  const Interval share =
      share_of(std::ssize(samples), where_.place.replica, where_.layout.replicas);
  ContextGroup& contexts = groups_.contexts();
  Batch batch(dataset, micro_batch_,
              {.context = contexts.index(),
               .contexts = contexts.size(),
               .fewest_tokens = model_.fewest_tokens(contexts.size())});
  Loss loss;
  index_t index = 0;
  for (index_t begin = share.begin; begin < share.end; begin += micro_batch_) {
    if (progress) progress(begin - share.begin, share.count());
    const index_t count = std::min(micro_batch_, share.end - begin);
    batch.load_validation(samples.subspan(begin, count));
    loss += forward(batch.view(), index++);
  }
  if (groups_.link() != nullptr) groups_.link()->end_step();
  if (progress) progress(share.count(), share.count());
  return whole_loss(loss, where_.place,
                    [&](std::span<double> values) { groups_.sum_over_workers(values); });
}

void Scorer::next_token_logits(std::span<const std::int32_t> tokens, std::span<float> logits) {
  const index_t length = std::ssize(tokens);
  WEIR_ASSERT(length >= 1 && length <= config().length);
  WEIR_ASSERT(where_.layout.worker_count() == 1);
  const index_t sample = 0;
  const MicroBatch batch = {.sequences = 1,
                            .length = length,
                            .columns = {{"tokens", tokens}},
                            .lengths = {&length, 1},
                            .samples = {&sample, 1}};
  const index_t last = length - 1;
  const Dtype dtype = model_.weight_dtype();
  const Memory scores(std::ssize(logits), bytes_of(dtype));
  units_->predict(pass(), batch, {&last, 1}, Matrix(scores.elements(dtype), 1, std::ssize(logits)));
  kernels_.copy(scores.elements(dtype), logits);
}

}  // namespace weir::worker
