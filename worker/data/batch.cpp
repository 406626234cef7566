#include "worker/data/batch.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

Batch::Batch(const Dataset& dataset, index_t sequences, const ContextCut& cut)
    : dataset_(dataset),
      sequences_(sequences),
      cut_(cut),
      sample_length_(dataset.shape().length),
      lengths_(sequences),
      samples_(sequences) {
  WEIR_ASSERT(cut.fewest_tokens >= 1);  // of empty samples, too: a matrix has rows
  WEIR_ASSERT(cut.contexts * cut.fewest_tokens <= sample_length_);
  for (const ColumnShape& shape : dataset.shape().columns) {
    const index_t elements = shape.elements * (shape.ragged ? sample_length_ : 1);
    const index_t sample_bytes = elements * bytes_of(shape.dtype);
    columns_.push_back({shape, sample_bytes, std::vector<std::byte>(sequences * sample_bytes)});
  }
}

Sample Batch::place(index_t index) {
  Sample place;
  for (OwnedColumn& column : columns_) {
    const Dtype dtype = column.shape.dtype;
    const Vector values(column.bytes.data() + index * column.sample_bytes, dtype, MemoryKind::host,
                        column.sample_bytes / bytes_of(dtype));
    place.columns.push_back({column.shape.name, values});
  }
  return place;
}

void Batch::placed(index_t index, index_t key, const Sample& sample) {
  samples_[index] = key;
  lengths_[index] = sample.length;
}

void Batch::cut_rows() {
  index_t length = cut_.contexts * cut_.fewest_tokens;
  for (index_t index = 0; index < loaded_; ++index) {
    length = std::max(length, lengths_[index]);
  }
  part_ = part_of_sequence(length, cut_.context, cut_.contexts);
  for (OwnedColumn& column : columns_) {
    if (!column.shape.ragged) continue;
    const index_t position_bytes = column.sample_bytes / sample_length_;
    for (index_t index = 0; index < loaded_; ++index) {  // in this order: no row is overwritten
      const auto from =
          column.bytes.begin() + index * column.sample_bytes + part_.begin * position_bytes;
      const auto to = column.bytes.begin() + index * part_.count() * position_bytes;
      if (from != to) std::copy(from, from + part_.count() * position_bytes, to);
    }
  }
}

void Batch::load_training(index_t cursor) {
  loaded_ = sequences_;
  for (index_t index = 0; index < loaded_; ++index) {
    Sample sample = place(index);
    dataset_.training_sample(cursor + index, sample);
    placed(index, cursor + index, sample);
  }
  cut_rows();
}

void Batch::load_validation(std::span<const index_t> samples) {
  WEIR_ASSERT(std::ssize(samples) <= sequences_);
  loaded_ = 0;
  for (index_t validation_sample : samples) {
    Sample sample = place(loaded_);
    dataset_.validation_sample(validation_sample, sample);
    placed(loaded_++, validation_sample, sample);
  }
  cut_rows();
}

MicroBatch Batch::view() const {
  MicroBatch batch;
  batch.sequences = loaded_;
  batch.length = part_.count();
  batch.first = part_.begin;
  for (const OwnedColumn& column : columns_) {
    const Dtype dtype = column.shape.dtype;
    const index_t elements =
        loaded_ * column.shape.elements * (column.shape.ragged ? part_.count() : 1);
    batch.columns.push_back(
        {column.shape.name, ConstVector(column.bytes.data(), dtype, MemoryKind::host, elements)});
  }
  batch.lengths = std::span(lengths_).first(loaded_);
  batch.samples = std::span(samples_).first(loaded_);
  return batch;
}

}  // namespace weir::worker
