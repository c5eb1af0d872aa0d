#pragma once

// The values of a page of latents. They are the first elements of its keys, in another order
// (kv_layout.h): a transposition. A unit is what stays together, of one vector's neighbours: an
// f32; or of bf16 two keys' elements of two dimensions, whose order within changes.

typedef uint32_t __attribute__((may_alias)) LatentWord;
typedef uint64_t __attribute__((may_alias)) LatentSquare;

// a, b of one key and c, d of the next: a pair of each dimension.
inline LatentWord reordered(LatentWord unit) {
  return unit;
}
inline LatentSquare reordered(LatentSquare unit) {
  return (unit & 0xffff00000000ffffu) | (unit >> 16 & 0xffff0000u) | (unit & 0xffff0000u) << 16;
}

template <class Unit>
struct UnitsOf {
  typedef Unit __attribute__((vector_size(4 * sizeof(Unit)), aligned(sizeof(Unit)))) Four;
};

inline UnitsOf<uint32_t>::Four reordered(UnitsOf<uint32_t>::Four units) {
  return units;
}
inline UnitsOf<uint64_t>::Four reordered(UnitsOf<uint64_t>::Four units) {
  typedef uint16_t __attribute__((vector_size(32))) Halves;
  const Halves h = (Halves)units;
  return (UnitsOf<uint64_t>::Four)__builtin_shufflevector(h, h, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9,
                                                          11, 12, 14, 13, 15);
}

// to[j][i] = from[i][j], i < rows and j < columns. Columns are a multiple of 4.
template <class Unit>
void transpose_units(const Unit* from, int64_t from_stride, int64_t rows, int64_t columns, Unit* to,
                     int64_t to_stride) {
  typedef typename UnitsOf<std::remove_const_t<Unit>>::Four Four;
  for (int64_t j = 0; j < columns; j += 4) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      Four row[4];
      for (int k = 0; k < 4; k++) {
        __builtin_memcpy(&row[k], from + (i + k) * from_stride + j, sizeof(Four));
        row[k] = reordered(row[k]);
      }
      const Four a = __builtin_shufflevector(row[0], row[1], 0, 4, 2, 6),
                 b = __builtin_shufflevector(row[0], row[1], 1, 5, 3, 7),
                 c = __builtin_shufflevector(row[2], row[3], 0, 4, 2, 6),
                 d = __builtin_shufflevector(row[2], row[3], 1, 5, 3, 7);
      const Four column[4] = {
          __builtin_shufflevector(a, c, 0, 1, 4, 5), __builtin_shufflevector(b, d, 0, 1, 4, 5),
          __builtin_shufflevector(a, c, 2, 3, 6, 7), __builtin_shufflevector(b, d, 2, 3, 6, 7)};
      for (int k = 0; k < 4; k++)
        __builtin_memcpy(to + (j + k) * to_stride + i, &column[k], sizeof(Four));
    }
    for (; i < rows; i++) {
      for (int k = 0; k < 4; k++)
        to[(j + k) * to_stride + i] = reordered(from[i * from_stride + j + k]);
    }
  }
}

// The values of the page's first n keys, or of some more.
inline void latent_values(const float* keys, int64_t page_size, int64_t n, int64_t value_d,
                          float* values) {
  transpose_units(reinterpret_cast<const LatentWord*>(keys), page_size, value_d, (n + 3) / 4 * 4,
                  reinterpret_cast<LatentWord*>(values), value_d);
}
inline void latent_values(const uint16_t* keys, int64_t page_size, int64_t n, int64_t value_d,
                          uint16_t* values) {
  transpose_units(reinterpret_cast<const LatentSquare*>(keys), page_size / 2, value_d / 2,
                  (n + 7) / 8 * 4, reinterpret_cast<LatentSquare*>(values), value_d / 2);
}
