/**
 * Half of the feed-forward width and a quarter of the attention heads cut from a language model, and won back by training
 * with the model as it was as a teacher; perplexity on stories that nothing was trained on or chosen by.
 * `npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/prune-transformer.ts`
 *
 * PARE_WORK keeps checkpoints, logs and models: a run that was stopped goes on where it was, and one that is done is not
 * run again. PARE_THREADS spares cores.
 */
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { load } from "../src/platform/node.ts";
import { record, table } from "./document.ts";
import { folder, pare } from "./study.ts";
import { readStories } from "./zoo/stories.ts";

const [data, work] = [folder("PARE_DATA"), join(folder("PARE_WORK"), "prune-transformer")];
const original = join(data, "stories260k", "stories260K.onnx");
const stories = join(work, "stories");
const window = ["--window", "256"];
const [bos, judged, chosenBy] = [1, 200, 100];
/** What may be lost: the perplexity is at most this many times the original's. */
const bar = 1.1;

const cut = "--ratio 0 --group-ratio *.w1.weight*=0.5,*.wq.weight[1]=0.25 --round-to 1 --importance taylor";
const trained = "--batch 16 --optimizer adamw --rate 2e-3 --decay 0.01 --clip-norm 1 --temperature 1 --average 0.995";
const models: Readonly<Record<string, { readonly title: string; readonly command: string }>> = {
  cut: { title: "cut, repaired without training", command: `prune-channels ${cut}` },
  distilled: {
    title: "cut and trained with a teacher",
    command: `prune-channels ${cut} --epochs 20 ${trained} --teacher-weight 0.9`,
  },
  finetuned: {
    title: "cut and trained on the labels alone",
    command: `prune-channels ${cut} --epochs 20 ${trained} --no-distill`,
  },
};

/** The stories as runs of tokens: some to judge by, some to choose the best epoch by, the others to learn from. */
function writeStories(): void {
  if (existsSync(stories)) return;
  mkdirSync(stories, { recursive: true });
  const all = readStories(data);
  const parts = {
    test: all.slice(0, judged),
    val: all.slice(judged, judged + chosenBy),
    train: all.slice(judged + chosenBy),
  };
  for (const [split, part] of Object.entries(parts)) {
    writeFileSync(join(stories, `${split}.bin`), Uint16Array.from(part.flatMap((story) => [bos, ...story])));
  }
}

function make(name: string): string {
  const [model, checkpoints, log] = [`${name}.onnx`, name, `${name}.jsonl`].map((file) => join(work, file)) as [
    string,
    string,
    string,
  ];
  if (!existsSync(model)) {
    const places = ["--data", stories, "--work", checkpoints, "--log", log, "-o", model];
    const [technique, ...flags] = models[name]!.command.split(" ");
    pare([technique!, original, ...flags, ...window, ...places, "--seed", "1"]);
  }
  return model;
}

interface Score {
  readonly value: number;
  readonly interval: readonly [number, number];
}

writeStories();
const files = [original, ...Object.keys(models).map(make)];
const compared = JSON.parse(
  pare(["compare", ...files, "--data", `${stories}#test`, ...window, "--metric", "perplexity", "--json"]),
);
const scores: readonly Score[] = compared.models.map(({ scores: [first] }: { scores: [Score] }) => first);
const weights = await Promise.all(
  files.map(async (file) => [...(await load(file)).weights.values()].reduce((sum, { size }) => sum + size, 0)),
);
const titles = ["original", ...Object.values(models).map(({ title }) => title)];
const rows = files.map((file, i) => {
  const { value, interval } = scores[i]!;
  const times = value / scores[0]!.value;
  return [
    titles[i]!,
    weights[i]!.toLocaleString("en-US"),
    statSync(file).size.toLocaleString("en-US"),
    `${value.toFixed(3)} (${interval.map((v) => v.toFixed(3)).join(" .. ")})`,
    times.toFixed(3),
    i < 2 ? "" : times <= bar ? "yes" : "**no**",
  ];
});
const commands = Object.values(models).map(({ title, command }) => `- ${title}: \`pare ${command} --seed 1\``);
const body = `stories260K (five blocks of 172 feed-forward units and 8 heads, of which pairs share a key) on TinyStories: in each
block 86 units and 2 heads go, with their key. Perplexity on windows of 256 tokens of the first ${judged} stories, with 95 %
intervals; training is on those behind the first ${judged + chosenBy}, the ${chosenBy} between choose the best epoch. Bar: at most
${bar} times the original's perplexity.

${table(["model", "weights", "bytes", "perplexity", "of the original's", "bar reached"], rows)}

${commands.join("\n")}`;
console.log(body);
record(
  "prune-transformer",
  "A language model of half the feed-forward width and three quarters of the heads",
  "npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/prune-transformer.ts",
  body,
);
