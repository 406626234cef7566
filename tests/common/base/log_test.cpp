#include "common/base/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

using namespace weir;

namespace {

/// Puts a datagram socket in the place of stderr, so that each write() arrives on its own.
class CapturedStderr {
 public:
  CapturedStderr() : original_(dup(STDERR_FILENO)) {
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends_.data()) == 0);
    dup2(ends_[1], STDERR_FILENO);
  }
  ~CapturedStderr() {
    dup2(original_, STDERR_FILENO);
    for (const int end : {ends_[0], ends_[1], original_}) close(end);
  }
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;

  std::vector<std::string> writes() {
    std::vector<std::string> result;
    std::array<char, 4096> bytes{};
    ssize_t size = 0;
    while ((size = recv(ends_[0], bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0) {
      result.emplace_back(bytes.data(), static_cast<std::size_t>(size));
    }
    return result;
  }

 private:
  std::array<int, 2> ends_{};
  int original_;
};

/// The line after a time of this shape: d is a digit, s a sign.
std::string without_time(const std::string& line, const std::string& shape) {
  REQUIRE(line.size() > shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    CAPTURE(line);
    const bool is_digit = line[i] >= '0' && line[i] <= '9';
    const bool is_sign = line[i] == '+' || line[i] == '-';
    CHECK((shape[i] == 'd' ? is_digit : shape[i] == 's' ? is_sign : line[i] == shape[i]));
  }
  return line.substr(shape.size());
}

std::string without_date(const std::string& line) {
  return without_time(line, "dddd-dd-ddTdd:dd:dd.dddsdd:dd ");
}

/// Puts a terminal in the place of stderr.
class TerminalStderr {
 public:
  TerminalStderr() : original_(dup(STDERR_FILENO)), terminal_(posix_openpt(O_RDWR | O_NOCTTY)) {
    REQUIRE(terminal_ >= 0);
    REQUIRE(grantpt(terminal_) == 0);
    REQUIRE(unlockpt(terminal_) == 0);
    const int end = open(ptsname(terminal_), O_RDWR | O_NOCTTY);
    REQUIRE(end >= 0);
    dup2(end, STDERR_FILENO);
    close(end);
  }
  ~TerminalStderr() {
    dup2(original_, STDERR_FILENO);
    for (const int end : {original_, terminal_}) close(end);
  }
  TerminalStderr(const TerminalStderr&) = delete;
  TerminalStderr& operator=(const TerminalStderr&) = delete;

  std::string line() {
    std::array<char, 4096> bytes{};
    const ssize_t size = read(terminal_, bytes.data(), bytes.size());
    return size > 0 ? std::string(bytes.data(), size) : std::string();
  }

 private:
  int original_;
  int terminal_;
};

}  // namespace

TEST_CASE("a line is one write with date, time, zone, identity, level and text") {
  std::vector<std::string> writes;
  {
    CapturedStderr captured;
    set_log_identity("");
    log_info("nobody {} %v");
    set_log_identity("rank 3 100%");
    log_warning("second");
    log_error("third");
    set_log_identity("");
    writes = captured.writes();
  }
  REQUIRE(writes.size() == 3);
  CHECK(without_date(writes[0]) == "info: nobody {} %v\n");
  CHECK(without_date(writes[1]) == "rank 3 100% warning: second\n");
  CHECK(without_date(writes[2]) == "rank 3 100% error: third\n");
}

TEST_CASE("on a terminal a line has the time alone") {
  std::string line;
  {
    TerminalStderr terminal;
    set_log_identity("");
    log_info("here");
    line = terminal.line();
  }
  set_log_identity("");
  CHECK(without_time(line, "dd:dd:dd.ddd ") == "info: here\r\n");
}

TEST_CASE("lines below the level are dropped") {
  std::vector<std::string> writes;
  {
    CapturedStderr captured;
    log_debug("dropped by default");
    set_log_level(LogLevel::warning);
    log_info("dropped");
    log_warning("kept");
    set_log_level(LogLevel::debug);
    log_debug("kept");
    set_log_level(LogLevel::info);
    writes = captured.writes();
  }
  CHECK(writes.size() == 2);
}
