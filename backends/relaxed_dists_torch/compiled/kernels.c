/* Draws and densities of relaxed_dists, for float32 on a CPU.
 *
 * The numbers of a block of rows stay in the first-level cache. The compiler can turn each loop
 * over these numbers into vector instructions, since the loop has no branch and calls no function
 * of libm. Infinities and NaN have their meaning here, so the compiler must not assume that there
 * are none, as with -ffast-math. Only loops marked "omp simd reduction" may add numbers in another
 * order. */

#include "kernels.h"

#include <math.h>
#include <string.h>

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define KERNEL(result, name, arguments) result JOIN(name, LEVEL) arguments
#define INLINE static inline __attribute__((always_inline))
#define SIMD _Pragma("omp simd")
/* In a function marked WIDE, whose loops are long, gcc uses vectors of 512 bits. Elsewhere it uses
 * 256 bits (see build.py), since rows of few categories would not fill more. */
#if defined(__AVX512F__) && !defined(__clang__)
#define WIDE static __attribute__((noinline, target("prefer-vector-width=512")))
#else
#define WIDE static __attribute__((noinline))
#endif

#define BLOCK 2048    /* numbers of a block, which take 8 KiB */
#define LANES 16      /* random generators, or partial maxima, that are computed side by side */
#define HUGE_ 0x1p24f /* a logit of this size or more counts as infinite */
#define LOWEST -87.3f   /* the exponential of a lower number is subnormal */
#define LARGEST 1e30f /* finite log values are clamped to this size, against overflows */

INLINE float as_float(int32_t i) { float f; memcpy(&f, &i, 4); return f; }
INLINE int32_t as_int(float f) { int32_t i; memcpy(&i, &f, 4); return i; }
/* a if the condition is 1, and b if it is 0. A mask selects the bits, since the compiler may turn
 * the ternary operator into a branch, and then can't vectorise the loop around it. */
INLINE float pick(int32_t condition, float a, float b) {
    int32_t mask = -condition;
    return as_float((as_int(a) & mask) | (as_int(b) & ~mask));
}
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE const float *row(const float *x, int64_t number, int64_t r, int64_t K) {
    return number == 1 ? x : x + (r < number ? r : r % number) * K;
}

/* Elementary functions: Moshier's polynomials (Cephes), to about one ulp. */

/* log(1 + f) + k log 2, for f from sqrt(1/2) - 1 to sqrt(2) - 1. */
INLINE float log_from(float f, int32_t k) {
    float z = f * f, e = (float)k, p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    float y = p * f * z + e * -2.12194440e-4f;
    return f + (y - 0.5f * z) + e * 0.693359375f;
}

INLINE int32_t exponent(float x) { return (as_int(x) - 0x3f3504f3) >> 23; }
INLINE float mantissa(float x, int32_t k) { return as_float(as_int(x) - k * (1 << 23)); }

/* The log of a positive normal number; -inf for 0. */
INLINE float log_of(float x) {
    int32_t k = exponent(x);
    return pick(x > 0.0f, log_from(mantissa(x, k) - 1.0f, k), -INFINITY);
}

/* -log(1 - u), exact where u is small. */
INLINE float minus_log1p(float u) {
    float v = 1.0f - u;
    int32_t k = exponent(v);
    return -log_from(pick(k == 0, -u, mantissa(v, k) - 1.0f), k);
}

/* The exponential of a number up to 0; 0 where the result would be subnormal, which is slow. */
INLINE float exp_of(float x) {
    float c = pick(x > LOWEST, x, LOWEST), n = c * 1.44269504088896341f;
    int32_t k = (int32_t)(n - 0.5f); /* rounds to the nearest integer, since n is not positive */
    float r = c - (float)k * 0.693359375f;
    r -= (float)k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return pick(x > LOWEST, p * as_float((k + 127) << 23), 0.0f);
}

/* log(1 + e) for e from 0 to 1. The last term corrects the rounding of 1 + e. */
INLINE float log1p_of(float e) {
    float u = 1.0f + e;
    return log_of(u) + (e - (u - 1.0f)) / u;
}

INLINE float softplus_of(float x) {
    return pick(x > 0.0f, x, 0.0f) + log1p_of(exp_of(-fabsf(x)));
}

INLINE float sigmoid_of(float x) {
    float e = exp_of(-fabsf(x));
    return pick(x >= 0.0f, 1.0f, e) / (1.0f + e);
}

/* tanh(x / 2). */
INLINE float tanh_half(float x) {
    float a = fabsf(x), e = exp_of(-a), h = 0.5f * x, z = h * h;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float near_0 = p * z * h + h, far = (1.0f - e) / (1.0f + e);
    return pick(a < 1.25f, near_0, pick(x < 0.0f, -far, far));
}

/* Noise, from the generator xoshiro128++ (Blackman, Vigna 2021). Each block has its own generators.
 * splitmix64 makes their states from the seed and the block's number, so that the noise does not
 * depend on the number of threads. */

static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

INLINE void words(uint64_t seed, uint64_t block, uint32_t *restrict out, int64_t number) {
    uint32_t a[LANES], b[LANES], c[LANES], d[LANES], *state[4] = {a, b, c, d};
    uint64_t s = mixed(seed ^ mixed(block + 0x9E3779B97F4A7C15ull));
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < LANES; j += 2) {
            uint64_t z = mixed(s += 0x9E3779B97F4A7C15ull);
            state[i][j] = (uint32_t)z;
            state[i][j + 1] = (uint32_t)(z >> 32);
        }
    for (int64_t i = 0; i < number; i += LANES)
        SIMD for (int j = 0; j < LANES; j++) {
            uint32_t r = a[j] + d[j], t = b[j] << 9;
            out[i + j] = (r << 7 | r >> 25) + a[j];
            c[j] ^= a[j];
            d[j] ^= b[j];
            b[j] ^= c[j];
            a[j] ^= d[j];
            c[j] ^= t;
            d[j] = d[j] << 11 | d[j] >> 21;
        }
}

/* A uniform number on (0, 1), with all digits exact down to 2^-63: the bits of the next word are
 * appended to those of a word. A grid of 2^-24 would cut the Gumbel tail at 16.6. */
INLINE float uniform(float word, float next) {
    float u = (word + (next + 0.5f) * 0x1p-31f) * 0x1p-31f;
    return pick(u < 1.0f - 0x1p-24f, u, 1.0f - 0x1p-24f);
}

/* Exponential variables, and minus their logarithms, which are Gumbel variables. */
WIDE void gumbel_block(uint64_t seed, uint64_t block, float *restrict exponential,
                       float *restrict out, int64_t number) {
    uint32_t w[BLOCK + 2 * LANES];
    float f[BLOCK + 2 * LANES];
    words(seed, block, w, number + 1);
    SIMD for (int64_t i = 0; i <= number; i++) f[i] = (float)(int32_t)(w[i] >> 1);
    SIMD for (int64_t i = 0; i < number; i++) exponential[i] = minus_log1p(uniform(f[i], f[i + 1]));
    SIMD for (int64_t i = 0; i < number; i++) out[i] = -log_of(exponential[i]);
}

WIDE void logistic_block(uint64_t seed, uint64_t block, float *restrict out, int64_t number) {
    uint32_t w[BLOCK + 2 * LANES];
    float f[BLOCK + 2 * LANES];
    words(seed, block, w, number + 1);
    SIMD for (int64_t i = 0; i <= number; i++) f[i] = (float)(int32_t)(w[i] >> 1);
    SIMD for (int64_t i = 0; i < number; i++) { /* the sign is the bit that f leaves out */
        float size = log_of(2.0f / uniform(f[i], f[i + 1]) - 1.0f);
        out[i] = as_float(as_int(size) | (int32_t)(w[i] << 31));
    }
}

/* The number of rows in a block, and the number of blocks in a row. */
INLINE int64_t rows_of(int64_t K) { return K < BLOCK ? BLOCK / K : 1; }
INLINE int64_t blocks_of(int64_t K) { return (K + BLOCK - 1) / BLOCK; }

INLINE void gumbel(uint64_t seed, int64_t r, int64_t column, int64_t K, float *exponential,
                   float *out, int64_t number) {
    uint64_t block = r / rows_of(K) * blocks_of(K) + column / BLOCK;
    gumbel_block(seed, block, exponential, out, number);
}

KERNEL(void, noise, (uint64_t seed, float *out, int64_t K, int64_t begin, int64_t end)) {
    int64_t step = rows_of(K);
    float e[BLOCK];
    for (int64_t r = begin; r < end; r += step)
        for (int64_t k = 0; k < K; k += BLOCK) {
            int64_t n = K < BLOCK ? least(step, end - r) * K : least(BLOCK, K - k);
            gumbel(seed, r, k, K, e, out + r * K + k, n);
        }
}

KERNEL(void, logistic, (uint64_t seed, float *out, int64_t begin, int64_t end)) {
    for (int64_t i = begin; i < end; i += BLOCK)
        logistic_block(seed, i / BLOCK, out + i, least(BLOCK, end - i));
}

/* 0 if all logits are finite; 1 if some are -inf; and 2 if there is NaN, plus infinity, or a row in
 * which all are -inf. K is 0 for binary distributions, which have no rows. */
KERNEL(int64_t, look, (const float *x, int64_t number, int64_t K)) {
    int32_t other = 0, bad = 0;
    SIMD for (int64_t i = 0; i < number; i++) other |= !(fabsf(x[i]) < HUGE_);
    if (!other) return 0;
    if (!K) {
        SIMD for (int64_t i = 0; i < number; i++) bad |= !(x[i] < HUGE_);
        return bad ? 2 : 1;
    }
    for (int64_t i = 0; i < number; i += K) {
        int32_t some = 0;
        for (int64_t k = 0; k < K; k++) {
            some |= x[i + k] > -HUGE_;
            bad |= !(x[i + k] < HUGE_);
        }
        bad |= !some;
    }
    return bad ? 2 : 1;
}

/* Sums and maxima of a row. */

INLINE float largest(const float *x, int64_t K, float m) {
    float lane[LANES];
    int64_t k = 0;
    if (K >= 2 * LANES) {
        memcpy(lane, x, sizeof lane);
        for (k = LANES; k + LANES <= K; k += LANES)
            SIMD for (int j = 0; j < LANES; j++) lane[j] = pick(x[k + j] > lane[j], x[k + j], lane[j]);
        for (int j = 0; j < LANES; j++) m = lane[j] > m ? lane[j] : m;
    }
    for (; k < K; k++) m = x[k] > m ? x[k] : m;
    return m;
}

/* The first place of the number m in a row, which must have it. */
INLINE int64_t first(const float *x, int64_t K, float m) {
    int64_t k = 0;
    for (; k + LANES <= K; k += LANES) {
        int32_t found = 0;
        _Pragma("omp simd reduction(| : found)")
        for (int j = 0; j < LANES; j++) found |= x[k + j] == m;
        if (found) break;
    }
    while (x[k] != m) k++;
    return k;
}

/* The sum of a row, in double, so that long rows lose no digits. Parts of 128 numbers are summed in
 * float32, whose rounding errors are still small. */
INLINE double sum_of(const float *x, int64_t K) {
    double total = 0.0;
    for (int64_t k = 0; k < K; k += 128) {
        float part = 0.0f;
        int64_t end = least(K, k + 128);
        _Pragma("omp simd reduction(+ : part)")
        for (int64_t i = k; i < end; i++) part += x[i];
        total += part;
    }
    return total;
}

INLINE float finite_or(float x, float otherwise) { return pick(fabsf(x) < HUGE_, x, otherwise); }

/* A tile has at most BLOCK numbers: n whole rows from row r, or w columns of one longer row, from
 * column k. One loop over all numbers of a tile is faster than a loop for each row. */

#define TILES(K, begin, end)                                                                       \
    for (int64_t r = begin, n; r < end && (n = least(rows_of(K), end - r)); r += n)
#define PARTS(K) for (int64_t k = 0, w; k < K && (w = least(BLOCK, K - k)); k += BLOCK)

/* A pointer to a tile of a parameter, copied into the buffer unless its rows lie side by side. */
INLINE const float *tile(const float *x, int64_t number, int64_t r, int64_t n, int64_t k, int64_t w,
                         int64_t K, float *buffer) {
    if (n == 1) return row(x, number, r, K) + k;
    if (r + n <= number) return x + r * K;
    for (int64_t q = 0; q < n; q++) {
        const float *from = row(x, number, r + q, K);
        for (int64_t i = 0; i < w; i++) buffer[q * w + i] = from[i];
    }
    return buffer;
}

/* The temperature of each number of a tile. */
INLINE void spread_rows(float *restrict out, const float *t, int64_t number, int64_t r, int64_t n,
                        int64_t w) {
    for (int64_t q = 0; q < n; q++) {
        float one = *row(t, number, r + q, 1);
        for (int64_t i = 0; i < w; i++) out[q * w + i] = one;
    }
}

/* Subtract the maxima m from the scores, write the exponentials e, and add their sums to `sum`. If
 * all categories of a row are masked, its maximum is -inf, and its exponentials are 0. */
INLINE void exponentials(float *restrict e, float *restrict score, const float *m,
                         double *restrict sum, int64_t n, int64_t w) {
    for (int64_t q = 0; q < n; q++) {
        float top = m[q] == -INFINITY ? 0.0f : m[q];
        SIMD for (int64_t i = 0; i < w; i++) score[q * w + i] -= top;
    }
    SIMD for (int64_t i = 0; i < n * w; i++) e[i] = exp_of(score[i]);
    for (int64_t q = 0; q < n; q++) sum[q] += sum_of(e + q * w, w);
}

/* log(sum) and 1 / sum, where a sum of 0 (all categories of a row are masked) counts as 1. */
INLINE void logarithms(float *restrict log_sum, float *restrict factor, const double *restrict sum,
                       int64_t n) {
    SIMD for (int64_t q = 0; q < n; q++) {
        float s = (float)sum[q];
        s = pick(s > 0.0f, s, 1.0f);
        log_sum[q] = log_of(s);
        factor[q] = 1.0f / s;
    }
}

INLINE void start(float *restrict x, float value, int64_t n) {
    for (int64_t q = 0; q < n; q++) x[q] = value;
}

INLINE void start_sum(double *restrict x, int64_t n) {
    for (int64_t q = 0; q < n; q++) x[q] = 0.0;
}

/* The normaliser of a density, lgamma(K) + (K - 1) log t. The last terms are kept, since rows often
 * have the same temperature t and number K of unmasked categories. */
typedef struct {
    float unmasked, t;
    double log_factorial, log_t;
} normaliser;

INLINE double normalise(normaliser *last, float unmasked, float t) {
    if (t != last->t) last->log_t = log((double)(last->t = t));
    if (unmasked != last->unmasked) {
        last->unmasked = unmasked;
        last->log_factorial = lgamma(unmasked > 1.0f ? (double)unmasked : 1.0);
    }
    return last->log_factorial + (unmasked > 1.0f ? unmasked - 1.0 : 0.0) * last->log_t;
}

/* Add up a part of what the density of a draw is computed from: the number of unmasked categories,
 * and the sums of their Gumbel noise and of the exponential variables that made it. */
INLINE void add_noise(const float *x, const float *g, const float *exponential, int64_t w,
                      float *unmasked, double *noise, double *total) {
    float number = 0.0f;
    for (int64_t k = 0; k < w; k += 128) {
        float a = 0.0f, b = 0.0f, c = 0.0f;
        int64_t end = least(w, k + 128);
        _Pragma("omp simd reduction(+ : a, b, c)")
        for (int64_t i = k; i < end; i++) {
            int32_t in = fabsf(x[i]) < HUGE_;
            a += pick(in, 1.0f, 0.0f);
            b += pick(in, g[i], 0.0f);
            c += pick(in, exponential[i], 0.0f);
        }
        number += a;
        *noise += b;
        *total += c;
    }
    *unmasked += number;
}

INLINE double finite_sum(const float *x, int64_t K) {
    double total = 0.0;
    for (int64_t k = 0; k < K; k += 128) {
        float part = 0.0f;
        int64_t end = least(K, k + 128);
        _Pragma("omp simd reduction(+ : part)")
        for (int64_t i = k; i < end; i++) part += pick(x[i] > -INFINITY, x[i], 0.0f);
        total += part;
    }
    return total;
}

/* A draw: y = log_softmax((x + noise) / t), and as the value exp(y) or, if `hard`, its argmax.
 *
 * If `own` is given, the log density of each draw on the simplex is written there. The noise must
 * then be made here, from exponential variables E_k, and the log density is
 * lgamma(K) + (K - 1) log t + sum log E_k - K log sum E_k - sum y_k. */

KERNEL(void, draw,
       (uint64_t seed, const float *noise, const float *x, int64_t x_number, const float *t,
        int64_t t_number, float *y, float *value, float *own, int64_t hard, int64_t K,
        int64_t begin, int64_t end)) {
    float g_buffer[BLOCK], exponential[BLOCK], unmasked[BLOCK];
    double noises[BLOCK], totals[BLOCK], logs[BLOCK];
    normaliser last = {-1.0f, -1.0f, 0.0, 0.0};
    float score[BLOCK], e[BLOCK], x_buffer[BLOCK], m[BLOCK], factor[BLOCK], log_sum[BLOCK];
    double sum[BLOCK];
    TILES(K, begin, end) {
        float *whole = y ? y + r * K : hard ? NULL : value + r * K; /* where scores of a long row are kept */
        int64_t best = -1;
        start(m, -INFINITY, n);
        start_sum(sum, n);
        if (hard) memset(value + r * K, 0, n * K * sizeof(float));
        if (own) {
            start(unmasked, 0.0f, n);
            start_sum(noises, n);
            start_sum(totals, n);
            start_sum(logs, n);
        }
        PARTS(K) {
            const float *logits = tile(x, x_number, r, n, k, w, K, x_buffer);
            const float *g = noise ? noise + r * K + k : g_buffer;
            float *s = whole && K > BLOCK ? whole + k : score;
            if (!noise) gumbel(seed, r, k, K, exponential, g_buffer, n * w);
            SIMD for (int64_t i = 0; i < n * w; i++) s[i] = finite_or(logits[i], -INFINITY) + g[i];
            for (int64_t q = 0; q < n && own; q++)
                add_noise(logits + q * w, g + q * w, exponential + q * w, w, unmasked + q,
                          noises + q, totals + q);
            for (int64_t q = 0; q < n; q++) {
                float before = m[q];
                m[q] = largest(s + q * w, w, before);
                if (!hard || !(m[q] > before)) continue;
                int64_t i = first(s + q * w, w, m[q]);
                if (n > 1 || K <= BLOCK) value[(r + q) * K + i] = 1.0f;
                else best = k + i;
            }
        }
        if (best >= 0) value[r * K + best] = 1.0f;
        if (!whole) continue;
        PARTS(K) {
            float *s = K > BLOCK ? whole + k : score;
            float *f = K > BLOCK && value && !hard ? value + r * K + k : e;
            for (int64_t q = 0; q < n; q++) {
                float top = m[q] == -INFINITY ? 0.0f : m[q], slope = 1.0f / *row(t, t_number, r + q, 1);
                SIMD for (int64_t i = 0; i < w; i++) s[q * w + i] = (s[q * w + i] - top) * slope;
            }
            if (f == s) { /* without y, the row of the value holds the scores */
                SIMD for (int64_t i = 0; i < w; i++) f[i] = exp_of(f[i]);
            } else
                SIMD for (int64_t i = 0; i < n * w; i++) f[i] = exp_of(s[i]);
            for (int64_t q = 0; q < n; q++) sum[q] += sum_of(f + q * w, w);
        }
        logarithms(log_sum, factor, sum, n);
        PARTS(K) {
            const float *s = K > BLOCK ? whole + k : score;
            for (int64_t q = 0; q < n && y; q++)
                SIMD for (int64_t i = 0; i < w; i++)
                    y[(r + q) * K + k + i] = s[q * w + i] - log_sum[q];
            for (int64_t q = 0; q < n && own; q++)
                logs[q] += finite_sum(y + (r + q) * K + k, w);
            const float *f = K > BLOCK ? value + r * K + k : e;
            for (int64_t q = 0; q < n && value && !hard; q++) {
                float one = factor[q];
                SIMD for (int64_t i = 0; i < w; i++)
                    value[(r + q) * K + k + i] = f[q * w + i] * one;
            }
        }
        for (int64_t q = 0; q < n && own; q++) {
            float k = unmasked[q];
            double terms = -noises[q] - (k > 0.0f ? k * log(totals[q]) : 0.0) - logs[q];
            own[r + q] = (float)(terms + normalise(&last, k, *row(t, t_number, r + q, 1)));
        }
    }
}

/* Add a gradient g, or p g if p is given, to the tile h. */
INLINE void add_gradient(float *restrict h, const float *g, int64_t row_stride, int64_t column,
                         const float *restrict p, int64_t r, int64_t n, int64_t k, int64_t w,
                         int64_t K) {
    if (column && row_stride == K && p) {
        SIMD for (int64_t i = 0; i < n * w; i++) h[i] += p[i] * g[r * K + k + i];
        return;
    }
    for (int64_t q = 0; q < n; q++) {
        const float *a = g + (r + q) * row_stride + (column ? k : 0);
        if (column && p)
            SIMD for (int64_t i = 0; i < w; i++) h[q * w + i] += p[q * w + i] * a[i];
        else if (column)
            SIMD for (int64_t i = 0; i < w; i++) h[q * w + i] += a[i];
        else if (p)
            SIMD for (int64_t i = 0; i < w; i++) h[q * w + i] += p[q * w + i] * *a;
        else
            SIMD for (int64_t i = 0; i < w; i++) h[q * w + i] += *a;
    }
}

/* The gradients of a draw: with h = by_y + p by_value, dx = (h - p sum(h)) / t and dt = -sum(dx y).
 * Masked entries get no gradient, whatever h is there. The gradient by_own, of the log density that
 * was computed with the draw, reaches y through -sum(y), and t also through (K - 1) log t. */
KERNEL(void, draw_back,
       (const float *y, const float *p, const float *t, int64_t t_number, const float *by_y,
        int64_t by_y_row, int64_t by_y_column, const float *by_value, int64_t by_value_row,
        int64_t by_value_column, const float *by_own, int64_t by_own_row, float *dx, float *dt,
        int64_t K, int64_t begin, int64_t end)) {
    float e[BLOCK], unmasked[BLOCK];
    double sum[BLOCK], total[BLOCK];
    TILES(K, begin, end) {
        start_sum(sum, n);
        start_sum(total, n);
        start(unmasked, 0.0f, n);
        PARTS(K) {
            const float *z = y ? y + r * K + k : NULL, *f = p ? p + r * K + k : e;
            float *h = dx + r * K + k;
            if (!p) SIMD for (int64_t i = 0; i < n * w; i++) e[i] = exp_of(z[i]);
            if (!by_own) SIMD for (int64_t i = 0; i < n * w; i++) h[i] = 0.0f;
            for (int64_t q = 0; q < n && by_own; q++)
                start(h + q * w, -by_own[(r + q) * by_own_row], w);
            if (by_value) add_gradient(h, by_value, by_value_row, by_value_column, f, r, n, k, w, K);
            if (by_y) add_gradient(h, by_y, by_y_row, by_y_column, NULL, r, n, k, w, K);
            if (z)
                SIMD for (int64_t i = 0; i < n * w; i++) h[i] = pick(z[i] > -INFINITY, h[i], 0.0f);
            else
                SIMD for (int64_t i = 0; i < n * w; i++) h[i] = pick(f[i] > 0.0f, h[i], 0.0f);
            for (int64_t q = 0; q < n; q++) sum[q] += sum_of(h + q * w, w);
        }
        PARTS(K) {
            const float *z = y ? y + r * K + k : NULL, *f = p ? p + r * K + k : e;
            float *h = dx + r * K + k;
            if (!p && K > BLOCK) SIMD for (int64_t i = 0; i < w; i++) e[i] = exp_of(z[i]);
            for (int64_t q = 0; q < n; q++) {
                float slope = 1.0f / *row(t, t_number, r + q, 1), all = (float)sum[q];
                SIMD for (int64_t i = 0; i < w; i++)
                    h[q * w + i] = (h[q * w + i] - f[q * w + i] * all) * slope;
            }
            for (int64_t q = 0; q < n && dt; q++) {
                float part = 0.0f;
                _Pragma("omp simd reduction(+ : part)")
                for (int64_t i = 0; i < w; i++)
                    part += pick(z[q * w + i] > -INFINITY, h[q * w + i] * z[q * w + i], 0.0f);
                total[q] += part;
                for (int64_t i = 0; i < w && by_own; i++)
                    unmasked[q] += z[q * w + i] > -INFINITY ? 1.0f : 0.0f;
            }
        }
        for (int64_t q = 0; q < n && dt; q++) {
            float more = by_own && unmasked[q] > 1.0f ? unmasked[q] - 1.0f : 0.0f;
            double by_t = more ? more * by_own[(r + q) * by_own_row] / *row(t, t_number, r + q, 1) : 0.0;
            dt[r + q] = (float)(by_t - total[q]);
        }
    }
}

/* Densities. The score of an unmasked category is x - t y, and that of a masked one is -inf. */

INLINE float moved(float y) {
    return pick(fabsf(y) > LARGEST, pick(y > 0.0f, LARGEST, -LARGEST), y);
}

/* Write the scores of a tile. */
INLINE void scores(float *restrict score, const float *restrict x, const float *restrict t,
                   const float *restrict y, int64_t number) {
    SIMD for (int64_t i = 0; i < number; i++) {
        int32_t in = (fabsf(x[i]) < HUGE_) & (fabsf(y[i]) < INFINITY);
        score[i] = pick(in, x[i] - t[i] * moved(y[i]), -INFINITY);
    }
}

/* Count the unmasked categories of a row, and the entries that put the value off the face of the
 * simplex that these categories span. If `off` is above 0, the density is zero. */
INLINE void count(const float *x, const float *y, int64_t w, float *unmasked, float *off) {
    float number = 0.0f, out = 0.0f;
    _Pragma("omp simd reduction(+ : number, out)")
    for (int64_t i = 0; i < w; i++) {
        float in = pick(fabsf(x[i]) < HUGE_, 1.0f, 0.0f);
        number += in;
        out += pick(fabsf(y[i]) < INFINITY, 1.0f - in, pick(y[i] == -INFINITY, in, 1.0f));
    }
    *unmasked += number;
    *off += out;
}

/* The scores of a tile, with the maxima m of its rows subtracted; their exponentials e; and for
 * each row the sum of e, its logarithm and its inverse, the factor. For a row of several parts,
 * scores and exponentials are those of the part that was computed last. */
typedef struct {
    float score[BLOCK], e[BLOCK], x[BLOCK], t[BLOCK];
    float m[BLOCK], factor[BLOCK], log_sum[BLOCK], unmasked[BLOCK], off[BLOCK];
    double sum[BLOCK];
} tiles;

INLINE const float *part_of(tiles *s, const float *x, int64_t x_number, const float *t,
                            int64_t t_number, const float *y, int64_t r, int64_t n, int64_t k,
                            int64_t w, int64_t K) {
    const float *logits = tile(x, x_number, r, n, k, w, K, s->x);
    if (t_number != 1) spread_rows(s->t, t, t_number, r, n, w);
    scores(s->score, logits, s->t, y + r * K + k, n * w);
    return logits;
}

INLINE void again(tiles *s, const float *x, int64_t x_number, const float *t, int64_t t_number,
                  const float *y, int64_t r, int64_t n, int64_t k, int64_t w, int64_t K) {
    double ignored[1];
    if (K <= BLOCK) return;
    part_of(s, x, x_number, t, t_number, y, r, n, k, w, K);
    exponentials(s->e, s->score, s->m, ignored, n, w);
}

INLINE void softmax_of_scores(tiles *s, const float *x, int64_t x_number, const float *t,
                              int64_t t_number, const float *y, int64_t r, int64_t n, int64_t K) {
    start(s->m, -INFINITY, n);
    start_sum(s->sum, n);
    start(s->unmasked, 0.0f, n);
    start(s->off, 0.0f, n);
    PARTS(K) {
        const float *logits = part_of(s, x, x_number, t, t_number, y, r, n, k, w, K);
        float odd = 0.0f;
        _Pragma("omp simd reduction(+ : odd)")
        for (int64_t i = 0; i < n * w; i++) odd += pick(s->score[i] > -INFINITY, 0.0f, 1.0f);
        for (int64_t q = 0; q < n; q++) {
            s->m[q] = largest(s->score + q * w, w, s->m[q]);
            if (odd > 0.0f)
                count(logits + q * w, y + (r + q) * K + k, w, s->unmasked + q, s->off + q);
            else
                s->unmasked[q] += w;
        }
    }
    PARTS(K) {
        if (K > BLOCK) part_of(s, x, x_number, t, t_number, y, r, n, k, w, K);
        exponentials(s->e, s->score, s->m, s->sum, n, w);
    }
    logarithms(s->log_sum, s->factor, s->sum, n);
}

KERNEL(void, density,
       (const float *x, int64_t x_number, const float *t, int64_t t_number, const float *y,
        float *out, int64_t simplex, int64_t K, int64_t begin, int64_t end)) {
    tiles s;
    double total[BLOCK];
    normaliser last = {-1.0f, -1.0f, 0.0, 0.0};
    if (t_number == 1) start(s.t, *t, BLOCK);
    TILES(K, begin, end) {
        softmax_of_scores(&s, x, x_number, t, t_number, y, r, n, K);
        for (int64_t q = 0; q < n; q++) total[q] = 0.0;
        PARTS(K) {
            again(&s, x, x_number, t, t_number, y, r, n, k, w, K);
            for (int64_t q = 0; q < n; q++) {
                const float *score = s.score + q * w, *v = y + (r + q) * K + k;
                float part = 0.0f, log_s = s.log_sum[q], last = simplex ? 1.0f : 0.0f;
                _Pragma("omp simd reduction(+ : part)")
                for (int64_t i = 0; i < w; i++)
                    part += pick(score[i] > -INFINITY, score[i] - log_s - last * moved(v[i]), 0.0f);
                total[q] += part;
            }
        }
        for (int64_t q = 0; q < n; q++) {
            double more = normalise(&last, s.unmasked[q], *row(t, t_number, r + q, 1));
            out[r + q] = s.off[q] > 0.0f ? -INFINITY : (float)(total[q] + more);
        }
    }
}

/* The gradients of the density. With p the softmax of the scores, the gradient with respect to the
 * scores of the K' unmasked categories is d = g (1 - K' p). A density of zero has no gradient. */
KERNEL(void, density_back,
       (const float *x, int64_t x_number, const float *t, int64_t t_number, const float *y,
        const float *by_out, int64_t by_out_row, float *dx, float *dy, float *dt, int64_t simplex,
        int64_t K, int64_t begin, int64_t end)) {
    tiles s;
    float g[BLOCK], d[BLOCK];
    double total[BLOCK];
    if (t_number == 1) start(s.t, *t, BLOCK);
    TILES(K, begin, end) {
        softmax_of_scores(&s, x, x_number, t, t_number, y, r, n, K);
        for (int64_t q = 0; q < n; q++) {
            g[q] = s.off[q] > 0.0f ? 0.0f : by_out[(r + q) * by_out_row];
            total[q] = 0.0;
        }
        PARTS(K) {
            again(&s, x, x_number, t, t_number, y, r, n, k, w, K);
            for (int64_t q = 0; q < n; q++) {
                const float *score = s.score + q * w, *v = y + (r + q) * K + k;
                float factor = g[q] * s.unmasked[q] * s.factor[q], last = simplex ? g[q] : 0.0f;
                float *restrict c = d + q * w, g_q = g[q];
                SIMD for (int64_t i = 0; i < w; i++)
                    c[i] = pick(score[i] > -INFINITY, g_q - s.e[q * w + i] * factor, 0.0f);
                if (dx) memcpy(dx + (r + q) * K + k, c, w * sizeof(float));
                if (dy) {
                    float *restrict by_y = dy + (r + q) * K + k;
                    SIMD for (int64_t i = 0; i < w; i++) {
                        int32_t some = (score[i] > -INFINITY) & (fabsf(v[i]) <= LARGEST);
                        by_y[i] = pick(some, -last - s.t[q * w + i] * c[i], 0.0f);
                    }
                }
                if (!dt) continue;
                float part = 0.0f;
                _Pragma("omp simd reduction(+ : part)")
                for (int64_t i = 0; i < w; i++)
                    part += pick(score[i] > -INFINITY, c[i] * moved(v[i]), 0.0f);
                total[q] += part;
            }
        }
        for (int64_t q = 0; q < n && dt; q++) {
            float more = s.unmasked[q] > 1.0f ? s.unmasked[q] - 1.0f : 0.0f;
            dt[r + q] = (float)(g[q] * more / *row(t, t_number, r + q, 1) - total[q]);
        }
    }
}

/* The log mass of one-hot values, sum_k value_k log p_k. */

INLINE void softmax_of_logits(tiles *s, const float *x, int64_t x_number, int64_t r, int64_t n,
                              int64_t K) {
    start(s->m, -INFINITY, n);
    start_sum(s->sum, n);
    PARTS(K) {
        const float *logits = tile(x, x_number, r, n, k, w, K, s->x);
        SIMD for (int64_t i = 0; i < n * w; i++) s->score[i] = finite_or(logits[i], -INFINITY);
        for (int64_t q = 0; q < n; q++) s->m[q] = largest(s->score + q * w, w, s->m[q]);
    }
    PARTS(K) {
        const float *logits = tile(x, x_number, r, n, k, w, K, s->x);
        if (K > BLOCK)
            SIMD for (int64_t i = 0; i < w; i++) s->score[i] = finite_or(logits[i], -INFINITY);
        exponentials(s->e, s->score, s->m, s->sum, n, w);
    }
    logarithms(s->log_sum, s->factor, s->sum, n);
}

/* Compute the scores and exponentials of a part of a long row again. */
INLINE void logits_again(tiles *s, const float *x, int64_t x_number, int64_t r, int64_t k,
                         int64_t w, int64_t K) {
    double ignored[1];
    if (K <= BLOCK) return;
    const float *logits = row(x, x_number, r, K) + k;
    SIMD for (int64_t i = 0; i < w; i++) s->score[i] = finite_or(logits[i], -INFINITY);
    exponentials(s->e, s->score, s->m, ignored, 1, w);
}

KERNEL(void, mass,
       (const float *x, int64_t x_number, const float *value, float *out, int64_t K, int64_t begin,
        int64_t end)) {
    tiles s;
    float total[BLOCK];
    TILES(K, begin, end) {
        softmax_of_logits(&s, x, x_number, r, n, K);
        start(total, 0.0f, n);
        PARTS(K) {
            logits_again(&s, x, x_number, r, k, w, K);
            for (int64_t q = 0; q < n; q++) {
                const float *score = s.score + q * w, *v = value + (r + q) * K + k;
                float part = 0.0f, log_s = s.log_sum[q];
                _Pragma("omp simd reduction(+ : part)")
                for (int64_t i = 0; i < w; i++) {
                    float a = v[i], l = score[i] - log_s;
                    int32_t in = (a == a) & (score[i] > -INFINITY);
                    part += pick(a == 0.0f, 0.0f, pick(in, a * l, -INFINITY));
                }
                total[q] += part;
            }
        }
        for (int64_t q = 0; q < n; q++) out[r + q] = total[q];
    }
}

KERNEL(void, mass_back,
       (const float *x, int64_t x_number, const float *value, const float *by_out,
        int64_t by_out_row, float *dx, float *dvalue, int64_t K, int64_t begin, int64_t end)) {
    tiles s;
    float weight[BLOCK];
    TILES(K, begin, end) {
        softmax_of_logits(&s, x, x_number, r, n, K);
        start(weight, 0.0f, n);
        PARTS(K) {
            logits_again(&s, x, x_number, r, k, w, K);
            for (int64_t q = 0; q < n; q++) {
                const float *score = s.score + q * w, *v = value + (r + q) * K + k;
                float part = 0.0f;
                _Pragma("omp simd reduction(+ : part)")
                for (int64_t i = 0; i < w; i++)
                    part += pick((score[i] > -INFINITY) & (v[i] == v[i]), v[i], 0.0f);
                weight[q] += part;
            }
        }
        PARTS(K) {
            logits_again(&s, x, x_number, r, k, w, K);
            for (int64_t q = 0; q < n; q++) {
                const float *score = s.score + q * w, *e = s.e + q * w;
                const float *v = value + (r + q) * K + k;
                float g = by_out[(r + q) * by_out_row], log_s = s.log_sum[q];
                float factor = weight[q] * s.factor[q];
                float *restrict by_x = dx + (r + q) * K + k, *restrict by_v = dvalue + (r + q) * K + k;
                if (dx)
                    SIMD for (int64_t i = 0; i < w; i++) {
                        float a = pick(v[i] == v[i], v[i], 0.0f);
                        by_x[i] = pick(score[i] > -INFINITY, g * (a - e[i] * factor), 0.0f);
                    }
                if (dvalue)
                    SIMD for (int64_t i = 0; i < w; i++) {
                        int32_t in = (score[i] > -INFINITY) & (v[i] == v[i]);
                        by_v[i] = pick(in, g * (score[i] - log_s), 0.0f);
                    }
            }
        }
    }
}

/* Binary distributions, for flat arrays of numbers in place of rows. */

/* A pointer to n numbers of a parameter, from number i on. They are copied into the buffer if the
 * parameter has fewer numbers and repeats them. */

INLINE const float *spread(const float *x, int64_t number, int64_t i, int64_t n, float *buffer) {
    if (number >= i + n) return x + i;
    if (number == 1)
        SIMD for (int64_t j = 0; j < n; j++) buffer[j] = *x;
    else
        for (int64_t j = 0; j < n; j++) buffer[j] = x[(i + j) % number];
    return buffer;
}

#define BINARY_BLOCKS                                                                              \
    float x_buffer[BLOCK], t_buffer[BLOCK];                                                        \
    for (int64_t i = begin, n; i < end && (n = least(BLOCK, end - i)); i += BLOCK)

KERNEL(void, binary_draw,
       (uint64_t seed, const float *noise, const float *x, int64_t x_number,
        const float *t, int64_t t_number, float *y, float *value, int64_t hard,
        int64_t begin, int64_t end)) {
    float e[BLOCK];
    BINARY_BLOCKS {
        const float *logits = spread(x, x_number, i, n, x_buffer), *L = noise ? noise + i : e;
        const float *temperature = y || !hard ? spread(t, t_number, i, n, t_buffer) : e;
        if (!noise) logistic_block(seed, i / BLOCK, e, n);
        if (hard)
            SIMD for (int64_t j = 0; j < n; j++) value[i + j] = pick(logits[j] + L[j] > 0.0f, 1.0f, 0.0f);
        if (hard && !y) continue;
        float *z = y ? y + i : e;
        SIMD for (int64_t j = 0; j < n; j++) {
            float end_of = pick(logits[j] > 0.0f, INFINITY, -INFINITY);
            z[j] = pick(fabsf(logits[j]) < HUGE_, (logits[j] + L[j]) / temperature[j], end_of);
        }
        if (value && !hard) SIMD for (int64_t j = 0; j < n; j++) value[i + j] = sigmoid_of(z[j]);
    }
}

KERNEL(void, binary_draw_back,
       (const float *y, const float *t, int64_t t_number, const float *by_y,
        int64_t by_y_stride, const float *by_value, int64_t by_value_stride, float *dx, float *dt,
        int64_t begin, int64_t end)) {
    BINARY_BLOCKS {
        const float *temperature = spread(t, t_number, i, n, t_buffer);
        float *d = dx + i;
        const float *z = y + i;
        if (by_value) {
            const float *g = by_value_stride ? by_value + i : spread(by_value, 1, i, n, x_buffer);
            SIMD for (int64_t j = 0; j < n; j++) {
                float e = exp_of(-fabsf(z[j])), one = 1.0f + e;
                d[j] = g[j] * (e / (one * one));
            }
        } else
            SIMD for (int64_t j = 0; j < n; j++) d[j] = 0.0f;
        if (by_y) {
            const float *g = by_y_stride ? by_y + i : spread(by_y, 1, i, n, x_buffer);
            SIMD for (int64_t j = 0; j < n; j++) d[j] += g[j];
        }
        SIMD for (int64_t j = 0; j < n; j++)
            d[j] = pick(fabsf(z[j]) < INFINITY, d[j] / temperature[j], 0.0f);
        if (dt)
            SIMD for (int64_t j = 0; j < n; j++)
                dt[i + j] = pick(fabsf(z[j]) < INFINITY, -d[j] * z[j], 0.0f);
    }
}

KERNEL(void, binary_density,
       (const float *x, int64_t x_number, const float *t, int64_t t_number, const float *y, float *out, int64_t unit, int64_t begin, int64_t end)) {
    BINARY_BLOCKS {
        const float *logits = spread(x, x_number, i, n, x_buffer);
        const float *temperature = spread(t, t_number, i, n, t_buffer);
        SIMD for (int64_t j = 0; j < n; j++) {
            float l = logits[j], z = y[i + j], a = temperature[j];
            int32_t point = !(fabsf(l) < HUGE_);
            float v = pick(point | (z != z), 0.0f, moved(z)), d = finite_or(l, 0.0f) - a * v;
            float density = log_of(a) + d - 2.0f * softplus_of(d);
            int32_t at = ((l > 0.0f) & (z == INFINITY)) | (!(l > 0.0f) & (z == -INFINITY));
            float otherwise = pick(point & at, 0.0f, -INFINITY);
            out[i + j] = pick(!point & (fabsf(z) < INFINITY), density, otherwise);
        }
        if (unit)
            SIMD for (int64_t j = 0; j < n; j++) {
                float z = y[i + j], v = pick(fabsf(z) < INFINITY, moved(z), 0.0f);
                float more = 2.0f * softplus_of(v) - v;
                out[i + j] += pick(fabsf(logits[j]) < HUGE_, more, 0.0f);
            }
    }
}

KERNEL(void, binary_density_back,
       (const float *x, int64_t x_number, const float *t, int64_t t_number, const float *y, const float *by_out, int64_t by_out_stride, float *dx,
        float *dy, float *dt, int64_t unit, int64_t begin, int64_t end)) {
    float d[BLOCK], g_buffer[BLOCK], last = unit ? 1.0f : 0.0f;
    BINARY_BLOCKS {
        const float *logits = spread(x, x_number, i, n, x_buffer);
        const float *temperature = spread(t, t_number, i, n, t_buffer);
        const float *g = by_out_stride ? by_out + i : spread(by_out, 1, i, n, g_buffer);
        SIMD for (int64_t j = 0; j < n; j++) {
            float z = y[i + j], v = pick(fabsf(z) < INFINITY, moved(z), 0.0f);
            int32_t some = (fabsf(logits[j]) < HUGE_) & (fabsf(z) < INFINITY);
            float slope = -g[j] * tanh_half(finite_or(logits[j], 0.0f) - temperature[j] * v);
            d[j] = pick(some, slope, 0.0f);
        }
        if (dx) memcpy(dx + i, d, n * sizeof(float));
        if (dy)
            SIMD for (int64_t j = 0; j < n; j++) {
                float z = y[i + j], of_y = last * (g[j] * tanh_half(z));
                int32_t some = (fabsf(logits[j]) < HUGE_) & (fabsf(z) <= LARGEST);
                dy[i + j] = pick(some, of_y - temperature[j] * d[j], 0.0f);
            }
        if (dt)
            SIMD for (int64_t j = 0; j < n; j++) {
                float z = y[i + j], v = pick(fabsf(z) < INFINITY, moved(z), 0.0f);
                int32_t some = (fabsf(logits[j]) < HUGE_) & (fabsf(z) < INFINITY);
                dt[i + j] = pick(some, g[j] / temperature[j] - d[j] * v, 0.0f);
            }
    }
}

#define ENTRY(result, name, arguments) JOIN(name, LEVEL),
const struct kernels JOIN(kernels, LEVEL) = {KERNELS(ENTRY)};
