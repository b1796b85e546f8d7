import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { load } from "../src/platform/node.ts";
import type { Report } from "../src/report/report.ts";
import { build, dist, type Finished, pare, removeBuild, start, workplace } from "./cli.ts";

const model = "digits/model.onnx";
const data = ["--data", "digits"];
let folder = "";

beforeAll(build, 120_000);
afterAll(removeBuild);
beforeEach(() => {
  folder = workplace();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args: string[]): Promise<Finished> => pare(args, folder);
const digest = (path: string): string =>
  createHash("sha256")
    .update(readFileSync(join(folder, path)))
    .digest("hex");
const files = (): string[] => readdirSync(folder).sort();

function json(finished: Finished): Record<string, unknown> {
  expect(finished, finished.stderr).toMatchObject({ status: 0 });
  return JSON.parse(finished.stdout) as Record<string, unknown>;
}

describe("help", () => {
  test("lists every command, and imports commander alone", async () => {
    const { status, stdout } = await run("--help");
    expect(status).toBe(0);
    for (const name of ["compress", "inspect", "evaluate", "compare", "quantize-static", "print", "schema"]) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    }
    expect(packagesOf(join(dist, "cli", "main.js"))).toEqual(new Set(["commander"]));
  });

  test("a command's own help has its flags, with what they take and their defaults", async () => {
    const { stdout } = await run("quantize-weights", "--help");
    expect(stdout).toContain("--bits");
    expect(stdout).toContain("default: 4");
    expect(stdout).toContain("--no-embeddings");
    expect((await run("help", "quantize-weights")).stdout).toBe(stdout);
  });
});

/** Packages that a module imports statically, through its own files. */
function packagesOf(file: string, seen = new Set<string>()): Set<string> {
  const packages = new Set<string>();
  if (seen.has(file)) return packages;
  seen.add(file);
  for (const [, from] of readFileSync(file, "utf8").matchAll(/^(?:import|export)\b[^;"']*?\bfrom "([^"]+)";/gm)) {
    if (!from!.startsWith(".")) packages.add(from!);
    else for (const name of packagesOf(resolve(dirname(file), from!), seen)) packages.add(name);
  }
  return packages;
}

describe("mistakes end with a message, status 1, no stack and no file", () => {
  const cases: readonly (readonly [args: string[], message: string])[] = [
    [["comprss"], "unknown command 'comprss'. Did you mean 'compress'?"],
    [["inspect", "missing.onnx"], "missing.onnx: can't be opened"],
    [["inspect", "broken.onnx"], "broken.onnx: "],
    [["inspect", "empty.onnx"], "empty.onnx: the file is empty"],
    [["inspect", model, "--jsn"], "unknown option '--jsn'"],
    [["inspect"], "missing required argument 'model'"],
    [["evaluate", model], "required option '--data <path>' not specified"],
    [["evaluate", model, "--data", "nothing"], "nothing: there is no such file or folder"],
    [["evaluate", model, "--data", "empty"], "empty: holds no data of a known kind"],
    [["simplify", model, "-o", model], "digits/model.onnx: is the input: an input file is never changed."],
    [["simplify", model, "-o", "digits"], "digits: is a folder."],
    [["simplify", model, "-o", "none/out.onnx"], "does not exist."],
    [["convert", model, "-o", "o.tflite"], "o.tflite: is named .tflite, but what is written is ONNX. End it in .onnx."],
    [["simplify", model], "required option '-o, --output <file>' not specified"],
    [["quantize-weights", model, "-o", "o.onnx", "--bits", "5"], "option --bits must be one of"],
    [["quantize-weights", model, "-o", "o.onnx", "--include", "conv9"], "no node fits --include 'conv9'. Did you mean"],
    [["quantize-weights", model, "-o", "o.onnx", "--method", "serch"], "Did you mean 'search'?"],
    [["quantize-weights", model, "-o", "o.onnx", "--threads", "0"], "It takes an integer of at least 1."],
    [["compress", model, "-o", "o.onnx", ...data, "--max-drop", "much"], "It takes a share"],
    [["compress", model, "-o", "o.onnx", ...data, "--max-drop", "1"], "It takes a share: 1% or 0.01."],
    [["compress", model, "-o", "o.onnx", ...data, "--target", "speed"], "Allowed choices are"],
    [["compress", model, "-o", "o.onnx", "--recipe", "r.yaml"], "r.yaml, step 1: unknown technique 'simplfy'."],
    [["compress", model, "-o", "o.onnx", "--recipe", "none.yaml"], "none.yaml"],
    [["compress", model, "-o", "o.onnx", "--recipe", "digits"], "digits: there is no such recipe file"],
    [["compress", model, "-o", "o.onnx", ...data, "--max-drop", "%"], "It takes a share"],
    [["compress", model, "-o", "o.onnx", ...data, "--work", "r.yaml"], "r.yaml is not a folder."],
    [["compress", model, "-o", "o.onnx", "--recipe", "r.json", ...data, "--report", "r.json"], "is the input"],
    [["simplify", model, "-o", "o.onnx", "--report", "folder.html"], "folder.html: is a folder."],
    [["simplify", model, "-o", "locked.onnx"], "locked.onnx: is write-protected."],
    [["prune-weights", model, "-o", "o.onnx", ...data, "--log", "l.jsonl"], "--log: nothing is trained."],
    [["finetune", model, "-o", "teacher.onnx", ...data, "--teacher", "teacher.onnx"], "is the input"],
    [["finetune", model, "-o", "o.onnx", ...data, "--log", model], "is the input"],
    [
      ["train", "--arch", "lenet-5", "-o", "o.onnx", ...data, "--epochs", "0", "--report", "o.html"],
      "with --epochs 0 nothing is trained, which --report is for.",
    ],
  ];
  test.each(cases)("pare %j", async (args, message) => {
    writeFileSync(join(folder, "broken.onnx"), readFileSync(join(folder, model)).subarray(0, 5000));
    writeFileSync(join(folder, "empty.onnx"), "");
    writeFileSync(join(folder, "r.yaml"), "steps: [simplfy]\n");
    writeFileSync(join(folder, "r.json"), '{ "steps": ["simplify"] }');
    copyFileSync(join(folder, model), join(folder, "teacher.onnx"));
    writeFileSync(join(folder, "locked.onnx"), "", { mode: 0o444 });
    for (const name of ["empty", "folder.html"]) mkdirSync(join(folder, name));
    const before = files();
    const { status, stdout, stderr } = await run(...args);
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(files()).toEqual(before);
  });
});

describe("commands", () => {
  test("inspect", async () => {
    const result = json(await run("inspect", model, "--json"));
    expect(result).toHaveProperty("layers");
    const { stdout } = await run("inspect", model);
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(stdout).toContain("Conv");
  });

  test("evaluate", async () => {
    const result = json(await run("evaluate", model, ...data, "--limit", "300", "--json"));
    const [report] = result.models as { scores: { metric: string; value: number; interval: number[] }[] }[];
    const top1 = report!.scores.find(({ metric }) => metric === "top-1")!;
    expect(top1.value).toBeGreaterThan(0.95);
    expect(top1.interval[0]).toBeLessThan(top1.value);
  });

  test("a technique, then compare, diff, print, validate and convert its result", async () => {
    const before = digest(model);
    const made = json(await run("quantize-weights", model, "-o", "small.onnx", "--bits", "8", "--json"));
    expect(made).toMatchObject({ output: "small.onnx" });
    expect(digest(model)).toBe(before);
    expect((await load(join(folder, "small.onnx"))).nodes.length).toBeGreaterThan(0);
    const compared = json(await run("compare", model, "small.onnx", ...data, "--limit", "200", "--json"));
    expect(compared).toMatchObject({ version: 1, comparisons: [{ model: 1 }] });
    expect((await run("diff", model, "small.onnx")).stdout).toMatch(/weights? changed/);
    expect((await run("diff", model, model)).stdout).toBe("nothing changed\n");
    expect((await run("print", "small.onnx")).stdout).toContain("Conv");
    expect(json(await run("validate", "small.onnx", "--json"))).toMatchObject({ valid: true });
    expect(json(await run("convert", "small.onnx", "-o", "out.onnx", "--weights", "outside", "--json"))).toMatchObject({
      output: "out.onnx",
    });
    expect((await run("diff", "small.onnx", "out.onnx")).stdout).toBe("nothing changed\n");
  }, 120_000);

  test("a technique's report tells what it found, and with data what was lost", async () => {
    const reported = async (...more: string[]): Promise<{ report: Report; stdout: string }> => {
      const args = ["prune-weights", model, "-o", "p.onnx", "--sparsity", "0.8", "--report", "r.json", ...more];
      const { status, stdout, stderr } = await run(...args);
      expect(status, stderr).toBe(0);
      return { report: JSON.parse(readFileSync(join(folder, "r.json"), "utf8")) as Report, stdout };
    };
    const kinds = ({ ledger }: Report): string[] => ledger[0]!.exhibits.map(({ kind }) => kind);
    const alone = await reported();
    expect(alone.stdout).toMatch(/prune-weights: 80 % of the weights of \d+ layers are zero/);
    expect(kinds(alone.report)).toEqual(["sparsity", "note", "note"]);
    expect(alone.report.models.map(({ scores }) => scores)).toEqual([[], []]);
    expect(alone.report.models[1]!.gzip).toBeLessThan(0.5 * alone.report.models[0]!.gzip!);
    const { report } = await reported(...data);
    expect(kinds(report)).toEqual(["sparsity", "note"]);
    expect(report.ledger[0]!.after.scores).toEqual(report.models[1]!.scores);
    expect(report.comparisons[0]!.scores.map(({ metric }) => metric)).toContain("top-1");
  }, 240_000);

  test("the same command gives the same bytes", async () => {
    await run("quantize-static", model, "-o", "a.onnx", ...data, "--samples", "32");
    await run("quantize-static", model, "-o", "b.onnx", ...data, "--samples", "32");
    expect(digest("a.onnx")).toBe(digest("b.onnx"));
  }, 120_000);

  test("schema is a JSON Schema that knows the techniques", async () => {
    const { stdout } = await run("schema");
    expect(JSON.parse(stdout)).toMatchObject({ title: "pare recipe", required: ["steps"] });
    expect(stdout).toContain('"quantize-static"');
  });

  test("--quiet says nothing on stderr", async () => {
    expect((await run("simplify", model, "-o", "s.onnx", "--quiet")).stderr).toBe("");
  });
});

test("an error behind a progress bar ends the process, and gives the cursor back", async () => {
  const terminal = ["--import", "data:text/javascript,process.stderr.isTTY = true"];
  const child = start(["finetune", model, ...data, "-o", "o.onnx", "--rate", "1e30"], folder, terminal);
  let said = "";
  child.stderr!.on("data", (chunk) => (said += chunk));
  const status = await new Promise<number | null>((done) => child.on("close", (code) => done(code)));
  expect(status, said).toBe(1);
  expect(said).toContain("steps, ");
  expect(said).toContain("\u001b[?25l");
  expect(said.lastIndexOf("\u001b[?25h")).toBeGreaterThan(said.lastIndexOf("\u001b[?25l"));
}, 60_000);

test("a reader that has gone takes no report away", async () => {
  const child = start(["evaluate", model, ...data, "--limit", "50", "--seconds", "0", "--report", "out.md"], folder);
  child.stdout!.destroy();
  const status = await new Promise<number | null>((done) => child.on("exit", (code) => done(code)));
  expect(status).toBe(0);
  expect(readFileSync(join(folder, "out.md"), "utf8")).toContain("top-1");
}, 60_000);

describe("compress", () => {
  const quick = ["--target", "size", "--limit", "400", "--calibration", "64", "--time-limit", "30s"];

  test("searches within the budget and writes model and report", async () => {
    const result = json(
      await run("compress", model, "-o", "small.onnx", ...data, ...quick, "--report", "r.html", "--json"),
    );
    const { verdict, models } = result as {
      verdict: { met: boolean; drop: number };
      models: { bytes: number }[];
    };
    expect(verdict.met).toBe(true);
    expect(verdict.drop).toBeLessThanOrEqual(0.01);
    expect(models.at(-1)!.bytes).toBeLessThan(models[0]!.bytes / 2);
    expect(readFileSync(join(folder, "r.html"), "utf8")).toMatch(/^<!doctype html>/i);
    expect((await load(join(folder, "small.onnx"))).metadata["pare.preprocess"]).toContain("gray");
  }, 240_000);

  test("refuses what can't be reached, says why, and writes nothing", async () => {
    const goal = ["--target", "size", "--metric", "sqnr", "--max-drop", "0", "--limit", "100", "--time-limit", "5s"];
    const { status, stdout, stderr } = await run("compress", model, "-o", "o.onnx", ...data, ...goal);
    expect(status).toBe(1);
    expect(stdout).toContain("No result");
    expect(stdout).toContain("loses more than the budget");
    expect(stderr).toContain("o.onnx: was not written: no plan is smaller within the budget of 0.00 %.");
    expect(files()).toEqual(["digits"]);
  }, 240_000);

  test("runs a recipe, and resumes it", async () => {
    writeFileSync(join(folder, "r.yaml"), "steps:\n  - simplify\n  - quantize-weights: { bits: 8 }\n");
    const args = [
      "compress",
      model,
      "-o",
      "o.onnx",
      ...data,
      "--recipe",
      "r.yaml",
      "--limit",
      "200",
      "--work",
      "work",
      "--json",
    ];
    const first = json(await run(...args)) as { ledger: { resumed: boolean; step: string }[] };
    expect(first.ledger.map(({ step, resumed }) => [step, resumed])).toEqual([
      ["simplify", false],
      ["quantize-weights", false],
    ]);
    const bytes = digest("o.onnx");
    // a kill in the middle of the log's last line
    const log = join(folder, "work", "steps.jsonl");
    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    writeFileSync(log, `${lines[0]}\n${lines[1]!.slice(0, 40)}`);
    const again = json(await run(...args)) as typeof first;
    expect(again.ledger.map(({ resumed }) => resumed)).toEqual([true, false]);
    expect(digest("o.onnx")).toBe(bytes);
    const whole = json(await run(...args)) as typeof first;
    expect(whole.ledger.map(({ resumed }) => resumed)).toEqual([true, true]);
  }, 240_000);

  test("a recipe that trains learns from the training split, not from the few samples to calibrate with", async () => {
    const options = "{ sparsity: 0.5, epochs: 1, batch: 50, holdOut: 0 }";
    writeFileSync(join(folder, "r.yaml"), `steps:\n  - prune-weights: ${options}\n`);
    const flags = ["--recipe", "r.yaml", "--calibration", "50", "--limit", "100", "--log", "log.jsonl", "--json"];
    const { ledger } = json(await run("compress", model, "-o", "o.onnx", ...data, ...flags)) as {
      ledger: { step: string }[];
    };
    expect(ledger.map(({ step }) => step)).toEqual(["prune-weights"]);
    const lines = readFileSync(join(folder, "log.jsonl"), "utf8").trim().split("\n");
    const { step } = JSON.parse(lines.at(-1)!) as { step: number };
    expect(step).toBeGreaterThan(2);
    expect(files()).toEqual(["digits", "log.jsonl", "o.onnx", "r.yaml"]);
  }, 240_000);
});

describe("an interrupted run", () => {
  const args = ["compress", model, "-o", "out.onnx", ...data, "--report", "out.html"];

  test("Ctrl-C ends it with status 130, and nothing is left", async () => {
    const before = { files: files(), model: digest(model) };
    const child = start(args, folder);
    const ended = new Promise<number | null>((done) => child.on("close", (status) => done(status)));
    await new Promise<void>((seen) => child.stderr!.once("data", () => seen()));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect({ files: files(), model: digest(model) }).toEqual(before);
  }, 60_000);

  test("while the report is measured, the message tells that the model is there", async () => {
    const child = start(["simplify", model, "-o", "out.onnx", ...["--report", "out.html"]], folder);
    let said = "";
    child.stderr!.on("data", (chunk) => (said += chunk));
    const ended = new Promise<number | null>((done) => child.on("close", (status) => done(status)));
    // the ledger's line is printed once the model is saved
    await new Promise<void>((seen) => child.stdout!.once("data", () => seen()));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(said).toContain("interrupted. out.onnx is written, its report is not.");
    expect(files()).toEqual(["digits", "out.onnx"]);
  }, 60_000);

  test.each([300, 900, 2500])(
    "killed after %d ms, no part of an output is visible",
    async (ms) => {
      const before = digest(model);
      const child = start(args, folder);
      const ended = new Promise<void>((done) => child.on("close", () => done()));
      const timer = setTimeout(() => child.kill("SIGKILL"), ms);
      await ended;
      clearTimeout(timer);
      expect(digest(model)).toBe(before);
      const visible = files().filter((name) => !name.startsWith("."));
      if (visible.includes("out.onnx")) expect((await load(join(folder, "out.onnx"))).nodes.length).toBeGreaterThan(0);
      else expect(visible).toEqual(["digits"]);
    },
    60_000,
  );
});
