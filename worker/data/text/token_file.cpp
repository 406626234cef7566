#include "worker/data/text/token_file.hpp"

#include <utility>

#include "common/base/error.hpp"
#include "worker/data/text/inflate.hpp"

namespace weir::worker {

std::span<const std::uint8_t> numbers(const MappedFile& file) {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

TokenFile::TokenFile(std::string path) : path_(std::move(path)), mapped_(path_) {
  if (looks_gzipped(numbers(mapped_))) {
    unpacked_ = inflate(numbers(mapped_), kUnpackedBytesMax, path_);
    packed_ = true;
  }
  if (bytes().empty()) throw Error(text("read ", path_, ": the file is empty"));
}

std::span<const std::uint8_t> TokenFile::bytes() const {
  return packed_ ? std::span<const std::uint8_t>(unpacked_) : numbers(mapped_);
}

}  // namespace weir::worker
