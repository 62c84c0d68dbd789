/* Calls every kernel with arrays that end where the kernel must stop, at addresses that are
 * multiples of 4 bytes alone, and far behind the 2^31st number of a result. The sanitizers with
 * which it is compiled end it at the first fault. `make sanitize` runs it. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kernels.h"

extern const struct kernels *relaxed_dists_kernels(int at_most);

enum { NORMAL, MASKED, EMPTY, NOT_A_NUMBER, INFINITE, LARGE, KINDS };

static void *held[64];
static int number_held;
static long calls;

/* An array of its own, so that a step over either end is seen; odd ones are not aligned. */
static float *array(int64_t number, int kind) {
    int64_t skipped = number_held % 2;
    float *x = malloc((number + skipped) * sizeof(float)), *start = x + skipped;
    if (!x) abort();
    held[number_held++] = x;
    for (int64_t i = 0; i < number; i++) {
        start[i] = (float)((i * 7919 + 13) % 2001 - 1000) / 250.0f;
        if (kind == MASKED && i % 3 == 1) start[i] = -INFINITY;
        if (kind == EMPTY) start[i] = -INFINITY;
        if (kind == NOT_A_NUMBER && i % 5 == 2) start[i] = i % 2 ? NAN : -NAN;
        if (i % 17 == 4) start[i] = i % 2 ? 0.0f : -0.0f;
        if (kind == INFINITE && i % 4 == 3) start[i] = INFINITY;
        if (kind == LARGE) start[i] *= i % 2 ? 1e38f : 1e-42f;
    }
    return start;
}

static float *temperatures(int64_t number, int64_t i) {
    static const float values[] = {0.7f, 1e-30f, 1e30f, NAN, 0.0f, INFINITY};
    float *t = array(number, NORMAL);
    for (int64_t r = 0; r < number; r++) t[r] = values[(i + r) % 6];
    return t;
}

static void release(void) {
    while (number_held) free(held[--number_held]);
}

/* One-hot kernels on rows from `begin` to `end`. Pointers to results have room for those alone. */
static void rows(const struct kernels *k, int64_t x_number, int64_t t_number, int64_t K,
                 int64_t begin, int64_t end, int kind) {
    int64_t number = end - begin, first = begin * K;
    float *x = array(x_number * K, kind), *t = temperatures(t_number, kind);
    float *noise = array(number * K, NORMAL) - first, *y = array(number * K, kind) - first;
    float *value = array(number * K, NORMAL) - first, *out = array(number, NORMAL) - begin;
    float *dx = array(number * K, NORMAL) - first, *dy = array(number * K, NORMAL) - first;
    float *dt = array(number, NORMAL) - begin, *given = array(number * K, kind) - first;
    float *by_row = array(number, kind) - begin, *by_one = array(1, kind);
    float *by_column = array(K, kind), *by_all = array(number * K, kind) - first;
    float *apart = array(number * K * 2, kind) - 2 * first;

    k->noise(7, noise, K, begin, end);
    k->look(x, x_number * K, K);
    k->look(x, x_number * K, 0);
    for (int i = 0; i < 4; i++) {
        const float *g = i & 1 ? noise : NULL;
        float *own = i & 2 ? out : NULL;
        k->draw(7, g, x, x_number, t, t_number, NULL, value, NULL, 0, K, begin, end);
        k->draw(7, g, x, x_number, t, t_number, NULL, value, NULL, 1, K, begin, end);
        k->draw(7, g, x, x_number, t, t_number, y, value, own, 1, K, begin, end);
        k->draw(7, g, x, x_number, t, t_number, y, NULL, own, 0, K, begin, end);
        k->draw(7, g, x, x_number, t, t_number, y, value, own, 0, K, begin, end);
    }
    k->draw_back(y, value, t, t_number, by_all, K, 1, NULL, 0, 0, by_row, 1, dx, dt, K, begin, end);
    k->draw_back(y, NULL, t, t_number, by_column, 0, 1, by_all, K, 1, by_one, 0, dx, dt, K, begin, end);
    k->draw_back(y, value, t, t_number, by_row, 1, 0, by_one, 0, 0, NULL, 0, dx, dt, K, begin, end);
    k->draw_back(NULL, value, t, t_number, NULL, 0, 0, by_column, 0, 1, NULL, 0, dx, NULL, K, begin, end);
    k->draw_back(NULL, value, t, t_number, NULL, 0, 0, apart, 2 * K, 1, NULL, 0, dx, NULL, K, begin, end);
    for (int simplex = 0; simplex < 2; simplex++)
        for (int i = 0; i < 2; i++) {
            const float *z = i ? given : y;
            k->density(x, x_number, t, t_number, z, out, simplex, K, begin, end);
            k->density_back(x, x_number, t, t_number, z, by_row, 1, dx, dy, dt, simplex, K, begin, end);
            k->density_back(x, x_number, t, t_number, z, by_one, 0, NULL, dy, NULL, simplex, K, begin, end);
            k->density_back(x, x_number, t, t_number, z, by_one, 0, dx, NULL, dt, simplex, K, begin, end);
        }
    for (int i = 0; i < 2; i++) {
        k->mass(x, x_number, i ? given : value, out, K, begin, end);
        k->mass_back(x, x_number, i ? given : value, by_row, 1, dx, dy, K, begin, end);
        k->mass_back(x, x_number, i ? given : value, by_one, 0, dx, NULL, K, begin, end);
        k->mass_back(x, x_number, i ? given : value, by_one, 0, NULL, dy, K, begin, end);
    }
    calls += 47;
    release();
}

static void numbers(const struct kernels *k, int64_t x_number, int64_t t_number, int64_t begin,
                    int64_t end, int kind) {
    int64_t number = end - begin;
    float *x = array(x_number, kind), *t = temperatures(t_number, kind);
    float *noise = array(number, NORMAL) - begin, *y = array(number, kind) - begin;
    float *value = array(number, NORMAL) - begin, *out = array(number, NORMAL) - begin;
    float *dx = array(number, NORMAL) - begin, *dy = array(number, NORMAL) - begin;
    float *dt = array(number, NORMAL) - begin, *given = array(number, kind) - begin;
    float *by_all = array(number, kind) - begin, *by_one = array(1, kind);

    k->logistic(7, noise, begin, end);
    for (int i = 0; i < 2; i++) {
        const float *g = i ? noise : NULL;
        k->binary_draw(7, g, x, x_number, t, t_number, NULL, value, 0, begin, end);
        k->binary_draw(7, g, x, x_number, t, t_number, NULL, value, 1, begin, end);
        k->binary_draw(7, g, x, x_number, t, t_number, y, value, 1, begin, end);
        k->binary_draw(7, g, x, x_number, t, t_number, y, NULL, 0, begin, end);
        k->binary_draw(7, g, x, x_number, t, t_number, y, value, 0, begin, end);
    }
    k->binary_draw_back(y, t, t_number, by_all, 1, NULL, 0, dx, dt, begin, end);
    k->binary_draw_back(y, t, t_number, NULL, 0, by_all, 1, dx, NULL, begin, end);
    k->binary_draw_back(y, t, t_number, by_one, 0, by_one, 0, dx, dt, begin, end);
    for (int unit = 0; unit < 2; unit++)
        for (int i = 0; i < 2; i++) {
            const float *z = i ? given : y;
            k->binary_density(x, x_number, t, t_number, z, out, unit, begin, end);
            k->binary_density_back(x, x_number, t, t_number, z, by_all, 1, dx, dy, dt, unit, begin, end);
            k->binary_density_back(x, x_number, t, t_number, z, by_one, 0, NULL, dy, NULL, unit, begin, end);
            k->binary_density_back(x, x_number, t, t_number, z, by_one, 0, dx, NULL, dt, unit, begin, end);
        }
    calls += 30;
    release();
}

/* A look at more than 2^31 numbers, which are zeros that take no memory until they are read. */
static void look_far(const struct kernels *k) {
    int64_t number = (1ll << 31) + 17;
    float *x = mmap(NULL, number * sizeof(float), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (x == MAP_FAILED) abort();
    if (k->look(x, number, 1)) abort();
    munmap(x, number * sizeof(float));
    calls++;
}

int main(void) {
    static const int64_t widths[] = {1,   2,    3,    10,   15,   16,   17,   31,   32,   33,  64,
                                     683, 1024, 1025, 2047, 2048, 2049, 4096, 4097, 10001};
    static const int64_t many[] = {0, 1, 2, 6, 31, 206, 2048, 2050};
    for (int level = 2; level <= 4; level++) {
        const struct kernels *k = relaxed_dists_kernels(level);
        if (level > 2 && k == relaxed_dists_kernels(level - 1)) continue;
        for (int kind = 0; kind < KINDS; kind++) {
            for (unsigned w = 0; w < sizeof widths / sizeof *widths; w++) {
                int64_t K = widths[w];
                for (unsigned m = 0; m < sizeof many / sizeof *many; m++) {
                    int64_t number = many[m];
                    if (number > 2 && number * K > 7000) continue;
                    rows(k, number ? number : 1, number ? number : 1, K, 0, number, kind);
                    rows(k, 1, 1, K, 0, number, kind);
                    if (number > 1 && number % 2 == 0) {
                        rows(k, 2, number, K, 0, number, kind);
                        rows(k, number, number / 2, K, 1, number, kind);
                        rows(k, number / 2, 2, K, number / 2, number, kind);
                    }
                }
                int64_t far = (1ll << 33) / K; /* a block's number and an offset over 32 bits */
                rows(k, 1, 1, K, far, far + 3, kind);
                rows(k, 3, 2, K, far, far + 3, kind);
            }
            for (unsigned m = 0; m < sizeof many / sizeof *many; m++) {
                int64_t number = many[m], far = (1ll << 33) + 5;
                numbers(k, number ? number : 1, number ? number : 1, 0, number, kind);
                numbers(k, 1, 1, 0, number, kind);
                numbers(k, 3, 2, 0, number, kind);
                numbers(k, 1, 1, far, far + number, kind);
                numbers(k, 7, 3, far, far + number, kind);
            }
        }
        if (level == 4 || relaxed_dists_kernels(4) == k) look_far(k);
        printf("level %d: passed\n", level);
    }
    printf("The sanitizers found nothing in %ld calls.\n", calls);
    return 0;
}
