#include "common/io/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <span>
#include <string_view>

#include "common/base/machine.hpp"
#include "common/io/digest.hpp"

namespace weir {
namespace {

constexpr std::string_view kFirstWord = "host ";
constexpr std::string_view kGenerationWord = "generation ";
constexpr index_t kLockBytesMax = 4096;

std::string first_line_of(const std::string& contents) {
  return contents.substr(0, contents.find('\n'));
}

std::string drawn_generation() {
  std::random_device random;
  return hexadecimal(std::uint32_t{random()}) + hexadecimal(std::uint32_t{random()});
}

std::string line_of(const std::string& generation) {
  return text('\n', kGenerationWord, generation, '\n');
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder, FileSystem& files) {
  const fs::path path = folder / "LOCK";
  file_ =
      open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, "cannot write into the folder: cannot open");
  const bool is_taken = flock(file_.descriptor(), LOCK_EX | LOCK_NB) != 0;
  if (is_taken && errno != EWOULDBLOCK) throw_file_error("cannot lock", path);
  if (is_taken) {
    std::string holder = first_line_of(read_whole(path, kLockBytesMax));
    if (holder.empty()) holder = "unknown holder";
    throw Error(text(folder.string(), " is in use by another run (", holder,
                     "); wait until it ends or choose another folder"));
  }
  generation_ = drawn_generation();
  const std::string contents =
      text(kFirstWord, host_name(), ", process ", getpid(), line_of(generation_));
  files.write(file_, 0, std::as_bytes(std::span(contents)));
  const auto cut = [&] { return ftruncate(file_.descriptor(), std::ssize(contents)); };
  if (uninterrupted(cut) != 0) throw_file_error("cannot write", path);
  files.sync(file_);  // other hosts see it from now on
  files.sync_folder(folder);
}

LockState lock_state(const fs::path& folder) {
  const fs::path path = folder / "LOCK";
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) return LockState::none;
  if (!fs::is_regular_file(status) || fs::file_size(path, error) > kLockBytesMax || error) {
    return LockState::foreign;
  }
  try {
    const std::string contents = read_whole(path, kLockBytesMax);
    if (contents.starts_with(kFirstWord)) return LockState::written;
    const bool is_nothing = std::ranges::all_of(contents, [](char each) { return each == '\0'; });
    return is_nothing || kFirstWord.starts_with(contents) ? LockState::begun : LockState::foreign;
  } catch (const FileError&) {
    return LockState::foreign;
  }
}

void check_claim(const Claim& claim) {
  if (claim.generation.empty()) return;
  std::string contents;
  try {
    contents = read_whole(claim.folder / "LOCK", kLockBytesMax);
  } catch (const FileError& error) {
    if (error.is_missing()) return;
    throw;
  }
  if (contents.ends_with(line_of(claim.generation))) return;
  throw SupersededError(text(claim.folder.string(), " belongs to a job that began later (",
                             first_line_of(contents),
                             "): this one ends, and writes and removes no checkpoint there"));
}

}  // namespace weir
