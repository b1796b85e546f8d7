import { count } from "../format.ts";
import { type Content, html } from "../markup.ts";
import type { Report } from "../report.ts";
import { name, number, type Section } from "./parts.ts";

/** Where, when and on what the figures were measured. */
export function environment(report: Report): Section {
  const { machine, data, verdict, tool } = report;
  const facts: readonly (readonly [title: string, content: Content])[] = [
    ["Command", report.command && html`<code class="command">${report.command}</code>`],
    ["Tool", `${tool.name} ${tool.version}`],
    ["Created", report.created],
    [
      "Runtime",
      `${machine.runtime}, provider ${machine.provider}, ${machine.threads} ${machine.threads === 1 ? "thread" : "threads"}`,
    ],
    ["Processor", machine.processor],
    ["Platform", machine.platform],
    ["Seed", report.seed !== undefined && String(report.seed)],
    ["Data", data && html`${name(data.name, 60)}, ${number(count(data.samples))} samples`],
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

/** How each kind of figure in this report was measured. */
export function methods(report: Report): Section {
  const { models, comparisons, weights, verdict } = report;
  const some = (test: (model: Report["models"][number]) => unknown): boolean => models.some((model) => test(model));
  const items: readonly (readonly [shown: boolean, title: string, text: string])[] = [
    [
      some(({ scores }) => scores.length > 0),
      "Scores",
      "Computed on the samples named above. Intervals are 95 % confidence intervals. Two models are compared on the same samples, so that a difference has its own, narrower, paired interval and test; a difference whose interval includes 0 is not distinguishable from none.",
    ],
    [
      verdict !== undefined,
      "Budget",
      "Plans are chosen on one part of the samples and confirmed on another that had no say in the choice.",
    ],
    [
      true,
      "Size",
      "Bytes of the file as written, external data included; gzip and brotli are what a web server would send.",
    ],
    [
      some(({ macs }) => macs > 0),
      "Parameters and multiply-accumulates",
      "Counted from the graph and the shapes of one inference. One multiply-accumulate is one multiplication and one addition.",
    ],
    [
      some(({ latency }) => latency),
      "Latency",
      "Wall time of single inferences after warm-up; models take turns, so that a drift of the machine hits all of them alike. The interval belongs to the ratio of the times.",
    ],
    [
      some(({ layers }) => layers.some(({ ms }) => ms !== undefined)),
      "Time per layer",
      "From the runtime's own profile of its kernels, summed by layer; the sum is below the whole because scheduling is left out.",
    ],
    [
      some(({ peakMemory }) => peakMemory),
      "Peak memory",
      "Highest resident memory of a process that loads and runs the model alone, the runtime's own share included.",
    ],
    [
      some(({ energy }) => energy !== undefined),
      "Energy",
      "An estimate, not a measurement: multiply-accumulates and bytes moved, each times a constant for its type (M. Horowitz, “Computing's energy problem”, ISSCC 2014, 45 nm). Good for comparing models, not for predicting a battery.",
    ],
    [
      comparisons.some(({ divergence, outputs }) => divergence.length > 0 || outputs.length > 0),
      "Signal to noise",
      "10 log₁₀ of the energy of the original's value over the energy of the difference, in decibels: 20 dB is 1 % of noise energy, 40 dB is 0.01 %.",
    ],
    [
      weights.length > 0,
      "Weights",
      "Histograms over equal bins; the weights after are what the runtime computes with, that is, after scaling back.",
    ],
  ];
  return {
    id: "methods",
    title: "How the figures were measured",
    link: "Methods",
    body: html`<dl class="methods">${items.filter(([shown]) => shown).map(([, title, text]) => html`<dt>${title}</dt><dd>${units(text)}</dd>`)}</dl>`,
  };
}

/** Keeps a number and its unit together. */
function units(text: string): string {
  return text.replace(/(\d) (%|dB|nm)/g, "$1\u202f$2");
}
