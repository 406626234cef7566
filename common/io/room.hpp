#pragma once

#include <optional>
#include <string>

#include "common/io/file.hpp"

namespace weir {

/// What may still be written into a folder, in bytes; none: no limit, or the system does not say.
struct Room {
  std::optional<index_t> free;      ///< on its file system, for this user
  std::optional<index_t> file_max;  ///< largest size of one file (ulimit -f)
};

/// What may be written into the folder or, if it does not exist yet, into the nearest folder above
/// it. Quotas are not seen.
Room room_at(const fs::path& folder);

/// `FOLDER has 3 MiB free (of one file at most 1 MiB: ulimit -f)`.
std::string room_text(const fs::path& folder);

/// The bytes in whole MiB, rounded up.
std::string mebibytes(index_t bytes);

}  // namespace weir
