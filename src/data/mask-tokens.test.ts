import { expect, test } from "vitest";
import { random } from "../random.ts";
import { int64, toNumbers } from "../tensor/tensor.ts";
import { ignoredLabel } from "./dataset.ts";
import { hideTokens } from "./mask-tokens.ts";

const shape = [20, 100];
const ids = int64(
  Array.from({ length: 2000 }, (_, i) => 10 + (i % 40)),
  shape,
);
const attention = int64(
  Array.from({ length: 2000 }, (_, i) => (i % 100 < 80 ? 1 : 0)),
  shape,
);
const masking = { input: "ids", maskToken: 1, maskShare: 0.15, vocabulary: 1000 };

test("hides 15 %: 80 of 100 behind the mask token, 10 behind any token, 10 as they are", () => {
  const batch = { inputs: { ids, attention_mask: attention }, size: 20 };
  const hidden = hideTokens(batch, masking, random(4));
  const [source, out, labels] = [ids, hidden.inputs.ids!, hidden.labels!].map(toNumbers) as [
    number[],
    number[],
    number[],
  ];
  const chosen = [...labels.keys()].filter((i) => labels[i] !== ignoredLabel);
  expect(chosen.length / 1600).toBeGreaterThan(0.12);
  expect(chosen.length / 1600).toBeLessThan(0.18);
  const share = (is: (i: number) => boolean): number => chosen.filter(is).length / chosen.length;
  expect(share((i) => out[i] === 1)).toBeCloseTo(0.8, 1);
  expect(share((i) => out[i] === source[i])).toBeCloseTo(0.1, 1);
  for (const i of out.keys()) {
    if (labels[i] === ignoredLabel) expect(out[i]).toBe(source[i]);
    else expect(labels[i]).toBe(source[i]);
    if (i % 100 >= 80) expect(labels[i]).toBe(ignoredLabel);
  }
  const again = hideTokens(batch, masking, random(4));
  expect([again.inputs.ids!, again.labels!].map(toNumbers)).toEqual([out, labels]);
});

test("at least one token is hidden", () => {
  const hidden = hideTokens({ inputs: { ids }, size: 20 }, { ...masking, maskShare: 1e-9 }, random(1));
  expect(toNumbers(hidden.labels!).filter((label) => label !== ignoredLabel)).toHaveLength(1);
});
