#include "worker/data/batch.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

Batch::Batch(const Dataset& dataset, index_t sequences, const ContextCut& cut)
    : dataset_(dataset),
      sequences_(sequences),
      cut_(cut),
      tokens_(static_cast<std::size_t>(sequences * dataset.sample_length())),
      targets_(tokens_.size()),
      lengths_(static_cast<std::size_t>(sequences)),
      samples_(static_cast<std::size_t>(sequences)) {
  WEIR_ASSERT(cut.fewest_tokens >= 1);  // of empty samples, too: a matrix has rows
  WEIR_ASSERT(cut.contexts * cut.fewest_tokens <= dataset.sample_length());
}

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

void Batch::cut_rows() {
  index_t length = cut_.contexts * cut_.fewest_tokens;
  for (index_t index = 0; index < loaded_; ++index) {
    length = std::max(length, lengths_[static_cast<std::size_t>(index)]);
  }
  part_ = part_of_sequence(length, cut_.context, cut_.contexts);
  const auto move_together = [&](std::vector<std::int32_t>& rows) {
    for (index_t index = 0; index < loaded_; ++index) {  // in this order: no row is overwritten
      const auto from = rows.begin() + index * dataset_.sample_length() + part_.begin;
      const auto to = rows.begin() + index * part_.count();
      if (from != to) std::copy(from, from + part_.count(), to);
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
  cut_rows();
}

void Batch::load_validation(std::span<const index_t> samples) {
  WEIR_ASSERT(static_cast<index_t>(samples.size()) <= sequences_);
  loaded_ = 0;
  for (index_t validation_sample : samples) {
    Sample sample = place(loaded_, validation_sample);
    dataset_.validation_sample(validation_sample, sample);
    placed(loaded_++, sample);
  }
  cut_rows();
}

MicroBatch Batch::view() const {
  const auto count = static_cast<std::size_t>(loaded_);
  const auto length = static_cast<std::size_t>(part_.count());
  MicroBatch batch;
  batch.sequences = loaded_;
  batch.length = part_.count();
  batch.first = part_.begin;
  batch.tokens = std::span(tokens_).first(count * length);
  batch.targets = std::span(targets_).first(dataset_.classes() > 0 ? count : count * length);
  batch.lengths = std::span(lengths_).first(count);
  batch.samples = std::span(samples_).first(count);
  return batch;
}

}  // namespace weir::worker
