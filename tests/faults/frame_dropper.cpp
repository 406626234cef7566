// Loaded before MPI (LD_PRELOAD): loses one message that a rank sends. DROP_RANK says which rank;
// it is the next message after the file DROP_WHEN has appeared, and the file is taken away then.
#include <dlfcn.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <map>

namespace {

const char* armed_by = nullptr;

/// How a persistent send began.
struct Send {
  MPI_Datatype type;
  int tag;
  MPI_Comm comm;
};
std::map<MPI_Request, Send> sends;

template <class Function>
Function real(Function, const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}
#define REAL(name) real(&::name, #name)

__attribute__((constructor)) void read_plan() {
  const char* const rank = getenv("DROP_RANK");
  const char* const own = getenv("OMPI_COMM_WORLD_RANK");
  if (rank != nullptr && own != nullptr && strcmp(rank, own) == 0) armed_by = getenv("DROP_WHEN");
}

bool is_dropped() { return armed_by != nullptr && unlink(armed_by) == 0; }

}  // namespace

extern "C" {

int MPI_Isend(const void* bytes, int count, MPI_Datatype type, int peer, int tag, MPI_Comm comm,
              MPI_Request* request) {
  return REAL(MPI_Isend)(bytes, count, type, is_dropped() ? MPI_PROC_NULL : peer, tag, comm,
                         request);
}

int MPI_Send_init(const void* bytes, int count, MPI_Datatype type, int peer, int tag, MPI_Comm comm,
                  MPI_Request* request) {
  const int code = REAL(MPI_Send_init)(bytes, count, type, peer, tag, comm, request);
  sends[*request] = {type, tag, comm};
  return code;
}

int MPI_Start(MPI_Request* request) {
  const auto send = sends.find(*request);
  if (send != sends.end() && is_dropped()) {  // another one is started, which leads nowhere
    const Send& like = send->second;
    REAL(MPI_Send_init)(nullptr, 0, like.type, MPI_PROC_NULL, like.tag, like.comm, request);
  }
  return REAL(MPI_Start)(request);
}

}  // extern "C"
