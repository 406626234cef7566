#include "common/io/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/io/digest.hpp"

namespace weir {
namespace {

/// A name beside `path` that nobody else has, so that two writers do not touch each other's file.
fs::path temporary_beside(const fs::path& path) {
  std::random_device random;
  constexpr std::size_t kNameMax = 200;  // bytes; most file systems allow 255
  return path.parent_path() / text(".tmp-", path.filename().string().substr(0, kNameMax), '-',
                                   hexadecimal(std::uint32_t{random()}),
                                   hexadecimal(std::uint32_t{random()}));
}

/// Removes what a failed write left. If that fails as well, the first error is what counts.
void remove_quietly(FileSystem& files, const fs::path& path) {
  try {
    files.remove_all(path);
  } catch (const Error&) {
  }
}

class PosixFileSystem final : public FileSystem {
 public:
  File create(const fs::path& path) override {
    return open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, "cannot create");
  }

  File open_for_writing(const fs::path& path) override {
    return open_file(path, O_RDWR | O_NOFOLLOW, "cannot open for writing");
  }

  void preallocate(const File& file, index_t bytes) override {
    const FileWork work("making room for a file");
    const auto reserve = [&] {  // returns the reason, leaves errno alone
      errno = posix_fallocate(file.descriptor(), 0, bytes);
      return errno == 0 ? 0 : -1;
    };
    if (uninterrupted(reserve) != 0)
      throw_file_error(text("cannot make room for ", bytes, " bytes in"), file.path());
    if (uninterrupted([&] { return ftruncate(file.descriptor(), bytes); }) != 0) {
      throw_file_error("cannot set the size of", file.path());
    }
  }

  void write(const File& file, index_t offset, std::span<const std::byte> bytes) override {
    const FileWork work("a write");
    while (!bytes.empty()) {
      const ssize_t written = uninterrupted(
          [&] { return pwrite(file.descriptor(), bytes.data(), bytes.size(), offset); });
      if (written < 0) throw_file_error("cannot write", file.path());
      bytes = bytes.subspan(written);
      offset += written;
    }
  }

  void sync(const File& file) override {
    const FileWork work("an fsync");
    if (uninterrupted([&] { return fsync(file.descriptor()); }) != 0)
      throw_file_error("cannot bring to the disk", file.path());
  }

  void close(File file) override {
    // Not again after EINTR: Linux has closed it then, and the number may be another file's.
    if (::close(file.release()) != 0 && errno != EINTR)
      throw_file_error("cannot close", file.path());
  }

  void make_folder(const fs::path& path) override {
    if (mkdir(path.c_str(), 0777) != 0) throw_file_error("cannot make the folder", path);
  }

  void sync_folder(const fs::path& path) override {
    const FileWork work("an fsync of a folder");
    const File folder = open_file(path, O_RDONLY | O_DIRECTORY, "cannot open the folder");
    if (uninterrupted([&] { return fsync(folder.descriptor()); }) == 0) return;
    if (errno == EINVAL) return;  // not every system can
    throw_file_error("cannot bring to the disk", path);
  }

  void rename(const fs::path& from, const fs::path& to) override {
    if (std::rename(from.c_str(), to.c_str()) != 0) {
      throw_file_error(text("cannot rename ", from.string(), " to"), to);
    }
  }

  bool exchange(const fs::path& left, const fs::path& right) override {
    if (renameat2(AT_FDCWD, left.c_str(), AT_FDCWD, right.c_str(), RENAME_EXCHANGE) == 0)
      return true;
    if (errno == EINVAL || errno == ENOSYS) return false;
    throw_file_error(text("cannot exchange ", left.string(), " and"), right);
  }

  void remove_all(const fs::path& path) override {
    std::error_code error;
    fs::remove_all(path, error);
    if (!error) return;
    throw FileError(text("cannot remove ", path.string(), ": ", error.message()), error.value());
  }
};

}  // namespace

void throw_file_error(std::string_view doing, const fs::path& path) {
  const int number = errno;
  throw FileError(text(doing, " ", path.string(), ": ", std::strerror(number)), number);
}

File open_file(const fs::path& path, int flags, std::string_view doing) {
  const int descriptor =
      uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
  if (descriptor < 0 && errno == ELOOP && fs::is_symlink(path)) {
    throw Error(text(doing, " ", path.string(), ": it is a link, which weir does not follow here"));
  }
  if (descriptor < 0) throw_file_error(doing, path);
  return {descriptor, path};
}

bool FileError::is_full() const {
  return number_ == ENOSPC || number_ == EDQUOT || number_ == EFBIG;
}

bool FileError::is_missing() const {
  return number_ == ENOENT || number_ == ENOTDIR || number_ == EISDIR;
}

bool path_exists(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) throw_file_error("cannot look at", path);
  return false;
}

void keep_new_files_private() { umask(077); }

void make_folders(FileSystem& files, const fs::path& path) {
  const fs::path whole = fs::absolute(path);
  const auto make = [&](const fs::path& folder) {
    if (path_exists(folder)) return false;
    try {
      files.make_folder(folder);
    } catch (const FileError& error) {
      if (error.number() != EEXIST) throw;  // EEXIST: another process was faster
    }
    return true;
  };
  const auto sync = [&](const fs::path& folder) {
    try {
      files.sync_folder(folder);
    } catch (const FileError& error) {
      // A folder that may be searched but not read cannot be opened, so not brought to the disk.
      if (error.number() != EACCES) throw;
    }
  };
  std::vector<fs::path> all;
  for (fs::path folder = whole; folder.has_relative_path(); folder = folder.parent_path()) {
    if (folder.has_filename()) all.insert(all.begin(), folder);
  }
  for (std::size_t at = 0; at < all.size(); ++at) {
    const bool is_new = make(all[at]);
    if (is_new || at + 2 >= all.size()) sync(all[at].parent_path());
  }
}

File::File(File&& other) noexcept : descriptor_(other.release()), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::string name_of(fs::file_type type) {
  switch (type) {
    case fs::file_type::regular:
      return "a file";
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::symlink:
      return "a link";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::character:
    case fs::file_type::block:
      return "a device";
    case fs::file_type::socket:
      return "a socket";
    default:  // the list is not closed: the library may add kinds
      return "no regular file";
  }
}

/// What stands at `path`. Throws FileError if the system does not tell.
static fs::file_type type_at(const fs::path& path) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (type != fs::file_type::none) return type;
  throw FileError(text("cannot look at ", path.string(), ": ", error.message()), error.value());
}

bool is_folder(const fs::path& path) { return type_at(path) == fs::file_type::directory; }

File File::open(const fs::path& path) {
  // O_NONBLOCK: opening a pipe without a writer would wait for ever.
  File file = open_file(path, O_RDONLY | O_NONBLOCK, "cannot open");
  struct stat status {};
  if (fstat(file.descriptor(), &status) != 0) throw_file_error("cannot open", path);
  if (!S_ISREG(status.st_mode)) {
    std::error_code ignored;
    throw Error(text("cannot open ", path.string(), ": it is ",
                     name_of(fs::status(path, ignored).type()), ", not a regular file"));
  }
  return file;
}

index_t File::size() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) throw_file_error("cannot find the size of", path_);
  return status.st_size;
}

void File::read(index_t offset, std::span<std::byte> out) const {
  const FileWork work("a read");
  while (!out.empty()) {
    const ssize_t got =
        uninterrupted([&] { return pread(descriptor_, out.data(), out.size(), offset); });
    if (got < 0) throw_file_error("cannot read", path_);
    if (got == 0) {
      throw Error(text("cannot read ", path_.string(), ": it ends at byte ", offset, ", ",
                       out.size(), " bytes before what is needed"));
    }
    out = out.subspan(got);
    offset += got;
  }
}

FileSystem& posix_file_system() {
  static PosixFileSystem file_system;  // has no state
  return file_system;
}

std::string read_whole(const fs::path& path, index_t bytes_max) {
  const File file = File::open(path);
  const index_t size = file.size();
  if (size > bytes_max) {
    throw Error(
        text("cannot read ", path.string(), ": it has ", size, " bytes, more than ", bytes_max));
  }
  std::string bytes(size, '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

template <class Work>
void FreshFile::attempt(const Work& work) const {
  try {
    work();
  } catch (const Error& error) {
    throw Error(text("cannot write ", path_.string(), ": ", error.what()));
  }
}

FreshFile::FreshFile(fs::path path, FileSystem& files)
    : path_(std::move(path)), files_(files), fresh_(temporary_beside(path_)) {
  attempt([&] { file_ = files_.create(fresh_); });
}

FreshFile::~FreshFile() {
  if (!committed_) remove_quietly(files_, fresh_);
}

void FreshFile::write(std::string_view contents) {
  attempt([&] { files_.write(file_, size_, std::as_bytes(std::span(contents))); });
  size_ += std::ssize(contents);
}

void FreshFile::commit(bool durable) {
  attempt([&] {
    if (durable) files_.sync(file_);
    files_.close(std::move(file_));
    files_.rename(fresh_, path_);
    committed_ = true;
  });
  if (durable) files_.sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
}

void replace_file(const fs::path& path, std::string_view contents, FileSystem& files) {
  FreshFile file(path, files);
  file.write(contents);
  file.commit();
}

void show_file(const fs::path& path, std::string_view contents) {
  FreshFile file(path);
  file.write(contents);
  file.commit(false);
}

/// Where the links at `path` lead, as far as they can be followed by name: a link in /proc leads to
/// an open file, whatever its name says.
static fs::path target_of(fs::path path) {
  constexpr int kLinksMax = 40;  // as Linux
  for (int links = 0; links < kLinksMax; ++links) {
    std::error_code error;
    const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
    const fs::path next = fs::read_symlink(path, error);
    if (error || fs::canonical(folder, error).string().starts_with("/proc/")) return path;
    path = next.is_absolute() ? next : folder / next;
  }
  return path;
}

/// Opens a pipe for writing. A plain open would wait for ever if it has no reader.
static File open_pipe(const fs::path& path) {
  constexpr double kSeconds = 10;
  const double begin = seconds_now();
  while (true) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor >= 0) {
      fcntl(descriptor, F_SETFL, O_WRONLY);  // from here on a full pipe is waited for
      return {descriptor, path};
    }
    if (errno != ENXIO && errno != EINTR) throw_file_error("cannot write", path);
    if (seconds_now() - begin > kSeconds) {
      throw Error(
          text("cannot write ", path.string(), ": nobody has read this pipe for ", kSeconds, " s"));
    }
    sleep_microseconds(20'000);
  }
}

bool write_output(const fs::path& path, std::string_view contents) {
  const fs::file_type type = type_at(path);  // of what links lead to
  if (type == fs::file_type::directory) {
    throw Error(text("cannot write ", path.string(), ": it is a folder"));
  }
  const fs::path target = target_of(path);
  std::error_code ignored;
  const bool is_file = (type == fs::file_type::regular || type == fs::file_type::not_found) &&
                       !fs::is_symlink(target, ignored);
  if (is_file) {
    replace_file(target, contents);
    return true;
  }
  // A regular file here is one that is open under a link in /proc.
  const int truncates = type == fs::file_type::regular ? O_TRUNC : 0;
  const int flags = O_WRONLY | O_NOCTTY | truncates;
  File file =
      type == fs::file_type::fifo ? open_pipe(path) : open_file(path, flags, "cannot write");
  while (!contents.empty()) {
    const ssize_t written =
        uninterrupted([&] { return ::write(file.descriptor(), contents.data(), contents.size()); });
    if (written < 0) throw_file_error("cannot write", path);
    contents.remove_prefix(written);
  }
  posix_file_system().close(std::move(file));
  return false;
}

File open_for_appending(const fs::path& path) {
  // O_NONBLOCK: opening a pipe without a reader would wait for ever.
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
  File file = open_file(path, kFlags, "cannot open for writing");
  struct stat status {};
  if (fstat(file.descriptor(), &status) != 0) throw_file_error("cannot open for writing", path);
  if (!S_ISREG(status.st_mode)) {
    std::error_code ignored;
    throw Error(text("cannot open for writing ", path.string(), ": it is ",
                     name_of(fs::status(path, ignored).type()), ", not a regular file"));
  }
  return file;
}

}  // namespace weir
