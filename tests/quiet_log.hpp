#pragma once

#include "common/base/log.hpp"

namespace weir::test {

/// While it lives, warnings that a test provokes do not show.
class QuietLog {
 public:
  QuietLog() { set_log_level(LogLevel::error); }
  ~QuietLog() { set_log_level(LogLevel::info); }
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;
};

}  // namespace weir::test
