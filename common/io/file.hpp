#pragma once

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/index.hpp"

namespace weir {

namespace fs = std::filesystem;

/// An Error of the system: `doing PATH: reason`.
class FileError : public Error {
 public:
  FileError(const std::string& message, int number) : Error(message), number_(number) {}
  int number() const { return number_; }  ///< errno
  /// Whether nothing more can be written: the disk or the quota is full, or files may not become so
  /// large.
  bool is_full() const;
  /// Whether the file does not exist, as opposed to one that cannot be read now or by this user.
  bool is_missing() const;

 private:
  int number_;
};

/// Throws the FileError of errno.
[[noreturn]] void throw_file_error(std::string_view doing, const fs::path& path);

/// Repeats a call of the system as long as a signal interrupts it.
template <class Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// What a thing of this kind is called in an error: `a pipe`, `a device`, `a folder`.
std::string name_of(fs::file_type type);

/// Whether anything is there, or a folder; links are followed. Throws FileError if the system does
/// not tell, as where a folder above may not be searched.
bool path_exists(const fs::path& path);
bool is_folder(const fs::path& path);

/// Owns an open file. Errors of all that follows name the file and the reason of the system.
class File {
 public:
  File() = default;
  File(int descriptor, fs::path path) : descriptor_(descriptor), path_(std::move(path)) {}
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();  ///< ignores errors: where losing data matters, call FileSystem::close first

  /// Opens a file for reading. Throws Error if there is no such file, or if it is a folder, a pipe,
  /// a device or a socket: those could keep a reader waiting for ever, or never end.
  static File open(const fs::path& path);

  index_t size() const;
  /// Fills `out` from `offset` on. Throws Error if the file ends before.
  void read(index_t offset, std::span<std::byte> out) const;

  int descriptor() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }
  const fs::path& path() const { return path_; }

 private:
  int descriptor_ = -1;
  fs::path path_;
};

/// All that changes what a checkpoint's folder holds. A seam for faults: a test puts in one that
/// fails at the k-th call, fills the disk or tears a write. Everything throws Error.
class FileSystem {
 public:
  FileSystem() = default;
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;
  virtual ~FileSystem() = default;

  /// Makes a new file for writing, with the mode that the umask leaves. An Error if it exists.
  virtual File create(const fs::path& path) = 0;
  /// Opens a file that exists, for writing at any offset.
  virtual File open_for_writing(const fs::path& path) = 0;
  /// Gives the file this size and room on the disk for it, so that a full disk shows before any
  /// data are written.
  virtual void preallocate(const File& file, index_t bytes) = 0;
  /// Writes all of `bytes`, from `offset` on.
  virtual void write(const File& file, index_t offset, std::span<const std::byte> bytes) = 0;
  /// Returns when the contents are on the disk. Never call it again after an Error: the system may
  /// have dropped the data and then reports success. Write another file instead.
  virtual void sync(const File& file) = 0;
  virtual void close(File file) = 0;

  /// Makes a folder with the mode that the umask leaves. Its parent exists, it does not.
  virtual void make_folder(const fs::path& path) = 0;
  /// Makes the names in the folder, as they are now, outlive a power cut.
  virtual void sync_folder(const fs::path& path) = 0;
  /// Happens in one step: `to` is the old or the new, never half. A folder at `to` must be empty.
  virtual void rename(const fs::path& from, const fs::path& to) = 0;
  /// Swaps two paths in one step; false where the file system cannot (NFS).
  virtual bool exchange(const fs::path& left, const fs::path& right) = 0;
  virtual void remove_all(const fs::path& path) = 0;  ///< no error if there is nothing
};

/// The file system of the machine.
FileSystem& posix_file_system();

/// From now on only their owner may read the files and folders that this process makes.
void keep_new_files_private();

/// Makes the folder, and those above it, where they are missing. They outlive a power cut, and so
/// does the folder above, which an earlier process may have made and not brought to the disk.
void make_folders(FileSystem& files, const fs::path& path);

/// The bytes of a file. Throws Error if there are more than `bytes_max`: what decides how much is
/// allocated comes from outside.
std::string read_whole(const fs::path& path, index_t bytes_max);

/// A file that is written bit by bit and appears at `path` in one step, whole: it is written under
/// a name of its own beside `path`, brought to the disk and renamed by commit(). One that was not
/// committed is removed. Errors name `path`.
class FreshFile {
 public:
  /// Makes the file of its own: throws Error where nothing can be written beside `path`.
  explicit FreshFile(fs::path path, FileSystem& files = posix_file_system());
  FreshFile(const FreshFile&) = delete;
  FreshFile& operator=(const FreshFile&) = delete;
  ~FreshFile();
  void write(std::string_view contents);
  /// durable: false for what is of no use after a power cut.
  void commit(bool durable = true);

 private:
  template <class Work>
  void attempt(const Work& work) const;

  fs::path path_;
  FileSystem& files_;
  fs::path fresh_;
  File file_;
  index_t size_ = 0;
  bool committed_ = false;
};

/// Puts `contents` at `path` in one step: after a kill, a full disk or a power cut there are the
/// old contents or the new ones, whole. The new file is written under a name of its own beside
/// `path`, brought to the disk and renamed. What stood at `path` is replaced; a link is not
/// followed. The mode is what the umask leaves. Throws Error, and then `path` is as it was, unless
/// only the last step failed: bringing the folder to the disk.
void replace_file(const fs::path& path, std::string_view contents,
                  FileSystem& files = posix_file_system());

/// The same for what is of no use after a power cut: nothing is brought to the disk.
void show_file(const fs::path& path, std::string_view contents);

/// Writes `contents` where a user wants them, as any tool would. A regular or a new file is written
/// by replace_file, at the place where links lead; a device or a pipe stays what it is and gets the
/// bytes. A pipe must have a reader within 10 s. Returns whether it was a file. Throws Error.
bool write_output(const fs::path& path, std::string_view contents);

/// Opens a file with these flags of the system. Throws FileError: `doing PATH: reason`.
File open_file(const fs::path& path, int flags, std::string_view doing);

/// Opens a file, or makes one, for writing at its end. Throws Error for all that is no regular
/// file; a link is not followed.
File open_for_appending(const fs::path& path);

}  // namespace weir
