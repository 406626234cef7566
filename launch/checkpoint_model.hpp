#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/io/checkpoint_format.hpp"
#include "common/job/bucket.hpp"
#include "common/number/buffer.hpp"
#include "launch/command.hpp"
#include "launch/run_config.hpp"
#include "worker/kernels/cpu.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir {

/// What `weir eval` and `weir generate` share: from a path to a model that can run.

/// The checkpoint that a path means: itself, or the newest complete one of a run folder. Throws
/// UsageError if it is neither, Error if it holds none that is complete.
fs::path checkpoint_at(const fs::path& path);

/// The model, data, length and seed of the run that wrote a checkpoint, as its MANIFEST says, for
/// one worker in this process. Throws Error if it does not say them all.
RunConfig config_of(const CheckpointReader& reader);

/// Positions that the model of a checkpoint has learned; 0 if it has learned none.
index_t learned_positions(const Manifest& manifest);

/// Sets the fields of `table` from the environment, then from the arguments.
/// Variables of weir's other options are let be. Throws UsageError as parse_options does.
void parse_overrides(const std::vector<Option>& table, const std::vector<std::string>& environment,
                     const Arguments& arguments);

/// A whole model in one worker, for forward passes alone.
class CheckpointModel {
 public:
  /// `config`: as config_of says, but for what may differ: the data, the length, the micro-batch.
  /// Throws UsageError for a length that the model has not learned positions for, Error, listing
  /// what differs, if the tensors are not those of this model.
  CheckpointModel(const CheckpointReader& reader, RunConfig config);

  const RunConfig& config() const { return config_; }  ///< with what follows from the data

  /// Of at most config().train.micro_batch sequences, without dropout.
  worker::Loss loss(const worker::MicroBatch& batch);
  /// logits[v]: of token v after these, 1 to config().model.length of them. For a language model.
  void next_token_logits(std::span<const std::int32_t> tokens, std::span<float> logits);

 private:
  worker::Pass pass();

  RunConfig config_;
  std::unique_ptr<BucketPlan> plan_;
  Buffer weights_;
  worker::CpuKernels kernels_;
  worker::SingleShard alone_;
  worker::SingleContext whole_;
  std::unique_ptr<worker::TransformerModel> model_;
  std::optional<worker::UnitChain> units_;
};

}  // namespace weir
