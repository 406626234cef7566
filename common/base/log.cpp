#include "common/base/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "common/base/error.hpp"
#include "common/base/safe_text.hpp"

namespace weir {
namespace {

/// The one logger of the process: a log that had to be handed to every function would not be used.
struct Log {
  // Without colours: spdlog writes those in several pieces.
  spdlog::logger logger{"weir", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  std::string identity;

  Log() {
    logger.flush_on(spdlog::level::debug);
    logger.set_level(spdlog::level::info);
    set_identity("");
  }

  void set_identity(std::string_view new_identity) {
    identity = new_identity;
    // A file is read later, and perhaps elsewhere.
    std::string pattern = isatty(STDERR_FILENO) != 0 ? "%H:%M:%S.%e " : "%Y-%m-%dT%H:%M:%S.%e%z ";
    for (const char letter : identity) {
      pattern += letter;
      if (letter == '%') pattern += '%';
    }
    if (!identity.empty()) pattern += ' ';
    pattern += "%l: %v";
    logger.set_pattern(pattern);
  }
};

Log& process_log() {
  static Log log;
  return log;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  WEIR_UNREACHABLE();
}

void log(LogLevel level, std::string_view words) {
  const std::string line = safe_text(words);
  process_log().logger.log(spdlog_level(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

void log_debug(std::string_view line) { log(LogLevel::debug, line); }
void log_info(std::string_view line) { log(LogLevel::info, line); }
void log_warning(std::string_view line) { log(LogLevel::warning, line); }
void log_error(std::string_view line) { log(LogLevel::error, line); }

void set_log_identity(std::string_view identity) { process_log().set_identity(identity); }
std::string log_identity() { return process_log().identity; }

void set_log_level(LogLevel level) { process_log().logger.set_level(spdlog_level(level)); }

}  // namespace weir
