#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// The first word of weir as mpirun starts it for each rank, on every host:
///
///   weir as-rank [--live=FOLDER] PROGRAM train|eval|plan [options]
///
/// FOLDER: the job's RUN/live, where the end of a rank is noted (see note_end).
inline constexpr std::string_view kAsRank = "as-rank";

/// Runs PROGRAM with the words after it, and says how it ended if it could not do so itself: which
/// rank it was, with its role, and on which host. SIGUSR1 is held back before the rank is said to
/// begin (see kRankBegins); weir lets it through when it is ready for it. SIGTERM ends it
/// without a word. Returns the exit code, 128 + n if signal n ended the program.
int run_rank(std::vector<std::string> words);

}  // namespace weir
