#include "worker/data/inflate.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "common/base/error.hpp"

namespace weir::worker {
namespace {

constexpr int kZlibOrGzip = 15 + 32;  // the largest window; the header says which of the two

/// zlib's state, freed on every way out.
struct Inflater {
  z_stream stream{};
  Inflater() {
    if (inflateInit2(&stream, kZlibOrGzip) != Z_OK) throw Error("zlib: no memory to unpack");
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

}  // namespace

bool looks_gzipped(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

std::vector<std::uint8_t> inflate(std::span<const std::uint8_t> packed, index_t bytes_max,
                                  const std::string& name) {
  Inflater inflater;
  z_stream& stream = inflater.stream;
  std::vector<std::uint8_t> out;
  std::array<std::uint8_t, 1 << 16> piece;
  std::size_t fed = 0;
  while (true) {
    if (stream.avail_in == 0) {
      // avail_in has 32 bits, a file may be longer.
      const std::size_t part = std::min<std::size_t>(packed.size() - fed, 1U << 30);
      stream.next_in = const_cast<Bytef*>(packed.data() + fed);  // zlib reads it only
      stream.avail_in = static_cast<uInt>(part);
      fed += part;
    }
    stream.next_out = piece.data();
    stream.avail_out = static_cast<uInt>(piece.size());
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    const std::size_t made = piece.size() - stream.avail_out;
    if (static_cast<index_t>(out.size() + made) > bytes_max) {
      throw Error(text("unpack ", name, ": more than ", bytes_max,
                       " bytes come out; unpack it with gunzip and name the plain file"));
    }
    out.insert(out.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(made));
    if (result == Z_STREAM_END) {
      const auto rest = packed.subspan(fed - stream.avail_in);
      if (rest.empty()) return out;
      if (!looks_gzipped(rest)) {
        throw Error(text("unpack ", name, ": ", rest.size(),
                         " bytes follow the packed data; is the file damaged?"));
      }
      inflateReset(&stream);
    } else if (result == Z_BUF_ERROR && stream.avail_in == 0 && fed == packed.size()) {
      throw Error(text("unpack ", name, ": the packed data ends too early after ", packed.size(),
                       " bytes; copy or download it again"));
    } else if (result != Z_OK) {
      throw Error(text("unpack ", name, ": ", stream.msg ? stream.msg : "corrupt data",
                       " near byte ", fed - stream.avail_in, "; copy or download it again"));
    }
  }
}

}  // namespace weir::worker
