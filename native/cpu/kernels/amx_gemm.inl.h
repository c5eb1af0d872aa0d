// Rows times bf16 weight panels by AMX tiles (amx_tiles.inl.h): the work of linear and grouped_gemm
// on that instruction set.
//
// A panel (panels.h) holds tiles of weights as they are: 16 pairs of k, 128 bytes apart, of 16
// columns each. Activations are split and packed into tiles once per task. Each element of the
// output is computed for every 32 k in ascending order: sum += low parts, sum += middle parts, sum
// += high parts. The number of rows does not matter, so a token's row has the same bits in any
// batch.
//
// There is one path for all numbers of rows: blocks of at most 16 rows times two panels. Two panels
// are better than more rows. The three products that share a tile of weights follow each other, and
// the processor keeps such a tile loaded. With few rows that makes the second and third cheap. With
// 16 rows a step loads 7 tiles for 12 products.

constexpr int64_t kMostRows = 128;                 // that one task takes
constexpr int64_t kSplitBytes = int64_t{5} << 17;  // of split activations, in the thread's scratch
constexpr int64_t kKeptBytes = int64_t{1} << 19;   // of sums between parts of k, likewise
// of one task, when k has parts
constexpr int64_t kKeptPanels = kKeptBytes / kSumsBytes / (kMostRows / kTileSize) * 2;
constexpr int64_t kDecodeBytes = int64_t{3} << 19;  // of weights, of a task with few rows
constexpr int64_t kMostPanels = 128;                // of one task otherwise
constexpr int64_t kAhead = 2;  // steps that weights are prefetched before their use
static_assert(kSplitBytes + kKeptBytes + 2 * kStepBytes <= static_cast<int64_t>(kScratchBytes),
              "a thread's scratch");

// Weights on their way from memory into the second-level cache: all up to `due`, which moves on
// with every column of tiles. A few lines at a time, because a first-level cache that waits for
// many lines of memory does not serve the tiles meanwhile.
struct Stream {
  const char *next, *due;
  int64_t per_column;  // bytes of one panel
};

template <int kMatrix>
inline void stream_on(Stream& stream, int64_t panel_stride) {
  for (stream.due += stream.per_column; stream.next < stream.due; stream.next += 64) {
    for (int j = 0; j < kMatrix; j++) __builtin_prefetch(stream.next + j * panel_stride);
  }
}

// A block of rows whose sums are complete. They are written out piece by piece while the next block
// is multiplied.
struct Finish {
  const char* sums = nullptr;
  int64_t r = 0, panel = 0, panels = 1;  // the first row, the first panel, one or two panels
  int64_t done = 0, count = 0;           // pieces: one row's columns of one panel

  void advance(const Gemm& gemm, int64_t pieces) {
    for (const int64_t end = done + pieces < count ? done + pieces : count; done < end; done++) {
      const int64_t i = panels == 2 ? done / 2 : done, j = panels == 2 ? done % 2 : 0;
      finish_row(gemm, reinterpret_cast<const float*>(sums + i * kSumsStride) + j * kPanelRows,
                 r + i, panel + j);
    }
  }
};

// One block of rows times one or two panels, over `steps` whole steps of k.
struct Block {
  const char* x;         // split activations
  int64_t x_step;        // bytes of a step
  const char* w;         // the first panel at the first k
  int64_t panel_stride;  // bytes to the second panel
  int64_t steps;
  // the step after them: one panel's, padded, behind the other's; null if there is none
  const char* tail;
  const char* then;  // where the next block's weights begin
  char* sums;        // 16 rows of up to two panels
  bool first;        // or go on from what sums holds
};

// Prefetches a column's share of a later step, two lines of either panel in turn. Memory serves two
// streams that advance together better than one after the other. It serves them better still when
// the requests are spread over the step.
template <int kMatrix>
inline void prefetch_column(const char* step, int64_t panel_stride, int column) {
  constexpr int64_t kShare = kStepBytes / (2 * kMatrix);
  MOEPP_UNROLL for (int64_t line = 0; line < kShare; line += 128) {
    MOEPP_UNROLL for (int j = 0; j < kMatrix; j++) {
      const char* pair = step + j * panel_stride + column * kShare + line;
      __builtin_prefetch(pair);
      __builtin_prefetch(pair + 64);
    }
  }
}

#define MOEPP_COLUMN(sums, weights)         \
  _tile_loadd(7, (weights), kWeightStride); \
  _tile_dpbf16ps(sums, 4, 7);               \
  _tile_dpbf16ps(sums, 5, 7);               \
  _tile_dpbf16ps(sums, 6, 7)

template <int kMatrix>
inline void multiply_step(const Block& block, const char* x, const char* w, int64_t stride,
                          const char* ahead, Stream& stream) {
  const int64_t part = block.x_step / kParts;
  _tile_loadd(4, x, kTileLine);
  _tile_loadd(5, x + part, kTileLine);
  _tile_loadd(6, x + 2 * part, kTileLine);
  MOEPP_COLUMN(0, w);
  prefetch_column<kMatrix>(ahead, block.panel_stride, 0);
  stream_on<kMatrix>(stream, block.panel_stride);
  MOEPP_COLUMN(1, w + kTileLine);
  prefetch_column<kMatrix>(ahead, block.panel_stride, 1);
  stream_on<kMatrix>(stream, block.panel_stride);
  if (kMatrix == 2) {
    MOEPP_COLUMN(2, w + stride);
    prefetch_column<kMatrix>(ahead, block.panel_stride, 2);
    stream_on<kMatrix>(stream, block.panel_stride);
    MOEPP_COLUMN(3, w + stride + kTileLine);
    prefetch_column<kMatrix>(ahead, block.panel_stride, 3);
    stream_on<kMatrix>(stream, block.panel_stride);
  }
}
#undef MOEPP_COLUMN

inline void load_sums(const Block& block) {
  if (block.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, block.sums, kSumsStride);
    _tile_loadd(1, block.sums + kTileLine, kSumsStride);
    _tile_loadd(2, block.sums + 2 * kTileLine, kSumsStride);
    _tile_loadd(3, block.sums + 3 * kTileLine, kSumsStride);
  }
}

template <int kMatrix>
__attribute__((noinline)) void multiply_block(const Gemm& gemm, const Block& block, Stream& streams,
                                              Finish& previous) {
  __asm__ volatile("" ::: "memory");  // what was packed is in memory before tiles are loaded
  load_sums(block);
  Stream stream = streams;
  const int64_t pieces = (previous.count + block.steps - 1) / (block.steps > 0 ? block.steps : 1);
  const char *x = block.x, *w = block.w;
  for (int64_t step = 0; step < block.steps; step++) {
    const int64_t over = step + kAhead - block.steps;
    const char* ahead = over < 0 ? w + kAhead * kStepBytes : block.then + over * kStepBytes;
    multiply_step<kMatrix>(block, x, w, block.panel_stride, ahead, stream);
    previous.advance(gemm, pieces);
    x += block.x_step;
    w += kStepBytes;
  }
  if (block.tail != nullptr)
    multiply_step<kMatrix>(block, x, block.tail, kStepBytes, block.then, stream);
  _tile_stored(0, block.sums, kSumsStride);
  _tile_stored(1, block.sums + kTileLine, kSumsStride);
  if (kMatrix == 2) {
    _tile_stored(2, block.sums + 2 * kTileLine, kSumsStride);
    _tile_stored(3, block.sums + 3 * kTileLine, kSumsStride);
  }
  previous.advance(gemm, previous.count);
  streams = stream;
}

// The blocks of a task's rows and k. Rows form blocks of `block_rows`; the last may have fewer, and
// its tiles are padded. k is cut into parts such that a part of all blocks fits the scratch. Sums
// between two parts are kept in f32, exactly, so parts change no bit.
struct Blocking {
  int64_t blocks, block_rows, steps, parts;
};

inline Blocking blocking_of(const Gemm& gemm, int64_t rows) {
  Blocking blocking;
  blocking.blocks = (rows + kTileSize - 1) / kTileSize;
  blocking.block_rows = (rows + blocking.blocks - 1) / blocking.blocks;
  blocking.steps = (gemm.k + kTileK - 1) / kTileK;
  // steps of a part
  const int64_t most = kSplitBytes / (blocking.blocks * blocking.block_rows * kParts * kTileLine);
  blocking.parts = blocking.steps <= most ? 1 : (blocking.steps + most - 1) / most;
  return blocking;
}

// The last step of a panel whose k do not fill it, padded with zeros.
inline void copy_tail(const char* w, int64_t k, char* tail) {
  const int64_t bytes = (k % kTileK + 1) / 2 * kWeightStride;
  __builtin_memcpy(tail, w, static_cast<size_t>(bytes));
  __builtin_memset(tail + bytes, 0, static_cast<size_t>(kStepBytes - bytes));
}

struct TileTask {
  const Gemm& gemm;
  const GemmTask& task;
  Blocking blocking;
  char *packed, *kept, *tails;

  int64_t rows_of(int64_t block) const {
    const int64_t left = task.rows - block * blocking.block_rows;
    return left < blocking.block_rows ? left : blocking.block_rows;
  }

  void split_part(int64_t first_step, int64_t steps) const {
    const int64_t k = first_step * kTileK,
                  end = k + steps * kTileK < gemm.k ? k + steps * kTileK : gemm.k;
    for (int64_t b = 0; b < blocking.blocks; b++) {
      const float* rows[kTileSize] = {};
      for (int64_t i = 0; i < rows_of(b); i++)
        rows[i] = gemm.row(task.r + b * blocking.block_rows + i);
      split_block(rows, blocking.block_rows, k, end - k,
                  packed + b * steps * blocking.block_rows * kParts * kTileLine);
    }
  }

  // The sums of one block and pair. They are kept between parts of k. With one part there are two
  // in turn, since the other may be being written out.
  char* sums_of(int64_t pair, int64_t block) const {
    const int64_t index = pair * blocking.blocks + block;
    return kept + (blocking.parts > 1 ? index : index % 2) * kSumsBytes;
  }

  // All blocks of rows times panels [panel, panel + panels), one or two, over steps [first, last)
  // of k.
  void multiply_pair(int64_t panel, int64_t panels, int64_t first, int64_t last,
                     Finish& previous) const {
    const int64_t bytes = panel_bytes(gemm.dtype, gemm.k), whole = gemm.k / kTileK,
                  steps = last - first;
    Block block;
    block.w = task.w + panel * bytes + first * kStepBytes;
    block.panel_stride = bytes;
    block.steps = last > whole ? steps - 1 : steps;
    block.tail = last > whole ? tails : nullptr;
    for (int64_t j = 0; j < panels && block.tail != nullptr; j++) {
      copy_tail(task.w + (panel + j) * bytes + whole * kStepBytes, gemm.k, tails + j * kStepBytes);
    }
    block.x_step = kParts * blocking.block_rows * kTileLine;
    block.first = first == 0;
    // the next pair, which is brought into the cache while this one multiplies all blocks
    const char* next = block.w + 2 * bytes;
    const int64_t columns = blocking.blocks * steps * panels * 2;
    Stream stream = {next, next,
                     blocking.blocks > 1 ? (steps * kStepBytes + columns - 1) / columns : 0};
    for (int64_t b = 0; b < blocking.blocks; b++) {
      block.x = packed + b * steps * block.x_step;
      block.then = b + 1 < blocking.blocks ? block.w : next;
      block.sums = sums_of(panel / 2, b);
      if (panels == 2) {
        multiply_block<2>(gemm, block, stream, previous);
      } else {
        multiply_block<1>(gemm, block, stream, previous);
      }
      if (last == blocking.steps) {
        previous = {
            block.sums,         task.r + b * blocking.block_rows, task.panel + panel, panels, 0,
            rows_of(b) * panels};
      }
    }
  }

  void run() const {
    configure_tiles(blocking.block_rows);
    Finish previous;
    for (int64_t part = 0; part < blocking.parts; part++) {
      const int64_t first = split(blocking.steps, part, blocking.parts),
                    last = split(blocking.steps, part + 1, blocking.parts);
      split_part(first, last - first);
      for (int64_t p = 0; p < task.panels; p += 2)
        multiply_pair(p, p + 1 < task.panels ? 2 : 1, first, last, previous);
    }
    previous.advance(gemm, previous.count);
    _tile_release();
  }
};

// Fills in the derived fields and does the work.
inline void run_tiles(const GemmArgs& args, ThreadPool& pool) {
  Gemm gemm = {args};
  const int64_t threads = pool.threads(),
                row_bytes = (gemm.k + kTileK - 1) / kTileK * kParts * kTileLine;
  // Rows whose whole k fits the scratch, unless they are too few to make up for reading the
  // weights.
  const int64_t whole = kSplitBytes / (row_bytes + 1);
  gemm.chunk_rows =
      whole >= kMostRows / 4 * 3 && whole < kMostRows ? whole / kTileSize * kTileSize : kMostRows;
  const int64_t panels = chunk_panels(gemm);
  const int64_t fair = clamp((panels / threads + 1) / 2 * 2, 2, 32);
  gemm.decode = even_ranges(gemm.panels, threads,
                            clamp(kDecodeBytes / (panel_bytes(gemm.dtype, gemm.k) + 1) / 2 * 2, 4,
                                  clamp(panels / (threads * 4) / 2 * 2, 4, kKeptPanels)));
  // Splitting a chunk costs as much as multiplying it by two panels.
  const int64_t most = whole < gemm.chunk_rows ? kKeptPanels : kMostPanels;
  gemm.prefill =
      even_ranges(gemm.panels, threads, clamp(panels / (threads * 4) / 2 * 2, fair, most));
  pool.parallel_for(task_count(gemm), [&gemm, &pool](int64_t task, int thread) {
    char* scratch = reinterpret_cast<char*>(pool.scratch(thread));
    const GemmTask found = find_task(gemm, task);
    TileTask{gemm,
             found,
             blocking_of(gemm, found.rows),
             scratch,
             scratch + kSplitBytes,
             scratch + kSplitBytes + kKeptBytes}
        .run();
  });
}
