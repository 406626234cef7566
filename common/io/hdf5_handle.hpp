#pragma once

#include <hdf5.h>

#include <string_view>

#include "common/base/handle.hpp"
#include "common/io/file.hpp"

/// HDF5's identifiers with an owner each, and its errors as ours: for hdf5.cpp, and for the tests,
/// which read what it writes.
namespace weir::hdf5 {

template <herr_t (*Close)(hid_t)>
struct Closing {
  using Raw = hid_t;
  static Raw none() { return H5I_INVALID_HID; }
  static void release(Raw raw) { Close(raw); }
};

template <herr_t (*Close)(hid_t)>
class Owned : public Handle<Closing<Close>> {
 public:
  using Handle<Closing<Close>>::Handle;
  operator hid_t() const { return this->get(); }  // NOLINT: it is used as what it owns
};
using OpenFile = Owned<H5Fclose>;
using Dataset = Owned<H5Dclose>;
using Group = Owned<H5Gclose>;
using OpenAttribute = Owned<H5Aclose>;
using Space = Owned<H5Sclose>;
using Type = Owned<H5Tclose>;
using Properties = Owned<H5Pclose>;

/// To be called before anything else of HDF5, each time.
void start_hdf5();

/// How weir opens files.
Properties file_access();

/// Throws Error with what HDF5 says last, which is where it found the error. HDF5 reports a failed
/// system call with time, file and address on two lines; the Error then has only the reason.
[[noreturn]] void fail(std::string_view doing, const fs::path& file);

/// `result`, if the call that gave it did not fail.
template <class Result>
Result checked(Result result, std::string_view doing, const fs::path& file) {
  if (result < 0) fail(doing, file);
  return result;
}

}  // namespace weir::hdf5
