import { expect, test } from "vitest";
import type { LedgerEntry } from "../recipe/ledger.ts";
import type { Exhibit, FormatsExhibit, GridsExhibit, SensitivityExhibit } from "../techniques/exhibit.ts";
import {
  bySensitivity,
  exhibitSections,
  formatNames,
  formatsSentence,
  frozenGroups,
  gridsSentence,
  groupsSentence,
  notes,
  quantityText,
  sparsitySentence,
} from "./exhibits.ts";
import { renderMarkdown } from "./markdown.ts";
import { renderTerminal } from "./terminal.ts";

function entry(step: string, exhibits: readonly Exhibit[]): LedgerEntry {
  const measured = { bytes: 1, scores: [] };
  const changes = { nodesBefore: 1, nodesAfter: 1, operators: {}, weightsChanged: 0 };
  return {
    step,
    options: {},
    seconds: 1,
    before: measured,
    after: measured,
    changes,
    skips: [],
    exhibits,
    resumed: false,
  };
}

const scan: SensitivityExhibit = {
  kind: "sensitivity",
  amount: { name: "sparsity", unit: "%" },
  damage: { name: "noise" },
  layers: [
    {
      name: "sturdy",
      curve: [
        [0.5, 0.001],
        [0.9, 0.01],
      ],
      proposed: 0.9,
    },
    {
      name: "broken",
      curve: [
        [0.5, Number.MAX_VALUE],
        [0.9, Number.MAX_VALUE],
      ],
    },
    {
      name: "weak",
      curve: [
        [0.5, 0.1],
        [0.9, 3],
      ],
      proposed: 0.5,
    },
    { name: "not tried", curve: [] },
  ],
};

test("quantities are written by their units", () => {
  expect(quantityText(0.5, { unit: "%" })).toBe("50.00 %");
  expect(quantityText(1.2e6, { unit: "B" })).toBe("1.20 MB");
  expect(quantityText(3.4, { unit: "ms" })).toBe("3.40 ms");
  expect(quantityText(1.5, { unit: "nats" })).toBe("1.500 nats");
  expect([0, 12, 272_474, 40_812_544, 0.0123, Number.MAX_VALUE].map((x) => quantityText(x, {}))).toEqual([
    "0",
    "12",
    "272 474",
    "40.8 M",
    "0.0123",
    "∞",
  ]);
});

test("a note is told once, whoever shows it", () => {
  const note: Exhibit = { kind: "note", text: "Zeros are no faster." };
  expect(notes([entry("a", [note, note]), entry("b", [note, { ...note, text: "Other." }])])).toEqual([
    "Zeros are no faster.",
    "Other.",
  ]);
});

test("zeros and cuts are summed up", () => {
  const layers = [
    { name: "a", elements: 1000, zeros: 900 },
    { name: "b", elements: 3000, zeros: 0 },
  ];
  expect(sparsitySentence({ kind: "sparsity", layers })).toBe(
    "22.5 % of the weights of 2 layers are zero: 900 of 4 000.",
  );
  expect(sparsitySentence({ kind: "sparsity", layers: [{ name: "a", elements: 0, zeros: 0 }] })).toContain("0 % of");
  const group = { name: "a", members: [], before: 8, after: 8 };
  const groups = [
    { ...group, after: 4 },
    group,
    { ...group, frozen: "x" },
    { ...group, frozen: "y" },
    { ...group, frozen: "y" },
  ];
  expect(groupsSentence({ kind: "groups", groups })).toBe(
    "1 of 2 groups that can be cut were cut; 16 units became 12; 3 more can't be cut.",
  );
  expect(frozenGroups({ kind: "groups", groups })).toEqual([
    ["y", ["a", "a"]],
    ["x", ["a"]],
  ]);
});

test("layers of a scan stand by what they lose, broken ones first", () => {
  expect(bySensitivity(scan).map(({ name }) => name)).toEqual(["broken", "weak", "sturdy", "not tried"]);
});

test("grids are counted by width, weighed packed and as they are, and shown by how far they moved", () => {
  const layer = { name: "a", elements: 100, width: "4 bits", packed: 54, stored: 104 };
  const range = { name: "a", of: "weights", bits: 4, before: [-1, 1], after: [-1, 1] } as const;
  const exhibit: GridsExhibit = {
    kind: "grids",
    layers: [layer, { ...layer, name: "b" }, { ...layer, name: "c", width: "8 bits", packed: 104 }],
    ranges: [range, { ...range, name: "still" }, { ...range, name: "far", after: [-0.5, 0.5] }],
  };
  expect(gridsSentence(exhibit)).toBe(
    "3 layers: 2 of 4 bits, 1 of 8 bits. Packed, integers and scales are 212 B; in the file they take 312 B.",
  );
  const text = renderTerminal(exhibitSections([entry("quantize-aware-train", [exhibit])]));
  expect(text).toContain("quantize-aware-train: 3 layers");
  expect(text).toMatch(/far +weights +4 +-1\.00 to 1\.00 +-0\.500 to 0\.500/);
  expect(text).not.toContain("still");
});

test("activations that integers fit worst stand with their ranges", () => {
  const histogram = { min: -1, max: 40, counts: [10, 1] };
  const values = [{ name: "conv", bits: 4, range: [-1, 2] as const, histogram, clipped: 0.0625, signalToNoise: 9.25 }];
  const text = renderTerminal(exhibitSections([entry("quantize-static", [{ kind: "ranges", values, quantized: 12 }])]));
  expect(text).toContain("Of 12 quantized activations, the one with the least signal to noise");
  expect(text).toMatch(/conv +4 +9\.3 dB +-1\.00 to 2\.00 +-1\.00 to 40\.0 +6\.25 %/);
});

test("a terminal and markdown tell what was found", () => {
  const ledger = [
    entry("prune-weights", [
      { kind: "note", text: "Zeros are no faster." },
      scan,
      {
        kind: "progress",
        amount: { name: "sparsity", unit: "%" },
        quality: { name: "top-1", unit: "%", better: "higher" },
        rounds: [
          { name: "original", amount: 0, quality: 0.92 },
          { amount: 0.5, quality: 0.9, cut: 0.4, kept: true },
        ],
      },
      { kind: "training", name: "round 2", curve: [], epochs: [], best: { epoch: 0 } },
    ]),
  ];
  const text = renderTerminal(exhibitSections(ledger));
  expect(text).toContain("To know\n  Zeros are no faster.");
  expect(text).toMatch(/kept: 2 +50\.00 % +40\.00 % +90\.00 %/);
  expect(text).toMatch(/ original +0\.00 % +– +92\.00 %/);
  expect(text).toMatch(/layer +50\.00 % +90\.00 % +proposed\n +broken +∞ +∞\n +weak +0\.100 +3 +50\.00 %/);
  expect(text).toContain("prune-weights, round 2: trained for 0 epochs");
  expect(renderMarkdown(exhibitSections(ledger))).toContain("| kept: 2 | 50.00 % | 40.00 % | 90.00 % |");
  expect(exhibitSections([entry("simplify", [])])).toEqual([]);
});

test("formats of layers are counted and listed with what each would have done", () => {
  const option = (format: string, bits: number, damage: number) => ({ format, bits, damage });
  const float = option("float", 32, 0);
  const formats: FormatsExhibit = {
    kind: "formats",
    damage: { name: "noise" },
    layers: [
      { name: "a", elements: 3000, chosen: "weights2", options: [float, option("weights2", 2, 0.5)] },
      { name: "b", elements: 1000, chosen: "int8", options: [float, option("int8", 8, 2.6e-7)] },
    ],
  };
  expect(formatNames(formats)).toEqual(["float", "int8", "weights2"]);
  expect(formatsSentence(formats)).toBe("Layers by format: 1 weights2, 1 int8; 3.50 bits a weight.");
  const text = renderTerminal(exhibitSections([entry("quantize-weights", [formats])]));
  expect(text).toMatch(/a +weights2 +0 +0\.500\n +b +int8 +0 +2\.6e-7/);
});
