#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/error.hpp"

namespace weir::test {

/// Where files cost no disk, if the machine has such a place: for tests that make thousands.
inline std::filesystem::path memory_folder() {
  const std::filesystem::path shared = "/dev/shm";
  return access(shared.c_str(), W_OK) == 0 ? shared : std::filesystem::temp_directory_path();
}

/// A new folder that goes away with this.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(
      const std::filesystem::path& above = std::filesystem::temp_directory_path()) {
    std::string name = (above / "weir-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("no folder can be made: " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace weir::test
