#include "worker/data/text/inflate.hpp"

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

/// Unpacks all members, piece by piece; `take` gets each piece.
template <class Take>
static void unpack(std::span<const std::uint8_t> packed, const std::string& name,
                   const Take& take) {
  Inflater inflater;
  z_stream& stream = inflater.stream;
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
    take(std::span(piece).first(made));
    if (result == Z_STREAM_END) {
      const auto rest = packed.subspan(fed - stream.avail_in);
      const auto is_zero = [](std::uint8_t byte) { return byte == 0; };
      if (std::ranges::all_of(rest, is_zero)) return;  // zeros that pad a file to whole blocks
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

std::vector<std::uint8_t> inflate(std::span<const std::uint8_t> packed, index_t bytes_max,
                                  const std::string& name) {
  // Unpacked twice: the first pass counts the bytes before memory for them is allocated.
  std::size_t size = 0;
  unpack(packed, name, [&](std::span<const std::uint8_t> piece) {
    size += piece.size();
    if (static_cast<index_t>(size) > bytes_max) {
      throw Error(text("unpack ", name, ": more than ", bytes_max,
                       " bytes come out; unpack it with gunzip and name the plain file"));
    }
  });
  std::vector<std::uint8_t> out;
  out.reserve(size);
  unpack(packed, name, [&](std::span<const std::uint8_t> piece) {
    if (out.size() + piece.size() > size) {
      throw Error(text("unpack ", name, ": it changes while it is read; start again"));
    }
    out.insert(out.end(), piece.begin(), piece.end());
  });
  return out;
}

}  // namespace weir::worker
