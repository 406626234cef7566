#pragma once

#include <string>
#include <vector>

#include "common/base/options.hpp"
#include "common/job/layout.hpp"
#include "common/job/parameter.hpp"
#include "worker/data/columns.hpp"
#include "worker/kernels/visible.hpp"

namespace weir::worker {

enum class Task {
  language,    ///< the next token after each; causal
  classifier,  ///< a class for each sequence; bidirectional
};

enum class Positions {
  rotary,   ///< rotate queries and keys; any length
  learned,  ///< a vector for each place, added to the embedding
};

/// What a classifier reads of the last block's tokens.
enum class Pooling {
  mean,  ///< the mean of all before padding
  ends,  ///< the first that is not global and the last before padding, side by side
};

/// A pre-norm Transformer with window and global-token attention in every layer.
struct ModelConfig {
  Task task = Task::language;
  index_t layers = 4;          ///< L
  index_t width = 128;         ///< d, features of a token between layers
  index_t heads = 4;           ///< H
  index_t feed_forward = 512;  ///< features inside the feed-forward layer
  Positions positions = Positions::rotary;
  bool tied = true;                 ///< a language model's output embedding is its input embedding
  Pooling pooling = Pooling::mean;  ///< for a classifier
  double dropout = 0;
  double deviation = 0.02;  ///< standard deviation of initial weights
  index_t left = 64;
  index_t right = 0;
  std::string global_tokens = "0-3";  ///< positions, as parse_globals reads them
  GlobalForm globals = GlobalForm::shared;
  index_t global_heads = 4;  ///< for GlobalForm::split

  // These follow from the data set and --length, not from options of the model.
  index_t vocabulary = 256;
  index_t classes = 0;  ///< for a classifier
  index_t length = 256;
  /// Positions that a checkpoint has learned, at least `length`; 0: as many as length.
  index_t learned_positions = 0;

  /// From --precision: what layers compute with, weights, activations and frames. No property of
  /// the function.
  Dtype dtype = Dtype::f32;

  index_t head_size() const { return width / heads; }
  /// Heads of the global branch, if the global tokens have projections of their own.
  index_t branch_heads() const { return globals == GlobalForm::split ? global_heads : heads; }
  /// Rows of the table of learned positions.
  index_t position_count() const { return learned_positions > 0 ? learned_positions : length; }
  /// A key bias adds the same to all scores of a query, which the softmax does not see, unless keys
  /// are rotated: then its part depends on the key's position.
  bool has_key_bias() const { return positions == Positions::rotary; }
  /// The number of features that a classifier's scores are a linear function of.
  index_t pooled_width() const { return pooling == Pooling::ends ? 2 * width : width; }
  /// Throws UsageError if global_tokens is no list of positions.
  Sparsity sparsity() const;
};

/// `0-3,512` is 0, 1, 2, 3 and 512; `none` is none. Throws UsageError for anything else.
Globals parse_globals(const std::string& text);
/// The shortest text that parse_globals reads as these.
std::string text_of(const Globals& globals);

std::vector<Option> options(ModelConfig& config);

/// Makes the model for these data: their vocabulary, classes and length. Throws UsageError if they
/// have no tokens, or nothing that the task could learn from.
void fit(ModelConfig& config, const DataShape& data);

/// Tokens, padding included, that each of `contexts` contexts must hold of every sequence: those
/// that a token sees to one side, so that they are its own or a neighbour's; 1 if sequences are not
/// cut.
index_t fewest_tokens(const ModelConfig& config, index_t contexts);

/// Throws UsageError, with the numbers and the way out, for a model that does not exist or that
/// this layout cannot cut.
void check(const ModelConfig& config, const Layout& layout);

/// All parameters in canonical order. Shards split embeddings by rows (vocabulary); query, key and
/// value, those of the global branch too, by output features, so by heads; up by output features;
/// attention.output, attention.global_output and feed_forward.down by input features, for which
/// these are stored [inputs, outputs] and not, like the others, [outputs, inputs]. Weight decay is
/// for matrices of products; neither for norms and biases nor for lookup tables (learned positions,
/// an embedding that is not tied): a row without a gradient should stay.
std::vector<ParameterSpec> parameter_specs(const ModelConfig& config);

/// Parameters that older checkpoints of such a model hold, and on which its function does not
/// depend: the key biases that it has no more.
std::vector<std::string> obsolete_parameters(const ModelConfig& config);

}  // namespace weir::worker
