import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { load } from "../src/platform/node.ts";
import { toFloat32 } from "../src/tensor/tensor.ts";
import type { TrainRecord } from "../src/training/train.ts";
import { build, pare, removeBuild, start, workplace } from "./cli.ts";

let folder = "";
beforeAll(() => {
  build();
  folder = workplace();
}, 60_000);
afterAll(removeBuild);

const small = ["--epochs", "1", "--samples", "512", "--batch", "64", "--quiet", "--json"];

test("finetune trains a model further, logs every epoch, and continues nothing that is finished", async () => {
  const args = [
    "finetune",
    "digits/model.onnx",
    "--data",
    "digits",
    "-o",
    "tuned.onnx",
    "--work",
    "run",
    "--log",
    "log.jsonl",
    ...small,
  ];
  const first = await pare(args, folder);
  expect(first.stderr).toBe("");
  const result = JSON.parse(first.stdout) as { epochs: { loss: number }[] };
  expect(result.epochs).toHaveLength(1);
  expect(result.epochs[0]!.loss).toBeLessThan(3);
  const log = readFileSync(join(folder, "log.jsonl"), "utf8").trim().split("\n");
  expect(log.map((line) => (JSON.parse(line) as TrainRecord).kind).filter((kind) => kind === "epoch")).toHaveLength(1);
  const again = await pare(args, folder);
  expect(JSON.parse(again.stdout)).toEqual(result);
  const [before, after] = await Promise.all(
    ["digits/model.onnx", "tuned.onnx"].map((name) => load(join(folder, name))),
  );
  expect([...after!.weights.keys()]).toEqual([...before!.weights.keys()]);
});

test("train makes a network from nothing, and refuses what the architecture does not know", async () => {
  const args = [
    "train",
    "--arch",
    "lenet-300-100",
    "--input-channels",
    "1",
    "--size",
    "28",
    "--data",
    "digits",
    "-o",
    "new.onnx",
    ...small,
  ];
  const { status, stdout } = await pare(args, folder);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ output: "new.onnx" });
  expect((await load(join(folder, "new.onnx"))).name).toBe("lenet-300-100");
  const wrong = await pare([...args, "--heads", "3"], folder);
  expect(wrong.status).toBe(1);
  expect(wrong.stderr).toMatch(/heads/);
});

test("a lottery ticket from a network as it was drawn", async () => {
  const arch = ["--arch", "lenet-300-100", "--input-channels", "1", "--size", "28", "--data", "digits", "--quiet"];
  expect((await pare(["train", ...arch, "-o", "drawn.onnx", "--epochs", "0"], folder)).status).toBe(0);
  const pruning = [
    "--rounds",
    "2",
    "--rewind",
    "0",
    "--sparsity",
    "0.75",
    "--layer-sparsity",
    "fc3*=0.5",
    "--no-distill",
  ];
  const training = ["--epochs", "0.1", "--batch", "32", "--log", "ticket.jsonl", "--threads", "1"];
  const files = ["drawn.onnx", "--data", "digits", "-o", "ticket.onnx", "--quiet"];
  const { status, stderr } = await pare(["prune-weights", ...files, ...pruning, ...training], folder);
  expect([status, stderr]).toEqual([0, ""]);
  const entries = readFileSync(join(folder, "ticket.jsonl"), "utf8").trim().split("\n");
  const trainings = new Set(entries.map((line) => (JSON.parse(line) as TrainRecord).training));
  expect([...trainings]).toEqual(["dense", "round1", "round2"]);
  const [drawn, ticket] = await Promise.all(["drawn.onnx", "ticket.onnx"].map((name) => load(join(folder, name))));
  const shares = [...ticket!.weights.values()].flatMap((weight) => {
    const values = toFloat32(weight);
    return weight.shape.length === 2 ? [values.filter((v) => v === 0).length / values.length] : [];
  });
  expect(shares).toEqual([0.75, 0.75, 0.5].map((share) => expect.closeTo(share, 3)));
  expect([...ticket!.weights.keys()]).toEqual([...drawn!.weights.keys()]);
  expect(existsSync(join(folder, "ticket.onnx.work"))).toBe(false);
});

test("an unknown architecture, a teacher that does not fit and missing labels are told", async () => {
  const unknown = await pare(["train", "--arch", "resnet21", "--data", "digits", "-o", "x.onnx"], folder);
  expect(unknown.status).toBe(1);
  expect(unknown.stderr).toMatch(/resnet20/);
  const noTeacher = await pare(
    ["finetune", "digits/model.onnx", "--teacher", "none.onnx", "--data", "digits", "-o", "x.onnx"],
    folder,
  );
  expect(noTeacher.status).toBe(1);
  expect(noTeacher.stderr).toMatch(/none\.onnx/);
});

test("a technique that retrains learns from the model before, or from another teacher", async () => {
  const arch = ["--arch", "lenet-300-100", "--input-channels", "1", "--size", "28", "--data", "digits", "--quiet"];
  expect((await pare(["train", ...arch, "-o", "other.onnx", "--epochs", "0"], folder)).status).toBe(0);
  const pruning = ["prune-weights", "digits/model.onnx", "--data", "digits", "--sparsity", "0.5", "--quiet"];
  const training = ["--epochs", "0.1", "--batch", "32", "--threads", "1", "--teacher-weight", "1"];
  const made = async (output: string, ...more: string[]): Promise<Buffer> => {
    const { status, stderr } = await pare([...pruning, ...training, "-o", output, ...more], folder);
    expect([status, stderr]).toEqual([0, ""]);
    return readFileSync(join(folder, output));
  };
  const own = await made("own.onnx");
  expect(await made("same.onnx", "--teacher", "digits/model.onnx")).toEqual(own);
  expect(await made("drilled.onnx", "--teacher", "other.onnx")).not.toEqual(own);
  for (const more of [["--no-distill"], ["--epochs", "0"]]) {
    const idle = await pare([...pruning, ...training, "-o", "x.onnx", "--teacher", "other.onnx", ...more], folder);
    expect(idle.status).toBe(1);
    expect(idle.stderr).toMatch(/--teacher: nothing learns from it/);
  }
});

test("a technique that retrains holds samples out and is judged by them", async () => {
  const pruning = ["prune-weights", "digits/model.onnx", "--data", "digits#train", "--sparsity", "0.5", "--quiet"];
  const training = ["--epochs", "0.1", "--batch", "32", "--threads", "1"];
  const scores = async (name: string, ...more: string[]): Promise<(number | undefined)[]> => {
    const places = ["-o", `${name}.onnx`, "--log", `${name}.jsonl`];
    const { status, stderr } = await pare([...pruning, ...training, ...places, ...more], folder);
    expect([status, stderr]).toEqual([0, ""]);
    const lines = readFileSync(join(folder, `${name}.jsonl`), "utf8")
      .trim()
      .split("\n");
    return lines.map((line) => JSON.parse(line) as TrainRecord).flatMap((r) => (r.kind === "epoch" ? [r.score] : []));
  };
  expect(await scores("judged")).toEqual([expect.any(Number)]);
  expect(await scores("unjudged", "--hold-out", "0")).toEqual([undefined]);
});

/** Trains the digits network, slowly enough to be stopped on its way. */
const long = (...more: string[]) => [
  ...["train", "--arch", "lenet-300-100", "--input-channels", "1", "--size", "28", "--data", "digits"],
  ...["--epochs", "3", "--batch", "32", "--random-crop", "2", "--cutout", "4", "--mixup", "0.2", "--average", "0.9"],
  ...["--threads", "1", "--seed", "5", ...more],
];

/** Starts a command and calls back once its log tells of a step. */
async function stoppedAfter(args: readonly string[], log: string, steps: number, signal: NodeJS.Signals) {
  const child = start(args, folder);
  let stderr = "";
  child.stderr!.on("data", (chunk) => (stderr += chunk));
  const ended = new Promise<number | null>((done) => child.once("close", done));
  const path = join(folder, log);
  const before = existsSync(path) ? readFileSync(path, "utf8").length : 0;
  const told = () => existsSync(path) && readFileSync(path, "utf8").slice(before).split("\n").length > steps;
  while (!told() && child.exitCode === null) await new Promise((later) => setTimeout(later, 5));
  child.kill(signal);
  return { status: await ended, stderr };
}

test("killed twice, interrupted once and started again: the same bytes, a whole log and a report", async () => {
  const whole = await pare(long("-o", "whole.onnx", "--quiet"), folder);
  expect(whole.status).toBe(0);
  const args = long("-o", "parts.onnx", "--log", "parts.jsonl", "--report", "parts.html", "--work", "work");
  await stoppedAfter(args, "parts.jsonl", 30, "SIGKILL");
  await stoppedAfter(args, "parts.jsonl", 40, "SIGKILL");
  const interrupted = await stoppedAfter(args, "parts.jsonl", 20, "SIGINT");
  expect(interrupted.status).toBe(130);
  expect(interrupted.stderr).toMatch(
    /pare: interrupted after step \d+ of \d+\. The same command continues from there: the checkpoint is in work\./,
  );
  expect(existsSync(join(folder, "parts.onnx"))).toBe(false);
  const rest = await pare(args, folder);
  expect(rest.status).toBe(0);
  expect(rest.stderr).toMatch(/continuing after step \d+/);
  const [expected, got] = ["whole.onnx", "parts.onnx"].map((name) => readFileSync(join(folder, name)));
  expect(got!.equals(expected!)).toBe(true);
  const log = readFileSync(join(folder, "parts.jsonl"), "utf8").trim().split("\n");
  const entries = log.map((line) => JSON.parse(line) as TrainRecord);
  const epochs = entries.filter((entry) => entry.kind === "epoch");
  expect(new Set(epochs.map(({ epoch }) => epoch))).toEqual(new Set([1, 2, 3]));
  for (const { loss, accuracy, rate, samplesPerSecond } of entries) {
    expect([loss, accuracy!, rate, samplesPerSecond].every((value) => value >= 0)).toBe(true);
  }
  const page = readFileSync(join(folder, "parts.html"), "utf8");
  for (const section of ["How training went", "Epochs", "Settings"]) expect(page).toContain(`>${section}</h2>`);
  expect(existsSync(join(folder, "whole.onnx.work"))).toBe(false);
}, 240_000);

test("patterns of groups are checked, and batch normalization is folded on request", async () => {
  const args = ["finetune", "digits/model.onnx", "--data", "digits", "-o", "folded.onnx", ...small];
  const wrong = await pare([...args, "--rate-factors", "Gem=2"], folder);
  expect(wrong.status).toBe(1);
  expect(wrong.stderr).toMatch(/nothing fits --rate-factors 'Gem'.*Gemm/);
  const { status } = await pare([...args, "--rate-factors", "Gemm=2", "--decays", "Gemm=0.01", "--simplify"], folder);
  expect(status).toBe(0);
  const operators = async (name: string) => (await load(join(folder, name))).nodes.map(({ op }) => op);
  expect(await operators("digits/model.onnx")).toContain("BatchNormalization");
  expect(await operators("folded.onnx")).not.toContain("BatchNormalization");
});
