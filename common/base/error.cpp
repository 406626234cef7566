#include "common/base/error.hpp"

#include <cstdio>
#include <cstdlib>

namespace weir {

void assert_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: a bug in weir: %s does not hold\n", file, line, condition);
  std::_Exit(static_cast<int>(ExitCode::internal));
}

}  // namespace weir
