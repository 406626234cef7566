#pragma once

#include <vector>

#include "common/io/checkpoint_format.hpp"
#include "launch/command.hpp"
#include "launch/run_config.hpp"
#include "worker/score/scorer.hpp"

namespace weir {

/// What `weir eval` and `weir generate` share: from a checkpoint to a model that can run.

/// The model, data, length and seed of the run that wrote a checkpoint, as its MANIFEST says, for
/// one worker in this process. Throws Error if it does not say them all.
RunConfig config_of(const CheckpointReader& reader);

/// Positions that the model of a checkpoint has learned; 0 if it has learned none.
index_t learned_positions(const Manifest& manifest);

/// Sets the fields of `table` from the environment, then from the arguments.
/// Variables of weir's other options are left alone. Throws UsageError as parse_options does.
void parse_overrides(const std::vector<Option>& table, const std::vector<std::string>& environment,
                     const Arguments& arguments);

/// Completes `config`, which is what config_of gives, perhaps with other data, length, micro-batch
/// or layout, by what follows from the data and the checkpoint, and checks it. Throws UsageError,
/// also for a length that the model has not learned positions for.
void complete(const CheckpointReader& reader, RunConfig& config);

/// The model of a checkpoint in this process, ready to answer. Completes `config`. Throws Error,
/// listing what differs, if the tensors are not those of this model.
worker::Scorer scorer_of(const CheckpointReader& reader, RunConfig& config);

}  // namespace weir
