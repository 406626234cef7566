#include "common/base/error.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace weir {

TEST_CASE("an assertion that does not hold ends the process with 70") {
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);
    WEIR_ASSERT(1 + 1 == 3);
    _exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 70);
}

}  // namespace weir
