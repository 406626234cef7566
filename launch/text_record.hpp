#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/base/index.hpp"
#include "worker/data/text/text_dataset.hpp"

namespace weir {

/// What a checkpoint keeps of the text that its run reads, so that a later job can tell whether it
/// reads the same. In MANIFEST these are the settings `text.…`.
struct TextRecord {
  std::string files;  ///< names without their folders
  index_t training_bytes = 0;
  std::uint32_t training_crc = 0;  ///< CRC-32C
  /// Empty: the bytes held out follow those for training.
  std::string validation_files;
  index_t held_out_bytes = 0;
  std::uint32_t held_out_crc = 0;
  bool operator==(const TextRecord&) const = default;
};

/// Makes the record of a text; reads all its bytes.
TextRecord record_of(const worker::TextDataset& text);

std::map<std::string, std::string> as_settings(const TextRecord& record);
/// Reads a record from settings. Nothing if they hold no whole one, as with ListOps or in
/// checkpoints of earlier versions.
std::optional<TextRecord> record_in(const std::map<std::string, std::string>& settings);

/// How the text of a job differs from that of a checkpoint.
struct TextChange {
  std::string words;        ///< what it was and what it is
  index_t leaked_from = 0;  ///< bytes of the text that were held out, and are for training now
  index_t leaked_to = 0;
  index_t seen_bytes = 0;  ///< bytes that are held out now and were for training before
  bool leaks() const { return leaked_from < leaked_to; }
};

/// Compares two records. Nothing if training and held-out bytes are the same, whatever the names of
/// the files. Bytes that change sides are found if the new text begins like the old one: it grew,
/// or is cut elsewhere.
std::optional<TextChange> change_of(const TextRecord& before, const worker::TextDataset& now);

}  // namespace weir
