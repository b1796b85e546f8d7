import type { Applicability, Inspection, Port } from "../analysis/inspect.ts";
import type { Layer } from "../analysis/layers.ts";
import type { Section } from "./document.ts";
import { bytes, compact, milliseconds, percent, shorten } from "./format.ts";

/**
 * An inspection in reading order: the model, bytes by type, the layers that weigh and take most, what could go, and what
 * each technique could do.
 *
 * @param limit layers in each list
 */
export function inspectionSections(inspection: Inspection, limit = 12): Section[] {
  const { layers, totals, timing, techniques } = inspection;
  const heavy = layers.filter((layer) => layer.bytes > 0).toSorted((a, b) => b.bytes - a.bytes);
  const slow = layers.filter(({ ms = 0 }) => ms > 0).toSorted((a, b) => b.ms! - a.ms!);
  const sections = [modelSection(inspection), typesSection(inspection)];
  if (heavy.length > 0)
    sections.push(layersSection("Layers by bytes", heavy, limit, totals.bytes, ({ bytes: b }) => b));
  if (timing && slow.length > 0) {
    sections.push(layersSection("Layers by time", slow, limit, timing.kernels, ({ ms }) => ms ?? 0));
  }
  const removable = removableLines(inspection);
  if (removable.length > 0) sections.push({ title: "What could go without changing a result", lines: removable });
  if (techniques.length > 0)
    sections.push({ title: "What techniques could do", lines: techniques.flatMap(techniqueLines) });
  return sections;
}

function modelSection({
  name,
  inputs,
  outputs,
  totals,
  timing,
  untimed,
  opsets,
  irVersion,
  operators,
}: Inspection): Section {
  const sets = Object.entries(opsets).map(([domain, version]) => `${domain || "ai.onnx"} ${version}`);
  const kinds = Object.entries(operators).toSorted((a, b) => b[1] - a[1]);
  const shown = kinds.slice(0, 8).map(([op, count]) => `${count} ${op}`);
  const atLeast = totals.unknownNodes > 0 ? `at least ` : "";
  const lines = [
    `inputs ${inputs.map(portText).join(", ")}; outputs ${outputs.map(portText).join(", ")}`,
    `IR ${irVersion}, opsets ${sets.join(", ")}`,
    `${totals.nodes} nodes: ${shown.join(", ")}${kinds.length > shown.length ? ", ..." : ""}`,
    `${compact(totals.parameters)} parameters, ${bytes(totals.bytes)} of weights, ${atLeast}${compact(totals.macs)} MACs`,
    `activations: at most ${bytes(totals.peak.bytes)} at one time, during '${totals.peak.node}'`,
  ];
  if (timing) {
    const { runtime, provider, threads, runs, wall, kernels } = timing;
    const where = `${runtime}, ${provider}, ${threads} threads, ${runs} runs`;
    lines.push(`${milliseconds(wall)} a run (median); kernels ${milliseconds(kernels)} (mean); ${where}`);
    const added = Object.entries(timing.added).filter(([, ms]) => ms > 0.02 * kernels);
    if (added.length > 0)
      lines.push(`added by the runtime: ${added.map(([op, ms]) => `${op} ${milliseconds(ms)}`).join(", ")}`);
  } else lines.push(`not timed: ${untimed ?? "not asked for"}`);
  return { title: name || "model", lines };
}

function portText({ name, type, shape }: Port): string {
  return `'${name}' ${type}${shape ? `[${shape.map((dim) => dim ?? "?").join(", ")}]` : ""}`;
}

function typesSection({ totals }: Inspection): Section {
  const rows = Object.entries(totals.byType)
    .toSorted((a, b) => b[1] - a[1])
    .map(([dtype, size]) => [dtype, bytes(size), percent(size / Math.max(1, totals.bytes))]);
  const columns = [{ title: "type" }, { title: "bytes", right: true }, { title: "share", right: true }];
  return { title: "Weights by type", table: { columns, rows } };
}

function layersSection(
  title: string,
  layers: readonly Layer[],
  limit: number,
  total: number,
  of: (layer: Layer) => number,
): Section {
  const rows = layers
    .slice(0, limit)
    .map((layer) => [
      layer.name,
      shorten(layer.op, 18),
      bytes(layer.bytes),
      layer.ms === undefined ? "" : milliseconds(layer.ms),
      compact(layer.macs),
      percent(of(layer) / Math.max(total, Number.MIN_VALUE)),
    ]);
  const columns = [
    { title: "layer", flexible: true },
    { title: "operator" },
    { title: "bytes", right: true },
    { title: "time", right: true },
    { title: "MACs", right: true },
    { title: "share", right: true },
  ];
  const rest = layers.length > limit ? [`${limit} of ${layers.length} layers`] : [];
  return { title, lines: rest, table: { columns, rows } };
}

function removableLines({ removable, unsimplified, duplicates, transposed }: Inspection): string[] {
  const lines: string[] = [];
  if (removable) lines.push(`simplify would remove ${removable.nodes} nodes and ${bytes(removable.bytes)} of weights`);
  if (unsimplified !== undefined) lines.push(`simplify was not tried: ${unsimplified}`);
  const list = (weights: readonly string[]): string => weights.map((name) => `'${name}'`).join(", ");
  for (const { weights, bytes: size } of duplicates.slice(0, 5))
    lines.push(`${list(weights)} are equal: ${bytes(size)}`);
  for (const { weights, bytes: size } of transposed.slice(0, 5)) {
    lines.push(`${list(weights)} are each other's transpose: ${bytes(size)}`);
  }
  return lines;
}

const shownReasons = 3;

function techniqueLines({ technique, nodes, left }: Applicability): string[] {
  const reasons = left.slice(0, shownReasons).map(({ reason, nodes: labels }) => `${labels.length} not: ${reason}`);
  const more = left.length > shownReasons ? [`and ${left.length - shownReasons} reasons more`] : [];
  return [[`${technique}: ${nodes.length} node${nodes.length === 1 ? "" : "s"}`, ...reasons, ...more].join("; ")];
}
