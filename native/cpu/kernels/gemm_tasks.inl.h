// A GEMM as tasks for the threads: chunks of a group's rows times ranges of its panels.

// Part `part` of `parts` of [0, n), as even as can be.
inline int64_t split(int64_t n, int64_t part, int64_t parts) {
  return n * part / parts;
}

inline int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

// One group's rows and panels as tasks: chunks of rows, and ranges of panels within each.
struct Tiling {
  int64_t rows, chunks, ranges;
  const PanelRanges* panels;
  int64_t tasks() const { return chunks * ranges; }
};

inline Tiling rows_tiling(int64_t rows, int64_t chunk_rows, const PanelRanges& panels) {
  return {rows, (rows + chunk_rows - 1) / chunk_rows, panels.ranges(), &panels};
}

// On the decode path. While at least as many groups follow as there are threads, a thread
// reads one whole group as one stretch of memory. Every stretch begins slowly, so few are better.
inline Tiling decode_tiling(const Gemm& gemm, int64_t group, int64_t rows, int64_t chunk_rows) {
  if (group >= gemm.shared_from) return rows_tiling(rows, chunk_rows, gemm.decode);
  return rows_tiling(rows, chunk_rows, gemm.whole);
}

// Of a pass over the rows [first, last).
inline void share_decode(Gemm& gemm, int64_t threads, int64_t first, int64_t last) {
  gemm.decode = streamed_ranges(gemm.panels, threads, panel_bytes(gemm.dtype, gemm.k));
  gemm.whole = even_ranges(gemm.panels, threads, gemm.panels);
  gemm.shared_from = first_shared_group(gemm.offsets, gemm.groups, first, last, threads);
}

inline Tiling group_tiling(const Gemm& gemm, int64_t group) {
  const int64_t rows = gemm.offsets[group + 1] - gemm.offsets[group];
  if (rows <= kDecodeRows || gemm.chunk_rows <= kDecodeRows)
    return decode_tiling(gemm, group, rows, gemm.chunk_rows);
  return rows_tiling(rows, gemm.chunk_rows, gemm.prefill);
}

// One task: rows [r, r + rows), all of one group, times `panels` panels from w on. The first of
// them is the group's number `panel`.
struct GemmTask {
  int64_t r, rows, panel, panels;
  const char* w;
};

inline GemmTask find_task(const Gemm& gemm, int64_t task) {
  int64_t group = 0;
  Tiling tiling;
  for (;; group++) {
    if (gemm.offsets[group + 1] == gemm.offsets[group]) continue;
    tiling = group_tiling(gemm, group);
    if (task < tiling.tasks()) break;
    task -= tiling.tasks();
  }
  const int64_t chunk = task / tiling.ranges, first = split(tiling.rows, chunk, tiling.chunks);
  GemmTask found;
  found.r = gemm.offsets[group] + first;
  found.rows = split(tiling.rows, chunk + 1, tiling.chunks) - first;
  tiling.panels->range(task % tiling.ranges, &found.panel, &found.panels);
  found.w = gemm.weight + (group * gemm.panels + found.panel) * panel_bytes(gemm.dtype, gemm.k);
  return found;
}

// Panels times the chunks of rows that they multiply.
inline int64_t chunk_panels(const Gemm& gemm) {
  int64_t panels = 0;
  for (int64_t g = 0; g < gemm.groups; g++) {
    panels += (gemm.offsets[g + 1] - gemm.offsets[g] + gemm.chunk_rows - 1) / gemm.chunk_rows *
              gemm.panels;
  }
  return panels;
}

inline int64_t task_count(const Gemm& gemm) {
  int64_t tasks = 0;
  for (int64_t g = 0; g < gemm.groups; g++) tasks += group_tiling(gemm, g).tasks();
  return tasks;
}
