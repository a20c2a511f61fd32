/*
 * A chart: one line through measured points, as an SVG (1.1) that any browser shows.
 */
#include "myriops/eval.h"

#include "base/buffer.h"

#include <math.h>
#include <stdbool.h>

enum { WIDTH = 720, HEIGHT = 440, LEFT = 80, RIGHT = 24, TOP = 48, BOTTOM = 64, MOST_TICKS = 8 };

/* An axis from one round number to another. */
typedef struct axis {
    double from, to, step;
} axis;

/* Steps of 1, 2 or 5 times a power of ten, MOST_TICKS at most. */
static axis axis_over(double least, double most)
{
    double width = most - least, step = pow(10, floor(log10(width / MOST_TICKS)));
    static const double factors[] = {1, 2, 5, 10};
    size_t i = 0;
    while (i < 3 && width / (step * factors[i]) > MOST_TICKS)
        i++;
    step *= factors[i];
    return (axis){.from = floor(least / step + 1e-9) * step, .to = ceil(most / step - 1e-9) * step, .step = step};
}

static axis axis_of(const double *values, size_t n)
{
    double least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        least = values[i] < least ? values[i] : least;
        most = values[i] > most ? values[i] : most;
    }
    return axis_over(least, most > least ? most : least + 1);
}

static double across(const axis *x, double value)
{
    return LEFT + (value - x->from) / (x->to - x->from) * (WIDTH - LEFT - RIGHT);
}

static double down(const axis *y, double value)
{
    return HEIGHT - BOTTOM - (value - y->from) / (y->to - y->from) * (HEIGHT - TOP - BOTTOM);
}

static void put_text(myr_buffer *out, double x, double y, const char *more, const char *text)
{
    myr_buffer_printf(out, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, more);
    for (const char *c = text; *c; c++) {
        if (*c == '&' || *c == '<' || *c == '>')
            myr_buffer_printf(out, "&#%d;", *c);
        else
            myr_buffer_append(out, c, 1);
    }
    myr_buffer_puts(out, "</text>\n");
}

static void put_number(myr_buffer *out, double x, double y, const char *more, double number)
{
    myr_buffer_printf(out, "<text x=\"%.1f\" y=\"%.1f\"%s>%.6g</text>\n", x, y, more, number);
}

static void put_grid(myr_buffer *out, const axis *x, const axis *y)
{
    myr_buffer_puts(out, "<g stroke=\"#d7dce2\">\n");
    for (int i = 0; x->from + i * x->step <= x->to * (1 + 1e-9); i++)
        myr_buffer_printf(out, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n",
                          across(x, x->from + i * x->step), TOP, across(x, x->from + i * x->step), HEIGHT - BOTTOM);
    for (int i = 0; y->from + i * y->step <= y->to * (1 + 1e-9); i++)
        myr_buffer_printf(out, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", LEFT,
                          down(y, y->from + i * y->step), WIDTH - RIGHT, down(y, y->from + i * y->step));
    myr_buffer_puts(out, "</g>\n");
    for (int i = 0; x->from + i * x->step <= x->to * (1 + 1e-9); i++)
        put_number(out, across(x, x->from + i * x->step), HEIGHT - BOTTOM + 20, " text-anchor=\"middle\"",
                   x->from + i * x->step);
    for (int i = 0; y->from + i * y->step <= y->to * (1 + 1e-9); i++)
        put_number(out, LEFT - 8, down(y, y->from + i * y->step) + 4, " text-anchor=\"end\"", y->from + i * y->step);
}

myr_status myr_chart_write(const myr_chart *chart, myr_buffer *out)
{
    bool is_finite = chart->n > 0;
    for (size_t i = 0; i < chart->n; i++)
        is_finite = is_finite && isfinite(chart->x[i]) && isfinite(chart->y[i]);
    if (!is_finite)
        return myr_fail(MYR_ERR_ARG, "a chart needs points, all finite");
    axis x = axis_of(chart->x, chart->n), y = axis_of(chart->y, chart->n);
    if (x.from > 0 && x.from <= x.step)
        x.from = 0;
    myr_buffer_printf(out,
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
                      "font-size=\"13\" fill=\"#1b1f24\">\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
                      WIDTH, HEIGHT, WIDTH, HEIGHT);
    put_text(out, LEFT, TOP - 20, " font-size=\"16\" font-weight=\"bold\"", chart->title);
    put_grid(out, &x, &y);
    put_text(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 18, " text-anchor=\"middle\"", chart->x_name);
    myr_buffer_printf(out, "<g transform=\"translate(20 %d) rotate(-90)\">", (TOP + HEIGHT - BOTTOM) / 2);
    put_text(out, 0, 0, " text-anchor=\"middle\"", chart->y_name);
    myr_buffer_puts(out, "</g>\n<polyline fill=\"none\" stroke=\"#2457c5\" stroke-width=\"2\" points=\"");
    for (size_t i = 0; i < chart->n; i++)
        myr_buffer_printf(out, "%.1f,%.1f ", across(&x, chart->x[i]), down(&y, chart->y[i]));
    myr_buffer_puts(out, "\"/>\n<g fill=\"#2457c5\">\n");
    for (size_t i = 0; i < chart->n; i++)
        myr_buffer_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%.4g, %.4f</title></circle>\n",
                          across(&x, chart->x[i]), down(&y, chart->y[i]), chart->x[i], chart->y[i]);
    myr_buffer_puts(out, "</g>\n</svg>\n");
    return out->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for a chart") : MYR_OK;
}
