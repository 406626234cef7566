#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/io/mapped_file.hpp"

namespace weir::worker {

/// The file's bytes as numbers 0 .. 255.
std::span<const std::uint8_t> numbers(const MappedFile& file);

/// The bytes of a file as tokens. A plain file is mapped into memory and its pages are shared by
/// all ranks of a host; a gzip'ed one (told by its first bytes) is unpacked into memory, at most
/// kUnpackedBytesMax.
class TokenFile {
 public:
  static constexpr index_t kUnpackedBytesMax = index_t{4} << 30;

  /// Throws Error with the path if the file is unreadable, empty, corrupt or too large unpacked.
  explicit TokenFile(std::string path);

  const std::string& path() const { return path_; }
  /// Valid as long as this object, also after a move.
  std::span<const std::uint8_t> bytes() const;

 private:
  std::string path_;
  MappedFile mapped_;
  bool packed_ = false;
  std::vector<std::uint8_t> unpacked_;  // the bytes, if the file is packed
};

}  // namespace weir::worker
