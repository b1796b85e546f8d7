import { picojoules } from "../../analysis/energy.ts";
import { count, significant } from "../format.ts";
import { type Content, html } from "../markup.ts";
import type { Report } from "../report.ts";
import { name, number, type Section } from "./parts.ts";

/** Where, when and on what the figures were measured. */
export function environment(report: Report): Section {
  const { machine, data, verdict, tool } = report;
  const facts: readonly (readonly [title: string, content: Content])[] = [
    [
      "Command",
      report.command &&
        html`<code class="command">${report.command.split(" ").map((word) => html`<span>${word}</span> `)}</code>`,
    ],
    ["Tool", `${tool.name} ${tool.version}`],
    ["Created", report.created],
    [
      "Runtime",
      `${machine.runtime}, provider ${machine.provider}, ${machine.threads} ${machine.threads === 1 ? "thread" : "threads"}`,
    ],
    ["Processor", machine.processor],
    ["Platform", machine.platform],
    ["Seed", report.seed !== undefined && String(report.seed)],
    [
      "Data",
      data &&
        html`${name(data.name, 60)}${data.samples !== undefined && html`, ${number(count(data.samples))} samples`}`,
    ],
    [
      "Classes",
      data?.classes &&
        `${data.classes.length}: ${data.classes.slice(0, 12).join(", ")}${data.classes.length > 12 ? ", …" : ""}`,
    ],
    [
      "Samples",
      verdict &&
        `${number(count(verdict.samples.calibration))} to calibrate, ${number(count(verdict.samples.selection))} to choose, ${number(count(verdict.samples.confirmation))} to confirm`,
    ],
  ];
  const known = facts.filter(([, content]) => content);
  return {
    id: "environment",
    title: "Where and how it ran",
    link: "Environment",
    body: html`<dl class="facts">${known.map(([title, content]) => html`<dt>${title}</dt><dd>${content}</dd>`)}</dl>`,
  };
}

interface Method {
  readonly title: string;
  /** Whether the report has such figures. */
  applies(report: Report): unknown;
  readonly text: string;
}

const { mac, byte } = picojoules;

const table: readonly Method[] = [
  {
    title: "Scores",
    applies: ({ models }) => models.some(({ scores }) => scores.length > 0),
    text: "Computed on the samples named above. Intervals are 95 % confidence intervals: Wilson's for shares of samples, bootstrap otherwise. Models are compared on the same samples, so that a difference has an interval and a test of its own, paired: McNemar's exact test for shares, paired bootstrap otherwise. A difference whose interval includes 0 can't be told from none.",
  },
  {
    title: "Budget",
    applies: ({ verdict }) => verdict !== undefined,
    text: "Plans are chosen on one part of the samples and confirmed on another that had no say in the choice.",
  },
  {
    title: "Training",
    applies: ({ training }) => training !== undefined,
    text: "Loss and accuracy while training are means over the samples of the steps, augmented as they were, by weights that move meanwhile. The score is measured after every epoch on the whole validation split, by the weights as they would be saved.",
  },
  {
    title: "Size",
    applies: ({ models }) => models.length > 0,
    text: "Bytes of the file as written, external data included; gzip and brotli are what a web server would send.",
  },
  {
    title: "Parameters and multiply-accumulates",
    applies: ({ models }) => models.some(({ macs }) => macs > 0),
    text: "Counted from the graph and the shapes of one inference. One multiply-accumulate is one multiplication and one addition.",
  },
  {
    title: "Latency",
    applies: ({ models }) => models.some(({ latency }) => latency),
    text: "Wall time of single inferences after warm-up. Models take turns in short blocks in random order, so that a drift of the machine hits all of them alike; the ratio is the median over blocks that stood side by side, its 95 % interval a bootstrap over blocks.",
  },
  {
    title: "Time per layer",
    applies: ({ models }) => models.some(({ layers }) => layers.some(({ ms }) => ms !== undefined)),
    text: "The median over runs of the runtime's own profile of its kernels, fused ones counted for the layer that leads them.",
  },
  {
    title: "Peak memory",
    applies: ({ models }) => models.some(({ peakMemory }) => peakMemory),
    text: "How far loading the model and running it raise the resident memory of a fresh process at its peak: weights, activations and the runtime's own copies.",
  },
  {
    title: "Energy",
    applies: ({ models }) => models.some(({ energy }) => energy !== undefined),
    text: `An estimate, not a measurement: multiply-accumulates times the energy of one in their type (float32 ${significant(mac.float32, 2)} pJ, float16 ${significant(mac.float16, 2)} pJ, int8 ${significant(mac.int8, 1)} pJ), weights read once from memory (${byte.dram} pJ a byte), activations written and read once (${byte.cache} pJ a byte where they fit a cache of 1 MiB, else ${byte.dram}). The constants are those of M. Horowitz, “Computing's energy problem”, ISSCC 2014, for 45 nm silicon: good for comparing models, not for predicting a battery.`,
  },
  {
    title: "Signal to noise",
    applies: ({ comparisons }) =>
      comparisons.some(({ divergence, outputs }) => divergence.length > 0 || outputs.length > 0),
    text: "10 log₁₀ of the energy of the original's value over that of the difference, in decibels, on the same samples: 20 dB is 1 % of noise, 40 dB is 0.01 %. A layer is bad below 10 dB.",
  },
  {
    title: "Weights",
    applies: ({ weights }) => weights.length > 0,
    text: "The weights after are the numbers that the runtime computes with, brought to the original's scale by one factor per output and per input channel, which folding and equalization change without changing the network.",
  },
];

/** How each kind of figure in this report was measured. */
export function methods(report: Report): Section {
  const rows = table.filter(({ applies }) => applies(report));
  return {
    id: "methods",
    title: "How the figures were measured",
    link: "Methods",
    body: html`<dl class="methods">${rows.map(({ title, text }) => html`<dt>${title}</dt><dd>${units(text)}</dd>`)}</dl>`,
  };
}

/** Keeps a number and its unit together. */
function units(text: string): string {
  return text.replace(/(\d) (%|dB|nm|pJ|MiB)/g, "$1\u202f$2");
}
