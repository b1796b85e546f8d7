import { expect, test } from "vitest";
import { random } from "../random.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import { augment, augmentOptions } from "./augment.ts";

const shape = [6, 2, 8, 8];
const images = float32(
  shape,
  Float32Array.from({ length: 6 * 128 }, (_, i) => 1 + (i % 97)),
);
const run = (options: object, seed = 1) => augment({ images }, augmentOptions.parse(options), random(seed));

test("nothing asked, nothing changed; the same seed, the same batch", () => {
  expect(toFloat32(run({}).images)).toEqual(toFloat32(images));
  const all = { randomCrop: 2, randomFlip: true, cutout: 3, rotate: 10, zoom: 0.1, shift: 0.1 };
  expect(toFloat32(run(all).images)).toEqual(toFloat32(run(all).images));
  expect(toFloat32(run(all).images)).not.toEqual(toFloat32(run(all, 2).images));
});

test("flips mirror whole rows of some images", () => {
  const out = toFloat32(run({ randomFlip: true }).images);
  const source = toFloat32(images);
  let mirrored = 0;
  for (let i = 0; i < 6; i++) {
    const row = [...source.subarray(i * 128, i * 128 + 8)];
    const got = [...out.subarray(i * 128, i * 128 + 8)];
    if (got.join() !== row.join()) {
      expect(got).toEqual(row.toReversed());
      mirrored++;
    }
  }
  expect(mirrored).toBeGreaterThan(0);
  expect(mirrored).toBeLessThan(6);
});

test("crops shift by at most the padding and fill with 0", () => {
  const out = toFloat32(run({ randomCrop: 2 }).images);
  const source = toFloat32(images);
  for (let i = 0; i < 6; i++) {
    const at = (data: Float32Array, y: number, x: number): number =>
      y < 0 || x < 0 || y > 7 || x > 7 ? 0 : data[i * 128 + y * 8 + x]!;
    const shifts = [-2, -1, 0, 1, 2].flatMap((dy) => [-2, -1, 0, 1, 2].map((dx) => [dy, dx] as const));
    const fits = shifts.some(([dy, dx]) =>
      Array.from({ length: 64 }, (_, k) => [k >> 3, k & 7] as const).every(
        ([y, x]) => at(out, y, x) === at(source, y + dy, x + dx),
      ),
    );
    expect(fits).toBe(true);
  }
});

test("cutout blanks a square in every channel", () => {
  const out = toFloat32(run({ cutout: 4 }).images);
  for (let i = 0; i < 6; i++) {
    const zeros = (channel: number): number =>
      out.subarray(i * 128 + channel * 64, i * 128 + channel * 64 + 64).filter((v) => v === 0).length;
    expect(zeros(0)).toBe(zeros(1));
    expect(zeros(0)).toBeGreaterThanOrEqual(4);
    expect(zeros(0)).toBeLessThanOrEqual(16);
  }
});

test("mixup blends images and labels by the same share", () => {
  const labels = float32(
    [6, 6],
    Float32Array.from({ length: 36 }, (_, i) => (i % 7 === 0 ? 1 : 0)),
  );
  for (const alpha of [0.2, 1, 2]) {
    const mixed = augment({ images, labels }, augmentOptions.parse({ mixup: alpha }), random(5));
    const [x, t] = [toFloat32(mixed.images), toFloat32(mixed.labels!)];
    const source = toFloat32(images);
    for (let i = 0; i < 6; i++) {
      const row = t.subarray(i * 6, i * 6 + 6);
      expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
      const expected = row.reduce((sum, share, j) => sum + share * source[j * 128 + 3]!, 0);
      expect(x[i * 128 + 3]).toBeCloseTo(expected, 3);
    }
  }
});

test("rotations resample to finite values", () => {
  const out = toFloat32(run({ rotate: 30 }).images);
  expect(out.every((v) => Number.isFinite(v))).toBe(true);
  expect(out).not.toEqual(toFloat32(images));
});
