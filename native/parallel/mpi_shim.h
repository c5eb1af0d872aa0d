/* All that moepp takes of MPI: a table of functions in plain C. mpi_shim.c implements it against
 * the MPI of the user's machine, where it is compiled:
 *
 *   mpicc -shared -fPIC -O2 -o libmoepp_mpi.so mpi_shim.c
 *
 * So moepp itself needs no MPI. A change of this file takes another MOEPP_MPI_ABI. */
#ifndef MOEPP_MPI_SHIM_H
#define MOEPP_MPI_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOEPP_MPI_ABI 1

/* Functions return 0, or an MPI error code. One thread at a time calls them; init and finalize are
 * called by the same one. */
typedef struct moepp_mpi {
  int abi; /* MOEPP_MPI_ABI */
  /* Starts MPI unless it is started. *serialized: several threads may use it, one at a time. */
  int (*init)(int* serialized);
  int (*finalize)(void);
  /* Of MPI itself, and of an error code. */
  void (*library)(char* text, size_t bytes);
  void (*error_text)(int error, char* text, size_t bytes);
  /* A communicator of all ranks with tags of its own. Every rank begins to open it; test() says
   * when it is there. */
  int (*open)(void** group, int* rank, int* size, void** request);
  int (*close)(void* group);
  /* The bytes stay where they are until test() says that the request is done. */
  int (*send)(void* group, int to, int tag, const void* data, int64_t bytes, void** request);
  /* A message from any rank, taken out of the queue; then receive() it, into so many bytes. */
  int (*probe)(void* group, int tag, int* found, int* from, int64_t* bytes, void** message);
  int (*receive)(void** message, void* data, int64_t bytes, void** request);
  /* A request that is done is gone, and null. */
  int (*test)(void** request, int* done);
} moepp_mpi;

/* The only symbol of the library. */
const moepp_mpi* moepp_mpi_functions(void);

#ifdef __cplusplus
}
#endif

#endif
