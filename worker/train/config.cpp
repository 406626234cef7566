#include "worker/train/config.hpp"

#include "common/base/error.hpp"
#include "common/job/share.hpp"
#include "worker/train/inject.hpp"

namespace weir::worker {

std::vector<Option> options(TrainConfig& config) {
  return {
      {"steps",
       "",
       "steps of the whole training, including those before a resumed checkpoint",
       &config.training.steps,
       {1, 1e12}},
      {"batch",
       "samples",
       "samples of a step, over all replicas",
       &config.training.batch,
       {1, 1e9}},
      {"micro-batch",
       "samples",
       "samples of one forward pass; --batch is a multiple of it",
       &config.training.micro_batch,
       {1, 1e6}},
      {"length", "tokens", "tokens of a sample", &config.length, {1, 1 << 24}},
      {"seed",
       "",
       "number that initial weights, data order and dropout are drawn from",
       &config.training.seed,
       {0, 1e15}},
      {"eval-every",
       "steps",
       "validate each time this number of steps is done; 0: only at the end",
       &config.training.eval_every,
       {0, 1e12}},
      {"eval-samples",
       "samples",
       "samples of a validation during training; the one at the end takes all",
       &config.eval_samples,
       {1, 1e9}},
      {"eval-patience",
       "",
       "stop after this number of validations in a row without a lower loss; 0: never",
       &config.eval_patience,
       {0, 1e9}},
      {"schedule", "",
       "order of forward and backward passes in the pipeline. 1f1b keeps few activations; "
       "1f1b-eager about twice as many, for slow links; gpipe those of all micro-batches. "
       "interleaved (see --chunks) and zb-h1 (weight gradients where a stage would wait) wait "
       "less: weir plan --schedule all compares them",
       choice(config.schedule, kScheduleNames)},
      {"chunks",
       "",
       "chunks that each stage holds with --schedule interleaved",
       &config.chunks,
       {2, 1e6}},
      {"recompute", "",
       "none: blocks keep what their backward needs; block: they keep only their input and run "
       "forward "
       "again",
       choice(config.recompute, {{"none", Recompute::none}, {"block", Recompute::block}})},
      {"balance", "",
       "even: replicas take equal numbers of micro-batches; measured: slower ones take fewer",
       choice(config.training.balance,
              {{"even", BalanceKind::even}, {"measured", BalanceKind::measured}})},
      {"precision", "",
       "numbers that workers compute with. fp32; bf16: weights, activations and pipeline frames "
       "take half the memory and traffic; fp16: the same, with finer steps and a small range, for "
       "which the loss is scaled (--loss-scale.*). Sums, norms, softmax, loss, moments and the "
       "servers' weights are fp32 in all of them, and each resumes a checkpoint of the others",
       choice(config.training.precision, kPrecisionNames)},
      {"inject", "",
       "faults on purpose, to test how a job copes. Slow replicas: slow=1:3x makes replica 1 take "
       "three times as long, slow=1:5x:20% does so in a fifth of its steps, slow=any:5x:5% slows "
       "each replica now and then, sleep=50ms makes all wait before each step. Wrong gradients: "
       "bad=1%:30x gives a hundredth of the batches, from step 100 on, random targets and "
       "gradients "
       "30 times as large; scale=300-:4x multiplies all gradients by 4 from step 300 on; "
       "tensor=1%:1000x those of one parameter; flip=1% sets one element to 1e30, overflow=1% to "
       "infinity. These five take a share of the steps (1%) or a range of steps (300-319)",
       &config.inject},
  };
}

namespace {

void check_schedule(const TrainConfig& config, const Layout& layout) {
  if (config.schedule == ScheduleKind::interleaved && layout.stages == 1) {
    throw UsageError(
        "--schedule interleaved has the chunks of several stages take turns; take --stages 2 or "
        "more, or --schedule 1f1b");
  }
  if (config.schedule == ScheduleKind::zero_bubble_h1 && layout.stages > 1 &&
      config.recompute == Recompute::block) {
    throw UsageError(
        "--schedule zb-h1 makes weight gradients later from what forward has kept, and --recompute "
        "block does not keep it; take --recompute none, or another --schedule");
  }
}

}  // namespace

void check(const TrainConfig& config, const Layout& layout) {
  const index_t replicas = layout.replicas;
  check_schedule(config, layout);
  if (config.eval_patience > 0 && config.training.eval_every == 0) {
    throw UsageError(
        "--eval-patience counts validations: --eval-every says how often there is one");
  }
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
  return share_of(all, replicas - 1, replicas).count();  // no replica has more
}

Pipeline pipeline_of(const TrainConfig& config, const Layout& layout) {
  const bool interleaves = config.schedule == ScheduleKind::interleaved;
  return {.stages = layout.stages, .chunks_a_stage = interleaves ? config.chunks : 1};
}

Schedule schedule_of(const TrainConfig& config, const Layout& layout, index_t micro_batches) {
  return make_schedule(config.schedule, pipeline_of(config, layout), micro_batches);
}

}  // namespace weir::worker
