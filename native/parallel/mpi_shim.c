/* The functions of mpi_shim.h, against MPI 3. */
#include "mpi_shim.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  MPI_Comm comm;
} group_of_ranks;

static void copy_text(char *to, size_t bytes, const char *from) {
  if (bytes == 0) return;
  strncpy(to, from, bytes - 1);
  to[bytes - 1] = 0;
}

static int init(int *serialized) {
  int started = 0, level = MPI_THREAD_SINGLE;
  int error = MPI_Initialized(&started);
  if (error == MPI_SUCCESS)
    error = started ? MPI_Query_thread(&level)
                    : MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
  *serialized = level >= MPI_THREAD_SERIALIZED;
  if (error != MPI_SUCCESS) return error;
  /* A communicator inherits its parent's handler; the default one ends the process. */
  return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

static int finalize(void) {
  int ended = 0;
  const int error = MPI_Finalized(&ended);
  return error != MPI_SUCCESS || ended ? error : MPI_Finalize();
}

static void library(char *text, size_t bytes) {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(version, &length);
  version[strcspn(version, "\n,")] = 0;
  copy_text(text, bytes, version);
}

static void error_text(int error, char *text, size_t bytes) {
  char words[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(error, words, &length) != MPI_SUCCESS) words[0] = 0;
  copy_text(text, bytes, words);
}

static int take_request(int error, MPI_Request *request, void **taken) {
  *taken = request;
  if (error == MPI_SUCCESS) return error;
  free(request);
  *taken = NULL;
  return error;
}

static int open_group(void **group, int *rank, int *size, void **request) {
  MPI_Request *dup = malloc(sizeof *dup);
  group_of_ranks *opened = malloc(sizeof *opened);
  int error = dup == NULL || opened == NULL ? MPI_ERR_NO_MEM : MPI_SUCCESS;
  if (error == MPI_SUCCESS) error = MPI_Comm_rank(MPI_COMM_WORLD, rank);
  if (error == MPI_SUCCESS) error = MPI_Comm_size(MPI_COMM_WORLD, size);
  if (error == MPI_SUCCESS) error = MPI_Comm_idup(MPI_COMM_WORLD, &opened->comm, dup);
  *group = opened;
  if (error == MPI_SUCCESS) return take_request(error, dup, request);
  free(dup);
  free(opened);
  return error;
}

static int close_group(void *group) {
  group_of_ranks *closed = group;
  const int error = MPI_Comm_free(&closed->comm);
  free(closed);
  return error;
}

static int send_bytes(void *group, int to, int tag, const void *data, int64_t bytes,
                      void **request) {
  MPI_Request *sent = malloc(sizeof *sent);
  if (sent == NULL) return MPI_ERR_NO_MEM;
  return take_request(bytes > INT_MAX ? MPI_ERR_COUNT
                                      : MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag,
                                                  ((group_of_ranks *)group)->comm, sent),
                      sent, request);
}

static int probe(void *group, int tag, int *found, int *from, int64_t *bytes, void **message) {
  MPI_Message matched;
  MPI_Status status;
  int count = 0;
  int error = MPI_Improbe(MPI_ANY_SOURCE, tag, ((group_of_ranks *)group)->comm, found, &matched,
                          &status);
  if (error != MPI_SUCCESS || !*found) return error;
  error = MPI_Get_count(&status, MPI_BYTE, &count);
  if (error != MPI_SUCCESS) return error;
  MPI_Message *kept = malloc(sizeof *kept);
  if (kept == NULL) return MPI_ERR_NO_MEM;
  *kept = matched;
  *message = kept;
  *from = status.MPI_SOURCE;
  *bytes = count;
  return MPI_SUCCESS;
}

static int receive(void **message, void *data, int64_t bytes, void **request) {
  MPI_Request *received = malloc(sizeof *received);
  if (received == NULL) return MPI_ERR_NO_MEM;
  const int error = MPI_Imrecv(data, (int)bytes, MPI_BYTE, *message, received);
  free(*message);
  *message = NULL;
  return take_request(error, received, request);
}

static int test(void **request, int *done) {
  const int error = MPI_Test(*request, done, MPI_STATUS_IGNORE);
  if (error == MPI_SUCCESS && !*done) return error;
  free(*request);
  *request = NULL;
  return error;
}

const moepp_mpi *moepp_mpi_functions(void) {
  static const moepp_mpi functions = {MOEPP_MPI_ABI, init,        finalize,   library,
                                      error_text,    open_group,  close_group, send_bytes,
                                      probe,         receive,     test};
  return &functions;
}
