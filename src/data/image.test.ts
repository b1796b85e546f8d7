import { expect, test } from "vitest";
import type { Dim, Value } from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { toFloat32, toNumbers } from "../tensor/tensor.ts";
import { imagesToTensor, resample } from "./image.ts";
import { parsePreprocess, planImages, preprocessOfMetadata, withPreprocess } from "./preprocess.ts";
import { formatSidecar, parseSidecar, sidecarPath } from "./sidecar.ts";

const input = (shape: Dim[], dtype: DType = "float32"): Value => ({
  name: "x",
  type: { kind: "tensor", dtype, shape },
});
const grey = (width: number, height: number, data: number[]) => ({
  width,
  height,
  channels: 1,
  data: Uint8Array.from(data),
});

test("resampling keeps constants, averages when shrinking, interpolates when growing", () => {
  expect(Array.from(resample(grey(3, 3, Array(9).fill(7)), 5, 2))).toEqual(Array(10).fill(7));
  // triangle of half-width 2 around 0.5: weights 3/4 3/4 1/4 of places 0 1 2, over their sum
  const shrunk = resample(grey(4, 1, [0, 0, 100, 100]), 1, 2);
  expect(shrunk[0]).toBeCloseTo((100 * 0.25) / 1.75, 4);
  expect(shrunk[1]).toBeCloseTo(100 - (100 * 0.25) / 1.75, 4);
  expect(Array.from(resample(grey(2, 1, [0, 100]), 1, 4))).toEqual([0, 25, 75, 100]);
});

test("the shorter side is resized, then the centre cropped", () => {
  const plan = planImages(input(["N", 1, 2, 2]), { resize: 2, crop: 2, scale: 1 });
  const x = imagesToTensor([grey(4, 2, [9, 1, 2, 9, 9, 3, 4, 9])], plan, String);
  expect([x.shape, toNumbers(x)]).toEqual([
    [1, 1, 2, 2],
    [1, 2, 3, 4],
  ]);
  const crop = planImages(input(["N", 1, "H", "W"]), { crop: 3 });
  expect(() => imagesToTensor([grey(2, 2, [1, 2, 3, 4])], crop, String)).toThrow("can't crop 3x3");
});

test("layout, channel order and per-channel normalization", () => {
  const picture = { width: 1, height: 2, channels: 3, data: Uint8Array.from([10, 20, 30, 40, 50, 60]) };
  const nchw = planImages(input([1, 3, 2, 1]), { channels: "BGR", scale: 1, mean: [1, 2, 3], std: [1, 2, 1] });
  expect(toNumbers(imagesToTensor([picture], nchw, String))).toEqual([29, 59, 9, 24, 7, 37]);
  const nhwc = planImages(input([1, 2, 1, 3]), { scale: 1 });
  expect(nhwc.layout).toBe("NHWC");
  expect(toNumbers(imagesToTensor([picture], nhwc, String))).toEqual([10, 20, 30, 40, 50, 60]);
  const gray = planImages(input([1, 1, 2, 1]));
  expect(toFloat32(imagesToTensor([picture], gray, String))[0]).toBeCloseTo(Math.round(2.99 + 11.74 + 3.42) / 255, 6);
});

test("types: half floats, bytes", () => {
  const picture = grey(2, 1, [0, 255]);
  expect(toNumbers(imagesToTensor([picture], planImages(input([1, 1, 1, 2], "float16")), String))).toEqual([0, 1]);
  expect(toNumbers(imagesToTensor([picture], planImages(input([1, 1, 1, 2], "uint8")), String))).toEqual([0, 255]);
});

test("what is not said is inferred and told; what contradicts the model is refused", () => {
  expect(planImages(input(["N", 3, 224, 224])).assumed).toEqual([
    "channels in the order RGB",
    "values x / 255",
    "no mean and standard deviation",
  ]);
  const said = { channels: "RGB", scale: 1, mean: 0, std: 1 } as const;
  expect(planImages(input(["N", 3, 224, 224]), said).assumed).toEqual([]);
  expect(() => planImages(input(["N", 3, 224, 224]), { crop: 200 })).toThrow("224x224");
  expect(() => planImages(input(["N", 10]))).toThrow("rank 2");
  expect(() => planImages(input(["N", 3, 8, 8]), { mean: [1, 2] })).toThrow("2 numbers for 3 channels");
  expect(() => planImages(input(["N", 1, 8, 8]), { mean: [1, 2] })).toThrow("2 numbers for 1 channel. Give 1.");
  expect(() => planImages(input(["N", 1, 8, 8]), { channels: "RGB" })).toThrow("takes 1 channels");
});

test("preprocessing survives metadata and the sidecar, and mistakes are named", async () => {
  const preprocess = { resize: 256, crop: [224, 224] as [number, number], mean: [0.5], layout: "NCHW" as const };
  expect(preprocessOfMetadata(withPreprocess({ a: "b" }, preprocess))).toEqual(preprocess);
  expect(preprocessOfMetadata({})).toBeUndefined();
  const sidecar = { version: 1 as const, preprocess, task: "classification" as const, classes: ["a", "b"] };
  expect(await parseSidecar(await formatSidecar(sidecar), "s")).toEqual(sidecar);
  await expect(parseSidecar("preprocess:\n  meen: 1\n", "s")).rejects.toThrow(/s: field 'preprocess'.*meen/);
  await expect(parseSidecar("a: [", "s")).rejects.toThrow("is not YAML");
  expect(() => parsePreprocess({ crop: -1 }, "flags")).toThrow("field 'crop'");
  expect(sidecarPath("a.b/model.v2.onnx")).toBe("a.b/model.v2.pare.yaml");
});
