#include "common/io/room.hpp"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>

namespace weir {

Room room_at(const fs::path& folder) {
  Room room;
  fs::path there = fs::absolute(folder);
  struct statvfs status {};
  while (statvfs(there.c_str(), &status) != 0) {
    if (!there.has_relative_path()) return room;
    there = there.parent_path();
  }
  if (status.f_blocks > 0) {  // some network file systems say nothing
    const double free = static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize);
    room.free = static_cast<index_t>(std::min(free, 9e18));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    room.file_max = static_cast<index_t>(limit.rlim_cur);
  }
  return room;
}

std::string room_text(const fs::path& folder) {
  const Room room = room_at(folder);
  const std::string free = room.free ? text(*room.free >> 20, " MiB") : std::string("unknown room");
  return text(folder.string(), " has ", free, " free",
              room.file_max ? text(" (one file may have ", *room.file_max >> 20, " MiB: ulimit -f)")
                            : std::string());
}

std::string mebibytes(index_t bytes) {
  constexpr index_t kMebibyte = index_t{1} << 20;
  return text(bytes / kMebibyte + (bytes % kMebibyte > 0 ? 1 : 0), " MiB");
}

}  // namespace weir
