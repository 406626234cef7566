#include "common/io/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <span>
#include <string_view>

#include "common/base/machine.hpp"

namespace weir {
namespace {

constexpr std::string_view kGenerationWord = "generation ";

constexpr index_t kGenerationMax = index_t{1} << 50;  // so that the next one is a number, too

/// What a LOCK says; nothing if it is missing or holds something else.
struct Owner {
  std::string name;
  index_t generation = 0;
};

Owner owner_in(const fs::path& lock) {
  Owner owner;
  std::error_code error;
  if (!fs::is_regular_file(lock, error)) return owner;  // to open a pipe would wait
  std::string line;
  std::ifstream file(lock);
  std::getline(file, owner.name);
  std::getline(file, line);
  if (!line.starts_with(kGenerationWord)) return owner;
  std::from_chars(line.data() + kGenerationWord.size(), line.data() + line.size(),
                  owner.generation);
  if (owner.generation < 0 || owner.generation > kGenerationMax) owner.generation = 0;
  return owner;
}

[[noreturn]] void fail_at_lock(std::string_view doing, const fs::path& path) {
  const int number = errno;
  throw FileError(text(doing, " ", path.string(), ": ", std::strerror(number)), number);
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) {
  const fs::path path = folder / "LOCK";
  file_ =
      open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, "cannot write into the folder: cannot open");
  const bool is_taken = flock(file_.descriptor(), LOCK_EX | LOCK_NB) != 0;
  if (is_taken && errno != EWOULDBLOCK) fail_at_lock("cannot lock", path);
  const Owner before = owner_in(path);
  if (is_taken) {
    throw Error(text(folder.string(), " is in use by another run (",
                     before.name.empty() ? "unknown holder" : before.name,
                     "); wait until it ends or choose another folder"));
  }
  generation_ = before.generation + 1;
  const std::string contents =
      text("host ", host_name(), ", process ", getpid(), '\n', kGenerationWord, generation_, '\n');
  // First written, then cut: whoever reads it meanwhile finds a generation.
  posix_file_system().write(file_, 0, std::as_bytes(std::span(contents)));
  if (ftruncate(file_.descriptor(), std::ssize(contents)) != 0) fail_at_lock("cannot write", path);
}

void check_claim(const Claim& claim) {
  if (claim.generation == 0) return;
  const Owner owner = owner_in(claim.folder / "LOCK");
  if (owner.generation == 0 || owner.generation == claim.generation) return;
  throw SupersededError(text(claim.folder.string(), " belongs to a job that began later (",
                             owner.name, "): this one ends and writes nothing more there"));
}

}  // namespace weir
