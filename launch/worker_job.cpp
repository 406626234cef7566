#include "launch/worker_job.hpp"

#include <algorithm>

#include "launch/cut.hpp"

namespace weir {

using namespace worker;

namespace {

/// Adds up what validations wait for other stages.
class ValidationWait final : public Observer {
 public:
  explicit ValidationWait(const PipelineLink* link) : link_(link) {}
  double link_seconds() const { return link_ != nullptr ? link_->waited_seconds() : 0; }
  double seconds() const { return seconds_; }

  void validation_begin(index_t, index_t) override { seconds_ -= link_seconds(); }
  void validation(index_t, const Loss&) override { seconds_ += link_seconds(); }

 private:
  const PipelineLink* link_;  ///< none if there is one stage
  double seconds_ = 0;
};

std::vector<StageCut> cuts_of_stage(const Job& job, index_t stage) {
  std::vector<StageCut> cuts;
  for (const index_t chunk : chunks_of_stage(job.config, stage)) {
    cuts.push_back(chunk_cut(job.config, job.first_unit, chunk));
  }
  return cuts;
}

}  // namespace

WorkerJob::WorkerJob(const Job& job, const WorkerPlace& place, const Comm& workers,
                     ParameterService& parameters)
    : job_(job),
      place_(place),
      workers_(workers),
      parameters_(parameters),
      model_(job.config.model),
      cuts_(cuts_of_stage(job, place.stage)),
      kernels_(job.config.threads, job.config.products) {
  connect();
  stage_.emplace(stage_parts());
  kernels_.set_progress([this] {
    parameters_.progress();
    groups_->progress();
  });
}

void WorkerJob::connect() {
  const Layout& layout = job_.config.layout;
  const std::function<bool()> progress = [this] { return parameters_.progress(); };
  // Another shard may need weights from this rank before it gets to the sum.
  const auto serve = layout.placement == Placement::colocated ? progress : std::function<bool()>();
  GroupShape shape{.chunks = {},
                   .slots = kLinkSlots,
                   .shard_bytes = 0,
                   .may_share = job_.config.transport != Transport::messages};
  for (const StageCut& cut : cuts_) {
    const BatchShape largest = largest_batch(model_, cut);
    shape.chunks.push_back(
        {model_.frame(cut.first_unit, largest), model_.frame(cut.last_unit + 1, largest)});
    shape.shard_bytes = std::max(shape.shard_bytes, model_.shard_bytes(cut));
  }
  groups_.emplace(layout, place_, workers_, shape, progress, serve);
}

StageParts WorkerJob::stage_parts() {
  const TrainConfig& train = job_.config.train;
  const Layout& layout = job_.config.layout;
  const Schedule schedule = schedule_of(train, layout, most_micro_batches(train, layout.replicas));
  StageParts parts;
  parts.stage = place_.stage;
  parts.model = &model_;
  parts.holding = &job_.plan->holding(holder_of(place_));
  for (const index_t chunk : chunks_of_stage(job_.config, place_.stage)) {
    parts.chunks.push_back({cuts_[parts.chunks.size()],
                            {schedule.activation_slots[chunk], schedule.gradient_slots[chunk]}});
  }
  parts.dataset = job_.dataset.get();
  parts.parameters = &parameters_;
  parts.kernels = &kernels_;
  parts.shards = &groups_->shards();
  parts.contexts = &groups_->contexts();
  parts.link = groups_->link();
  parts.seed = train.training.random_seed();
  return parts;
}

Directive WorkerJob::run(std::vector<Observer*> observers) {
  ValidationWait wait(groups_->link());
  observers.push_back(&wait);
  Trainer trainer(
      {.config = job_.config.train,
       .layout = job_.config.layout,
       .place = place_,
       .parameters = &parameters_,
       .stage = &*stage_,
       .dataset = job_.dataset.get(),
       .sum_over_workers = [&](std::span<double> values) { groups_->sum_over_workers(values); },
       .observers = std::move(observers)});
  const Directive last = trainer.run();
  pipeline_seconds_ = wait.link_seconds() - wait.seconds();
  return last;
}

}  // namespace weir
