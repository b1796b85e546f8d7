/**
 * `pare finetune` with its defaults on models that are trained already, their batch normalization as it was exported and
 * folded: what they score on the test split before and after. The test split decides nothing: epochs are chosen by
 * samples that the command holds out of the training split.
 * `PARE_DATA=FOLDER npx tsx bench/finetune.ts [MODEL...] [--flags="FLAGS OF pare finetune"]`; results are recorded when all models run
 * without further flags.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { evaluate } from "../src/analysis/evaluate.ts";
import { withPreprocess } from "../src/data/preprocess.ts";
import { load, runtime, save } from "../src/platform/node.ts";
import { simplify } from "../src/techniques/simplify/index.ts";
import { testContext } from "../src/techniques/testing.ts";
import { record, table } from "./document.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const { values, positionals } = parseArgs({ options: { flags: { type: "string" } }, allowPositionals: true });
const flags = values.flags?.split(/\s+/) ?? [];
const data = dataFolder();
const seed = 1;
const work = join(tmpdir(), "pare-finetune");
const pare = fileURLToPath(new URL("../bin/pare.js", import.meta.url));
const onnx = await runtime();

/** What the command prints as JSON. */
interface Outcome {
  readonly best: { readonly epoch: number; readonly score?: number };
  readonly epochs: readonly { readonly score?: number }[];
}

function finetuned(input: string, output: string): { outcome: Outcome; notes: string; seconds: number } {
  const started = performance.now();
  const args = ["finetune", input, "--data", `${data}/cifar-10`, "-o", output, "--json", "--seed", `${seed}`, ...flags];
  const done = spawnSync("node", [pare, ...args], { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (done.status !== 0) throw new Error(done.stderr);
  const seconds = (performance.now() - started) / 1000;
  return { outcome: JSON.parse(done.stdout) as Outcome, notes: done.stderr, seconds };
}

const percent = (share: number | undefined): string => (share === undefined ? "-" : `${(100 * share).toFixed(2)} %`);

mkdirSync(work, { recursive: true });
const rows: string[][] = [];
const wanted = zoo.filter(({ name }) =>
  positionals.length > 0 ? positionals.includes(name) : name === "resnet20" || name === "resnet8",
);
for (const model of wanted) {
  const { graph: original, dataset } = await openZoo(model, data, onnx);
  for (const folded of [false, true]) {
    const graph = folded ? await simplify({}).apply(original, testContext(onnx)) : original;
    const metadata = withPreprocess(graph.metadata, model.preprocess!);
    const [input, output] = ["before", "after"].map((when) => join(work, `${model.name}-${folded}-${when}.onnx`));
    await save({ ...graph, metadata }, input!);
    const { outcome, notes, seconds } = finetuned(input!, output!);
    const models = [
      { name: "before", graph },
      { name: "after", graph: await load(output!) },
    ];
    const [metric] = model.metrics;
    const result = await evaluate(models, dataset, onnx, { metrics: [metric!], split: "test", seed });
    const change = result.models[1]!.changes[0]!;
    const [low, high] = change.interval ?? [change.difference, change.difference];
    const points = (share: number): string => `${share >= 0 ? "+" : "-"}${Math.abs(100 * share).toFixed(2)}`;
    rows.push([
      `${model.name}${folded ? ", folded" : ""}`,
      percent(change.before),
      percent(change.after),
      `${points(change.difference)} (${points(low)} .. ${points(high)})`,
      /before: (\S+)/.exec(notes)?.[1] ?? "-",
      outcome.best.score?.toPrecision(4) ?? "-",
      `${outcome.best.epoch} of ${outcome.epochs.length}`,
      /optimizer: (\w+, rate [\d.e-]+)/.exec(notes)?.[1] ?? "-",
      `${(seconds / 60).toFixed(1)} min`,
    ]);
    console.log(rows.at(-1)!.join(" | "));
  }
}

const header = [
  ...["model", "test before", "test after", "difference (95 %)", "held out before", "held out after", "epoch chosen"],
  ...["optimizer chosen", "time"],
];
const body = `CIFAR-10: trained on the training split but for a tenth held out, by which the epoch is chosen, the model as it
was (epoch 0) being one of the candidates; judged on the 10,000 test images. No flags but the seed (${seed}): 3 epochs in
batches of 64, no augmentation. The models have seen what is held out when they were first trained, which favours them as
they were. "Folded": batch normalization folded into the convolutions before.

${table(header, rows)}`;
if (positionals.length === 0 && flags.length === 0)
  record("finetune", "Fine-tuning with the defaults", "PARE_DATA=FOLDER npx tsx bench/finetune.ts", body);
else console.log(body);
