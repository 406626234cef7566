#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/number/index.hpp"

namespace weir::worker {

/// A regular file, mapped to be read.
class Mapping {
 public:
  explicit Mapping(const std::string& path);
  ~Mapping();
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&&) = delete;
  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  std::span<const std::uint8_t> bytes_;
};

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
  Mapping mapping_;
  bool packed_ = false;
  std::vector<std::uint8_t> unpacked_;  // if packed
};

}  // namespace weir::worker
