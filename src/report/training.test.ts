import { expect, test } from "vitest";
import { makeGraph } from "../graph/graph.ts";
import type { EpochRecord, StepsRecord, TrainResult } from "../training/train.ts";
import { reportSections } from "./document.ts";
import { renderHtml } from "./html.ts";
import { reportMarkdown } from "./markdown.ts";
import { renderTerminal } from "./terminal.ts";
import { type TrainingFacts, trainingReport, trainingSpeed } from "./training.ts";

const facts: TrainingFacts = {
  model: "resnet20",
  output: "out.onnx",
  bytes: 1_100_000,
  batch: 128,
  settings: { epochs: 3, optimizer: "sgd", rate: 0.1, freeze: [] },
  data: { name: "cifar-10", size: () => 12_800 },
  machine: { runtime: "onnxruntime-node", provider: "cpu", threads: 2, processor: "p", platform: "linux" },
  seed: 1,
  command: "pare train --arch resnet20",
};

/** Three epochs of 100 steps, the second the best. */
function result(metric: string | undefined, scores: readonly number[], accuracy: boolean) {
  const epochs = scores.map(
    (score, i): EpochRecord => ({
      kind: "epoch",
      step: 100 * (i + 1),
      epoch: i + 1,
      loss: 2 / (i + 1),
      ...(accuracy && { accuracy: 0.3 * (i + 1) }),
      rate: 0.1,
      samplesPerSecond: 640,
      ...(metric !== undefined && { score, metric }),
      seconds: 25,
    }),
  );
  const curve = Array.from(
    { length: 60 },
    (_, i): StepsRecord => ({
      kind: "steps",
      step: 5 * (i + 1),
      epoch: Math.floor(i / 20) + 1,
      loss: 2.3 * 0.95 ** i,
      ...(accuracy && { accuracy: i / 60 }),
      rate: 0.1 * (1 - i / 60),
      samplesPerSecond: 640,
    }),
  );
  const best = metric === undefined ? { epoch: 3 } : { epoch: 2, score: scores[1]! };
  const made: TrainResult = { model: makeGraph({ nodes: [], inputs: [], outputs: [] }), records: epochs, curve, best };
  return { ...made, summary: "cross-entropy" };
}

const figures = (page: string): string[] => [...page.matchAll(/<figure>.*?aria-label="([^"]*)"/gs)].map(([, l]) => l!);

test("shares stand in one chart, beside loss and rate, with the best epoch marked", async () => {
  const report = trainingReport(result("top-1", [0.5, 0.9, 0.85], true), facts);
  expect(trainingSpeed(report.training!)).toEqual({ seconds: 75, rate: 640 });
  const page = await renderHtml(report);
  expect(figures(page)).toEqual([
    "loss over the epochs: loss",
    "accuracy over the epochs: training, top-1",
    "learning rate over the epochs: learning rate",
  ]);
  expect(page).toContain("resnet20 was trained for 3 epochs in 1 min 15 s. The best was epoch 2: top-1 90.00 % on");
  expect(page).toContain("best: epoch 2");
  expect(page).toContain("<dt>optimizer</dt><dd>sgd</dd>");
  expect(page).not.toMatch(/NaN|undefined|<dt>freeze/);
  const text = renderTerminal(reportSections(report), { width: 100, colour: false });
  expect(text).toMatch(/best: 2 +200 +1\.000 +60\.00 % +90\.00 % +0\.100 +640\.0 +25\.0 s/);
});

test("the samples are those of the training split, however many of them a run sees", async () => {
  const whole = result("top-1", [0.5], true);
  const [{ step, ...record }] = whole.records as [EpochRecord];
  const half = { ...whole, records: [{ ...record, step: step / 2 }] };
  for (const run of [whole, half])
    expect(trainingReport(run, facts).data).toEqual({ name: "cifar-10", samples: 12_800 });
  const unknown = trainingReport(half, { ...facts, data: { name: "stream", size: () => undefined } });
  expect(unknown.data).toEqual({ name: "stream" });
  expect(await renderHtml(unknown)).toMatch(/<dt>Data<\/dt><dd>[^<]*(<[^>]*>)*stream(<[^>]*>)*<\/dd>/);
  expect(reportMarkdown(unknown)).toContain("stream; ");
  expect(reportMarkdown(unknown)).not.toMatch(/undefined|NaN/);
});

test("a score that is no share has a chart of its own; without scores there is none", async () => {
  const page = await renderHtml(trainingReport(result("perplexity", [9, 4, 5], true), facts));
  expect(figures(page)).toEqual([
    "loss over the epochs: loss",
    "accuracy over the epochs: training",
    "perplexity over the epochs: perplexity",
    "learning rate over the epochs: learning rate",
  ]);
  const plain = await renderHtml(trainingReport(result(undefined, [0, 0, 0], false), facts));
  expect(figures(plain)).toEqual(["loss over the epochs: loss", "learning rate over the epochs: learning rate"]);
  expect(plain).toContain("to a loss of 0.6667.");
  expect(plain).not.toMatch(/NaN|undefined|best: epoch/);
});
