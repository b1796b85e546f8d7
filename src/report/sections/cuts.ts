import type { GroupsExhibit, SparsityExhibit } from "../../techniques/exhibit.ts";
import { type BarLabel, type BarRow, barLabel, bars } from "../charts/bars.ts";
import type { Canvas } from "../charts/canvas.ts";
import { frozenGroups, groupsSentence, layersTogether, shown, sparsitySentence } from "../exhibits.ts";
import { count, metricValue } from "../format.ts";
import { html, type Markup } from "../markup.ts";
import { nodeList } from "./ledger.ts";
import { eachStep, figure, folded, name, number, type SectionMaker, table } from "./parts.ts";

/** Zeros in each layer. */
export const zeros: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "sparsity").filter(({ exhibit }) => exhibit.layers.length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => zerosOf(exhibit, canvas));
  return { id: "zeros", title: "Where the zeros are", link: "Zeros", body };
};

function zerosOf(exhibit: SparsityExhibit, canvas: Canvas): Markup {
  const { layers } = exhibit;
  const row = (label: BarLabel, part: SparsityExhibit["layers"]): BarRow => {
    const together = layersTogether(part);
    return { label, values: [together.zeros / Math.max(1, together.elements)] };
  };
  const rowsFor = (limit: number): BarRow[] => {
    const [main, rest] = largest(layers, limit, ({ elements }) => elements);
    const rows = main.map((layer) => row(barLabel(layer.name), [layer]));
    return rest.length === 0 ? rows : [...rows, row(barLabel(`${rest.length} other layers`), rest)];
  };
  const chart = bars(canvas, rowsFor, {
    label: "Share of each layer's weights that are zero",
    axis: "share of weights that are zero",
    models: ["zeros"],
    firstModel: 1,
    end: 1,
    format: shareText,
  });
  const columns = [
    { title: "Layer" },
    { title: "Weights", numeric: true },
    { title: "Zeros", numeric: true },
    { title: "Share", numeric: true },
  ];
  const cells = layers.map((layer) => [
    name(layer.name, 48),
    number(count(layer.elements)),
    number(count(layer.zeros)),
    shareText(layer.zeros / Math.max(1, layer.elements)),
  ]);
  return html`${figure(chart, number(sparsitySentence(exhibit)))}${folded("All layers as a table", table("Zeros of all layers", columns, cells))}`;
}

function shareText(share: number): string {
  return number(metricValue(share, "%"));
}

/** What was cut together, and what could not be. */
export const groups: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "groups").filter(({ exhibit }) => exhibit.groups.length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => groupsOf(exhibit, canvas));
  return { id: "groups", title: "What was cut together", link: "Groups", body };
};

type Group = GroupsExhibit["groups"][number];

function groupsOf(exhibit: GroupsExhibit, canvas: Canvas): Markup {
  const free = exhibit.groups.filter(({ frozen }) => frozen === undefined);
  const row = (label: BarLabel, part: readonly Group[]): BarRow => {
    const before = part.reduce((sum, group) => sum + group.before, 0);
    const after = part.reduce((sum, group) => sum + group.after, 0);
    const text = number(after === before ? `${count(before)}, whole` : `${count(before)} → ${count(after)}`);
    return { label, values: [after / Math.max(1, before)], texts: [text] };
  };
  const rowsFor = (limit: number): BarRow[] => {
    const [main, rest] = largest(free, limit, ({ before, after }) => before - after);
    const rows = main.map((group) => row(barLabel(group.name), [group]));
    return rest.length === 0 ? rows : [...rows, row(barLabel(`${rest.length} other groups`), rest)];
  };
  const options = {
    label: "Units of each group that stay",
    axis: "share of units that stay",
    models: ["after"],
    firstModel: 1,
    end: 1,
    format: shareText,
  };
  const chart = free.length > 0 && bars(canvas, rowsFor, options);
  const sentence = number(groupsSentence(exhibit));
  return html`${chart ? figure(chart, sentence) : html`<p>${sentence}</p>`}${frozenList(exhibit)}${folded("All groups as a table", groupTable(exhibit.groups))}`;
}

function frozenList(exhibit: GroupsExhibit): Markup | undefined {
  const reasons = frozenGroups(exhibit);
  if (reasons.length === 0) return undefined;
  return html`<h4>What can't be cut</h4><ul class="reasons">${reasons.map(([reason, names]) => html`<li>${reason}: ${nodeList(names, "groups")}</li>`)}</ul>`;
}

/** Members named in a cell; the rest are counted. */
const namedMembers = 3;

function groupTable(list: readonly Group[]): Markup {
  const columns = [
    { title: "Group" },
    { title: "Before", numeric: true },
    { title: "After", numeric: true },
    { title: "Cut together" },
  ];
  const rows = list.map(({ name: group, members, before, after, frozen }) => [
    name(group, 32),
    number(count(before)),
    frozen === undefined ? number(count(after)) : "frozen",
    html`${members.slice(0, namedMembers).map((member, i) => html`${i > 0 && ", "}${name(member, 28)}`)}${
      members.length > namedMembers && ` and ${members.length - namedMembers} more`
    }`,
  ]);
  return table("All groups", columns, rows);
}

/** The most weighty of some things, in the order they had, and the rest; one thing is no rest. */
function largest<T>(all: readonly T[], limit: number, weight: (one: T) => number): [main: T[], rest: T[]] {
  if (all.length <= limit + 1) return [[...all], []];
  const chosen = new Set(all.toSorted((a, b) => weight(b) - weight(a)).slice(0, limit));
  return [all.filter((one) => chosen.has(one)), all.filter((one) => !chosen.has(one))];
}
