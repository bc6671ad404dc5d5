// `Unroll` for whichever cell, with its lanes shared out over threads.

template <class F>
static auto with_cell(int64_t cell, F f) {
    return cell == 0 ? f(Rnn()) : cell == 1 ? f(Lstm()) : f(Gru());
}

static int64_t saved_size(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep) {
    return with_cell(cell, [&](auto c) { return Unroll<decltype(c)>::saved_size({T, B, H}, keep); });
}

template <class Cell>
static Unroll<Cell> unroll_of(const Window& w) {
    return {{w.T, w.B, w.H}, w.keep != 0, w.ids, w.gates_x, w.weight_hh, w.h0, w.c0, w.outputs, w.saved};
}

static bool ids_are_rows(const Window& w) {
    uint64_t largest = 0;
    for (int64_t i = 0; w.ids && i < w.T * w.B; ++i)
        largest = uint64_t(w.ids[i]) > largest ? uint64_t(w.ids[i]) : largest;
    return !w.ids || largest < uint64_t(w.num_rows);
}

static int forward(const Window& w) {
    if (!ids_are_rows(w)) return BAD_ID;
    return with_cell(w.cell, [&](auto c) {
        using Cell = decltype(c);
        const auto unroll = unroll_of<Cell>(w);
        const int64_t vectors = unroll.s.blocks() * Cell::gates, group = PANEL * Cell::gates;
        Scratch packed(vectors * (w.H + 1) * LANES), sums(w.B * group * LANES);
        if (!packed || !sums) return int(NO_MEMORY);
        float* bias = packed.get() + vectors * w.H * LANES;
        in_parallel(w.threads, [&](int64_t i) {
            unroll.pack_forward(packed.get(), bias, w.bias_hh, unroll.s.blocks() * i / w.threads,
                                unroll.s.blocks() * (i + 1) / w.threads);
        });
        in_parallel(w.threads, [&](int64_t i) {
            const int64_t from = w.B * i / w.threads, to = w.B * (i + 1) / w.threads;
            unroll.forward(packed.get(), bias, sums.get() + from * group * LANES, from, to, w.cn);
        });
        return int(OK);
    });
}

static int backward(const Window& w, const Gradients& g) {
    return with_cell(w.cell, [&](auto c) {
        using Cell = decltype(c);
        const auto unroll = unroll_of<Cell>(w);
        const int64_t blocks = unroll.s.blocks(), items = blocks * Cell::gates;
        const int64_t a_lane = (2 * blocks + PANEL) * LANES, an_item = w.ids ? w.num_rows * LANES : 0;
        Scratch packed(items * w.H * LANES), work(w.B * a_lane), rows(items * an_item);
        if (!packed || !work || !rows) return int(NO_MEMORY);
        in_parallel(w.threads, [&](int64_t i) {
            unroll.pack_backward(packed.get(), blocks * i / w.threads, blocks * (i + 1) / w.threads);
        });
        in_parallel(w.threads, [&](int64_t i) {
            const int64_t from = w.B * i / w.threads, to = w.B * (i + 1) / w.threads;
            unroll.backward(packed.get(), work.get() + from * a_lane, from, to, g.outputs, g.hn, g.cn, g.h0, g.c0);
        });
        in_parallel(w.threads, [&](int64_t i) {
            const int64_t from = items * i / w.threads, to = items * (i + 1) / w.threads;
            unroll.gradients(from, to, w.num_rows, rows.get() + from * an_item, g.weight_hh, g.bias_hh, g.gates_x);
        });
        return int(OK);
    });
}
