#pragma once

#include <string>
#include <vector>

namespace weir::worker {

/// The lines of a character vector in the lazy-load database of an R package, without R.
/// `stem` is the path less its endings: STEM.rdx lists the objects, STEM.rdb holds them.
/// Throws Error, naming the file, if one is unreadable or corrupt, the object is missing (lists
/// those that are there), no character vector, or packed with something other than zlib.
///
/// Format: the .rdx is a gzip'ed R serialisation of list(variables = list(NAME = c(offset, bytes),
/// ...), references, compressed); at that place of the .rdb stand four big-endian bytes with the
/// size and a zlib stream of the object, serialised in the XDR format, version 2 or 3.
/// Source: "R Internals", sections 1.8 (Serialization Formats) and 1.1 (SEXPs); R's
/// lazyload.R and src/main/serialize.c.
std::vector<std::string> r_strings(const std::string& stem, const std::string& object);

}  // namespace weir::worker
