import type { ProgressExhibit, SensitivityExhibit } from "../../techniques/exhibit.ts";
import type { Canvas } from "../charts/canvas.ts";
import { linesChart } from "../charts/lines.ts";
import { roundsChart } from "../charts/rounds.ts";
import { bySensitivity, quantityText, roundColumns, scanAmounts, shown } from "../exhibits.ts";
import { html, type Markup } from "../markup.ts";
import { eachStep, figure, folded, name, number, type SectionMaker, table } from "./parts.ts";

/** Quality against amount, round by round. */
export const rounds: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "progress").filter(({ exhibit }) => exhibit.rounds.length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => roundsOf(exhibit, canvas));
  return { id: "rounds", title: "Round by round", link: "Rounds", body };
};

function roundsOf(exhibit: ProgressExhibit, canvas: Canvas): Markup {
  const { amount, quality, limit } = exhibit;
  const columns = roundColumns(exhibit);
  const list = exhibit.rounds.map((round, i) => ({
    ...round,
    kept: round.kept ?? false,
    title: columns.map(([title, cell]) => `${title}: ${number(cell(i))}`).join("\n"),
  }));
  const kept = exhibit.rounds.find((round) => round.kept);
  const chart = roundsChart(canvas, list, {
    x: { label: amount.name, format: (value) => number(quantityText(value, amount)) },
    y: { label: quality.name, format: (value) => number(quantityText(value, quality)) },
    keptText: kept ? number(`${quantityText(kept.quality, quality)} at ${quantityText(kept.amount, amount)}`) : "",
    better: quality.better,
    ...(limit !== undefined && { limit }),
  });
  const rows = exhibit.rounds.map((_, i) => columns.map(([, cell]) => number(cell(i))));
  const numbers = table(
    "Rounds",
    columns.map(([title]) => ({ title, numeric: true })),
    rows,
  );
  return html`${rows.length > 1 && figure(chart, captionOf(exhibit))}${rows.length > 12 ? folded(`All ${rows.length} rounds`, numbers) : numbers}`;
}

function captionOf({ quality, rounds: all }: ProgressExhibit): string {
  const cut = all.some((round) => round.cut !== undefined);
  const kept = all.some((round) => round.kept);
  return [
    `Each dot is a round; ${quality.better} is better.`,
    cut ? " A dotted line leads up from what the cut had left." : "",
    kept ? " The star is the round that was kept." : "",
  ].join("");
}

/** What each layer bears. */
export const sensitivity: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "sensitivity").filter(({ exhibit }) => scanAmounts(exhibit).length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => sensitivityOf(exhibit, canvas));
  return { id: "sensitivity", title: "What each layer bears", link: "Sensitivity", body };
};

function sensitivityOf(exhibit: SensitivityExhibit, canvas: Canvas): Markup {
  const { amount, damage } = exhibit;
  const worst = bySensitivity(exhibit).filter(({ curve }) => curve.length > 0);
  const text = (at: number, lost: number): string =>
    number(`${amount.name} ${quantityText(at, amount)}: ${damage.name} ${quantityText(lost, damage)}`);
  const lines = worst.map(({ name: layer, curve, proposed }) => ({
    name: layer,
    points: curve.map(([x, y]) => ({ x, y, title: `${layer}\n${text(x, y)}` })),
    ...(proposed !== undefined && {
      mark: { x: proposed, title: `${layer}\nproposed: ${number(quantityText(proposed, amount))}` },
    }),
  }));
  const chart = linesChart(canvas, lines, {
    label: `${damage.name} by ${amount.name} of one layer alone`,
    x: { label: `${amount.name}, of one layer alone`, format: (value) => number(quantityText(value, amount)) },
    y: { label: damage.name, format: (value) => number(quantityText(value, damage)) },
  });
  const proposed = worst.some((layer) => layer.proposed !== undefined);
  const caption = `A line is a layer, compressed more and more while all others stay as they are; lower is better.${proposed ? " The dots are what the scan proposes." : ""}`;
  return html`${figure(chart, caption)}${folded("All layers as a table", sensitivityTable(exhibit, worst, proposed))}`;
}

function sensitivityTable(exhibit: SensitivityExhibit, worst: SensitivityExhibit["layers"], proposed: boolean): Markup {
  const { amount, damage } = exhibit;
  const amounts = scanAmounts(exhibit);
  const columns = [
    { title: "Layer" },
    ...amounts.map((value) => ({ title: number(quantityText(value, amount)), numeric: true })),
    ...(proposed ? [{ title: "Proposed", numeric: true }] : []),
  ];
  const rows = worst.map(({ name: layer, curve, proposed: chosen }) => {
    const at = new Map(curve);
    return [
      name(layer, 32),
      ...amounts.map((value) => (at.has(value) ? number(quantityText(at.get(value)!, damage)) : "–")),
      ...(proposed ? [chosen === undefined ? "–" : number(quantityText(chosen, amount))] : []),
    ];
  });
  return table(`${damage.name} by ${amount.name}, the most sensitive layer first`, columns, rows);
}
