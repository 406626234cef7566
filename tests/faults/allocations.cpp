#include "tests/faults/allocations.hpp"

#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#ifdef WEIR_SANITIZE
// From the sanitizers' library; GCC comes without the header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*made)(const volatile void* memory, std::size_t size),
    void (*freed)(const volatile void* memory));
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void* memory);
#endif

namespace weir::test {
namespace {

thread_local index_t live_bytes = 0;
thread_local index_t peak_bytes = 0;

void count_allocated(std::size_t size) {
  live_bytes += static_cast<index_t>(size);
  peak_bytes = std::max(peak_bytes, live_bytes);
}
void count_freed(std::size_t size) { live_bytes -= static_cast<index_t>(size); }

#ifdef WEIR_SANITIZE

const int hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t size) { count_allocated(size); },
    [](const volatile void* memory) { count_freed(__sanitizer_get_allocated_size(memory)); });

#endif

}  // namespace

AllocationPeak::AllocationPeak() { live_bytes = peak_bytes = 0; }

index_t AllocationPeak::bytes() const { return peak_bytes; }

}  // namespace weir::test

#ifndef WEIR_SANITIZE

// The program's own functions stand before those of libc, for the libraries as well.
extern "C" {

void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

static void* counted(void* memory) {
  if (memory != nullptr) weir::test::count_allocated(malloc_usable_size(memory));
  return memory;
}

void* malloc(std::size_t size) { return counted(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) { return counted(__libc_calloc(count, size)); }
void* realloc(void* memory, std::size_t size) {
  const std::size_t before = memory == nullptr ? 0 : malloc_usable_size(memory);
  void* const moved = __libc_realloc(memory, size);
  if (moved == nullptr && size > 0) return nullptr;
  weir::test::count_freed(before);
  return counted(moved);
}
void* memalign(std::size_t alignment, std::size_t size) {
  return counted(__libc_memalign(alignment, size));
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  void* const made = memalign(alignment, size);
  if (made == nullptr) return ENOMEM;
  *memory = made;
  return 0;
}
void free(void* memory) {
  if (memory == nullptr) return;
  weir::test::count_freed(malloc_usable_size(memory));
  __libc_free(memory);
}

}  // extern "C"

#endif
