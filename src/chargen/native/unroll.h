// The loop over time, forward and back, of one layer over one window.
//
// Lanes are independent: a thread takes its own through all T ticks and meets the others only at the
// end. The recurrent weights are packed once per window and read on every tick; the gates' pointwise
// half follows each group of panels while their sums are still in the nearest cache.
//
// What the derivative needs lies tick by tick: T times (kept vectors of every block, B lanes, LANES), a
// little apart so that ticks do not compete for the same cache sets, and for c likewise, T + 1 times.
// The derivative overwrites it with the gradients of the gates.

struct Shape {
    int64_t T, B, H;
    int64_t blocks() const { return (H + LANES - 1) / LANES; }
    int64_t tick(int64_t vectors) const { return (vectors * blocks() * B + 17) * LANES; }
    int64_t in_block(int64_t j) const { return H - j * LANES < LANES ? H - j * LANES : LANES; }
};

// Groups of PANEL blocks of units: their gates are PANEL times as many vectors as a cell has gates.
static int64_t blocks_in_group(const Shape& s, int64_t j) { return s.blocks() - j < PANEL ? s.blocks() - j : PANEL; }

template <class Cell>
struct Unroll {
    Shape s;
    bool keep;  // for a derivative; without one, two ticks' worth of memory is enough
    const int64_t* ids;
    const float *gates_x, *weight, *h0, *c0;
    float *outputs, *saved;
    static constexpr int G = Cell::gates;

    float* kept(int64_t t) const { return saved + (keep ? t : 0) * s.tick(Cell::kept); }
    float* cells(int64_t t) const {
        return saved + (keep ? s.T : 1) * s.tick(Cell::kept) + (keep ? t : t & 1) * s.tick(1);
    }
    const float* before(int64_t t) const { return t ? outputs + (t - 1) * s.B * s.H : h0; }
    const float* row(int64_t t, int64_t b) const {
        const int64_t place = t * s.B + b;
        return gates_x + (ids ? ids[place] : place) * G * s.H;
    }
    static int64_t saved_size(Shape s, bool keep) {
        return (keep ? s.T : 1) * s.tick(Cell::kept) + (Cell::has_c ? (keep ? s.T + 1 : 2) * s.tick(1) : 0);
    }

    // ---------------------------------------------------------------------------- forward

    // Panels of the product U h: by group of units, for each the vectors (unit block, gate), as `forward` reads them.
    void pack_forward(float* packed, float* bias, const float* bias_hh, int64_t from_block, int64_t to_block) const {
        for (int64_t j = from_block; j < to_block; ++j)
            for (int g = 0; g < G; ++g) {
                const int64_t group = j / PANEL * PANEL, vectors = blocks_in_group(s, group) * G;
                const int64_t place = (j - group) * G + g, panel = place / PANEL * PANEL;
                const int64_t C = vectors - panel < PANEL ? vectors - panel : PANEL;
                float* out = packed + (group * G + panel) * s.H * LANES + (place - panel) * LANES;
                const int64_t n = s.in_block(j);
                put_transposed(weight + (g * s.H + j * LANES) * s.H, n, s.H, out, C * LANES);
                store(bias + (group * G + place) * LANES, load(bias_hh + g * s.H + j * LANES, n));
            }
    }

    void forward(const float* packed, const float* bias, float* sums, int64_t from, int64_t to, float* cn) const {
        if (Cell::has_c)
            for (int64_t j = 0; j < s.blocks(); ++j)
                for (int64_t b = from; b < to; ++b)
                    store(cells(0) + (j * s.B + b) * LANES, load(c0 + b * s.H + j * LANES, s.in_block(j)));
        const Left left{s.H, LANES, 1, s.H};
        for (int64_t t = 0; t < s.T; ++t)
            for (int64_t group = 0; group < s.blocks(); group += PANEL) {
                const int64_t vectors = blocks_in_group(s, group) * G;
                expect(t, group, vectors / G, from, to);
                for (int64_t p = 0; p < vectors; p += PANEL) {
                    const int64_t at = group * G + p;
                    product(before(t) + from * s.H, to - from, left, packed + at * s.H * LANES,
                            vectors - p < PANEL ? vectors - p : PANEL, bias + at * LANES, sums + p * LANES,
                            vectors * LANES);
                }
                for (int64_t j = group; j < group + vectors / G; ++j)
                    with_block(j, [&](auto size) {
                        steps(t, j, size, from, to, sums + (j - group) * G * LANES, vectors * LANES);
                    });
            }
        if (Cell::has_c)
            for (int64_t j = 0; j < s.blocks(); ++j)
                for (int64_t b = from; b < to; ++b)
                    store(cn + b * s.H + j * LANES, load(cells(s.T) + (j * s.B + b) * LANES), s.in_block(j));
    }

    // Asks for the memory of a group's ticks while the product before them is computed.
    void expect(int64_t t, int64_t group, int64_t num_blocks, int64_t from, int64_t to) const {
        for (int i = 0; i < Cell::kept; ++i)
            for (int64_t j = group; j < group + num_blocks; ++j)
                for (int64_t b = from; b < to; ++b)
                    __builtin_prefetch(kept(t) + ((i * s.blocks() + j) * s.B + b) * LANES, 1);
    }

    // Calls f with how much of block j there is.
    template <class F>
    void with_block(int64_t j, F f) const {
        if (s.in_block(j) == LANES)
            f(Whole());
        else
            f(Part{s.in_block(j)});
    }

    // The pointwise half of tick t for block j of each lane, whose sums stand `stride` apart.
    template <class Size>
    void steps(int64_t t, int64_t j, Size size, int64_t from, int64_t to, const float* sums, int64_t stride) const {
        const float *h_before = before(t) + j * LANES, *c_before = cells(t) + j * s.B * LANES;
        float *h_after = outputs + t * s.B * s.H + j * LANES, *c_after = cells(t + 1) + j * s.B * LANES;
        float* keep_here = kept(t) + j * s.B * LANES;
        const int64_t apart = s.blocks() * s.B * LANES;
        for (int64_t b = from; b < to; ++b, sums += stride) {
            const float* x_here = row(t, b) + j * LANES;
            Vec x[G], hidden[G], k[Cell::kept], h = load(h_before + b * s.H, size.n), c{};
            for (int g = 0; g < G; ++g) {
                x[g] = load(x_here + g * s.H, size.n);
                hidden[g] = load(sums + g * LANES);
            }
            if (Cell::has_c) c = load(c_before + b * LANES);
            Cell::step(x, hidden, h, c, k);
            store(h_after + b * s.H, h, size.n);
            if (Cell::has_c) store(c_after + b * LANES, c);
            for (int i = 0; i < Cell::kept; ++i) store(keep_here + i * apart + b * LANES, k[i]);
        }
    }

    // ---------------------------------------------------------------------------- back through time

    // Panels of the product d gates U: vectors of H, PANEL side by side, over all rows of U.
    void pack_backward(float* packed, int64_t from_block, int64_t to_block) const {
        for (int64_t j = from_block; j < to_block; ++j) {
            const int64_t group = j / PANEL * PANEL, C = blocks_in_group(s, group);
            float* out = packed + group * G * s.H * LANES + (j - group) * LANES;
            for (int64_t k = 0; k < G * s.H; ++k)
                store(out + k * C * LANES, load(weight + k * s.H + j * LANES, s.in_block(j)));
        }
    }

    void backward(const float* packed, float* work, int64_t from, int64_t to, const float* grad_outputs,
                  const float* grad_hn, const float* grad_cn, float* grad_h0, float* grad_c0) const {
        const int64_t lanes = to - from, state = s.blocks() * lanes * LANES;
        float *dh = work, *dc = work + state, *sums = work + 2 * state;
        for (int64_t j = 0; j < s.blocks(); ++j)
            for (int64_t b = 0; b < lanes; ++b) {
                const int64_t at = (j * lanes + b) * LANES, there = (from + b) * s.H + j * LANES;
                store(dh + at, grad_hn ? load(grad_hn + there, s.in_block(j)) : Vec{});
                store(dc + at, grad_cn ? load(grad_cn + there, s.in_block(j)) : Vec{});
            }
        const Left left{LANES, s.B * LANES, G, s.H};
        for (int64_t t = s.T - 1; t >= -1; --t)
            for (int64_t group = 0; group < s.blocks(); group += PANEL) {
                const int64_t vectors = blocks_in_group(s, group);
                if (t >= 0) expect(t, group, vectors, from, to);
                if (t < s.T - 1)  // what comes back through the recurrent weights from the tick after
                    product(kept(t + 1) + (Cell::hidden * s.blocks() * s.B + from) * LANES, lanes, left,
                            packed + group * G * s.H * LANES, vectors, nullptr, sums, vectors * LANES);
                for (int64_t j = group; j < group + vectors; ++j)
                    with_block(j, [&](auto size) {
                        const float* through = t < s.T - 1 ? sums + (j - group) * LANES : nullptr;
                        float *dh_here = dh + j * lanes * LANES, *dc_here = dc + j * lanes * LANES;
                        if (t >= 0)
                            steps_backward(t, j, size, from, to, through, vectors * LANES, grad_outputs, dh_here,
                                           dc_here);
                        else
                            first_state(j, size, from, to, through, vectors * LANES, dh_here, dc_here, grad_h0,
                                        grad_c0);
                    });
            }
    }

    // The pointwise half of tick t, backward, for block j of each lane. `through`: what comes back through the
    // recurrent weights, `stride` apart; null at the end of the window. dh and dc: what comes back directly.
    template <class Size>
    void steps_backward(int64_t t, int64_t j, Size size, int64_t from, int64_t to, const float* through, int64_t stride,
                        const float* grad_outputs, float* dh, float* dc) const {
        const int64_t apart = s.blocks() * s.B * LANES;
        for (int64_t b = from; b < to; ++b, dh += LANES, dc += LANES) {
            const int64_t at = (j * s.B + b) * LANES, there = b * s.H + j * LANES, now = t * s.B * s.H + there;
            Vec grad = load(dh), grad_c{}, c_before{}, c{}, k[Cell::kept];
            if (through) grad += load(through + (b - from) * stride);
            if (grad_outputs) grad += load(grad_outputs + now, size.n);
            for (int i = 0; i < Cell::kept; ++i) k[i] = load(kept(t) + i * apart + at);
            if (Cell::has_c) c_before = load(cells(t) + at), c = load(cells(t + 1) + at), grad_c = load(dc);
            Cell::step_backward(k, load(before(t) + there, size.n), load(outputs + now, size.n), c_before, c, grad,
                                grad_c);
            for (int i = 0; i < Cell::kept; ++i) store(kept(t) + i * apart + at, k[i]);
            store(dh, grad);
            if (Cell::has_c) store(dc, grad_c);
        }
    }

    template <class Size>
    void first_state(int64_t j, Size size, int64_t from, int64_t to, const float* through, int64_t stride,
                     const float* dh, const float* dc, float* grad_h0, float* grad_c0) const {
        for (int64_t b = from; b < to; ++b, dh += LANES, dc += LANES) {
            store(grad_h0 + b * s.H + j * LANES, load(dh) + load(through + (b - from) * stride), size.n);
            if (Cell::has_c) store(grad_c0 + b * s.H + j * LANES, load(dc), size.n);
        }
    }

    // ---------------------------------------------------------------------------- gradients of the weights

    // Gate by gate and block by block, from item `from` to `to` of G * blocks: the rows of dU, db, and the gradient
    // of gates_x, summed into the rows of a table where there are ids. Ticks come in pieces that a cache holds.
    void gradients(int64_t from, int64_t to, int64_t num_rows, float* rows, float* grad_weight, float* grad_bias,
                   float* grad_x) const {
        const int64_t ticks = s.B < 256 ? 256 / s.B : 1;
        memset(rows, 0, sizeof(float) * (to - from) * (ids ? num_rows : 0) * LANES);
        for (int64_t begin = 0; begin < s.T; begin += ticks) {
            const int64_t end = begin + ticks < s.T ? begin + ticks : s.T;
            for (int64_t item = from; item < to; ++item) {
                const int64_t g = item / s.blocks(), j = item % s.blocks();
                sum_inputs(begin, end, g, j, rows + (item - from) * num_rows * LANES, grad_bias, grad_x);
                for (int64_t row = 0; row < s.in_block(j); row += GRADIENT_ROWS)
                    for (int64_t column = 0; column < s.blocks(); column += GRADIENT_PANEL)
                        with_vectors<GRADIENT_PANEL>(
                            s.blocks() - column < GRADIENT_PANEL ? s.blocks() - column : GRADIENT_PANEL,
                            [&](auto C) { outer<C.value>(begin, end, g, j, row, column, grad_weight); });
            }
        }
        if (ids)
            for (int64_t item = from; item < to; ++item) {
                const int64_t g = item / s.blocks(), j = item % s.blocks();
                for (int64_t r = 0; r < num_rows; ++r)
                    store(grad_x + r * G * s.H + g * s.H + j * LANES,
                          load(rows + ((item - from) * num_rows + r) * LANES), s.in_block(j));
            }
    }

    void sum_inputs(int64_t begin, int64_t end, int64_t g, int64_t j, float* rows, float* grad_bias,
                    float* grad_x) const {
        const int64_t n = s.in_block(j);
        float* bias = grad_bias + g * s.H + j * LANES;
        Vec sum = begin ? load(bias, n) : Vec{};
        for (int64_t t = begin; t < end; ++t) {
            const float* hidden = kept(t) + ((Cell::hidden + g) * s.blocks() + j) * s.B * LANES;
            const float* input = kept(t) + (Cell::input(g) * s.blocks() + j) * s.B * LANES;
            for (int64_t b = 0; b < s.B; ++b) {
                sum += load(hidden + b * LANES);
                const int64_t place = t * s.B + b;
                if (ids) {
                    float* r = rows + ids[place] * LANES;
                    store(r, load(r) + load(input + b * LANES));
                } else {
                    store(grad_x + (place * G + g) * s.H + j * LANES, load(input + b * LANES), n);
                }
            }
        }
        store(bias, sum, n);
    }

    // GRADIENT_ROWS rows of dU, C vectors wide: += sum over ticks and lanes of d gates times h before.
    template <int C>
    void outer(int64_t begin, int64_t end, int64_t g, int64_t j, int64_t row, int64_t column,
               float* grad_weight) const {
        constexpr int R = GRADIENT_ROWS;
        const int64_t rows = s.in_block(j) - row < R ? s.in_block(j) - row : R, n = s.H - column * LANES;
        float* out = grad_weight + (g * s.H + j * LANES + row) * s.H + column * LANES;
        Vec sum[R][C] = {};
        if (begin)
            for (int r = 0; r < rows; ++r)
                for (int c = 0; c < C; ++c) sum[r][c] = load(out + r * s.H + c * LANES, n - c * LANES);
        if (begin)  // and asks for the sums of the tile to the right, which have left the cache since the piece before
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) __builtin_prefetch(out + r * s.H + (C + c) * LANES, 1);
        const auto add = [&](auto size) {
            for (int64_t t = begin; t < end; ++t) {
                const float* d = kept(t) + ((Cell::hidden + g) * s.blocks() + j) * s.B * LANES + row;
                const float* h = before(t) + column * LANES;
                for (int64_t b = 0; b < s.B; ++b, d += LANES, h += s.H) {
                    Vec w[C];
                    for (int c = 0; c < C; ++c) w[c] = load(h + c * LANES, size.n - c * LANES);
                    for (int r = 0; r < R; ++r)
                        for (int c = 0; c < C; ++c) sum[r][c] += d[r] * w[c];
                }
            }
        };
        if (n >= C * LANES)
            add(Exactly<C * LANES>());
        else
            add(Part{n});
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < C; ++c) store(out + r * s.H + c * LANES, sum[r][c], n - c * LANES);
    }
};
