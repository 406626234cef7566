#include "worker/data/text/text_dataset.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

namespace weir::worker {

index_t standard_stride(index_t length) { return std::max<index_t>(1, length / 2); }

DataShape text_shape(index_t length) {
  return {length,
          {{.name = "tokens", .ragged = true, .values = 256},
           {.name = "targets", .ragged = true, .values = 256, .is_target = true}}};
}

TextDataset::TextDataset(Corpus corpus, index_t length, index_t held_out, index_t stride,
                         std::uint64_t seed, std::optional<Corpus> validation)
    : corpus_(std::move(corpus)),
      validation_(std::move(validation)),
      length_(length),
      stride_(stride == 0 ? standard_stride(length) : stride),
      seed_(seed),
      held_out_(validation_ ? validation_->size() - 1 : std::min(held_out, corpus_.size() / 10)),
      training_(validation_ ? corpus_.size() : corpus_.size() - held_out_),
      windows_(std::max<index_t>(1, (training_ - 1) / length - 1)) {
  WEIR_ASSERT(length >= 1 && held_out >= 1 && stride >= 0);
  if (stride_ > length_) {
    throw UsageError(text("data.stride is ", stride_, " tokens, more than a sample's length of ",
                          length_, ": bytes between the windows would not be scored"));
  }
  if (validation_ && held_out_ < length_) {
    throw UsageError(text("the text to validate on (", validation_->names(), ") has ",
                          validation_->size(), " bytes, and a window of length ", length_,
                          " needs ", length_ + 1,
                          "; give more text (data.validation) or a smaller length"));
  }
  if (validation_ && training_ < length_ + 1) {
    throw UsageError(text("the text (", corpus_.names(), ") has ", corpus_.size(),
                          " bytes, and a window of length ", length_, " needs ", length_ + 1,
                          "; give more text (data.files) or a smaller length"));
  }
  if (held_out_ < 1 || training_ < length_ + 1) {
    throw UsageError(text("the text (", corpus_.names(), ") has ", corpus_.size(), " bytes: less ",
                          held_out_, " held out for validation, ", training_,
                          " are left to train on, and a window of length ", length_, " needs ",
                          length_ + 1, "; give more text (data.files) or a smaller length"));
  }
}

void TextDataset::window(const Corpus& corpus, index_t offset, Sample& sample) const {
  const auto tokens = sample.integers("tokens");
  const auto targets = sample.integers("targets");
  WEIR_ASSERT(std::ssize(tokens) == length_ && std::ssize(targets) == length_);
  corpus.copy(offset, tokens);
  corpus.copy(offset + 1, targets);
  sample.length = length_;
}

void TextDataset::training_sample(index_t cursor, Sample& sample) const {
  static const std::uint64_t shift_stream = stream_of("data.shift");
  WEIR_ASSERT(cursor >= 0);
  const auto epoch = static_cast<std::uint64_t>(cursor / windows_);
  const auto shifts = static_cast<std::uint64_t>(training_ - windows_ * length_);
  const auto shift = static_cast<index_t>(random_word(seed_, shift_stream, epoch) % shifts);
  window(corpus_, permute(cursor % windows_, windows_, seed_, epoch) * length_ + shift, sample);
}

index_t TextDataset::validation_size() const {
  const index_t after_first = held_out_ - std::min(length_, held_out_);
  return 1 + (after_first + stride_ - 1) / stride_;
}

void TextDataset::validation_sample(index_t index, Sample& sample) const {
  WEIR_ASSERT(0 <= index && index < validation_size());
  // Held-out bytes scored up to and including a window, the first of which ends at index 0.
  const auto scored_after = [this](index_t window) {
    return std::min(held_out_, length_ + window * stride_);
  };
  const index_t end = scored_after(index);
  const index_t scored = index == 0 ? end : end - scored_after(index - 1);
  if (validation_) {
    window(*validation_, end - length_, sample);  // its byte 0 is the first that is seen
  } else {
    window(corpus_, training_ + end - 1 - length_, sample);
  }
  std::fill_n(sample.integers("targets").begin(), length_ - scored, -1);
}

std::string TextDataset::describe() const {
  const std::string scored = validation_
                                 ? text("validation: ", validation_->describe(), ", ", held_out_)
                                 : text("the last ", held_out_, " held out");
  return text(corpus_.describe(), "; ", scored, ", scored in windows of ", length_, " with stride ",
              stride_, "; ", windows_, " training windows an epoch");
}

std::vector<std::string> TextDataset::warnings() const {
  std::vector<std::string> all = corpus_.warnings();
  if (validation_) {
    all.insert(all.end(), validation_->warnings().begin(), validation_->warnings().end());
  }
  return all;
}

}  // namespace weir::worker
