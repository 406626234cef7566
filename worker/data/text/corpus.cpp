#include "worker/data/text/corpus.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/base/error.hpp"
#include "common/io/digest.hpp"
#include "worker/data/text_check.hpp"

namespace weir::worker {

static std::string file_name(const TokenFile& file) {
  return std::filesystem::path(file.path()).filename().string();
}

Corpus::Corpus(const std::vector<std::string>& paths, std::vector<std::string> warnings)
    : warnings_(std::move(warnings)) {
  for (const auto& path : paths) {
    pieces_.push_back({size_, TokenFile(path)});
    const auto bytes = pieces_.back().file.bytes();
    const std::string refusal = refusal_of(bytes, path);
    if (!refusal.empty()) throw Error(refusal);
    std::string doubt = doubt_about(bytes, path);
    if (!doubt.empty()) warnings_.push_back(std::move(doubt));
    size_ += std::ssize(bytes);
  }
}

void Corpus::copy(index_t offset, std::span<std::int32_t> out) const {
  WEIR_ASSERT(0 <= offset && offset + std::ssize(out) <= size_);
  // The last piece that begins at or before the offset.
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                [](index_t at, const Piece& p) { return at < p.begin; }) -
               1;
  for (; !out.empty(); ++piece) {
    const auto bytes = piece->file.bytes().subspan(offset - piece->begin);
    const index_t count = std::min(std::ssize(bytes), std::ssize(out));
    std::copy_n(bytes.begin(), count, out.begin());
    out = out.subspan(count);
    offset += count;
  }
}

std::uint32_t Corpus::crc(index_t begin, index_t end) const {
  WEIR_ASSERT(0 <= begin && begin <= end && end <= size_);
  std::uint32_t crc = 0;
  for (const auto& piece : pieces_) {
    const auto bytes = std::as_bytes(piece.file.bytes());
    const index_t size = std::ssize(bytes);
    const index_t first = std::clamp<index_t>(begin - piece.begin, 0, size);
    const index_t last = std::clamp<index_t>(end - piece.begin, 0, size);
    crc = crc32c(bytes.subspan(first, last - first), crc);
  }
  return crc;
}

std::string Corpus::names() const {
  std::string all;
  for (const auto& piece : pieces_) {
    if (!all.empty()) all += " + ";
    all += file_name(piece.file);
  }
  return all;
}

std::string Corpus::describe() const {
  std::string all;
  for (const auto& piece : pieces_) {
    const auto bytes = piece.file.bytes();
    all += text(all.empty() ? "" : " + ", file_name(piece.file), " (", bytes.size(), " bytes, ",
                digest_of(std::as_bytes(bytes)), ")");
  }
  return all;
}

}  // namespace weir::worker
