"use strict";
// The charts of a test. Names and texts only ever become text nodes.
const drawCharts = (() => {
  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  // A size of change in words, as in gate/words.py.
  function change(metric, value) {
    if (value == null) return "–";
    const size = Math.abs(value).toFixed(1);
    const [worse, better] = metric.w ?? ["slower", "faster"];
    return size === "0.0" ? "no change" : `${size}% ${value > 0 ? worse : better}`;
  }
  const short = (value) => (value == null ? "–" : String(+value.toPrecision(4)));
  const range = (count) => Array.from({ length: count }, (_, index) => index);
  const charts = new Set();

  // Draws a line across a chart, with its name at the right end or at the top.
  function across(u, at, scale, name, ink, dash) {
    const { left, top, width, height } = u.bbox;
    const place = Math.round(u.valToPos(at, scale, true));
    const isLevel = scale === "y";
    if (isLevel ? place < top || place > top + height : place < left || place > left + width) return;
    const { ctx } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = ink;
    ctx.lineWidth = ratio;
    ctx.setLineDash(dash.map((one) => one * ratio));
    ctx.beginPath();
    if (isLevel) {
      ctx.moveTo(left, place);
      ctx.lineTo(left + width, place);
    } else {
      ctx.moveTo(place, top);
      ctx.lineTo(place, top + height);
    }
    ctx.stroke();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    if (isLevel) {
      ctx.textAlign = "right";
      ctx.textBaseline = "bottom"; // uPlot leaves another one
      ctx.fillText(name, left + width - 2 * ratio, place - 2 * ratio);
    } else {
      const isLeft = place < left + width / 2;
      ctx.textAlign = isLeft ? "left" : "right";
      ctx.textBaseline = "top";
      ctx.fillText(name, place + (isLeft ? 3 : -3) * ratio, top + 2 * ratio);
    }
    ctx.restore();
  }

  // One chart: `options` are uPlot's, as a function, as colours depend on the scheme.
  function figure(box, title, note, options, data) {
    const made = make("figure");
    const caption = make("figcaption");
    caption.append(make("b", "", title), " ", make("span", "", note));
    const place = make("div", "plot");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `${title}: ${note}`);
    made.append(caption, place);
    box.append(made);
    const chart = { place, options, data, plot: null };
    charts.add(chart);
    draw(chart);
  }
  function draw(chart) {
    chart.plot?.destroy();
    const own = chart.options();
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 } };
    axis.ticks = { stroke: colour("line"), width: 1, size: 4 };
    axis.font = "11px system-ui, sans-serif";
    own.axes = own.axes.map((one, index) => ({ ...axis, size: index ? 62 : 30, ...one }));
    own.padding = [10, 18, 0, 0];
    own.width = Math.max(chart.place.clientWidth, 200);
    own.height = own.height ?? 190;
    own.cursor = { points: { size: 6 }, y: false, ...own.cursor };
    chart.plot = new uPlot(own, chart.data, chart.place);
  }
  const isGone = (chart) => !chart.place.isConnected;
  function forget() {
    for (const chart of charts) {
      if (isGone(chart)) {
        chart.plot.destroy();
        charts.delete(chart);
      }
    }
  }
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", () => {
      forget();
      charts.forEach(draw);
    });
  }
  let resizing;
  addEventListener("resize", () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => {
      forget();
      for (const { plot, place } of charts) {
        if (place.clientWidth) plot.setSize({ width: place.clientWidth, height: plot.height });
      }
    });
  });

  const number = { label: "no.", value: (_, x) => (x == null ? "–" : String(x)) };
  const yAxis = (unit) => ({ values: (_, all) => all.map((one) => `${short(one)} ${unit}`) });
  const wholes = { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] };

  // Each pair's (or process's) slowdown, and the interval after each look.
  function progress(box, metric) {
    const { a, t, n, d: each } = metric.p;
    const isBase = a === "base";
    const k = range(3).map((end) => metric.p.k.slice(end * n.length, (end + 1) * n.length));
    const z = k.map((series) => series.at(-1) ?? null);
    const looks = k.map((series) => {
      const found = Array(each.length).fill(null);
      series.forEach((value, index) => (found[n[index] - 1] = value));
      return found;
    });
    const known = each.filter((one) => one != null);
    const ends = [0, ...known, ...z.filter((one) => one != null)];
    if (isBase) ends.push(t);
    const least = Math.min(...ends);
    const greatest = Math.max(...ends);
    const room = (greatest - least || 1) * 0.12;
    const noun = isBase ? "pair" : "process";
    const line = (label, ink, extra) => ({
      label, stroke: colour(ink), spanGaps: true, points: { show: false },
      value: (_, v) => change(metric, v), ...extra,
    });
    figure(
      box,
      isBase ? "Pair by pair" : "Against the target",
      `slowdown of each ${noun} ${isBase ? "against the base" : "against the limit"}, and the 95% ` +
        "interval so far, after each",
      () => ({
        scales: { x: { time: false }, y: { range: [least - room, greatest + room] } },
        series: [
          { ...number, label: noun },
          line("difference", "soft", { paths: () => null, points: { show: true, size: 5, fill: colour("soft") } }),
          line("so far", "accent", { width: 2 }),
          line("from", "accent", { width: 1 }),
          line("to", "accent", { width: 1 }),
        ],
        bands: [{ series: [4, 3], fill: colour("band") }],
        axes: [wholes, yAxis("%")],
        hooks: {
          draw: [
            (u) => {
              across(u, 0, "y", isBase ? "no change" : "target", colour("soft"), [4, 3]);
              if (isBase) across(u, t, "y", "tolerance", colour("bad"), [6, 3]);
            },
          ],
        },
      }),
      [each.map((_, index) => index + 1), each, ...looks],
    );
  }

  // How the iterations are distributed.
  function distribution(box, metric, base) {
    const { r, c, b, o } = metric.h;
    const step = (r[1] - r[0]) / c.length;
    const middles = c.map((_, index) => r[0] + (index + 0.5) * step);
    const bars = uPlot.paths.bars({ size: [0.92, 60] });
    const total = c.reduce((sum, one) => sum + one, 0);
    const far = o ? "; what lies farther out is counted in the outermost bar" : "";
    const none = { show: false };
    const whole = (_, v) => String(v ?? "–");
    const filled = (counts) => counts.map((one) => one || null);
    figure(
      box,
      "Distribution",
      `${total} iterations${b ? `, and those of ${base} as outlines` : ""}${far}`,
      () => ({
        scales: { x: { time: false, range: [r[0] - step, r[1] + step] }, y: { range: (_, __, max) => [0, max * 1.08 || 1] } },
        series: [
          { label: metric.n, value: (_, v) => (v == null ? "–" : `${short(v)} ${metric.u}`) },
          { label: "iterations", stroke: colour("accent"), fill: colour("band"), paths: bars, points: none, value: whole },
          ...(b ? [{ label: "base", stroke: colour("ink"), width: 1.5, paths: bars, points: none, value: whole }] : []),
        ],
        axes: [{ space: 70, values: (_, all) => all.map((one) => `${short(one)} ${metric.u}`) }, { ...wholes, size: 44 }],
        hooks: {
          draw: [
            (u) => {
              if (metric.l != null) across(u, metric.l, "x", "target", colour("bad"), [6, 3]);
            },
          ],
        },
      }),
      [middles, filled(c), ...(b ? [filled(b)] : [])],
    );
  }

  // Every sample, where the page has them.
  function samples(box, metric, base) {
    const sides = metric.s.filter((rows) => rows.length);
    const spread = (rows) =>
      rows.flatMap((row, process) => row.map((value, i) => [process + 1 + (i / row.length) * 0.8, value]));
    const points = sides.map(spread);
    const data = uPlot.join(points.map((all) => [all.map(([x]) => x), all.map(([, y]) => y)]));
    const total = points.reduce((sum, all) => sum + all.length, 0);
    const inks = ["accent", "ink"];
    figure(
      box,
      "Every sample",
      `${total} iterations by process, in order${sides[1] ? `; those of ${base} too` : ""}`,
      () => ({
        scales: { x: { time: false } },
        series: [
          { ...number, label: "process", value: (_, x) => (x == null ? "–" : String(Math.floor(x))) },
          ...sides.map((_, side) => ({
            label: side ? "base" : "this session",
            stroke: colour(inks[side]), paths: () => null,
            points: { show: true, size: 4, width: 1, fill: side ? "transparent" : colour(inks[side]) },
            value: (_, v) => (v == null ? "–" : `${short(v)} ${metric.u}`),
          })),
        ],
        axes: [wholes, yAxis(metric.u)],
      }),
      data,
    );
  }

  // The levels of earlier sessions, this one's at the end, and where they changed.
  function history(box, metric, sessions) {
    const { c, v } = metric.y;
    const count = v.length;
    const i = Array.isArray(metric.y.i) ? metric.y.i : range(metric.y.i);
    const when = (x) => (x === count ? "now" : sessions[i[x]]?.[0].slice(0, 10) ?? "");
    const what = (x) => {
      const known = x == null || x === count ? null : sessions[i[x]];
      return known ? `${known[0].replace("T", " ")} ${known[1]}` : x === count ? "this session" : "–";
    };
    const now = [...Array(count).fill(null), metric.x ?? null];
    const changed = c.length
      ? c.map(([at, by]) => `${change(metric, by)} from ${when(at)}`).join("; ")
      : "no change of level found";
    figure(
      box,
      "History",
      `${count} earlier session${count === 1 ? "" : "s"}; ${changed}`,
      () => ({
        scales: { x: { time: false, range: [-0.5, count + 0.5] } },
        series: [
          { label: "session", value: (_, x) => what(x) },
          { label: "level", stroke: colour("accent"), width: 1.5, points: { show: true, size: 5 }, value: (_, y) => (y == null ? "–" : `${short(y)} ${metric.u}`) },
          { label: "now", stroke: colour("ink"), paths: () => null, points: { show: true, size: 9, width: 2 }, value: (_, y) => (y == null ? "–" : `${short(y)} ${metric.u}`) },
        ],
        axes: [{ ...wholes, space: 80, values: (_, all) => all.map((x) => (Number.isInteger(x) ? when(x) : "")) }, yAxis(metric.u)],
        hooks: {
          draw: [
            (u) => {
              for (const [at, by] of c) across(u, at - 0.5, "x", change(metric, by), colour("bad"), [3, 3]);
              if (metric.l != null) across(u, metric.l, "y", "target", colour("soft"), [6, 3]);
            },
          ],
        },
      }),
      [range(count + 1), [...v, null], now],
    );
  }

  // Gaps between the output tokens of single iterations.
  function timeline(box, all) {
    const each = Math.max(...all.map((one) => one.e));
    const gaps = all.map((one) => one.g);
    const longest = Math.max(...gaps.map((one) => one.length));
    const named = (one) => (one.b ? "base, typical" : one.k);
    const padded = gaps.map((one) => range(longest).map((x) => one[x] ?? null));
    const stalls = all.map((one) => new Set(one.s));
    const stalled = range(longest).map((x) =>
      all.reduce((worst, one, n) => (stalls[n].has(x) ? Math.max(worst ?? 0, padded[n][x]) : worst), null),
    );
    const count = all.reduce((sum, one) => sum + one.s.length, 0);
    const inks = { typical: "accent", slowest: "warn", "base, typical": "ink" };
    const words = all.map((one) => `${named(one)} iteration ${short(one.z)} s, first token ${one.f.map((f) => short(f)).join(", ")} ms`);
    figure(
      box,
      "Token by token",
      `${words.join("; ")}; ${count} stall${count === 1 ? "" : "s"} (gaps over 3 times the median)` +
        (each > 1 ? `; each value is the longest of ${each} gaps` : ""),
      () => ({
        height: 210,
        scales: { x: { time: false }, y: { range: (_, min, max) => [0, (max || 1) * 1.08] } },
        series: [
          { ...number, label: "gap after token" },
          ...all.map((one) => ({
            label: named(one), stroke: colour(inks[named(one)]), width: one.b ? 1 : 1.5,
            points: { show: longest < 2 }, value: (_, v) => (v == null ? "–" : `${short(v)} ms`),
          })),
          { label: "stall", stroke: colour("bad"), paths: () => null, points: { show: true, size: 8, width: 2 }, value: (_, v) => (v == null ? "–" : `${short(v)} ms`) },
        ],
        axes: [wholes, yAxis("ms")],
        hooks: {
          draw: [
            (u) => {
              for (const begin of all[0].r.slice(1)) across(u, begin * each, "x", "next request", colour("soft"), [2, 3]);
            },
          ],
        },
      }),
      [range(longest).map((x) => x * each + 1), ...padded, stalled],
    );
  }

  // A GPU's counter while tokens came; processes are laid end to end.
  function counter(box, gpu, { n: name, u: unit, r: ends, v: values }) {
    const begins = new Set(gpu.p.slice(1));
    const x = [];
    const y = [];
    gpu.s.forEach((seconds, index) => {
      if (begins.has(index)) {
        x.push((x.at(-1) + seconds) / 2);
        y.push(null);
      }
      x.push(seconds);
      y.push(values[index]);
    });
    figure(
      box,
      `${gpu.n} ${name}`,
      `${ends.map(short).join(" to ")} ${unit} while decoding`,
      () => ({
        height: 140,
        scales: { x: { time: false } },
        series: [
          { label: "seconds", value: (_, v) => (v == null ? "–" : v.toFixed(1)) },
          { label: unit, stroke: colour("accent"), width: 1.5, points: { show: false }, value: (_, v) => short(v) },
        ],
        axes: [{}, yAxis(unit)],
      }),
      [x, y],
    );
  }

  // All charts of one test; those of one metric at a time.
  function drawTest(box, data) {
    const test = data.tests[box.dataset.i];
    const plots = make("div", "plots");
    const show = (metric) => {
      plots.replaceChildren();
      forget();
      if (metric.p) progress(plots, metric);
      if (metric.s) samples(plots, metric, test.base);
      if (metric.h) distribution(plots, metric, test.base);
      if (metric.y) history(plots, metric, data.sessions);
    };
    const drawable = test.m.filter((one) => one.p || one.h || one.s || one.y);
    if (drawable.length > 1) {
      const choice = make("fieldset", "choice");
      choice.append(make("legend", "", "Charts of"));
      drawable.forEach((metric, index) => {
        const label = make("label");
        const radio = make("input");
        radio.type = "radio";
        radio.name = `metric-${box.dataset.i}`;
        radio.checked = index === 0;
        radio.addEventListener("change", () => show(metric));
        label.append(radio, metric.n);
        choice.append(label);
      });
      box.append(choice);
    }
    box.append(plots);
    if (drawable.length) show(drawable[0]);
    const others = make("div", "plots");
    box.append(others);
    if (test.t.length) timeline(others, test.t);
    test.g.forEach((gpu) => gpu.c.forEach((one) => counter(others, gpu, one)));
  }
  return drawTest;
})();
