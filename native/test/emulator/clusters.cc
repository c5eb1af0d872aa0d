// Clusters: blocks that begin together and reach each other's shared memory.
#include <cstdlib>

#include "test/emulator/grid.h"

namespace simt::emu {

namespace {

const Block* visitor = nullptr;  // the block that is aside while another's memory is reached

void complete(Cluster& cluster) {
  cluster.arrived = 0;
  cluster.generation++;
  for (const Block& resident : block.grid->resident) {
    if (resident.cluster != &cluster) continue;
    for (unsigned i = 0; i < resident.threads; i++) {
      if (resident.thread[i].state == State::kCluster) resident.thread[i].state = State::kReady;
    }
  }
}

// Block `rank` of this block's cluster, or null.
Block* find_block(unsigned rank) {
  if (rank == rank_in_cluster()) return &block;
  for (Block& resident : block.grid->resident) {
    if (block.cluster != nullptr && resident.cluster == block.cluster &&
        resident.index.x % block.grid->call.cluster == rank)
      return &resident;
  }
  return nullptr;
}

}  // namespace

bool join_cluster(uint64_t number) {
  const unsigned size = block.grid->call.cluster;
  if (size == 1) return true;
  if (number % size != 0) {
    block.cluster = block.grid->resident.back().cluster;
    return true;
  }
  block.cluster = static_cast<Cluster*>(std::calloc(1, sizeof(Cluster)));
  if (block.cluster == nullptr) return false;
  block.cluster->live = size * block.threads;
  block.cluster->blocks = size;
  return true;
}

void leave_cluster() {
  Cluster* cluster = block.cluster;
  if (cluster == nullptr) return;
  cluster->live--;
  if (cluster->arrived != 0 && cluster->arrived == cluster->live) complete(*cluster);
}

void end_cluster() {
  if (block.cluster != nullptr && --block.cluster->blocks == 0) std::free(block.cluster);
}

unsigned rank_in_cluster() {
  return block.index.x % block.grid->call.cluster;
}

void cluster_barrier(Site at) {
  if (block.cluster == nullptr) fail(at, "cluster_sync: the launch has no clusters");
  warp_meet(~0u, {"cluster_sync", false, true}, nullptr, nullptr, at);
  Cluster& cluster = *block.cluster;
  const char* edge = &cluster.edge[cluster.generation % sizeof cluster.edge];
  release(edge);
  if (++cluster.arrived == cluster.live) {
    complete(cluster);
  } else {
    wait_as(State::kCluster, "cluster_sync", at);
  }
  acquire(edge);
}

void require_block_of_cluster(unsigned rank, Site at) {
  if (find_block(rank) == nullptr)
    fail(at, "block %u of the cluster has ended, or there is none", rank);
}

void in_block_of_cluster(unsigned rank, Site at, void (*act)(void*), void* argument) {
  require_block_of_cluster(rank, at);
  Block* resident = find_block(rank);
  if (resident == &block) return act(argument);
  const Block own = block;
  visitor = &own;
  block = *resident;
  act(argument);
  *resident = block;
  come_home();
}

void come_home() {
  if (visitor != nullptr) block = *visitor;
  visitor = nullptr;
}

}  // namespace simt::emu
