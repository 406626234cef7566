#include "common/number/memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "common/base/error.hpp"

using namespace weir;

TEST_CASE("a buffer is zero, as long as asked for and aligned to a cache line or a huge page") {
  for (const index_t size : {1, 3, 16, 1000, 524287, 524288, 524289, 3000000}) {
    CAPTURE(size);
    Buffer buffer(size);
    CHECK(buffer.size() == size);
    CHECK(buffer.span().size() == static_cast<std::size_t>(size));
    CHECK(std::ranges::all_of(buffer.span(), [](float value) { return value == 0; }));
    const std::uintptr_t alignment = size * 4 >= (2 << 20) ? 2 << 20 : 64;
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment == 0);
    std::ranges::fill(buffer.span(), 1.0F);  // every element may be written
  }
}

TEST_CASE("of small buffers nothing lies on huge pages, of large ones what the kernel grants") {
  CHECK(Buffer(1000).huge_bytes() == 0);
  const Buffer buffer(4 << 20);
  CHECK(buffer.huge_bytes() <= (16 << 20));
  CHECK(buffer.huge_bytes() % (2 << 20) == 0);
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string modes;
  std::getline(file, modes);
  CAPTURE(modes);
  const bool never =
      modes.find("[madvise]") == std::string::npos && modes.find("[always]") == std::string::npos;
  if (never) CHECK(buffer.huge_bytes() == 0);
  // Where memory is short the kernel may refuse some of them.
  if (!never) CHECK(buffer.huge_bytes() > 0);
}

TEST_CASE("a buffer without elements has no memory") {
  CHECK(Buffer().size() == 0);
  CHECK(Buffer(0).data() == nullptr);
}

TEST_CASE("moving a buffer keeps its address and contents and empties the source") {
  for (const index_t size : {10, 600000}) {
    Buffer source(size);
    source[size - 1] = 7;
    const float* const address = source.data();
    Buffer target = std::move(source);
    CHECK(target.data() == address);
    CHECK(target[size - 1] == 7);
    CHECK(source.size() == 0);  // NOLINT(bugprone-use-after-move): that is the claim
    Buffer other(5);
    other = std::move(target);
    CHECK(other.data() == address);
  }
}

TEST_CASE("buffers of other types count elements, not bytes") {
  BufferOf<std::uint16_t> halves(1000);
  CHECK(halves.size() == 1000);
  BufferOf<std::int64_t> words(300000);
  CHECK(words.size() == 300000);
  words[299999] = -1;
  CHECK(words.span().back() == -1);
}

TEST_CASE("more memory than there is is an Error that says how much was asked for") {
  CHECK_THROWS_WITH_AS(Buffer(index_t{1} << 45),
                       "cannot allocate 35184372088832 elements of 4 bytes; take a smaller model, "
                       "batch or length, or more ranks or servers",
                       Error);
  CHECK_THROWS_AS(Buffer(std::numeric_limits<index_t>::max()), Error);
}
