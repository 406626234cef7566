#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/options.hpp"
#include "worker/data/columns.hpp"
#include "worker/data/score.hpp"

namespace weir::worker {

/// Room for one sample. The caller owns the memory of the columns, which a data set fills
/// completely, padding included: `elements` for each column, times the positions if it is ragged.
struct Sample {
  std::vector<Column> columns;
  index_t length = 0;  ///< positions before the padding

  /// A column of whole numbers.
  std::span<std::int32_t> integers(std::string_view name) const {
    return as<std::int32_t>(column_of(columns, name));
  }
};

class TextDataset;

/// Where samples come from. Every sample is a function of (files, configuration, seed, cursor): all
/// ranks of any layout make the same ones, in any order, and there is no state to checkpoint. Calls
/// change nothing, so threads may make them at the same time.
class Dataset {
 public:
  virtual ~Dataset() = default;

  /// What each sample has.
  virtual DataShape shape() const = 0;
  /// The mean number of positions of a training sample before the padding. Token rates count these,
  /// because micro-batches are cut to their longest sample.
  virtual double mean_length() const { return static_cast<double>(shape().length); }
  /// The scores that tell how good a model of these data is, besides its loss.
  virtual std::vector<Score> scores() const { return {}; }

  /// Training samples an epoch.
  virtual index_t epoch_size() const = 0;
  /// The sample at `cursor`, the global sample index over all epochs: each epoch visits all its
  /// samples once, in an order drawn from (seed, epoch).
  virtual void training_sample(index_t cursor, Sample& sample) const = 0;

  virtual index_t validation_size() const = 0;
  /// 0 <= index < validation_size(). The same for every seed of a text; not shuffled.
  virtual void validation_sample(index_t index, Sample& sample) const = 0;

  /// A line for the log and the run folder: name, size, digest, how it is scored. Reads all bytes.
  virtual std::string describe() const = 0;
  /// Warnings about the data that a user should see before training, one a line.
  virtual std::vector<std::string> warnings() const { return {}; }

  /// The text that it cuts into samples, if it is one.
  virtual const TextDataset* as_text() const { return nullptr; }
};

enum class DataKind { text, listops };

/// How text becomes tokens, for programs: `bytes` (a token is the value of a byte), or `symbols`
/// followed by the symbols in the order of their tokens, with blanks between.
std::string tokenizer_of(DataKind kind);

enum class ListopsSplit { train, validation, test };

struct DataConfig {
  DataKind kind = DataKind::text;
  std::string files;       ///< a list (file_list.hpp), read as one text in this order
  std::string validation;  ///< a list as well; empty: the end of `files` is held out
  index_t held_out = 262'144;
  index_t stride = 0;  ///< 0: half the length
  ListopsSplit listops_split = ListopsSplit::validation;
};

std::vector<Option> options(DataConfig& config);

/// The columns of these data, in samples of `length` tokens. Opens no file.
DataShape shape_of(const DataConfig& config, index_t length);

/// Opens what `config` names, in samples of `length` tokens. Throws UsageError or Error (with the
/// file's name) if files are missing, unreadable, empty, corrupt or too short for `length`, or if
/// `length` is too short for a ListOps sample.
std::unique_ptr<Dataset> make_dataset(const DataConfig& config, index_t length, std::uint64_t seed);

}  // namespace weir::worker
