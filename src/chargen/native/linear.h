// The product of a window with a matrix, forward and back: y = x W^T + b over R rows.
//
// Rows are shared out over threads on the way forward and for the gradient of x, W's rows for its own
// gradient. What a row comes to depends on neither.

struct LinearShape {
    int64_t rows, K, M;                        // x is (rows, K), W is (M, K)
    static constexpr int64_t NEAR = 4 * ROWS;  // rows that stay in the nearest cache behind their product
    static constexpr int64_t PIECE = 256;      // rows whose part of a gradient a cache holds

    static int64_t blocks(int64_t n) { return (n + LANES - 1) / LANES; }
    static int64_t part(int64_t n, int64_t block) { return n - block * LANES < LANES ? n - block * LANES : LANES; }
    static int64_t width(int64_t n, int64_t block) { return blocks(n) - block < PANEL ? blocks(n) - block : PANEL; }
};

// Panels of W^T: vectors of M side by side, over all of K, and the bias in vectors behind them.
static void pack_forward(const float* weight, const float* bias, LinearShape s, float* packed, int64_t from,
                         int64_t to) {
    float* packed_bias = packed + s.blocks(s.M) * s.K * LANES;
    for (int64_t m = from; m < to; ++m) {
        const int64_t panel = m / PANEL * PANEL, C = s.width(s.M, panel), n = s.part(s.M, m);
        float* out = packed + (panel * s.K + (m - panel)) * LANES;
        put_transposed(weight + m * LANES * s.K, n, s.K, out, C * LANES);
        store(packed_bias + m * LANES, bias ? load(bias + m * LANES, n) : Vec{});
    }
}

// Panels of W: vectors of K side by side, over all of M.
static void pack_backward(const float* weight, LinearShape s, float* packed, int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
        const int64_t panel = k / PANEL * PANEL, C = s.width(s.K, panel);
        float* out = packed + (panel * s.M + (k - panel)) * LANES;
        for (int64_t m = 0; m < s.M; ++m)
            store(out + m * C * LANES, load(weight + m * s.K + k * LANES, s.part(s.K, k)));
    }
}

static int64_t packed_forward_size(LinearShape s) { return s.blocks(s.M) * (s.K + 1) * LANES; }
static int64_t packed_backward_size(LinearShape s) { return s.blocks(s.K) * s.M * LANES; }

// y (rows, y_stride) = x W^T + b for rows that stay near; y_stride has room for whole vectors.
static void linear_rows(const float* x, int64_t rows, LinearShape s, const float* packed, float* y, int64_t y_stride) {
    const float* bias = packed + s.blocks(s.M) * s.K * LANES;
    for (int64_t m = 0; m < s.blocks(s.M); m += PANEL)
        product(x, rows, {s.K, LANES, 1, s.K}, packed + m * s.K * LANES, s.width(s.M, m), bias + m * LANES,
                y + m * LANES, y_stride);
}

// dx (rows, blocks(K) * LANES) = dy W.
static void linear_rows_back(const float* dy, int64_t dy_stride, int64_t rows, LinearShape s, const float* packed,
                             float* dx) {
    for (int64_t k = 0; k < s.blocks(s.K); k += PANEL)
        product(dy, rows, {dy_stride, LANES, 1, s.M}, packed + k * s.M * LANES, s.width(s.K, k), nullptr,
                dx + k * LANES, s.blocks(s.K) * LANES);
}

// Up to R rows of dW, C vectors wide: += the sum over `num` rows of d, of which LANES stand together, times x.
template <int R, int C>
static void add_outer(const float* d, const float* x, int64_t num, int64_t rows, int64_t columns, LinearShape s,
                      bool first, float* grad) {
    Vec sum[R][C] = {};
    if (!first)
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < C; ++c) sum[r][c] = load(grad + r * s.K + c * LANES, columns - c * LANES);
    if (!first)  // and asks for the sums of the tile to the right, which have left the cache since the piece before
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) __builtin_prefetch(grad + r * s.K + (C + c) * LANES, 1);
    const auto add = [&](auto size) {
        for (int64_t i = 0; i < num; ++i) {
            Vec v[C];
            for (int c = 0; c < C; ++c) v[c] = load(x + i * s.K + c * LANES, size.n - c * LANES);
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) sum[r][c] += d[i * LANES + r] * v[c];
        }
    };
    if (columns >= C * LANES)
        add(Exactly<C * LANES>());
    else
        add(Part{columns});
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < C; ++c) store(grad + r * s.K + c * LANES, sum[r][c], columns - c * LANES);
}

// dW (M, K) = dy^T x and db (M,) = sum of dy, for blocks `from` to `to` of M; `near` has room for PIECE vectors.
static void weight_gradient(const float* dy, int64_t dy_stride, const float* x, LinearShape s, int64_t from, int64_t to,
                            float* near, float* grad_weight, float* grad_bias) {
    for (int64_t begin = 0; begin < s.rows; begin += s.PIECE) {
        const int64_t num = s.rows - begin < s.PIECE ? s.rows - begin : s.PIECE;
        for (int64_t m = from; m < to; ++m) {
            const int64_t n = s.part(s.M, m);
            Vec sum = begin ? load(grad_bias + m * LANES, n) : Vec{};
            for (int64_t i = 0; i < num; ++i) {
                const Vec d = load(dy + (begin + i) * dy_stride + m * LANES, n);
                store(near + i * LANES, d);
                sum += d;
            }
            store(grad_bias + m * LANES, sum, n);
            for (int64_t row = 0; row < n; row += GRADIENT_ROWS)
                for (int64_t k = 0; k < s.blocks(s.K); k += GRADIENT_PANEL) {
                    const int64_t left = s.blocks(s.K) - k;
                    with_vectors<GRADIENT_PANEL>(left < GRADIENT_PANEL ? left : GRADIENT_PANEL, [&](auto C) {
                        add_outer<GRADIENT_ROWS, C.value>(near + row, x + begin * s.K + k * LANES, num,
                                                          n - row < GRADIENT_ROWS ? n - row : GRADIENT_ROWS,
                                                          s.K - k * LANES, s, begin == 0,
                                                          grad_weight + (m * LANES + row) * s.K + k * LANES);
                    });
                }
        }
    }
}

static void copy_rows(const float* from, int64_t from_stride, float* to, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; j += LANES)
            store(to + r * columns + j, load(from + r * from_stride + j), columns - j);
}

// A product that is done before others would have heard of it is not shared out.
static int64_t threads_for(const Linear& w) { return w.rows * w.K * w.M < int64_t(1) << 22 ? 1 : w.threads; }

static int linear_forward(const Linear& w) {
    const LinearShape s{w.rows, w.K, w.M};
    const int64_t threads = threads_for(w);
    const int64_t stride = s.blocks(w.M) * LANES;
    Scratch packed(packed_forward_size(s)), near(stride == w.M ? 0 : threads * s.NEAR * stride);
    if (!packed || !near) return NO_MEMORY;
    in_parallel(threads, [&](int64_t i) {
        pack_forward(w.weight, w.bias, s, packed.get(), s.blocks(w.M) * i / threads, s.blocks(w.M) * (i + 1) / threads);
    });
    in_parallel(threads, [&](int64_t i) {
        const int64_t from = w.rows * i / threads, to = w.rows * (i + 1) / threads;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            float* y = stride == w.M ? w.y + begin * w.M : near.get() + i * s.NEAR * stride;
            linear_rows(w.x + begin * w.K, rows, s, packed.get(), y, stride);
            if (stride != w.M) copy_rows(y, stride, w.y + begin * w.M, rows, w.M);
        }
    });
    return OK;
}

static int linear_backward(const Linear& w, const LinearGradients& g) {
    const LinearShape s{w.rows, w.K, w.M};
    const int64_t threads = threads_for(w);
    const int64_t stride = s.blocks(w.K) * LANES;
    Scratch packed(packed_backward_size(s)), near(threads * (s.NEAR * stride + s.PIECE * LANES));
    if (!packed || !near) return NO_MEMORY;
    const auto own = [&](int64_t i) { return near.get() + i * (s.NEAR * stride + s.PIECE * LANES); };
    in_parallel(threads, [&](int64_t i) {
        pack_backward(w.weight, s, packed.get(), s.blocks(w.K) * i / threads, s.blocks(w.K) * (i + 1) / threads);
    });
    in_parallel(threads, [&](int64_t i) {
        const int64_t from = w.rows * i / threads, to = w.rows * (i + 1) / threads;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            float* dx = stride == w.K ? g.x + begin * w.K : own(i);
            linear_rows_back(g.y + begin * w.M, w.M, rows, s, packed.get(), dx);
            if (stride != w.K) copy_rows(dx, stride, g.x + begin * w.K, rows, w.K);
        }
    });
    in_parallel(threads, [&](int64_t i) {
        weight_gradient(g.y, w.M, w.x, s, s.blocks(w.M) * i / threads, s.blocks(w.M) * (i + 1) / threads, own(i),
                        g.weight, g.bias);
    });
    return OK;
}
