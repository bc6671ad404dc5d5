// Vectors of LANES floats, and the functions that gates need: exp, sigmoid, tanh.
//
// Written in the vector extensions that gcc and clang share, so that one text serves AVX-512, AVX2,
// NEON and anything else; the file that includes it says how wide a vector is. NaN stays NaN.
// The polynomials are Taylor's, to the order that float32 can see on [-ln 2 / 2, ln 2 / 2].

using Vec = float __attribute__((vector_size(4 * LANES)));
using IntVec = int32_t __attribute__((vector_size(4 * LANES)));

// A vector of those numbers of two, counted through both.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, IntVec{__VA_ARGS__})
#endif

static inline Vec load(const float* p) {
    Vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }

// The first n floats, zeros behind them: for widths that are no multiple of LANES.
static inline Vec load(const float* p, int64_t n) {
    if (n >= LANES) return load(p);
    Vec v = {};
    for (int64_t e = 0; e < n; ++e) v[e] = p[e];
    return v;
}

static inline void store(float* p, Vec v, int64_t n) {
    if (n >= LANES) return store(p, v);
    for (int64_t e = 0; e < n; ++e) p[e] = v[e];
}

// How much of a vector there is, known when compiled where it is all of it: loops over whole vectors have no branches.
template <int64_t N>
struct Exactly {
    static constexpr int64_t n = N;
};
using Whole = Exactly<LANES>;
struct Part {
    int64_t n;
};

static inline Vec fill(float x) { return Vec{} + x; }

// e^x = 2^n e^r with n the whole number nearest to x / ln 2. Returns e^r - 1 and 2^n; x must not leave [-80, 89].
static inline Vec split_exp(Vec x, Vec& power) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, kept in the low bits
    Vec shifted = x * 1.44269504f + shift;
    Vec n = shifted - shift;
    Vec r = x - n * 0.693145752f;  // ln 2 in two parts, so that n ln 2 loses nothing
    r = r - n * 1.42860677e-6f;
    power = (Vec)(((IntVec)shifted + 127) << 23);
    Vec p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    return p * r * r + r;
}

// Comparisons with NaN are false, so NaN passes through the bounds. At the upper one 2^n is infinity.
static inline Vec exp(Vec x) {
    x = x < fill(-80.0f) ? fill(-80.0f) : x;
    x = x > fill(89.0f) ? fill(89.0f) : x;
    Vec power, small = split_exp(x, power);
    return (1.0f + small) * power;
}

static inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// tanh |x| = -d / (2 + d) with d = e^(-2|x|) - 1, which is exact to the last bits near zero too.
static inline Vec tanh(Vec x) {
    const IntVec sign = (IntVec)x & INT32_MIN;
    Vec y = -2.0f * (Vec)((IntVec)x & INT32_MAX);
    y = y < fill(-80.0f) ? fill(-80.0f) : y;
    Vec power, small = split_exp(y, power);
    Vec d = small * power + (power - 1.0f);
    return (Vec)((IntVec)(-d / (2.0f + d)) | sign);
}

// To each lane of `sum`, the products of the four bytes at `x`, without a sign, with its four bytes of `w`.
#ifndef ADD_PRODUCTS
static inline IntVec add_products(IntVec sum, const float* x, const int8_t* w) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(x);
    IntVec fours;
    memcpy(&fours, w, sizeof fours);
    for (int i = 0; i < 4; ++i)
        sum += int32_t(bytes[i]) * ((fours << (24 - 8 * i)) >> 24);  // each lane's byte i, with its sign
    return sum;
}
#else
static inline IntVec add_products(IntVec sum, const float* x, const int8_t* w) { return ADD_PRODUCTS(sum, x, w); }
#endif
