#include "worker/train/batch.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

Batch::Batch(const Dataset& dataset, index_t sequences)
    : dataset_(dataset),
      sequences_(sequences),
      tokens_(static_cast<std::size_t>(sequences * dataset.sample_length())),
      targets_(tokens_.size()),
      lengths_(static_cast<std::size_t>(sequences)),
      samples_(static_cast<std::size_t>(sequences)) {}

Sample Batch::place(index_t index, index_t sample) {
  const auto at = static_cast<std::size_t>(index);
  const auto length = static_cast<std::size_t>(dataset_.sample_length());
  samples_[at] = sample;
  Sample place;
  place.tokens = std::span(tokens_).subspan(at * length, length);
  place.targets = std::span(targets_).subspan(at * length, length);
  return place;
}

void Batch::placed(index_t index, const Sample& sample) {
  const auto at = static_cast<std::size_t>(index);
  lengths_[at] = sample.length;
  if (dataset_.classes() > 0) targets_[at] = sample.label;
}

void Batch::cut_padding() {
  length_ = 1;  // of empty samples, too: a matrix has rows
  for (index_t index = 0; index < loaded_; ++index) {
    length_ = std::max(length_, lengths_[static_cast<std::size_t>(index)]);
  }
  const auto move_together = [&](std::vector<std::int32_t>& rows) {
    for (index_t index = 1; index < loaded_; ++index) {  // in this order: no row is overwritten
      const auto from = rows.begin() + index * dataset_.sample_length();
      std::copy(from, from + length_, rows.begin() + index * length_);
    }
  };
  move_together(tokens_);
  if (dataset_.classes() == 0) move_together(targets_);
}

void Batch::load_training(index_t cursor) {
  loaded_ = sequences_;
  for (index_t index = 0; index < loaded_; ++index) {
    Sample sample = place(index, cursor + index);
    dataset_.training_sample(cursor + index, sample);
    placed(index, sample);
  }
  cut_padding();
}

void Batch::load_validation(std::span<const index_t> samples) {
  WEIR_ASSERT(static_cast<index_t>(samples.size()) <= sequences_);
  loaded_ = 0;
  for (index_t validation_sample : samples) {
    Sample sample = place(loaded_, validation_sample);
    dataset_.validation_sample(validation_sample, sample);
    placed(loaded_++, sample);
  }
  cut_padding();
}

MicroBatch Batch::view() const {
  const auto count = static_cast<std::size_t>(loaded_);
  const auto length = static_cast<std::size_t>(length_);
  MicroBatch batch;
  batch.sequences = loaded_;
  batch.length = length_;
  batch.tokens = std::span(tokens_).first(count * length);
  batch.targets = std::span(targets_).first(dataset_.classes() > 0 ? count : count * length);
  batch.lengths = std::span(lengths_).first(count);
  batch.samples = std::span(samples_).first(count);
  return batch;
}

}  // namespace weir::worker
