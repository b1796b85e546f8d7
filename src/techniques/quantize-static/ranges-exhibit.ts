import { gridError } from "../../analysis/ranges.ts";
import { nodeLabel } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { affineParams } from "../../tensor/affine.ts";
import type { Histogram } from "../../tensor/histogram.ts";
import type { RangesExhibit } from "../exhibit.ts";
import type { Choice } from "./search.ts";
import { rangesFor } from "./setup.ts";

/** Values shown, and bins of their histograms. */
const shown = 6;
const bins = 64;

/** The activations that their grids fit worst; undefined where no histogram was kept. */
export function rangesExhibit({ setup, plan, method, learned }: Choice): RangesExhibit | undefined {
  const { activationType, symmetricActivations: symmetric } = setup.options;
  const { producer } = links(setup.graph);
  const found = [...rangesFor(setup, plan, method)].flatMap(([value, chosen]) => {
    const histogram = setup.calibration.tensors.get(value)?.histogram;
    if (!histogram || histogram.count === histogram.zeros) return [];
    const [min, max] = learned?.ranges.get(value) ?? chosen;
    const bits = setup.widths.value(value);
    const grid = affineParams(min, max, activationType, { symmetric, bits });
    const { signal, noise, clipped } = gridError(histogram, grid);
    const ends = [grid.qmin, grid.qmax].map((q) => grid.scale * (q - grid.zeroPoint));
    const maker = producer.get(value);
    return [
      {
        name: maker ? nodeLabel(maker) : value,
        bits,
        range: [ends[0]!, ends[1]!] as const,
        histogram: coarse(histogram),
        clipped,
        signalToNoise: 10 * Math.log10(signal / Math.max(noise, Number.MIN_VALUE)),
      },
    ];
  });
  if (found.length === 0) return undefined;
  const worst = found.toSorted((a, b) => a.signalToNoise - b.signalToNoise).slice(0, shown);
  return { kind: "ranges", values: worst, quantized: found.length };
}

/** A histogram over fewer bins; each of its own goes where its middle lies. */
function coarse(h: Histogram): RangesExhibit["values"][number]["histogram"] {
  const { min, max } = h;
  const counts = new Array<number>(bins).fill(0);
  const width = 2 ** h.exponent;
  for (let i = 0; i < h.bins; i++) {
    const middle = Math.min(max, Math.max(min, (h.first + i + 0.5) * width));
    const at = max > min ? Math.min(bins - 1, Math.floor(((middle - min) / (max - min)) * bins)) : 0;
    counts[at]! += h.counts[i]!;
  }
  return { min, max, counts };
}
