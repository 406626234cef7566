#include "worker/train/config.hpp"

#include "common/base/error.hpp"
#include "common/job/share.hpp"
#include "worker/train/inject.hpp"

namespace weir::worker {

std::vector<Option> options(TrainConfig& config) {
  return {
      {"steps",
       "",
       "steps to train in all, those before a resumed checkpoint included",
       &config.training.steps,
       {1, 1e12}},
      {"batch", "samples", "samples a step over all replicas", &config.training.batch, {1, 1e9}},
      {"micro-batch",
       "samples",
       "samples a forward; the batch is made of whole ones",
       &config.training.micro_batch,
       {1, 1e6}},
      {"length", "tokens", "length of a sequence", &config.length, {1, 1 << 24}},
      {"seed", "", "of initial weights, data order and dropout", &config.training.seed, {0, 1e15}},
      {"eval-every",
       "steps",
       "validate after every so many steps; 0: only at the end",
       &config.training.eval_every,
       {0, 1e12}},
      {"eval-samples",
       "samples",
       "validation samples while training; all of them at the end",
       &config.eval_samples,
       {1, 1e9}},
      {"schedule", "", "order of forwards and backwards in the pipeline",
       choice(config.schedule,
              {{"1f1b", ScheduleKind::one_forward_one_backward}, {"gpipe", ScheduleKind::gpipe}})},
      {"recompute", "",
       "none: blocks keep what backward needs; block: their input alone, and run forward again",
       choice(config.recompute, {{"none", Recompute::none}, {"block", Recompute::block}})},
      {"balance", "",
       "even: replicas take as many micro-batches each; measured: those that are slower take fewer",
       choice(config.training.balance,
              {{"even", BalanceKind::even}, {"measured", BalanceKind::measured}})},
      {"inject", "",
       "faults on purpose. Slowness: slow=1:3x, replica 1 takes three times as long; "
       "slow=1:5x:20%, "
       "in a fifth of its steps; slow=any:5x:5%, each now and then; sleep=50ms, all wait so long "
       "before each step. Gradients: bad=1%:30x, from step 100 on a hundredth of the batches has "
       "random targets and gradients 30 times as large; scale=300-:4x, from step 300 on all are 4 "
       "times as large; tensor=1%:1000x, those of one parameter; flip=1%, one element is 1e30. All "
       "four take a share of the steps or steps: bad=300-319:30x",
       &config.inject},
  };
}

void check(const TrainConfig& config, index_t replicas) {
  if (config.training.batch % config.training.micro_batch != 0) {
    throw UsageError(text(
        "--batch ", config.training.batch, " is not a multiple of --micro-batch ",
        config.training.micro_batch, "; the next that fits is ",
        (config.training.batch / config.training.micro_batch + 1) * config.training.micro_batch));
  }
  const index_t micro_batches = config.training.micro_batches();
  if (micro_batches < replicas) {
    throw UsageError(text(
        "--batch ", config.training.batch, " in micro-batches of ", config.training.micro_batch,
        " makes ", micro_batches, " of them, too few for ", replicas, " replicas; take --batch ",
        replicas * config.training.micro_batch, " or more, or a smaller --micro-batch"));
  }
  const index_t most = most_micro_batches(config, replicas);
  if (most > kMicroBatchesMax) {
    throw UsageError(text("--batch ", config.training.batch, " in micro-batches of ",
                          config.training.micro_batch, " makes ", most, " a replica, more than ",
                          kMicroBatchesMax, "; take a larger --micro-batch or more replicas"));
  }
  const index_t slow = parse_injection(config.inject).slow_replica.value_or(0);
  if (slow >= replicas) {
    throw UsageError(text("--inject ", config.inject, " names replica ", slow, ", the last one is ",
                          replicas - 1));
  }
}

index_t most_micro_batches(const TrainConfig& config, index_t replicas) {
  const index_t all = config.training.micro_batches();
  if (config.training.balance == BalanceKind::measured) return all - replicas + 1;
  return share_of(all, replicas - 1, replicas).count();  // none has more
}

Schedule schedule_of(const TrainConfig& config, const Layout& layout, index_t micro_batches) {
  return make_schedule(config.schedule, layout.stages, micro_batches);
}

}  // namespace weir::worker
