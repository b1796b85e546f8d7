import { basename } from "node:path";
import { evaluationSplit } from "../data/samples.ts";
import type { Graph } from "../graph/graph.ts";
import { metricOf } from "../metrics/index.ts";
import type { LedgerEntry, Measurement } from "../recipe/ledger.ts";
import { compare } from "../report/compare.ts";
import type { ModelReport, Report } from "../report/report.ts";
import type { OpenData } from "./data.ts";
import type { Environment } from "./environment.ts";
import { measuring } from "./measuring.ts";

/** One technique, applied. */
export interface Applied {
  readonly input: { readonly path: string; readonly graph: Graph };
  readonly output: { readonly path: string; readonly graph: Graph };
  readonly entry: LedgerEntry;
  readonly data?: OpenData;
}

/** The report of one technique: both models measured, with scores where there is data. */
export async function techniqueReport(env: Environment, { input, output, entry, data }: Applied): Promise<Report> {
  const [name, made] = [basename(input.path), basename(output.path)];
  const metrics = data?.sidecar.metrics?.map(metricOf);
  const models = [
    { name, graph: input.graph },
    { name: made === name ? output.path : made, graph: output.graph },
  ];
  const report = await compare(models, data?.dataset, {
    ...measuring(env),
    title: `${name}: ${entry.step}`,
    ...(metrics && { metrics }),
  });
  const [before, after] = report.models.map(measurementOf);
  const exhibits = [...entry.exhibits, ...caveats(entry.step, data)];
  return { ...report, ledger: [{ ...entry, before: before!, after: after!, exhibits }] };
}

function measurementOf({ bytes, scores, latency }: ModelReport): Measurement {
  return { bytes, scores, ...(latency && { latency }) };
}

/** What the scores can't tell. */
function caveats(step: string, data: OpenData | undefined): LedgerEntry["exhibits"] {
  if (!data) {
    return [{ kind: "note", text: "No data was given: what was lost is not known. pare compare measures it on data." }];
  }
  const { dataset } = data;
  if (evaluationSplit(dataset) !== dataset.splits[0]) return [];
  const text = `The scores are from samples that ${step} may have looked at: data with a split for testing tells more.`;
  return [{ kind: "note", text }];
}
