import type { LedgerEntry } from "../recipe/ledger.ts";
import type {
  Exhibit,
  FormatsExhibit,
  GridsExhibit,
  GroupsExhibit,
  ProgressExhibit,
  Quantity,
  RangesExhibit,
  SensitivityExhibit,
  SparsityExhibit,
} from "../techniques/exhibit.ts";
import type { Column, Section } from "./document.ts";
import { bytes, compact, count, metricValue, milliseconds, percent, significant } from "./format.ts";

import { courseOf, courseText } from "./training.ts";

/** An exhibit and the step that showed it. */
export interface Shown<E extends Exhibit = Exhibit> {
  readonly step: string;
  readonly exhibit: E;
}

/** What was shown of one kind, in the order of the steps. */
export function shown<K extends Exhibit["kind"]>(
  ledger: readonly LedgerEntry[],
  kind: K,
): Shown<Extract<Exhibit, { kind: K }>>[] {
  return ledger.flatMap(({ step, exhibits }) =>
    exhibits
      .filter((exhibit): exhibit is Extract<Exhibit, { kind: K }> => exhibit.kind === kind)
      .map((exhibit) => ({ step, exhibit })),
  );
}

/** The sentences that a user must know, each once. */
export function notes(ledger: readonly LedgerEntry[]): string[] {
  return [...new Set(shown(ledger, "note").map(({ exhibit }) => exhibit.text))];
}

/** A value of a quantity: "90.00 %", "1.20 MB", "3.40 ms", "0.0123"; what is no less than the largest number, "∞". */
export function quantityText(value: number, { unit }: Pick<Quantity, "unit">): string {
  if (value >= Number.MAX_VALUE) return "∞";
  if (unit === "B") return bytes(value);
  if (unit === "ms") return milliseconds(value);
  if (unit !== undefined) return metricValue(value, unit);
  return Math.abs(value) >= 1e6 ? compact(value) : Number.isInteger(value) ? count(value) : significant(value);
}

/** Zeros of all layers together. */
export function sparsitySentence({ layers }: SparsityExhibit): string {
  const { elements, zeros } = layersTogether(layers);
  const share = percent(zeros / Math.max(1, elements));
  const where = layers.length === 1 ? "1 layer" : `${layers.length} layers`;
  return `${share} of the weights of ${where} are zero: ${count(zeros)} of ${count(elements)}.`;
}

/** Elements and zeros of some layers together. */
export function layersTogether(layers: SparsityExhibit["layers"]): { elements: number; zeros: number } {
  let [elements, zeros] = [0, 0];
  for (const layer of layers) {
    elements += layer.elements;
    zeros += layer.zeros;
  }
  return { elements, zeros };
}

/** How many groups were cut, and how much went in all. */
export function groupsSentence({ groups }: GroupsExhibit): string {
  const free = groups.filter(({ frozen }) => frozen === undefined);
  const cut = free.filter(({ before, after }) => after < before);
  const sum = (of: "before" | "after"): number => free.reduce((total, group) => total + group[of], 0);
  const parts = [`${cut.length} of ${free.length} groups that can be cut were cut`];
  if (cut.length > 0) parts.push(`${count(sum("before"))} units became ${count(sum("after"))}`);
  const frozen = groups.length - free.length;
  if (frozen > 0) parts.push(`${frozen} more can't be cut`);
  return `${parts.join("; ")}.`;
}

/** How wide the weights of layers are, and the bytes of all. */
export function gridsSentence({ layers }: GridsExhibit): string {
  const widths = new Map<string, number>();
  for (const { width } of layers) widths.set(width, (widths.get(width) ?? 0) + 1);
  const counted = [...widths].map(([width, layers]) => `${count(layers)} of ${width}`);
  const sum = (of: "packed" | "stored"): number => layers.reduce((total, layer) => total + layer[of], 0);
  const [packed, stored] = [sum("packed"), sum("stored")];
  const held = stored === packed ? "" : `; in the file they take ${bytes(stored)}`;
  return `${layers.length === 1 ? "1 layer" : `${count(layers.length)} layers`}: ${counted.join(", ")}. Packed, integers and scales are ${bytes(packed)}${held}.`;
}

/** How much longer a range is after training. */
export function widening({ before, after }: GridsExhibit["ranges"][number]): number {
  const length = ([low, high]: readonly [number, number]): number => high - low;
  return length(before) > 0 ? length(after) / length(before) : 1;
}

/** A range: "-1.20 to 3.40". */
export function rangeText([low, high]: readonly [number, number]): string {
  return `${significant(low)} to ${significant(high)}`;
}

/** Frozen groups by the reason, most frequent first. */
export function frozenGroups({ groups }: GroupsExhibit): [reason: string, names: string[]][] {
  const reasons = new Map<string, string[]>();
  for (const { name, frozen } of groups) {
    if (frozen !== undefined) reasons.set(frozen, [...(reasons.get(frozen) ?? []), name]);
  }
  return [...reasons].sort(([, a], [, b]) => b.length - a.length);
}

/** The layers of a scan, the most sensitive first: by their mean damage. */
export function bySensitivity({ layers }: SensitivityExhibit): SensitivityExhibit["layers"] {
  // divided first: a sum of the largest numbers has no end
  const mean = ({ curve }: SensitivityExhibit["layers"][number]): number =>
    curve.reduce((sum, [, damage]) => sum + damage / curve.length, 0);
  return layers.toSorted((a, b) => mean(b) - mean(a));
}

/** Amounts that any layer of a scan was tried with, ascending. */
export function scanAmounts({ layers }: SensitivityExhibit): number[] {
  return [...new Set(layers.flatMap(({ curve }) => curve.map(([amount]) => amount)))].sort((a, b) => a - b);
}

/** How many layers got which format, and the mean bits of a weight. */
export function formatsSentence({ layers }: FormatsExhibit): string {
  const counts = new Map<string, number>();
  let [bits, elements] = [0, 0];
  for (const layer of layers) {
    counts.set(layer.chosen, (counts.get(layer.chosen) ?? 0) + 1);
    bits += layer.elements * (layer.options.find(({ format }) => format === layer.chosen)?.bits ?? 32);
    elements += layer.elements;
  }
  const list = [...counts].sort(([, a], [, b]) => b - a).map(([format, of]) => `${of} ${format}`);
  return `Layers by format: ${list.join(", ")}; ${(bits / Math.max(1, elements)).toFixed(2)} bits a weight.`;
}

/** A damage in few characters: "0.012", "2.6e-7". */
export function damageText(damage: number, { damage: quantity }: FormatsExhibit): string {
  const tiny = quantity.unit === undefined && damage > 0 && damage < 1e-3;
  return tiny ? damage.toExponential(1) : quantityText(damage, quantity);
}

/** Names of the formats that any layer could have, the most bits first. */
export function formatNames({ layers }: FormatsExhibit): string[] {
  const bits = new Map(layers.flatMap(({ options }) => options.map(({ format, bits: of }) => [format, of] as const)));
  return [...bits].sort(([, a], [, b]) => b - a).map(([format]) => format);
}

/** The columns of the list of rounds: heading and what stands under it. */
export function roundColumns({
  amount,
  quality,
  rounds,
}: ProgressExhibit): readonly (readonly [title: string, cell: (round: number) => string])[] {
  const cut = rounds.some((round) => round.cut !== undefined);
  return [
    ["round", (i) => `${rounds[i]!.kept ? "kept: " : ""}${rounds[i]!.name ?? i + 1}`],
    [amount.name, (i) => quantityText(rounds[i]!.amount, amount)],
    ...(cut
      ? [
          [
            "after the cut",
            (i: number) => (rounds[i]!.cut === undefined ? "–" : quantityText(rounds[i]!.cut!, quality)),
          ] as const,
        ]
      : []),
    [quality.name, (i) => quantityText(rounds[i]!.quality, quality)],
  ];
}

/** Which of the quantized activations are shown. */
export function rangesSentence({ values, quantized }: RangesExhibit): string {
  const worst = values.length === 1 ? "the one" : `the ${values.length}`;
  return `Of ${count(quantized)} quantized activations, ${worst} with the least signal to noise of its own.`;
}

/** Layers and amounts in a list for a terminal. */
const mostLayers = 12;
const mostAmounts = 5;

/** What the steps found out, for a terminal or markdown. */
export function exhibitSections(ledger: readonly LedgerEntry[]): Section[] {
  const sections: Section[] = [];
  const lines = notes(ledger);
  if (lines.length > 0) sections.push({ title: "To know", lines });
  const found = [
    ...shown(ledger, "sparsity").map(({ step, exhibit }) => `${step}: ${sparsitySentence(exhibit)}`),
    ...shown(ledger, "groups").map(({ step, exhibit }) => `${step}: ${groupsSentence(exhibit)}`),
    ...shown(ledger, "formats").map(({ exhibit }) => formatsSentence(exhibit)),
    ...shown(ledger, "grids").map(({ step, exhibit }) => `${step}: ${gridsSentence(exhibit)}`),
  ];
  for (const { step, exhibit } of shown(ledger, "training")) {
    const title = exhibit.name === undefined ? step : `${step}, ${exhibit.name}`;
    found.push(`${title}: trained for ${courseText(courseOf(exhibit))}.`);
  }
  if (found.length > 0) sections.push({ title: "What the steps did", lines: found });
  sections.push(
    ...shown(ledger, "progress").map(progressSection),
    ...shown(ledger, "sensitivity").map(sensitivitySection),
    ...shown(ledger, "formats").map(formatsSection),
    ...shown(ledger, "grids").flatMap(gridsSection),
    ...shown(ledger, "ranges").map(rangesSection),
  );
  return sections;
}

function progressSection({ step, exhibit }: Shown<ProgressExhibit>): Section {
  const columns = roundColumns(exhibit);
  return {
    title: `Rounds of ${step}`,
    table: {
      columns: columns.map(([title]) => ({ title, right: true })),
      rows: exhibit.rounds.map((_, i) => columns.map(([, cell]) => cell(i))),
    },
  };
}

function sensitivitySection({ step, exhibit }: Shown<SensitivityExhibit>): Section {
  const { amount, damage, layers } = exhibit;
  const amounts = evenly(scanAmounts(exhibit), mostAmounts);
  const proposed = layers.some((layer) => layer.proposed !== undefined);
  const columns: Column[] = [
    { title: "layer", flexible: true },
    ...amounts.map((value) => ({ title: quantityText(value, amount), right: true })),
    ...(proposed ? [{ title: "proposed", right: true }] : []),
  ];
  const rows = bySensitivity(exhibit)
    .slice(0, mostLayers)
    .map((layer) => [
      layer.name,
      ...amounts.map((value) => {
        const point = layer.curve.find(([at]) => at === value);
        return point ? quantityText(point[1], damage) : "";
      }),
      ...(proposed ? [layer.proposed === undefined ? "" : quantityText(layer.proposed, amount)] : []),
    ]);
  const rest = layers.length > mostLayers ? `; the ${mostLayers} most sensitive of ${layers.length} layers` : "";
  return {
    title: `Sensitivity, by ${step}`,
    lines: [`${damage.name} by ${amount.name} of one layer alone${rest}`],
    table: { columns, rows },
  };
}

function formatsSection({ exhibit }: Shown<FormatsExhibit>): Section {
  const { damage, layers } = exhibit;
  const formats = formatNames(exhibit);
  const largest = layers.toSorted((a, b) => b.elements - a.elements).slice(0, mostLayers);
  const rows = layers
    .filter((layer) => largest.includes(layer))
    .map(({ name, chosen, options }) => [
      name,
      chosen,
      ...formats.map((format) => {
        const option = options.find((each) => each.format === format);
        return option ? damageText(option.damage, exhibit) : "";
      }),
    ]);
  const rest = layers.length > mostLayers ? `; the ${mostLayers} largest of ${layers.length} layers` : "";
  return {
    title: "Formats",
    lines: [`${damage.name} with one layer alone in a format${rest}`],
    table: {
      columns: [
        { title: "layer", flexible: true },
        { title: "is in" },
        ...formats.map((title) => ({ title, right: true })),
      ],
      rows,
    },
  };
}

/** The ranges that training moved most. */
function gridsSection({ step, exhibit }: Shown<GridsExhibit>): Section[] {
  const moved = exhibit.ranges
    .filter((range) => widening(range) !== 1)
    .toSorted((a, b) => Math.abs(Math.log(widening(b))) - Math.abs(Math.log(widening(a))))
    .slice(0, mostLayers);
  if (moved.length === 0) return [];
  const columns: Column[] = [
    { title: "value", flexible: true },
    { title: "of" },
    { title: "bits", right: true },
    { title: "calibrated", right: true },
    { title: "learned", right: true },
  ];
  const rows = moved.map(({ name, of, bits, before, after }) => [
    name,
    of,
    String(bits),
    rangeText(before),
    rangeText(after),
  ]);
  return [{ title: `Ranges that ${step} moved most`, table: { columns, rows } }];
}

function rangesSection({ step, exhibit }: Shown<RangesExhibit>): Section {
  const numbers = ["bits", "signal to noise", "range", "seen", "beyond"].map((title) => ({ title, right: true }));
  const rows = exhibit.values.map(({ name, bits, range, histogram, clipped, signalToNoise }) => [
    name,
    String(bits),
    `${signalToNoise.toFixed(1)} dB`,
    rangeText(range),
    rangeText([histogram.min, histogram.max]),
    percent(clipped),
  ]);
  return {
    title: `Activations that integers fit worst, by ${step}`,
    lines: [rangesSentence(exhibit)],
    table: { columns: [{ title: "layer", flexible: true }, ...numbers], rows },
  };
}

/** At most `most` of some values, evenly picked, the last one among them. */
function evenly(values: readonly number[], most: number): number[] {
  if (values.length <= most) return [...values];
  return Array.from({ length: most }, (_, i) => values[Math.round(((i + 1) * values.length) / most) - 1]!);
}
