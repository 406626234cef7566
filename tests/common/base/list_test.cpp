#include "common/base/list.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <numeric>
#include <span>
#include <type_traits>

namespace weir {
namespace {

TEST_CASE("a list has sizes and positions of index_t, and no cast between the two") {
  List<double> values(3, 0.5);
  static_assert(std::is_same_v<decltype(values.size()), index_t>);
  for (index_t at = 0; at < values.size(); ++at) values[at] += static_cast<double>(at);
  CHECK(values == List<double>{0.5, 1.5, 2.5});
  index_t downwards = 0;
  for (index_t at = values.size(); at-- > 0;) ++downwards;
  CHECK(downwards == 3);
  CHECK(List<double>().size() - 1 == -1);
}

TEST_CASE("a list is made from a vector and read as one, without a copy of what is read") {
  const List<index_t> list = std::vector<index_t>{1, 2, 3};
  const std::vector<index_t>& read = list;
  CHECK(read.data() == list.data());
  CHECK(read == std::vector<index_t>{1, 2, 3});
  CHECK(list == read);
  const std::span<const index_t> span = list;
  CHECK(span.data() == list.data());
  CHECK(span.size() == 3);
}

TEST_CASE("flags and elements that cannot be copied may be in a list, too") {
  List<bool> flags(4, false);
  flags[2] = true;
  CHECK(flags == List<bool>{false, false, true, false});
  List<std::unique_ptr<int>> owners(2);
  owners.push_back(std::make_unique<int>(7));
  List<std::unique_ptr<int>> moved = std::move(owners);
  CHECK(*moved[2] == 7);
  CHECK(moved[0] == nullptr);
}

TEST_CASE("a list grows and shrinks as a vector does") {
  List<int> numbers;
  numbers.reserve(8);
  for (int number = 0; number < 5; ++number) numbers.push_back(number);
  numbers.insert(numbers.begin(), -1);
  numbers.erase(numbers.begin() + 1, numbers.begin() + 3);
  CHECK(numbers == List<int>{-1, 2, 3, 4});
  CHECK(numbers.front() == -1);
  CHECK(numbers.back() == 4);
  numbers.resize(2);
  numbers.assign(numbers.size(), 6);
  CHECK(std::accumulate(numbers.begin(), numbers.end(), 0) == 12);
  numbers.clear();
  CHECK(numbers.empty());
}

}  // namespace
}  // namespace weir
