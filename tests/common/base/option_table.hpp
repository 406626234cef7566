#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/options.hpp"
#include "tests/temporary_folder.hpp"

/// What the tests of options share: a table with fields of every type, and a file to read it from.
namespace weir::test {

enum class Policy { none, fixed, decay };

/// A table as a room would write it, with fields of every type.
struct Settings {
  index_t steps = 100;
  index_t layers = 4;
  index_t bucket = 1 << 20;
  double rate = 0.001;
  bool tied = false;
  std::string data = "corpus.txt";
  Policy policy = Policy::none;

  std::vector<Option> table() {
    return {{"steps", "", "steps to train", &steps, {1, 1e12}},
            {"data", "", "the corpus", &data},
            {"model.layers", "", "layers", &layers, {1, 4096}},
            {"model.tied-embedding", "", "one embedding for both ends", &tied},
            {"rate", "", "learning rate", &rate, {0, 10}},
            {"net.bucket", "bytes", "size of a bucket", &bucket, {4096}},
            {"clip.policy", "", "how the threshold moves",
             choice(policy,
                    {{"none", Policy::none}, {"fixed", Policy::fixed}, {"decay", Policy::decay}})}};
  }

  std::vector<Setting> parse(const std::vector<std::string>& arguments,
                             const std::vector<std::string>& environment = {},
                             const std::optional<std::string>& file = {}) {
    return parse_options(table(), file, environment, arguments);
  }
};

/// train.ini in a folder of its own, which is the working directory meanwhile.
class IniFile {
 public:
  explicit IniFile(const std::string& bytes) : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(folder_.path());
    std::ofstream("train.ini", std::ios::binary) << bytes;
  }
  ~IniFile() { std::filesystem::current_path(before_); }
  IniFile(const IniFile&) = delete;
  IniFile& operator=(const IniFile&) = delete;

 private:
  std::filesystem::path before_;
  TemporaryFolder folder_;
};

/// The message with which parsing ends, or "accepted".
inline std::string message_of(const std::vector<std::string>& arguments,
                              const std::vector<std::string>& environment = {}) {
  Settings settings;
  try {
    settings.parse(arguments, environment);
  } catch (const UsageError& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "accepted";
}

inline std::string message_of_file(const std::string& bytes) {
  const IniFile file(bytes);
  Settings settings;
  try {
    settings.parse({}, {}, "train.ini");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

inline Settings from_file(const std::string& bytes) {
  const IniFile file(bytes);
  Settings settings;
  settings.parse({}, {}, "train.ini");
  return settings;
}

}  // namespace weir::test
