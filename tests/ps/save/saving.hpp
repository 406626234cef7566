#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/io/checkpoint_format.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

/// What the tests of saving and resuming share.
namespace weir::test {

inline ps::ServerConfig saving(const fs::path& folder, index_t steps, index_t every) {
  ps::ServerConfig config = server_config(steps);
  config.checkpoint.folder = folder;
  config.checkpoint.every = every;
  config.checkpoint.wait_s = 0;  // a disk that has failed for good need not be waited for
  config.checkpoint.retry_s = 0.001;
  config.checkpoint.settings = {{"model.layers", "2"}, {"model.heads", "4"}};
  return config;
}

inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

inline void contains(const std::string& message, const std::string& part) {
  CAPTURE(message);
  CAPTURE(part);
  CHECK(message.find(part) != std::string::npos);
}

}  // namespace weir::test
