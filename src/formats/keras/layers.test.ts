import { describe, expect, test } from "vitest";
import { noise } from "../../../test/keras.ts";
import { chain, conv, expectClose, layer, ops } from "../../../test/keras-layers.ts";
import { toFloat32 } from "../../tensor/tensor.ts";

describe("layers", () => {
  const x = noise([2, 7, 6, 3], 5);
  test.each([
    ["valid", 1],
    ["same", 1],
    ["same", 2],
    ["same", 3],
    ["valid", 2],
  ])("a convolution with padding %s and stride %i", async (padding, stride) => {
    const kernel = noise([3, 4, 3, 5]);
    const settings = { padding, strides: [stride, stride], use_bias: false };
    const { graph, y } = await chain([layer("Conv2D", settings, { kernel })], x);
    const { shape, data } = conv(x, kernel, stride, padding === "same");
    expectClose(y, shape, data);
    expect(ops(graph)).toEqual(["Transpose", "Conv", "Transpose"]);
    expect([...graph.weights.keys()]).toEqual(["conv2d/kernel"]);
    expect(graph.weights.get("conv2d/kernel")!.shape).toEqual([5, 3, 3, 4]);
  });

  test("a depthwise convolution makes `multiplier` channels of each", async () => {
    const depthwise_kernel = noise([2, 2, 3, 2]);
    const { y } = await chain([layer("DepthwiseConv2D", { use_bias: false }, { depthwise_kernel })], x);
    // the same as a dense kernel that is zero between unlike channels
    const dense = noise([2, 2, 3, 6]);
    const [from, to] = [toFloat32(depthwise_kernel), toFloat32(dense)];
    for (const at of to.keys()) {
      const [o, c, tap] = [at % 6, Math.floor(at / 6) % 3, Math.floor(at / 18)];
      to[at] = Math.floor(o / 2) === c ? from[tap * 6 + o]! : 0;
    }
    const { shape, data } = conv(x, dense, 1, false);
    expectClose(y, shape, data);
  });

  test("a Dense behind a Flatten gets its rows sorted: nothing is transposed", async () => {
    const [kernel, weights] = [noise([2, 2, 3, 4]), { kernel: noise([6 * 5 * 4, 3]), bias: noise([3]) }];
    const layers = [
      layer("Conv2D", { use_bias: false }, { kernel }),
      layer("Flatten"),
      layer("Dropout"),
      layer("Dense", {}, weights),
    ];
    const { graph, y } = await chain(layers, x);
    const { data } = conv(x, kernel, 1, false);
    const [w, b] = [toFloat32(weights.kernel), toFloat32(weights.bias)];
    const expected = Array.from({ length: 6 }, (_, at) => {
      const [sample, unit] = [Math.floor(at / 3), at % 3];
      let sum = b[unit]!;
      for (let i = 0; i < 120; i++) sum += data[sample * 120 + i]! * w[i * 3 + unit]!;
      return sum;
    });
    expectClose(y, [2, 3], expected);
    expect(ops(graph)).toEqual(["Transpose", "Conv", "Flatten", "Gemm"]);
  });

  test("what looks at every element by itself, and merges, keep the order of the axes", async () => {
    const kernel = noise([1, 1, 3, 3]);
    const vector = (seed: number) => noise([3], seed);
    const weights = { gamma: vector(1), beta: vector(2), moving_mean: vector(3) };
    const moving_variance = noise([3], 4);
    toFloat32(moving_variance).forEach((v, i, all) => {
      all[i] = Math.abs(v) + 0.5;
    });
    const layers = [
      layer("Conv2D", { use_bias: false }, { kernel }),
      layer("BatchNormalization", { axis: [3], epsilon: 0.01 }, { ...weights, moving_variance }),
      layer("ReLU", { max_value: 1 }),
      layer("GlobalAveragePooling2D"),
    ];
    const { graph, y } = await chain(layers, x);
    const { data } = conv(x, kernel, 1, false);
    const [gamma, beta, mean] = Object.values(weights).map(toFloat32);
    const variance = toFloat32(moving_variance);
    const expected = new Float64Array(6);
    for (const [at, v] of data.entries()) {
      const c = at % 3;
      const z = ((v - mean![c]!) / Math.sqrt(variance[c]! + 0.01)) * gamma![c]! + beta![c]!;
      expected[Math.floor(at / 126) * 3 + c]! += Math.min(1, Math.max(0, z)) / 42;
    }
    expectClose(y, [2, 3], expected);
    expect(ops(graph)).toEqual(["Transpose", "Conv", "BatchNormalization", "Clip", "GlobalAveragePool", "Flatten"]);
  });

  test("an LSTM's gates are put in ONNX's order", async () => {
    const [features, size, steps] = [3, 2, 4];
    const weights = {
      kernel: noise([features, 4 * size]),
      recurrent_kernel: noise([size, 4 * size], 2),
      bias: noise([8], 3),
    };
    const signal = noise([1, steps, features], 4);
    const { y } = await chain([layer("LSTM", { return_sequences: true }, weights)], signal);
    const [w, r, b, s] = [...Object.values(weights), signal].map(toFloat32) as Float32Array[];
    const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
    let [h, c] = [new Array<number>(size).fill(0), new Array<number>(size).fill(0)];
    const expected: number[] = [];
    for (let step = 0; step < steps; step++) {
      const z = Array.from({ length: 4 * size }, (_, unit) => {
        let sum = b![unit]!;
        for (let i = 0; i < features; i++) sum += s![step * features + i]! * w![i * 4 * size + unit]!;
        for (let i = 0; i < size; i++) sum += h[i]! * r![i * 4 * size + unit]!;
        return sum;
      });
      // input, forget, cell, output
      const gate = (k: number, unit: number) => z[k * size + unit]!;
      c = c.map((v, unit) => sigmoid(gate(1, unit)) * v + sigmoid(gate(0, unit)) * Math.tanh(gate(2, unit)));
      h = c.map((v, unit) => sigmoid(gate(3, unit)) * Math.tanh(v));
      expected.push(...h);
    }
    expectClose(y, [1, steps, size], expected);
  });

  test("a transposed convolution adds each input's share", async () => {
    const [kernel, stride] = [noise([3, 3, 2, 3]), 2];
    const settings = { padding: "same", strides: [stride, stride], use_bias: false };
    const { y } = await chain([layer("Conv2DTranspose", settings, { kernel })], noise([1, 3, 3, 3], 6));
    const [a, k] = [toFloat32(noise([1, 3, 3, 3], 6)), toFloat32(kernel)];
    const expected = new Float64Array(6 * 6 * 2);
    for (let at = 0; at < 27 * 18; at++) {
      const [o, c, j, i] = [at % 2, Math.floor(at / 2) % 3, Math.floor(at / 6) % 3, Math.floor(at / 18) % 3];
      const [column, row] = [Math.floor(at / 54) % 3, Math.floor(at / 162)];
      const [p, q] = [row * stride + i, column * stride + j];
      // of the full result of 7, the first 6: the convolution pads one element, at the end
      if (p > 5 || q > 5) continue;
      expected[(p * 6 + q) * 2 + o]! += a[(row * 3 + column) * 3 + c]! * k[((i * 3 + j) * 2 + o) * 3 + c]!;
    }
    expectClose(y, [1, 6, 6, 2], expected);
  });

  test("an unknown class is named, with the nearest one", async () => {
    await expect(chain([layer("Conv2DD")], x)).rejects.toThrow(/layer 'conv2dd' \(Conv2DD\).*'Conv2D'/);
    await expect(chain([layer("Lambda")], x)).rejects.toThrow(/layer 'lambda' \(Lambda\).*Python/);
  });

  test("a mask is refused where it would matter", async () => {
    const weights = { kernel: noise([4, 8]), recurrent_kernel: noise([2, 8]), bias: noise([8]) };
    const embed = layer("Embedding", { mask_zero: true }, { embeddings: noise([5, 4]) });
    await expect(chain([embed, layer("LSTM", {}, weights)], noise([1, 3]))).rejects.toThrow(/LSTM.*masked/);
  });
});
