// Matrix products over packed panels.
//
// The right-hand matrix is cut into panels of up to PANEL vectors side by side and stored in the order in
// which it is read, so that a product streams through it. A tile keeps R rows x C vectors of sums in
// registers while k runs over the inner dimension, always upwards: what a row comes to does not depend
// on the rows beside it, nor on how many threads there are.

// The left-hand matrix, in blocks of LANES along the inner dimension: `num_gates` times H, each cut
// into ceil(H / LANES) blocks. Row-major with H columns is (H, LANES, 1, H).
struct Left {
    int64_t row_stride, block_stride, num_gates, H;
};

// out[r][c] = start[c] + sum_k left[r][k] panel[k][c], for R rows and C vectors.
template <int R, int C>
static void tile(const float* a, Left left, const float* panel, const float* start, float* out, int64_t out_stride) {
    Vec sum[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sum[r][c] = start ? load(start + c * LANES) : Vec{};
    for (int64_t gate = 0; gate < left.num_gates; ++gate)
        for (int64_t k = 0; k < left.H; k += LANES, a += left.block_stride) {
            const int64_t n = left.H - k < LANES ? left.H - k : LANES;
            for (int64_t e = 0; e < n; ++e, panel += C * LANES) {
                Vec w[C];
                for (int c = 0; c < C; ++c) w[c] = load(panel + c * LANES);
                for (int r = 0; r < R; ++r) {
                    const float x = a[r * left.row_stride + e];
                    for (int c = 0; c < C; ++c) sum[r][c] += x * w[c];
                }
            }
        }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) store(out + r * out_stride + c * LANES, sum[r][c]);
}

// Calls f with the row's count as a constant: f(Count<R>).
template <int R>
struct Count {
    static constexpr int value = R;
};

template <int R = ROWS, class F>
static void with_rows(int64_t rows, F f) {
    if constexpr (R > 0) {
        if (rows == R) return f(Count<R>());
        with_rows<R - 1>(rows, f);
    }
}

template <int C = PANEL, class F>
static void with_vectors(int64_t vectors, F f) {
    if constexpr (C > 0) {
        if (vectors == C) return f(Count<C>());
        with_vectors<C - 1>(vectors, f);
    }
}

// `tile` for any number of rows and up to PANEL vectors. Rows are shared out evenly over the tiles.
static void product(const float* a, int64_t rows, Left left, const float* panel, int64_t vectors, const float* start,
                    float* out, int64_t out_stride) {
    const int64_t tiles = (rows + ROWS - 1) / ROWS;
    for (int64_t t = 0; t < tiles; ++t) {
        const int64_t from = rows * t / tiles, to = rows * (t + 1) / tiles;
        with_rows(to - from, [&](auto R) {
            with_vectors(vectors, [&](auto C) {
                tile<R.value, C.value>(a + from * left.row_stride, left, panel, start, out + from * out_stride,
                                       out_stride);
            });
        });
    }
}

// Transposes a square of LANES vectors in place, swapping ever larger corners.
template <int HALF, int... E>
static inline void swap_corners(Vec* v, std::integer_sequence<int, E...>) {
    for (int i = 0; i < LANES; ++i)
        if (!(i & HALF)) {
            const Vec x = v[i], y = v[i | HALF];
            v[i] = SHUFFLE(x, y, (E & HALF ? LANES + (E ^ HALF) : E)...);
            v[i | HALF] = SHUFFLE(x, y, (E & HALF ? LANES + E : E ^ HALF)...);
        }
}

template <int HALF = 1>
static inline void transpose(Vec* v) {
    if constexpr (HALF < LANES) {
        swap_corners<HALF>(v, std::make_integer_sequence<int, LANES>());
        transpose<2 * HALF>(v);
    }
}

// The first n of LANES rows of K numbers, transposed: the k-th of each at out + k * apart, zeros for the others.
static void put_transposed(const float* rows, int64_t n, int64_t K, float* out, int64_t apart) {
    for (int64_t k = 0; k < K; k += LANES) {
        const int64_t columns = K - k < LANES ? K - k : LANES;
        Vec square[LANES] = {};
        for (int64_t e = 0; e < n; ++e) square[e] = load(rows + e * K + k, columns);
        transpose(square);
        for (int64_t i = 0; i < columns; ++i) store(out + (k + i) * apart, square[i]);
    }
}
