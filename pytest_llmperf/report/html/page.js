"use strict";
// Which tests are shown, and when their charts are drawn. The numbers are those of chart_data.py.
(() => {
  const byId = (id) => document.getElementById(id);
  const tests = [...document.querySelectorAll("details.test")];

  // ---- which tests are shown ----
  const names = new Map(
    tests.map((one) => [one, one.querySelector(".name").textContent.toLowerCase()]),
  );
  const shownTests = () => tests.filter((one) => !one.hidden);
  function filter() {
    const wanted = byId("name").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const boxes = document.querySelectorAll("#filters [name=verdict]");
    const kinds = new Set([...boxes].filter((box) => box.checked).map((box) => box.value));
    for (const one of tests) {
      const isNamed = wanted.every((word) => names.get(one).includes(word));
      one.hidden = !(kinds.has(one.dataset.v) && isNamed);
    }
    byId("shown").textContent = `${shownTests().length} of ${tests.length} tests shown`;
  }
  if (tests.length) {
    const form = byId("filters");
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    byId("open").addEventListener("click", () => shownTests().forEach((one) => (one.open = true)));
    byId("close").addEventListener("click", () => tests.forEach((one) => (one.open = false)));
    filter();
  }
  // What is printed is open, whatever was open on the screen.
  addEventListener("beforeprint", () => tests.forEach((one) => (one.open = true)));
  const target = tests.find((one) => `#${one.id}` === location.hash);
  if (target) {
    target.open = true;
    target.scrollIntoView();
  }

  // ---- the numbers, inflated once, when the first chart is drawn ----
  let loading;
  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  async function read() {
    const [objects, bytes] = await Promise.all(byId("data").textContent.split(".").map(inflate));
    let next = 0;
    // Objects are revived in the order they were written, and so their series' bytes.
    const series = ([low, step, count]) => {
      const found = Array.from(bytes.subarray(next, next + count), (one) => (one === 255 ? null : low + one * step));
      next += count;
      return found;
    };
    const text = new TextDecoder().decode(objects);
    return JSON.parse(text, (_, value) => (value?.q ? series(value.q) : value));
  }
  const load = () => (loading ??= read());

  // ---- charts, drawn when they are seen ----
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target: box } of entries) {
        if (!isIntersecting || box.dataset.drawn) continue;
        box.dataset.drawn = "yes";
        seen.unobserve(box);
        load().then(
          (data) => drawCharts(box, data),
          () => box.append("This browser can't draw the charts: it lacks DecompressionStream; a newer one has it."),
        );
      }
    },
    { rootMargin: "300px" },
  );
  document.querySelectorAll(".charts").forEach((box) => seen.observe(box));
})();
