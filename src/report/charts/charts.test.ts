import { expect, test } from "vitest";
import { tickText } from "./canvas.ts";
import { placeLabels } from "./labels.ts";
import { axisEnd } from "./latency.ts";
import { apart } from "./lines.ts";
import { type Point, paretoFront } from "./scatter.ts";
import { typeSlot, typesOf } from "./types.ts";

test("the Pareto front keeps what nothing beats in both", () => {
  const point = (name: string, bytes: number, loss: number): Point => ({
    name,
    bytes,
    loss,
    kind: "other",
    title: name,
  });
  const points = [
    point("big", 10, 0),
    point("worse", 9, 5),
    point("small", 2, 4),
    point("mid", 5, 1),
    point("twin", 5, 3),
  ];
  expect(paretoFront(points).map(({ name }) => name)).toEqual(["small", "mid", "big"]);
});

test("labels cover neither points nor each other, and stay inside", () => {
  const anchors = Array.from({ length: 12 }, (_, i) => ({
    x: 100 + (i % 4) * 30,
    y: 50 + Math.floor(i / 4) * 15,
    text: `plan ${i}`,
  }));
  const bounds = { left: 0, right: 400, top: 0, bottom: 200 };
  const placed = placeLabels(anchors, { bounds });
  expect(placed.length).toBeGreaterThan(3);
  expect(placed[0]?.text).toBe("plan 0");
  const boxes = placed.map(({ x, y, dx, dy, text, textAnchor }) => {
    const width = text.length * 6;
    const left = x + dx - (textAnchor === "start" ? 0 : textAnchor === "end" ? width : width / 2);
    return { left, right: left + width, top: y + dy - 6, bottom: y + dy + 6 };
  });
  for (const [i, a] of boxes.entries()) {
    expect(a.left).toBeGreaterThanOrEqual(bounds.left);
    for (const b of boxes.slice(i + 1)) {
      expect(a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom).toBe(false);
    }
    for (const { x, y } of anchors) expect(a.left < x && x < a.right && a.top < y && y < a.bottom).toBe(false);
  }
});

test("the axis of latency ignores one run in a hundred, but never the middle half", () => {
  const times = Array.from({ length: 200 }, (_, i) => (i === 0 ? 1000 : 1 + i / 1000));
  expect(axisEnd([{ model: "a", median: 1.1, quartiles: [1, 1.2], times }])).toBeLessThan(2);
  expect(axisEnd([{ model: "a", median: 5, quartiles: [4, 9], times: [] }])).toBeGreaterThan(9);
});

test("element types stand by their bits, unknown ones last", () => {
  const rows = [
    { model: "m", byType: { custom: 1, int4: 1, float16: 1, int8: 1, float32: 1, int64: 1, __proto__: 1 } },
  ];
  expect(typesOf(rows)).toEqual(["float32", "float16", "int8", "int4", "int64", "custom"]);
  expect(["float32", "bfloat16", "uint8", "float4e2m1", "int2", "int32", "string", "toString"].map(typeSlot)).toEqual([
    "32",
    "16",
    "8",
    "4",
    "2",
    "other",
    "other",
    "other",
  ]);
});

test("ticks lose the zeros of precision alone", () => {
  expect(["20.0 kB", "1.00 MB", "1.20 ms", "100 kB", "0", "-0.50", "10"].map(tickText)).toEqual([
    "20 kB",
    "1 MB",
    "1.2 ms",
    "100 kB",
    "0",
    "-0.5",
    "10",
  ]);
});

test("labels avoid lines where there is another place, and boxes always", () => {
  const bounds = { left: 0, right: 300, top: 0, bottom: 100 };
  const anchor = { x: 150, y: 50, text: "plan" };
  const line = { left: 0, right: 300, top: 49, bottom: 51 };
  expect(placeLabels([anchor], { bounds })[0]).toMatchObject({ textAnchor: "start", dy: 0 });
  expect(placeLabels([anchor], { bounds, lines: [line] })[0]?.dy).not.toBe(0);
  expect(placeLabels([anchor], { bounds, lines: [bounds] })).toHaveLength(1);
  expect(placeLabels([anchor], { bounds, boxes: [bounds] })).toEqual([]);
});

test("names beside lines move apart, in their order, and stay inside", () => {
  expect(apart([100, 20, 60], 10, 200)).toEqual([100, 20, 60]);
  expect(apart([50, 50, 52], 10, 200)).toEqual([50, 65, 80]);
  expect(apart([195, 199, 198], 10, 200)).toEqual([170, 200, 185]);
  expect(apart([12, 11], 10, 200)).toEqual([26, 11]);
});
