#pragma once

#include <string>

#include "common/base/index.hpp"

namespace weir {

/// Numbers as people read them.

std::string fixed(double value, int digits);  ///< 1.482; nan and inf as such
std::string percent(double share);            ///< 0.614 is `61 %`, less than 1 % `0.4 %`
std::string grouped(index_t value);           ///< 1,234,567
std::string short_count(double value);        ///< 41.2k, 3.40M; four characters of digits at most
std::string power_text(double power_of_two);  ///< 2^16
std::string with_prefix(double value, const char* unit);  ///< 3.40 GFLOP/s
std::string bytes_text(index_t bytes);                    ///< 640 B, 1.50 KiB, 11.8 MiB, 2.25 GiB
std::string clock_text(double seconds);                   ///< 00:01:12
std::string seconds_text(double seconds);                 ///< 0.31 s, 12.4 s, 00:01:12
std::string or_unknown(double value, std::string words);  ///< `n/a` if value is NaN, else words

}  // namespace weir
