"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const COLORS = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
  ];
  const card = document.createElement("div");
  card.className = "card";
  card.hidden = true;
  document.body.append(card);

  function element(name, text, kind) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function shortened(text, letters) {
    return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
  }

  function show(lines, x, y, tile) {
    const parts = lines.map((line, index) => element(index ? "div" : "b", line));
    if (tile !== undefined && tile !== null && data.tiles) {
      const { columns, side } = data.tiles;
      const picture = element("i");
      picture.style.backgroundImage = `url(${data.tiles.image})`;
      picture.style.backgroundPosition =
        `${-side * (tile % columns)}px ${-side * Math.floor(tile / columns)}px`;
      parts.unshift(picture);
    }
    card.replaceChildren(...parts);
    card.hidden = false;
    const width = card.offsetWidth, height = card.offsetHeight;
    card.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 6))}px`;
    card.style.top = `${y + 16 + height > innerHeight ? Math.max(4, y - height - 12) : y + 16}px`;
  }

  function hide() {
    card.hidden = true;
  }

  // --- charts: each gets its values and a width, and returns an SVG element ---------------------

  // Names stay readable where they lie on lines.
  const HALO = { stroke: "var(--page)", strokeWidth: 4 };

  function lines(spec, width) {
    const series = [...new Set(spec.points.map((point) => point.series))];
    const styles = ["var(--first)", "var(--second)", "var(--good)", "var(--quiet)"];
    const color = (point) => styles[series.indexOf(point.series) % styles.length];
    const dash = (name) => (series.indexOf(name) % 2 ? "5,3" : null);
    const last = series.map((name) => spec.points.filter((point) => point.series === name).at(-1));
    const end = d3.max(last, (point) => point.x);
    const named = { x: "x", y: "y", text: "series", fill: color, fontWeight: 600, ...HALO };
    return Plot.plot({
      width, height: 260, marginTop: 30, marginLeft: 52, marginRight: 86, marginBottom: 40,
      x: { label: spec.x, ...(spec.logarithmic ? { type: "log", tickFormat: "~g" } : { tickFormat: ",f" }) },
      y: { label: spec.y, grid: true, nice: true, ...(spec.percent ? { tickFormat: "%" } : {}) },
      marks: [
        spec.points[0].low === undefined ? null
          : Plot.areaY(spec.points, { x: "x", y1: "low", y2: "high", z: "series", fill: color, fillOpacity: 0.18 }),
        ...series.map((name) => {
          const own = spec.points.filter((point) => point.series === name);
          return Plot.lineY(own, {
            x: "x", y: "y", stroke: color(own[0]), strokeWidth: 2, strokeDasharray: dash(name),
          });
        }),
        spec.points.length < 30 * series.length
          ? Plot.dot(spec.points, { x: "x", y: "y", r: 3, fill: color, stroke: "var(--page)" }) : null,
        Plot.text(last.filter((point) => point.x === end), { ...named, textAnchor: "start", dx: 8 }),
        Plot.text(last.filter((point) => point.x !== end), { ...named, textAnchor: "end", dx: 4, dy: -14 }),
        spec.mark === undefined ? null : Plot.ruleX([spec.mark], { stroke: "var(--quiet)", strokeDasharray: "2,3" }),
        Plot.tip(spec.points, Plot.pointer({
          x: "x", y: "y", fill: "var(--page)", stroke: "var(--line)",
          title: (point) => `${point.series}\n${spec.x} ${point.x}: ${spec.percent ? percent(point.y) : point.y.toPrecision(4)}`,
        })),
      ],
    });
  }

  function bars(spec, width) {
    return Plot.plot({
      width, height: 260, marginTop: 30, marginLeft: 52, marginRight: 26, marginBottom: 40,
      x: { label: spec.x, domain: [spec.bins[0].low, spec.bins.at(-1).high], ...(spec.percent ? { tickFormat: "%" } : {}) },
      y: { label: spec.y, grid: true, nice: true },
      marks: [
        ...spec.parts.map(({ name, color, pattern }, index) =>
          Plot.rectY(spec.bins, {
            x1: "low", x2: "high", insetLeft: 1, insetRight: 1,
            y1: (bin) => d3.sum(spec.parts.slice(0, index), (part) => bin[part.name]),
            y2: (bin) => d3.sum(spec.parts.slice(0, index + 1), (part) => bin[part.name]),
            fill: `var(--${color})`, fillOpacity: pattern ? 0.55 : 1, stroke: `var(--${color})`,
            title: (bin) => `${percent(bin.low)} to ${percent(bin.high)}: ${bin[name]} ${name}`, tip: tip(),
          })),
        Plot.ruleY([0]),
      ],
    });
  }

  function reliability(spec, width) {
    const side = Math.min(width, 420);
    return Plot.plot({
      width: side, height: side * 0.8, marginTop: 30, marginLeft: 52, marginRight: 26, marginBottom: 40,
      x: { label: "confidence", domain: [0, 1], tickFormat: "%" },
      y: { label: "right", domain: [0, 1], tickFormat: "%", grid: true },
      marks: [
        Plot.line([[0, 0], [1, 1]], { stroke: "var(--quiet)", strokeDasharray: "4,4" }),
        Plot.ruleX(spec.bins, { x: "confidence", y1: "low", y2: "high", stroke: "var(--first)", strokeWidth: 1.5 }),
        Plot.dot(spec.bins, {
          x: "confidence", y: "right", r: (bin) => Math.sqrt(bin.images), fill: "var(--first)",
          title: (bin) => `${bin.images} pictures\nconfidence ${percent(bin.confidence)}\nright ${percent(bin.right)}`,
          tip: tip(),
        }),
      ],
      r: { range: [3, 12] },
    });
  }

  function tip() {
    return { fill: "var(--page)", stroke: "var(--line)" };
  }

  function matrix(spec, width) {
    const count = spec.labels.length;
    const longest = d3.max(spec.labels, (label) => label.length);
    const few = count <= 40;
    const letters = Math.min(longest, width < 500 ? 14 : 22);
    const room = few ? 36 + 6.6 * letters : 58;
    const least = room + 10 + count * (count <= 12 ? 34 : few ? 24 : 1.5);
    const whole = Math.max(Math.min(width, room + count * 90), least);
    const size = (whole - room - 10) / count;
    const top = few ? 44 + 6 * letters : 46;
    const short = (index) => shortened(spec.labels[index], letters);
    const totals = d3.rollup(spec.cells, (cells) => d3.sum(cells, (cell) => cell[2]), (cell) => cell[0]);
    const cells = spec.cells.map(([truth, answer, images]) => ({
      truth, answer, images, share: images / totals.get(truth),
    }));
    const fill = (cell) =>
      `rgba(var(--${cell.truth === cell.answer ? "cell" : "wrong-cell"}), ${Math.max(few ? 0.08 : 0.35, 0.9 * cell.share)})`;
    const domain = d3.range(count);
    const ticks = few ? { tickFormat: short } : { ticks: domain.filter((index) => index % Math.ceil(count / 10) === 0), tickFormat: (index) => index + 1 };
    const drawn = Plot.plot({
      width: whole, height: top + 24 + count * Math.min(size, 46), marginLeft: room, marginTop: top, marginBottom: 22, marginRight: 10,
      padding: few ? 0.06 : 0,
      x: { domain, axis: "top", label: spec.x, tickRotate: few ? -60 : 0, ...ticks },
      y: { domain, label: spec.y, ...ticks },
      marks: [
        Plot.frame({ stroke: "var(--line)" }),
        // Single cells of hundreds of classes would be too small to see.
        Plot.cell(cells, { x: "answer", y: "truth", fill, inset: size < 4 ? -0.5 : 0 }),
        few ? Plot.text(cells, {
          x: "answer", y: "truth", text: "images", fill: (cell) => (cell.share > 0.6 ? "white" : "currentColor"),
        }) : null,
      ].filter(Boolean),
    });
    const point = (event) => {
      const box = drawn.getBoundingClientRect();
      const [x, y] = [drawn.scale("x"), drawn.scale("y")];
      const at = (scale, value) => Math.floor((value - scale.apply(0)) / ((scale.apply(count - 1) - scale.apply(0)) / Math.max(1, count - 1) || scale.bandwidth));
      const answer = at(x, event.clientX - box.left), truth = at(y, event.clientY - box.top);
      const inside = answer >= 0 && truth >= 0 && answer < count && truth < count;
      if (!inside) return hide();
      const found = cells.find((cell) => cell.answer === answer && cell.truth === truth);
      show([
        `${found ? found.images : 0} of ${totals.get(truth) || 0}`,
        `${spec.y}: ${spec.labels[truth]}`, `${spec.x}: ${spec.labels[answer]}`,
      ], event.clientX, event.clientY);
    };
    drawn.addEventListener("pointermove", point);
    drawn.addEventListener("pointerdown", point); // a finger does not move
    drawn.addEventListener("pointerleave", hide);
    return drawn;
  }

  function map(spec, width, place) {
    const labels = [...new Set(spec.points.map((point) => point.label))].sort();
    const many = labels.length > COLORS.length;
    const color = (point) =>
      many ? (point.right ? "var(--first)" : "var(--bad)") : COLORS[labels.indexOf(point.label)];
    const height = Math.max(320, Math.min(620, width * 0.62));
    const drawn = Plot.plot({
      width, height, margin: 12, x: { axis: null }, y: { axis: null },
      marks: [
        Plot.dot(spec.points, {
          x: "x", y: "y", fill: color, stroke: (point) => (point.right ? color(point) : "var(--bad)"),
          r: (point) => (point.right ? 4.5 : 5.5), symbol: (point) => (point.right ? "circle" : "times"),
          strokeWidth: (point) => (point.right ? 0.5 : 2), fillOpacity: 0.75,
        }),
        Plot.dot([spec.points[0]], { x: "x", y: "y", r: 10, stroke: "currentColor", strokeWidth: 2, className: "here" }),
      ],
      r: { type: "identity" }, symbol: { type: "identity" },
    });
    if (!many) place.append(legend(labels.map((label, index) => [label, COLORS[index]])));
    const here = drawn.querySelector(".here");
    here.style.visibility = "hidden";
    const spots = spec.points.map((point) => [drawn.scale("x").apply(point.x), drawn.scale("y").apply(point.y)]);
    const finder = d3.Delaunay.from(spots);
    const order = d3.range(spots.length).sort((a, b) => spots[a][0] - spots[b][0]);
    const said = element("p", "", "unseen");
    said.setAttribute("aria-live", "polite");
    let at = -1;

    function pointOut(index) {
      const point = spec.points[index], [x, y] = spots[index], box = drawn.getBoundingClientRect();
      here.style.visibility = "visible";
      const [x0, y0] = spots[0];
      here.setAttribute("transform", `translate(${x - x0},${y - y0})`);
      const text = point.lines;
      show(text, box.left + x, box.top + y, point.tile);
      return text;
    }

    const look = (event) => {
      const box = drawn.getBoundingClientRect();
      const index = finder.find(event.clientX - box.left, event.clientY - box.top);
      const [x, y] = spots[index];
      if (Math.hypot(x - event.clientX + box.left, y - event.clientY + box.top) > 40) return clear();
      pointOut(index);
    };
    drawn.addEventListener("pointermove", look);
    drawn.addEventListener("pointerdown", look);
    const clear = () => { here.style.visibility = "hidden"; hide(); };
    drawn.addEventListener("pointerleave", clear);
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") return clear();
      if (!step) return;
      event.preventDefault();
      at = (at + step + order.length) % order.length;
      said.textContent = pointOut(order[at]).join(", ");
    };
    place.onblur = clear;
    place.append(said);
    return drawn;
  }

  function points(spec, width) {
    // Names on the right would leave the chart there.
    const middle = d3.mean(d3.extent(spec.points, (point) => point.x));
    const letters = Math.max(8, Math.floor((width / 2 - 50) / 6.6));
    return Plot.plot({
      width, height: 320, marginTop: 30, marginLeft: 56, marginRight: 26, marginBottom: 40,
      x: { label: spec.x, grid: true, nice: true, ...(spec.logarithmic ? { type: "log", tickFormat: "~s" } : {}) },
      y: { label: spec.y, grid: true, nice: true, ...(spec.percent ? { tickFormat: "%" } : {}) },
      marks: [
        Plot.ruleX(spec.points.filter((point) => point.low !== undefined),
          { x: "x", y1: "low", y2: "high", stroke: "var(--quiet)" }),
        Plot.dot(spec.points, {
          x: "x", y: "y", r: 6, fill: (point) => (point.best ? "var(--good)" : "var(--first)"),
          title: (point) => point.lines.join("\n"), tip: tip(),
        }),
        ...[["start", 10, false], ["end", -10, true]].map(([textAnchor, dx, right]) =>
          Plot.text(spec.points.filter((point) => right === (point.x > middle)),
            { x: "x", y: "y", text: (point) => shortened(point.name, letters), textAnchor, dx, fill: "currentColor", ...HALO })),
      ],
    });
  }

  function legend(entries) {
    const list = element("p", undefined, "quiet");
    for (const [label, color] of entries) {
      const swatch = element("span", "● ");
      swatch.style.color = color;
      list.append(swatch, `${label}   `);
    }
    return list;
  }

  const KINDS = { lines, bars, reliability, matrix, map, points };

  function draw() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const spec = data.charts[place.dataset.chart];
      place.replaceChildren();
      const chart = KINDS[spec.kind](spec, Math.max(260, place.clientWidth), place);
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", place.dataset.label);
      place.prepend(chart);
      if (place.scrollWidth > place.clientWidth + 1) place.tabIndex = 0;
    }
  }

  // --- tables ---------------------------------------------------------------------------------------

  function value(row, column) {
    const cell = row.cells[column];
    const number = cell.dataset.value ?? cell.textContent;
    return cell.classList.contains("name") ? number : number === "" ? -1 : Number(number);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const button = element("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "descending" ||
          (head.classList.contains("name") && head.getAttribute("aria-sort") !== "ascending");
        table.querySelectorAll("thead th").forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (up ? 1 : -1) * d3.ascending(value(a, column), value(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const search of document.querySelectorAll("input[data-filters]")) {
    const rows = document.getElementById(search.dataset.filters).tBodies[0].rows;
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    });
  }

  draw();
  let width = innerWidth, waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  addEventListener("scroll", hide, { passive: true });
})();
