"""Draws and densities in Triton, for tiles of rows (long: each has its gradient written out).

The kernels are those of ``compiled/kernels.c``, with the same elementary functions, so that errors
from rounding are alike on a GPU and a CPU. ``by_triton`` imports this module when it launches the
first kernel. A program, Triton's word for a group of threads, computes a tile of ROWS rows. It
reads rows longer than BLOCK part by part, first for their maximum and sum, and again for the
results. It makes their noise twice too, since one thread can't at once read from memory what
another thread of the program has stored there.
"""

# ruff: noqa: SIM108, E501
# mypy: disable-error-code="no-untyped-def, untyped-decorator, import-not-found, misc, no-redef"

try:
    import triton
    import triton.language as tl
except ImportError:  # then nothing calls the kernels, but the module can still be imported

    class triton:
        """Stands for Triton where it is not installed."""

        jit = staticmethod(lambda kernel: kernel)
        constexpr = staticmethod(lambda x: x)

    tl = triton

HUGE = tl.constexpr(2.0**24)  # a logit of this size or more counts as infinite
LOWEST = tl.constexpr(-87.3)  # the exponential of a lower number is subnormal
LARGEST = tl.constexpr(1e30)  # finite log values are clamped to this size, against overflows
INF = tl.constexpr(float("inf"))
NEAR_1 = tl.constexpr(1.0 - 2.0**-24)  # the largest float32 below 1


# Elementary functions: Moshier's polynomials (Cephes), to about one ulp.


@triton.jit
def _log_from(f, k):
    """log(1 + f) + k log 2, for f from sqrt(1/2) - 1 to sqrt(2) - 1."""
    z, e = f * f, k.to(tl.float32)
    p = 7.0376836292e-2 * f - 1.1514610310e-1
    p = p * f + 1.1676998740e-1
    p = p * f - 1.2420140846e-1
    p = p * f + 1.4249322787e-1
    p = p * f - 1.6668057665e-1
    p = p * f + 2.0000714765e-1
    p = p * f - 2.4999993993e-1
    p = p * f + 3.3333331174e-1
    y = p * f * z + e * -2.12194440e-4
    return f + (y - 0.5 * z) + e * 0.693359375


@triton.jit
def _parts(x):
    """m from sqrt(1/2) to sqrt(2), and an integer k, with m 2^k = x, for a positive x."""
    bits = x.to(tl.int32, bitcast=True)
    k = (bits - 0x3F3504F3) >> 23
    return (bits - k * 0x800000).to(tl.float32, bitcast=True), k


@triton.jit
def _log(x):
    """The log of a positive normal number; -inf for 0."""
    m, k = _parts(x)
    return tl.where(x > 0.0, _log_from(m - 1.0, k), -INF)


@triton.jit
def _minus_log1p(u):
    """-log(1 - u), exact where u is small."""
    m, k = _parts(1.0 - u)
    return -_log_from(tl.where(k == 0, -u, m - 1.0), k)


@triton.jit
def _exp(x):
    """The exponential of a number up to 0; 0 where the result would be subnormal."""
    c = tl.where(x > LOWEST, x, LOWEST)
    k = (c * 1.44269504088896341 - 0.5).to(tl.int32)  # rounds to the nearest, as c is not positive
    n = k.to(tl.float32)
    r = c - n * 0.693359375
    r -= n * -2.12194440e-4
    p = 1.9875691500e-4 * r + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    p = p * r * r + r + 1.0
    power = ((k + 127) * 0x800000).to(tl.float32, bitcast=True)
    return tl.where(x > LOWEST, p * power, 0.0)


@triton.jit
def _softplus(x):
    e = _exp(-tl.abs(x))
    u = 1.0 + e
    return tl.where(x > 0.0, x, 0.0) + (_log(u) + (e - (u - 1.0)) / u)


@triton.jit
def _sigmoid(x):
    e = _exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def _tanh_half(x):
    """tanh(x / 2)."""
    e, h = _exp(-tl.abs(x)), 0.5 * x
    z = h * h
    p = -5.70498872745e-3 * z + 2.06390887954e-2
    p = p * z - 5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z - 3.33332819422e-1
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 1.25, p * z * h + h, tl.where(x < 0.0, -far, far))


@triton.jit
def _log_factorial(k):
    """log (k - 1)! in double for whole numbers k >= 1, by Stirling's series at k + 8."""
    shift = tl.log(k)
    for i in tl.static_range(1, 8):
        shift += tl.log(k + i)
    z = k + 8.0
    w = 1.0 / (z * z)
    series = (1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w / 1680.0))) / z
    return (z - 0.5) * tl.log(z) - z + 0.91893853320467274178 + series - shift


# Noise: each number is made from two words of the generator Philox (Salmon et al. 2011), whose
# counter is the number's row and column.


@triton.jit
def _words(seed, row, column):
    zero = (row * 0 + column * 0).to(tl.int32)
    a, b, _, _ = tl.philox(
        seed,
        zero + column.to(tl.int32),
        zero + (row & 0x7FFFFFFF).to(tl.int32),
        zero + (row >> 31).to(tl.int32),
        zero,
    )
    a, b = a.to(tl.int32, bitcast=True), b.to(tl.int32, bitcast=True)
    # u is uniform on (0, 1), with all digits exact down to 2^-63: it has the bits of the word a,
    # and below them those of b.
    low = (((b >> 1) & 0x7FFFFFFF).to(tl.float32) + 0.5) * 2.0**-31
    u = (((a >> 1) & 0x7FFFFFFF).to(tl.float32) + low) * 2.0**-31
    return tl.where(u < NEAR_1, u, NEAR_1), a & 1


@triton.jit
def _gumbel(seed, row, column):
    u, _ = _words(seed, row, column)
    return -_log(_minus_log1p(u))


@triton.jit
def _logistic(seed, row, column):
    u, sign = _words(seed, row, column)
    size = _log(2.0 / u - 1.0)  # the sign is the bit of the word that u does not use
    return tl.where(sign == 1, -size, size)


# Functions on tiles: arrays of ROWS rows and BLOCK columns.


@triton.jit
def _rows_of_tile(ROWS: tl.constexpr):
    return (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]


@triton.jit
def _finite_or(x, other):
    return tl.where(tl.abs(x) < HUGE, x, other)


@triton.jit
def _moved(y):
    return tl.where(tl.abs(y) > LARGEST, tl.where(y > 0.0, LARGEST, -LARGEST), y)


@triton.jit
def _finite_top(top):
    """The maximum of a row's scores, or 0 where all categories are masked."""
    return tl.where(top == -INF, 0.0, top)


@triton.jit
def _total(x):
    return tl.sum(x, 1)[:, None]


@triton.jit
def _more(top, total, s, slope):
    """A row's maximum and sum of exp((score - maximum) * slope), updated with more scores s."""
    new = tl.maximum(top, tl.max(s, 1)[:, None])
    at = _finite_top(new)
    total = total * _exp((_finite_top(top) - at) * slope) + _total(_exp((s - at) * slope))
    return new, total


@triton.jit
def _log_total(total):
    """log(total) and 1 / total, where a total of 0 (all categories are masked) counts as 1."""
    total = tl.where(total > 0.0, total, 1.0)
    return _log(total), 1.0 / total


@triton.jit
def _drawn_scores(seed, noise, x, x_rows, row, column, inside, K, GIVEN: tl.constexpr):
    logits = tl.load(x + row % x_rows * K + column, mask=inside, other=-INF)
    if GIVEN:
        g = tl.load(noise + row * K + column, mask=inside, other=0.0)
    else:
        g = _gumbel(seed, row, column)
    return _finite_or(logits, -INF) + g


@triton.jit
def draw(
    seed, noise, x, x_rows, t, t_rows, y, value, number, K,
    GIVEN: tl.constexpr, HARD: tl.constexpr, LOG: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The log value y = log_softmax((x + noise) / t), and exp(y) or the one-hot argmax."""
    row, columns = _rows_of_tile(ROWS), tl.arange(0, BLOCK)[None, :]
    slope = tl.full((ROWS, 1), 1.0, tl.float32)
    if LOG or not HARD:
        slope /= tl.load(t + row % t_rows, mask=row < number, other=1.0)
    top = tl.full((ROWS, 1), -INF, tl.float32)
    total = tl.full((ROWS, 1), 0.0, tl.float32)
    best = tl.full((ROWS, 1), -1, tl.int32)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        s = _drawn_scores(seed, noise, x, x_rows, row, column, inside, K, GIVEN)
        if HARD:
            highest = tl.max(s, 1)[:, None]
            first = tl.min(tl.where(s == highest, column, K), 1)[:, None]
            best = tl.where(highest > top, first, best)
        top, total = _more(top, total, s, slope)
    log_total, factor = _log_total(total)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        place = row * K + column
        if LOG or not HARD:
            s = _drawn_scores(seed, noise, x, x_rows, row, column, inside, K, GIVEN)
            s = (s - _finite_top(top)) * slope
            if LOG:
                tl.store(y + place, s - log_total, mask=inside)
            if not HARD:
                tl.store(value + place, _exp(s) * factor, mask=inside)
        if HARD:
            tl.store(value + place, (column == best).to(tl.float32), mask=inside)


@triton.jit
def noise(seed, out, number, K, BLOCK: tl.constexpr, GUMBEL: tl.constexpr):
    """The noise that the draws make from a seed."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, column = place // K, place % K
    if GUMBEL:
        g = _gumbel(seed, row, column)
    else:
        g = _logistic(seed, row, column)
    tl.store(out + place, g, mask=place < number)


@triton.jit
def _gradient(y, p, by_y, y_row, y_column, by_value, v_row, v_column, row, column, inside, K,
              HAS_Y: tl.constexpr, HAS_P: tl.constexpr, BY_Y: tl.constexpr, BY_V: tl.constexpr):  # fmt: skip
    """The log value or 0, its exponential p, and by_y + p by_value or, where masked, 0."""
    place = row * K + column
    z = (
        tl.load(y + place, mask=inside, other=-INF)
        if HAS_Y
        else (row * 0 + column * 0).to(tl.float32)
    )
    f = tl.load(p + place, mask=inside, other=0.0) if HAS_P else _exp(z)
    h = f * 0.0
    if BY_V:
        h = f * tl.load(by_value + row * v_row + column * v_column, mask=inside, other=0.0)
    if BY_Y:
        h += tl.load(by_y + row * y_row + column * y_column, mask=inside, other=0.0)
    if HAS_Y:
        h = tl.where(z > -INF, h, 0.0)
        z = tl.where(z > -INF, z, 0.0)
    else:
        h = tl.where(f > 0.0, h, 0.0)
    return z, f, tl.where(inside, h, 0.0)


@triton.jit
def draw_back(
    y, p, t, t_rows, by_y, y_row, y_column, by_value, v_row, v_column, dx, dt, number, K,
    HAS_Y: tl.constexpr, HAS_P: tl.constexpr, BY_Y: tl.constexpr, BY_V: tl.constexpr,
    BY_T: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of a draw: dx = (h - p sum(h)) / t and dt = -sum(dx y).

    Here p is exp(y), and h is by_y + p by_value.
    """
    row, columns = _rows_of_tile(ROWS), tl.arange(0, BLOCK)[None, :]
    slope = 1.0 / tl.load(t + row % t_rows, mask=row < number, other=1.0)
    total = tl.full((ROWS, 1), 0.0, tl.float64)
    by_t = tl.full((ROWS, 1), 0.0, tl.float64)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        _z, _f, h = _gradient(y, p, by_y, y_row, y_column, by_value, v_row, v_column, row, column,
                            inside, K, HAS_Y, HAS_P, BY_Y, BY_V)  # fmt: skip
        total += _total(h).to(tl.float64)
    everything = total.to(tl.float32)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        z, f, h = _gradient(y, p, by_y, y_row, y_column, by_value, v_row, v_column, row, column,
                            inside, K, HAS_Y, HAS_P, BY_Y, BY_V)  # fmt: skip
        d = (h - f * everything) * slope
        tl.store(dx + row * K + column, d, mask=inside)
        if BY_T:
            by_t += _total(tl.where(inside, d * z, 0.0)).to(tl.float64)
    if BY_T:
        tl.store(dt + row, (-by_t).to(tl.float32), mask=row < number)


@triton.jit
def _density_part(x, x_rows, temperature, y, row, column, inside, K):
    """Scores x - t y; y, clamped; which categories are unmasked; and where the density is zero."""
    logits = tl.load(x + row % x_rows * K + column, mask=inside, other=-INF)
    z = tl.load(y + row * K + column, mask=inside, other=-INF)
    unmasked, finite = tl.abs(logits) < HUGE, tl.abs(z) < INF
    off = tl.where(finite, ~unmasked, unmasked | (z != -INF))
    v = _moved(tl.where(finite, z, 0.0))
    s = tl.where(unmasked & finite, _finite_or(logits, 0.0) - temperature * v, -INF)
    return s, v, unmasked, off & inside


@triton.jit
def _density_sums(x, x_rows, temperature, y, row, columns, number, K,
                  ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    top = tl.full((ROWS, 1), -INF, tl.float32)
    total = tl.full((ROWS, 1), 0.0, tl.float32)
    count = tl.full((ROWS, 1), 0, tl.int32)
    outside = tl.full((ROWS, 1), 0, tl.int32)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        s, _v, unmasked, off = _density_part(x, x_rows, temperature, y, row, column, inside, K)
        top, total = _more(top, total, s, 1.0)
        count += _total((unmasked & inside).to(tl.int32))
        outside += _total(off.to(tl.int32))
    log_total, factor = _log_total(total)
    return _finite_top(top), log_total, factor, count, outside > 0


@triton.jit
def density(
    x, x_rows, t, t_rows, y, out, number, K,
    SIMPLEX: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The log density of log values y or, if SIMPLEX, of exp(y) on the simplex."""
    row, columns = _rows_of_tile(ROWS), tl.arange(0, BLOCK)[None, :]
    temperature = tl.load(t + row % t_rows, mask=row < number, other=1.0)
    top, log_total, _, count, off = _density_sums(
        x, x_rows, temperature, y, row, columns, number, K, ROWS, BLOCK
    )
    total = tl.full((ROWS, 1), 0.0, tl.float64)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        s, v, _unmasked, _off = _density_part(x, x_rows, temperature, y, row, column, inside, K)
        term = s - top - log_total
        if SIMPLEX:
            term -= v
        total += _total(tl.where(s > -INF, term, 0.0)).to(tl.float64)
    number_of = tl.maximum(count, 1).to(tl.float64)
    total += _log_factorial(number_of) + (number_of - 1.0) * tl.log(temperature.to(tl.float64))
    tl.store(out + row, tl.where(off, -INF, total.to(tl.float32)), mask=row < number)


@triton.jit
def density_back(
    x, x_rows, t, t_rows, y, by_out, out_row, dx, dt, dy, number, K, SIMPLEX: tl.constexpr,
    BY_X: tl.constexpr, BY_T: tl.constexpr, BY_Y: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of the density: that of the scores is g (1 - K' p), with p their softmax.

    K' is the number of unmasked categories.
    """
    row, columns = _rows_of_tile(ROWS), tl.arange(0, BLOCK)[None, :]
    temperature = tl.load(t + row % t_rows, mask=row < number, other=1.0)
    top, _, factor, count, off = _density_sums(
        x, x_rows, temperature, y, row, columns, number, K, ROWS, BLOCK
    )
    g = tl.where(off, 0.0, tl.load(by_out + row * out_row, mask=row < number, other=0.0))
    factor *= g * count.to(tl.float32)
    total = tl.full((ROWS, 1), 0.0, tl.float64)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        place = row * K + column
        s, v, _unmasked, _off = _density_part(x, x_rows, temperature, y, row, column, inside, K)
        some = s > -INF
        d = tl.where(some, g - _exp(s - top) * factor, 0.0)
        if BY_X:
            tl.store(dx + place, d, mask=inside)
        if BY_Y:
            z = tl.load(y + place, mask=inside, other=0.0)
            by_y = -temperature * d
            if SIMPLEX:
                by_y -= g
            tl.store(dy + place, tl.where(some & (tl.abs(z) <= LARGEST), by_y, 0.0), mask=inside)
        total += _total(tl.where(some, d * v, 0.0)).to(tl.float64)
    if BY_T:
        more = g * (tl.maximum(count, 1) - 1).to(tl.float32) / temperature
        tl.store(dt + row, (more.to(tl.float64) - total).to(tl.float32), mask=row < number)


@triton.jit
def _mass_sums(x, x_rows, row, columns, number, K, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    top = tl.full((ROWS, 1), -INF, tl.float32)
    total = tl.full((ROWS, 1), 0.0, tl.float32)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        logits = tl.load(x + row % x_rows * K + column, mask=inside, other=-INF)
        top, total = _more(top, total, _finite_or(logits, -INF), 1.0)
    log_total, factor = _log_total(total)
    return _finite_top(top), log_total, factor


@triton.jit
def mass(x, x_rows, value, out, number, K, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The log mass sum_k value_k log p_k."""
    row, columns = _rows_of_tile(ROWS), tl.arange(0, BLOCK)[None, :]
    top, log_total, _ = _mass_sums(x, x_rows, row, columns, number, K, ROWS, BLOCK)
    total = tl.full((ROWS, 1), 0.0, tl.float64)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        logits = tl.load(x + row % x_rows * K + column, mask=inside, other=-INF)
        v = tl.load(value + row * K + column, mask=inside, other=0.0)
        some = (tl.abs(logits) < HUGE) & (v == v)
        term = tl.where(some, v * (_finite_or(logits, 0.0) - top - log_total), -INF)
        total += _total(tl.where(v == 0.0, 0.0, term)).to(tl.float64)
    tl.store(out + row, total.to(tl.float32), mask=row < number)


@triton.jit
def mass_back(
    x, x_rows, value, by_out, out_row, dx, dvalue, number, K,
    BY_X: tl.constexpr, BY_V: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of the log mass with respect to the logits and the value."""
    row, columns = _rows_of_tile(ROWS), tl.arange(0, BLOCK)[None, :]
    top, log_total, factor = _mass_sums(x, x_rows, row, columns, number, K, ROWS, BLOCK)
    g = tl.load(by_out + row * out_row, mask=row < number, other=0.0)
    weight = tl.full((ROWS, 1), 0.0, tl.float32)
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        logits = tl.load(x + row % x_rows * K + column, mask=inside, other=-INF)
        v = tl.load(value + row * K + column, mask=inside, other=0.0)
        weight += _total(tl.where((tl.abs(logits) < HUGE) & (v == v), v, 0.0))
    for k in range(0, K, BLOCK):
        column = k + columns
        inside = (row < number) & (column < K)
        logits = tl.load(x + row % x_rows * K + column, mask=inside, other=-INF)
        v = tl.load(value + row * K + column, mask=inside, other=0.0)
        unmasked, s = tl.abs(logits) < HUGE, _finite_or(logits, 0.0) - top
        if BY_X:
            d = tl.where(v == v, v, 0.0) - _exp(tl.where(unmasked, s, -INF)) * weight * factor
            tl.store(dx + row * K + column, tl.where(unmasked, g * d, 0.0), mask=inside)
        if BY_V:
            d = tl.where(unmasked & (v == v), g * (s - log_total), 0.0)
            tl.store(dvalue + row * K + column, d, mask=inside)


# Binary distributions, for flat arrays of numbers in place of rows.


@triton.jit
def binary_draw(
    seed, noise, x, x_number, t, t_number, y, value, number,
    GIVEN: tl.constexpr, HARD: tl.constexpr, LOG: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The logit y = (x + noise) / t, and sigmoid(y) or, if HARD, 1 where x + noise > 0."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < number
    logits = tl.load(x + i % x_number, mask=inside, other=0.0)
    if GIVEN:
        g = tl.load(noise + i, mask=inside, other=0.0)
    else:
        g = _logistic(seed, i, i * 0)
    score = logits + g
    if HARD:
        tl.store(value + i, (score > 0.0).to(tl.float32), mask=inside)
    if LOG or not HARD:
        temperature = tl.load(t + i % t_number, mask=inside, other=1.0)
        z = tl.where(tl.abs(logits) < HUGE, score / temperature, tl.where(logits > 0.0, INF, -INF))
        if LOG:
            tl.store(y + i, z, mask=inside)
        if not HARD:
            tl.store(value + i, _sigmoid(z), mask=inside)


@triton.jit
def binary_draw_back(
    y, t, t_number, by_y, y_stride, by_value, v_stride, dx, dt, number,
    BY_Y: tl.constexpr, BY_V: tl.constexpr, BY_T: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of the draw with respect to x and t."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < number
    z = tl.load(y + i, mask=inside, other=0.0)
    temperature = tl.load(t + i % t_number, mask=inside, other=1.0)
    d = z * 0.0
    if BY_V:
        e = _exp(-tl.abs(z))
        g = tl.load(by_value + i * v_stride, mask=inside, other=0.0)
        d = g * (e / ((1.0 + e) * (1.0 + e)))
    if BY_Y:
        d += tl.load(by_y + i * y_stride, mask=inside, other=0.0)
    finite = tl.abs(z) < INF
    d = tl.where(finite, d / temperature, 0.0)
    tl.store(dx + i, d, mask=inside)
    if BY_T:
        tl.store(dt + i, tl.where(finite, -d * z, 0.0), mask=inside)


@triton.jit
def binary_density(
    x, x_number, t, t_number, y, out, number, UNIT: tl.constexpr, BLOCK: tl.constexpr
):
    """The log density of the logits y or, if UNIT, of sigmoid(y) in (0, 1)."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < number
    logits = tl.load(x + i % x_number, mask=inside, other=0.0)
    temperature = tl.load(t + i % t_number, mask=inside, other=1.0)
    z = tl.load(y + i, mask=inside, other=0.0)
    finite, point = tl.abs(z) < INF, ~(tl.abs(logits) < HUGE)
    v = tl.where(finite, _moved(z), 0.0)
    d = _finite_or(logits, 0.0) - temperature * tl.where(point, 0.0, v)
    total = _log(temperature) + d - 2.0 * _softplus(d)
    if UNIT:
        total += 2.0 * _softplus(v) - v
    at = tl.where(logits > 0.0, z == INF, z == -INF)
    end = tl.where(point & at, 0.0, -INF)
    tl.store(out + i, tl.where(~point & finite, total, end), mask=inside)


@triton.jit
def binary_density_back(
    x, x_number, t, t_number, y, by_out, out_stride, dx, dt, dy, number, UNIT: tl.constexpr,
    BY_X: tl.constexpr, BY_T: tl.constexpr, BY_Y: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of the density with respect to the logits x, the temperature t and y."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < number
    logits = tl.load(x + i % x_number, mask=inside, other=0.0)
    temperature = tl.load(t + i % t_number, mask=inside, other=1.0)
    z = tl.load(y + i, mask=inside, other=0.0)
    g = tl.load(by_out + i * out_stride, mask=inside, other=0.0)
    finite = tl.abs(z) < INF
    some = finite & (tl.abs(logits) < HUGE)
    v = tl.where(finite, _moved(z), 0.0)
    d = tl.where(some, -g * _tanh_half(_finite_or(logits, 0.0) - temperature * v), 0.0)
    if BY_X:
        tl.store(dx + i, d, mask=inside)
    if BY_T:
        tl.store(dt + i, tl.where(some, g / temperature - d * v, 0.0), mask=inside)
    if BY_Y:
        by_y = -temperature * d
        if UNIT:
            by_y += g * _tanh_half(v)
        tl.store(dy + i, tl.where(some & (tl.abs(z) <= LARGEST), by_y, 0.0), mask=inside)
