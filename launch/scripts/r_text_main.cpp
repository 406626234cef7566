// r_text STEM OBJECT...: the lines of character vectors in an R package's lazy-load database
// (STEM.rdx, STEM.rdb), one after the other on stdout. launch/scripts/corpus calls it.

#include <cstdio>
#include <exception>

#include "launch/scripts/r_lazyload.hpp"

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: r_text STEM OBJECT...\n");
    return 2;
  }
  try {
    for (int i = 2; i < count; ++i) {
      for (auto& line : weir::worker::r_strings(arguments[1], arguments[i])) {
        line += '\n';
        std::fwrite(line.data(), 1, line.size(), stdout);
      }
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
      std::perror("r_text: write to stdout");
      return 1;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "r_text: %s\n", error.what());
    return 1;
  }
}
