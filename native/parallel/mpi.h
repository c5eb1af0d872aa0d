// Ranks as processes that mpirun started, over the MPI that the user's machine has.
#pragma once

#include "communicator.h"

namespace moepp::parallel {

// `library`: what mpi_shim.h was compiled to. Every process of the MPI job opens one; this waits
// for them, at most `deadline_ms`. MPI is started by the first call, whose thread ends it.
Status open_mpi(const std::string& library, int64_t deadline_ms,
                std::unique_ptr<Communicator>* communicator);

// At the end of the process, by the thread that opened it: ends MPI where every group was left in
// order. Else mpirun sees a process that ended without that, and ends the others.
void finalize_mpi();

}  // namespace moepp::parallel
