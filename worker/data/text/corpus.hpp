#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "worker/data/text/token_file.hpp"

namespace weir::worker {

/// Several token files read as one text, in the order given. Bytes are tokens: vocabulary 256.
class Corpus {
 public:
  /// Throws Error with the file's name if one is unreadable, empty, corrupt, or known to be no text
  /// (text_check.hpp).
  /// `warnings` come before those about the files themselves.
  explicit Corpus(const std::vector<std::string>& paths, std::vector<std::string> warnings = {});

  /// Tokens of all files.
  index_t size() const { return size_; }

  /// out[i] = token offset + i. 0 <= offset, offset + out.size() <= size().
  void copy(index_t offset, std::span<std::int32_t> out) const;

  index_t file_count() const { return std::ssize(pieces_); }

  /// CRC-32C of the tokens [begin, end) as bytes. 0 <= begin <= end <= size().
  std::uint32_t crc(index_t begin, index_t end) const;

  /// The files' names without their folders: "emma.txt + persuasion.txt".
  std::string names() const;

  /// A warning for each file that holds bytes which texts do not.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// Each file's name, unpacked bytes and their digest (XXH3): "emma.txt (80 bytes, 0123...) +
  /// ...".
  std::string describe() const;

 private:
  struct Piece {
    index_t begin;
    TokenFile file;
  };
  std::vector<Piece> pieces_;
  std::vector<std::string> warnings_;
  index_t size_ = 0;
};

}  // namespace weir::worker
