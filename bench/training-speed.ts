/**
 * Whole training steps (forward, backward, update) of pare beside PyTorch and the JavaScript frameworks that train on
 * the CPU, in the same minutes: the sides take turns, each in a process of its own.
 * `PARE_PYTHON_TORCH=python PARE_PEERS=FOLDER npx tsx bench/training-speed.ts [ROW ...] [--rounds N]`
 *
 * PARE_PYTHON_TORCH names a Python with torch, PARE_PEERS a folder with `npm install @tensorflow/tfjs
 * @tensorflow/tfjs-backend-wasm @jax-js/jax` done in it. Sides that are not there are left out. Results are recorded when
 * all rows run.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { record, table } from "./document.ts";

/** What one side is to do. */
export interface Task {
  readonly arch: string;
  /** Options of the architecture. */
  readonly options: Readonly<Record<string, number>>;
  /** Samples a step. */
  readonly batch: number;
  readonly training: {
    readonly optimizer: "sgd" | "adamw";
    readonly rate: number;
    readonly momentum: number;
    readonly nesterov: boolean;
    readonly decay: number;
    readonly batch: number;
  };
  readonly threads: number;
  /** Steps before any is timed. */
  readonly warmup: number;
}

interface Row {
  readonly title: string;
  readonly task: Omit<Task, "threads" | "warmup">;
  /** What a second is counted in, and how many of them a sample has. */
  readonly unit: string;
  readonly perSample: number;
  readonly peers: readonly string[];
}

const threads = 2;
const sgd = { optimizer: "sgd", rate: 0.01, momentum: 0.9, nesterov: true, decay: 5e-4 } as const;
const adamw = { optimizer: "adamw", rate: 3e-4, momentum: 0.9, nesterov: false, decay: 0.1 } as const;
const gpt = { vocabulary: 65, length: 256, dim: 384, heads: 6, layers: 6 };
const torch = ["PyTorch", "PyTorch, channels last", "PyTorch, compiled"];

const rows: Readonly<Record<string, Row>> = {
  resnet20: {
    title: "ResNet-20 for CIFAR, batch 128",
    task: { arch: "resnet20", options: { size: 32, classes: 10 }, batch: 128, training: { ...sgd, batch: 128 } },
    unit: "images",
    perSample: 1,
    peers: [...torch, "TensorFlow.js, WASM", "jax-js, WASM"],
  },
  mobilenet: {
    title: "MobileNetV2, 96x96, 1000 classes, batch 32",
    task: { arch: "mobilenet-v2", options: { size: 96, classes: 1000 }, batch: 32, training: { ...sgd, batch: 32 } },
    unit: "images",
    perSample: 1,
    peers: torch,
  },
  gpt: {
    title: "GPT, 6 layers 384 wide, 256 tokens, batch 8",
    task: { arch: "gpt", options: gpt, batch: 8, training: { ...adamw, batch: 8 } },
    unit: "tokens",
    perSample: 256,
    peers: ["PyTorch", "PyTorch, compiled"],
  },
};

/** How to start a side, or undefined where it is not installed. */
function command(side: string, task: Omit<Task, "threads" | "warmup">): readonly [string, ...string[]] | undefined {
  const here = (file: string): string => fileURLToPath(new URL(`peers/${file}`, import.meta.url));
  const batch = batchOf(side, task.batch);
  const config = JSON.stringify({ ...task, batch, threads, warmup: pace(side).warmup, variant: variants[side] ?? "" });
  if (side === "pare") return [process.execPath, worker, config];
  const { PARE_PYTHON_TORCH: python, PARE_PEERS: folder } = process.env;
  if (torch.includes(side)) return python === undefined ? undefined : [python, here("train.py"), config];
  const script = here(side.startsWith("jax") ? "jax-js.mjs" : "tfjs.mjs");
  return folder === undefined ? undefined : [process.execPath, script, config];
}

const variants: Readonly<Record<string, string>> = {
  PyTorch: "eager",
  "PyTorch, channels last": "channels_last",
  "PyTorch, compiled": "compile",
};

/** Samples a step: few for the frameworks in WebAssembly, which are compared by the sample. */
function batchOf(side: string, batch: number): number {
  return side.endsWith("WASM") ? Math.min(batch, 8) : batch;
}

/** Milliseconds that a side may be silent. */
const patience = 150_000;

/** Steps before the first round, and a round: those of the frameworks in WebAssembly take a minute. */
function pace(side: string): { readonly warmup: number; readonly steps: number; readonly rounds: number } {
  return side.endsWith("WASM") ? { warmup: 1, steps: 1, rounds: 2 } : { warmup: 3, steps: 5, rounds };
}

/** A process that does training steps when it is told to. */
class Side {
  readonly name: string;
  readonly times: number[] = [];
  peak = 0;
  /** What it says of itself. */
  title = "";
  /** Why it can't. */
  error = "";
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(name: string, [program, ...args]: readonly [string, ...string[]]) {
    this.name = name;
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** What it says next; an end without a word is an error too. */
  async answer(): Promise<{ readonly ready?: string; readonly ms?: readonly number[] }> {
    const waiting = new AbortController();
    const silence = delay(patience, undefined, { signal: waiting.signal }).catch(() => undefined);
    const next = await Promise.race([this.#answers.next(), silence]);
    waiting.abort();
    if (next === undefined) {
      this.#child.kill("SIGKILL");
      return this.#failed(`no answer within ${patience / 1000} s`);
    }
    const { value, done } = next;
    if (done)
      return this.#failed(`ended with status ${this.#child.exitCode}, ${this.#child.signalCode ?? "no signal"}`);
    const said = JSON.parse(value) as { ready?: string; ms?: number[]; error?: string };
    return said.error === undefined ? said : this.#failed(said.error);
  }

  #failed(why: string): object {
    this.error = why;
    return {};
  }

  async round(steps: number): Promise<void> {
    this.#child.stdin!.write(`${JSON.stringify({ steps })}\n`);
    this.times.push(...((await this.answer()).ms ?? []));
    this.peak = this.error === "" ? peakOf(this.#child.pid!) : 0;
  }

  end(): void {
    this.#child.stdin!.end();
  }
}

/** Peak resident memory of a running process in MB, as Linux keeps it. */
function peakOf(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line![1]) / 1000;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

async function race({ task, peers }: Row): Promise<readonly Side[]> {
  const sides: Side[] = [];
  for (const name of ["pare", ...peers]) {
    const how = command(name, task);
    if (!how) continue;
    const side = new Side(name, how);
    sides.push(side);
    side.title = (await side.answer()).ready ?? "";
    console.error(`${name}: ${side.title || side.error}`);
  }
  for (let round = 0; round < rounds; round++) {
    for (const side of sides) {
      const { steps, rounds: most } = pace(side.name);
      const slow = side.times.length > 0 && side.times[0]! > 60_000;
      if (side.error === "" && round < most && !slow) await side.round(steps);
    }
  }
  for (const side of sides) side.end();
  return sides;
}

function report({ title, task, unit, perSample }: Row, sides: readonly Side[]): string {
  const [ours] = sides;
  const cells = sides.map(({ name, times, peak, error }) => {
    if (error !== "") return [name, `fails: ${error.split("\n")[0]}`, "", "", "", ""];
    const middle = median(times);
    const batch = batchOf(name, task.batch);
    const [ratio, rate] = [(median(ours!.times) / middle) * (batch / task.batch), (batch * perSample * 1000) / middle];
    return [
      batch === task.batch ? name : `${name}, batch ${batch}`,
      middle.toFixed(0),
      Math.min(...times).toFixed(0),
      ratio.toFixed(ratio < 0.1 ? 4 : 2),
      rate.toFixed(0),
      peak.toFixed(0),
    ];
  });
  const header = ["", "median ms", "least ms", "pare's time / this", `${unit} a second`, "peak MB"];
  const versions = sides.flatMap((side) => (side.title === "" ? [] : [side.title]));
  return [`### ${title}`, "", table(header, cells), "", `${[...new Set(versions)].join("; ")}.`].join("\n");
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "5" } },
});
const rounds = Number(values.rounds);
const wanted = positionals.length > 0 ? positionals : Object.keys(rows);

// compiled as users have it: a loader of TypeScript would count as pare's memory
const cache = fileURLToPath(new URL(`../node_modules/.cache/training-speed-${process.pid}`, import.meta.url));
const worker = `${cache}/worker.mjs`;
mkdirSync(cache, { recursive: true });
await build({
  entryPoints: [fileURLToPath(new URL("training-worker.ts", import.meta.url))],
  outfile: worker,
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  logLevel: "warning",
});
try {
  const sections: string[] = [];
  for (const name of wanted) {
    const row = rows[name];
    if (!row) throw new Error(`no row '${name}'; there are ${Object.keys(rows).join(", ")}`);
    sections.push(report(row, await race(row)));
    console.log(`${sections.at(-1)}\n`);
  }
  const [usual, wasm] = [pace("pare"), pace("WASM")];
  const intro = `Whole training steps, ${threads} threads a side, but for the frameworks in WebAssembly, which choose their own number; the sides
take turns: after ${usual.warmup} steps to warm up ${usual.rounds} rounds of ${usual.steps}, in WebAssembly after ${wasm.warmup} step ${wasm.rounds} rounds of ${wasm.steps}. Ratios are of medians (of the
time a sample takes where the batch is smaller), below 1 where pare is faster.`;
  const line = "PARE_PYTHON_TORCH=python PARE_PEERS=FOLDER npx tsx bench/training-speed.ts";
  if (positionals.length === 0) record("training-speed", "Training speed", line, [intro, ...sections].join("\n\n"));
} finally {
  rmSync(cache, { recursive: true, force: true });
}
