"use strict";
// The decoder of a run, in the browser: dense layers and 4×4 stride-2 transposed convolutions.

const activations = {
  identity: (x) => x,
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
  silu: (x) => x / (1 + Math.exp(-x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  tanh: Math.tanh,
  tilted: tiltedMean,
};

// The mean of the continuous Bernoulli with logit x; its closed form cancels near zero.
function tiltedMean(x) {
  const size = Math.abs(x);
  if (size < 1) {
    const s = x * x;
    return 0.5 + x * (1 / 12 - s * (1 / 720 - s * (1 / 30240 - s / 1209600)));
  }
  const below = 1 / size + Math.exp(-size) / Math.expm1(-size);
  return x < 0 ? below : 1 - below;
}

// Reads arrays one after another out of base64: float16 as it is, or int8 with a float16 scale
// for each of the features, which the last axis counts.
function makeReader(base64) {
  const bytes = new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
  let at = 0;
  const half = (count) => {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++, at += 2) {
      const bits = bytes.getUint16(at, true);
      const exponent = (bits >> 10) & 31;
      const fraction = bits & 1023;
      const size = exponent
        ? (1 + fraction / 1024) * 2 ** (exponent - 15)
        : fraction * 2 ** -24;
      values[i] = bits & 32768 ? -size : size;
    }
    return values;
  };
  const int8 = (count, features) => {
    const scale = half(features);
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = bytes.getInt8(at++) * scale[i % features];
    return values;
  };
  return { half, kernel: { float16: half, int8 } };
}

// sum += x * row, the inner loop of every layer.
function addScaled(sum, x, kernel, from, count) {
  for (let j = 0; j < count; j++) sum[j] += x * kernel[from + j];
}

function makeDense(layer, kernel, bias) {
  const sum = new Float32Array(layer.outputs);
  return (input) => {
    sum.set(bias);
    for (let i = 0; i < layer.inputs; i++) {
      if (input[i]) addScaled(sum, input[i], kernel, i * layer.outputs, layer.outputs);
    }
    return sum;
  };
}

// Each pixel [C] times the kernel [C, 16 F] is a 4×4 patch of the output, whose pixel (r, c)
// adds to row 2 y + 2 - r and column 2 x + 2 - c.
function makeTransposed(layer, kernel, bias) {
  const { height, width, channels, features } = layer;
  const patch = new Float32Array(16 * features);
  const output = new Float32Array(4 * height * width * features);
  return (input) => {
    for (let i = 0; i < output.length; i += features) output.set(bias, i);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        patch.fill(0);
        const pixel = (y * width + x) * channels;
        for (let c = 0; c < channels; c++) {
          const value = input[pixel + c];
          if (value) addScaled(patch, value, kernel, c * patch.length, patch.length);
        }
        addPatch(output, patch, 2 * y + 2, 2 * x + 2, 2 * height, 2 * width, features);
      }
    }
    return output;
  };
}

function addPatch(output, patch, bottom, right, height, width, features) {
  for (let r = 0; r < 4; r++) {
    const row = bottom - r;
    if (row < 0 || row >= height) continue;
    for (let c = 0; c < 4; c++) {
      const column = right - c;
      if (column < 0 || column >= width) continue;
      const to = (row * width + column) * features;
      const from = (4 * r + c) * features;
      for (let f = 0; f < features; f++) output[to + f] += patch[from + f];
    }
  }
}

// Cuts the example out of the last layer's output.
function makeCrop(decoder, last) {
  if (decoder.shape.length < 3 || last.kind !== "transposed") return (input) => input;
  const [height, width, channels] = decoder.shape;
  const [top, left] = decoder.crop;
  const output = new Float32Array(height * width * channels);
  return (input) => {
    for (let y = 0; y < height; y++) {
      const from = ((top + y) * 2 * last.width + left) * channels;
      output.set(input.subarray(from, from + width * channels), y * width * channels);
    }
    return output;
  };
}

// A function from a code [D] to the mean of p(x|z), flat; the array is reused at each call.
function makeDecoder(decoder) {
  const read = makeReader(decoder.weights);
  const steps = decoder.layers.map((layer) => {
    const dense = layer.kind === "dense";
    const features = dense ? layer.outputs : layer.features;
    const count = features * (dense ? layer.inputs : 16 * layer.channels);
    const kernel = read.kernel[decoder.format](count, features);
    const apply = (dense ? makeDense : makeTransposed)(layer, kernel, read.half(features));
    return [apply, activations[layer.activation]];
  });
  const crop = makeCrop(decoder, decoder.layers[decoder.layers.length - 1]);
  const mean = activations[decoder.mean];
  return (z) => {
    let x = Float32Array.from(z);
    for (const [apply, activation] of steps) {
      x = apply(x);
      if (activation !== activations.identity) for (let i = 0; i < x.length; i++) x[i] = activation(x[i]);
    }
    x = crop(x);
    if (mean !== activations.identity) for (let i = 0; i < x.length; i++) x[i] = mean(x[i]);
    return x;
  };
}

// How far this decoder is from the model that it was made from, at the values embedded.
function largestDifference(decode, check) {
  const mean = decode(check.z);
  return Math.max(...check.at.map((at, i) => Math.abs(mean[at] - check.values[i])));
}
