#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/data/dataset.hpp"
#include "worker/data/text/corpus.hpp"

namespace weir::worker {

/// The stride that 0 stands for: max(1, length / 2).
index_t standard_stride(index_t length);

/// The columns `tokens` and `targets`, both bytes.
DataShape text_shape(index_t length);

/// Windows of N = length bytes of a text, as a language model reads them.
///
/// Without a text for validation the text is cut once: the last H = min(held_out, size / 10) bytes
/// are for validation, the first M = size - H for training. With one, all M = size bytes are for
/// training, and the H bytes for validation are those of the other text except its first, which has
/// nothing before it.
///
/// Training: an epoch has W = max(1, floor((M - 1) / N) - 1) windows side by side. Window w starts
/// at w N + s, with a shift s drawn for each epoch from 0 .. M - 1 - W N, so that windows are cut
/// elsewhere each time and no byte is left out for good. Sample `cursor` is window
/// permute(cursor mod W) of epoch floor(cursor / W). Its last target is training text too.
///
/// Validation: every held-out byte is the target of exactly one window. The first scores up to N of
/// them, each later one the `stride` bytes that follow, with the N - stride bytes before them as
/// context; other targets are -1. Every window is full: the first begins with the last byte of the
/// training text (the first held-out byte has one byte of context, the next two, ...), and only if
/// H < N does it reach further back. A text of its own must have more than N bytes. stride = N is
/// the cheapest and gives the worst figures.
class TextDataset : public Dataset {
 public:
  /// stride 0 means standard_stride(length). Throws UsageError if a corpus is too short, or if the
  /// stride is longer than the length.
  TextDataset(Corpus corpus, index_t length, index_t held_out, index_t stride, std::uint64_t seed,
              std::optional<Corpus> validation = std::nullopt);

  DataShape shape() const override { return text_shape(length_); }
  std::vector<Score> scores() const override {
    return {{"bits_per_byte", "bits per byte", ScoreKind::bits, {}}};
  }
  index_t epoch_size() const override { return windows_; }
  void training_sample(index_t cursor, Sample& sample) const override;
  index_t validation_size() const override;
  void validation_sample(index_t index, Sample& sample) const override;
  std::string describe() const override;
  std::vector<std::string> warnings() const override;
  const TextDataset* as_text() const override { return this; }

  const Corpus& corpus() const { return corpus_; }
  /// The first bytes of the corpus, for training.
  index_t training_bytes() const { return training_; }
  /// The text to validate on, if it is another.
  const Corpus* validation() const { return validation_ ? &*validation_ : nullptr; }

 private:
  /// Tokens from `offset` on, with their targets.
  void window(const Corpus& corpus, index_t offset, Sample& sample) const;

  Corpus corpus_;
  std::optional<Corpus> validation_;  // none: the end of corpus_
  index_t length_;
  index_t stride_;
  std::uint64_t seed_;
  index_t held_out_;  // H
  index_t training_;  // M
  index_t windows_;   // W
};

}  // namespace weir::worker
