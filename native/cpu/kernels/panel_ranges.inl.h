// Hands out the panels of a GEMM to threads.

// Bytes of weights that make a range of streamed panels worth handing out.
constexpr int64_t kStreamBytes = 64 << 10;

// Hands out the panels of a group in ranges of at least `least` and at most `most`. Within these
// bounds, the first `threads` ranges take half of the panels, the next half of the rest, and so on.
// So a thread reads long stretches of memory, and all end at about the same time.
struct PanelRanges {
  int64_t panels, threads, least, most;

  // Of the ranges of the round that begins at panel `begin`. Even where it can be, as panels are
  // taken two at once.
  int64_t size(int64_t begin) const {
    const int64_t fair = (panels - begin) / (2 * threads) / 2 * 2;
    return fair < least ? least : fair > most ? most : fair;
  }
  int64_t ranges() const {
    int64_t count = 0;
    for (int64_t begin = 0; begin < panels; begin += size(begin) * threads) {
      const int64_t left = (panels - begin + size(begin) - 1) / size(begin);
      count += left < threads ? left : threads;
    }
    return count;
  }
  void range(int64_t i, int64_t* first, int64_t* count) const {
    int64_t begin = 0;
    for (; i >= threads; i -= threads) begin += size(begin) * threads;
    const int64_t each = size(begin);
    *first = begin + i * each;
    *count = *first + each < panels ? each : panels - *first;
  }
};

// Ranges of about half of the rest, for weights that are streamed.
inline PanelRanges streamed_ranges(int64_t panels, int64_t threads, int64_t panel_bytes) {
  const int64_t least = (kStreamBytes / (panel_bytes + 1) / 2 + 1) * 2;
  return {panels, threads, least, panels > least ? panels : least};
}

// Ranges of the same size.
inline PanelRanges even_ranges(int64_t panels, int64_t threads, int64_t each) {
  return {panels, threads, each, each};
}

// The first of the last `threads` groups that have rows in [first, last). Group g has the rows
// offsets[g] .. offsets[g + 1] - 1.
inline int64_t first_shared_group(const int32_t* offsets, int64_t groups, int64_t first,
                                  int64_t last, int64_t threads) {
  int64_t group = groups;
  for (; group > 0 && threads > 0; group--) {
    const int64_t begin = offsets[group - 1], end = offsets[group];
    threads -= (end < last ? end : last) > (begin > first ? begin : first);
  }
  return group;
}
