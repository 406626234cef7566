#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/run/metrics.hpp"

namespace weir {

/// Names and values of a table.
using Rows = std::vector<std::pair<std::string, std::string>>;

/// Losses, speed, where the time went, servers and memory, without the steps. Names of parts of the
/// row above begin with two blanks. What is unknown is left out or says n/a.
Rows summary_rows(const SummaryMetrics& metrics);

/// What a finished job prints: its steps and summary_rows.
std::string summary_table(const SummaryMetrics& metrics);

/// Share of their time that servers waited; unknown if either time is.
double waited_share(const ServerLoad& servers);

}  // namespace weir
