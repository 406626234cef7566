#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace weir {

/// A file's bytes as read-only memory, read by the system when touched. If the file becomes shorter
/// meanwhile, or its disk fails, touching what is missing ends the process with exit code 1 and a
/// line that names the file: no Error can be thrown from there.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const;

 private:
  struct Mapping;
  friend struct MappingList;
  std::unique_ptr<Mapping> mapping_;  ///< none for an empty file
};

}  // namespace weir
