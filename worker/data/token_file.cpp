#include "worker/data/token_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/base/error.hpp"
#include "worker/data/inflate.hpp"

namespace weir::worker {

Mapping::Mapping(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || ::fstat(file, &status) != 0) {
    const int error = errno;
    if (file >= 0) ::close(file);
    throw Error(text("read ", path, ": ", std::strerror(error)));
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  void* address = MAP_FAILED;
  if (S_ISREG(status.st_mode) && size > 0) {
    address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  }
  const int error = errno;
  ::close(file);
  if (!S_ISREG(status.st_mode)) throw Error(text("read ", path, ": not a regular file"));
  if (size == 0) return;
  if (address == MAP_FAILED) throw Error(text("map ", path, ": ", std::strerror(error)));
  bytes_ = {static_cast<const std::uint8_t*>(address), size};
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::uint8_t*>(bytes_.data()), bytes_.size());
}

TokenFile::TokenFile(std::string path) : path_(std::move(path)), mapping_(path_) {
  if (looks_gzipped(mapping_.bytes())) {
    unpacked_ = inflate(mapping_.bytes(), kUnpackedBytesMax, path_);
    packed_ = true;
  }
  if (bytes().empty()) throw Error(text("read ", path_, ": the file is empty"));
}

std::span<const std::uint8_t> TokenFile::bytes() const {
  return packed_ ? std::span<const std::uint8_t>(unpacked_) : mapping_.bytes();
}

}  // namespace weir::worker
