// Code points of a text in UTF-8: decoding, counting, and looking up their ids in a table.
//
// Code points take 1 or 4 bytes each, ids 1, 2 or 4 bytes. The Python definitions are in corpus/code_points.py.

#include "kernels.h"

// ------------------------------------------------------------------------------- UTF-8

namespace {
// The length in bytes of a character, and the range of its second byte. The range excludes overlong forms, surrogates
// and code points beyond U+10FFFF (The Unicode Standard, table 3-7).
struct Form {
    int64_t length;
    uint32_t low, high;
};

// Return the form of a character that begins with the byte `first`; length 0 if none does.
Form form_of(uint32_t first) {
    if (first < 0xC2 || first > 0xF4) return {0, 0, 0};
    if (first < 0xE0) return {2, 0x80, 0xBF};
    if (first < 0xF0) return {3, first == 0xE0 ? 0xA0u : 0x80u, first == 0xED ? 0x9Fu : 0xBFu};
    return {4, first == 0xF0 ? 0x90u : 0x80u, first == 0xF4 ? 0x8Fu : 0xBFu};
}
}  // namespace

// Decode n bytes of UTF-8 into at most n code points. A character that is cut off at the end is not read. Return the
// number of code points, and in num_read the number of bytes read. Return -1 if the text is not UTF-8.
EXPORT int64_t chargen_decode(const uint8_t* text, int64_t n, uint32_t* numbers, int64_t* num_read) {
    const uint32_t* const begin = numbers;
    int64_t i = 0;
    while (i < n) {
        if (text[i] < 0x80) {
            uint64_t eight;
            for (; i + 8 <= n; i += 8, numbers += 8) {
                memcpy(&eight, text + i, 8);
                if (eight & 0x8080808080808080) break;
                for (int k = 0; k < 8; ++k) numbers[k] = text[i + k];
            }
            for (; i < n && text[i] < 0x80; ++i) *numbers++ = text[i];
            continue;
        }
        for (; i + 3 <= n; i += 3) {  // characters of three bytes, which come in long runs
            const uint32_t a = text[i], b = text[i + 1], c = text[i + 2];
            const uint32_t number = (a & 0x0F) << 12 | (b & 0x3F) << 6 | (c & 0x3F);
            const bool three = (a & 0xF0) == 0xE0 && (b & 0xC0) == 0x80 && (c & 0xC0) == 0x80;
            if (!three || number < 0x800 || number >> 11 == 0xD800 >> 11) break;
            *numbers++ = number;
        }
        if (i == n || text[i] < 0x80) continue;
        auto [length, low, high] = form_of(text[i]);
        if (!length) return -1;
        uint32_t number = text[i] & (0x7Fu >> length);
        for (int64_t k = 1; k < length && i + k < n; ++k, low = 0x80, high = 0xBF) {
            const uint32_t next = text[i + k];
            if (next < low || next > high) return -1;
            number = number << 6 | (next & 0x3F);
        }
        if (i + length > n) break;
        *numbers++ = number;
        i += length;
    }
    *num_read = i;
    return numbers - begin;
}

// ------------------------------------------------------------------------------- counts and ids

namespace {
constexpr int64_t AT_ONCE = 4;
constexpr uint32_t FREQUENT = 256;  // smaller code points are counted in tables that stay in the cache

// Consecutive code points are counted in separate tables, so that a repeated letter does not wait for the addition
// before it.
template <class Number>
void count(const Number* numbers, int64_t n, int64_t* counts) {
    int64_t frequent[AT_ONCE][FREQUENT] = {};
    int64_t i = 0;
    for (; i + AT_ONCE <= n; i += AT_ONCE)
        for (int64_t k = 0; k < AT_ONCE; ++k) {
            const uint32_t number = numbers[i + k];
            if (number < FREQUENT)
                ++frequent[k][number];
            else
                ++counts[number];
        }
    for (; i < n; ++i) ++counts[numbers[i]];
    for (const auto& table : frequent)
        for (uint32_t number = 0; number < FREQUENT; ++number) counts[number] += table[number];
}

template <class Number, class Id>
void look_up(const Number* numbers, int64_t n, const Id* table, int64_t num_rows, Id* ids) {
    const auto last = uint32_t(num_rows - 1);
    if (sizeof(Number) > 1) {
        for (int64_t i = 0; i < n; ++i) ids[i] = table[numbers[i] < last ? numbers[i] : last];
        return;
    }
    Id every[256];  // a row for each possible byte, so that the loop needs no comparison
    for (uint32_t number = 0; number < 256; ++number) every[number] = table[number < last ? number : last];
    for (int64_t i = 0; i < n; ++i) ids[i] = every[numbers[i] & 255];
}

template <class Id>
void look_up(const void* numbers, int64_t number_size, int64_t n, const void* table, int64_t num_rows, void* ids) {
    const auto* rows = static_cast<const Id*>(table);
    auto* out = static_cast<Id*>(ids);
    if (number_size == 1)
        look_up(static_cast<const uint8_t*>(numbers), n, rows, num_rows, out);
    else
        look_up(static_cast<const uint32_t*>(numbers), n, rows, num_rows, out);
}
}  // namespace

// Add to counts[x] how often x occurs among the n numbers. Every number must be an index of counts.
EXPORT void chargen_count(const void* numbers, int64_t number_size, int64_t n, int64_t* counts) {
    if (number_size == 1)
        count(static_cast<const uint8_t*>(numbers), n, counts);
    else
        count(static_cast<const uint32_t*>(numbers), n, counts);
}

// Set ids[i] to row numbers[i] of the table. A number beyond the table gets the last row.
EXPORT void chargen_look_up(const void* numbers, int64_t number_size, int64_t n, const void* table, int64_t id_size,
                            int64_t num_rows, void* ids) {
    const auto run = id_size == 1 ? look_up<uint8_t> : id_size == 2 ? look_up<uint16_t> : look_up<uint32_t>;
    run(numbers, number_size, n, table, num_rows, ids);
}
