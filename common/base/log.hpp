#pragma once

#include <string>
#include <string_view>

namespace weir {

/// The log is for people: one line an event, on stderr. Each line is one write, so lines of several
/// ranks never mix. Control characters, which names of files may hold, are shown as \x1b. Any
/// thread may log. Numbers for programs go to metrics.jsonl instead.
///
///   12:34:56.789 rank 1, replica 1, stage 0, shard 0, step 812 warning: skipped: not finite
///
/// That is on a terminal; elsewhere the time has its date and zone: 2026-11-28T12:34:56.789+01:00.
/// (mpirun takes its ranks' stderr through a pipe.)
enum class LogLevel { debug, info, warning, error };

void log_debug(std::string_view line);
void log_info(std::string_view line);
void log_warning(std::string_view line);
void log_error(std::string_view line);

/// Sets the name of this process, which begins every line from now on: `rank 4, server 0`. At first
/// it is empty.
void set_log_identity(std::string_view identity);
std::string log_identity();

/// Drops lines below `level` from now on. At first the level is info.
void set_log_level(LogLevel level);

}  // namespace weir
