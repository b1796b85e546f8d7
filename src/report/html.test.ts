import { parseHTML } from "linkedom";
import { describe, expect, test } from "vitest";
import type { Exhibit } from "../techniques/exhibit.ts";
import { renderHtml } from "./html.ts";
import type { ModelReport, Report } from "./report.ts";
import { emptyReport, fullReport, model } from "./testing.ts";

function sectionsOf(page: string): string[] {
  return [...parseHTML(page).document.querySelectorAll("section")].map(({ id }) => id);
}

const voids = new Set(["meta", "link", "br", "hr", "img", "input", "!doctype"]);

/** Elements that are opened and closed out of order. */
function misnested(page: string): string[] {
  const open: string[] = [];
  const wrong: string[] = [];
  const text = page.replace(/<style>.*?<\/style>/gs, "");
  for (const [, closing, name = "", selfClosing] of text.matchAll(
    /<(\/?)([!a-zA-Z][\w-]*)(?:[^<>"']|"[^"]*"|'[^']*')*?(\/?)>/g,
  )) {
    if (voids.has(name.toLowerCase()) || selfClosing) continue;
    if (!closing) open.push(name);
    else if (open.at(-1) === name) open.pop();
    else wrong.push(name);
  }
  return [...wrong, ...open];
}

describe("renderHtml", () => {
  test("makes a well-formed page whose references hold", async () => {
    const page = await renderHtml(fullReport());
    expect(misnested(page)).toEqual([]);
    const { document } = parseHTML(page);
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const targets = [...document.querySelectorAll("a")].map((a) => a.getAttribute("href")?.slice(1) ?? "");
    expect(targets.filter((target) => !ids.includes(target))).toEqual([]);
    const charts = [...document.querySelectorAll("svg")];
    expect(charts.length).toBeGreaterThan(10);
    for (const chart of charts) {
      expect(chart.getAttribute("role")).toBe("img");
      expect(chart.getAttribute("aria-label")).toBeTruthy();
    }
    expect(document.querySelectorAll("th:not([scope])")).toHaveLength(0);
    const defined = new Set(page.match(/--[\w-]+(?=:)/g));
    expect(
      [...page.matchAll(/var\((--[\w-]+)\)/g)].map(([, name]) => name!).filter((name) => !defined.has(name)),
    ).toEqual([]);
  });

  test("asks the network for nothing and runs nothing", async () => {
    const { document } = parseHTML(await renderHtml(fullReport()));
    expect(document.querySelectorAll("script, img, iframe, object, embed, form, base")).toHaveLength(0);
    for (const element of document.querySelectorAll("*")) {
      for (const { name, value } of [...element.attributes]) {
        expect(name).not.toMatch(/^on|^src$|^xlink/);
        if (name === "href") expect(value).toMatch(/^#|^data:,$/);
      }
    }
    expect(document.querySelector("style")?.textContent).not.toMatch(/url\(|@import/);
  });

  test("shows no value that is not one", async () => {
    const { document } = parseHTML(await renderHtml(fullReport()));
    document.querySelector("style")?.remove();
    expect(document.toString()).not.toMatch(/NaN|undefined|\[object|Infinity|null/);
  });

  test("keeps hostile names as text", async () => {
    const { document } = parseHTML(await renderHtml(fullReport()));
    expect(document.querySelector("h1")?.textContent).toContain('<script>alert("x")</script><img src=x');
    expect(
      [...document.querySelectorAll("code[title]")].map((code) => code.getAttribute("title")).join("\n"),
    ).toContain("<script>");
    expect(document.body.textContent).not.toMatch(/[\u202e\0]/);
  });

  test("is the same for the same report", async () => {
    expect(await renderHtml(fullReport())).toBe(await renderHtml(fullReport()));
  });

  const all = [
    "comparison",
    "steps",
    "rounds",
    "retraining",
    "zeros",
    "groups",
    "grids",
    "sensitivity",
    "formats",
    "ranges",
    "plans",
    "layers",
    "latency",
    "divergence",
    "weights",
    "left",
    "environment",
    "methods",
  ];
  const found = ["rounds", "retraining", "zeros", "groups", "grids", "sensitivity", "formats", "ranges"];
  const nothing: readonly Exhibit[] = [
    { kind: "sparsity", layers: [] },
    { kind: "groups", groups: [] },
    { kind: "grids", layers: [], ranges: [] },
    { kind: "sensitivity", amount: { name: "a" }, damage: { name: "b" }, layers: [{ name: "c", curve: [] }] },
    { kind: "formats", damage: { name: "b" }, layers: [] },
    { kind: "progress", amount: { name: "a" }, quality: { name: "b", better: "lower" }, rounds: [] },
    { kind: "ranges", values: [], quantized: 0 },
    { kind: "training", curve: [], epochs: [], best: { epoch: 0 } },
  ];
  const bare = ({ latency: _, times: __, ...rest }: ModelReport): ModelReport => ({
    ...rest,
    layers: [],
    byType: {},
    scores: [],
  });
  const cases: [string, (report: Report) => Partial<Report>, string[]][] = [
    ["everything", () => ({}), []],
    ["no steps", () => ({ ledger: [] }), ["steps", "left", ...found]],
    ["no exhibits", ({ ledger }) => ({ ledger: ledger.map((entry) => ({ ...entry, exhibits: [] })) }), found],
    [
      "exhibits of nothing",
      ({ ledger }) => ({ ledger: ledger.map((entry) => ({ ...entry, exhibits: nothing })) }),
      found,
    ],
    ["no skips", ({ ledger }) => ({ ledger: ledger.map((entry) => ({ ...entry, skips: [] })) }), ["left"]],
    ["no plans and two models", () => ({ plans: [] }), ["plans"]],
    ["no weights", () => ({ weights: [] }), ["weights"]],
    [
      "no divergence",
      ({ comparisons }) => ({ comparisons: comparisons.map((c) => ({ ...c, divergence: [] })) }),
      ["divergence"],
    ],
    ["bare models", ({ models }) => ({ models: models.map(bare) }), ["layers", "latency"]],
    [
      "one model",
      ({ models }) => ({ models: models.slice(0, 1), comparisons: [], plans: [] }),
      ["plans", "divergence"],
    ],
  ];
  test.each(cases)("leaves out what it has no data for: %s", async (_, change, missing) => {
    const report = fullReport();
    const page = await renderHtml({ ...report, ...change(report) });
    expect(sectionsOf(page)).toEqual(all.filter((id) => !missing.includes(id)));
    expect(misnested(page)).toEqual([]);
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("renders a report of nothing, and one read back from JSON", async () => {
    const { verdict: _, data: __, command: ___, seed: ____, ...nothing } = emptyReport;
    expect(sectionsOf(await renderHtml(nothing))).toEqual(["environment", "methods"]);
    const page = await renderHtml(JSON.parse(JSON.stringify(fullReport())) as Report);
    expect(page).not.toMatch(/NaN|undefined|>null/);
    expect(sectionsOf(page)).toEqual(all);
  });

  test("says so when the machine was busy while timing", async () => {
    const report = fullReport();
    const scattered = report.models.map((each) => ({
      ...each,
      latency: { median: 1, quartiles: [0.9, 30] as const, runs: 50, batch: 1 },
    }));
    expect(await renderHtml(report)).not.toContain("the machine was busy");
    expect(await renderHtml({ ...report, models: scattered })).toContain("the machine was busy");
  });

  test("compares more than two models in one table and one chart", async () => {
    const report = fullReport();
    const second = { ...report.comparisons[0]!, model: 2 };
    const models = [...report.models, model("third.onnx", 0.5, 0.915)];
    const page = await renderHtml({ ...report, models, comparisons: [...report.comparisons, second], plans: [] });
    const { document } = parseHTML(page);
    expect(document.querySelector("#plans svg")?.textContent).toContain("third.onnx");
    expect(document.querySelectorAll("#comparison thead th")).toHaveLength(4);
  });
});
