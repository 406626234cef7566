#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/layers/pass.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::test {

/// The tokens of one micro-batch, or of a context's part of it, owned.
struct BatchData {
  index_t length = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;  ///< the labels, for a classifier
  std::vector<index_t> lengths;
  std::vector<index_t> samples;
  index_t first = 0;

  worker::MicroBatch view() const {
    return {.sequences = static_cast<index_t>(lengths.size()),
            .length = length,
            .columns = {{"tokens", tokens}, {"targets", targets}, {"labels", targets}},
            .lengths = lengths,
            .samples = samples,
            .first = first};
  }
};

/// Random tokens and targets (or labels); sequence b has lengths[b] tokens before padding, and the
/// sample index 100 + b.
BatchData random_batch(const worker::ModelConfig& config, std::vector<index_t> lengths,
                       std::uint64_t seed);
/// Sequences [begin, end) of it.
BatchData part_of(const BatchData& batch, const worker::ModelConfig& config, index_t begin,
                  index_t end);

/// The whole model in double, token by token from the formulas, forward only: its gradients are
/// difference quotients. Knows neither units nor kernels, shards or the arena.
class Twin {
 public:
  using Parameters = std::map<std::string, std::vector<double>>;

  Twin(const worker::ModelConfig& config, Parameters parameters)
      : config_(config), sparsity_(config.sparsity()), parameters_(std::move(parameters)) {}

  /// Sum over the loss terms; dropout with this seed if training.
  double loss(const worker::MicroBatch& batch, std::uint64_t seed, bool training) const;
  /// [N][vocabulary] of one sequence, without dropout.
  std::vector<std::vector<double>> logits(const worker::MicroBatch& batch, index_t sequence) const;
  /// The gradient of the training loss for every parameter, from central differences.
  Parameters gradients(const worker::MicroBatch& batch, std::uint64_t seed);

 private:
  using Row = std::vector<double>;
  using Rows = std::vector<Row>;
  struct Sequence;  ///< one of a batch, and how it is dropped
  struct Projections {
    std::string names;  ///< what `query`, `key` and `value` follow
    index_t heads;
    bool rotary;
  };

  const Row& parameter(const std::string& name) const { return parameters_.at(name); }
  /// W x + b for each row x, W [outputs, inputs]; no b if there is no such parameter.
  Rows linear(const Rows& x, const std::string& name) const;
  Rows from_inputs(const Rows& x, const std::string& name) const;  ///< W [inputs, outputs]
  Rows norm(const Rows& x, const std::string& name) const;
  void drop(Rows& x, const std::string& layer, const Sequence& sequence) const;
  /// Attention of all tokens with these projections, before that of the output.
  Rows heads(const Rows& x, const Projections& from, index_t length) const;
  Rows attention(const Rows& x, const std::string& layer, index_t length) const;
  Row pooled(const Rows& x, index_t length) const;  ///< for a classifier
  Rows project(const Rows& x) const;                ///< to the vocabulary
  /// Normed outputs of the last block.
  Rows features(const worker::MicroBatch& batch, const Sequence& sequence) const;

  worker::ModelConfig config_;
  worker::Sparsity sparsity_;  ///< what config_ says as text
  Parameters parameters_;
};

}  // namespace weir::test
