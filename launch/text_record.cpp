#include "launch/text_record.hpp"

#include <algorithm>
#include <charconv>

#include "common/base/text.hpp"
#include "common/io/digest.hpp"
#include "launch/terminal/quantities.hpp"

namespace weir {
namespace {

template <class Integer>
bool parse(const std::string& digits, Integer& value, int base) {
  const char* const end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value, base);
  return result.ec == std::errc() && result.ptr == end;
}

/// The names of files; a long list is cut.
std::string short_names(const std::string& names) {
  constexpr std::size_t kShown = 100;
  return names.size() <= kShown ? names : names.substr(0, kShown) + " ...";
}

std::string words_of(const TextRecord& record) {
  return text(
      short_names(record.files), " (", grouped(record.training_bytes), " bytes to train on, CRC ",
      hexadecimal(record.training_crc), "; ", grouped(record.held_out_bytes), " held out",
      record.validation_files.empty() ? "" : text(" in ", short_names(record.validation_files)),
      ", CRC ", hexadecimal(record.held_out_crc), ")");
}

}  // namespace

TextRecord record_of(const worker::TextDataset& text) {
  const worker::Corpus& corpus = text.corpus();
  const index_t cut = text.training_bytes();
  TextRecord record = {.files = corpus.names(),
                       .training_bytes = cut,
                       .training_crc = corpus.crc(0, cut),
                       .validation_files = {},
                       .held_out_bytes = corpus.size() - cut,
                       .held_out_crc = corpus.crc(cut, corpus.size())};
  if (const worker::Corpus* const validation = text.validation()) {
    record.validation_files = validation->names();
    record.held_out_bytes = validation->size();
    record.held_out_crc = validation->crc(0, validation->size());
  }
  return record;
}

std::map<std::string, std::string> as_settings(const TextRecord& record) {
  return {{"text.files", record.files},
          {"text.training-bytes", text(record.training_bytes)},
          {"text.training-crc", hexadecimal(record.training_crc)},
          {"text.validation-files", record.validation_files},
          {"text.held-out-bytes", text(record.held_out_bytes)},
          {"text.held-out-crc", hexadecimal(record.held_out_crc)}};
}

std::optional<TextRecord> record_in(const std::map<std::string, std::string>& settings) {
  const auto value = [&](const char* name) {
    const auto found = settings.find(name);
    return found == settings.end() ? std::string() : found->second;
  };
  TextRecord record;
  record.files = value("text.files");
  record.validation_files = value("text.validation-files");
  const bool whole = parse(value("text.training-bytes"), record.training_bytes, 10) &&
                     parse(value("text.training-crc"), record.training_crc, 16) &&
                     parse(value("text.held-out-bytes"), record.held_out_bytes, 10) &&
                     parse(value("text.held-out-crc"), record.held_out_crc, 16);
  const bool possible = record.training_bytes >= 0 && record.held_out_bytes >= 0;
  return whole && possible ? std::optional(record) : std::nullopt;
}

std::optional<TextChange> change_of(const TextRecord& before, const worker::TextDataset& now) {
  const TextRecord record = record_of(now);
  TextRecord renamed = before;
  renamed.files = record.files;
  renamed.validation_files = record.validation_files;
  if (renamed == record) return std::nullopt;

  TextChange change;
  change.words = text("it was ", words_of(before), ", it is ", words_of(record));
  const worker::Corpus& corpus = now.corpus();
  const index_t old_cut = before.training_bytes;
  if (corpus.size() < old_cut || corpus.crc(0, old_cut) != before.training_crc) return change;
  const index_t cut = record.training_bytes;
  if (now.validation() == nullptr) change.seen_bytes = std::max<index_t>(0, old_cut - cut);
  const bool holds_them =
      before.held_out_bytes <= corpus.size() - old_cut &&
      corpus.crc(old_cut, old_cut + before.held_out_bytes) == before.held_out_crc;
  if (holds_them && cut > old_cut) {
    change.leaked_from = old_cut;
    change.leaked_to = std::min(cut, old_cut + before.held_out_bytes);
  }
  return change;
}

}  // namespace weir
