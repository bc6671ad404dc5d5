// Reading and writing text with a trained network, one character of every stream at a time.
//
// Streams are rows of the products, and a row's sums do not know of its neighbours: the text of a
// stream does not depend on those beside it. Matrices come packed by `NativeRNN` in sampling.py, in
// float32 or as bytes with a scale for every row; what they are multiplied with then becomes bytes
// too, with a scale for every stream, and the sums are whole numbers.

// out (N, vectors * LANES) = x (N, K) times a packed matrix, plus its bias; `scratch` takes N * in_bytes(K) floats.
struct Product {
    const Packed& m;
    int64_t K, vectors;  // of which there are whole panels

    static constexpr int64_t FEW = 4;  // streams below which reading the weights is most of the work
    static constexpr int WIDE = 4;     // panels side by side then, so that enough sums are under way

    static int64_t fours(int64_t K) { return (K + 3) / 4; }
    static int64_t in_bytes(int64_t K) { return fours(K) + 1; }  // floats: the scale of a row, then its bytes

    void operator()(const float* x, int64_t N, float* out, float* scratch) const {
        const int64_t stride = vectors * LANES;
        if (m.scale) {
            to_bytes(x, N, scratch);
            int64_t n = 0;
            for (; n + FEW <= N; n += FEW) rows_of_bytes<FEW>(scratch + n * in_bytes(K), out + n * stride);
            for (; n < N; ++n) rows_of_bytes<1>(scratch + n * in_bytes(K), out + n * stride);
        } else if (N < FEW) {
            for (int64_t n = 0; n < N; ++n) row(x + n * K, out + n * stride);
        } else {
            for (int64_t v = 0; v < vectors; v += PANEL) narrow(x, N, v, out);
        }
    }

    const float* panel(int64_t v) const { return static_cast<const float*>(m.panels) + v * K * LANES; }

    void narrow(const float* x, int64_t N, int64_t v, float* out) const {
        product(x, N, {K, LANES, 1, K}, panel(v), PANEL, m.bias + v * LANES, out + v * LANES, vectors * LANES);
    }

    void row(const float* x, float* out) const {
        int64_t v = 0;
        for (; v + WIDE * PANEL <= vectors; v += WIDE * PANEL) {
            Vec sum[WIDE][PANEL];
            for (int p = 0; p < WIDE; ++p)
                for (int c = 0; c < PANEL; ++c) sum[p][c] = load(m.bias + (v + p * PANEL + c) * LANES);
            const float* w = panel(v);
            for (int64_t k = 0; k < K; ++k, w += PANEL * LANES)
                for (int p = 0; p < WIDE; ++p)
                    for (int c = 0; c < PANEL; ++c) sum[p][c] += x[k] * load(w + (p * K * PANEL + c) * LANES);
            for (int p = 0; p < WIDE; ++p)
                for (int c = 0; c < PANEL; ++c) store(out + (v + p * PANEL + c) * LANES, sum[p][c]);
        }
        for (; v < vectors; v += PANEL) narrow(x, 1, v, out);
    }

    // Each x as a whole number from -127 to 127 times its stream's scale, with 128 added: the bytes of x have no sign.
    void to_bytes(const float* x, int64_t N, float* scratch) const {
        for (int64_t n = 0; n < N; ++n, x += K, scratch += in_bytes(K)) {
            float largest = 0;
            for (int64_t k = 0; k < K; ++k) largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
            const float inverse = largest > 0 ? 127 / largest : 0;
            scratch[0] = largest / 127;
            auto* bytes = reinterpret_cast<uint8_t*>(scratch + 1);
            memset(bytes, 128, 4 * fours(K));
            for (int64_t k = 0; k < K; ++k) bytes[k] = uint8_t(int32_t(x[k] * inverse + 128.5f));
        }
    }

    template <int R>
    void rows_of_bytes(const float* rows, float* out) const {
        int64_t v = 0;
        for (; R < FEW && v + WIDE * PANEL <= vectors; v += WIDE * PANEL) bytes<R, WIDE>(rows, v, out);
        for (; v < vectors; v += PANEL) bytes<R, 1>(rows, v, out);
    }

    // R rows by P panels, from vector v on. `offset` takes away what the added 128 have brought.
    template <int R, int P>
    void bytes(const float* rows, int64_t v, float* out) const {
        IntVec sum[R][P * PANEL];
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < P * PANEL; ++i) memcpy(&sum[r][i], m.offset + (v + i) * LANES, sizeof(IntVec));
        const int64_t num_fours = fours(K);
        const auto* w = static_cast<const int8_t*>(m.panels) + v * num_fours * LANES * 4;
        for (int64_t k = 0; k < num_fours; ++k, w += PANEL * LANES * 4)
            for (int p = 0; p < P; ++p)
                for (int c = 0; c < PANEL; ++c) {
                    const int8_t* here = w + (p * num_fours * PANEL + c) * LANES * 4;
                    for (int r = 0; r < R; ++r)
                        sum[r][p * PANEL + c] =
                            add_products(sum[r][p * PANEL + c], rows + r * in_bytes(K) + 1 + k, here);
                }
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < P * PANEL; ++i)
                store(out + (r * vectors + v + i) * LANES,
                      __builtin_convertvector(sum[r][i], Vec) *
                              (load(m.scale + (v + i) * LANES) * rows[r * in_bytes(K)]) +
                          load(m.bias + (v + i) * LANES));
    }
};

// Whole panels of vectors for so many rows of each of several gates.
static int64_t padded(int64_t num_gates, int64_t rows) {
    const int64_t vectors = num_gates * ((rows + LANES - 1) / LANES);
    return (vectors + PANEL - 1) / PANEL * PANEL;
}

// ------------------------------------------------------------------------------- one tick

// Streams `from` to `to` of num_streams, whose states are (L, 1 or 2, num_streams, H).
template <class Cell>
struct Streams {
    const Network& net;
    int64_t num_streams, from, to;
    float *states, *logits;  // (num_streams, V)
    static constexpr int G = Cell::gates;

    int64_t widest() const {
        const int64_t gates = padded(G, net.H), head = padded(1, net.V);
        return (gates > head ? gates : head) * LANES;
    }
    int64_t scratch_size() const { return (to - from) * (2 * widest() + net.H + Product::in_bytes(net.H)); }

    // Reads ids[(n - from) * stride] on stream n, and leaves the logits of what comes next.
    void tick(const int64_t* ids, int64_t stride, float* scratch) const {
        const int64_t N = to - from, H = net.H, vectors = padded(G, H), blocks = (H + LANES - 1) / LANES;
        float *sums = scratch, *inputs = sums + N * widest(), *below = inputs + N * widest(), *bytes = below + N * H;
        for (int64_t layer = 0; layer < net.L; ++layer) {
            float* h = states + ((layer * (Cell::has_c ? 2 : 1)) * num_streams + from) * H;
            float* c = h + num_streams * H;
            Product{net.hidden[layer], H, vectors}(h, N, sums, bytes);
            if (layer) Product{net.input[layer], H, vectors}(below, N, inputs, bytes);
            for (int64_t n = 0; n < N; ++n)
                for (int64_t j = 0; j < blocks; ++j) {
                    const int64_t at = n * H + j * LANES, valid = H - j * LANES < LANES ? H - j * LANES : LANES;
                    Vec x[G], hidden[G], kept[Cell::kept], h_here = load(h + at, valid), c_here{};
                    for (int g = 0; g < G; ++g) {
                        const int64_t vector = (n * vectors + g * blocks + j) * LANES;
                        hidden[g] = load(sums + vector);
                        x[g] = layer ? load(inputs + vector)
                                     : load(net.table + (ids[n * stride] * G + g) * H + j * LANES, valid);
                    }
                    if (Cell::has_c) c_here = load(c + at, valid);
                    Cell::step(x, hidden, h_here, c_here, kept);
                    store(h + at, h_here, valid);
                    if (Cell::has_c) store(c + at, c_here, valid);
                    store(below + at, layer && net.residual ? h_here + load(below + at, valid) : h_here, valid);
                }
        }
        const int64_t head = padded(1, net.V);
        Product{net.head, H, head}(below, N, sums, bytes);
        for (int64_t n = 0; n < N; ++n)
            memcpy(logits + (from + n) * net.V, sums + n * head * LANES, sizeof(float) * net.V);
    }
};

// ------------------------------------------------------------------------------- the choice

// Zeroes the weights that top-k, top-p and min-p leave out, each of what the one before left, and returns the
// sum of the others. Among equally likely ids the lower one is kept.
static double keep_likeliest(const Choosing& choice, int64_t V, double sum, float* weights, int64_t* order) {
    // A heap gives the likeliest one by one, so that a large vocabulary is not sorted for a few of it. Those that
    // it has given stand behind it, the first at the very end.
    int64_t size = V;
    const auto before = [&](int64_t a, int64_t b) {
        return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
    };
    const auto swap = [&](int64_t a, int64_t b) {
        const int64_t id = order[a];
        order[a] = order[b];
        order[b] = id;
    };
    const auto sink = [&](int64_t at) {
        for (int64_t child; (child = 2 * at + 1) < size; at = child) {
            if (child + 1 < size && before(order[child + 1], order[child])) ++child;
            if (!before(order[child], order[at])) return;
            swap(child, at);
        }
    };
    for (int64_t v = 0; v < V; ++v) order[v] = v;
    for (int64_t at = V / 2; at-- > 0;) sink(at);
    const auto likeliest = [&](int64_t rank) {
        while (V - size <= rank) {
            swap(0, --size);
            sink(0);
        }
        return weights[order[V - 1 - rank]];
    };

    const int64_t most = choice.top_k && choice.top_k < V ? choice.top_k : V;
    if (most < V) {
        sum = 0;
        for (int64_t rank = 0; rank < most; ++rank) sum += likeliest(rank);
    }
    const float least = float(choice.min_p) * likeliest(0);
    double held = likeliest(0);
    int64_t kept = 1;
    for (; kept < most && held < choice.top_p * sum && likeliest(kept) >= least; ++kept) held += likeliest(kept);
    for (int64_t i = 0; i < V - kept; ++i) weights[order[i]] = 0;
    return held;
}

// One id by inversion of the cumulative distribution at `uniform`, as `Choice.draw` of sampling.py does it;
// `weights` and `order` have room for V.
static int64_t draw(const Choosing& choice, float* logits, int64_t V, double uniform, float* weights, int64_t* order) {
    for (int64_t i = 0; i < choice.num_never; ++i) logits[choice.never[i]] = -INFINITY;
    int64_t best = 0;
    for (int64_t v = 1; v < V; ++v)
        if (logits[v] > logits[best]) best = v;
    if (choice.temperature == 0) return best;

    const Vec inverse = fill(float(1 / choice.temperature)), largest = fill(logits[best]);
    double sum = 0;
    for (int64_t v = 0; v < V; v += LANES) {
        const int64_t n = V - v < LANES ? V - v : LANES;
        const Vec scaled = (load(logits + v, n) - largest) * inverse;
        store(weights + v, scaled < fill(-80.0f) ? Vec{} : exp(scaled), n);
        for (int64_t e = 0; e < n; ++e) sum += weights[v + e];
    }
    if (choice.top_k || choice.top_p < 1 || choice.min_p > 0) sum = keep_likeliest(choice, V, sum, weights, order);

    const double target = uniform * sum;
    double cumulated = 0;
    int64_t last = best;  // the last one that is possible, should rounding leave the target above the sum
    for (int64_t v = 0; v < V; ++v) {
        if (weights[v] <= 0) continue;
        cumulated += weights[v];
        last = v;
        if (cumulated > target) break;
    }
    return last;
}

// ------------------------------------------------------------------------------- reading and writing

template <class F>
static int with_streams(const Network& net, int64_t num_streams, float* states, float* logits, int64_t threads, F f) {
    if (threads > num_streams) threads = num_streams;
    return with_cell(net.cell, [&](auto c) {
        Scratch scratch(Streams<decltype(c)>{net, num_streams, 0, num_streams, states, logits}.scratch_size());
        if (!scratch) return int(NO_MEMORY);
        in_parallel(threads, [&](int64_t i) {
            const int64_t from = num_streams * i / threads, to = num_streams * (i + 1) / threads;
            const Streams<decltype(c)> streams{net, num_streams, from, to, states, logits};
            f(streams, scratch.get() + from * (streams.scratch_size() / (to - from)), i);
        });
        return int(OK);
    });
}

// Reads n ids (N, n) on each of N streams.
static int read_text(const Network& net, int64_t N, int64_t n, const int64_t* ids, float* states, float* logits,
                     int64_t threads) {
    for (int64_t i = 0; i < N * n; ++i)
        if (uint64_t(ids[i]) >= uint64_t(net.V)) return BAD_ID;
    return with_streams(net, N, states, logits, threads, [&](const auto& streams, float* scratch, int64_t) {
        for (int64_t i = 0; i < n; ++i) streams.tick(ids + streams.from * n + i, n, scratch);
    });
}

// Writes n ids (N, n) on each of N streams, each chosen at its own of `uniforms` (N, n) and read at once.
static int write_text(const Network& net, const Choosing& choice, int64_t N, int64_t n, const double* uniforms,
                      int64_t* ids, float* states, float* logits, int64_t threads) {
    Scratch memory(3 * net.V * threads);  // for each thread an order, of twice the size of the weights behind them
    if (!memory) return NO_MEMORY;
    return with_streams(net, N, states, logits, threads, [&](const auto& streams, float* scratch, int64_t thread) {
        int64_t* order = reinterpret_cast<int64_t*>(memory.get()) + net.V * thread;
        float* weights = memory.get() + net.V * (2 * threads + thread);
        for (int64_t i = 0; i < n; ++i) {
            for (int64_t s = streams.from; s < streams.to; ++s)
                ids[s * n + i] = draw(choice, logits + s * net.V, net.V, uniforms[s * n + i], weights, order);
            streams.tick(ids + streams.from * n + i, n, scratch);
        }
    });
}
