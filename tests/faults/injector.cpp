// Loaded before libc (LD_PRELOAD): counts the calls that change files below a folder, and makes one
// of them go wrong. HDF5's calls go through it as well as ours. injection.hpp says how it is used.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>

namespace {

enum class Kind { none, kill, error, short_write, hang, slow, skip };

/// How saves are made; all but `sound` are wrong.
enum class Protocol { sound, no_rename, no_manifest, in_place, old_first, no_removal };

struct Plan {
  bool is_on = false;
  char below[PATH_MAX] = {};
  char log[PATH_MAX] = {};
  long at = 0;                     ///< the call, counted from 1; 0: none
  const char* armed_by = nullptr;  ///< or the first one that finds this file, and takes it away
  bool stays = false;              ///< all later ones, too
  Kind kind = Kind::none;
  int error = 0;
  const char* only = nullptr;  ///< this function alone counts
  const char* name = nullptr;  ///< `at` counts the calls of this function whose path begins so
  const char* path = nullptr;
  Protocol protocol = Protocol::sound;
};

constexpr useconds_t kSlowMicroseconds = 300'000;

Plan plan;
std::atomic<long> calls{0};

template <class Function>
Function real(Function, const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}
#define REAL(name) real(&::name, #name)

__attribute__((constructor)) void read_plan() {
  const char* const below = getenv("FAULT_BELOW");
  if (below == nullptr) return;
  const char* const of_launcher = getenv("OMPI_COMM_WORLD_RANK");
  const char* const own = of_launcher == nullptr ? "0" : of_launcher;
  snprintf(plan.below, sizeof plan.below, "%s", below);
  if (const char* const log = getenv("FAULT_LOG")) {
    snprintf(plan.log, sizeof plan.log, "%s.%s", log, own);
  }
  plan.only = getenv("FAULT_ONLY");
  plan.name = getenv("FAULT_NAME");
  plan.path = getenv("FAULT_PATH");
  const char* const rank = getenv("FAULT_RANK");
  if (rank == nullptr || strcmp(rank, own) == 0) {
    if (const char* const at = getenv("FAULT_AT")) plan.at = atol(at);
    plan.armed_by = getenv("FAULT_WHEN");
  }
  plan.stays = getenv("FAULT_STAYS") != nullptr;
  if (const char* const kind = getenv("FAULT_KIND")) {
    const struct {
      const char* name;
      Kind kind;
      int error;
    } kinds[] = {{"kill", Kind::kill, 0},         {"EIO", Kind::error, EIO},
                 {"ENOSPC", Kind::error, ENOSPC}, {"EINTR", Kind::error, EINTR},
                 {"short", Kind::short_write, 0}, {"hang", Kind::hang, 0},
                 {"slow", Kind::slow, 0},         {"skip", Kind::skip, 0}};
    for (const auto& each : kinds) {
      if (strcmp(each.name, kind) == 0) plan.kind = each.kind, plan.error = each.error;
    }
  }
  if (const char* const protocol = getenv("FAULT_PROTOCOL")) {
    const struct {
      const char* name;
      Protocol protocol;
    } protocols[] = {{"no-rename", Protocol::no_rename},
                     {"no-manifest", Protocol::no_manifest},
                     {"in-place", Protocol::in_place},
                     {"old-first", Protocol::old_first},
                     {"no-removal", Protocol::no_removal}};
    for (const auto& each : protocols) {
      if (strcmp(each.name, protocol) == 0) plan.protocol = each.protocol;
    }
  }
  plan.is_on = true;
}

bool is_below(const char* path) {
  const size_t length = strlen(plan.below);
  return strncmp(path, plan.below, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

void path_of(int descriptor, char* path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = '\0';
}

/// Whether it is a call that `at` counts. A path that ends with - is the begin of one: a temporary
/// name has random digits.
bool is_counted(const char* function, const char* path) {
  if (strcmp(plan.name, function) != 0) return false;
  const size_t length = strlen(plan.path);
  if (length > 0 && plan.path[length - 1] == '-') return strncmp(path, plan.path, length) == 0;
  return strcmp(path, plan.path) == 0;
}

bool is_planned(const char* function, const char* path, long call) {
  static std::atomic<long> counted{0};
  static std::atomic<bool> is_struck{false};
  if (plan.armed_by != nullptr) return REAL(unlink)(plan.armed_by) == 0;
  if (plan.at == 0) return false;
  if (plan.stays && is_struck) return true;
  if (plan.name != nullptr) {
    if (!is_counted(function, path)) return false;
    call = ++counted;
  }
  if (call != plan.at) return false;
  is_struck = true;
  return true;
}

/// The fault that is made instead of this call, if any.
Kind fault_at(const char* function, const char* path) {
  if (!plan.is_on || !is_below(path)) return Kind::none;
  if (plan.only != nullptr && strcmp(plan.only, function) != 0) return Kind::none;
  const long call = ++calls;
  const char* const its = path + strlen(plan.below);
  const bool planned = is_planned(function, its, call);
  if (plan.log[0] != '\0') {
    char line[PATH_MAX + 64];
    const int length = snprintf(line, sizeof line, "%ld %s %s %s\n", call,
                                planned ? "struck" : "made", function, its);
    const int log = REAL(open)(plan.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (REAL(write)(log, line, static_cast<size_t>(length)) < 0) abort();
    REAL(close)(log);
  }
  if (!planned) return Kind::none;
  if (plan.kind == Kind::kill) kill(getpid(), SIGKILL);
  while (plan.kind == Kind::hang) pause();
  if (plan.kind == Kind::slow) usleep(kSlowMicroseconds);
  if (plan.kind == Kind::error) errno = plan.error;
  return plan.kind;
}

Kind fault_at(const char* function, int descriptor) {
  if (!plan.is_on) return Kind::none;
  char path[PATH_MAX];
  path_of(descriptor, path);
  return fault_at(function, path);
}

/// The absolute path of a name that may be relative to a folder's descriptor.
void path_at(int folder, const char* name, char* path) {
  path[0] = '\0';
  if (name[0] != '/') {
    if (folder == AT_FDCWD) {
      if (getcwd(path, PATH_MAX) == nullptr) path[0] = '\0';
    } else {
      path_of(folder, path);
    }
    strncat(path, "/", PATH_MAX - strlen(path) - 1);
  }
  strncat(path, name, PATH_MAX - strlen(path) - 1);
}

Kind fault_at(const char* function, int folder, const char* name) {
  if (!plan.is_on) return Kind::none;
  char path[PATH_MAX];
  path_at(folder, name, path);
  return fault_at(function, path);
}

bool is_save(const char* path) { return strstr(path, "/.tmp-step-") != nullptr; }

int remove_entry(const char* path, const struct stat*, int, FTW*) { return REAL(remove)(path); }

/// Removes the checkpoints beside the folder of a save.
void remove_old(const char* save) {
  char beside[PATH_MAX];
  snprintf(beside, sizeof beside, "%s", save);
  *(strstr(beside, "/.tmp-step-") + 1) = '\0';
  DIR* const folder = opendir(beside);
  if (folder == nullptr) return;
  while (const dirent* const entry = readdir(folder)) {
    if (strncmp(entry->d_name, "step-", 5) != 0) continue;
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s%s", beside, entry->d_name);
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
  }
  closedir(folder);
}

/// Makes the folder of a save under the name that it should get at the end, and links the right
/// name to it.
int make_final_folder(const char* save, mode_t mode) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s", save);
  char* const name = strstr(path, "/.tmp-step-") + 1;
  memmove(name, name + strlen(".tmp-"), strlen(name + strlen(".tmp-")) + 1);
  if (REAL(mkdir)(path, mode) != 0 && errno != EEXIST) return -1;
  return symlink(path, save);
}

/// Whether a broken protocol leaves this rename out.
bool is_left_out(const char* from) {
  if (!plan.is_on || !is_save(from)) return false;
  const bool is_manifest = strstr(from, "/MANIFEST.tmp") != nullptr;
  switch (plan.protocol) {
    case Protocol::no_manifest:
      return is_manifest;
    case Protocol::no_rename:
    case Protocol::in_place:
      return !is_manifest;
    case Protocol::sound:
    case Protocol::old_first:
    case Protocol::no_removal:
      return false;
  }
  return false;
}

bool is_never_removed() { return plan.is_on && plan.protocol == Protocol::no_removal; }

size_t shortened(size_t size) { return size > 1 ? size / 2 : size; }

}  // namespace

// A call that is left out says that it succeeded: a protocol without it.
#define FAIL_OR_GO_ON(kind)              \
  do {                                   \
    const Kind fault = (kind);           \
    if (fault == Kind::error) return -1; \
    if (fault == Kind::skip) return 0;   \
  } while (false)

extern "C" {

int open(const char* name, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = va_arg(more, mode_t);
  va_end(more);
  if ((flags & (O_CREAT | O_TRUNC)) != 0 && fault_at("open", AT_FDCWD, name) == Kind::error) {
    return -1;
  }
  return REAL(open)(name, flags, mode);
}

int open64(const char* name, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = va_arg(more, mode_t);
  va_end(more);
  return open(name, flags, mode);
}

int openat(int folder, const char* name, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = va_arg(more, mode_t);
  va_end(more);
  if ((flags & (O_CREAT | O_TRUNC)) != 0 && fault_at("open", folder, name) == Kind::error) {
    return -1;
  }
  return REAL(openat)(folder, name, flags, mode);
}

ssize_t write(int file, const void* bytes, size_t size) {
  const Kind fault = fault_at("write", file);
  if (fault == Kind::error) return -1;
  if (fault == Kind::skip) return static_cast<ssize_t>(size);
  return REAL(write)(file, bytes, fault == Kind::short_write ? shortened(size) : size);
}

ssize_t writev(int file, const iovec* parts, int count) {
  const Kind fault = fault_at("write", file);
  if (fault == Kind::error) return -1;
  if (fault == Kind::short_write && parts[0].iov_len > 0) {
    return REAL(write)(file, parts[0].iov_base, shortened(parts[0].iov_len));
  }
  return REAL(writev)(file, parts, count);
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  const Kind fault = fault_at("pwrite", file);
  if (fault == Kind::error) return -1;
  if (fault == Kind::skip) return static_cast<ssize_t>(size);
  return REAL(pwrite)(file, bytes, fault == Kind::short_write ? shortened(size) : size, offset);
}
ssize_t pwrite64(int file, const void* bytes, size_t size, off_t offset) {
  return pwrite(file, bytes, size, offset);
}

int ftruncate(int file, off_t size) noexcept {
  FAIL_OR_GO_ON(fault_at("ftruncate", file));
  return REAL(ftruncate)(file, size);
}
int ftruncate64(int file, off_t size) noexcept { return ftruncate(file, size); }

int posix_fallocate(int file, off_t offset, off_t size) {
  if (fault_at("posix_fallocate", file) == Kind::error) return errno;
  return REAL(posix_fallocate)(file, offset, size);
}
int posix_fallocate64(int file, off_t offset, off_t size) {
  return posix_fallocate(file, offset, size);
}

int fsync(int file) {
  FAIL_OR_GO_ON(fault_at("fsync", file));
  return REAL(fsync)(file);
}
int fdatasync(int file) {
  FAIL_OR_GO_ON(fault_at("fsync", file));
  return REAL(fdatasync)(file);
}

int close(int file) {
  if ((fcntl(file, F_GETFL) & O_ACCMODE) == O_RDONLY) return REAL(close)(file);
  const Kind fault = fault_at("close", file);
  const int result = REAL(close)(file);  // Linux closes it whatever it says
  if (fault != Kind::error) return result;
  errno = plan.error;
  return -1;
}

int rename(const char* from, const char* to) noexcept {
  FAIL_OR_GO_ON(fault_at("rename", AT_FDCWD, from));
  if (is_left_out(from)) return 0;
  return REAL(rename)(from, to);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  FAIL_OR_GO_ON(fault_at("rename", from_folder, from));
  if (is_left_out(from)) return 0;
  return REAL(renameat2)(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) noexcept {
  FAIL_OR_GO_ON(fault_at("mkdir", AT_FDCWD, path));
  if (plan.is_on && is_save(path)) {
    if (plan.protocol == Protocol::old_first) remove_old(path);
    if (plan.protocol == Protocol::in_place) return make_final_folder(path, mode);
  }
  return REAL(mkdir)(path, mode);
}
int rmdir(const char* path) noexcept {
  FAIL_OR_GO_ON(fault_at("rmdir", AT_FDCWD, path));
  if (is_never_removed()) return 0;
  return REAL(rmdir)(path);
}
int unlink(const char* path) noexcept {
  FAIL_OR_GO_ON(fault_at("unlink", AT_FDCWD, path));
  if (is_never_removed()) return 0;
  return REAL(unlink)(path);
}
int remove(const char* path) noexcept {
  FAIL_OR_GO_ON(fault_at("unlink", AT_FDCWD, path));
  if (is_never_removed()) return 0;
  return REAL(remove)(path);
}
int unlinkat(int folder, const char* name, int flags) noexcept {
  FAIL_OR_GO_ON(fault_at("unlink", folder, name));
  if (is_never_removed()) return 0;
  return REAL(unlinkat)(folder, name, flags);
}

}  // extern "C"
