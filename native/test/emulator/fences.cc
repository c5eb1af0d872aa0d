// __threadfence and __threadfence_block, for ThreadSanitizer, which knows no fences.
//
// Two fences order their threads by way of an atomic on one word. It comes after one thread's fence
// as a write, and before the other's as a read. The word's address is the edge for the device. The
// edge for a block is one of the block's own, shared by words of one hash.
#include "test/emulator/state.h"

namespace simt::emu {

#if defined(SIMT_TSAN)

namespace {

const char* word_edge(const void* word, Scope scope) {
  if (scope == Scope::kDevice) return static_cast<const char*>(word);
  return &block.edges->word[reinterpret_cast<uintptr_t>(word) / 4 % sizeof block.edges->word];
}

// Gives `to` what the thread knew at its last fence, and nothing later.
void publish(const char* fence, const char* to) {
  void* before = begin_engine(fence);
  release(to);
  end_engine(before);
}

}  // namespace

void fence(Scope scope) {
  for (unsigned i = 0; i < current->words_read; i++) {
    acquire(word_edge(current->words[i], Scope::kBlock));
    if (scope == Scope::kDevice) acquire(word_edge(current->words[i], Scope::kDevice));
  }
  release(&block.edges->fence[0][current->rank]);
  current->fenced = true;
  if (scope == Scope::kBlock) return;
  current->words_read = 0;
  release(&block.edges->fence[1][current->rank]);
  current->fenced_device = true;
}

void before_atomic(const void* word) {
  if (!current->fenced) return;
  publish(&block.edges->fence[0][current->rank], word_edge(word, Scope::kBlock));
  if (current->fenced_device)
    publish(&block.edges->fence[1][current->rank], word_edge(word, Scope::kDevice));
}

void after_atomic(const void* word) {
  constexpr unsigned kWords = sizeof current->words / sizeof current->words[0];
  for (unsigned i = 0; i < current->words_read; i++) {
    if (current->words[i] == word) return;
  }
  if (current->words_read < kWords) current->words[current->words_read++] = word;
}

#else

void fence(Scope) {}
void before_atomic(const void*) {}
void after_atomic(const void*) {}

#endif

}  // namespace simt::emu
