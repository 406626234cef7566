#include "common/base/habits.hpp"

#include <algorithm>

#include "common/base/spelling.hpp"
#include "common/base/text.hpp"

namespace weir {

const std::vector<Habit>& habits() {
  static const std::string epochs =
      "weir counts steps: steps = epochs x training windows / --batch, and a text has about its "
      "bytes / --length windows";
  static const std::string devices = "weir computes on CPUs: mpirun -n says how many ranks";
  static const std::string precision =
      "--precision bf16 or fp16; --wire-push and --wire-pull say what travels between ranks";
  static const std::vector<Habit> all = {
      // Training.
      {"lr", "rate.peak", ""},
      {"learning-rate", "rate.peak", ""},
      {"max-lr", "rate.peak", ""},
      {"min-lr", "rate.final", "it is a share of --rate.peak"},
      {"lr-scheduler", "rate.schedule", ""},
      {"lr-scheduler-type", "rate.schedule", ""},
      {"lr-decay-style", "rate.schedule", ""},
      {"scheduler", "rate.schedule", ""},
      {"warmup", "rate.warm-up", ""},
      {"warmup-steps", "rate.warm-up", ""},
      {"lr-warmup-iters", "rate.warm-up", ""},
      {"batch-size", "batch", ""},
      {"global-batch-size", "batch", ""},
      {"train-batch-size", "batch", ""},
      {"micro-batch-size", "micro-batch", ""},
      {"per-device-train-batch-size", "micro-batch", ""},
      {"gradient-accumulation-steps", "micro-batch",
       "a step adds up --batch / --micro-batch micro-batches over all replicas"},
      {"epochs", "steps", epochs},
      {"num-epochs", "steps", epochs},
      {"max-epochs", "steps", epochs},
      {"num-train-epochs", "steps", epochs},
      {"max-steps", "steps", ""},
      {"num-steps", "steps", ""},
      {"iterations", "steps", ""},
      {"max-iters", "steps", ""},
      {"train-iters", "steps", ""},
      {"optim", "optimizer.kind", ""},
      {"optimizer", "optimizer.kind", ""},
      {"wd", "optimizer.weight-decay", ""},
      {"adam-beta1", "optimizer.beta1", ""},
      {"adam-beta2", "optimizer.beta2", ""},
      {"adam-epsilon", "optimizer.epsilon", ""},
      {"adam-eps", "optimizer.epsilon", ""},
      {"clip-grad", "clip.max-norm", ""},
      {"grad-clip", "clip.max-norm", ""},
      {"gradient-clip-val", "clip.max-norm", ""},
      {"max-grad-norm", "clip.max-norm", ""},
      {"random-seed", "seed", ""},
      {"gradient-checkpointing", "recompute", ""},
      {"activation-checkpointing", "recompute", ""},
      {"recompute-activations", "recompute", ""},
      // The model.
      {"num-layers", "model.layers", ""},
      {"num-hidden-layers", "model.layers", ""},
      {"n-layer", "model.layers", ""},
      {"depth", "model.layers", ""},
      {"hidden-size", "model.width", ""},
      {"hidden-dim", "model.width", ""},
      {"d-model", "model.width", ""},
      {"n-embd", "model.width", ""},
      {"embed-dim", "model.width", ""},
      {"dim", "model.width", ""},
      {"num-heads", "model.heads", ""},
      {"num-attention-heads", "model.heads", ""},
      {"n-head", "model.heads", ""},
      {"ffn-hidden-size", "model.feed-forward", ""},
      {"intermediate-size", "model.feed-forward", ""},
      {"d-ff", "model.feed-forward", ""},
      {"position-embedding-type", "model.positions", ""},
      {"init-std", "model.deviation", ""},
      {"seq-len", "length", ""},
      {"seq-length", "length", ""},
      {"sequence-length", "length", ""},
      {"max-seq-len", "length", ""},
      {"context-length", "length", ""},
      {"block-size", "length", ""},
      {"window", "attention.left", ""},
      {"window-size", "attention.left", ""},
      {"attention-window", "attention.left", ""},
      // Files.
      {"data", "data.files", ""},
      {"data-path", "data.files", ""},
      {"dataset", "data.files", ""},
      {"train-data", "data.files", ""},
      {"train-file", "data.files", ""},
      {"input", "data.files", ""},
      {"output", "run", ""},
      {"output-dir", "run", ""},
      {"out-dir", "run", ""},
      {"save", "run", ""},
      {"save-dir", "run", ""},
      {"log-dir", "run", ""},
      {"load", "resume", ""},
      {"resume-from", "resume", ""},
      {"resume-from-checkpoint", "resume", ""},
      {"save-every", "checkpoint-every", ""},
      {"save-interval", "checkpoint-every", ""},
      {"save-steps", "checkpoint-every", ""},
      {"save-total-limit", "checkpoint.keep", ""},
      {"eval-interval", "eval-every", ""},
      {"eval-steps", "eval-every", ""},
      {"verbose", "log-level", ""},
      // Ranks.
      {"dp", "replicas", ""},
      {"data-parallel-size", "replicas", ""},
      {"num-workers", "replicas", ""},
      {"workers", "replicas", ""},
      {"pp", "stages", ""},
      {"pipeline-parallel-size", "stages", ""},
      {"pipeline-model-parallel-size", "stages", ""},
      {"cp", "contexts", ""},
      {"context-parallel-size", "contexts", ""},
      {"tp", "shards", ""},
      {"tensor-parallel-size", "shards", ""},
      {"tensor-model-parallel-size", "shards", ""},
      {"num-servers", "servers", ""},
      {"num-threads", "threads", ""},
      {"nproc", "threads", devices},
      {"gpus", "threads", devices},
      {"device", "threads", devices},
      {"cuda", "threads", devices},
      {"fp16", "precision", precision},
      {"bf16", "precision", precision},
      {"amp", "precision", precision},
      {"dtype", "precision", precision},
      {"mixed-precision", "precision", precision},
      // Text that a model writes.
      {"max-tokens", "bytes", ""},
      {"max-new-tokens", "bytes", ""},
      {"num-tokens", "bytes", ""},
      {"n-predict", "bytes", ""},
  };
  return all;
}

std::string option_hint(const std::string& name, const std::vector<std::string>& known,
                        const std::string& prefix) {
  for (const Habit& habit : habits()) {
    if (canonical_name(habit.name) != canonical_name(name)) continue;
    const auto option = std::ranges::find_if(known, [&](const std::string& each) {
      return canonical_name(each) == canonical_name(habit.option);
    });
    if (option == known.end()) continue;
    return text(" (did you mean ", prefix, *option, "?",
                habit.advice.empty() ? "" : text(' ', habit.advice), ")");
  }
  return did_you_mean(name, known, prefix);
}

}  // namespace weir
