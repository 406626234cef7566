#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace weir::test {

/// Damages the contents of files, as disks, memory and people do it.
class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  /// One to three damages. `other`: the same file at another time, from which whole blocks may
  /// come. `has_lines`: lines and numbers in them are damaged, too.
  std::string damaged(std::string bytes, const std::string& other, bool has_lines);

  /// Damages to the words of a command.
  std::vector<std::string> damaged(std::vector<std::string> words);

  /// What was done.
  const std::string& words() const { return words_; }

  std::size_t below(std::size_t count) { return count == 0 ? 0 : random_() % count; }
  bool chance(std::size_t one_in) { return below(one_in) == 0; }

 private:
  void damage_bytes(std::string& bytes, const std::string& other);
  void damage_lines(std::string& bytes);
  void replace_number(std::string& bytes);
  std::string hostile_value();
  void note(const std::string& words) { words_ += (words_.empty() ? "" : ", ") + words; }

  std::mt19937_64 random_;
  std::string words_;
};

}  // namespace weir::test
