// The head and its cross-entropy over a window: logits never leave the cache they were computed in.
//
// Rows are the T*B places of a window, time-major. Going forward, a row's logits become its
// probabilities p in place; going back, d logits = (p - [the target]) times the gradient of the sum.

struct HeadShape {
    int64_t rows, H, V;
    static constexpr int64_t PIECE = 256;  // rows whose part of a gradient a cache holds

    int64_t blocks() const { return (V + LANES - 1) / LANES; }
    int64_t columns() const { return (H + LANES - 1) / LANES; }
    // An odd number of vectors, so that rows do not compete for the same cache sets.
    int64_t stride() const { return (blocks() | 1) * LANES; }
    int64_t in_block(int64_t v) const { return V - v * LANES < LANES ? V - v * LANES : LANES; }
    int64_t in_column(int64_t j) const { return H - j * LANES < LANES ? H - j * LANES : LANES; }
};

static int64_t head_size(int64_t rows, int64_t H, int64_t V) { return HeadShape{rows, H, V}.stride() * rows; }

// Panels of the transposed matrix (V, H): vectors of V side by side, over all of H. Bias behind them.
static void pack_head(const Head& w, HeadShape s, float* packed, float* bias, int64_t from, int64_t to) {
    for (int64_t v = from; v < to; ++v) {
        const int64_t panel = v / PANEL * PANEL, C = s.blocks() - panel < PANEL ? s.blocks() - panel : PANEL;
        float* out = packed + (panel * s.H + (v - panel)) * LANES;
        for (int64_t k = 0; k < s.H; k += LANES) {
            Vec square[LANES] = {};
            for (int64_t e = 0; e < s.in_block(v); ++e)
                square[e] = load(w.weight + (v * LANES + e) * s.H + k, s.in_column(k / LANES));
            transpose(square);
            for (int64_t i = 0; i < s.in_column(k / LANES); ++i) store(out + (k + i) * C * LANES, square[i]);
        }
        store(bias + v * LANES, load(w.bias + v * LANES, s.in_block(v)));
    }
}

// Panels of the matrix itself: vectors of H side by side, over all of V.
static void pack_head_back(const Head& w, HeadShape s, float* packed, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; ++j) {
        const int64_t panel = j / PANEL * PANEL, C = s.columns() - panel < PANEL ? s.columns() - panel : PANEL;
        float* out = packed + (panel * s.V + (j - panel)) * LANES;
        for (int64_t v = 0; v < s.V; ++v)
            store(out + v * C * LANES, load(w.weight + v * s.H + j * LANES, s.in_column(j)));
    }
}

// Logits of a row become probabilities. Returns -ln p of the target.
static float normalize(float* p, const HeadShape& s, int64_t target, bool counts) {
    Vec largest = fill(-INFINITY);
    for (int64_t v = 0; v < s.blocks(); ++v) {
        Vec x = load(p + v * LANES);
        for (int64_t e = s.in_block(v); e < LANES; ++e) x[e] = -INFINITY;
        largest = x > largest ? x : largest;
    }
    float most = largest[0];
    for (int e = 1; e < LANES; ++e) most = largest[e] > most ? largest[e] : most;
    const float logit = counts ? p[target] - most : 0;
    Vec sums = {};
    for (int64_t v = 0; v < s.blocks(); ++v) {
        Vec weight = exp(load(p + v * LANES) - most);
        for (int64_t e = s.in_block(v); e < LANES; ++e) weight[e] = 0;
        store(p + v * LANES, weight);
        sums += weight;
    }
    float sum = 0;
    for (int e = 0; e < LANES; ++e) sum += sums[e];
    for (int64_t v = 0; v < s.blocks(); ++v) store(p + v * LANES, load(p + v * LANES) * (1.0f / sum));
    return counts ? logf(sum) - logit : 0;
}

static int head_forward(const Head& w) {
    const HeadShape s{w.rows, w.H, w.V};
    for (int64_t r = 0; r < w.rows; ++r)
        if (w.targets[r] != w.ignored && uint64_t(w.targets[r]) >= uint64_t(w.V)) return BAD_ID;
    Scratch packed(s.blocks() * (w.H + 1) * LANES);
    if (!packed) return NO_MEMORY;
    float* bias = packed.get() + s.blocks() * w.H * LANES;
    in_parallel(w.threads, [&](int64_t i) {
        pack_head(w, s, packed.get(), bias, s.blocks() * i / w.threads, s.blocks() * (i + 1) / w.threads);
    });
    in_parallel(w.threads, [&](int64_t i) {
        const int64_t from = w.rows * i / w.threads, to = w.rows * (i + 1) / w.threads;
        for (int64_t r = from; r < to && w.mask; ++r)
            for (int64_t j = 0; j < s.columns(); ++j) {
                const int64_t at = r * w.H + j * LANES, lane = r % w.B * w.H + j * LANES, n = s.in_column(j);
                store(w.masked + at, load(w.outputs + at, n) * load(w.mask + lane, n), n);
            }
        const float* x = w.mask ? w.masked : w.outputs;
        for (int64_t begin = from; begin < to; begin += 4 * ROWS) {  // so many rows stay near for their softmax
            const int64_t rows = to - begin < 4 * ROWS ? to - begin : 4 * ROWS;
            for (int64_t v = 0; v < s.blocks(); v += PANEL)
                product(x + begin * w.H, rows, {w.H, LANES, 1, w.H}, packed.get() + v * w.H * LANES,
                        s.blocks() - v < PANEL ? s.blocks() - v : PANEL, bias + v * LANES,
                        w.p + begin * s.stride() + v * LANES, s.stride());
            for (int64_t r = begin; r < begin + rows; ++r)
                w.nats[r] = normalize(w.p + r * s.stride(), s, w.targets[r], w.targets[r] != w.ignored);
        }
    });
    return OK;
}

// R rows of the weights' gradient, C vectors wide, over a piece of the window.
template <int R, int C>
static void head_outer(const Head& w, HeadShape s, int64_t begin, int64_t end, int64_t row, int64_t column, float* grad) {
    const float* x = (w.mask ? w.masked : w.outputs) + column * LANES;
    const int64_t rows = w.V - row < R ? w.V - row : R, n = w.H - column * LANES;
    float* out = grad + row * w.H + column * LANES;
    Vec sum[R][C] = {};
    if (begin)
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < C; ++c) sum[r][c] = load(out + r * w.H + c * LANES, n - c * LANES);
    for (int64_t place = begin; place < end; ++place) {
        const float* d = w.p + place * s.stride() + row;
        Vec v[C];
        for (int c = 0; c < C; ++c) v[c] = n >= C * LANES ? load(x + place * w.H + c * LANES) : load(x + place * w.H + c * LANES, n - c * LANES);
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) sum[r][c] += d[r] * v[c];
    }
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < C; ++c) store(out + r * w.H + c * LANES, sum[r][c], n - c * LANES);
}

static int head_backward(const Head& w, const HeadGradients& g) {
    const HeadShape s{w.rows, w.H, w.V};
    Scratch packed(s.columns() * w.V * LANES), near(w.threads * 4 * ROWS * s.columns() * LANES);
    if (!packed || !near) return NO_MEMORY;
    in_parallel(w.threads, [&](int64_t i) {
        pack_head_back(w, s, packed.get(), s.columns() * i / w.threads, s.columns() * (i + 1) / w.threads);
    });
    in_parallel(w.threads, [&](int64_t i) {
        const int64_t from = w.rows * i / w.threads, to = w.rows * (i + 1) / w.threads;
        float* dx = near.get() + i * 4 * ROWS * s.columns() * LANES;
        for (int64_t begin = from; begin < to; begin += 4 * ROWS) {
            const int64_t rows = to - begin < 4 * ROWS ? to - begin : 4 * ROWS;
            for (int64_t r = begin; r < begin + rows; ++r) {
                float* p = w.p + r * s.stride();
                const bool counts = w.targets[r] != w.ignored;
                if (counts) p[w.targets[r]] -= 1.0f;
                for (int64_t v = 0; v < s.blocks(); ++v)
                    store(p + v * LANES, counts ? load(p + v * LANES) * g.nats : Vec{});
            }
            for (int64_t j = 0; j < s.columns(); j += PANEL)
                product(w.p + begin * s.stride(), rows, {s.stride(), LANES, 1, w.V}, packed.get() + j * w.V * LANES,
                        s.columns() - j < PANEL ? s.columns() - j : PANEL, nullptr, dx + j * LANES,
                        s.columns() * LANES);
            for (int64_t r = begin; r < begin + rows; ++r)
                for (int64_t j = 0; j < s.columns(); ++j) {
                    const int64_t n = s.in_column(j);
                    Vec d = load(dx + ((r - begin) * s.columns() + j) * LANES);
                    if (w.mask) d *= load(w.mask + r % w.B * w.H + j * LANES, n);
                    store(g.outputs + r * w.H + j * LANES, d, n);
                }
        }
    });
    in_parallel(w.threads, [&](int64_t i) {
        const int64_t blocks = (w.V + GRADIENT_ROWS - 1) / GRADIENT_ROWS;
        for (int64_t begin = 0; begin < w.rows; begin += s.PIECE) {
            const int64_t end = begin + s.PIECE < w.rows ? begin + s.PIECE : w.rows;
            for (int64_t block = blocks * i / w.threads; block < blocks * (i + 1) / w.threads; ++block) {
                const int64_t row = block * GRADIENT_ROWS;
                if (row % LANES == 0) {
                    const int64_t n = s.in_block(row / LANES);
                    Vec sum = begin ? load(g.bias + row, n) : Vec{};
                    for (int64_t place = begin; place < end; ++place) sum += load(w.p + place * s.stride() + row);
                    store(g.bias + row, sum, n);
                }
                for (int64_t column = 0; column < s.columns(); column += GRADIENT_PANEL)
                    with_vectors<GRADIENT_PANEL>(
                        s.columns() - column < GRADIENT_PANEL ? s.columns() - column : GRADIENT_PANEL, [&](auto C) {
                            head_outer<GRADIENT_ROWS, C.value>(w, s, begin, end, row, column, g.weight);
                        });
            }
        }
    });
    return OK;
}
