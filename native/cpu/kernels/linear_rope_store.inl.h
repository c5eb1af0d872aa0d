#include "linear.inl.h"
#include "rope_store.inl.h"

// A call costs nothing here, and neither op could keep the other's rows in a cache.
inline void linear_rope_store(const LinearRopeStoreArgs& args, Queue& queue) {
  linear(args.linear, queue);
  rope_store(args.store, queue);
}
