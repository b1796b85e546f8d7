/**
 * Zeros in a language model without training: perplexity of stories260K on stories that neither score nor calibrate, after
 * pruning by magnitude, Wanda and SparseGPT. The tied embedding is left alone, as is usual for language models.
 * `PARE_DATA=FOLDER npx tsx bench/prune-text.ts`
 */
import { evaluate } from "../src/analysis/evaluate.ts";
import type { Graph } from "../src/graph/graph.ts";
import { metricOf } from "../src/metrics/index.ts";
import { runtime } from "../src/platform/node.ts";
import { pruneWeights } from "../src/techniques/prune-weights/index.ts";
import { testContext } from "../src/techniques/testing.ts";
import { record, table } from "./document.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const cpu = await runtime({ threads: 1 });
const { graph, dataset } = await openZoo(zoo.find(({ name }) => name === "stories260K")!, dataFolder(), cpu);
/** Samples to calibrate on: all that there are. */
const samples = dataset.size("calibration")!;
const scores = ["random", "magnitude", "taylor", "wanda", "sparsegpt"] as const;
const amounts = [{ sparsity: 0.3 }, { sparsity: 0.5 }, { sparsity: 0.6 }, { pattern: "2:4" }];
const nameOf = ({ sparsity, pattern }: (typeof amounts)[number]): string => pattern ?? `${100 * sparsity!} %`;

const models: { name: string; graph: Graph }[] = [{ name: "dense", graph }];
for (const amount of amounts) {
  for (const score of scores) {
    const lines: string[] = [];
    const context = { ...testContext(cpu), data: dataset, log: (line: string) => void lines.push(line) };
    const step = pruneWeights({ ...amount, score, samples, ends: "prune", exclude: ["Gather"] });
    models.push({ name: `${nameOf(amount)} ${score}`, graph: await step.apply(graph, context) });
    console.log(`${nameOf(amount)} ${score}: ${lines.find((line) => line.startsWith("zeros:"))}`);
  }
}

const perplexity = metricOf("perplexity");
const { models: judged } = await evaluate(models, dataset, cpu, { metrics: [perplexity], split: "test", seed: 1 });
const scoreOf = (name: string): string => {
  const { value, interval } = judged.find((model) => model.name === name)!.scores[0]!;
  return interval ? `${value.toFixed(2)} (${interval.map((v) => v.toFixed(2)).join(" .. ")})` : value.toFixed(2);
};
const rows = amounts.map((amount) => [nameOf(amount), ...scores.map((score) => scoreOf(`${nameOf(amount)} ${score}`))]);
const body = `stories260K (five blocks, 0.26 M weights) on TinyStories: perplexity on the first 256 tokens of each of
${dataset.size("test")} stories, with 95 % intervals; the dense model has ${scoreOf("dense")}. Scores are computed on ${samples}
other stories; nothing is trained. All matrices of the blocks are pruned alike, the tied embedding stays dense.

${table(["zeros", ...scores], rows)}`;
console.log(body);
record("prune-text", "Zeros in a language model", "PARE_DATA=FOLDER npx tsx bench/prune-text.ts", body);
