// The sliders: choose a run, start from an example or the prior's mean, move any latent.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SVG = find("svg").namespaceURI;

function make(parent, name, attributes = {}, text = "", space = null) {
  const node = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

// Points of a polyline for a vector, in a box of the given size.
function points(vector, [low, high], width, height) {
  const last = Math.max(vector.length - 1, 1);
  const span = high - low || 1;
  if (vector.length < 2) vector = [vector[0], vector[0]]; // a line all the same
  const place = (value, i) => {
    const x = (i / last) * width;
    return `${x.toFixed(1)},${(height - ((value - low) / span) * height).toFixed(1)}`;
  };
  return Array.from(vector, place).join(" ");
}

// Draws the mean of p(x|z): an image on a canvas, grey or in colour, over white where it has alpha.
function imageView(parent, shape) {
  const [height, width, channels] = shape;
  const canvas = make(parent, "canvas", { width, height, role: "img", "aria-label": "Decoded image" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  pixels.data.fill(255);
  const colours = channels > 2 ? 3 : 1;
  return (x) => {
    for (let i = 0; i < height * width; i++) {
      const from = i * channels;
      const alpha = channels % 2 ? 1 : Math.min(Math.max(x[from + channels - 1], 0), 1);
      for (let c = 0; c < 3; c++) {
        const value = Math.min(Math.max(x[from + (colours > 1 ? c : 0)], 0), 1);
        pixels.data[4 * i + c] = Math.round(255 * (alpha * value + 1 - alpha));
      }
    }
    context.putImageData(pixels, 0, 0);
  };
}

// Draws a vector as a line over the number of the feature, the chosen example dashed behind it.
function vectorView(parent, length, range) {
  const [width, height] = [340, 220];
  const margin = 0.1 * (range[1] - range[0] || 1);
  const box = [range[0] - margin, range[1] + margin];
  const look = { viewBox: `-40 -8 ${width + 52} ${height + 32}`, role: "img", "aria-label": "Decoded vector" };
  const svg = make(parent, "svg", look, "", SVG);
  for (const value of range) {
    const y = height - ((value - box[0]) / (box[1] - box[0])) * height;
    make(svg, "text", { x: -6, y: y + 4, "text-anchor": "end" }, value.toPrecision(2), SVG);
  }
  make(svg, "text", { x: 0, y: height + 18 }, "feature 0", SVG);
  make(svg, "text", { x: width, y: height + 18, "text-anchor": "end" }, String(length - 1), SVG);
  const original = make(svg, "polyline", { class: "original" }, "", SVG);
  const line = make(svg, "polyline", {}, "", SVG);
  const draw = (x) => line.setAttribute("points", points(x, box, width, height));
  draw.original = (x) => original.setAttribute("points", x ? points(x, box, width, height) : "");
  return draw;
}

function showRun(run) {
  const decode = makeDecoder(run.decoder);
  const difference = largestDifference(decode, run.decoder.check);
  document.body.dataset.difference = difference;
  const differs = !(difference <= run.decoder.check.tolerance);
  find("differs").hidden = !differs;
  find("differs").textContent =
    `In this browser the decoder differs from the model by ${difference.toFixed(3)}.`;

  const isImage = run.decoder.shape.length === 3;
  const stage = find("stage");
  stage.textContent = "";
  stage.className = isImage ? "stage" : "stage vector";
  const views = make(stage, "div", { class: "views" });
  const decoded = make(views, "figure", { class: "decoded" });
  const view = isImage
    ? imageView(decoded, run.decoder.shape)
    : vectorView(decoded, run.decoder.shape[0], run.range);
  make(decoded, "figcaption", {}, isImage ? "decoded" : "decoded; dashed: the example");
  const original = isImage ? make(views, "figure", { class: "original" }) : null;

  const z = run.latents.map(() => 0);
  let waiting = false;
  function render() {
    waiting = false;
    const began = performance.now();
    view(decode(z));
    const took = performance.now() - began;
    document.body.dataset.milliseconds = took;
    find("time").textContent = `${took.toFixed(1)} ms`;
  }
  function ask() {
    if (!waiting) requestAnimationFrame(render);
    waiting = true;
  }

  find("latents").textContent = "";
  const sliders = run.latents.map(({ latent, label, silent }) => {
    const row = make(find("latents"), "div", { class: `latent${silent ? " silent" : ""}` });
    make(row, "label", { for: `z${latent}` }, label);
    const range = { type: "range", id: `z${latent}`, min: -run.span, max: run.span, step: 0.01 };
    const input = make(row, "input", range);
    const output = make(row, "output", { for: `z${latent}` });
    const set = (value) => {
      z[latent] = value;
      input.value = value;
      output.textContent = value.toFixed(2).replace(/^-0\.00$/, "0.00");
      ask();
    };
    input.addEventListener("input", () => set(Number(input.value)));
    return [latent, set];
  });

  let chosen = 0;
  const picks = make(stage, "div", { class: "picks", role: "group", "aria-label": "Start from" });
  function pick(which) {
    chosen = which;
    [...picks.children].forEach((b, i) => b.setAttribute("aria-pressed", i - 1 === which));
    const example = which < 0 ? null : data.examples[which];
    for (const [latent, set] of sliders) set(which < 0 ? 0 : run.codes[which][latent]);
    if (original) {
      original.textContent = "";
      original.hidden = !example;
      if (example) {
        make(original, "img", { src: example, alt: `Example ${which + 1}` });
        make(original, "figcaption", {}, "original");
      }
    } else view.original(example);
  }
  const mean = { type: "button", class: "mean", title: "All latents at 0" };
  make(picks, "button", mean, "prior mean").addEventListener("click", () => pick(-1));
  data.examples.forEach((example, i) => {
    const button = make(picks, "button", { type: "button", title: `Example ${i + 1}` });
    button.setAttribute("aria-label", `Example ${i + 1}`);
    if (isImage) make(button, "img", { src: example, alt: "" });
    else {
      const box = { viewBox: "0 0 40 40", preserveAspectRatio: "none", "aria-hidden": "true" };
      const line = make(make(button, "svg", box, "", SVG), "polyline", {}, "", SVG);
      line.setAttribute("points", points(example, run.range, 40, 40));
    }
    button.addEventListener("click", () => pick(i));
  });
  find("reset").onclick = () => pick(chosen);
  pick(0);
}

if (data.runs.length) {
  const select = find("run");
  for (const run of data.runs) make(select, "option", { value: run.run }, run.title);
  select.parentElement.hidden = data.runs.length < 2;
  const open = (number) => showRun(data.runs.find((run) => run.run === Number(number)));
  select.addEventListener("change", () => open(select.value));
  for (const button of document.querySelectorAll("button.open")) {
    button.addEventListener("click", () => {
      select.value = button.dataset.run;
      open(select.value);
      find("sliders").scrollIntoView({ behavior: "smooth" });
    });
  }
  open(data.runs[0].run);
}
