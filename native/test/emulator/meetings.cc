// Places where threads wait for each other: warps, warpgroups, barriers.
#include <cstring>

#include "test/emulator/state.h"

namespace simt::emu {

namespace {

bool same_place(Site a, Site b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

// The meeting that the lane joins, or a new one.
Meeting& find_meeting(Warp& warp, unsigned number, unsigned lane, uint32_t mask, Meet meet,
                      Combine combine, Site at) {
  Meeting* empty = nullptr;
  for (Meeting& m : warp.meetings) {
    if (m.arrived == 0) {
      if (empty == nullptr) empty = &m;
      continue;
    }
    if (m.mask != mask || std::strcmp(m.meet.op, meet.op) != 0) {
      // Fine as long as one can go first. Here each waits for the other.
      if ((m.mask >> lane & 1) && (mask & m.arrived) != 0) {
        fail(at, "divergent warp: %s with mask %08x meets %s with mask %08x (%s:%d)", meet.op, mask,
             m.meet.op, m.mask, m.at.file, m.at.line);
      }
      continue;
    }
    if (meet.aligned && !same_place(m.at, at)) {
      fail(at, "divergent warp: %s is needed in all lanes at once, others are at %s:%d", meet.op,
           m.at.file, m.at.line);
    }
    return m;
  }
  if (empty == nullptr) fail(at, "too many meetings in a warp");
  empty->mask = mask;
  empty->meet = meet;
  empty->combine = combine;
  empty->at = at;
  empty->edge = &block.edges->warp[number][warp.meetings_held++ % sizeof block.edges->warp[number]];
  return *empty;
}

void complete_meeting(unsigned warp, Meeting& meeting) {
  const uint32_t lanes = meeting.arrived;
  if (meeting.combine != nullptr) meeting.combine(meeting.args, lanes);
  meeting.arrived = 0;
  for (unsigned i = 0; i < 32; i++) {
    if (lanes >> i & 1) block.thread[warp * 32 + i].state = State::kReady;
  }
}

void complete_barrier(int id, Site at) {
  Barrier& b = block.barrier[id];
  for (unsigned w = 0; b.threads != 0 && w < kWarps; w++) {
    if (b.lanes[w] != 0 && (block.warp[w].live & ~b.lanes[w]) != 0) {
      fail(at, "barrier %d was reached by a part of warp %u: lanes %08x", id, w, b.lanes[w]);
    }
  }
  b.arrived = 0;
  b.generation++;
  for (uint32_t& lanes : b.lanes) lanes = 0;
  for (unsigned i = 0; i < block.threads; i++) {
    Thread& t = block.thread[i];
    if (t.state == State::kBarrier && t.barrier == id) t.state = State::kReady;
  }
}

}  // namespace

void warp_meet(uint32_t mask, Meet meet, void* arg, Combine combine, Site at) {
  const unsigned lane = current->rank % 32, number = current->rank / 32;
  Warp& warp = block.warp[number];
  if (!(mask >> lane & 1)) fail(at, "%s: the calling lane is not in the mask %08x", meet.op, mask);
  if (meet.aligned && warp.live != ~0u)
    fail(at, "%s needs the whole warp, but lanes %08x have ended", meet.op, ~warp.live);
  Meeting& meeting = find_meeting(warp, number, lane, mask, meet, combine, at);
  const char* edge = meeting.edge;
  meeting.args[lane] = arg;
  meeting.arrived |= 1u << lane;
  if (meet.orders) release(edge);
  if (meeting.arrived == (mask & warp.live)) {
    complete_meeting(number, meeting);
  } else {
    wait_as(State::kWarp, meet.op, at);
  }
  if (meet.orders) acquire(edge);
}

void group_meet(const char* op, void* arg, Combine combine, Site at) {
  const unsigned number = current->rank / 128;
  if ((number + 1) * 128 > block.threads)
    fail(at, "%s: the warpgroup has fewer than 128 threads", op);
  for (unsigned w = number * 4; w < number * 4 + 4; w++) {
    if (block.warp[w].live != ~0u)
      fail(at, "%s needs the whole warpgroup, but threads of it have ended", op);
  }
  Group& group = block.group[number];
  if (group.arrived != 0 && (std::strcmp(group.op, op) != 0 || !same_place(group.at, at))) {
    fail(at, "divergent warpgroup: %s meets %s (%s:%d)", op, group.op, group.at.file,
         group.at.line);
  }
  group.op = op;
  group.at = at;
  group.args[current->rank % 128] = arg;
  if (++group.arrived < 128) {
    wait_as(State::kGroup, op, at);
    return;
  }
  group.arrived = 0;
  if (combine != nullptr) combine(group.args, ~0u);
  for (unsigned i = 0; i < 128; i++) block.thread[number * 128 + i].state = State::kReady;
}

void barrier(int id, int threads, bool waits, Site at) {
  const char* op = threads == 0 ? "__syncthreads" : waits ? "barrier_sync" : "barrier_arrive";
  if (threads != 0 && (id < 1 || id > 15 || threads < 32 || threads % 32 != 0 ||
                       threads > static_cast<int>(block.threads))) {
    fail(at, "%s(%d, %d): barriers are 1 to 15, for a multiple of 32 threads that the block has",
         op, id, threads);
  }
  Barrier& b = block.barrier[id];
  if (b.arrived != 0 && b.threads != threads)
    fail(at, "%s: %d threads here, %d at %s:%d", op, threads, b.threads, b.at.file, b.at.line);
  if (b.arrived != 0 && threads == 0 && !same_place(b.at, at)) {
    fail(at, "divergent __syncthreads: others wait at %s:%d", b.at.file, b.at.line);
  }
  const uint32_t lane = 1u << current->rank % 32;
  if (b.lanes[current->rank / 32] & lane)
    fail(at, "%s: the thread arrives twice at barrier %d in one phase", op, id);
  b.lanes[current->rank / 32] |= lane;
  b.threads = threads;
  b.at = at;
  b.arrived++;
  const char* edge = &block.edges->barrier[id][b.generation % 4];
  release(edge);
  if (b.arrived == (threads == 0 ? block.live : static_cast<unsigned>(threads))) {
    complete_barrier(id, at);
    if (!waits) step_aside();
  } else if (waits) {
    current->barrier = id;
    wait_as(State::kBarrier, op, at);
  }
  if (waits) acquire(edge);
}

// CUDA C++ Programming Guide: lanes that have exited need not take part in a collective, nor in
// __syncthreads.
void leave_meetings() {
  const unsigned number = current->rank / 32;
  Warp& warp = block.warp[number];
  warp.live &= ~(1u << current->rank % 32);
  block.live--;
  for (Meeting& m : warp.meetings) {
    if (m.arrived == 0 || !(m.mask >> current->rank % 32 & 1)) continue;
    if (m.meet.aligned)
      fail(m.at, "%s needs the whole warp, but lane %u has ended", m.meet.op, current->rank % 32);
    if (m.arrived == (m.mask & warp.live)) complete_meeting(number, m);
  }
  const Barrier& b = block.barrier[0];
  if (b.arrived != 0 && b.arrived == block.live) complete_barrier(0, b.at);
}

}  // namespace simt::emu
